"""ld.so run as a command: its options, and the program it is asked to run.

Mirrors the first half of `dl_main` in `elf/rtld.c` (G62). The program's PT_INTERP is then of no interest; what follows is
the same as in any start, and glibc.py does it.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.loader.glibc_search import Options

_FLAGS = frozenset((b"--inhibit-cache",))
_VALUES = frozenset((b"--library-path", b"--inhibit-rpath", b"--audit", b"--preload"))
_VALUES_2_33 = frozenset((b"--argv0", b"--glibc-hwcaps-prepend", b"--glibc-hwcaps-mask"))
_INSTEAD = frozenset((b"--list", b"--verify", b"--help", b"--version", b"--list-tunables", b"--list-diagnostics"))
"""Options by which ld.so does something else than run a program."""


class Command(NamedTuple):
    """What the command line says. With `ends` set, nothing is run."""

    program: bytes = b""
    argv0: bytes = b""
    options: Options = Options()
    preload: bytes = b""
    audit: tuple[bytes, ...] = ()
    lines: tuple[bytes, ...] = ()
    ends: bool = False
    exit_code: int = 0
    instead: bytes = b""
    """The option that asks for something else."""


def parse_command(argv: tuple[bytes, ...], options: Options, release: tuple[int, int]) -> Command:
    """`argv` is that of ld.so; `options` are those of the environment, which the command line overrules."""
    own = argv[0] if argv else b""
    rest = list(argv[1:])
    argv0: bytes | None = None
    preload, audit, instead = b"", [], b""
    values = _VALUES | (_VALUES_2_33 if release >= (2, 33) else frozenset())
    while rest:
        word = rest[0]
        if word in _FLAGS:
            options = options._replace(inhibit_cache=True)
        elif word in values and len(rest) > 1:
            value = rest.pop(1)
            match word:
                case b"--library-path":
                    options = options._replace(library_path=value, library_path_source="--library-path")
                case b"--inhibit-rpath":
                    options = options._replace(inhibit_rpath=tuple(value.split(b":")))
                case b"--audit":
                    audit += [name for name in value.split(b":") if name]
                case b"--preload":
                    preload = value
                case b"--argv0":
                    argv0 = value
                case b"--glibc-hwcaps-prepend":
                    options = options._replace(hwcaps_prepend=tuple(filter(None, value.split(b":"))))
                case _:
                    options = options._replace(hwcaps_mask=tuple(value.split(b":")))
        elif word in _INSTEAD:
            instead = instead or word
        elif word == b"--" and release >= (2, 41):
            rest.pop(0)
            break
        elif word.startswith(b"--") and word != b"--" and release >= (2, 33):
            return _usage(own, b"unrecognized option '" + word + b"'")
        else:
            break
        rest.pop(0)
    if instead and instead not in (b"--list", b"--verify"):
        return Command(ends=True, instead=instead)
    if not rest:
        return _usage(own, b"missing program name")
    program = rest[0]
    return Command(program, program if argv0 is None else argv0, options, preload, tuple(audit), instead=instead)


def _usage(own: bytes, words: bytes) -> Command:
    lines = (own + b": " + words, b"Try '" + own + b" --help' for more information.")
    return Command(lines=lines, ends=True, exit_code=1)
