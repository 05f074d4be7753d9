"""Patterns of the shell (POSIX XCU 2.14): matching without ever trying more than text times pattern steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

_CLASSES: dict[bytes, Callable[[int], bool]] = {
    b"alnum": lambda char: chr(char).isalnum() and char < 128,
    b"alpha": lambda char: chr(char).isalpha() and char < 128,
    b"blank": lambda char: char in b" \t",
    b"digit": lambda char: 0x30 <= char <= 0x39,
    b"lower": lambda char: 0x61 <= char <= 0x7A,
    b"upper": lambda char: 0x41 <= char <= 0x5A,
    b"space": lambda char: char in b" \t\n\v\f\r",
    b"xdigit": lambda char: char in b"0123456789abcdefABCDEF",
    b"punct": lambda char: 33 <= char < 127 and not chr(char).isalnum(),
}


class _Any(NamedTuple):
    """`?` or a set of characters."""

    allowed: frozenset[int] | None
    """None: every one."""


_STAR = _Any(frozenset())
Pattern = tuple["int | _Any", ...]
Chunk = tuple[bytes, bool]
"""Text, and whether it is quoted: then it means itself."""


def compiled(chunks: Sequence[Chunk]) -> Pattern:
    out: list[int | _Any] = []
    for text, quoted in chunks:
        if quoted:
            out.extend(text)
        else:
            _compile(text, out)
    return tuple(out)


def _compile(text: bytes, out: list[int | _Any]) -> None:
    at = 0
    while at < len(text):
        char = text[at]
        if char == 0x2A:
            if not out or out[-1] is not _STAR:
                out.append(_STAR)
        elif char == 0x3F:
            out.append(_Any(None))
        elif char == 0x5B and (found := _bracket(text, at)) is not None:
            allowed, at = found
            out.append(_Any(allowed))
            continue
        elif char == 0x5C and at + 1 < len(text):
            at += 1
            out.append(text[at])
        else:
            out.append(char)
        at += 1


def _bracket(text: bytes, at: int) -> tuple[frozenset[int], int] | None:
    start = at = at + 1
    negated = text[at : at + 1] in (b"!", b"^")
    at += negated
    allowed: set[int] = set()
    first = at
    while at < len(text) and (text[at] != 0x5D or at == first):
        if text.startswith(b"[:", at) and (end := text.find(b":]", at)) > 0:
            holds = _CLASSES.get(text[at + 2 : end])
            allowed.update(char for char in range(256) if holds is not None and holds(char))
            at = end + 2
        elif text[at + 1 : at + 2] == b"-" and text[at + 2 : at + 3] not in (b"]", b""):
            allowed.update(range(text[at], text[at + 2] + 1))
            at += 3
        else:
            allowed.add(text[at])
            at += 1
    if at >= len(text) or at < start:
        return None
    return frozenset(range(256)) - allowed if negated else frozenset(allowed), at + 1


def matches(pattern: Pattern, text: bytes) -> bool:
    """Whether the whole text matches."""
    at = item = 0
    star, retry = -1, 0
    while at < len(text):
        if item < len(pattern) and pattern[item] is _STAR:
            star, retry = item, at
            item += 1
        elif item < len(pattern) and _takes(pattern[item], text[at]):
            at += 1
            item += 1
        elif star >= 0:
            retry += 1
            at, item = retry, star + 1
        else:
            return False
    return all(each is _STAR for each in pattern[item:])


def _takes(item: int | _Any, char: int) -> bool:
    if isinstance(item, _Any):
        return item.allowed is None or char in item.allowed
    return item == char


def special(chunks: Sequence[Chunk]) -> bool:
    """Whether anything in it is more than itself."""
    return any(not quoted and any(char in b"*?[" for char in text) for text, quoted in chunks)


def removed(text: bytes, pattern: Pattern, operator: bytes) -> bytes:
    """`${x#pattern}` and its like."""
    lengths = range(len(text) + 1)
    if operator in (b"#", b"##"):
        for length in lengths if operator == b"#" else reversed(lengths):
            if matches(pattern, text[:length]):
                return text[length:]
        return text
    for length in lengths if operator == b"%" else reversed(lengths):
        if matches(pattern, text[len(text) - length :]):
            return text[: len(text) - length]
    return text


def replaced(text: bytes, pattern: Pattern, replacement: bytes, *, every: bool) -> bytes:
    """`${x/pattern/replacement}`: the longest match at the first place that has one."""
    out = bytearray()
    at = 0
    while at < len(text):
        end = next((end for end in range(len(text), at, -1) if matches(pattern, text[at:end])), -1)
        if end < 0:
            out.append(text[at])
            at += 1
            continue
        out += replacement
        at = end
        if not every:
            break
    return bytes(out + text[at:])
