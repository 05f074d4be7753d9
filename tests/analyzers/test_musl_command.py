"""musl's loader as a command: its options (ldso/dynlink.c). What it then loads is held to a real engine by tests/fleet."""

from __future__ import annotations

import pytest

from analyzers.loader.musl_command import Command, parse_command, usage


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (b"/app x --list", Command(b"/app", b"env", b"pre", False)),
        (b"", Command(None, b"env", b"pre", False)),
        (b"--", Command(None, b"env", b"pre", False)),
        (b"-- --list", Command(b"--list", b"env", b"pre", False)),
        (b"-x", Command(b"-x", b"env", b"pre", False)),
        (b"--list /app", Command(b"/app", b"env", b"pre", True)),
        (b"--listing /app", Command(None, b"env", b"pre", False)),
        (b"--library-path /a /app", Command(b"/app", b"/a", b"pre", False)),
        (b"--library-path=/a /app", Command(b"/app", b"/a", b"pre", False)),
        (b"--library-paths /a /app", Command(None, b"env", b"pre", False)),
        (b"--library-path", Command(None, b"env", b"pre", False)),
        (b"--preload /p --argv0 name -- /app", Command(b"/app", b"env", b"/p", False)),
        (b"--preload= /app", Command(b"/app", b"env", b"", False)),
    ],
)
def test_m03_options_of_the_command(words: bytes, expected: Command) -> None:
    assert parse_command([b"/lib/ld", *words.split()], b"env", b"pre") == expected


def test_m03_under_the_name_of_ldd_it_lists() -> None:
    assert parse_command([b"/usr/bin/ldd", b"/app"], None, None).listing
    assert not usage(b"ldd", b"x86_64", "1.2.5", listing=True)[-1].endswith(b" [args]")
