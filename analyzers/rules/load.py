"""What the dynamic loader meets."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

_F, _L, _W, _I = Severity.FATAL, Severity.LATER, Severity.WARNING, Severity.INFO

TABLE = (
    Rule(
        "load.library-absent",
        _F,
        "A shared library is missing",
        "The loader looked in every place of its search order and did not find it.",
        "Install the package that has it in the final stage, or link it statically.",
        "G5, G18, M1",
        Reason.LIBRARY_ABSENT,
    ),
    Rule(
        "load.version-not-found",
        _F,
        "A library is too old",
        "The program was linked against a newer release of the library than the image has.",
        "Build on the distribution release of the run stage or an older one, or use a newer base.",
        "G43",
        Reason.VERSION,
    ),
    Rule(
        "load.symbol-not-found",
        _F,
        "A library lacks a function or variable",
        "A symbol that is bound before the program starts is defined by none of the loaded objects.",
        "Use the library that the program was built against.",
        "G52, M20",
        Reason.SYMBOL,
    ),
    Rule(
        "load.wrong-architecture",
        _F,
        "A library is for another machine",
        "What was found cannot be mapped into this program.",
        "Install the library for the program's machine.",
        "G18, G30",
        Reason.ARCHITECTURE,
    ),
    Rule(
        "load.closed-to-user",
        _F,
        "A library may not be read",
        "After the exec a user without capabilities opens the libraries with its own permissions.",
        "chmod a+r the library and its directories.",
        "G17, C13",
        Reason.PERMISSION,
    ),
    Rule(
        "load.refused",
        _F,
        "The loader refuses",
        "The loader ends the process with the line shown.",
        "Use the libraries that the program was built against.",
        "G30-G60, M14-M60",
    ),
    Rule(
        "load.cpu-level",
        _F,
        "A library is for a better CPU",
        "It says that it needs instructions which a CPU of the host's level does not have.",
        "Use a build for the baseline of the architecture, or run on a newer CPU.",
        "G50, G51",
        Reason.ARCHITECTURE,
    ),
    Rule(
        "load.mixed-libc",
        _F,
        "The parts of the C library are not of one build",
        "The loader and libc.so.6 (or libm, libpthread and so on) know each other's insides and fit only their own build.",
        "Take all files of glibc from one image: copy its loader along with its libraries, or none of them.",
        "G55",
    ),
    Rule(
        "load.crash",
        _F,
        "The process dies while it is loaded",
        "A file is truncated, or the parts of the C library are not of one build.",
        "Restore the files named in the trail from one distribution release.",
        "S4, G55, M14",
    ),
    Rule(
        "load.later-symbol",
        _L,
        "A function is missing when it is first called",
        "With lazy binding the process starts and ends at the first call.",
        "Use the library that the program was built against.",
        "G52",
    ),
    Rule(
        "load.depends-on-cpu",
        _W,
        "Whether it starts depends on the CPU",
        "On a CPU of the architecture's baseline the loader ends the process with the line shown; on the host's it does not.",
        "Use a build for the baseline of the architecture.",
        "G41, G50, decisions 12",
    ),
    Rule(
        "load.warning",
        _W,
        "The loader complains but goes on",
        "The line shown is printed at every start.",
        "Remove the cause, for example a preload of a file that does not exist.",
        "G38, G43",
    ),
    Rule(
        "load.host-library",
        _I,
        "A library comes from the host",
        "It belongs to the host's driver and is mounted into containers that ask for it; an image must not have it. Where the "
        "container is started without (docker run --gpus, a device plug-in), the loader does not find it.",
        "Start the container with the GPU it needs.",
        "failures 50",
    ),
    Rule(
        "load.dlopen-required-absent",
        _L,
        "A library that is opened while the program runs is missing",
        "The object says by a note (.note.dlopen) that it cannot do without the library, which it opens by itself.",
        "Install the package that has the library.",
        "R42",
    ),
    Rule(
        "load.dlopen-absent",
        _I,
        "A library for an optional feature is missing",
        "The object says by a note (.note.dlopen) that it opens the library by itself when it is there.",
        "Install the package that has the library where the feature is wanted.",
        "R42",
    ),
)  # fmt: skip
