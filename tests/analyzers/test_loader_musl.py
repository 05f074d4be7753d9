"""musl's loader and gcompat foretold: every case of tests/make/musl_cases.py, and what needs no real loader to be right.

The second part is made without any compiler (tests/analyzers/musl_starts.py).
"""

from __future__ import annotations

import msgspec
import pytest

from analyzers.accounts import Credentials
from analyzers.facts import Coverage, Kind, LoaderFacts, Segment, Unread
from analyzers.finding import Reason, State
from analyzers.loader.musl_binding import MAX_LINES, large_file_name, parse_version
from analyzers.loader.musl_search import SHOWN_ATTEMPTS, split_preload
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, foretell_start
from tests.analyzers.musl_starts import LOADER, ROOT, USER, calling, library, main, musl, root, started, tried
from tests.make.layers import fifo, program, tar_of
from tests.make.musl_cases import Case, root_of
from tests.make.musl_elves import RELEASES
from tests.make.musl_glibc_cases import CASES
from tests.make.synthetic import (
    R_64,
    R_COPY,
    R_GLOB_DAT,
    R_IRELATIVE,
    R_RELATIVE,
    R_TLSDESC,
    TLS,
    WEAK,
    Elf,
    Relocation,
    Symbol,
    build,
)
from tests.make.views import Item, capability, elf, elf_facts, file, layer, symlink
from tests.oracle.musl_roots import config_of, foretell, musl_layer, needs_tools, predicted, read_layer


@pytest.mark.parametrize(
    ("case", "release"),
    [(case, release) for case in CASES for release in RELEASES if release == "1.2.5" or case.older is not None],
    ids=lambda value: value if isinstance(value, str) else value.id,
)
def test_case(case: Case, release: str) -> None:
    with needs_tools():
        below = [] if case.bare else [musl_layer(release).facts]
        own = read_layer(tar_of(root_of(case, release)))
    start = foretell([*below, own], config_of(case.cmd, case.env, case.user, case.working_dir), proc=case.proc)
    ended = predicted(start)
    assert (ended.lines, ended.exit_code, ended.signal) == case.expected(release)
    assert (start.loaded is not None and start.loaded.reason is None) == (start.state is State.STARTS)


# -- without a compiler --


# what is missing, and why


@pytest.mark.parametrize(
    ("items", "creds", "reason"),
    [
        ({}, ROOT, Reason.LIBRARY_ABSENT),
        ({"lib/liba.so": file(build(Elf()), 0o600)}, USER, Reason.PERMISSION),
        ({"lib/liba.so": file("text" * 40)}, ROOT, Reason.OTHER),
        ({"lib/liba.so": elf(elf_facts(machine=3, bits=32))}, ROOT, Reason.ARCHITECTURE),
        ({"lib/liba.so": elf(elf_facts(machine=22, little=False))}, ROOT, Reason.ARCHITECTURE),
    ],
)
def test_the_reason_of_a_missing_library(items: dict[str, Item], creds: Credentials, reason: Reason) -> None:
    result = started(root({"app/main": main("liba.so", **calling("f")), **items}), creds=creds)
    assert (result.ok, result.exit_code) == (False, 127)
    assert (result.reason, result.wanted, result.wanted_by) == (reason, b"liba.so", b"/app/main")
    assert result.unbound == (("/app/main", "f", ""),)


def test_the_reason_of_a_missing_symbol() -> None:
    result = started(root({"app/main": main("libc.so", **calling("f"))}))
    assert (result.reason, result.wanted, result.wanted_by) == (Reason.SYMBOL, b"f", b"/app/main")


def test_a_foreign_library_is_a_matter_of_architecture() -> None:
    foreign = library(
        machine=183, symbols=(Symbol("f"),), relocations=(Relocation(1027), Relocation(1027), Relocation(1025, "f"))
    )
    result = started(root({"app/main": main("liba.so", **calling("f")), "lib/liba.so": foreign}))
    assert result.reason is Reason.ARCHITECTURE
    assert result.lines == (
        b"Error relocating /lib/liba.so: unsupported relocation type 1027",
        b"Error relocating /lib/liba.so: unsupported relocation type 1027",
        b"Error relocating /lib/liba.so: unsupported relocation type 1025",
    )


def test_so_many_lines_are_kept() -> None:
    many = tuple(Relocation(R_64, "f") for _ in range(MAX_LINES + 100))
    result = started(root({"app/main": main(symbols=(Symbol("f", defined=False),), relocations=many)}))
    assert len(result.lines) == MAX_LINES
    assert result.unbound == (("/app/main", "f", ""),)


def test_so_many_missing_libraries_are_told() -> None:
    missing = tuple(f"l{number}" for number in range(MAX_LINES - 1000))
    result = started(root({"app/main": main("liba.so", *missing, **calling("f")), "lib/liba.so": library(*missing)}))
    assert len(result.lines) == MAX_LINES
    assert len(result.steps) <= MAX_LINES + SHOWN_ATTEMPTS
    assert result.wanted == b"l0"


def test_a_fifo_is_waited_for_for_ever() -> None:
    result = started(root({"app/main": main("liba.so"), "lib/liba.so": fifo()}))
    assert (result.ok, result.lines, result.exit_code, result.crash) == (False, (), None, "")


def test_a_device_of_the_image_may_not_be_opened() -> None:
    item = Item(Kind.CHARACTER_DEVICE, mode=0o666)
    result = started(root({"app/main": main("/x/dev"), "x/dev": item}))
    assert result.lines == (b"Error loading shared library /x/dev: Operation not permitted (needed by /app/main)",)


def test_t107_file_capabilities_make_a_program_secure_but_not_for_root() -> None:
    items = {"app/main": program(main("liba.so").content, capability=capability()), "x/liba.so": library()}
    for user, state in (("1000", State.FAILS), ("", State.STARTS)):
        config = config_of(("/app/main",), ("LD_LIBRARY_PATH=/x",), user)
        assert foretell_start(Rootfs([root(items)]), config, HostProfile(), NO_OVERRIDES).state is state


# what cannot be decided


def test_a_layer_that_was_not_wholly_read_may_hold_the_library() -> None:
    whole = root({"app/main": main("liba.so"), "usr/lib/liba.so": library()})
    result = started(whole, layer({}, coverage=Coverage.PARTIAL))
    assert (result.ok, result.lines, result.exit_code, result.reason) == (None, (), None, None)
    assert "not wholly read may hold" in result.unknown


@pytest.mark.parametrize("path", ["lib/liba.so", "etc/ld-musl-x86_64.path", "app/main", LOADER[1:]])
def test_a_file_that_was_not_read_decides_nothing(path: str) -> None:
    items = {"app/main": main("liba.so"), "lib/liba.so": library(), "etc/ld-musl-x86_64.path": file("/lib")}
    facts = layer({LOADER[1:]: musl(), **items}, unread=(Unread(path.encode(), "text-too-large"),))
    facts.texts.pop(path.encode(), None)
    result = started(facts)
    assert result.ok is None
    assert path in result.unknown


def test_symbols_that_were_not_asked_for_decide_nothing() -> None:
    facts = root({"app/main": main("liba.so"), "lib/liba.so": library()})
    facts.symbols = None
    result = started(facts)
    assert result.ok is None
    assert "symbols" in result.unknown


@pytest.mark.parametrize(("place", "value"), [(4, 1), (5, 2)])
def test_a_file_that_lies_about_its_class_or_byte_order_decides_nothing(place: int, value: int) -> None:
    content = bytearray(library().content)
    content[place] = value
    result = started(root({"app/main": main("liba.so"), "lib/liba.so": file(bytes(content))}))
    assert result.ok is None
    assert "class or byte order" in result.unknown


def test_a_hostile_number_of_places_is_not_looked_at() -> None:
    directories = ":".join(f"/d{number}" for number in range(2000))
    items = {"app/main": main(*(f"l{number}.so" for number in range(200)), rpath=directories)}
    result = started(root(items))
    assert result.ok is None
    assert "places" in result.unknown


def test_an_unknown_architecture_is_not_guessed_at() -> None:
    strange = build(Elf(interp=LOADER, machine=999))
    result = started(layer({LOADER[1:]: musl(machine=999), "app/main": program(strange)}))
    assert result.ok is None
    assert "architecture" in result.unknown


def test_a_silent_stub_decides_nothing() -> None:
    stub = elf(elf_facts(loader=LoaderFacts("gcompat")))
    result = started(layer({LOADER[1:]: stub, "app/main": main()}))
    assert result.ok is None
    assert "which loader" in result.unknown


def test_relr_without_constructors_is_undecided_before_1_2_4() -> None:
    facts = elf_facts(dynamic=True, has_gnu_hash=True, has_relr=True)
    moved = msgspec.structs.replace(facts, segments=(*facts.segments, Segment(2, 6, 512, 512, 64, 64, 8)))
    for version, ok in (("1.2.3", None), ("1.2.4", True)):
        result = started(root({"app/main": main("liba.so"), "lib/liba.so": elf(moved)}, version))
        assert result.ok is ok


# pages, releases, architectures


def test_small_pages_do_not_fit_a_kernel_of_large_ones() -> None:
    items = {"app/main": main("liba.so"), "lib/liba.so": elf(elf_facts(segments=()))}
    shifted = elf_facts(dynamic=True, has_gnu_hash=True)
    segment = shifted.segments[0]
    segments = (msgspec.structs.replace(segment, vaddr=0x11000, offset=0x1000), Segment(2, 6, 0x1000, 0x11000, 64, 64, 8))
    items["lib/liba.so"] = elf(msgspec.structs.replace(shifted, segments=segments, file_size=0x3000))
    assert started(root(items)).ok is True
    assert started(root(items), profile=HostProfile(page_size=65536)).ok is True
    odd = (msgspec.structs.replace(segment, vaddr=0x12000, offset=0x1000), Segment(2, 6, 0x1000, 0x12000, 64, 64, 8))
    items["lib/liba.so"] = elf(msgspec.structs.replace(shifted, segments=odd, file_size=0x3000))
    assert started(root(items)).ok is True
    assert started(root(items), profile=HostProfile(page_size=65536)).crash == "SIGSEGV"


@pytest.mark.parametrize(
    ("name", "version", "plain"),
    [
        (b"open64", (1, 2, 5), b"open"),
        (b"__fxstatat64", (1, 2, 4), b"__fxstatat"),
        (b"readdir64_r", (1, 2, 5), b"readdir_r"),
        (b"posix_fadvise64", (1, 2, 5), b"posix_fadvise"),
        (b"posix_fallocate64", (1, 2, 5), b""),
        (b"posix_fallocate64", (1, 2, 6), b"posix_fallocate"),
        (b"atoi64", (1, 2, 6), b""),
        (b"open", (1, 2, 6), b""),
        (b"64", (1, 2, 6), b""),
    ],
)
def test_m25_large_file_names(name: bytes, version: tuple[int, ...], plain: bytes) -> None:
    assert large_file_name(name, version) == plain


@pytest.mark.parametrize(
    ("text", "version"), [("1.2.5", (1, 2, 5)), ("1.2.5-git-12-gabc", (1, 2, 5)), ("", ()), ("1.x", (1,)), ("1.1.24", (1, 1, 24))]
)
def test_releases_are_read_as_numbers(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b" a:b\tc\n", [b"a", b"b", b"c", b""]),
        (b":", [b""]),
        (b"a::b", [b"a", b"b"]),
    ],
)
def test_m29_preloads_are_split_at_white_space_and_colons(value: bytes, names: list[bytes]) -> None:
    assert list(split_preload(value)) == names


@pytest.mark.parametrize(
    ("machine", "bits", "little", "flags", "name"),
    [
        (62, 64, True, 0, "x86_64"),
        (183, 64, True, 0, "aarch64"),
        (40, 32, True, 0x05000400, "armhf"),
        (40, 32, True, 0x05000200, "arm"),
        (21, 64, True, 2, "powerpc64le"),
        (22, 64, False, 0, "s390x"),
    ],
)
def test_m06_the_path_file_is_named_after_the_architecture(machine: int, bits: int, little: bool, flags: int, name: str) -> None:
    """Where the loader's file does not tell, as one of another name."""
    facts = elf_facts(
        b"/ld", machine=machine, bits=bits, little=little, dynamic=True, has_gnu_hash=True, needed=(b"liba.so",), type=2
    )
    items = {
        "ld": musl(machine=machine, bits=bits, little=little, flags=flags),
        "app/main": elf(facts),
        f"etc/ld-musl-{name}.path": file("/x"),
    }
    result = started(layer(items), interp="/ld")
    assert [each[1] for each in tried(result, "liba.so")] == ["/x/liba.so"]


@pytest.mark.parametrize(
    ("machine", "version", "kind", "known"),
    [
        (243, "1.2.4", 12, False),
        (243, "1.2.5", 12, True),
        (258, "1.2.5", 14, False),
        (258, "1.2.6", 14, True),
        (243, "1.2.5", 58, False),
        (183, "1.2.5", 1031, True),
        (183, "1.2.5", 1032, False),
        (21, "1.2.5", 43, True),
        (22, "1.2.5", 61, False),
    ],
)
def test_m26_relocation_types_by_architecture_and_release(machine: int, version: str, kind: int, known: bool) -> None:
    program_of = build(Elf(interp=LOADER, machine=machine, relocations=(Relocation(kind),)))
    result = started(layer({LOADER[1:]: musl(version, machine=machine), "app/main": program(program_of)}))
    assert result.ok is known
    assert known or result.lines == (b"Error relocating /app/main: unsupported relocation type %d" % kind,)


def test_a_program_below_proc_goes_by_its_first_argument() -> None:
    result = started(root({"app/main": main("liba.so")}), execfn=b"/proc/self/fd/3")
    assert result.lines == (b"Error loading shared library liba.so: No such file or directory (needed by main)",)


def test_a_library_is_listed_as_musls_own_command_would() -> None:
    """Without PT_INTERP nothing was mapped by the kernel: $ORIGIN is that of the path given."""
    items = {"x/liba.so": library("libb.so", runpath="$ORIGIN"), "l.so": symlink("/x/liba.so"), "libb.so": library()}
    assert started(root({**items, "l/liba.so": symlink("/x/liba.so"), "l/libb.so": library()}), path="/l/liba.so").ok is True
    assert started(root(items), path="/x/liba.so").ok is False


def test_relocations_that_were_not_kept_are_made_up_for() -> None:
    """Which symbols are wanted is known even where their order is not."""
    facts = root({"app/main": main(**calling("f")), "lib/liba.so": library()})
    assert facts.symbols is not None
    for digest, symbols in facts.symbols.items():
        facts.symbols[digest] = msgspec.structs.replace(
            symbols, relocation_counts=b"", relocation_symbols=b"", relocation_kind_indexes=b""
        )
    assert started(facts).lines == (b"Error relocating /app/main: f: symbol not found",)


def test_a_weak_function_may_stay_unbound_and_a_weak_thread_local_may_not() -> None:
    assert started(root({"app/main": main(**calling("f", bind=WEAK))})).ok is True
    weak = Symbol("t", defined=False, bind=WEAK, type=TLS)
    result = started(root({"app/main": main(symbols=(weak,), relocations=(Relocation(R_TLSDESC, "t"),))}))
    assert result.crash == "SIGSEGV"
    assert any("thread-local t" in step.attempts[0].detail for step in result.steps)


def test_a_copy_is_not_looked_for_in_the_program_itself() -> None:
    copied = main("liba.so", symbols=(Symbol("v"),), relocations=(Relocation(R_COPY, "v"), Relocation(R_GLOB_DAT, "v")))
    assert started(root({"app/main": copied, "lib/liba.so": library(symbols=(Symbol("v"),))})).ok is True
    assert started(root({"app/main": copied, "lib/liba.so": library()})).lines == (
        b"Error relocating /app/main: v: symbol not found",
    )


def test_relative_relocations_cost_nothing_and_irelative_ones_fail() -> None:
    assert started(root({"app/main": main(relocations=(Relocation(R_RELATIVE),) * 3)})).ok is True
    result = started(root({"app/main": main(relocations=(Relocation(R_IRELATIVE),) * 2)}))
    assert result.lines == (b"Error relocating /app/main: unsupported relocation type 37",) * 2
    assert result.reason is Reason.OTHER
