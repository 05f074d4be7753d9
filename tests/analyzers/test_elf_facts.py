"""What is read from an ELF file, compared with what binutils says of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from analyzers.elf import read_elf
from analyzers.facts import SymbolFlag
from tests.analyzers import elf_programs as programs
from tests.analyzers.elf_programs import TARGETS, compiled, exports, imports, library, told
from tests.conftest import absent

LIBRARIES = sorted(Path("/lib/x86_64-linux-gnu").glob("lib[a-d]*.so.[0-9]"))[:60] + sorted(Path("/usr/bin").glob("[l-m]*"))[:60]
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
HELLO = '#include <stdio.h>\nint main(int count, char **words) { printf("%d %s\\n", count, words[0]); return 0; }\n'


def agree(path: Path) -> None:
    facts, symbols, *_ = read_elf(path.read_bytes())
    said = told(path)
    assert list(facts.needed) == said.needed
    assert [facts.soname] * (facts.soname is not None) == said.soname
    if symbols is None:
        assert not said.imports
        return
    wanted = [symbol for symbol in imports(symbols) if not symbol.flags & SymbolFlag.COPY]
    assert {(symbol.name, symbol.version) for symbol in wanted} == said.imports
    copied = {symbol.name for symbol in imports(symbols) if symbol.flags & SymbolFlag.COPY}
    assert copied == said.copy
    # readelf leaves out the version of a symbol that is named like it (`LIBX_1@@LIBX_1`).
    offered = {
        (symbol.name, b"" if symbol.name == symbol.version else symbol.version)
        for symbol in exports(symbols)
        if symbol.name not in copied
    }
    unversioned = {(name, b"" if name == version else version) for name, version, _ in said.exports if name not in copied}
    assert offered == unversioned
    own = {definition.version for definition in facts.verdef}
    hidden = {(symbol.name, symbol.version) for symbol in exports(symbols) if symbol.flags & SymbolFlag.HIDDEN_VERSION}
    assert hidden == {(name, version) for name, version, mark in said.exports if mark and version in own}


def machine_files() -> list[Path]:
    found = []
    for path in LIBRARIES:
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                found.append(path)
    return found


def test_libraries_and_programs_of_this_machine_read_as_readelf_reads_them() -> None:
    files = machine_files()
    if not files:
        pytest.skip("no ELF files where this test looks")
    for path in files:
        agree(path)


@pytest.mark.toolchain
@pytest.mark.parametrize("target", TARGETS)
def test_every_class_byte_order_and_machine_reads_as_readelf_reads_it(target: str) -> None:
    path = library(target)
    agree(path)
    facts, symbols, missed, unread = read_elf(path.read_bytes())
    assert (facts.defects, missed, unread) == ((), (), "")
    offered = {symbol.name: symbol.flags for symbol in exports(symbols)}
    assert set(offered) >= {b"offered", b"offered_data", b"offered_tls", b"offered_weak", b"guarded"}
    assert b"secret" not in offered
    assert offered[b"offered_tls"] & SymbolFlag.TLS
    assert offered[b"offered_weak"] & SymbolFlag.WEAK


@pytest.mark.toolchain
@pytest.mark.parametrize("target", TARGETS)
def test_only_plain_calls_wait_for_the_first_call(target: str) -> None:
    """G52: data, function pointers and thread-local storage are bound before the entry point."""
    path = library(target)
    said = told(path)
    wants = {symbol.name: symbol.flags for symbol in imports(read_elf(path.read_bytes()).symbols)}
    assert wants[b"wanted_data"] & SymbolFlag.START
    assert wants[b"wanted_call"] & SymbolFlag.START
    assert wants[b"wanted_tls"] & SymbolFlag.START
    assert wants[b"weak_call"] & SymbolFlag.WEAK
    assert {name for name, flags in wants.items() if flags & SymbolFlag.CALL} == said.call & wants.keys()
    if "mips" not in target:  # there the global GOT binds symbols without a relocation
        assert {name for name, flags in wants.items() if flags & SymbolFlag.START} == said.start & wants.keys()
        assert wants[b"only_called"] & (SymbolFlag.CALL | SymbolFlag.START) == SymbolFlag.CALL


@pytest.mark.toolchain
@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_both_kinds_of_hash_table_reach_the_same_symbols(style: str) -> None:
    facts, symbols, *_ = read_elf(library("x86_64-linux-gnu", programs.SOURCE, f"-Wl,--hash-style={style}").read_bytes())
    assert (facts.has_sysv_hash, facts.has_gnu_hash) == (style != "gnu", style != "sysv")
    names = {symbol.name for symbol in exports(symbols)}
    assert names == {b"offered", b"offered_data", b"offered_tls", b"offered_weak", b"guarded", b"pointer", b"call_pointer"}


@pytest.mark.toolchain
def test_a_program_linked_for_glibc_2_28_wants_nothing_newer() -> None:
    path = compiled("x86_64-linux-gnu.2.28", HELLO)
    agree(path)
    facts = read_elf(path.read_bytes()).facts
    assert facts.interp == b"/lib64/ld-linux-x86-64.so.2"
    assert facts.interp_terminated
    assert facts.interp_size == len(facts.interp) + 1
    assert b"libc.so.6" in facts.needed
    assert facts.abi_tag is None or facts.abi_tag[0] == 0
    wanted = {need.version for need in facts.verneed if need.file == b"libc.so.6"}
    assert wanted
    assert all(tuple(map(int, version.removeprefix(b"GLIBC_").split(b"."))) <= (2, 28) for version in wanted)


@pytest.mark.toolchain
def test_hidden_and_default_versions_of_one_name_are_told_apart(tmp_path: Path) -> None:
    script = tmp_path / "versions.map"
    script.write_text("V1 { global: thing; local: *; };\nV2 { global: thing; } V1;\nV3 { global: thing; other; } V2;\n")
    source = """
    __asm__(".symver thing1,thing@V1"); __asm__(".symver thing2,thing@V2"); __asm__(".symver thing3,thing@@V3");
    int thing1(void) { return 1; } int thing2(void) { return 2; } int thing3(void) { return 3; } int other(void) { return 4; }
    """
    path = library("x86_64-linux-gnu", source, f"-Wl,--version-script={script}")
    facts, symbols, *_ = read_elf(path.read_bytes())
    assert [(item.version, item.base) for item in facts.verdef][1:] == [(b"V1", False), (b"V2", False), (b"V3", False)]
    assert facts.verdef[0].base
    things = {symbol.version: symbol.flags for symbol in exports(symbols) if symbol.name == b"thing"}
    assert things[b"V1"] & SymbolFlag.HIDDEN_VERSION
    assert things[b"V1"] & SymbolFlag.LOW_INDEX
    assert things[b"V2"] & SymbolFlag.HIDDEN_VERSION
    assert not things[b"V2"] & SymbolFlag.LOW_INDEX
    assert not things[b"V3"] & SymbolFlag.HIDDEN_VERSION


@pytest.mark.toolchain
def test_run_paths_flags_and_lists_are_read_as_written() -> None:
    path = "-Wl,-rpath,/a:$ORIGIN/b"
    facts = read_elf(library("x86_64-linux-gnu", programs.SOURCE, path, "-Wl,-z,now").read_bytes()).facts
    assert (facts.runpath, facts.rpath) == (b"/a:$ORIGIN/b", None)
    assert facts.dt_flags_1 & 1
    assert facts.soname == b"libx.so.1"
    assert facts.gnu_stack_executable is False
    assert facts.tls is not None
    old = read_elf(library("x86_64-linux-gnu", programs.SOURCE, path, "-Wl,--disable-new-dtags").read_bytes()).facts
    assert (old.runpath, old.rpath) == (None, b"/a:$ORIGIN/b")


def test_relative_relocations_are_named_by_their_tag_alone(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        absent("no gcc")
    code = tmp_path / "relr.c"
    code.write_text("static int a; int *p[64] = {&a, &a, &a}; int f(void) { return *p[0]; }")
    made = tmp_path / "librelr.so"
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,-z,pack-relative-relocs", str(code), "-o", str(made)]
    if subprocess.run(command, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("this linker has no RELR")
    facts = read_elf(made.read_bytes()).facts
    assert facts.has_relr
    assert facts.defects == ()


@pytest.mark.skipif(not LOADER.exists(), reason="no glibc loader here")
def test_glibc_loader_tells_its_directories_cache_and_release() -> None:
    """G2, compared with the loader's own dump."""
    loader = read_elf(LOADER.read_bytes()).facts.loader
    assert loader is not None
    out = subprocess.run([str(LOADER), "--list-diagnostics"], capture_output=True, timeout=20, check=False).stdout.decode()
    said = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    directories = [value.strip('"').encode() for key, value in said.items() if key.startswith("path.system_dirs[")]
    assert loader.family == "glibc"
    assert list(loader.system_dirs) == directories
    assert loader.lib_token == said["dl_dst_lib"].strip('"').encode()
    assert loader.version == said["version.version"].strip('"')
    assert loader.cache_path == said["path.sysconfdir"].strip('"').encode() + b"/ld.so.cache"
    assert loader.preload_path == b"/etc/ld.so.preload"


@pytest.mark.skipif(not LIBC.exists(), reason="no glibc here")
def test_libc_tells_its_release_and_is_no_loader() -> None:
    facts = read_elf(LIBC.read_bytes()).facts
    loader = read_elf(LOADER.read_bytes()).facts.loader
    assert loader is not None
    assert facts.libc_version == loader.version
    assert facts.loader is None
    assert facts.exports_libc_start


def test_musl_tells_its_version_whatever_its_name() -> None:
    path = Path("/lib/ld-musl-x86_64.so.1")
    if not path.exists():
        absent("no musl")
    facts = read_elf(path.read_bytes()).facts
    assert facts.loader is not None
    assert facts.loader.family == "musl"
    said = subprocess.run([str(path)], capture_output=True, timeout=20, check=False).stderr.decode()
    assert f"Version {facts.loader.version}\n" in said
    assert facts.exports_libc_start
    assert facts.libc_version == ""


@pytest.mark.parametrize(("compiler", "libc"), [("gcc", "glibc"), ("musl-gcc", "musl")])
def test_static_programs_tell_their_libc(compiler: str, libc: str, tmp_path: Path) -> None:
    """R40."""
    if not shutil.which(compiler):
        absent(f"no {compiler}")
    code = tmp_path / "hello.c"
    code.write_text(HELLO)
    for flag in ("-static", "-static-pie") if compiler == "gcc" else ("-static",):
        made = tmp_path / f"hello{flag}"
        done = subprocess.run([compiler, flag, str(code), "-o", str(made)], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        facts = read_elf(made.read_bytes()).facts
        assert facts.static_libc == libc
        assert facts.interp is None
        assert facts.loader is None
    dynamic = tmp_path / "dynamic"
    subprocess.run([compiler, str(code), "-o", str(dynamic)], check=True, timeout=60)
    assert read_elf(dynamic.read_bytes()).facts.static_libc == ""


def test_isa_level_abi_tag_build_id_and_dlopen_notes_are_read(tmp_path: Path) -> None:
    """G50, G56, R42."""
    if not shutil.which("gcc"):
        absent("no gcc")
    code = tmp_path / "notes.c"
    wish = '[{"soname":["libz.so.1"],"priority":"required"}]'
    text = wish.replace('"', '\\"')
    code.write_text(
        f"""
        __asm__(".pushsection .note.dlopen,\\"a\\",@note\\n.balign 4\\n.long 4, 2f-1f, 0x407c0c0a\\n.asciz \\"FDO\\"\\n"
                "1: .asciz \\"{text.replace(chr(92), chr(92) * 3)}\\"\\n2: .balign 4\\n.popsection");
        int main(void) {{ return 0; }}
        """
    )
    made = tmp_path / "notes"
    command = ["gcc", "-Wl,-z,x86-64-v3", "-Wl,--build-id=0x0102030405060708", str(code), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    facts = read_elf(made.read_bytes()).facts
    assert facts.x86_isa_needed & 0b1100 == 4
    assert facts.build_id == bytes(range(1, 9))
    assert facts.abi_tag is not None
    assert facts.abi_tag[0] == 0
    assert facts.dlopen_notes == (wish.encode(),)


def test_go_programs_are_known_by_their_build_information(tmp_path: Path) -> None:
    """R41: the magic is found without section headers."""
    if not shutil.which("go"):
        absent("no go")
    facts = read_elf(Path(shutil.which("go") or "").resolve().read_bytes()).facts
    assert facts.go_build_info
    assert not read_elf(Path("/bin/true").read_bytes()).facts.go_build_info


@pytest.mark.toolchain
def test_a_name_changed_without_its_hash_is_not_found_by_the_loader() -> None:
    """G47: a lookup ends at a symbol only through its hash."""
    data = library().read_bytes()
    names = {symbol.name for symbol in exports(read_elf(data).symbols)}
    changed = {symbol.name for symbol in exports(read_elf(data.replace(b"\0offered_weak\0", b"\0offered_wake\0")).symbols)}
    assert names - changed == {b"offered_weak"}
    assert b"offered_wake" not in changed
