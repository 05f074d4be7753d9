"""enoent scan: exit statuses, the transports that are files, overrides, and what is said when nothing can be said."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any, Literal

import pytest

from service.demo import build_demo
from tests.make.command import Command
from tests.make.images import Image, docker_archive, manifest_of, oci_layout
from tests.make.layers import file, program, script, sha256, tar_of
from tests.make.starts import TRUE, tiny

STATIC = tar_of({"bin/app": TRUE, "bin/sh": TRUE, "etc/passwd": "root:x:0:0::/:/bin/sh\napp:x:500:500::/:/bin/sh\n"})
BROKEN = tar_of({"bin/app": program(tiny(interp=b"/lib64/ld-linux-x86-64.so.2"))})
GOOD = Image(layers=(STATIC,), entrypoint=["/bin/app"], cmd=["serve"])
BAD = Image(layers=(BROKEN,), entrypoint=["/bin/app"], history=["COPY app /bin/app # buildkit"])
UNDECIDED = Image(layers=(tar_of({"bin/app": program(tiny(interp=b"/lib/ld.so")), "lib/ld.so": TRUE}),), entrypoint=["/bin/app"])
"""Its loader is an ELF file, but of no family that is emulated."""
ODD = Image(layers=(STATIC, tar_of({"bin/old": program(bytes(2_000_000))}), tar_of({}, whiteouts=["bin/old"])), cmd=["/bin/app"])
"""Starts, with a warning: a layer's bytes are hidden."""
ABSENT = "exec /bin/app: no such file or directory"


def arm(image: Image) -> Image:
    """The same for another platform, on which it cannot start: its program is for x86-64."""
    return Image(layers=image.layers, entrypoint=image.entrypoint, cmd=image.cmd, platform="linux/arm64")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images: dict[str, Image | list[Image]] = {
        "good": GOOD, "bad": BAD, "undecided": UNDECIDED, "odd": ODD, "both": [GOOD, arm(GOOD)],
    }  # fmt: skip
    return oci_layout(tmp_path_factory.mktemp("layout"), images)


@pytest.mark.parametrize(("tag", "status", "sentence"), [
    ("good", 0, "starts"),
    ("bad", 1, "will not start"),
    ("undecided", 2, "could not be decided"),
    ("odd", 0, "starts"),
])  # fmt: skip
def test_the_exit_status_and_the_first_line_say_whether_it_starts(
    enoent: Command, layout: Path, tag: str, status: int, sentence: str
) -> None:
    said = enoent("scan", f"oci:{layout}:{tag}")
    assert (said.status, said.err) == (status, "")
    assert f"oci:{layout}:{tag} {sentence}" in said.first_line


def test_the_very_line_of_the_failure_stands_alone_and_so_does_what_mends_it(enoent: Command, layout: Path) -> None:
    said = enoent("scan", f"oci:{layout}:bad")
    lines = [line.strip() for line in said.out.splitlines()]
    assert ABSENT in lines
    assert "exec: the kernel refuses the program · exit status 1" in lines
    assert "✗ interpreter /lib64/ld-linux-x86-64.so.2" in said.out
    assert "/bin/app came with layer 0: COPY app /bin/app" in lines
    assert "What would mend it" in lines


@pytest.mark.parametrize(("tag", "severity", "status"), [
    ("odd", "fatal", 0), ("odd", "later", 0), ("odd", "warning", 1), ("odd", "info", 1),
    ("bad", "fatal", 1), ("good", "info", 0), ("undecided", "info", 2),
])  # fmt: skip
def test_fail_on_names_the_least_severity_that_counts(
    enoent: Command, layout: Path, tag: str, severity: str, status: int
) -> None:
    assert enoent("scan", f"oci:{layout}:{tag}", "--fail-on", severity, "--quiet").status == status


def test_of_several_platforms_one_that_fails_decides(enoent: Command, layout: Path) -> None:
    said = enoent("scan", f"oci:{layout}:both")
    assert said.status == 1
    assert "1 starts, 1 will not start" in said.first_line
    assert "linux/amd64  starts" in said.out
    assert "linux/arm64  will not start" in said.out


def test_a_platform_can_be_chosen(enoent: Command, layout: Path) -> None:
    assert enoent("scan", f"oci:{layout}:both", "--platform", "linux/amd64").status == 0
    assert enoent("scan", f"oci:{layout}:both", "--platform", "arm64", "--platform", "amd64").status == 1
    said = enoent("scan", f"oci:{layout}:both", "--platform", "linux/s390x")
    assert said.status == 2
    assert said.err.endswith("no image for linux/s390x; there are linux/amd64, linux/arm64\n")


@pytest.mark.parametrize(("words", "status", "argv"), [
    (["--entrypoint", "/bin/sh"], 0, ["/bin/sh"]),
    (["--entrypoint", "/bin/sh", "--cmd", "-c", "--cmd", "a b"], 0, ["/bin/sh", "-c", "a b"]),
    (["--cmd", '["x", "y z"]'], 0, ["/bin/app", "x", "y z"]),
    (["--cmd", "[x]"], 0, ["/bin/app", "[x]"]),
    (["--entrypoint", "app", "--env", "PATH=/bin"], 0, ["app"]),
    (["--entrypoint", "app", "--env", "PATH=/opt"], 1, ["app"]),
    (["--entrypoint", "./app", "--workdir", "/bin"], 0, ["./app"]),
    (["--user", "app"], 0, ["/bin/app", "serve"]),
    (["--user", "nobody"], 1, ["/bin/app", "serve"]),
])  # fmt: skip
def test_overrides_do_what_an_orchestrator_would(
    enoent: Command, layout: Path, words: list[str], status: int, argv: list[str]
) -> None:
    said = enoent("scan", f"oci:{layout}:good", "--format", "json", *words)
    (image,) = said.json["images"]
    assert (said.status, image["report"]["argv"]) == (status, argv)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_tar_of_an_oci_layout_is_read_compressed_or_not(enoent: Command, tmp_path: Path, mode: Literal["w", "w:gz"]) -> None:
    folder = oci_layout(tmp_path / "one", {"1": BAD})
    with tarfile.open(tmp_path / "one.tar", mode) as tar:
        tar.add(folder, ".")
    (tmp_path / "link.tar").symlink_to("one.tar")
    said = enoent("scan", f"oci-archive:{tmp_path}/link.tar")
    assert (said.status, ABSENT in said.out) == (1, True)


@pytest.mark.parametrize("compressed", [False, True])
def test_docker_save_archives_are_read_compressed_or_not(enoent: Command, tmp_path: Path, compressed: bool) -> None:
    archive = docker_archive({"app:1": GOOD})
    (tmp_path / "app.tar").write_bytes(gzip.compress(archive) if compressed else archive)
    said = enoent("scan", f"docker-archive:{tmp_path}/app.tar", "--format", "json")
    assert [image["image_id"] for image in said.json["images"]] == [GOOD.image_id]
    assert said.status == 0


def test_quiet_is_one_line_an_image(enoent: Command, layout: Path) -> None:
    said = enoent("scan", f"oci:{layout}:both", "--quiet")
    assert [line.partition(":both ")[2].split("  ")[:2] for line in said.out.splitlines()] == [
        ["starts", "linux/amd64"], ["will not start", "linux/arm64"],
    ]  # fmt: skip


def test_every_demonstration_image_is_told_from_the_others(enoent: Command, tmp_path: Path) -> None:
    references = build_demo(tmp_path / "demo")
    said = {reference.rpartition("/")[2]: enoent("scan", reference, "--quiet") for reference in references}
    wanted = {
        "hello-static:scratch": 0,
        "hello-c:alpine": 1,
        "unknown-user:scratch": 1,
        "rust-cli:musl": 0,
        "not-on-path:latest": 1,
    }
    assert {name: said[name].status for name in wanted} == wanted
    assert all(each.err == "" for each in said.values())


# What cannot be said


def spoiled(folder: Path, compression: str, spoil: Any) -> Path:
    """A layout whose one layer is not what its manifest says, digests apart: the index and the manifest fit."""
    oci_layout(folder, {"1": GOOD}, compression)
    _, (_, layer) = manifest_of(GOOD, compression)
    blob = folder / "blobs/sha256" / layer.digest.removeprefix("sha256:")
    blob.write_bytes(spoil(layer.data))
    return folder


def relabelled(folder: Path, data: bytes, media_type: str) -> Path:
    """A layout whose one layer is these bytes, correctly named by every digest."""
    config = json.loads(GOOD.config())
    body = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(body), "size": len(body)},
        "layers": [{"mediaType": media_type, "digest": sha256(data), "size": len(data)}],
    }  # fmt: skip
    return raw_layout(folder, json.dumps(manifest).encode(), body, data)


def raw_layout(folder: Path, manifest: bytes, *blobs: bytes) -> Path:
    (folder / "blobs/sha256").mkdir(parents=True)
    for data in (manifest, *blobs):
        (folder / "blobs/sha256" / sha256(data).removeprefix("sha256:")).write_bytes(data)
    row = {"mediaType": json.loads(manifest)["mediaType"], "digest": sha256(manifest), "size": len(manifest)}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    return folder


def test_a_corrupt_layer_is_told_from_a_missing_one(enoent: Command, tmp_path: Path) -> None:
    flipped = spoiled(tmp_path / "flipped", "gzip", lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    said = enoent("scan", f"oci:{flipped}")
    assert (said.status, said.out) == (2, "")
    assert re.fullmatch(rf"enoent: oci:{flipped} \(linux/amd64\): .*sha256:.*\n", said.err)
    shutil.rmtree(tmp_path / "flipped/blobs/sha256")
    gone = enoent("scan", f"oci:{flipped}")
    assert (gone.status, gone.out) == (2, "")
    assert "No such file or directory" in gone.err


def test_a_platform_that_cannot_be_analysed_stands_beside_those_that_can(enoent: Command, tmp_path: Path) -> None:
    own = tar_of({"bin/app": TRUE, "etc/only": "here"})
    folder = oci_layout(tmp_path / "two", {"1": [GOOD, Image(layers=(own,), cmd=["/bin/app"], platform="linux/386")]}, "plain")
    (folder / "blobs/sha256" / sha256(own).removeprefix("sha256:")).write_bytes(own[:700])
    said = enoent("scan", f"oci:{folder}")
    assert said.status == 2
    assert "1 starts, 1 could not be analysed" in said.first_line
    assert "✓ linux/amd64  starts" in said.out
    assert "? linux/386    could not be analysed" in said.out
    assert said.err.startswith(f"enoent: oci:{folder} (linux/386): ")


def test_a_zstd_layer_that_ends_too_early_says_so(enoent: Command, tmp_path: Path) -> None:
    _, (_, layer) = manifest_of(GOOD, "zstd")
    folder = relabelled(tmp_path / "cut", layer.data[:-30], layer.media_type)
    said = enoent("scan", f"oci:{folder}", "--format", "json")
    (image,) = said.json["images"]
    assert (said.status, image["outcome"], image["report"]) == (2, "corrupt-layer", None)
    assert said.err == f"enoent: oci:{folder} (linux/amd64): the zstd stream ends too early\n"


def test_an_artifact_is_no_image(enoent: Command, tmp_path: Path) -> None:
    config = b"{}"
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": sha256(config), "size": 2},
        "layers": [],
    }  # fmt: skip
    said = enoent("scan", f"oci:{raw_layout(tmp_path / 'chart', json.dumps(manifest).encode(), config)}")
    assert said.status == 2
    assert "an artifact of type application/vnd.cncf.helm.config.v1+json, not an image" in said.err


@pytest.mark.parametrize(("reference", "sentence"), [
    ("oci:/nowhere", "/nowhere is not a folder"),
    ("oci:.", ". is not an OCI layout: it has no index.json"),
    ("oci-archive:/nowhere.tar", "/nowhere.tar is not a file"),
    ("docker-archive:/nowhere.tar", "/nowhere.tar is not a file"),
    ("docker:app", "no Docker engine at /var/run/docker.sock"),
    ("localhost:1/app", "localhost:1 cannot be reached: Connection refused"),
])  # fmt: skip
def test_what_is_not_there_is_said_in_one_line(enoent: Command, reference: str, sentence: str) -> None:
    if reference.startswith("docker:") and Path("/var/run/docker.sock").exists():
        pytest.skip("this machine has an engine")
    said = enoent("scan", reference)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("enoent: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_a_tag_that_a_layout_lacks_is_told_with_those_it_has(enoent: Command, layout: Path) -> None:
    said = enoent("scan", f"oci:{layout}:nope")
    assert (said.status, said.out) == (2, "")
    assert "no image 'nope' (it has bad, both, good, odd, undecided)" in said.err


@pytest.mark.parametrize("words", [
    ["scan"],
    ["scan", "Not/A/Reference"],
    ["scan", "app:not a tag"],
    ["scan", "app@sha256:abc"],
    ["scan", "oci:"],
    ["scan", "app", "extra"],
    ["scan", "app", "--platform", "linux/"],
    ["scan", "app", "--env", "NOVALUE"],
    ["scan", "app", "--fail-on", "everything"],
    ["scan", "app", "--config", "/nowhere.toml"],
    ["scan", "app", "--server", "enoent.example"],
    ["ldd", "app", "/bin/sh", "--all"],
    ["rules", "no.such-rule"],
    ["serve", "--listen-prot", "80"],
    ["sacn", "app"],
    [],
])  # fmt: skip
def test_wrong_usage_and_malformed_references_are_64(enoent: Command, words: list[str]) -> None:
    said = enoent(*words)
    assert (said.status, said.out) == (64, "")
    assert said.err


def test_a_wrong_setting_is_64_and_names_its_key(enoent: Command, layout: Path) -> None:
    (enoent.home / "enoent.toml").write_text("[workers]\nparallel = -1\n")
    said = enoent("scan", f"oci:{layout}:good")
    assert said.status == 64
    assert said.err.startswith("enoent: workers.parallel: ")


def test_names_from_images_and_from_the_command_line_cannot_forge_lines(enoent: Command, tmp_path: Path) -> None:
    evil = "/bin/app\x1b[2J\nenoent: everything is fine\u202e"
    image = Image(layers=(STATIC,), entrypoint=[evil], user="\x1b]0;owned\x07", history=["COPY \x1b[31mred"])
    said = enoent("scan", f"oci:{oci_layout(tmp_path / 'evil', {'1': image})}")
    assert said.status == 1
    for text in (said.out, said.err):
        assert not any(character in text for character in "\x1b\x07\u202e")
        assert not any(line.startswith("enoent: everything") for line in text.splitlines())
    assert "\\x1b[2J\\x0aenoent: everything is fine\\u202e" in said.out


def test_a_file_with_no_images_settings_or_home_is_enough(enoent: Command, layout: Path) -> None:
    said = enoent("scan", f"oci:{layout}:good", env={"HOME": "", "XDG_CACHE_HOME": ""})
    assert (said.status, said.err) == (0, "")


def test_what_is_unpacked_nowhere_leaves_nothing_behind(enoent: Command, layout: Path) -> None:
    enoent("scan", f"oci:{layout}:good", "--no-cache")
    assert list(enoent.home.iterdir()) == []


def test_a_script_can_be_pulled_apart_from_a_program(enoent: Command, tmp_path: Path) -> None:
    lost = Image(layers=(tar_of({"run.sh": script("#!/bin/bash\n"), "bin/sh": TRUE, "etc/x": file("x")}),), cmd=["/run.sh"])
    said = enoent("scan", f"oci:{oci_layout(tmp_path / 'lost', {'1': lost})}")
    assert said.status == 1
    assert "The image has /bin/sh but no bash." in said.prose
    assert "✗ interpreter /bin/bash" in said.out
