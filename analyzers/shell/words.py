"""Words of the shell language as they are written: quotes, parameters, substitutions (POSIX XCU 2.2, 2.6; bash where it adds).

The lower half of the parser: it knows characters and no commands. Nothing is expanded here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from analyzers.shell.tree import Arithmetic, Commands, Dialect, Literal, Opaque, Parameter, Part, Substitution, Word

MAX_DEPTH = 40
"""Constructs within each other; real scripts have a dozen."""
META = frozenset(b" \t\n;&|<>()")
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]")
_OPERATOR = re.compile(rb":?[-=?+]|##?|%%?|//?|:|\^\^?|,,?|@")
_SINGLE = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_NUMERIC = re.compile(rb"x[0-9A-Fa-f]{1,2}|[0-7]{1,3}")
_ESCAPES = {
    ord("n"): b"\n", ord("t"): b"\t", ord("r"): b"\r", ord("a"): b"\a", ord("b"): b"\b", ord("f"): b"\f", ord("v"): b"\v",
    ord("e"): b"\x1b", ord("E"): b"\x1b", ord("\\"): b"\\", ord("'"): b"'", ord('"'): b'"', ord("?"): b"?",
}  # fmt: skip


class Unparsable(Exception):
    """The text cannot be read on; `line` says where, `why` in words."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


class WordReader:
    """A place in a text. The parser proper is built on it."""

    def __init__(self, text: bytes, dialect: Dialect, *, line: int = 1, depth: int = 0) -> None:
        self.text = text
        self.dialect = dialect
        self.bash = dialect is Dialect.BASH
        self.at = 0
        self.depth = depth
        self._first_line = line
        self._breaks = [match.start() for match in re.finditer(rb"\n", text)]

    @property
    def line(self) -> int:
        return self._first_line + bisect_left(self._breaks, self.at)

    def fail(self, why: str) -> Unparsable:
        return Unparsable(self.line, why)

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail("it is nested too deeply")

    def leave(self) -> None:
        self.depth -= 1

    def substituted(self) -> Commands:
        """Commands up to a closing parenthesis, which is taken; the parser's part."""
        raise NotImplementedError

    def quoted_commands(self, text: bytes) -> Commands:
        """The commands of a text that stood between backquotes; the parser's part."""
        raise NotImplementedError

    def skip_blanks(self) -> None:
        text, at = self.text, self.at
        while at < len(text):
            if text[at] in b" \t":
                at += 1
            elif text[at : at + 2] == b"\\\n":
                at += 2
            elif text[at] == 0x23:
                end = text.find(b"\n", at)
                at = len(text) if end < 0 else end
            else:
                break
        self.at = at

    def word(self) -> Word:
        """The word that begins here; empty where none does."""
        return tuple(_joined(self._parts(None)))

    def _parts(self, end: int | None, *, quoted: bool = False, raw_quotes: bool = False) -> Iterator[Part]:
        """Parts up to an unquoted blank or operator, or, with `end`, up to that character, which is taken.

        `quoted`: as between double quotes. `raw_quotes`: there a single quote means itself.
        """
        text, size = self.text, len(self.text)
        plain = bytearray()
        while True:
            if self.at >= size:
                if end is not None:
                    raise self.fail(f"{chr(end)} is missing")
                break
            char = text[self.at]
            if char == end:
                self.at += 1
                break
            if end is None and char in META:
                if self.bash and char in b"<>" and not plain and text[self.at + 1 : self.at + 2] == b"(":
                    yield self._process_substitution()
                    continue
                break
            if char == 0x5C:
                following = text[self.at + 1 : self.at + 2]
                self.at += 2
                if following == b"\n":
                    continue
                if quoted and following not in (b"$", b"`", b'"', b"\\", b"}" if end == 0x7D else b"$"):
                    plain += b"\\" + following
                    continue
                if plain:
                    yield Literal(bytes(plain), quoted)
                    plain.clear()
                yield Literal(following or b"\\", True)
            elif (char == 0x27 and not raw_quotes) or char == 0x22 or char in b"$`":
                if plain:
                    yield Literal(bytes(plain), quoted)
                    plain.clear()
                yield from self._special(char, quoted)
            else:
                plain.append(char)
                self.at += 1
        if plain:
            yield Literal(bytes(plain), quoted)

    def _special(self, char: int, quoted: bool) -> Iterator[Part]:
        if char == 0x27:
            end = self.text.find(b"'", self.at + 1)
            if end < 0:
                raise self.fail("a quoted string does not end")
            yield Literal(self.text[self.at + 1 : end], True)
            self.at = end + 1
        elif char == 0x22:
            self.at += 1
            if quoted:
                return  # quotes within quotes of `${x:-"y"}` only end and begin what is quoted anyway
            inner = list(self.double_quoted(0x22))
            yield from inner or [Literal(b"", True)]
        elif char == 0x60:
            yield self._backquoted(quoted)
        else:
            yield from self._dollar(quoted)

    def double_quoted(self, end: int | None) -> Iterator[Part]:
        """Parts up to `end`, or, without one, up to the end of the text (a here-document)."""
        self.enter()
        if end is not None:
            yield from self._parts(end, quoted=True, raw_quotes=True)
        else:
            yield from self._here_parts()
        self.leave()

    def _here_parts(self) -> Iterator[Part]:
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == 0x5C and self.text[self.at + 1 : self.at + 2] in (b"$", b"`", b"\\", b"\n"):
                yield Literal(self.text[self.at + 1 : self.at + 2].replace(b"\n", b""), True)
                self.at += 2
            elif char in b"$`":
                yield from self._special(char, True)
            else:
                start = self.at
                while self.at < len(self.text) and self.text[self.at] not in b"\\$`":
                    self.at += 1
                self.at = max(self.at, start + 1)
                yield Literal(self.text[start : self.at], True)

    def _backquoted(self, quoted: bool) -> Part:
        inner = bytearray()
        at = self.at + 1
        while at < len(self.text) and self.text[at] != 0x60:
            if self.text[at] == 0x5C and self.text[at + 1 : at + 2] in (b"`", b"\\", b"$", b'"' if quoted else b"`"):
                at += 1
            inner += self.text[at : at + 1]
            at += 1
        if at >= len(self.text):
            raise self.fail("a backquote does not end")
        body = self.quoted_commands(bytes(inner))
        self.at = at + 1
        return Substitution(body, quoted)

    def _dollar(self, quoted: bool) -> Iterator[Part]:
        following = self.text[self.at + 1 : self.at + 2]
        if following == b"(":
            yield self._parenthesised(quoted)
        elif following == b"{":
            yield self._braced(quoted)
        elif following == b"'" and not quoted and self.dialect is not Dialect.DASH:
            yield Literal(self._escaped(), True)
        elif following == b'"' and not quoted and self.bash:
            self.at += 1
        else:
            match = _SINGLE.match(self.text, self.at + 1)
            if match is None:
                self.at += 1
                yield Literal(b"$", quoted)
            else:
                self.at = match.end()
                yield Parameter(match[0], quoted=quoted)

    def _parenthesised(self, quoted: bool) -> Part:
        if self.text[self.at : self.at + 3] == b"$((":
            end = self.arithmetic_end(self.at + 3)
            if end >= 0:
                inner = self._inner(self.text[self.at + 3 : end])
                self.at = end + 2
                return Arithmetic(inner, quoted)
        self.at += 2
        self.enter()
        body = self.substituted()
        self.leave()
        return Substitution(body, quoted)

    def _inner(self, text: bytes) -> Word:
        reader = type(self)(text, self.dialect, line=self.line, depth=self.depth)
        return tuple(reader.double_quoted(None))

    def arithmetic_end(self, at: int) -> int:
        """Where the `))` stands that ends arithmetic begun before `at`; -1 where it is none."""
        depth = 0
        while at < len(self.text):
            char = self.text[at]
            if char == 0x28:
                depth += 1
            elif char == 0x29:
                if not depth:
                    return at if self.text[at + 1 : at + 2] == b")" else -1
                depth -= 1
            elif char in b";'":
                return -1
            at += 1
        return -1

    def _braced(self, quoted: bool) -> Part:
        self.enter()
        text, start = self.text, self.at
        self.at += 2
        length = False
        if text[self.at : self.at + 1] == b"#" and text[self.at + 1 : self.at + 2] not in (b"}", b":", b"-", b"+", b"=", b"%"):
            length = True
            self.at += 1
        indirect = text[self.at : self.at + 1] == b"!" and text[self.at + 1 : self.at + 2] not in (b"}", b":", b"-")
        if indirect:
            self.at += 1
        match = _PARAMETER.match(text, self.at)
        if match is None:
            self.at = start
            raise self.fail("a parameter expansion that is not understood")
        name, index = match[0], b""
        self.at = match.end()
        if self.bash and text[self.at : self.at + 1] == b"[":
            end = text.find(b"]", self.at)
            if end < 0:
                raise self.fail("] is missing")
            index = text[self.at + 1 : end]
            self.at = end + 1
        operator: bytes
        word: Word = ()
        if text[self.at : self.at + 1] == b"}":
            operator = b"length" if length else b""
            self.at += 1
        else:
            found = _OPERATOR.match(text, self.at)
            if found is None or length:
                raise self.fail("a parameter expansion that is not understood")
            operator = found[0]
            self.at = found.end()
            # Patterns are quoted on their own, whatever stands around (POSIX 2.6.2).
            value = quoted and operator.lstrip(b":") in (b"-", b"=", b"?", b"+")
            word = tuple(_joined(self._parts(0x7D, quoted=value, raw_quotes=value)))
        self.leave()
        if indirect:
            return Parameter(name, b"!", word, quoted, index)
        return Parameter(name, operator, word, quoted, index)

    def _escaped(self) -> bytes:
        """`$'...'`, up to the first octal, hexadecimal or control escape that is anything but plain."""
        out = bytearray()
        self.at += 2
        text = self.text
        while self.at < len(text) and text[self.at] != 0x27:
            char = text[self.at]
            self.at += 1
            if char != 0x5C or self.at >= len(text):
                out.append(char)
                continue
            match = _NUMERIC.match(text, self.at)
            if match is not None:
                out.append((int(match[0][1:], 16) if match[0][:1] == b"x" else int(match[0], 8)) & 0xFF)
                self.at = match.end()
                continue
            out += _ESCAPES.get(text[self.at], b"\\" + text[self.at : self.at + 1])
            self.at += 1
        if self.at >= len(text):
            raise self.fail("a quoted string does not end")
        self.at += 1
        return bytes(out)

    def _process_substitution(self) -> Part:
        self.at += 2
        self.enter()
        self.substituted()
        self.leave()
        return Opaque()

    def name(self) -> bytes:
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.fail("a name is missing")
        self.at = match.end()
        return match[0]


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Neighbouring literals of the same kind become one."""
    last: Literal | None = None
    for part in parts:
        if isinstance(part, Literal):
            if last is not None and last.quoted == part.quoted:
                last = Literal(last.text + part.text, last.quoted)
                continue
            if last is not None:
                yield last
            last = part
        else:
            if last is not None:
                yield last
                last = None
            yield part
    if last is not None:
        yield last


def unquoted(word: Word) -> bytes | None:
    """The text of a word that has neither quotes nor expansions; None for any other."""
    if len(word) == 1 and isinstance(word[0], Literal) and not word[0].quoted:
        return word[0].text
    return None


def literal(word: Word) -> bytes | None:
    """The text of a word without expansions, quotes taken off."""
    if all(isinstance(part, Literal) for part in word):
        return b"".join(part.text for part in word if isinstance(part, Literal))
    return None
