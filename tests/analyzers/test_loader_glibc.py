"""glibc's loader from facts: every case of tests/make/glibc_cases.py, and what the record of a load tells."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from analyzers.facts import Coverage, ElfFacts, LayerFacts, LoaderFacts, Segment, Unread
from analyzers.finding import Outcome, State, Step
from analyzers.loader.machines import legacy_directories, machine_of
from analyzers.oci import ImageConfig, Platform
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, Start, foretell_start
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.glibc_cache_cases import CACHES
from tests.make.glibc_cases import ABSENT, LIB, LOADER, Case, foretell, lib, prog, v
from tests.make.glibc_cases import elf as elf_of
from tests.make.glibc_command_cases import COMMANDS
from tests.make.glibc_loaders import RELEASES, loader_of, release_of
from tests.make.glibc_search_cases import SEARCH
from tests.make.glibc_start_cases import LIBC, MAPPING, PRELOADS, VERSIONS
from tests.make.glibc_symbol_cases import LAZY, SYMBOLS, V1, user_of
from tests.make.layers import file, folder
from tests.make.views import Item, elf, elf_facts, layer

CASES = (*SEARCH, *CACHES, *MAPPING, *PRELOADS, *VERSIONS, *SYMBOLS, *LIBC, *COMMANDS)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, release: str) -> None:
    try:
        loader = loader_of(release)
        if not case.holds(release_of(release)):
            pytest.skip("another release")
        start = foretell(case, loader)
    except ToolAbsent as error:
        absent(str(error))
    assert start.why_unknown == ""
    loaded = start.loaded
    assert loaded is not None
    lines = tuple(line.decode() for line in loaded.lines)
    assert (lines, loaded.crash, loaded.exit_code or 0) == (case.lines, case.crash, case.exit_code)
    assert start.state is (State.FAILS if case.exit_code or case.crash else State.STARTS)


# -- what was not seen --

MACHINE = "machine"


def start_of(*layers: LayerFacts, env: tuple[str, ...] = (), profile: HostProfile | None = None) -> Start:
    config = ImageConfig(cmd=("/x",), env=env, platform=Platform("linux", "amd64"))
    return foretell_start(Rootfs(layers), config, profile or HostProfile(), NO_OVERRIDES)


def with_loader(**items: Item) -> dict[str, Item]:
    try:
        return {LOADER: loader_of(MACHINE), **items}
    except ToolAbsent as error:
        absent(str(error))


def test_a_library_that_an_unread_part_may_hold_is_unknown() -> None:
    cut = layer({"a": "1"}, coverage=Coverage.PARTIAL, unread=(Unread(b"", "entry-limit"),))
    start = start_of(cut, layer(with_loader(x=prog(LIB))))
    assert start.state is State.UNKNOWN
    assert "which was not wholly read" not in start.why_unknown
    assert start.why_unknown.startswith("a layer that was not wholly read may hold /")


def test_a_library_that_was_not_read_is_unknown_never_missing() -> None:
    items = with_loader(x=prog(LIB, runpath="/a")) | {"a/libv.so": file("x" * 100)}
    start = start_of(layer(items, coverage=Coverage.PARTIAL, unread=(Unread(b"a/libv.so", "elf-too-large"),)))
    assert (start.state, start.why_unknown) == (State.UNKNOWN, "/a/libv.so was not wholly read")


def test_without_symbols_a_start_is_not_called_clean() -> None:
    image = layer(with_loader(x=prog()))
    image.symbols = None
    start = start_of(image)
    assert (start.state, start.why_unknown) == (State.UNKNOWN, "symbols were not read")


def test_what_is_certain_before_the_unread_part_stays_certain() -> None:
    items = with_loader(x=prog("libn1.so", "libn2.so")) | {"usr/lib/libn2.so": file("x" * 100)}
    start = start_of(layer(items, coverage=Coverage.PARTIAL, unread=(Unread(b"usr/lib/libn2.so", "elf-too-large"),)))
    assert start.message == b"/x: error while loading shared libraries: libn1.so: " + ABSENT.encode()


# -- the record --


def library_step(start: Start, wanted: str = LIB) -> Step:
    return next(step for step in start.steps if step.action == "library" and step.wanted == wanted)


def test_the_trail_tells_every_place_and_what_is_passed_over() -> None:
    items = with_loader(x=prog("liba.so", rpath="/a")) | {"a/liba.so": lib("liba.so", LIB, runpath="/r1:/r2"), "r2": folder()}
    step = library_step(start_of(layer(items), env=("LD_LIBRARY_PATH=/l",)))
    assert (step.by, step.ok) == ("/a/liba.so", False)
    told = [(each.origin, each.path, each.outcome, each.detail) for each in step.attempts]
    assert told[:4] == [
        ("DT_RPATH", "", Outcome.SKIPPED, "DT_RUNPATH is set"),
        ("LD_LIBRARY_PATH", "/l/libv.so", Outcome.ABSENT, "there is no /l"),
        ("DT_RUNPATH", "/r1/libv.so", Outcome.ABSENT, "there is no /r1"),
        ("DT_RUNPATH", "/r2/libv.so", Outcome.ABSENT, ""),
    ]
    assert told[4] == ("ld.so.cache", "", Outcome.SKIPPED, "/etc/ld.so.cache: absent")
    assert [origin for origin, *_ in told[5:]] == ["default directory"] * 4


def test_an_inherited_rpath_names_its_owner() -> None:
    items = with_loader(x=prog("liba.so", rpath="/a")) | {"a/liba.so": lib("liba.so", LIB), "a/libv.so": v()}
    step = library_step(start_of(layer(items)))
    assert [(each.origin, each.whose, each.path) for each in step.attempts] == [("DT_RPATH", "/x", "/a/libv.so")]
    assert step.layer == 0


def test_a_thousand_directories_leave_a_short_trail_that_ends_in_the_answer() -> None:
    path = ":".join(f"/d{index}" for index in range(200))
    start = start_of(layer(with_loader(x=prog(LIB)) | {"d199/libv.so": v()}), env=("LD_LIBRARY_PATH=" + path,))
    attempts = library_step(start).attempts
    assert start.state is State.STARTS
    assert len(attempts) == 65
    assert attempts[-1].path == "/d199/libv.so"
    assert attempts[-2].detail == "136 more places are not shown"


def test_a_process_of_1300_libraries_is_told_in_bounds() -> None:
    names = [f"lib{index}.so".encode() for index in range(1300)]
    facts = {
        name: elf_facts(dynamic=True, soname=name, needed=tuple(names[index + 1 : index + 9]), rpath=b"/0:/1:/2:/3")
        for index, name in enumerate(names)
    }
    items: dict[str, Item] = with_loader(x=elf(elf_facts(b"/" + LOADER.encode(), dynamic=True, needed=(names[0],), rpath=b"/l")))
    items |= {f"l/{name.decode()}": elf(_dynamic(each)) for name, each in facts.items()}
    items["x"] = elf(_dynamic(items["x"].elf))
    start = start_of(layer(items))
    assert start.loaded is not None
    assert len(start.loaded.objects) == 1301
    assert start.state is State.STARTS
    assert sum(len(step.attempts) for step in start.loaded.steps) < 6_000


def _dynamic(facts: ElfFacts | None) -> ElfFacts:
    """With the segment that says there is a dynamic section."""
    assert facts is not None
    return msgspec.structs.replace(facts, segments=(*facts.segments, Segment(2, 6, 0, 0, 16, 16, 8)))


# -- hosts and machines that are not at hand --

GLIBC_2_31 = LoaderFacts("glibc", "2.31", (b"/lib/", b"/usr/lib/"), b"/etc/ld.so.cache", b"/etc/ld.so.preload", b"lib")


def made_up(machine: int, library: ElfFacts, *, loader_flags: int = 0, bits: int = 64, platform: str, **more: object) -> Start:
    """A program of that machine that needs `libv.so`, in /lib."""
    loader = elf_facts(machine=machine, bits=bits, flags=loader_flags, loader=GLIBC_2_31, dynamic=True, soname=b"ld.so.1")
    app = _dynamic(elf_facts(b"/ld.so.1", machine=machine, bits=bits, dynamic=True, needed=(b"libv.so",)))
    config = ImageConfig(cmd=("/x",), platform=Platform("linux", platform))
    image = layer({"x": elf(app), "ld.so.1": elf(loader), "lib/libv.so": elf(library), **more})  # type: ignore[dict-item]
    return foretell_start(Rootfs([image]), config, HostProfile(), NO_OVERRIDES)


def library_of_machine(machine: int, **more: object) -> ElfFacts:
    return _dynamic(elf_facts(machine=machine, dynamic=True, soname=b"libv.so", **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platform", "machine", "bits", "loader_flags", "flags", "starts"),
    [
        ("arm", 40, 32, 0x5000400, 0x5000400, True),
        ("arm", 40, 32, 0x5000400, 0x5000000, True),
        ("arm", 40, 32, 0x5000400, 0x5000200, False),  # T114: Debian's loader passes it over
        ("ppc64le", 21, 64, 2, 2, True),
        ("ppc64le", 21, 64, 2, 0, True),
        ("ppc64le", 21, 64, 2, 1, False),
        ("riscv64", 243, 64, 5, 4, True),
        ("riscv64", 243, 64, 5, 0, False),
        ("loong64", 258, 64, 0x43, 0x43, True),
        ("arm64", 183, 64, 0, 0, True),
        ("s390x", 22, 64, 0, 0, True),
        ("mips64le", 8, 64, 0x80000400, 0x80000400, True),
        ("mips64le", 8, 64, 0x80000400, 0x80000000, False),
    ],
)
def test_t114_g32_flags_tell_whether_a_library_fits(
    platform: str, machine: int, bits: int, loader_flags: int, flags: int, starts: bool
) -> None:
    start = made_up(
        machine, library_of_machine(machine, flags=flags, bits=bits), loader_flags=loader_flags, bits=bits, platform=platform
    )
    assert start.state is (State.STARTS if starts else State.FAILS), start
    if not starts:
        assert start.message.endswith(b"libv.so: " + ABSENT.encode())


def test_t115_a_library_linked_for_small_pages_on_a_host_with_large_ones() -> None:
    shifted = msgspec.structs.replace(
        library_of_machine(183),
        segments=(Segment(1, 5, 0x1000, 0x1000, 64, 64, 4096), Segment(1, 6, 0x2000, 0x13000, 64, 64, 4096)),
    )
    newer = msgspec.structs.replace(GLIBC_2_31, version="2.36")
    loader = elf_facts(machine=183, loader=newer, dynamic=True, file_size=1 << 20)
    items = {
        "x": elf(_dynamic(elf_facts(b"/ld", machine=183, dynamic=True, needed=(b"libv.so",)))),
        "ld": elf(loader),
        "lib/libv.so": elf(msgspec.structs.replace(_dynamic(shifted), file_size=1 << 20)),
    }
    config = ImageConfig(cmd=("/x",), platform=Platform("linux", "arm64"))
    for page_size, ends in ((4096, False), (65536, True)):
        start = foretell_start(Rootfs([layer(items)]), config, HostProfile(page_size=page_size), NO_OVERRIDES)
        assert start.message.endswith(b"libv.so: ELF load command address/offset not page-aligned") is ends


@pytest.mark.parametrize(("kernel", "starts"), [((4, 4), False), ((4, 11), True), ((5, 10), True)])
def test_t116_up_to_2_35_a_library_for_a_newer_kernel_is_passed_over(kernel: tuple[int, int], starts: bool) -> None:
    tagged = library_of_machine(62, abi_tag=(0, 4, 11, 0))
    loader = elf_facts(loader=GLIBC_2_31, dynamic=True)
    app = _dynamic(elf_facts(b"/ld", dynamic=True, needed=(b"libv.so",)))
    config = ImageConfig(cmd=("/x",), platform=Platform("linux", "amd64"))
    image = layer({"x": elf(app), "ld": elf(loader), "lib/libv.so": elf(tagged)})
    start = foretell_start(Rootfs([image]), config, HostProfile(kernel=kernel), NO_OVERRIDES)
    assert start.state is (State.STARTS if starts else State.FAILS)


def test_g42_legacy_directories_come_in_the_order_of_the_loader() -> None:
    found = legacy_directories(machine_of(elf_facts()))
    assert found == [
        b"tls/x86_64/x86_64/", b"tls/x86_64/", b"tls/x86_64/", b"tls/", b"x86_64/x86_64/", b"x86_64/", b"x86_64/", b"",
    ]  # fmt: skip


def test_g41_only_levels_of_the_host_are_searched() -> None:
    items = with_loader(x=prog(LIB, runpath="/d")) | {"d/glibc-hwcaps/x86-64-v3/libv.so": v()}
    for level, state in ((4, State.STARTS), (3, State.STARTS), (2, State.FAILS), (1, State.FAILS)):
        assert start_of(layer(items), profile=HostProfile(x86_level=level)).state is state


def test_g51_a_loader_built_for_a_better_cpu() -> None:
    said = msgspec.structs.replace(GLIBC_2_31, version="2.34")
    image = layer(
        {"x": elf(_dynamic(elf_facts(b"/ld", dynamic=True))), "ld": elf(elf_facts(loader=said, dynamic=True, x86_isa_needed=3))}
    )
    start = start_of(image, profile=HostProfile(x86_level=1))
    assert (start.message, start.exit_code) == (b"Fatal glibc error: CPU does not support x86-64-v2", 127)
    assert start_of(image).state is State.STARTS


# -- bytes that nobody linked --


def test_no_bytes_of_a_program_library_or_loader_make_the_emulation_fail() -> None:
    library = elf_of("libw.so", shared=LIB, source="int foo(void) { return 1; } int bar, *p = &bar;", script=V1, runpath="/a")
    models = {
        "x": user_of(library),
        "a/libv.so": library,
        "a/libw.so": lib("libw.so", source=LAZY, runpath="$ORIGIN/../a").content,
    }
    loader = with_loader()[LOADER].content
    dice = random.Random(97)
    states = Counter[State]()
    for _ in range(400):
        items: dict[str, Item] = {name: file(content, 0o755) for name, content in models.items()}
        name = dice.choice([*models, *models, LOADER])
        data = bytearray(loader if name == LOADER else models[name])
        for _ in range(dice.randint(1, 6)):
            reach = len(data) if dice.random() < 0.3 else min(len(data), 0x1000)
            data[dice.randrange(reach)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        items[name] = file(bytes(data), 0o755)
        states[start_of(layer({LOADER: file(loader, 0o755), **items})).state] += 1
    assert states[State.FAILS] > 10
    assert states[State.STARTS] > 10
