"""execve from facts: what has no image in tests/make/starts.py, because it depends on the host."""

from __future__ import annotations

import msgspec
import pytest

from analyzers.accounts import Credentials
from analyzers.facts import ElfFacts, LayerFacts, Segment
from analyzers.kernel import Execution, execute
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from tests.make.starts import LD, TRUE, dynamic, nested, tiny
from tests.make.views import Item, capability, elf, elf_facts, file, layer, script

ROOT = Credentials(0, 0, (0,), True)
APP = Credentials(1000, 1000, (1000,), True)


def run(
    items: dict[str, Item | bytes | str] | LayerFacts,
    path: bytes = b"/x",
    argv: tuple[bytes, ...] = (),
    *,
    creds: Credentials = ROOT,
    architecture: str = "amd64",
    cwd: bytes = b"/",
    **profile: object,
) -> Execution:
    rootfs = Rootfs([items if isinstance(items, LayerFacts) else layer(items)])
    return execute(
        rootfs,
        path,
        argv or (path,),
        cwd=cwd,
        creds=creds,
        profile=HostProfile(**profile),  # type: ignore[arg-type]
        architecture=architecture,
    )


def test_k10_the_interpreter_gets_name_argument_script_and_the_rest() -> None:
    done = run({"x": script("#! /bin/sh  -a b\n"), "bin/sh": TRUE}, argv=(b"zero", b"one"))
    assert done.argv == (b"/bin/sh", b"-a b", b"/x", b"one")
    assert done.opened_as == b"/bin/sh"
    assert done.script is not None


def test_k10_nested_scripts_stack_their_names() -> None:
    done = run({**nested(2), "bin/true": TRUE}, b"/s0", (b"zero", b"one"))
    assert done.argv == (b"/bin/true", b"/s1", b"/s0", b"one")


def test_k12_old_kernels_take_one_page_of_headers() -> None:
    image: dict[str, Item | bytes | str] = {"x": Item(content=tiny(extra_headers=73), mode=0o755)}
    assert run(image, kernel=(5, 10)).error == "ENOEXEC"
    assert run(image, kernel=(6, 18)).error == ""


@pytest.mark.parametrize("architecture", ["riscv64", "s390x"])
def test_k13_some_machines_do_look_at_the_class(architecture: str) -> None:
    machine = {"riscv64": 243, "s390x": 22}[architecture]
    good = elf_facts(machine=machine, little=architecture == "riscv64")
    bad = elf_facts(machine=machine, bits=32, phentsize=56, little=architecture == "riscv64")
    assert run({"x": elf(good)}, architecture=architecture).error == ""
    assert run({"x": elf(bad)}, architecture=architecture).error == "ENOEXEC"


def test_k14_only_the_first_interp_counts_and_is_opened_from_the_working_directory() -> None:
    done = run({"x": dynamic(b"ld"), "d/ld": LD}, cwd=b"/d")
    assert done.interp is not None
    assert (done.interp.path, done.interp_name) == (b"d/ld", b"ld")


def segments(facts: ElfFacts, **changes: int) -> ElfFacts:
    load = msgspec.structs.replace(facts.segments[-1], **changes)
    return msgspec.structs.replace(facts, segments=(*facts.segments[:-1], load))


@pytest.mark.parametrize(
    ("facts", "signal"),
    [
        (segments(elf_facts(), filesz=9000, memsz=9000), "SIGBUS"),
        (segments(elf_facts(), filesz=9000, memsz=9999, flags=6), "SIGSEGV"),
        (segments(elf_facts(), filesz=100, memsz=10), "SIGSEGV"),
        (segments(elf_facts(), vaddr=8), "SIGSEGV"),
    ],
)
def test_k17_segments_that_cannot_be_mapped_kill_the_process(facts: ElfFacts, signal: str) -> None:
    assert run({"x": elf(facts)}).crash == signal


def test_k17_what_follows_a_segment_is_cleared_before_anything_runs() -> None:
    """The first segment that is cut would be SIGBUS; clearing behind the last comes before it is touched."""
    facts = elf_facts()
    first = msgspec.structs.replace(facts.segments[0], filesz=9000, memsz=9000)
    last = Segment(1, 6, 12288, 16384, 100, 300, 4096)
    assert run({"x": elf(msgspec.structs.replace(facts, segments=(first, last)))}).crash == "SIGSEGV"
    whole_pages = Segment(1, 6, 12288, 16384, 4096, 9000, 4096)
    assert run({"x": elf(msgspec.structs.replace(facts, segments=(first, whole_pages)))}).crash == "SIGBUS"


@pytest.mark.parametrize("odd", [{"needed": (b"libc.so.6",)}, {"interp": b"/lib/ld.so"}, {"entry": 0}])
def test_k17_an_interpreter_that_can_be_no_loader_crashes(odd: dict[str, object]) -> None:
    done = run({"x": dynamic(b"/ld"), "ld": elf(elf_facts(**odd))})  # type: ignore[arg-type]
    assert (done.crash, done.cause) == ("SIGSEGV", "elf.interpreter-unusable")


def test_k18_a_library_that_returns_into_nothing_crashes() -> None:
    assert run({"x": elf(elf_facts(soname=b"liba.so"))}).crash == "SIGSEGV"
    assert run({"x": elf(elf_facts(soname=b"liba.so", dt_flags_1=0x08000000))}).crash == ""


@pytest.mark.parametrize(
    ("architecture", "machine", "bits", "profile", "error"),
    [
        ("amd64", 3, 32, {}, ""),
        ("amd64", 3, 32, {"ia32": False}, "ENOEXEC"),
        ("amd64", 62, 32, {}, "ENOEXEC"),
        ("386", 3, 32, {}, ""),
        ("386", 62, 64, {}, ""),
        ("386", 3, 32, {"host_architecture": "amd64"}, ""),
        ("386", 3, 32, {"host_architecture": "amd64", "ia32": False}, "ENOEXEC"),
        ("arm64", 183, 64, {}, ""),
        ("arm64", 40, 32, {}, "ENOEXEC"),
        ("arm64", 40, 32, {"aarch32": True}, ""),
        ("arm", 40, 32, {}, ""),
        ("arm", 40, 32, {"host_architecture": "arm64"}, "ENOEXEC"),
        ("ppc64le", 21, 64, {}, ""),
        ("ppc64le", 62, 64, {}, "ENOEXEC"),
        ("amd64", 183, 64, {}, "ENOEXEC"),
        ("arm64", 183, 64, {"host_architecture": "amd64"}, "ENOEXEC"),
        ("nonsense", 62, 64, {}, "ENOEXEC"),
    ],
)
def test_t39_t40_k20_machines_that_a_host_takes(
    architecture: str, machine: int, bits: int, profile: dict[str, object], error: str
) -> None:
    image: dict[str, Item | bytes | str] = {"x": elf(elf_facts(machine=machine, bits=bits))}
    assert run(image, architecture=architecture, **profile).error == error


def test_k21_a_foreign_program_is_named_as_such() -> None:
    assert run({"x": elf(elf_facts(machine=183))}).cause == "elf.wrong-architecture"


def test_k22_an_emulated_architecture_runs_where_the_host_has_a_handler() -> None:
    image: dict[str, Item | bytes | str] = {"x": elf(elf_facts(machine=183))}
    profile = {"host_architecture": "amd64", "emulated": ("arm64",)}
    assert run(image, architecture="arm64", **profile).emulated


@pytest.mark.parametrize(
    ("item", "creds", "secure"),
    [
        (elf(elf_facts(), mode=0o4755), APP, True),
        (elf(elf_facts(), mode=0o4755), ROOT, False),
        (elf(elf_facts(), mode=0o4755, uid=1000), ROOT, True),
        (elf(elf_facts(), mode=0o2755), APP, True),
        (elf(elf_facts(), mode=0o2745), APP, False),
        (elf(elf_facts(), mode=0o2755, gid=1000), APP, False),
        (elf(elf_facts(), capability=capability()), APP, True),
        (elf(elf_facts(), capability=capability()), ROOT, False),
        (elf(elf_facts()), APP, False),
    ],
)
def test_k23_raised_privilege_is_secure_mode(item: Item, creds: Credentials, secure: bool) -> None:
    assert run({"x": item}, creds=creds).secure is secure


def test_k23_set_id_bits_of_scripts_are_ignored_and_those_of_interpreters_count() -> None:
    assert not run({"x": script("#!/i\n", 0o4755), "i": elf(elf_facts())}, creds=APP).secure
    assert run({"x": script("#!/i\n"), "i": elf(elf_facts(), mode=0o4755)}, creds=APP).secure


def test_c13_after_the_exec_only_root_keeps_its_capabilities() -> None:
    image: dict[str, Item | bytes | str] = {"x": elf(elf_facts())}
    assert run(image, creds=ROOT).creds.dac_override
    assert not run(image, creds=APP).creds.dac_override
    assert run({"x": elf(elf_facts(), mode=0o4755)}, creds=APP).creds == Credentials(0, 1000, (1000,), True)


def test_k23_capabilities_outside_the_bounding_set_stop_root_too() -> None:
    assert run({"x": elf(elf_facts(), capability=capability(1 << 21))}).error == "EPERM"


def test_malformed_capabilities_count_for_nothing() -> None:
    assert run({"x": elf(elf_facts(), capability=b"\1\0")}).error == ""


def test_k01_only_regular_files_run() -> None:
    assert run({"x": file("text")}).error == "EACCES"
    assert run({"y": file("text")}).error == "ENOENT"
