"""Bytes that need not be there."""

from __future__ import annotations

from analyzers.finding import Severity
from analyzers.rules.rule import Rule

_W, _I = Severity.WARNING, Severity.INFO

TABLE = (
    Rule(
        "size.hidden-bytes",
        _W,
        "A layer's bytes are hidden by later layers",
        "What a later layer deletes or replaces is still pulled and stored.",
        "Delete it in the instruction that made it, or build in a stage of its own.",
        "size.py",
    ),
    Rule(
        "size.cache",
        _W,
        "A package manager's cache is in the image",
        "It serves the next installation, which a container never makes.",
        "Remove it in the instruction that filled it, or keep it in a cache mount.",
        "contents.py",
    ),
    Rule(
        "size.build-tools",
        _I,
        "Compilers or build tools are in the image",
        "They are needed to build the program and not to run it; whoever breaks in finds them too.",
        "Build in a stage of its own and copy only what runs into the last one.",
        "contents.py",
    ),
    Rule(
        "size.headers",
        _I,
        "C headers are in the image",
        "Only a compiler reads them.",
        "Build in a stage of its own and copy only what runs into the last one.",
        "contents.py",
    ),
    Rule(
        "size.static-libraries",
        _I,
        "Static libraries are in the image",
        "Only a linker reads them.",
        "Build in a stage of its own and copy only what runs into the last one.",
        "contents.py",
    ),
    Rule(
        "size.version-control",
        _W,
        "A repository's history is in the image",
        "It is not needed to run, and may hold what was thought removed.",
        "Name .git in .dockerignore.",
        "contents.py",
    ),
    Rule(
        "size.unstripped",
        _I,
        "Programs or libraries carry debug information",
        "Only debuggers read it, and the symbol table beside it; the dynamic symbols that loaders need are kept apart.",
        "Run `strip` on them in the build stage, or tell the compiler to: -ldflags \"-s -w\" for Go, strip = true for Rust.",
        "contents.py",
    ),
    Rule(
        "size.duplicate-files",
        _I,
        "The same big file stands at several paths",
        "Equal contents are stored once for each path; files below 1 MiB that are not ELF are not compared.",
        "Make links of all but one of them.",
        "contents.py",
    ),
)  # fmt: skip
