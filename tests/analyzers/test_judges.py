"""Reports: cause-specific findings, what was not seen, names of things, and the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from analyzers.facts import Coverage, LayerFacts, LayerNote, Unread, VersionNeed
from analyzers.finding import Finding, Reason, Report, Severity, State
from analyzers.judges import JUDGES, RULES_VERSION, judge_image
from analyzers.linkage import list_objects
from analyzers.oci import ImageConfig, Platform
from tests.make.starts import LD, TRUE, dynamic
from tests.make.views import Item, elf, elf_facts, file, folder, layer, script, symlink

GLIBC = b"/lib64/ld-linux-x86-64.so.2"
MUSL = b"/lib/ld-musl-x86_64.so.1"


def report(*layers: LayerFacts, cmd: tuple[str, ...] = ("/x",), **config: object) -> Report:
    return judge_image("sha256:0", ImageConfig(cmd=cmd, **config), layers)  # type: ignore[arg-type]


def fatal(items: dict[str, Item | bytes | str], **config: object) -> Finding:
    found = [each for each in report(layer(items), **config).findings if each.severity is Severity.FATAL]  # type: ignore[arg-type]
    assert len(found) == 1
    return found[0]


def program(interp: bytes = GLIBC, **more: object) -> Item:
    return elf(elf_facts(interp, needed=(b"libc.so.6",), **more))  # type: ignore[arg-type]


# -- the loader is missing: why it is (scenarios S1, S3) --


def test_s3_a_glibc_program_on_a_musl_image() -> None:
    finding = fatal({"x": program(), MUSL[1:].decode(): LD})
    assert finding.rule == "elf.glibc-program-on-musl"
    assert finding.message == "exec /x: no such file or directory"
    assert "/lib/ld-musl-x86_64.so.1" in finding.why
    assert finding.trail


def test_s3b_the_same_where_nothing_is_there() -> None:
    assert fatal({"x": program()}).rule == "elf.no-loader"


def test_a_musl_program_on_a_glibc_image() -> None:
    assert fatal({"x": program(MUSL), GLIBC[1:].decode(): LD}).rule == "elf.musl-program-on-glibc"


def test_a_loader_of_another_machine() -> None:
    finding = fatal({"x": program(), "lib/ld-linux-aarch64.so.1": LD})
    assert finding.rule == "elf.interpreter-other-architecture"


def test_the_same_loader_at_another_path() -> None:
    finding = fatal({"x": program(), "usr/lib64/ld-linux-x86-64.so.2": LD})
    assert finding.rule == "elf.interpreter-elsewhere"
    assert finding.remedies[0] == "ln -s /usr/lib64/ld-linux-x86-64.so.2 /lib64/ld-linux-x86-64.so.2"


@pytest.mark.parametrize("name", [b"/nix/store/abc-glibc/lib/ld-linux-x86-64.so.2", b"@@HOMEBREW_PREFIX@@/lib/ld.so"])
def test_a_loader_in_a_prefix_that_was_not_copied(name: bytes) -> None:
    assert fatal({"x": program(name)}).rule == "elf.interpreter-foreign-prefix"


def test_s1_a_go_program_with_cgo_is_told_how_to_do_without() -> None:
    needs = (VersionNeed(b"libc.so.6", b"GLIBC_2.2.5"), VersionNeed(b"libc.so.6", b"GLIBC_2.34"))
    finding = fatal({"x": program(go_build_info=True, verneed=needs)})
    assert any("CGO_ENABLED=0" in each for each in finding.remedies)
    assert any("netgo" in each for each in finding.remedies)
    assert any("busybox:glibc" in each for each in finding.remedies)
    assert "libc.so.6 (GLIBC_2.34)" in finding.why


def test_every_missing_loader_has_the_reason_that_can_be_alerted_on() -> None:
    assert report(layer({"x": program()})).verdict.reason is Reason.INTERPRETER_ABSENT


# -- other causes --


def test_a_script_whose_interpreter_lies_elsewhere() -> None:
    finding = fatal({"x": script("#!/usr/bin/bash\n"), "bin/bash": TRUE})
    assert finding.rule == "script.interpreter-absent"
    assert finding.remedies[0] == "Begin the script with #!/bin/bash"


def test_a_script_for_bash_in_an_image_with_sh_only() -> None:
    assert "no bash" in fatal({"x": script("#!/bin/bash\n"), "bin/sh": TRUE}).why


def test_a_carriage_return_is_named() -> None:
    finding = fatal({"x": script("#!/bin/sh\r\n"), "bin/sh": TRUE})
    assert finding.rule == "script.crlf"
    assert "Unix line ends" in finding.remedies[0]


def test_shell_form_without_a_shell_is_named() -> None:
    assert fatal({"x": TRUE}, cmd=("/bin/sh", "-c", "x")).rule == "path.shell-absent"


def test_a_command_that_lies_elsewhere_is_pointed_at() -> None:
    assert "/opt/tool" in fatal({"opt/tool": TRUE}, cmd=("/tool",)).why


def test_a_file_on_path_that_lost_its_execute_bit_is_pointed_at() -> None:
    assert fatal({"bin/tool": file("x")}, cmd=("tool",)).remedies[0] == "chmod +x /bin/tool"


def test_a_foreign_program_is_named_with_both_machines() -> None:
    finding = fatal({"x": elf(elf_facts(machine=183))}, platform=Platform("linux", "amd64"))
    assert finding.rule == "elf.wrong-architecture"
    assert "linux/amd64" in finding.why
    assert "arm64" in finding.why


def test_the_finding_names_the_layer_of_its_subject() -> None:
    found = report(layer({"a": "1"}), layer({"x": file("text", 0o755)})).findings
    assert [(each.rule, each.layer, each.subject) for each in found] == [("script.no-interpreter-line", 1, "/x")]


# -- what was not seen --


def test_a_partial_image_is_never_complete_and_says_what_is_missing() -> None:
    made = report(layer({"x": TRUE, "big": "1"}, coverage=Coverage.PARTIAL, unread=(Unread(b"big", "elf-too-large"),)))
    assert made.verdict.state is State.STARTS
    assert not made.complete
    assert made.incomplete == ("layer 0: /big: elf-too-large",)
    assert [each.rule for each in made.findings] == ["image.not-wholly-read"]


def test_what_was_not_seen_makes_the_verdict_unknown_where_it_could_change_it() -> None:
    cut = (Unread(b"", "entry-limit"),)
    made = report(layer({"a": "1"}, coverage=Coverage.PARTIAL, unread=cut))
    assert made.verdict.state is State.UNKNOWN
    assert made.verdict.why_unknown
    assert not made.complete


# -- notes --


def test_h001_h011_oddities_of_layers_become_findings() -> None:
    notes = (LayerNote("path-escape", b"x"), LayerNote("duplicate-entry", b"y", "twice"), LayerNote("unheard-of", b"z"))
    found = report(layer({"x": TRUE}, notes=notes)).findings
    assert {each.rule for each in found} == {"layer.path-escape", "layer.duplicate-entry", "layer.odd"}
    assert all(each.layer == 0 for each in found)


def test_many_oddities_of_one_kind_are_summed_up() -> None:
    notes = tuple(LayerNote("duplicate-entry", f"p{index}".encode()) for index in range(500))
    found = report(layer({"x": TRUE}, notes=notes)).findings
    assert len(found) == 21
    assert any("480 more" in each.message for each in found)


def test_a_layer_over_a_symlinked_parent_is_a_finding() -> None:
    layers = (layer({"usr/lib": folder(), "lib": symlink("usr/lib"), "x": TRUE}), layer({"lib/y": "1"}, parents=False))
    assert [each.rule for each in report(*layers).findings] == ["layer.symlinked-parent"]


def test_notes_of_the_config_become_findings() -> None:
    found = report(layer({"x": TRUE}), notes=(("config-mismatch", "2 diff IDs, 1 layer"),)).findings
    assert [(each.rule, each.message.partition(": ")[2]) for each in found] == [("config.mismatch", "2 diff IDs, 1 layer")]


def test_hidden_bytes_are_a_finding_above_a_floor() -> None:
    made = report(layer({"big": file("x" * 1_200_000), "x": TRUE}), layer({}, whiteouts=("big",)))
    assert [(each.rule, each.layer) for each in made.findings] == [("size.hidden-bytes", 0)]
    assert made.wasted_bytes == 1_200_000


# -- names --


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"etc/os-release": "NAME=x\nID=alpine\nVERSION_ID=3.20.1\n"}, "alpine 3.20.1"),
        ({"usr/lib/os-release": "ID='debian'\nVERSION_ID=\"12\"\n"}, "debian 12"),
        ({"etc/os-release": symlink("../usr/lib/os-release"), "usr/lib/os-release": "ID=arch\n"}, "arch"),
        ({"etc/os-release": 'ID="unclosed\n'}, '"unclosed'),
        ({"etc/os-release": ""}, "unknown"),
        ({}, "scratch"),
    ],
)
def test_the_distribution(files: dict[str, Item | bytes | str], expected: str) -> None:
    assert report(layer({"x": TRUE, **files})).os == expected


def test_the_libc_of_a_static_program_and_of_nothing() -> None:
    assert report(layer({"x": TRUE})).libc == "static"
    assert report(layer({})).libc == "none"


def test_layers_carry_their_instruction() -> None:
    made = report(layer({"x": TRUE}), layer({"y": "1"}), history=(("ADD rootfs", False), ("ENV A=1", True), ("COPY y /y", False)))
    assert [each.created_by for each in made.layers] == ["ADD rootfs", "COPY y /y"]


# -- the same bytes --

_JUDGE = """
import msgspec
from tests.analyzers.test_judges import sample
print(msgspec.json.encode(sample()).decode())
"""


def sample() -> Report:
    notes = (LayerNote("path-escape", b"b"), LayerNote("path-escape", b"a"))
    image = layer({"x": program(), MUSL[1:].decode(): LD, "lib/libc.so": "1"}, notes=notes)
    return report(image, layer({"y": "1"}, whiteouts=("lib/libc.so",)), cmd=("x",), env=("PATH=/:/bin", "A=1"))


def test_the_same_facts_make_the_same_bytes_under_any_hash_seed() -> None:
    root = Path(__file__).resolve().parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _JUDGE], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout.decode()
        for seed in ("0", "1", "77")
    }
    assert outputs == {msgspec.json.encode(sample()).decode() + "\n"}


def test_every_judge_has_a_version_and_the_report_names_them() -> None:
    assert [judge.name for judge in JUDGES] == list(report(layer({})).versions)
    assert all(f"{judge.name}-{judge.version}" in RULES_VERSION for judge in JUDGES)


# -- ldd for images --


def test_ldd_lists_the_program_that_the_image_starts() -> None:
    listed = list(list_objects(ImageConfig(cmd=("/x",)), [layer({"x": TRUE})]))
    assert [(each.path, each.verdict) for each in listed] == [("/x", State.STARTS)]


def test_ldd_lists_every_elf_file_and_says_why_one_fails() -> None:
    image = layer({"x": TRUE, "y": program(), "z": "text"})
    listed = {each.path: each for each in list_objects(ImageConfig(cmd=("/x",)), [image], all_elf=True)}
    assert set(listed) == {"/x", "/y"}
    assert listed["/y"].verdict is State.FAILS
    assert listed["/y"].needed == {"libc.so.6": None}
    assert listed["/y"].error == "no such file or directory"


def test_ldd_of_a_path_that_is_absent_or_no_elf_file() -> None:
    image = layer({"x": TRUE, "z": "text"})
    listed = list(list_objects(ImageConfig(cmd=("/x",)), [image], paths=(b"/nope", b"/z")))
    assert [each.error for each in listed] == ["no such file or directory", "not an ELF file"]


def test_ldd_of_a_program_whose_mode_forbids_running_still_lists_it() -> None:
    image = layer({"x": dynamic(GLIBC), "y": TRUE})
    listed = list(list_objects(ImageConfig(cmd=("/y",)), [image], paths=(b"/x",)))
    assert listed[0].interpreter == GLIBC.decode()


def test_ldd_lists_libraries_and_foreign_programs_too() -> None:
    library, foreign = elf(elf_facts(needed=(b"libc.so.6",))), program(machine=183)
    image = layer({"x": TRUE, "lib/a.so": library, "y": foreign})
    listed = {each.path: each for each in list_objects(ImageConfig(cmd=("/x",)), [image], all_elf=True)}
    assert (listed["/lib/a.so"].verdict, listed["/lib/a.so"].error) == (State.UNKNOWN, "the image has no loader for this library")
    assert (listed["/y"].verdict, listed["/y"].error) == (State.FAILS, "exec format error")


def test_ldd_of_a_start_that_ends_before_any_program_tells_its_line() -> None:
    (listed,) = list_objects(ImageConfig(cmd=("x",), env=("PATH=/bin",)), [layer({"x": TRUE})])
    assert (listed.path, listed.verdict) == ("x", State.FAILS)
    assert listed.error == 'exec: "x": executable file not found in $PATH'


def test_ldd_says_why_a_program_of_another_machine_cannot_be_run() -> None:
    image = layer({"x": TRUE, "foreign": elf(elf_facts(GLIBC, machine=183))})
    listed = {each.path: each for each in list_objects(ImageConfig(cmd=("/x",)), [image], all_elf=True)}
    assert listed["/foreign"].verdict is State.FAILS
    assert listed["/foreign"].error == "exec format error"
