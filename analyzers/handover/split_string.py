"""`env -S`: one string taken apart into arguments, as coreutils 9.1 does it (`src/env.c`, build_argv)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BLANKS = b" \t\n\v\f\r"
_ESCAPES = {0x66: b"\f", 0x6E: b"\n", 0x72: b"\r", 0x74: b"\t", 0x76: b"\v", 0x22: b'"', 0x23: b"#", 0x24: b"$", 0x27: b"'",
            0x5C: b"\\"}  # fmt: skip
_VARIABLE = re.compile(rb"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def split_string(text: bytes, env: Mapping[bytes, bytes]) -> list[bytes] | None:
    """The arguments; None where env would refuse the string."""
    words: list[bytes] = []
    word: bytearray | None = None
    quote = 0
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char in b"'\"" and quote in (0, char):
            quote = 0 if quote else char
            word = word if word is not None else bytearray()
        elif char in _BLANKS and not quote:
            if word is not None:
                words.append(bytes(word))
                word = None
        elif char == 0x23 and not quote and word is None:
            break
        elif char == 0x5C and not (quote == 0x27 and text[at : at + 1] not in (b"\\", b"'")):
            following = text[at] if at < len(text) else 0
            at += 1
            if following == 0x63 and quote != 0x22:
                break
            if following == 0x5F and not quote:
                if word is not None:
                    words.append(bytes(word))
                    word = None
                continue
            escaped = b" " if following == 0x5F else _ESCAPES.get(following)
            if escaped is None:
                return None
            word = (word or bytearray()) + escaped
        elif char == 0x24 and quote != 0x27:
            match = _VARIABLE.match(text, at - 1)
            if match is None:
                return None
            at = match.end()
            value = env.get(match[1])
            if value is not None:
                word = (word or bytearray()) + value
        else:
            word = word if word is not None else bytearray()
            word.append(char)
    if quote:
        return None
    return words if word is None else [*words, bytes(word)]
