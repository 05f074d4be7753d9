"""Words become fields: parameters, substitutions, splitting and patterns (POSIX XCU 2.6). What cannot be foretold is a Gap."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from analyzers.shell.patterns import Chunk, compiled, matches, removed, replaced, special
from analyzers.shell.state import Field, Gap, State, Value
from analyzers.shell.tree import Arithmetic, Commands, Dialect, Literal, Opaque, Parameter, Part, Substitution, Word
from analyzers.shell.words import unquoted

MAX_TEXT = 64 * 1024
"""Bytes of one expanded value that are still followed."""
MAX_FIELDS = 4096
_MAX_MATCHED = 2048
_SPACES = b" \t\n"
_SUM = re.compile(rb"\s*(-?[0-9]{1,9})\s*(?:([-+*])\s*(-?[0-9]{1,9})\s*)?")
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


class Expanding(Protocol):
    """What expansion asks of the walk."""

    dialect: Dialect
    state: State

    def special(self, name: bytes) -> Value | None: ...
    def output_of(self, body: Commands) -> Field: ...
    def listing(self, directory: bytes) -> tuple[bytes, ...] | None: ...
    def give_up(self, words: bytes) -> None: ...


class _Piece(NamedTuple):
    """Part of a field; `value` a Gap where unknown. `split`: came unquoted out of an expansion."""

    value: Field
    quoted: bool
    split: bool = False


_BREAK = _Piece(b"", False, True)
"""Between the values of "$@"."""


class Expander:
    """Expands for one walk."""

    def __init__(self, walk: Expanding) -> None:
        self._walk = walk

    def fields(self, words: Iterable[Word]) -> list[Field]:
        """All fields of words in a place where splitting and patterns happen."""
        out: list[Field] = []
        for word in words:
            plain = unquoted(word)
            if plain is not None and not any(char in b"*?[~{" for char in plain):
                out.append(plain)
            else:
                out.extend(self._fields(word))
            if len(out) > MAX_FIELDS:
                return [*out[:MAX_FIELDS], Gap.MANY]
        return out

    def value(self, word: Word) -> Field:
        """One value: of an assignment, a `case` word, a redirection. Not split."""
        chunks = self.chunks(word)
        return Gap.ONE if chunks is None else b"".join(text for text, _ in chunks)

    def chunks(self, word: Word) -> list[Chunk] | None:
        """A value with what of it is quoted, for patterns; None where unknown."""
        out: list[Chunk] = []
        for piece in self._pieces(word):
            if isinstance(piece.value, Gap):
                return None
            if piece is _BREAK:
                out.append((b" ", True))
            else:
                out.append((piece.value, piece.quoted))
        if out and not out[0][1]:
            out[0] = (self._home(out[0][0]), False) if isinstance(word[0], Literal) else out[0]
        return out if sum(len(text) for text, _ in out) <= MAX_TEXT else None

    def _home(self, text: bytes) -> bytes:
        if text == b"~" or text.startswith(b"~/"):
            home = self._walk.state.get(b"HOME")
            if isinstance(home, bytes):
                return home + text[1:]
        return text

    def _fields(self, word: Word) -> list[Field]:
        pieces = list(self._pieces(word))
        first = pieces[0] if pieces else None
        if first is not None and not first.quoted and not first.split and isinstance(first.value, bytes):
            if self._walk.dialect is Dialect.BASH and b"{" in first.value and (b"," in first.value or b".." in first.value):
                return [Gap.MANY]  # braces are not followed
            pieces[0] = _Piece(self._home(first.value), False)
        out: list[Field] = []
        field: list[Chunk] = []
        begun = unknown = False

        def end() -> None:
            nonlocal begun, unknown
            if unknown:
                out.append(Gap.ONE)
            elif begun:
                out.extend(self._globbed(field))
            field.clear()
            begun = unknown = False

        for piece in pieces:
            if piece is _BREAK:
                end()
            elif isinstance(piece.value, Gap):
                if piece.value is Gap.MANY or not piece.quoted:
                    end()
                    out.append(Gap.MANY)
                else:
                    unknown = True
            elif not piece.split:
                field.append((piece.value, piece.quoted))
                begun = True
            else:
                spaces = self._separators()
                if spaces is None:
                    unknown = True
                    continue
                for index, (text, breaks) in enumerate(_split(piece.value, spaces)):
                    if breaks and (index or begun):
                        end()
                    if text:
                        field.append((text, False))
                        begun = True
        end()
        return out

    def _separators(self) -> bytes | None:
        value = self._walk.state.get(b"IFS")
        return _SPACES if value is None else value if isinstance(value, bytes) else None

    # -- parts --

    def _pieces(self, word: Word) -> Iterable[_Piece]:
        for part in word:
            yield from self._part(part)

    def _part(self, part: Part) -> Iterable[_Piece]:
        match part:
            case Literal():
                yield _Piece(part.text, part.quoted)
            case Parameter():
                yield from self._parameter(part)
            case Substitution():
                yield _Piece(self._walk.output_of(part.body), part.quoted, not part.quoted)
            case Arithmetic():
                yield _Piece(self.calculated(part.word), part.quoted, not part.quoted)
            case Opaque():
                yield _Piece(Gap.ONE, True)

    def _parameter(self, part: Parameter) -> Iterable[_Piece]:
        if part.name in (b"@", b"*") or part.subscript in (b"@", b"*"):
            values = self._list(part)
            if part.operator == b"length":
                yield _Piece(Gap.ONE if Gap.MANY in values else str(len(values)).encode(), part.quoted)
                return
            if part.operator.lstrip(b":") in (b"-", b"=", b"?", b"+"):
                given = None if Gap.MANY in values else bool(values and (values != (b"",) or b":" not in part.operator))
                if given is None:
                    yield _Piece(Gap.MANY, False)
                    return
                if part.operator.endswith(b"+") is given:
                    yield from self._pieces(part.word)
                    return
                if not given:
                    return
            elif part.operator:
                yield _Piece(Gap.MANY, False)
                return
            star = part.name == b"*" or part.subscript == b"*"
            yield from self._each(values, part.quoted, star)
            return
        yield from self._one(part)

    def _list(self, part: Parameter) -> tuple[Field, ...]:
        if part.name in (b"@", b"*"):
            return self._walk.state.positional
        value = self._walk.state.get(part.name)
        return value if isinstance(value, tuple) else () if value is None else (value if value is not Gap.ONE else Gap.MANY,)

    def _each(self, values: tuple[Field, ...], quoted: bool, star: bool) -> Iterable[_Piece]:
        if star and quoted:
            known = [each for each in values if isinstance(each, bytes)]
            yield _Piece(b" ".join(known) if len(known) == len(values) else Gap.ONE, True)
            return
        for index, value in enumerate(values):
            if index:
                yield _BREAK
            yield _Piece(value, quoted, not quoted)

    def _one(self, part: Parameter) -> Iterable[_Piece]:
        value = self._scalar(part)
        operator = part.operator
        if operator == b"!":
            yield _Piece(Gap.ONE, part.quoted)
            return
        if operator.lstrip(b":") in (b"-", b"=", b"?", b"+") and operator:
            if isinstance(value, Gap):
                yield _Piece(Gap.ONE if part.quoted else Gap.MANY, part.quoted)
                return
            given = value is not None and (value != b"" or not operator.startswith(b":"))
            if operator.endswith(b"+"):
                if given:
                    yield from self._pieces(part.word)
                return
            if not given:
                yield from self._instead(part)
                return
        elif value is None and self._walk.state.nounset and operator != b"length":
            said = b"unbound variable" if self._walk.dialect is Dialect.BASH else b"parameter not set"
            self._walk.give_up(part.name + b": " + said)
        else:
            value = self._changed(part, b"" if value is None else value)
        yield _Piece(b"" if value is None else value, part.quoted, not part.quoted)

    def _instead(self, part: Parameter) -> Iterable[_Piece]:
        if part.operator.endswith(b"?"):
            said = self.value(part.word)
            self._walk.give_up(part.name + b": " + (said if isinstance(said, bytes) and said else b"parameter not set"))
        if part.operator.endswith(b"="):
            self._walk.state.put(part.name, self.value(part.word))
        for piece in self._pieces(part.word):
            yield piece if part.quoted or piece.quoted else piece._replace(split=True)

    def _scalar(self, part: Parameter) -> Field | None:
        name = part.name
        if name.isdigit() and name != b"0":
            values = self._walk.state.positional
            index = int(name[:6]) - 1
            if Gap.MANY in values[: index + 1] or (index >= len(values) and Gap.MANY in values):
                return Gap.ONE
            return values[index] if index < len(values) else None
        special_value = self._walk.special(name)
        value = self._walk.state.get(name) if special_value is None else special_value
        if isinstance(value, tuple):
            index = (
                int(part.subscript) if part.subscript.isdigit() and len(part.subscript) < 6 else 0 if not part.subscript else -1
            )
            if Gap.MANY in value or index < 0:
                return Gap.ONE
            return value[index] if index < len(value) else None
        return value if part.subscript in (b"", b"0") else Gap.ONE

    def _changed(self, part: Parameter, value: Field) -> Field:
        operator = part.operator
        if not operator or isinstance(value, Gap):
            return value
        if operator == b"length":
            return str(len(value)).encode() if value.isascii() else Gap.ONE
        if len(value) > _MAX_MATCHED:
            return Gap.ONE
        if operator in (b"#", b"##", b"%", b"%%"):
            chunks = self.chunks(part.word)
            return Gap.ONE if chunks is None else removed(value, compiled(chunks), operator)
        if operator in (b"^^", b",,") and not part.word and value.isascii():
            return value.upper() if operator == b"^^" else value.lower()
        if operator in (b"/", b"//") and self._walk.dialect is not Dialect.DASH:
            return self._substituted(part, value)
        if operator == b":" and self._walk.dialect is not Dialect.DASH and value.isascii():
            numbers = self.value(part.word)
            match = re.fullmatch(rb"([0-9]{1,5})(?::([0-9]{1,5}))?", numbers) if isinstance(numbers, bytes) else None
            if match is not None:
                start = int(match[1])
                return value[start : start + int(match[2])] if match[2] is not None else value[start:]
        return Gap.ONE

    def _substituted(self, part: Parameter, value: bytes) -> Field:
        chunks = self.chunks(part.word)
        if chunks is None or len(value) > 512:
            return Gap.ONE
        pattern: list[Chunk] = []
        for index, (text, quoted) in enumerate(chunks):
            if not quoted and b"/" in text:
                head, _, tail = text.partition(b"/")
                replacement = tail + b"".join(rest for rest, _ in chunks[index + 1 :])
                break
            pattern.append((text, quoted))
        else:
            head, replacement = b"", b""
        wanted = compiled([*pattern, (head, False)])
        if not wanted or wanted[0] in (0x23, 0x25) or b"&" in replacement:
            return Gap.ONE
        return replaced(value, wanted, replacement, every=part.operator == b"//")

    def calculated(self, word: Word) -> Field:
        """Integer arithmetic with one operator at most."""
        text = self.value(word)
        if isinstance(text, Gap):
            return Gap.ONE

        def known(match: re.Match[bytes]) -> bytes:
            value = self._walk.state.get(match[0])
            return value if isinstance(value, bytes) and value else b"0" if value is None or value == b"" else b"?"

        match = _SUM.fullmatch(_NAME.sub(known, text)) if len(text) < 200 else None
        if match is None:
            return Gap.ONE
        left, right = int(match[1]), int(match[3] or 0)
        total = {b"+": left + right, b"-": left - right, b"*": left * right, None: left}[match[2]]
        return str(total).encode()

    # -- patterns of paths --

    def _globbed(self, field: list[Chunk]) -> list[Field]:
        text = b"".join(each for each, _ in field)
        if len(text) > MAX_TEXT:
            return [Gap.ONE]
        if not special(field):
            return [text]
        found = self._paths(field, text)
        return [Gap.MANY] if found is None else list(found) or [text]

    def _paths(self, field: list[Chunk], text: bytes) -> list[bytes] | None:
        """Paths of the image that match; only patterns in the last component are followed."""
        directory, name = _last_component(field)
        if special(directory):
            return None
        folder = b"".join(each for each, _ in directory)
        names = self._walk.listing(folder or b".")
        if names is None:
            return None
        pattern = compiled(name)
        shows_hidden = text[len(folder) :].startswith(b".")
        return sorted(folder + each for each in names if (shows_hidden or not each.startswith(b".")) and matches(pattern, each))


def _last_component(field: list[Chunk]) -> tuple[list[Chunk], list[Chunk]]:
    for index in range(len(field) - 1, -1, -1):
        text, quoted = field[index]
        if b"/" in text:
            head, slash, tail = text.rpartition(b"/")
            return [*field[:index], (head + slash, quoted)], [(tail, quoted), *field[index + 1 :]]
    return [], field


def _split(text: bytes, separators: bytes) -> Iterable[tuple[bytes, bool]]:
    """(text, whether a new field begins before it). Only blanks run together (POSIX 2.6.5)."""
    current = bytearray()
    breaks = False
    pending = False
    for char in text:
        if char not in separators:
            if pending:
                yield bytes(current), breaks
                current.clear()
                breaks, pending = True, False
            current.append(char)
        elif char in _SPACES:
            pending = True
        else:
            yield bytes(current), breaks
            current.clear()
            breaks, pending = True, False
    yield bytes(current), breaks
    if pending:
        yield b"", True
