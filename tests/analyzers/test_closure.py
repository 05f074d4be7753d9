"""The least run stage, and what a start asks of the host: from the program, its loader and its libraries."""

from __future__ import annotations

import pytest

from analyzers.elf import read_elf
from analyzers.finding import Report, State
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig, Platform
from tests.conftest import absent
from tests.make import roots
from tests.make.elves import ToolAbsent, c, zig
from tests.make.layers import program
from tests.make.views import layer


def report(app: bytes, root: roots.Root, architecture: str = "amd64") -> Report:
    settings = ImageConfig(cmd=("/app",), platform=Platform("linux", architecture))
    return judge_image("sha256:0", settings, [layer({**root, "app": program(app)})])


def test_s9_the_least_run_stage_is_program_loader_and_libraries_with_their_bytes() -> None:
    try:
        base, app = roots.debian(), c("int main(void) { return 0; }")
    except ToolAbsent as error:
        absent(str(error))
    made = report(app, base)
    assert made.verdict.state is State.STARTS
    assert [part.name for part in made.parts] == ["/app", "/lib64/ld-linux-x86-64.so.2", "libc.so.6"]
    assert made.parts[0].size_bytes == len(app)
    assert made.parts[0].interpreter == "/lib64/ld-linux-x86-64.so.2"
    assert made.parts[2].path.endswith("/libc.so.6")
    assert sum(part.size_bytes for part in made.parts) < made.size_bytes / 2
    assert made.kernel == "3.2.0"
    assert made.max_page_size == 0


def test_a_program_that_does_not_start_has_parts_as_far_as_they_were_found() -> None:
    try:
        app = c("int main(void) { return 0; }")
    except ToolAbsent as error:
        absent(str(error))
    made = report(app, {})
    assert [part.path for part in made.parts] == ["/app"]
    assert made.parts[0].needs == ("libc.so.6",)


@pytest.mark.toolchain
def test_failure_43_the_page_size_that_an_arm_program_was_linked_for_is_told() -> None:
    for size in (4096, 16384, 65536):
        try:
            app = c("int main(void) { return 0; }", "-static", f"-Wl,-z,max-page-size={size}", compiler=zig("aarch64-linux-musl"))
        except ToolAbsent as error:
            absent(str(error))
        aligned = max(segment.align for segment in read_elf(app).facts.segments if segment.type == 1)
        assert report(app, {}, "arm64").max_page_size == aligned == size
