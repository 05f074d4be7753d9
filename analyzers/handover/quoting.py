"""gnulib's quote(): its marks and what it escapes depend on the locale."""

from __future__ import annotations

from analyzers.handover.place import Surroundings
from analyzers.lookup import variable

_QUOTED = {
    0x07: b"\\a",
    0x08: b"\\b",
    0x09: b"\\t",
    0x0A: b"\\n",
    0x0B: b"\\v",
    0x0C: b"\\f",
    0x0D: b"\\r",
    0x27: b"\\'",
    0x5C: b"\\\\",
}


def quote(place: Surroundings, name: bytes) -> bytes:
    """`name` between the marks of the environment's locale."""
    utf8 = _speaks_utf8(place)
    if utf8:
        try:
            if name.decode().isprintable():
                return "‘".encode() + name.replace(b"\\", b"\\\\") + "’".encode()
        except UnicodeDecodeError:
            pass  # then it is escaped byte by byte
    quoted = b"".join(_QUOTED.get(byte, bytes((byte,)) if 0x20 <= byte < 0x7F else b"\\%03o" % byte) for byte in name)
    if utf8:
        return "‘".encode() + quoted.replace(b"\\'", b"'") + "’".encode()
    return b"'" + quoted + b"'"


def _speaks_utf8(place: Surroundings) -> bool:
    """Whether the environment asks for a UTF-8 locale that the image has."""
    asked = next((value for name in (b"LC_ALL", b"LC_CTYPE", b"LANG") if (value := variable(place.env, name))), b"")
    language, _, charset = asked.partition(b".")
    if charset.lower().replace(b"-", b"") != b"utf8" or b"/" in asked:
        return False
    folder = b"/usr/lib/locale/" + language + b".utf8/LC_CTYPE"
    places = (folder, b"/usr/lib/locale/locale-archive")
    return any(place.rootfs.resolve(path).node is not None for path in places)
