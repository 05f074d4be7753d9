"""Relocations in order, and symbols that only some lookups find, compared with what binutils' readelf says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from analyzers.elf import read_elf
from analyzers.elf.bindings import join_info, split_info
from analyzers.elf.layouts import layouts
from analyzers.facts import SymbolFacts, SymbolFlag
from analyzers.loader.symbols import relocation_runs
from tests.analyzers.elf_programs import TARGETS, Patch, library
from tests.make import elves
from tests.make.musl_elves import TEXTREL, lib, loader, main, stub
from tests.make.synthetic import (
    IFUNC,
    OBJECT,
    R_64,
    R_GLOB_DAT,
    R_JUMP_SLOT,
    R_RELATIVE,
    Elf,
    Relocation,
    Symbol,
    build,
)
from tests.oracle.musl_roots import needs_tools

_LINE = re.compile(rb"^[0-9a-f]{8,16}\s+[0-9a-f]{8,16}\s+R_\w+(?:\s+[0-9a-f]{8,16}\s+([^\s@]+))?", re.M)


def symbols(data: bytes) -> SymbolFacts:
    found = read_elf(data).symbols
    assert found is not None
    return found


def names(facts: SymbolFacts) -> list[bytes]:
    """The name of every relocation that can fail, in order; empty for the others."""
    known = [*(facts.import_names.split(b"\0") if facts.import_flags else []), *filter(None, facts.own_names.split(b"\0"))]
    return [known[run.symbol] if run.symbol >= 0 else b"" for run in relocation_runs(facts) for _ in range(run.times)]


def told_order(path: Path) -> list[bytes]:
    """Names by readelf, the PLT's section first; those that the file defines itself left empty."""
    shown = subprocess.run(["readelf", "-W", "-r", "--dyn-syms", path], capture_output=True, timeout=60, check=True).stdout
    undefined = set(re.findall(rb"\sUND ([^\s@]+)", shown))
    parts = re.split(rb"^Relocation section '", shown, flags=re.M)[1:]
    parts.sort(key=lambda part: not part.startswith((b".rela.plt", b".rel.plt")))
    found = [name for part in parts if not part.startswith(b".relr") for name in _LINE.findall(part)]
    return [name if name in undefined else b"" for name in found]


@pytest.mark.toolchain
@pytest.mark.parametrize("target", [target for target in TARGETS if not target.startswith("mips")])
def test_relocations_keep_the_order_of_the_file(target: str) -> None:
    """Both classes and byte orders, REL and RELA."""
    path = library(target)
    assert names(symbols(path.read_bytes())) == told_order(path)


@pytest.mark.toolchain
@pytest.mark.parametrize("target", [target for target in TARGETS if target.startswith("mips")])
def test_on_mips_the_global_got_comes_first(target: str) -> None:
    path = library(target)
    found = names(symbols(path.read_bytes()))
    assert found[-len(told_order(path)) :] == told_order(path)
    assert {b"wanted_call", b"only_called"} <= set(found[: -len(told_order(path))])


def test_relocations_of_a_big_library_keep_their_order() -> None:
    with needs_tools():
        data = elves.machine_library("libstdc++.so.6")
    facts = symbols(data)
    path = next(Path("/usr/lib").glob("*-linux-gnu/libstdc++.so.6"))
    own = set(filter(None, facts.own_names.split(b"\0")))
    assert [b"" if name in own else name for name in names(facts)] == told_order(path)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("little", [True, False])
def test_mips_relocations_are_put_together_as_they_are_taken_apart(bits: int, little: bool) -> None:
    layout = layouts(bits, little)
    assert split_info(join_info(1234, 127, layout), layout, 8) == (1234, 127)


def test_what_an_object_offers_itself_cannot_fail() -> None:
    made = build(
        Elf(
            symbols=(Symbol("f"), Symbol("g", defined=False)),
            relocations=(
                Relocation(R_JUMP_SLOT, "g"),
                Relocation(R_JUMP_SLOT, "f"),
                Relocation(R_64, "f"),
                Relocation(R_RELATIVE),
                Relocation(R_RELATIVE),
                Relocation(R_GLOB_DAT, "g"),
            ),
        )
    )
    facts = symbols(made)
    assert list(relocation_runs(facts)) == [(0, R_JUMP_SLOT, 1), (-1, R_JUMP_SLOT, 1), (-1, R_64, 1), (-1, R_RELATIVE, 2),
                                            (0, R_GLOB_DAT, 1)]  # fmt: skip
    assert facts.relocation_plt_runs == 2


@pytest.mark.parametrize(
    "symbol",
    [Symbol("f", type=IFUNC), Symbol("f", hidden_version=True), Symbol("f", type=OBJECT, absolute=0)],
    ids=["ifunc", "old version", "valueless"],
)
def test_what_an_object_defines_and_lookups_do_not_find_is_named(symbol: Symbol) -> None:
    facts = symbols(build(Elf(versions=True, symbols=(symbol,), relocations=(Relocation(R_64, "f"),))))
    assert facts.own_names == b"f"
    assert names(facts) == [b"f"]


def test_without_a_hash_table_nothing_is_found() -> None:
    facts = symbols(build(Elf(hashes="none", symbols=(Symbol("f"),), relocations=(Relocation(R_64, "f"),))))
    assert (facts.export_names, facts.own_names) == (b"", b"f")


def test_absolute_symbols_of_value_0_are_marked() -> None:
    facts = symbols(build(Elf(symbols=(Symbol("v", absolute=0), Symbol("w", absolute=7)))))
    flags = dict(zip(facts.export_names.split(b"\0"), facts.export_flags, strict=True))
    assert flags[b"v"] & SymbolFlag.VALUELESS
    assert not flags[b"w"] & SymbolFlag.VALUELESS


def test_addresses_of_plt_entries_are_offered_apart() -> None:
    with needs_tools():
        liba = lib("liba.so")
        pointing = main({"liba.so": liba}, "-no-pie", "-fno-pie", source=(
            "int liba(void); int main(void) { int (*volatile p)(void) = liba; return p(); }"))  # fmt: skip
        calling = main({"liba.so": liba}, "-no-pie", "-fno-pie")
    assert symbols(pointing.content).plt_names == b"liba"
    assert symbols(calling.content).plt_names == b""
    assert b"liba" not in symbols(pointing.content).export_names.split(b"\0")


def test_hidden_symbols_that_a_hash_table_reaches_are_offered_apart() -> None:
    facts = symbols(build(Elf(symbols=(Symbol("f", visibility=2), Symbol("g", visibility=3)))))
    assert facts.hidden_names == b"f"
    assert facts.export_names == b"g"


@pytest.mark.parametrize("limit", [2, 3])
def test_the_order_is_kept_up_to_a_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tuple(Symbol(name, defined=False) for name in "fgh")
    data = build(Elf(symbols=wanted, relocations=tuple(Relocation(R_64, each.name) for each in wanted)))
    monkeypatch.setattr("analyzers.elf.bindings.RUN_LIMIT", limit)
    result = read_elf(data)
    assert result.symbols is not None
    assert ("relocation-limit" in result.facts.defects) is (limit == 2)
    assert bool(result.symbols.relocation_counts) is (limit == 3)
    assert result.symbols.import_names == b"f\0g\0h"


def test_text_relocations_are_looked_for_where_they_are_announced() -> None:
    with needs_tools():
        written = main(None, "-fPIE", "-pie", "-Wl,-z,notext", source=TEXTREL).content
        plain = main(None, "-fPIE", "-pie").content
    assert read_elf(written).facts.text_relocations
    assert not read_elf(plain).facts.text_relocations
    patch = Patch(plain)  # DT_TEXTREL, as some linkers say without need
    assert not read_elf(patch.new_tags([(22, 0), *patch.tags()]).bytes()).facts.text_relocations


def test_musl_tells_its_path_file_and_gcompat_its_three_names() -> None:
    with needs_tools():
        musl, gcompat = loader("1.2.5").content, stub().content
    found = read_elf(musl).facts.loader
    assert found is not None
    assert (found.family, found.version, found.path_file) == ("musl", "1.2.5", b"/etc/ld-musl-x86_64.path")
    found = read_elf(gcompat).facts.loader
    assert found is not None
    assert (found.family, found.linker, found.preloaded, found.loader_name) == (
        "gcompat", b"/lib/ld-musl-x86_64.so.1", b"libgcompat.so.0", b"ld-linux-x86-64.so.2",
    )  # fmt: skip
