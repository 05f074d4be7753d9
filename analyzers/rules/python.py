"""Python: its interpreters, what they can import, and the scripts that ask for them."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

_F, _L, _W, _I = Severity.FATAL, Severity.LATER, Severity.WARNING, Severity.INFO

TABLE = (
    Rule(
        "python.script-absent",
        _F,
        "Python's script cannot be opened",
        "The interpreter starts and does not find, or may not read, the file it is to run.",
        "Copy the file into the image, or mend the path in ENTRYPOINT, CMD or WORKDIR.",
        "CPython Modules/main.c",
        Reason.SCRIPT,
    ),
    Rule(
        "python.no-main",
        _F,
        "The directory that Python is to run has no __main__.py",
        "Of a directory Python runs __main__.py.",
        "Name the script itself, or use -m with the package's name.",
        "CPython Lib/runpy.py",
        Reason.SCRIPT,
    ),
    Rule(
        "python.module-absent",
        _F,
        "The Python module is nowhere on sys.path",
        "No directory that this interpreter searches has a module or package of that name.",
        "Install the package for this very interpreter: a package in another release's site-packages is not seen.",
        "CPython Lib/runpy.py, Lib/site.py",
        Reason.OTHER,
    ),
    Rule(
        "python.glibc-extension-on-musl",
        _L,
        "Python extension modules were built for glibc, and the interpreter runs on musl",
        "manylinux wheels are for glibc; musl's loader or the interpreter's file name tag keeps them out.",
        "Install musllinux wheels (pip picks them when it runs in the musl image itself), or use a slim Debian base.",
        "failures 28, R11, R12",
    ),
    Rule(
        "python.musl-extension-on-glibc",
        _L,
        "Python extension modules were built for musl, and the interpreter runs on glibc",
        "musllinux wheels are for musl.",
        "Install manylinux wheels (pip picks them when it runs in the glibc image itself), or use an alpine base.",
        "failures 28, R11, R12",
    ),
    Rule(
        "python.extension-for-another-release",
        _L,
        "Python extension modules were built for another release of Python",
        "A file whose tag is not one of the interpreter's own is not seen by import.",
        "Install the packages with the interpreter that runs them; build and run stage must have the same release of Python.",
        "failures 29, R10",
    ),
    Rule(
        "python.extension-for-another-architecture",
        _L,
        "Python extension modules were built for another architecture",
        "The loader passes over files of another machine.",
        "Install the packages on the platform that the image is for.",
        "R10, G32",
    ),
    Rule(
        "python.extension-unloadable",
        _L,
        "Python extension modules cannot be loaded",
        "A library, a version of one or a symbol that they need is nowhere in the image.",
        "Install the library named, or a build of the package that brings its own.",
        "failures 30, R13",
    ),
    Rule(
        "python.extension-executable-stack",
        _L,
        "Python extension modules want an executable stack",
        "Since glibc 2.41 dlopen refuses libraries that ask for one.",
        "Use a newer release of the package, or clear the mark with `patchelf --clear-execstack`.",
        "failures 40, G34",
    ),
    Rule(
        "python.standard-module-unloadable",
        _W,
        "An extension module of the standard library cannot be loaded",
        "Slim images leave out libraries that few programs need, such as Tk's.",
        "Install the library named if the program imports the module.",
        "R13",
    ),
    Rule(
        "python.host-library",
        _I,
        "Python extension modules want libraries that the host brings",
        "The driver's libraries are put into the container by the runtime; without it the modules do not load.",
        "Run the container with the driver's runtime (--gpus all).",
        "failures 50",
    ),
    Rule(
        "python.extension-undecided",
        _I,
        "It cannot be told whether Python extension modules load",
        "They need something that the image has, but not where the loader looks: Python code may load it first.",
        "Import the module once in the built image.",
        "R13",
    ),
    Rule(
        "python.packages-of-another-release",
        _W,
        "Packages are installed for a release of Python that is not in the image",
        "Each release has a site-packages of its own and does not look into another's.",
        "Install the packages with the interpreter that runs them; build and run stage must have the same release of Python.",
        "failures 29",
    ),
    Rule(
        "python.dead-entry-point",
        _L,
        "Scripts in bin want an interpreter that is not in the image",
        "Installers write the absolute path of the build stage's interpreter into the #! line.",
        "Install the packages at the path they are used at, or copy the interpreter along.",
        "R14, K9",
    ),
)  # fmt: skip
