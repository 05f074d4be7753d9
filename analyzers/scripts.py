"""The `#!` line as the kernel reads it: from the first 256 bytes, with no quoting and one argument at most.

Mirrors Linux `fs/binfmt_script.c` load_script, pointer by pointer; rules K4-K8. Knows nothing of whether the
interpreter exists.
"""

from __future__ import annotations

from typing import NamedTuple

BUFFER = 256
"""BINPRM_BUF_SIZE since Linux 5.1."""
_LAST = BUFFER - 1
_BLANK = b" \t"
_ENDS = b" \t\0"


class ScriptLine(NamedTuple):
    """What the line asks for. `refused`: the kernel takes the file for no script (ENOEXEC)."""

    interpreter: bytes = b""
    argument: bytes | None = None
    refused: str = ""
    """Why it is refused, in words for people."""
    truncated: bool = False
    """No line end within the buffer: the argument was cut (K6)."""


def read_script_line(head: bytes) -> ScriptLine:
    """`head` is the beginning of a file that starts with `#!`; only its first 256 bytes matter."""
    buffer = head[:BUFFER].ljust(BUFFER, b"\0")
    # strnchr stops at a NUL: a line end behind one is not seen (K7).
    visible = buffer.partition(b"\0")[0]
    end = visible.find(b"\n")
    truncated = end < 0
    if truncated:
        start = _skip_blanks(buffer, 2, _LAST)
        if start < 0:
            return ScriptLine(refused="256 bytes of blanks")
        if _find_end(buffer, start, _LAST) < 0:
            return ScriptLine(refused="the interpreter's name does not end within 256 bytes")
        end = _LAST
    while buffer[end - 1] in _BLANK:
        end -= 1
    start = _skip_blanks(buffer, 2, end)
    if start < 0 or start == end:
        return ScriptLine(refused="no interpreter is named")
    separator = _find_end(buffer, start, end)
    argument = _skip_blanks(buffer, separator, end) if separator >= 0 and buffer[separator] else -1
    cut = truncated and len(head) >= BUFFER and b"\0" not in buffer
    if argument < 0 or argument == end:
        return ScriptLine(buffer[start:end].partition(b"\0")[0].rstrip(_BLANK), truncated=cut)
    return ScriptLine(buffer[start:separator], buffer[argument:end].partition(b"\0")[0], truncated=cut)


def _skip_blanks(buffer: bytes, first: int, last: int) -> int:
    return next((index for index in range(first, last + 1) if buffer[index] not in _BLANK), -1)


def _find_end(buffer: bytes, first: int, last: int) -> int:
    return next((index for index in range(first, last + 1) if buffer[index] in _ENDS), -1)
