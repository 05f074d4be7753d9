"""Go's build information: the linker puts it first among the data, behind a mark (debug/buildinfo `buildinfo.go`; R41).

Since Go 1.18 its two texts follow the mark, each behind its length; before, the mark is followed by pointers, which are not
followed. Nothing here raises on any bytes.
"""

from __future__ import annotations

from analyzers.elf.memory import FileBytes
from analyzers.elf.notes import GO_MAGIC, go_windows
from analyzers.facts import GoBuild, Segment

_ALIGNMENT = 16
_FLAGS = 15
_INLINE = 2
_TEXTS = 32
_FRAME = 16
"""Bytes of a mark on either side of the module's text."""
_VERSION_BYTES = 100
_SETTING_BYTES = 1_000
_SETTINGS = 64


def read_go_build(file: FileBytes, segments: tuple[Segment, ...]) -> tuple[bool, GoBuild | None]:
    """(whether there is build information, what it says as far as it is in line)."""
    for offset, size in go_windows(segments):
        data = file.peek(offset, size)
        at = data.find(GO_MAGIC)
        while at >= 0:
            if (offset + at) % _ALIGNMENT == 0:
                return True, _parse(data[at:])
            at = data.find(GO_MAGIC, at + 1)
    return False, None


def _parse(data: bytes) -> GoBuild | None:
    if len(data) <= _TEXTS or not data[_FLAGS] & _INLINE:
        return None
    version, at = _text(data, _TEXTS)
    framed, _ = _text(data, at)
    if not version or len(version) > _VERSION_BYTES:
        return None
    path, module, settings = b"", b"", list[tuple[bytes, bytes]]()
    for line in framed[_FRAME:-_FRAME].split(b"\n"):
        kind, _, rest = line.partition(b"\t")
        if len(rest) > _SETTING_BYTES:
            continue
        if kind == b"path":
            path = rest
        elif kind == b"mod":
            module = b" ".join(rest.split(b"\t")[:2])
        elif kind == b"build" and len(settings) < _SETTINGS:
            name, _, value = rest.partition(b"=")
            settings.append((name, value.strip(b'"`')))
    return GoBuild(version, path, module, tuple(settings))


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    """(text behind its length, where the next one begins); nothing where it is not all there."""
    length = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (data[at : at + length], at + length) if at + length <= len(data) else (b"", len(data))
    return b"", len(data)
