"""What is told of a load that fails: the scenarios' sentences, the layer at fault, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from analyzers.facts import LayerFacts
from analyzers.finding import Finding, Reason, Report, Severity, State
from analyzers.judges import judge_image
from analyzers.linkage import list_objects
from analyzers.oci import ImageConfig, Platform
from analyzers.profile import HostProfile
from tests.conftest import absent
from tests.make import roots
from tests.make.elves import ToolAbsent
from tests.make.glibc_cases import LIB, LOADER, MULTIARCH, elf, lib, prog, v
from tests.make.glibc_loaders import library_of, loader_of
from tests.make.glibc_start_cases import hello
from tests.make.glibc_symbol_cases import CALLS, LAZY, V1, user_of, versioned_lib, wants_v2
from tests.make.layers import file, folder, program
from tests.make.views import Item, layer

Items = Mapping[str, Item | bytes | str]


def report(*layers: LayerFacts, cmd: str = "/x", profile: HostProfile | None = None, **config: object) -> Report:
    settings = ImageConfig(cmd=(cmd,), platform=Platform("linux", "amd64"), **config)  # type: ignore[arg-type]
    return judge_image("sha256:0", settings, layers, profile=profile or HostProfile())


def root(items: Items, **more: object) -> LayerFacts:
    try:
        return layer({LOADER: loader_of("machine"), **items}, **more)  # type: ignore[arg-type]
    except ToolAbsent as error:
        absent(str(error))


def fatal(made: Report) -> Finding:
    found = [each for each in made.findings if each.severity is Severity.FATAL]
    assert len(found) == 1
    return found[0]


def test_s5_a_rust_program_on_a_busybox_with_glibc_misses_libdl() -> None:
    try:
        base = layer(roots.busybox_glibc())
    except ToolAbsent as error:
        absent(str(error))
    made = report(base, layer({"x": prog("libdl.so.2", "libgcc_s.so.1", "libc.so.6")}))
    finding = fatal(made)
    assert finding.rule == "load.library-absent"
    assert (
        finding.message
        == "/x: error while loading shared libraries: libdl.so.2: cannot open shared object file: No such file or directory"
    )
    assert made.verdict.exit_code == 127
    assert finding.why.endswith(
        "/x needs libdl.so.2. Also missing: libgcc_s.so.1 (for /x). "
        "Since glibc 2.34 its code is in libc.so.6, but the file is still asked for."
    )
    assert "It is part of glibc" in finding.remedies[0]
    assert (finding.subject, finding.layer) == ("/x", 1)


def test_a_library_that_a_later_layer_deleted_is_named_with_both_layers() -> None:
    layers = (root({"x": prog(LIB), "usr/lib/libv.so": v()}), layer({}, whiteouts=("usr/lib/libv.so",)))
    history = (("COPY rootfs /", False), ("RUN rm -rf /usr/lib/libv*", False))
    finding = fatal(report(*layers, history=history))
    assert (
        "/usr/lib/libv.so was there: layer 0 (COPY rootfs /) brought it and layer 1 (RUN rm -rf /usr/lib/libv*) deleted it."
        in finding.why
    )
    assert finding.remedies[0] == "Keep /usr/lib/libv.so in layer 1 (RUN rm -rf /usr/lib/libv*)."


def test_a_library_in_a_directory_that_is_not_searched_is_pointed_at() -> None:
    finding = fatal(report(root({"x": prog(LIB), "usr/local/lib/libv.so": v()})))
    assert "lies at /usr/local/lib/libv.so, where the loader does not look" in finding.why
    assert finding.remedies[0].startswith("Run ldconfig in the build")


def test_the_object_that_wants_the_library_is_the_subject() -> None:
    finding = fatal(report(root({"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", LIB)})))
    assert (finding.subject, finding.layer) == ("/a/liba.so", 0)
    assert "/a/liba.so needs libv.so." in finding.why


def test_a_version_mismatch_names_the_provider_its_layer_and_how_far_it_goes() -> None:
    items = {"x": program(user_of(wants_v2())), "a/libv.so": file(versioned_lib("V1.1 { }; V1.2 { global: foo; };"))}
    made = report(root(items), history=(("COPY old /", False),))
    finding = fatal(made)
    assert (finding.rule, made.verdict.reason, made.verdict.exit_code) == ("load.version-not-found", Reason.VERSION, 1)
    assert "/x wants V2 of /a/libv.so, which layer 0 (COPY old /) brings." in finding.why
    step = finding.trail[-1]
    assert (step.action, step.wanted, step.by) == ("version", "V2", "/x")
    assert step.attempts[0].detail == "it defines V1.1, V1.2"


def test_a_newer_glibc_is_named_by_the_distributions_that_have_it() -> None:
    wanting = elf("libc.so.6", source=CALLS, runpath="/a",
                  libs={"libc.so.6": versioned_lib("GLIBC_2.34 { global: foo; };", shared="libc.so.6")})  # fmt: skip
    old = versioned_lib("GLIBC_2.2.5 { }; GLIBC_2.31 { global: foo; };", shared="libc.so.6")
    finding = fatal(report(root({"x": program(wanting), "a/libc.so.6": file(old)})))
    assert "/x wants GLIBC_2.34 of /a/libc.so.6, which layer 0 brings and which defines GLIBC up to GLIBC_2.31." in finding.why
    assert finding.remedies[0] == "Use a base that has GLIBC_2.34: Debian 12, Ubuntu 22.04, RHEL 9 or later."


def test_a_missing_symbol_names_the_library_it_was_expected_in() -> None:
    items = {
        "x": program(elf(LIB, source=CALLS, libs={LIB: versioned_lib(V1)}, runpath="/a")),
        "a/libv.so": file(versioned_lib("V1 { global: bar; };", "int bar(void) { return 1; }")),
    }
    finding = fatal(report(root(items)))
    assert finding.rule == "load.symbol-not-found"
    assert "/x wants foo of version V1. It expects it in /a/libv.so, which layer 0 brings." in finding.why
    assert [each.path for each in finding.trail[-1].attempts] == ["/x", "/a/libv.so"]


def test_a_library_that_the_user_may_not_read_has_its_own_rule() -> None:
    items = {"x": prog(LIB, runpath="/a"), "a/libv.so": file(v().content, 0o600)}
    made = report(root(items), user="1000")
    assert (fatal(made).rule, made.verdict.reason) == ("load.closed-to-user", Reason.PERMISSION)
    assert fatal(made).remedies[0] == "chmod a+rX /a/libv.so"


def test_a_closed_directory_without_the_library_is_not_blamed() -> None:
    made = report(root({"x": prog(LIB, runpath="/a"), "a": folder(0o700)}), user="1000")
    assert made.verdict.reason is Reason.LIBRARY_ABSENT


def test_a_library_of_another_machine_is_named_by_it() -> None:
    foreign = v().content[:18] + b"\xb7\0" + v().content[20:]
    finding = fatal(report(root({"x": prog(LIB, runpath="/a"), "a/libv.so": file(foreign)})))
    assert finding.rule == "load.wrong-architecture"
    assert "/a/libv.so is for arm64." in finding.why


def test_a_text_file_in_the_place_of_a_library_is_explained() -> None:
    finding = fatal(report(root({"x": prog(LIB, runpath="/a"), "a/libv.so": "INPUT(-lv)" * 10})))
    assert finding.rule == "load.refused"
    assert "linker script" in finding.why


@pytest.mark.parametrize(("loader", "libc"), [("machine", "2.41"), ("2.41", "machine")])
def test_a_libc_of_another_build_is_named_as_that(loader: str, libc: str) -> None:
    try:
        items = {LOADER: loader_of(loader), "x": hello(), f"{MULTIARCH}/libc.so.6": library_of(libc, "libc.so.6")}
    except ToolAbsent as error:
        absent(str(error))
    assert fatal(report(layer(items))).rule == "load.mixed-libc"


def test_functions_missing_at_their_first_call_are_told_although_it_starts() -> None:
    made = report(root({"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", source=LAZY)}))
    assert made.verdict.state is State.STARTS
    assert [(each.rule, each.severity, each.subject, each.message) for each in made.findings] == [
        ("load.later-symbol", Severity.LATER, "/a/liba.so", "undefined when first called: foo")
    ]


def test_a_start_that_needs_the_hosts_cpu_level_is_told() -> None:
    items = {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", flags=("-Wl,-z,x86-64-v3",))}
    made = report(root(items))
    assert made.verdict.state is State.STARTS
    assert [(each.rule, each.message) for each in made.findings] == [
        ("load.depends-on-cpu", "/a/liba.so: CPU ISA level is lower than required")
    ]
    assert made.x86_level == 3
    assert fatal(report(root(items), profile=HostProfile(x86_level=2))).rule == "load.cpu-level"


def test_a_library_found_only_for_better_cpus_depends_on_the_cpu() -> None:
    items = {"x": prog(LIB, runpath="/a"), "a/glibc-hwcaps/x86-64-v3/libv.so": v()}
    assert [each.rule for each in report(root(items)).findings] == ["load.depends-on-cpu"]


def test_a_program_given_to_the_loader_as_command_is_what_is_missing() -> None:
    settings = ImageConfig(cmd=("/" + LOADER, "/nope"), platform=Platform("linux", "amd64"))
    made = judge_image("sha256:0", settings, [root({})])
    assert (fatal(made).rule, made.verdict.reason) == ("path.absent", Reason.PATH)


# -- ldd for images --


def listed(items: Items, path: str) -> object:
    config = ImageConfig(cmd=("/x",), platform=Platform("linux", "amd64"))
    return next(iter(list_objects(config, [root(items)], paths=(path.encode(),))))


def test_ldd_tells_every_missing_library_version_and_symbol() -> None:
    items = {
        "x": program(elf(LIB, "libn.so", "liba.so", source=CALLS, libs={LIB: wants_v2()}, runpath="/a")),
        "a/libv.so": file(versioned_lib(V1)),
        "a/liba.so": lib("liba.so", "libm1.so"),
    }
    found = listed(items, "/x")
    assert found.needed == {LIB: "/a/libv.so", "libn.so": None, "liba.so": "/a/liba.so"}  # type: ignore[attr-defined]
    assert found.unmet_versions == ("/a/libv.so: V2 (for /x)",)  # type: ignore[attr-defined]
    assert [step.wanted for step in found.tree if not step.ok] == ["libn.so", "libm1.so"]  # type: ignore[attr-defined]


def test_ldd_of_a_plugin_leaves_open_what_its_host_brings() -> None:
    found = listed({"x": prog(), "p.so": lib("p.so", LIB, source=CALLS, runpath="/a"), "a/libv.so": v()}, "/p.so")
    assert (found.verdict, found.error) == (State.STARTS, "")  # type: ignore[attr-defined]
    assert found.unbound_symbols == ("foo (in /p.so)",)  # type: ignore[attr-defined]


def test_ldd_of_a_plugin_that_names_no_library_tells_what_it_leaves_open() -> None:
    found = listed({"x": prog(), "p.so": lib("p.so", source=CALLS)}, "/p.so")
    assert (found.verdict, found.error) == (State.STARTS, "")  # type: ignore[attr-defined]
    assert found.unbound_symbols == ("foo (in /p.so)",)  # type: ignore[attr-defined]


def test_ldd_gives_each_line_of_the_loader_a_line() -> None:
    other = elf(LIB, shared="libw.so", source=CALLS, libs={LIB: wants_v2()}, runpath="/a")
    items = {"x": program(elf(LIB, "libw.so", source=CALLS, libs={LIB: wants_v2(), "libw.so": other}, runpath="/a"))}
    found = listed({**items, "a/libw.so": file(other), "a/libv.so": file(versioned_lib(V1))}, "/x")
    assert found.error.split("\n") == [  # type: ignore[attr-defined]
        "/x: /a/libv.so: version `V2' not found (required by /x)",
        "/x: /a/libv.so: version `V2' not found (required by /a/libw.so)",
    ]


def test_a_library_missing_for_one_is_looked_for_again_where_another_looks() -> None:
    items = {"x": prog("liba.so", "libb.so"), "usr/lib/libb.so": lib("libb.so", "liba.so", runpath="/a"), "a/liba.so": v()}
    found = listed(items, "/x")
    tried = [(step.by, step.ok) for step in found.tree if step.wanted == "liba.so"]  # type: ignore[attr-defined]
    assert tried == [("/x", False), ("/usr/lib/libb.so", True)]


def test_a_library_whose_symbols_one_program_brings_is_not_taken_for_complete_in_another() -> None:
    wants = lib("libp.so", source=CALLS, flags=("-Wl,-z,now",))
    items = {"x": prog("libp.so", LIB), "y": prog("libp.so"), "usr/lib/libp.so": wants, f"usr/lib/{LIB}": file(versioned_lib(V1))}
    config = ImageConfig(cmd=("/x",), platform=Platform("linux", "amd64"))
    one, other, again = list_objects(config, [root(items)], paths=(b"/x", b"/y", b"/x"))
    assert (one.verdict, other.verdict, again.verdict) == (State.STARTS, State.FAILS, State.STARTS)
    assert other.error == "/y: symbol lookup error: /usr/lib/libp.so: undefined symbol: foo"


def test_ldd_finds_the_loader_that_a_library_names() -> None:
    found = listed({"x": prog(), "p.so": lib("p.so", "ld-linux-x86-64.so.2")}, "/p.so")
    assert found.needed == {"ld-linux-x86-64.so.2": "/lib64/ld-linux-x86-64.so.2"}  # type: ignore[attr-defined]


def test_ldd_of_a_program_for_another_machine_says_so() -> None:
    foreign = prog().content[:18] + b"\xb7\0" + prog().content[20:]
    found = listed({"x": prog(), "y": program(foreign)}, "/y")
    assert (found.verdict, found.error) == (State.FAILS, "exec format error")  # type: ignore[attr-defined]
