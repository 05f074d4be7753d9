"""Extension modules of real wheels, imported by a real Python in a real container: what is foretold of each is what it says.

Rows 20, 21, 26, 28, 29, 30, 40 and 41 of the failures' list, and scenario S7. No registry has a Python for musl; on Alpine a
program stands in for it that loads files as Python does, so there the loader's words are compared, not the import system's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from analyzers.accounts import Credentials
from analyzers.finding import Report, Severity
from analyzers.layer import LayerReader
from analyzers.plugins import Start
from analyzers.python import Imports, Module, Trouble
from analyzers.pythons import find_interpreters
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import profile_of
from tests.fleet.foretold import Foreteller
from tests.fleet.run import load, run
from tests.make import plugins
from tests.make.elves import MUSL_GCC, ToolAbsent, library, runpath
from tests.make.images import Image
from tests.make.layers import Item, program, tar_of

Items = Mapping[str, Item | bytes | str]
_ENV = (b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", b"HOME=/root")
_DRIVER = """
import importlib, os, sys
for name in sys.argv[1:]:
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    try:
        importlib.import_module(name)
        print("ok")
    except BaseException as error:
        print(type(error).__name__, str(error), sep=": ")
    sys.stdout.flush()
    os._exit(0)
"""
_EXTENSION = "void *PyInit_{name}(void) {{ return (void *)0; }}\n"
# The first use of the module is not ours: it does not matter that PyInit gives nothing, which is another error than the loader's.
_BIG_TLS = _EXTENSION.format(name="big_tls") + (
    '__thread char room[4000] __attribute__((tls_model("initial-exec")));\nchar *peek(int at) { return room + at; }\n'
)
_WANTS_SYMBOL = _EXTENSION.format(name="wants_symbol") + "void nowhere(void);\nvoid call(void) { nowhere(); }\n"


_TLS_ON_MUSL = '%s__thread int own __attribute__((tls_model("initial-exec")));\nint *peek(void) { return &own; }\n'


class Case(NamedTuple):
    base: Callable[[], Items]
    more: Callable[[], Items]
    rules: frozenset[str]
    """Of everything worse than INFO that is found in site-packages."""


def _stacks() -> Items:
    plain = _EXTENSION.format(name="plain")
    return {
        f"{plugins.MUSL_SITE}/plain.so": program(library("plain.so", plain)),
        f"{plugins.MUSL_SITE}/stack.so": program(library("stack.so", _EXTENSION.format(name="stack"), "-Wl,-z,execstack")),
        f"{plugins.MUSL_SITE}/helped.so": program(
            library(
                "helped.so",
                _EXTENSION.format(name="helped"),
                "-Wl,--no-as-needed",
                *runpath("$ORIGIN"),
                libs={"libhelp.so": _help()},
            )
        ),
        f"{plugins.MUSL_SITE}/libhelp.so": program(_help()),
    }


def _help() -> bytes:
    return library("libhelp.so", None, "-Wl,-z,execstack")


def _extensions() -> Items:
    site = plugins.SITE
    return {
        f"{site}/big_tls.so": program(library("big_tls.so", _BIG_TLS)),
        f"{site}/wants_symbol.so": program(library("wants_symbol.so", _WANTS_SYMBOL)),
        f"{site}/text.abi3.so": program(b"version https://git-lfs.github.com/spec/v1\n" * 3),
        f"{site}/tiny.abi3.so": program(b"../there.so"),
    }


def _musl_extensions() -> Items:
    site = plugins.MUSL_SITE
    return {
        f"{site}/tls.so": program(library("tls.so", _EXTENSION.format(name="tls") + _TLS_ON_MUSL % "", compiler=MUSL_GCC)),
        f"{site}/hid.so": program(library("hid.so", _EXTENSION.format(name="hid") + _TLS_ON_MUSL % "static ", compiler=MUSL_GCC)),
        f"{site}/wants_symbol.so": program(library("wants_symbol.so", _WANTS_SYMBOL, compiler=MUSL_GCC)),
        f"{site}/text.abi3.so": program(b"version https://git-lfs.github.com/spec/v1\n" * 3),
    }


CASES = {
    "fitting-wheels": Case(
        plugins.python,
        lambda: {**plugins.wheel("markupsafe"), **plugins.wheel("bcrypt"), **plugins.wheel("numpy")},
        frozenset(),
    ),
    "unfitting-wheels": Case(
        plugins.python,
        lambda: {**plugins.wheel("markupsafe-312"), **plugins.wheel("bcrypt-musl"), **plugins.wheel("dearpygui")},
        frozenset(("python.extension-for-another-release", "python.musl-extension-on-glibc", "python.extension-unloadable")),
    ),
    "musl-tag-on-glibc": Case(
        plugins.python, lambda: plugins.wheel("markupsafe-musl"), frozenset(("python.musl-extension-on-glibc",))
    ),
    "broken-modules": Case(plugins.python, _extensions, frozenset(("python.extension-unloadable",))),
    "executable-stack": Case(plugins.glibc_241_python, _stacks, frozenset(("python.extension-executable-stack",))),
    "static-tls-on-musl": Case(plugins.musl_python, _musl_extensions, frozenset(("python.extension-unloadable",))),
    "fitting-on-musl": Case(
        plugins.musl_python,
        lambda: {
            **plugins.wheel("markupsafe-musl", plugins.MUSL_SITE),
            **plugins.wheel("bcrypt-musl", plugins.MUSL_SITE),
        },
        frozenset(),
    ),
    "s7-manylinux-on-musl": Case(
        plugins.musl_python,
        lambda: {
            path: item
            for name in ("numpy", "bcrypt", "dearpygui", "markupsafe")
            for path, item in plugins.wheel(name, plugins.MUSL_SITE).items()
        },
        frozenset(("python.glibc-extension-on-musl",)),
    ),
}


STAND_INS = (plugins.musl_python, plugins.glibc_241_python)


class Outcome(NamedTuple):
    tried: list[tuple[Module, Trouble | None]]
    said: list[str]
    report: Report


@pytest.fixture(scope="module")
def outcomes(engine: Engine) -> dict[str, Outcome]:
    try:
        images = {
            name: Image(layers=(tar_of(case.base()), tar_of(case.more())), cmd=("/usr/bin/python3",))
            for name, case in CASES.items()
        }
    except ToolAbsent as error:
        absent(str(error))
    load(engine, {f"plugins/{name}:1": image for name, image in images.items()})
    return {name: _try(engine, name, image) for name, image in images.items()}


def _try(engine: Engine, name: str, image: Image) -> Outcome:
    layers = []
    for tar in image.layers:
        reader = LayerReader()
        reader.feed(tar)
        layers.append(reader.finish())
    rootfs, profile = Rootfs(layers), profile_of(engine)
    start = Start(_ENV, b"/", Credentials(0, 0, (), True), profile)
    tried = [each for each in Imports(rootfs, find_interpreters(rootfs, _ENV), start).tried() if b"/_empty." not in each[0].path]
    stand_in = CASES[name].base in STAND_INS
    words = [(each.path if stand_in else each.name).decode() for each, _ in tried]
    command = ["/usr/bin/python3", *(() if stand_in else ("-c", _DRIVER)), *words]
    ran = run(engine, f"plugins/{name}:1", f"plugins-{name}", behind=command)
    assert ran.exit_code == 0, ran
    return Outcome(tried, ran.stdout.splitlines(), Foreteller().image(image, profile, NO_OVERRIDES))


pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", CASES)
def test_what_is_foretold_of_a_module_is_what_importing_it_says(name: str, outcomes: dict[str, Outcome]) -> None:
    tried, said, _ = outcomes[name]
    assert len(tried) == len(said) >= 1
    wrong = []
    for (module, trouble), line in zip(tried, said, strict=True):
        if CASES[name].base in STAND_INS and trouble is not None and trouble.message.startswith("ModuleNotFoundError"):
            continue  # that is the import system's part, which the stand-in has not
        refused = line.startswith(("ImportError", "ModuleNotFoundError"))
        if (trouble is None and refused) or (trouble is not None and trouble.message != line):
            wrong.append(f"{module.name.decode()}: foretold {trouble and trouble.message}, said {line}")
    assert wrong == []


@pytest.mark.parametrize("name", CASES)
def test_the_report_names_each_package_once_and_nothing_else(name: str, outcomes: dict[str, Outcome]) -> None:
    found = [each for each in outcomes[name].report.findings if each.rule.startswith("python.")]
    serious = [each for each in found if each.severity in (Severity.FATAL, Severity.LATER)]
    assert frozenset(each.rule for each in serious) == CASES[name].rules
    assert len({(each.rule, each.subject.partition("-packages/")[2].partition("/")[0]) for each in serious}) == len(serious)
    assert len([each for each in found if each not in serious]) <= 1
    assert not [each for each in found if each.severity is Severity.INFO]


def test_numpy_on_musl_is_named_with_what_mends_it(outcomes: dict[str, Outcome]) -> None:
    found = next(each for each in outcomes["s7-manylinux-on-musl"].report.findings if "/numpy/" in each.subject)
    assert found.message == "ModuleNotFoundError: No module named 'numpy.core._multiarray_tests'"
    assert "musllinux" in found.remedies[0]
    assert "slim" in found.remedies[0]
