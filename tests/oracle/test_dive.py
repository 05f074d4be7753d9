"""Wasted bytes beside those of the real dive: the same images, both tools, and where they differ as docs/metrics.md says."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from analyzers.judges import judge_image
from analyzers.oci import ImageConfig
from tests.conftest import absent
from tests.make.dive import ARCHIVE, CASES, INCLUDED, LISTS, MB, PERL, Case, Told, ask_dive
from tests.make.elves import ToolAbsent
from tests.make.images import Image, docker_archive
from tests.make.layers import tar_of
from tests.make.views import file
from tests.oracle.real_roots import read_layer


def dive(image: Image, folder: Path) -> Told:
    (folder / "image.tar").write_bytes(docker_archive({"side-by-side:1": image}))
    try:
        return ask_dive(folder / "image.tar", folder / "answer.json")
    except ToolAbsent as error:
        absent(str(error))


def ours(image: Image) -> tuple[int, int]:
    """Bytes of all files, and those that are wasted."""
    report = judge_image("sha256:0", ImageConfig(cmd=("/a",)), [read_layer(layer) for layer in image.layers])
    return report.size_bytes, report.wasted_bytes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.build)
def test_both_say_what_the_table_says(case: Case, tmp_path: Path) -> None:
    image = Image(layers=case.layers, entrypoint=["/a"])
    size, wasted = ours(image)
    assert wasted == case.ours
    said = dive(image, tmp_path)
    assert (said.size_bytes, said.wasted_bytes) == (case.dive.size_bytes, case.dive.wasted_bytes)
    assert said.efficiency == pytest.approx(case.dive.efficiency)
    assert size == said.size_bytes, "we mean the same by the size of an image"


def test_a_deleted_directory_costs_dive_nothing() -> None:
    [case] = [case for case in CASES if case.build.endswith("`RUN rm -r d`")]
    assert (case.ours, case.dive.wasted_bytes, case.dive.efficiency) == (MB, 0, 1.0)


def test_on_a_whole_debian_the_difference_is_the_deleted_directory_and_the_copy_that_is_used(tmp_path: Path) -> None:
    if not ARCHIVE.exists():
        absent(f"no {ARCHIVE.name}: run tests/setup/image.sh")
    with tarfile.open(ARCHIVE) as tar:
        sizes = {member.name.removeprefix("./"): member.size for member in tar if member.isreg()}
        perl = tar.extractfile(f"./{PERL}")
        assert perl is not None
        program = perl.read()
    lists = sum(size for path, size in sizes.items() if path.startswith(LISTS + "/"))
    assert lists > MB, "apt keeps something"
    layers = (
        ARCHIVE.read_bytes(), tar_of({}, whiteouts=(LISTS,)), tar_of({PERL: file(program, 0o4755)}),
        tar_of({}, whiteouts=(INCLUDED,)),
    )  # fmt: skip
    image = Image(layers=layers, entrypoint=["/bin/true"])
    said = dive(image, tmp_path)
    assert ours(image)[1] == lists + sizes[PERL] + sizes[INCLUDED]
    assert said.wasted_bytes == 2 * sizes[PERL] + sizes[INCLUDED]
