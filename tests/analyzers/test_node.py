"""Node's addons by their names, and what a Node makes of them: real ELF files, no container."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pytest

from analyzers.accounts import Credentials
from analyzers.facts import Entry, Kind
from analyzers.finding import Finding
from analyzers.node import describe, find_nodes, judge_node
from analyzers.plugins import Start
from analyzers.profile import DEFAULT_PROFILE
from analyzers.rootfs import Node, Rootfs
from tests.conftest import absent
from tests.make import roots
from tests.make.elves import MUSL_GCC, ToolAbsent, c, library
from tests.make.layers import Item, program
from tests.make.views import layer

Items = Mapping[str, Item | bytes | str]
ENV = (b"PATH=/usr/local/bin:/usr/bin:/bin",)
HEADER = (
    "#define NODE_MAJOR_VERSION 22\n#define NODE_MODULE_VERSION NODE_EMBEDDER_MODULE_VERSION\n#define NODE_MODULE_VERSION 127\n"
)
ADDON = "void *napi_register_module_v1(void *env, void *exports) { return exports; }\n"
MODULES = "app/node_modules"


@pytest.fixture(autouse=True)
def _tools() -> None:
    try:
        glibc()
        musl()
    except ToolAbsent as error:
        absent(str(error))


@functools.cache
def glibc() -> roots.Root:
    return {**roots.debian(), "usr/local/bin/node": program(c())}


@functools.cache
def musl() -> roots.Root:
    return {**roots.alpine(), "usr/local/bin/node": program(c(compiler=MUSL_GCC))}


def judged(files: Items, base: roots.Root | None = None, env: tuple[bytes, ...] = ENV) -> list[Finding]:
    start = Start(env, b"/", Credentials(0, 0, (), True), DEFAULT_PROFILE)
    return list(judge_node(Rootfs([layer(base or glibc()), layer(files)]), start))


def addon(**more: object) -> Item:
    return program(library("addon.node", ADDON, **more))  # type: ignore[arg-type]


def old_addon(release: int) -> Item:
    return program(library("addon.node", f"void node_register_module_v{release}(void) {{}}\n"))


@pytest.mark.parametrize(
    ("path", "group", "name", "target"),
    [
        ("@img/sharp-linux-x64/lib/sharp-linux-x64.node", "@img/sharp", "@img/sharp", "linux-x64"),
        ("@img/sharp-linuxmusl-arm64/lib/sharp-linuxmusl-arm64.node", "@img/sharp", "@img/sharp", "linux-arm64-musl"),
        ("@swc/core-linux-x64-gnu/swc.linux-x64-gnu.node", "@swc/core", "@swc/core", "linux-x64-gnu"),
        ("@rollup/rollup-darwin-arm64/rollup.darwin-arm64.node", "@rollup/rollup", "@rollup/rollup", "darwin-arm64"),
        ("@parcel/watcher-linux-x64-glibc/watcher.node", "@parcel/watcher", "@parcel/watcher", "linux-x64-gnu"),
        ("lightningcss-linux-arm-gnueabihf/x.node", "lightningcss", "lightningcss", "linux-arm-gnu"),
        ("mine/native/index.linux-x64-musl.node", "mine/native/index", "mine/native/index", "linux-x64-musl"),
        ("bcrypt/prebuilds/linux-x64/bcrypt.musl.node", "bcrypt/prebuilds", "bcrypt", "linux-x64-musl"),
        ("x/prebuilds/darwin-x64+arm64/x.node", "x/prebuilds", "x", "darwin-x64+arm64"),
        ("sqlite3/build/Release/node_sqlite3.node", "sqlite3/build/Release/node_sqlite3.node", "sqlite3", "-"),
    ],
)
def test_an_addon_is_known_by_its_name(path: str, group: str, name: str, target: str) -> None:
    full = f"{MODULES}/{path}".encode()
    found = describe(Node(full, Entry(full, Kind.FILE, 0o644, 0, 0, 1), 0, (0, full)))
    assert (found.group.decode(), found.name.decode(), found.target) == (f"{MODULES}/{group}", name, target)


def test_prebuilt_addons_without_node_api_say_their_release() -> None:
    path = b"x/prebuilds/linux-x64/node.abi108.node"
    assert describe(Node(path, Entry(path, Kind.FILE, 0o644, 0, 0, 1), 0, (0, path))).abi == 108
    path = b"x/prebuilds/linux-x64/node.napi.node"
    assert describe(Node(path, Entry(path, Kind.FILE, 0o644, 0, 0, 1), 0, (0, path))).abi is None


@pytest.mark.parametrize(
    ("files", "env", "abi"),
    [
        ({"usr/local/include/node/node_version.h": HEADER}, (), 127),
        ({}, (b"NODE_VERSION=20.19.2",), 115),
        ({}, (b"NODE_VERSION=v18.1.0",), 108),
        ({}, (b"NODE_VERSION=lts",), None),
        ({}, (), None),
    ],
)
def test_the_release_is_told_by_header_or_environment(files: Items, env: tuple[bytes, ...], abi: int | None) -> None:
    (found,) = find_nodes(Rootfs([layer(glibc()), layer(files)]), (*ENV, *env))
    assert (found.arch, found.abi) == (b"x64", abi)


def test_numbers_without_end_in_names_and_headers_are_no_numbers() -> None:
    header = {"usr/local/include/node/node_version.h": f"#define NODE_MODULE_VERSION {'9' * 5000}\n"}
    assert [each.abi for each in find_nodes(Rootfs([layer(glibc()), layer(header)]), (*ENV, b"NODE_VERSION=" + b"9" * 5000))] == [
        None
    ]
    exported = program(library("addon.node", f"void node_register_module_v{'9' * 5000}(void) {{}}\n"))
    assert judged({"app/a.node": exported}, env=(*ENV, b"NODE_VERSION=10.1.0")) == []


def test_an_addon_of_node_api_fits_any_release() -> None:
    assert judged({"app/a.node": addon()}, env=(*ENV, b"NODE_VERSION=20.1.0")) == []


def test_f32_an_addon_of_another_release() -> None:
    (found,) = judged({"app/a.node": old_addon(69)}, env=(*ENV, b"NODE_VERSION=10.1.0"))
    assert found.rule == "node.addon-for-another-release"
    assert "\nNODE_MODULE_VERSION 69. This version of Node.js requires\nNODE_MODULE_VERSION 64." in found.message
    assert judged({"app/a.node": old_addon(64)}, env=(*ENV, b"NODE_VERSION=10.1.0")) == []
    assert judged({"app/a.node": old_addon(69)}) == []


def test_f22_a_glibc_addon_on_musl() -> None:
    wanting = program(library("a.node", ADDON, "-Wl,--no-as-needed", "-lgcc_s"))
    (found,) = judged({"app/a.node": wanting}, musl())
    assert found.rule == "node.glibc-addon-on-musl"
    assert found.message == "Error: Error loading shared library libgcc_s.so.1: No such file or directory (needed by /app/a.node)"


def test_f20_a_file_of_another_system() -> None:
    mac = {f"{MODULES}/better-sqlite3/build/Release/better_sqlite3.node": program(b"\xcf\xfa\xed\xfe" + bytes(9000))}
    (found,) = judged(mac)
    assert found.rule == "node.addon-for-another-platform"
    assert found.message.endswith("better_sqlite3.node: invalid ELF header")


def test_builds_for_other_systems_beside_one_that_fits_are_fine() -> None:
    files = {
        f"{MODULES}/onnx/bin/linux/x64/binding.node": addon(),
        f"{MODULES}/onnx/bin/darwin/x64/binding.node": program(b"\xcf\xfa\xed\xfe" + bytes(9000)),
        f"{MODULES}/fsevents/fsevents.node": program(b"\xcf\xfa\xed\xfe" + bytes(9000)),
        f"{MODULES}/x/prebuilds/linux-x64/x.glibc.node": addon(),
        f"{MODULES}/x/prebuilds/linux-x64/x.musl.node": addon(compiler=MUSL_GCC),
        f"{MODULES}/x/prebuilds/win32-x64/x.node": program(b"MZ" + bytes(9000)),
    }
    assert judged(files) == []
    assert judged({**files, f"{MODULES}/onnx/bin/linux/x64/binding.node": addon(compiler=MUSL_GCC)}, musl()) == []


@pytest.mark.parametrize(("on_musl", "there"), [(False, "linuxmusl-x64"), (True, "linux-x64-gnu")])
def test_an_optional_package_of_the_other_libc(on_musl: bool, there: str) -> None:
    made = addon(compiler=MUSL_GCC) if not on_musl else addon()
    (found,) = judged({f"{MODULES}/@img/sharp-{there}/lib/sharp-{there}.node": made}, musl() if on_musl else glibc())
    assert found.rule == ("node.glibc-addon-on-musl" if on_musl else "node.musl-addon-on-glibc")
    assert "No build of @img/sharp for linux-x64-" in found.message


def test_optional_packages_of_another_machine_only() -> None:
    (found,) = judged(
        {f"{MODULES}/@rollup/rollup-darwin-arm64/rollup.darwin-arm64.node": program(b"\xcf\xfa\xed\xfe" + bytes(9000))}
    )
    assert found.rule == "node.addon-for-another-platform"
    assert "there is darwin-arm64" in found.message


def test_an_image_without_node_has_no_findings_of_it() -> None:
    assert judged({"app/a.node": program(b"text")}, roots.debian()) == []
