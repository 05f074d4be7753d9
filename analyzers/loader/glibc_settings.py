"""What glibc's loader is told before it looks at any object: by the environment and, run as a command, by its options.

Mirrors process_envvars and the first half of `dl_main` in `elf/rtld.c` (C9, G22, G39, G62).
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.loader.glibc_search import Options
from analyzers.loader.process import Process

_FLAGS = frozenset((b"--inhibit-cache",))
_VALUES = frozenset((b"--library-path", b"--inhibit-rpath", b"--audit", b"--preload"))
_VALUES_2_33 = frozenset((b"--argv0", b"--glibc-hwcaps-prepend", b"--glibc-hwcaps-mask"))
_INSTEAD = frozenset((b"--list", b"--verify", b"--help", b"--version", b"--list-tunables", b"--list-diagnostics"))
"""Options by which ld.so does something else than run a program."""


class Environment(NamedTuple):
    """What process_envvars takes from the environment."""

    preload: bytes = b""
    preload_argument: bytes = b""
    """--preload of the command line."""
    audit: tuple[bytes, ...] = ()
    bind_now: bool = False
    trace: bool = False
    original_sort: bool = False
    options: Options = Options()


def read_environment(process: Process) -> Environment:
    """Of variables that occur twice the last counts (C9); a privileged program loses most of them (G22)."""
    values: dict[bytes, bytes] = {}
    audit: list[bytes] = []
    for item in process.env:
        name, equals, value = item.partition(b"=")
        if equals:
            values[name] = value
            audit += [value] if name == b"LD_AUDIT" else []
    tunables = dict(each.partition(b"=")[::2] for each in values.get(b"GLIBC_TUNABLES", b"").split(b":"))
    return Environment(
        preload=values.get(b"LD_PRELOAD", b""),
        audit=tuple(name for value in audit for name in value.split(b":") if name),
        bind_now=bool(values.get(b"LD_BIND_NOW")),
        trace=b"LD_TRACE_LOADED_OBJECTS" in values,
        original_sort=tunables.get(b"glibc.rtld.dynamic_sort") == b"1" and not process.secure,
        options=Options(
            library_path=values.get(b"LD_LIBRARY_PATH"),
            origin_path=None if process.secure else values.get(b"LD_ORIGIN_PATH"),
        ),
    )


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
    if not rest and release < (2, 33):
        # The first of two dozen lines.
        return Command(lines=(b"Usage: ld.so [OPTION]... EXECUTABLE-FILE [ARGS-FOR-PROGRAM...]",), ends=True, exit_code=127)
    if not rest:
        return _usage(own, b"missing program name")
    program = rest[0]
    return Command(program, program if argv0 is None else argv0, options, preload, tuple(audit), instead=instead)


def _usage(own: bytes, words: bytes) -> Command:
    lines = (own + b": " + words, b"Try '" + own + b" --help' for more information.")
    return Command(lines=lines, ends=True, exit_code=1)


def drop_comments(data: bytes) -> bytes:
    """rtld.c's loop, which looks for each comment from the beginning, but ever less far: later ones may stay (G39)."""
    text = bytearray(data)
    rest = len(text)
    while rest > 0:
        comment = text.find(b"#", 0, rest)
        if comment < 0:
            break
        rest -= comment
        while True:
            text[comment] = 0x20
            rest -= 1
            if rest <= 0:
                break
            comment += 1
            if text[comment] == 0x0A:
                break
    return bytes(text)
