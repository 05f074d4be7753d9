"""enoent scan against a real registry and a real Docker engine: what is read, with whose credentials, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.engine import Engine
from tests.make.command import Command
from tests.make.images import MANIFEST, Image, docker_archive
from tests.make.layers import program, sha256, tar_of
from tests.make.starts import TRUE, tiny
from tests.registry import Registry

BASE = tar_of({"bin/app": TRUE, "etc/base": "base"})
GOOD = Image(layers=(BASE,), cmd=["/bin/app"])
BAD = Image(
    layers=(BASE, tar_of({"bin/app": program(tiny(interp=b"/lib/ld-musl-x86_64.so.1"))})), cmd=["/bin/app"],
    history=["ADD rootfs /", "COPY app /bin/app # buildkit"],
)  # fmt: skip
ABSENT = "exec /bin/app: no such file or directory"


def blobs(registry: Registry, repository: str) -> list[str]:
    """Paths of the layers and configs that were asked for."""
    return [request.path for request in registry.requests("GET", f"/v2/{repository}/blobs/")]


@pytest.mark.registry
def test_a_tag_of_a_registry_is_read_and_explained(enoent: Command, registry: Registry) -> None:
    digest = registry.push("cli/bad:1.4", BAD)
    for name in (f"{registry.host}/cli/bad:1.4", f"{registry.host}/cli/bad@{digest}"):
        said = enoent("scan", name, "--no-cache")
        assert (said.status, said.err) == (1, "")
        assert said.first_line == f"✗ {name} will not start  linux/amd64"
        assert ABSENT in said.out
        assert "/bin/app came with layer 1: COPY app /bin/app" in said.prose


@pytest.mark.registry
def test_a_second_scan_asks_for_no_layer_again(enoent: Command, registry: Registry) -> None:
    registry.push("cli/twice:1", GOOD)
    registry.push("cli/twice:2", BAD)
    enoent("scan", f"{registry.host}/cli/twice:1")
    first = blobs(registry, "cli/twice")
    assert len(first) == 2
    enoent("scan", f"{registry.host}/cli/twice:1")
    enoent("scan", f"{registry.host}/cli/twice:2")
    later = blobs(registry, "cli/twice")[2:]
    layer = sorted(set(first) & set(later))
    assert len(later) == 3, "a config each, and of the second image only the layer that is new"
    assert len(layer) == 1, "only the config is asked for again"


@pytest.mark.registry
def test_all_platforms_of_an_index_are_read_unless_one_is_chosen(enoent: Command, registry: Registry) -> None:
    other = Image(layers=BAD.layers, cmd=BAD.cmd, platform="linux/386")
    registry.push("cli/index:1", [GOOD, other])
    said = enoent("scan", f"{registry.host}/cli/index:1", "--format", "json")
    assert [image["platform"] for image in said.json["images"]] == ["linux/amd64", "linux/386"]
    assert [image["exit_status"] for image in said.json["images"]] == [0, 1]
    assert said.status == 1
    assert enoent("scan", f"{registry.host}/cli/index:1", "--platform", "linux/amd64").status == 0


@pytest.mark.registry
def test_what_a_registry_lacks_is_said_in_its_own_words(enoent: Command, registry: Registry) -> None:
    registry.push("cli/there:1", GOOD)
    for name in ("cli/there:2", "cli/nowhere:1"):
        said = enoent("scan", f"{registry.host}/{name}")
        assert (said.status, said.out) == (2, "")
        assert said.err == f"enoent: {registry.host}/{name}: {registry.host} answers 404: manifest unknown\n"


@pytest.mark.registry
def test_credentials_come_from_dockers_config_and_wrong_ones_are_told(enoent: Command, guarded_registry: Registry) -> None:
    registry = guarded_registry
    registry.push("cli/guarded:1", GOOD)
    name = f"{registry.host}/cli/guarded:1"
    nobody = enoent("scan", name)
    assert nobody.status == 2
    assert "wants credentials and there are none for it" in nobody.err
    (enoent.home / "docker").mkdir()
    for words, status in (("ann:wrong", 2), (":".join(registry.credentials or ()), 0)):
        auth = base64.b64encode(words.encode()).decode()
        (enoent.home / "docker/config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        said = enoent("scan", name)
        assert said.status == status
        assert ("refuses these credentials" in said.err) == bool(status)
        assert words.partition(":")[2] not in said.out + said.err


@pytest.mark.registry
def test_an_artifact_in_a_registry_is_no_image(enoent: Command, registry: Registry) -> None:
    registry.push("cli/chart:1", GOOD)
    config = registry.push_blob("cli/chart", b"{}")
    body = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": config, "size": 2},
    }).encode()  # fmt: skip
    registry.push_manifest("cli/chart", "1", body)
    said = enoent("scan", f"{registry.host}/cli/chart:1", "--format", "json")
    assert said.status == 2
    assert said.json["error"] == "an artifact of type application/vnd.cncf.helm.config.v1+json, not an image"


@pytest.mark.registry
def test_bytes_that_are_not_those_asked_for_give_no_verdict(enoent: Command, registry: Registry) -> None:
    layer = tar_of({"bin/app": TRUE, "etc/unique": "spoiled in the registry"})
    registry.push("cli/spoiled:1", Image(layers=(layer,), cmd=["/bin/app"]), "plain")
    path = registry.blob_path(sha256(layer))
    path.write_bytes(layer.replace(b"spoiled", b"SPOILED"))
    said = enoent("scan", f"{registry.host}/cli/spoiled:1", "--format", "json")
    (image,) = said.json["images"]
    assert (said.status, image["outcome"], image["report"]) == (2, "digest-mismatch", None)


@pytest.mark.registry
def test_ldd_reads_a_registry_too(enoent: Command, registry: Registry) -> None:
    registry.push("cli/ldd:1", BAD)
    said = enoent("ldd", f"{registry.host}/cli/ldd:1", "/bin/app", "--format", "jsonl")
    (row,) = [json.loads(line) for line in said.out.splitlines()]
    assert (said.status, row["verdict"], row["error"]) == (1, "fails", "no such file or directory")


@pytest.mark.docker
def test_an_image_of_the_docker_engine_is_read_by_name_and_by_id(enoent: Command, engine: Engine) -> None:
    engine.load(docker_archive({"cli/app:1": BAD, "cli/good:1": GOOD}))
    host = {"DOCKER_HOST": engine.url}
    for name in ("cli/app:1", BAD.image_id, BAD.image_id.removeprefix("sha256:")[:12]):
        said = enoent("scan", f"docker:{name}", env=host)
        assert (said.status, said.err) == (1, "")
        assert said.first_line == f"✗ docker:{name} will not start  linux/amd64"
        assert ABSENT in said.out
        assert "/bin/app came with layer 1: COPY app /bin/app" in said.prose
    assert enoent("scan", "docker:cli/good:1", env=host).status == 0
    run = engine.run("cli/app:1")
    assert (run.exit_code, run.last_line.endswith(ABSENT)) == (1, True), "and the engine says the same"


@pytest.mark.docker
def test_an_image_that_the_docker_engine_lacks(enoent: Command, engine: Engine) -> None:
    said = enoent("scan", "docker:cli/none:1", env={"DOCKER_HOST": engine.url})
    assert (said.status, said.out) == (2, "")
    assert "No such image: cli/none:1" in said.err
    assert said.err.count("\n") == 1


def test_a_docker_host_that_is_no_socket_is_not_asked(enoent: Command, tmp_path: Path) -> None:
    tcp = enoent("scan", "docker:app", env={"DOCKER_HOST": "tcp://127.0.0.1:2375"})
    assert (tcp.status, tcp.err) == (
        2, "enoent: docker:app: DOCKER_HOST is tcp://127.0.0.1:2375; only unix:// sockets are asked\n",
    )  # fmt: skip
    gone = enoent("scan", "docker:app", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert (gone.status, gone.err) == (2, f"enoent: docker:app: no Docker engine at {tmp_path}/none.sock\n")
