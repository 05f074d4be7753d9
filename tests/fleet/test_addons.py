"""Node addons of real npm packages, required by a real Node on glibc and on musl: what is foretold of each is what Node says.

Rows 20, 21, 22, 23, 27 and 32 of the failures' list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from analyzers.finding import Finding
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import profile_of
from tests.fleet.foretold import Foreteller
from tests.fleet.run import load, run
from tests.make import plugins
from tests.make.elves import MUSL_GCC, ToolAbsent, library
from tests.make.images import Image
from tests.make.layers import Item, program, tar_of

Items = Mapping[str, Item | bytes | str]
MODULES = "app/node_modules"
_DRIVER = """
for (const name of process.argv.slice(1)) {
    try { require(name); console.log('"ok"') } catch (error) { console.log(JSON.stringify(String(error))) }
}
"""
_NAPI = "void *napi_register_module_v1(void *env, void *exports) {{ {body} return exports; }}\n"


def _napi(name: str, body: str = "", before: str = "", **more: object) -> Item:
    return program(library(f"{name}.node", before + _NAPI.format(body=body), **more))  # type: ignore[arg-type]


def _packages() -> Items:
    return {
        **plugins.package("node-rs-crc32-1.10.6.tgz", f"{MODULES}/@node-rs/crc32"),
        **plugins.package("bufferutil-4.0.9.tgz", f"{MODULES}/bufferutil"),
        **plugins.package("bcrypt-6.0.0.tgz", f"{MODULES}/bcrypt"),
        **plugins.package("node-gyp-build-4.8.4.tgz", f"{MODULES}/node-gyp-build"),
    }


def _crc32(libc: str) -> Items:
    return plugins.package(f"node-rs-crc32-linux-x64-{libc}-1.10.6.tgz", f"{MODULES}/@node-rs/crc32-linux-x64-{libc}")


class Case(NamedTuple):
    base: Callable[[], Items]
    files: Callable[[], Items]
    asked: Mapping[str, str]
    """What is required, and the rule that it breaks; empty for none."""
    exact: bool = True
    """Whether the message is Node's own."""


CASES = {
    "fitting-on-glibc": Case(
        plugins.node,
        lambda: {**_packages(), **_crc32("gnu")},
        {"@node-rs/crc32": "", "bufferutil": "", "bcrypt": ""},
    ),
    "fitting-on-musl": Case(
        plugins.musl_node,
        lambda: {**_packages(), **_crc32("musl")},
        {"@node-rs/crc32": "", "bufferutil": "", "bcrypt": ""},
    ),
    "other-libc-on-glibc": Case(
        plugins.node, lambda: {**_packages(), **_crc32("musl")}, {"@node-rs/crc32": "node.musl-addon-on-glibc"}, exact=False
    ),
    "other-libc-on-musl": Case(
        plugins.musl_node, lambda: {**_packages(), **_crc32("gnu")}, {"@node-rs/crc32": "node.glibc-addon-on-musl"}, exact=False
    ),
    "files-on-glibc": Case(
        plugins.node,
        lambda: {
            "app/one/good.node": _napi("good"),
            "app/two/lazy.node": _napi("lazy", "extern void nowhere(void); if (!exports) nowhere();"),
            "app/three/now.node": _napi("now", before="extern void nowhere(void); void *table[] = {(void *)nowhere};"),
            "app/four/old.node": program(plugins.addon(108, context=True)),
            "app/five/same.node": program(plugins.addon(127, context=True)),
            "app/six/mac.node": program(b"\xcf\xfa\xed\xfe" + bytes(8000)),
            "app/seven/lfs.node": program(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345678\n"),
            "app/eight/musl.node": _napi("musl", "__builtin_trap();", compiler=MUSL_GCC),
            "app/nine/short.node": program(b"../x"),
        },
        {
            "/app/one/good.node": "",
            "/app/two/lazy.node": "",
            "/app/three/now.node": "node.addon-unloadable",
            "/app/four/old.node": "node.addon-for-another-release",
            "/app/five/same.node": "",
            "/app/six/mac.node": "node.addon-for-another-platform",
            "/app/seven/lfs.node": "node.addon-unloadable",
            "/app/nine/short.node": "node.addon-unloadable",
        },
    ),
    "files-on-musl": Case(
        plugins.musl_node,
        lambda: {
            "app/one/good.node": _napi("good", compiler=MUSL_GCC),
            "app/two/lazy.node": _napi("lazy", "extern void nowhere(void); if (!exports) nowhere();", compiler=MUSL_GCC),
            "app/three/now.node": _napi(
                "now", before="extern void nowhere(void); void *table[] = {(void *)nowhere};", compiler=MUSL_GCC
            ),
            "app/four/gnu.node": program(plugins.addon(127, context=True)),
            "app/five/chk.node": _napi("chk", before="extern void __sprintf_chk(void); void *table[] = {(void *)__sprintf_chk};"),
            "app/six/mac.node": program(b"\xcf\xfa\xed\xfe" + bytes(8000)),
        },
        {
            "/app/one/good.node": "",
            "/app/two/lazy.node": "",
            "/app/three/now.node": "node.addon-unloadable",
            "/app/four/gnu.node": "",
            "/app/five/chk.node": "node.glibc-addon-on-musl",
            "/app/six/mac.node": "node.addon-for-another-platform",
        },
    ),
}


class Outcome(NamedTuple):
    said: dict[str, str]
    findings: tuple[Finding, ...]


@pytest.fixture(scope="module")
def outcomes(engine: Engine) -> dict[str, Outcome]:
    try:
        images = {
            name: Image(layers=(tar_of(case.base()), tar_of(case.files())), cmd=("node", "-v")) for name, case in CASES.items()
        }
    except ToolAbsent as error:
        absent(str(error))
    load(engine, {f"addons/{name}:1": image for name, image in images.items()})
    profile, foreteller, found = profile_of(engine), Foreteller(), {}
    for name, image in images.items():
        asked = CASES[name].asked
        ran = run(engine, f"addons/{name}:1", f"addons-{name}", ("--workdir", "/app"), ("node", "-e", _DRIVER, *asked))
        assert ran.exit_code == 0, ran
        said = dict(zip(asked, map(json.loads, ran.stdout.splitlines()), strict=True))
        report = foreteller.image(image, profile, NO_OVERRIDES)
        found[name] = Outcome(said, tuple(each for each in report.findings if each.rule.startswith("node.")))
    return found


pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", CASES)
def test_what_is_foretold_of_an_addon_is_what_requiring_it_says(name: str, outcomes: dict[str, Outcome]) -> None:
    said, findings = outcomes[name]
    case = CASES[name]
    wrong = []
    for asked, rule in case.asked.items():
        found = [each for each in findings if f"{asked}/" in f"{each.subject}/" or f"{asked}-linux" in each.subject]
        if [each.rule for each in found] != ([rule] if rule else []):
            wrong.append(f"{asked}: found {[each.rule for each in found]}, Node says {said[asked]}")
        elif rule and case.exact and found[0].message != said[asked]:
            wrong.append(f"{asked}: foretold {found[0].message}, Node says {said[asked]}")
        if (said[asked] == "ok") != (not rule):
            wrong.append(f"{asked}: Node says {said[asked]}")
    assert wrong == []


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_is_found(name: str, outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes[name].findings) <= len([rule for rule in CASES[name].asked.values() if rule]) + (name == "files-on-glibc")


def test_a_missing_platform_package_is_named(outcomes: dict[str, Outcome]) -> None:
    for name, own in (("other-libc-on-glibc", "linux-x64-gnu"), ("other-libc-on-musl", "linux-x64-musl")):
        assert own in outcomes[name].findings[0].message
