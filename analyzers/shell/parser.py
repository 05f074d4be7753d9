"""Reads a shell script one complete command at a time, as shells do (POSIX XCU 2.10; what dash, bash and BusyBox's ash add).

Nothing is executed. A text that cannot be read raises Unparsable at the command where it ends, so that what stands before
is still known: shells run that too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyzers.shell.tree import (
    AndOr,
    Assignment,
    Calculation,
    Case,
    CaseItem,
    Command,
    Commands,
    Dialect,
    For,
    Function,
    Group,
    If,
    Literal,
    Loop,
    Pipeline,
    Redirect,
    Simple,
    Test,
    Unforeseen,
    Word,
)
from analyzers.shell.words import META, WordReader, literal, unquoted

_OPERATORS = (
    b"<<<", b"<<-", b"&>>", b";;&", b"&&", b"||", b";;", b";&", b"<<", b">>", b"<&", b">&", b"<>", b">|", b"&>", b"|&",
    b"|", b"&", b";", b"<", b">", b"(", b")", b"\n",
)  # fmt: skip
_BASH_ONLY = frozenset((b"<<<", b"&>>", b";;&", b";&", b"&>", b"|&"))
_REDIRECTS = frozenset((b"<", b">", b">>", b"<<", b"<<-", b"<<<", b"<&", b">&", b"<>", b">|", b"&>", b"&>>"))
_RESERVED = frozenset(b"if then else elif fi do done case esac while until for { } !".split())
_ENDS = frozenset(b"then else elif fi do done esac }".split())
_ASSIGNMENT = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)(\[[^]]*\])?(\+?)=")
_FUNCTION_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_BASH_FUNCTION_NAME = re.compile(rb"[^\s;&|<>()$`'\"\\=]+")
_DESCRIPTOR = re.compile(rb"[0-9]+(?=[<>])")
_DECLARATIONS = frozenset(b"declare export local readonly typeset".split())

MAX_COMMANDS = 10_000
"""Commands of one text; the largest scripts of distributions have a thousand."""


class Parser(WordReader):
    """Give it a text, and ask for one command after the other."""

    def __init__(self, text: bytes, dialect: Dialect, *, line: int = 1, depth: int = 0) -> None:
        super().__init__(text, dialect, line=line, depth=depth)
        self._count = 0
        self._pending: list[tuple[list[Word], bytes, bool, bool]] = []
        """Here-documents that begin at the next line: where they go, their end, without tabs, expanded."""

    def scripts(self) -> Iterator[Commands]:
        """The complete commands, in order: a line with all that belongs to it. Raises Unparsable."""
        while True:
            self._skip_lines()
            if self.at >= len(self.text):
                return
            yield self._line()

    def substituted(self) -> Commands:
        body = self._commands()
        self._expect(b")")
        return body

    def quoted_commands(self, text: bytes) -> Commands:
        self.enter()
        parser = Parser(text, self.dialect, line=self.line, depth=self.depth)
        body = parser._commands()
        if parser.at < len(text):
            raise parser.fail("a command that is not understood")
        self.leave()
        return body

    # -- tokens --

    def _operator(self) -> bytes:
        """The operator that begins here, blanks skipped; empty where a word or nothing does."""
        self.skip_blanks()
        if self.at >= len(self.text) or self.text[self.at] not in META and not self._descriptor():
            return b""
        for operator in _OPERATORS:
            if self.text.startswith(operator, self.at) and (operator not in _BASH_ONLY or self.dialect is not Dialect.DASH):
                return operator
        return b""

    def _descriptor(self) -> bool:
        return _DESCRIPTOR.match(self.text, self.at) is not None

    def _take(self, operator: bytes) -> bool:
        if self._operator() != operator or self._descriptor():
            return False
        self.at += len(operator)
        if operator == b"\n":
            self._read_documents()
        return True

    def _expect(self, operator: bytes) -> None:
        if not self._take(operator):
            raise self.fail(f"{operator.decode()} is missing")

    def _skip_lines(self) -> None:
        while self._take(b"\n"):
            pass

    def _peek(self) -> bytes:
        """The unquoted word that comes next, not taken; empty where none does."""
        self.skip_blanks()
        end = self.at
        text = self.text
        while end < len(text) and text[end] not in META and text[end] not in b"\"'\\$`":
            end += 1
        if end < len(text) and text[end] in b"\"'\\$`":
            return b""
        return text[self.at : end]

    def _reserved(self, word: bytes) -> bool:
        if self._peek() != word:
            return False
        self.at += len(word)
        return True

    def _demand(self, word: bytes) -> None:
        if not self._reserved(word):
            raise self.fail(f"{word.decode()} is missing")

    # -- lists --

    def _line(self) -> Commands:
        """A list up to the end of its line."""
        items: list[AndOr] = []
        while True:
            items.append(self._and_or())
            if self._separator(items) and not self._at_line_end():
                continue
            if self.at < len(self.text) and not self._take(b"\n"):
                raise self.fail("a command that is not understood")
            return tuple(items)

    def _at_line_end(self) -> bool:
        self.skip_blanks()
        return self.at >= len(self.text) or self.text[self.at] == 0x0A

    def _separator(self, items: list[AndOr]) -> bool:
        if self._take(b"&"):
            items[-1] = items[-1]._replace(background=True)
            return True
        return self._take(b";")

    def _commands(self) -> Commands:
        """A list over several lines, up to what cannot begin a command."""
        items: list[AndOr] = []
        self._skip_lines()
        while not self._ends():
            items.append(self._and_or())
            separated = self._separator(items)
            if self._operator() == b"\n":
                self._skip_lines()
            elif not separated:
                break
        return tuple(items)

    def _ends(self) -> bool:
        self.skip_blanks()
        if self.at >= len(self.text) or self._operator() in (b")", b";;", b";&", b";;&"):
            return True
        return self._peek() in _ENDS

    def _and_or(self) -> AndOr:
        line = self._line_here()
        first = self._pipeline()
        rest: list[tuple[bytes, Pipeline]] = []
        while (operator := self._operator()) in (b"&&", b"||"):
            self.at += 2
            self._skip_lines()
            rest.append((operator, self._pipeline()))
        return AndOr(line, first, tuple(rest))

    def _line_here(self) -> int:
        self.skip_blanks()
        return self.line

    def _pipeline(self) -> Pipeline:
        line = self._line_here()
        negated = False
        while self._reserved(b"!"):
            negated = not negated
        if self.bash and self._reserved(b"time"):
            self._reserved(b"-p")
        commands = [self._command()]
        while (operator := self._operator()) in (b"|", b"|&"):
            self.at += len(operator)
            self._skip_lines()
            commands.append(self._command())
        return Pipeline(line, tuple(commands), negated)

    # -- commands --

    def _command(self) -> Command:
        self.enter()
        self._count += 1
        if self._count > MAX_COMMANDS:
            raise self.fail("it has too many commands")
        line = self._line_here()
        found = self._compound(line)
        if found is None:
            found = self._simple(line)
        elif not isinstance(found, Function):
            redirects = tuple(self._redirects())
            if redirects:
                found = found._replace(redirects=redirects)  # type: ignore[call-arg]
        self.leave()
        return found

    def _compound(self, line: int) -> Command | None:
        if self._operator() == b"(" and not self._descriptor():
            if self.bash and self.text.startswith(b"((", self.at):
                end = self.arithmetic_end(self.at + 2)
                if end >= 0:
                    inner = self._inner(self.text[self.at + 2 : end])
                    self.at = end + 2
                    return Calculation(line, inner)
            self.at += 1
            return Group(line, self.substituted(), True)
        word = self._peek()
        if word in _ENDS or word == b"!":
            raise self.fail(f"{word.decode()} is not expected here")
        if word == b"{":
            self.at += 1
            body = self._commands()
            self._demand(b"}")
            return Group(line, body, False)
        if word in (b"if", b"while", b"until", b"for", b"case"):
            self.at += len(word)
            if word == b"if":
                return self._if(line)
            if word == b"for":
                return self._for(line)
            return self._case(line) if word == b"case" else self._loop(line, word == b"until")
        if self.dialect is not Dialect.DASH and word == b"function":
            return self._function(line)
        if self.bash and word == b"[[":
            return self._test(line)
        if self.bash and word in (b"select", b"coproc"):
            raise self.fail(f"{word.decode()} is not understood")
        return None

    def _if(self, line: int) -> Command:
        branches = []
        otherwise = None
        while True:
            condition = self._body()
            self._demand(b"then")
            branches.append((condition, self._body()))
            if self._reserved(b"elif"):
                continue
            if self._reserved(b"else"):
                otherwise = self._body()
            self._demand(b"fi")
            return If(line, tuple(branches), otherwise)

    def _body(self) -> Commands:
        body = self._commands()
        if not body:
            raise self.fail("a command is missing")
        return body

    def _loop(self, line: int, until: bool) -> Command:
        condition = self._body()
        return Loop(line, until, condition, self._do())

    def _do(self) -> Commands:
        self._demand(b"do")
        body = self._body()
        self._demand(b"done")
        return body

    def _for(self, line: int) -> Command:
        self.skip_blanks()
        if self.bash and self.text.startswith(b"((", self.at):
            end = self.arithmetic_end(self.at + 2)
            # Semicolons stand within: look for the end by its parentheses alone.
            end = self.text.find(b"))", self.at) if end < 0 else end
            if end < 0:
                raise self.fail(")) is missing")
            self.at = end + 2
            self._take(b";")
            self._skip_lines()
            self._do()
            return Unforeseen(line, "a for loop that counts")
        name = self.name()
        self._skip_lines()
        words: list[Word] | None = None
        if self._reserved(b"in"):
            words = []
            while word := self._next_word():
                words.append(word)
        self._take(b";")
        self._skip_lines()
        return For(line, name, None if words is None else tuple(words), self._do())

    def _next_word(self) -> Word:
        self.skip_blanks()
        return self.word()

    def _case(self, line: int) -> Command:
        word = self._next_word()
        if not word:
            raise self.fail("a word is missing")
        self._skip_lines()
        self._demand(b"in")
        items = []
        self._skip_lines()
        while not self._reserved(b"esac"):
            items.append(self._case_item())
            self._skip_lines()
        return Case(line, word, tuple(items))

    def _case_item(self) -> CaseItem:
        self._take(b"(")
        patterns = [self._pattern()]
        while self._take(b"|"):
            patterns.append(self._pattern())
        self._expect(b")")
        body = self._commands()
        for end in (b";;&", b";&", b";;"):
            if self._take(end):
                return CaseItem(tuple(patterns), body, end)
        if self._peek() != b"esac":
            raise self.fail(";; is missing")
        return CaseItem(tuple(patterns), body, b";;")

    def _pattern(self) -> Word:
        word = self._next_word()
        if not word or (self.bash and self.text[self.at : self.at + 1] == b"("):
            raise self.fail("a pattern that is not understood")
        return word

    def _function(self, line: int) -> Command:
        self._demand(b"function")
        name = unquoted(self._next_word())
        if name is None:
            raise self.fail("a name is missing")
        if self._take(b"("):
            self._expect(b")")
        self._skip_lines()
        return Function(line, name, self._command())

    def _test(self, line: int) -> Command:
        self._demand(b"[[")
        items: list[Word | bytes] = []
        while not self._reserved(b"]]"):
            operator = self._operator()
            if operator == b"\n":
                self._skip_lines()
            elif operator:
                self.at += len(operator)
                items.append(operator)
            elif items and isinstance(items[-1], tuple) and unquoted(items[-1]) == b"=~":
                items.append(self._expression())
            else:
                word = self.word()
                if not word:
                    raise self.fail("]] is missing")
                items.append(word)
        return Test(line, tuple(items))

    def _expression(self) -> Word:
        """A regular expression: up to a blank outside of parentheses and quotes, not looked into."""
        start, depth = self.at, 0
        while self.at < len(self.text) and (depth or self.text[self.at] not in b" \t\n"):
            char = self.text[self.at]
            if char == 0x5C:
                self.at += 1
            elif char in b"'\"":
                end = self.text.find(bytes((char,)), self.at + 1)
                self.at = len(self.text) if end < 0 else end
            depth += (char == 0x28) - (char == 0x29)
            self.at += 1
        return (Literal(self.text[start : self.at], False),)

    # -- simple commands --

    def _simple(self, line: int) -> Command:
        assignments: list[Assignment] = []
        words: list[Word | Assignment] = []
        redirects: list[Redirect] = []
        while True:
            redirect = self._redirect()
            if redirect is not None:
                redirects.append(redirect)
                continue
            if self._operator():
                break
            self.skip_blanks()
            word = self.word()
            if not word:
                break
            assigned = self._assignment(word, words)
            if assigned is not None and words:
                words.append(assigned)
            elif assigned is not None:
                assignments.append(assigned)
            else:
                words.append(word)
            if len(words) == 1 and not assignments and not redirects and self._operator() == b"(":
                return self._function_after(line, words[0])
        if not (assignments or words or redirects):
            raise self.fail("a command that is not understood")
        return Simple(line, tuple(assignments), tuple(words), tuple(redirects))

    def _function_after(self, line: int, word: Word | Assignment) -> Command:
        name = unquoted(word) if not isinstance(word, Assignment) else None
        wanted = _BASH_FUNCTION_NAME if self.bash else _FUNCTION_NAME
        self._expect(b"(")
        if name is None or not wanted.fullmatch(name) or name in _RESERVED or not self._take(b")"):
            raise self.fail("a parenthesis that is not understood")
        self._skip_lines()
        return Function(line, name, self._command())

    def _assignment(self, word: Word, words: list[Word | Assignment]) -> Assignment | None:
        """`name=value` before the command's name; an array also among the arguments of `declare` and its like."""
        first = word[0]
        if not isinstance(first, Literal) or first.quoted:
            return None
        match = _ASSIGNMENT.match(first.text)
        if match is None or ((match[2] or match[3]) and self.dialect is Dialect.DASH):
            return None
        whole = len(word) == 1 and match.end() == len(first.text)
        array = self.bash and whole and self.text[self.at : self.at + 1] == b"("
        if words and not (array and not isinstance(words[0], Assignment) and unquoted(words[0]) in _DECLARATIONS):
            return None
        append = bool(match[3])
        if array:
            self.at += 1
            return Assignment(match[1], self._array(), append, True)
        rest = first.text[match.end() :]
        value = ((Literal(rest),) if rest else ()) + word[1:]
        return Assignment(match[1], None if match[2] else value, append)

    def _array(self) -> tuple[Word, ...]:
        words: list[Word] = []
        while True:
            self._skip_lines()
            if self._take(b")"):
                return tuple(words)
            word = self._next_word()
            if not word:
                raise self.fail(") is missing")
            words.append(word)

    # -- redirections --

    def _redirects(self) -> Iterator[Redirect]:
        while (redirect := self._redirect()) is not None:
            yield redirect

    def _redirect(self) -> Redirect | None:
        self.skip_blanks()
        match = _DESCRIPTOR.match(self.text, self.at)
        start = self.at
        if match is not None:
            self.at = match.end()
        operator = next((each for each in _OPERATORS if self.text.startswith(each, self.at)), b"")
        if operator not in _REDIRECTS or (operator in _BASH_ONLY and self.dialect is Dialect.DASH):
            self.at = start
            return None
        if self.bash and operator in (b"<", b">") and self.text[self.at + 1 : self.at + 2] == b"(":
            self.at = start
            return None
        self.at += len(operator)
        descriptor = int(match[0][:4]) if match is not None else None
        target = self._next_word()
        if not target:
            raise self.fail("the target of a redirection is missing")
        if operator in (b"<<", b"<<-"):
            body: list[Word] = []
            end = literal(target)
            if end is None:
                raise self.fail("the end of a here-document is not plain")
            expanded = unquoted(target) is not None
            self._pending.append((body, end, operator == b"<<-", expanded))
        return Redirect(operator, descriptor, target)

    def _read_documents(self) -> None:
        """The bodies of here-documents follow the line that asks for them. Only commands that read them would care."""
        pending, self._pending = self._pending, []
        for _, end, tabs, _ in pending:
            while True:
                if self.at >= len(self.text):
                    break
                stop = self.text.find(b"\n", self.at)
                stop = len(self.text) if stop < 0 else stop
                found = self.text[self.at : stop]
                self.at = min(stop + 1, len(self.text))
                if (found.lstrip(b"\t") if tabs else found) == end:
                    break
