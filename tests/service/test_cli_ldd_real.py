"""enoent ldd on real ELF files: the machine's own ldd is the judge of what is found where, and what is not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.make.command import Command, Said
from tests.make.elves import ToolAbsent
from tests.make.glibc_cases import LOADER, elf
from tests.make.images import Image, oci_layout
from tests.make.layers import Item, file, program, tar_of

MACHINE = Path(f"/{LOADER}")
PROGRAMS = ("/usr/bin/perl", "/bin/ls", "/usr/bin/git", "/usr/bin/gcc")
_FOUND = re.compile(r"^\s+(\S+) => (/\S+) \(0x", re.MULTILINE)
_MISSING = re.compile(r"^\s+(\S+) => not found", re.MULTILINE)


def told_by_machine(path: str) -> tuple[dict[str, str], list[str]]:
    """Soname to path as the machine's ldd has them, and what it does not find."""
    if shutil.which("ldd") is None or not MACHINE.exists():
        absent("this machine has no ldd of glibc")
    said = subprocess.run(
        ["ldd", path], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    )
    return dict(_FOUND.findall(said.stdout)), _MISSING.findall(said.stdout)


def layout_of(folder: Path, items: Mapping[str, Item | bytes | str], cmd: str) -> str:
    return f"oci:{oci_layout(folder, {'1': Image(layers=(tar_of(items),), cmd=[cmd])}, 'plain')}"


def opened(said: Said) -> dict[str, str]:
    """Soname to path as opened, from the tree."""
    (row,) = [json.loads(line) for line in said.out.splitlines()]
    return {
        step["wanted"]: step["attempts"][-1]["path"]
        for step in row["tree"]
        if step["action"] == "library" and step.get("ok", True)
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_libraries_are_found_where_the_machines_own_ldd_finds_them(enoent: Command, tmp_path: Path, name: str) -> None:
    if not Path(name).exists():
        absent(f"{name} is not installed")
    found, _ = told_by_machine(name)
    items: dict[str, Item | bytes | str] = {
        path.lstrip("/"): program(Path(path).read_bytes()) for path in (name, str(MACHINE), *found.values())
    }
    items["etc/ld.so.cache"] = Path("/etc/ld.so.cache").read_bytes()
    said = enoent("ldd", layout_of(tmp_path / "image", items, name), "--format", "jsonl")
    assert (said.status, said.err) == (0, "")
    assert {soname: path for soname, path in opened(said).items() if soname in found} == found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with run paths of its own and of its libraries, as files of this machine."""
    folder = tmp_path_factory.mktemp("tree")
    try:
        files = {
            "tool": elf("liba.so", "libc1.so", rpath="$ORIGIN/lib"),
            "lib/liba.so": elf("libb.so", "libgone.so", "libtoo.so", shared="liba.so", runpath="$ORIGIN/deep"),
            "lib/deep/libb.so": elf(shared="libb.so"),
            "lib/libc1.so": elf("libd.so", shared="libc1.so"),
            "lib/libd.so": elf(shared="libd.so"),
            "plugin.so": elf("libd.so", shared="plugin.so", runpath="$ORIGIN/lib", source="extern int host; int *at = &host;"),
        }
    except ToolAbsent as error:
        absent(str(error))
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        (folder / path).chmod(0o755)
    return folder


def image_of(tree: Path, folder: Path) -> str:
    paths = [path for path in tree.rglob("*") if path.is_file()]
    items: dict[str, Item | bytes | str] = {str(path).lstrip("/"): program(path.read_bytes()) for path in paths}
    items |= {LOADER: program(MACHINE.read_bytes()), "etc/x": file("x")}
    return layout_of(folder, items, f"{tree}/tool")


def test_run_paths_lead_where_ldd_says_and_it_is_told_whose_they_were(enoent: Command, tmp_path: Path, tree: Path) -> None:
    found, missing = told_by_machine(f"{tree}/tool")
    reference = image_of(tree, tmp_path / "image")
    said = enoent("ldd", reference, "--format", "jsonl")
    assert said.status == 1
    assert opened(said) == found
    assert missing == ["libgone.so", "libtoo.so"]
    (row,) = [json.loads(line) for line in said.out.splitlines()]
    assert row["needed"] == {"liba.so": found["liba.so"], "libc1.so": found["libc1.so"]}
    shown = enoent("ldd", reference)
    assert "libgone.so: cannot open shared object file" in shown.out
    assert "✓ liba.so  (DT_RPATH)" in shown.out
    assert "✓ libb.so  (DT_RUNPATH)" in shown.out
    assert re.search(r"✓ libd\.so  \(DT_RPATH of \S+/tool\)", shown.out)
    assert "✗ library libgone.so" in shown.out
    assert "✗ library libtoo.so" in shown.out
    scanned = enoent("scan", reference)
    assert f"{tree}/lib/liba.so needs libgone.so. Also missing: libtoo.so (for {tree}/lib/liba.so)." in scanned.prose


def test_what_a_plug_in_leaves_to_its_program_is_no_failure(enoent: Command, tmp_path: Path, tree: Path) -> None:
    assert told_by_machine(f"{tree}/plugin.so") == ({"libd.so": f"{tree}/lib/libd.so"}, [])
    said = enoent("ldd", image_of(tree, tmp_path / "image"), f"{tree}/plugin.so", "--format", "jsonl")
    (row,) = [json.loads(line) for line in said.out.splitlines()]
    assert (said.status, row["verdict"], row["error"]) == (0, "starts", "")
    assert row["unbound_symbols"] == [f"host (in {tree}/plugin.so)"]
