"""Operators and reserved words of the shells, and what names look like (POSIX XCU 2.2 to 2.4, 2.10)."""

from __future__ import annotations

import re

MAX_COMMANDS = 10_000
"""Commands of one text; the largest scripts of distributions have a thousand."""
OPERATORS = (
    b"<<<", b"<<-", b"&>>", b";;&", b"&&", b"||", b";;", b";&", b"<<", b">>", b"<&", b">&", b"<>", b">|", b"&>", b"|&",
    b"|", b"&", b";", b"<", b">", b"(", b")", b"\n",
)  # fmt: skip
BASH_ONLY = frozenset((b"<<<", b"&>>", b";;&", b";&", b"&>", b"|&"))
REDIRECTS = frozenset((b"<", b">", b">>", b"<<", b"<<-", b"<<<", b"<&", b">&", b"<>", b">|", b"&>", b"&>>"))
RESERVED = frozenset(b"if then else elif fi do done case esac while until for { } !".split())
ENDS = frozenset(b"then else elif fi do done esac }".split())
ASSIGNMENT = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)(\[[^]]*\])?(\+?)=")
FUNCTION_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
BASH_FUNCTION_NAME = re.compile(rb"[^\s;&|<>()$`'\"\\=]+")
DESCRIPTOR = re.compile(rb"[0-9]+(?=[<>])")
DECLARATIONS = frozenset(b"declare export local readonly typeset".split())
