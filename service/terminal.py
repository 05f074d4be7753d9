"""Lines for a terminal: spans of styled text, widths in cells, wrapping, and their painting with or without colour.

Knows nothing of images. Whatever text comes in, only printable characters go out: `paint` is the one place through which
every line passes, so that no name in an image can move a cursor or forge a line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from analyzers.finding import show

Span = tuple[str, str]
"""Name of a style (empty for none) and text."""
Line = Sequence[Span]

STYLES = {"good": "32", "bad": "31", "doubt": "33", "strong": "1", "faint": "2", "alarm": "1;31", "name": "36"}
LONGEST_TEXT = 2000
"""Characters of one span that are shown; an entrypoint may have a hundred thousand."""
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "─": "-", "├": "|", "└": "`", "│": "|", "…": "...", "→": "->", "▸": ">", "·": "-", "•": "*"}
)


def printable(text: str) -> str:
    """Text with everything that a terminal might act upon written out, as finding.show does; long text is cut."""
    if not text.isprintable():
        text = show(text.encode("utf-8", "surrogatepass"))
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text) - LONGEST_TEXT} more characters)"


def cells(text: str) -> int:
    """Columns that text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def width_of(line: Line) -> int:
    """Columns of a line."""
    return sum(cells(printable(text)) for _, text in line)


def shorten(text: str, width: int) -> str:
    """Text cut at its end to fit, with an ellipsis."""
    text = printable(text)
    if cells(text) <= width:
        return text
    kept, used = 0, 1
    for character in text:
        used += cells(character)
        if used > width:
            break
        kept += 1
    return text[:kept].rstrip() + "…"


def ends_apart(left: Line, right: Line, width: int) -> Line:
    """Both on one line, the right one at the margin; close together where there is no room."""
    gap = width - width_of(left) - width_of(right)
    return (*left, ("", " " * max(2, gap)), *right) if width_of(right) else left


def wrap(spans: Line, width: int, first: Line = (), rest: Line | None = None) -> Iterator[Line]:
    """Words of `spans` filled into lines no wider than `width`; a longer word stands alone, unbroken, so that it can be copied.

    `first` goes before the first line and `rest` (spaces as wide as `first` unless given) before the others.
    """
    if rest is None:
        rest = (("", " " * width_of(first)),)
    line: list[Span] = list(first)
    used, empty = width_of(first), True
    for style, word in _words(spans):
        size = cells(word)
        if not empty and used + 1 + size > width:
            yield line
            line, used, empty = list(rest), width_of(rest), True
        if not empty and line[-1][0] == style:
            line[-1] = (style, f"{line[-1][1]} {word}")
        else:
            line += [(style, word)] if empty else [("", " "), (style, word)]
        used, empty = used + size + (not empty), False
    if not empty or first:
        yield line


def _words(spans: Line) -> Iterator[Span]:
    for style, text in spans:
        for word in printable(text).split():
            yield style, word


def paint(lines: Iterable[Line], *, colour: bool = False, ascii_only: bool = False) -> str:
    """The text to be written, each line ended. Trailing spaces are dropped; everything is printable."""
    out = []
    for line in lines:
        parts = [(style, printable(text)) for style, text in line if text]
        while parts and not parts[-1][1].rstrip():
            parts.pop()
        if parts:
            parts[-1] = (parts[-1][0], parts[-1][1].rstrip())
        if ascii_only:
            parts = [(style, text.translate(_ASCII)) for style, text in parts]
        out.append("".join(f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colour and style else text for style, text in parts))
        out.append("\n")
    return "".join(out)
