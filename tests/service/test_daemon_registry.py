"""The daemon over real registries: push, detect, verdict, metric; each layer once; nothing lost by kill -9 and by signals."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from service.database import FILE_NAME
from tests import registry as registries
from tests.daemon import LiveDaemon, live
from tests.fakes.relay import Relay, relay
from tests.make.images import CONFIG, MANIFEST, Image, manifest_of
from tests.make.layers import MEDIA_TYPES, program, script, sha256, tar_of
from tests.registry import Registry

pytestmark = pytest.mark.registry

BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "opt/data": program(os.urandom(200_000))})
RUN = tar_of({"bin/run": script("#!/opt/none\n")})


def image(name: str, *more: bytes) -> Image:
    """It fails for want of its interpreter; its last layer is its own."""
    return Image(layers=(BASE, RUN, *more, tar_of({"etc/name": name})), entrypoint=["/bin/run"])


def watching(*registries: Registry | Relay, **more: object) -> dict[str, object]:
    return {"registries": [{"host": each.host, "poll_seconds": 0.3, **more} for each in registries]}


def blob_reads(registry: Registry, repository: str) -> Counter[str]:
    """How often each layer or config was asked for."""
    return Counter(request.path.rpartition("/")[2] for request in registry.requests("GET", f"/v2/{repository}/blobs/"))


def layers_of(registry: Registry, repository: str, tag: str) -> list[str]:
    _, _, body = registry.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST})
    return [row["digest"] for row in json.loads(body)["layers"]]


def test_a_push_is_detected_judged_exported_and_a_deleted_tag_leaves(registry: Registry, tmp_path: Path) -> None:
    repository = "line/app"
    with live(tmp_path, watching(registry, repositories=[repository])) as daemon:
        assert daemon.images() == []
        digest = registry.push(f"{repository}:1", image("one"))
        registry.push(f"{repository}:2", image("two"))
        items = {item["tag"]: item for item in daemon.until_settled(2)}
        assert items["1"]["manifest_digest"] == digest
        assert items["1"]["message"] == "exec /bin/run: no such file or directory"
        labels = {"registry": registry.host, "repository": repository, "tag": "1", "platform": "linux/amd64"}
        assert daemon.total("enoent_image_start_verdict", verdict="fails", reason="interpreter_absent", **labels) == 1
        assert daemon.total("enoent_image_info", digest=digest.removeprefix("sha256:")[:12], **labels) == 1
        assert daemon.total("enoent_image_compressed_bytes", **labels) == items["1"]["compressed_bytes"]
        assert daemon.report(items["1"]["image_id"])["verdict"]["reason"] == "interpreter_absent"
        moved = registry.push(f"{repository}:2", image("three"))
        daemon.until(lambda: daemon.image(f"{registry.host}/{repository}:2")["manifest_digest"] == moved)
        registry.delete(repository, digest)
        daemon.until(lambda: [item["tag"] for item in daemon.images()] == ["2"])
        assert daemon.total("enoent_image_info", repository=repository, tag="1") is None
        assert daemon.total("enoent_source_up", source=registry.host) == 1


def test_a_platform_that_a_mirror_lacks_is_told_beside_the_verdict_of_the_others(registry: Registry, tmp_path: Path) -> None:
    repository = "mirror/app"
    other = msgspec.structs.replace(image("arm"), platform="linux/arm64")
    registry.push(f"{repository}:1", [image("amd"), other])
    registry.delete(repository, sha256(manifest_of(other)[0]))
    with live(tmp_path, watching(registry, repositories=[repository])) as daemon:
        daemon.until(lambda: len(daemon.images()) == 2)
        rows = {item["platform"]: item for item in daemon.images()}
        assert rows["linux/amd64"]["message"] == "exec /bin/run: no such file or directory"
        assert rows["linux/arm64"]["outcome"] == "not-found"


def test_two_hundred_tags_that_share_layers_cost_each_layer_once_and_a_restart_costs_nothing(
    registry: Registry, tmp_path: Path
) -> None:
    repository = "shared/app"
    for number in range(200):
        registry.push(f"{repository}:{number}", image(f"n{number}"))
    settings = watching(registry, repositories=[repository], poll_seconds=2)
    with live(tmp_path, settings) as daemon:
        items = daemon.until_settled(200)
        assert {item["message"] for item in items} == {"exec /bin/run: no such file or directory"}
        reads = blob_reads(registry, repository)
        assert set(reads.values()) == {1}
        assert set(layers_of(registry, repository, "7")) <= set(reads)
        assert len(reads) == 2 + 200 + 200  # shared layers, own layers, configs
        assert daemon.total("enoent_layer_requests_total", result="miss") == 202
        daemon.stop()
    asked = len(registry.requests("GET", f"/v2/{repository}/"))
    with live(tmp_path, settings) as daemon:
        assert len(daemon.images()) == 200
        assert daemon.total("enoent_layer_requests_total", result="miss") is None
        new = [request.path for request in registry.requests("GET", f"/v2/{repository}/")[asked:]]
        assert not [path for path in new if "/tags/list" not in path]


def test_kill_9_in_the_middle_of_a_layer_loses_nothing_and_no_finished_layer_is_read_again(
    registry: Registry, tmp_path: Path
) -> None:
    repository = "killed/app"
    big = tar_of({"opt/big": program(os.urandom(6_000_000))})
    registry.push(f"{repository}:1", image("killed", big))
    small_base, small_run, big_layer, own = layers_of(registry, repository, "1")
    with relay(registry.host) as between:
        between.hold(after=2_000_000)
        settings = watching(between, repositories=[repository])
        with live(tmp_path, settings) as daemon:
            daemon.until(between.held.is_set)
            daemon.until(lambda: {small_base, small_run, own} <= set(known_layers(tmp_path)))
            daemon.kill()
        between.release()
        with live(tmp_path, settings) as daemon:
            (item,) = daemon.until_settled(1)
            assert item["outcome"] == "done"
            assert daemon.total("enoent_layer_requests_total", result="miss") == 1
        reads = blob_reads(registry, repository)
        assert {digest: reads[digest] for digest in (small_base, small_run, own, big_layer)} == {
            small_base: 1, small_run: 1, own: 1, big_layer: 2
        }  # fmt: skip


def known_layers(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "state" / FILE_NAME) as connection:
        found = [row[0] for row in connection.execute("SELECT digest FROM blob")]
    connection.close()
    return found


def job_rows(folder: Path) -> list[tuple[str, int, int]]:
    with sqlite3.connect(folder / "state" / FILE_NAME) as connection:
        found = connection.execute("SELECT state, tries, deaths FROM job").fetchall()
    connection.close()
    return found


@pytest.fixture
def stalled(registry: Registry, tmp_path: Path) -> Relay:  # type: ignore[misc]
    """A registry whose one image stops coming in the middle of a layer."""
    name = f"stalled{tmp_path.name[-20:].lower().replace('_', '-').strip('-')}"
    registry.push(f"{name}:1", image("stalled", tar_of({"opt/big": program(os.urandom(4_000_000))})))
    with relay(registry.host) as between:
        between.hold(after=1_000_000)
        between.repository = name  # type: ignore[attr-defined]
        yield between


def test_h124_a_signal_in_the_middle_of_a_layer_ends_it_in_time_and_hands_the_job_back(
    stalled: Relay, registry: Registry, tmp_path: Path
) -> None:
    settings = {**watching(stalled, repositories=[stalled.repository]), "jobs": {"grace_seconds": 4}}  # type: ignore[attr-defined]
    with live(tmp_path, settings) as daemon:
        daemon.until(stalled.held.is_set)
        daemon.signal(signal.SIGTERM)
        daemon.until(lambda: daemon.request("GET", "/readyz")[0] == 503)
        assert "stopping" in daemon.request("GET", "/readyz")[2].decode()
        assert daemon.wait(25) == 0
    assert job_rows(tmp_path) == [("queued", 0, 0)]
    stalled.release()
    with live(tmp_path, settings) as daemon:
        assert daemon.until_settled(1)[0]["outcome"] == "done"


def test_h124_what_is_at_hand_may_be_finished_within_the_grace_time(stalled: Relay, tmp_path: Path) -> None:
    with live(tmp_path, watching(stalled, repositories=[stalled.repository])) as daemon:  # type: ignore[attr-defined]
        daemon.until(stalled.held.is_set)
        daemon.signal(signal.SIGTERM)
        daemon.until(lambda: daemon.logged("daemon stop"))
        stalled.release()
        assert daemon.wait(25) == 0
        assert [line["outcome"] for line in daemon.logged("image done")] == ["done"]
    assert job_rows(tmp_path) == []


def test_h124_a_second_signal_ends_it_now(stalled: Relay, tmp_path: Path) -> None:
    with live(tmp_path, watching(stalled, repositories=[stalled.repository])) as daemon:  # type: ignore[attr-defined]
        daemon.until(stalled.held.is_set)
        daemon.signal(signal.SIGTERM)
        daemon.until(lambda: daemon.logged("daemon stop"))
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(5) == 128 + signal.SIGTERM
    stalled.release()
    with live(tmp_path, watching(stalled, repositories=[stalled.repository])) as daemon:  # type: ignore[attr-defined]
        assert daemon.until_settled(1)[0]["outcome"] == "done"


def test_h097_h114_a_worker_killed_over_an_image_is_its_outcome_after_three_times_and_others_are_analysed(
    stalled: Relay, registry: Registry, tmp_path: Path
) -> None:
    registry.push("canary/app:1", image("canary"))
    repositories = [stalled.repository, "canary/app"]  # type: ignore[attr-defined]
    settings = watching(stalled, repositories=repositories)
    poisoned = f"{stalled.host}/{stalled.repository}:1"  # type: ignore[attr-defined]

    def given_up(daemon: LiveDaemon) -> bool:
        if stalled.held.is_set():
            stalled.held.clear()
            kill_workers(daemon)
        return [item["detail"] for item in daemon.images() if item["name"] == poisoned] == ["worker-died: signal-9"]

    with live(tmp_path, settings) as daemon:
        daemon.until(lambda: given_up(daemon))
        assert len(daemon.logged("image done", image=poisoned, outcome="worker-died")) == 3
        assert (daemon.total("enoent_worker_exits_total", reason="signal-9") or 0) >= 3
        assert daemon.until(lambda: daemon.image(f"{stalled.host}/canary/app:1")["outcome"] == "done")
        daemon.stop()
    with live(tmp_path, settings) as daemon:
        assert daemon.image(poisoned)["detail"] == "worker-died: signal-9"
        daemon.until(lambda: daemon.total("enoent_queue_jobs", state="poisoned") == 1)


def kill_workers(daemon: LiveDaemon) -> None:
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)


def test_a_dead_registry_a_wrong_password_and_another_source_do_not_touch_each_other(
    registry: Registry, guarded_registry: Registry, tmp_path: Path
) -> None:
    registry.push("alive/app:1", image("alive"))
    guarded_registry.push("secret/app:1", image("secret"))
    (tmp_path / "wrong").write_text("not the password\n")
    (tmp_path / "right").write_text("s3cret\n")
    dead = f"127.0.0.1:{registries.free_port()}"
    guarded = {"host": guarded_registry.host, "username": "ann", "repositories": ["secret/app"], "poll_seconds": 0.5}
    settings = {
        "registries": [
            {"host": dead, "repositories": ["any/app"], "poll_seconds": 0.5},
            {**guarded, "name": "wrong", "password_file": str(tmp_path / "wrong")},
            {**guarded, "name": "right", "password_file": str(tmp_path / "right")},
            {"host": registry.host, "repositories": ["alive/app"], "poll_seconds": 0.5},
        ]
    }
    with live(tmp_path, settings) as daemon:
        items = {item["source"]: item for item in daemon.until_settled(2)}
        assert {source: item["outcome"] for source, item in items.items()} == {"right": "done", registry.host: "done"}
        daemon.until(lambda: daemon.total("enoent_source_up", source=dead) == 0)
        assert daemon.total("enoent_source_up", source="wrong") == 0
        assert daemon.total("enoent_source_up", source="right") == 1
        assert daemon.total("enoent_source_last_success_timestamp_seconds", source=dead) is None
        assert daemon.request("GET", "/readyz")[0] == 200
        page = daemon.get("/sources")
        assert "refuses these credentials" in page
        assert "cannot be reached" in page or "is left in peace" in page  # after some failures in a row nobody asks for a while
        everything = page + daemon.get("/config") + daemon.get("/metrics") + (tmp_path / "log").read_text()
        assert "s3cret" not in everything
        assert "not the password" not in everything


def test_what_cannot_be_analysed_is_a_stored_outcome_in_clear_words_and_others_are_not_affected(
    registry: Registry, tmp_path: Path
) -> None:
    repository = "odd/app"
    registry.push(f"{repository}:good", image("good"))
    push_with_layer(registry, f"{repository}:corrupt", corrupt(gzip.compress(BASE)), MEDIA_TYPES["gzip"])
    whole = manifest_of(image("zstd"), "zstd")[1][1].data
    push_with_layer(registry, f"{repository}:truncated", whole[:-4], MEDIA_TYPES["zstd"])
    push_with_layer(registry, f"{repository}:bzip2", b"BZh91AY&SY" + bytes(5000), MEDIA_TYPES["gzip"])
    push_artifact(registry, f"{repository}:signature")
    spoiled = tar_of({"opt/spoiled": program(os.urandom(100_000))})
    registry.push(f"{repository}:spoiled", image("spoiled", spoiled))
    stored = registry.blob_path(layers_of(registry, repository, "spoiled")[2])
    right = stored.read_bytes()
    stored.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with live(tmp_path, watching(registry, repositories=[repository])) as daemon:
        items = {item["tag"]: item for item in daemon.until_settled(6)}
        outcomes = {tag: (item["outcome"], item["standing"]) for tag, item in items.items()}
        assert outcomes == {
            "good": ("done", "fails"),
            "corrupt": ("corrupt-layer", "unknown"),
            "truncated": ("corrupt-layer", "unknown"),
            "bzip2": ("unsupported-compression", "unknown"),
            "signature": ("not-an-image", "artifact"),
            "spoiled": ("digest-mismatch", "unknown"),
        }
        assert all(item["detail"] for tag, item in items.items() if tag != "good")
        assert daemon.total("enoent_image_start_verdict", repository=repository, verdict="unknown") == 4
        assert daemon.total("enoent_image_info", tag="signature") is None
        assert daemon.total("enoent_analyses_total", outcome="corrupt-layer") == 2
        # Bytes that were not what was asked for are asked for again, and are right in the end.
        stored.write_bytes(right)
        daemon.until(lambda: daemon.image(f"{registry.host}/{repository}:spoiled")["outcome"] == "done")


def corrupt(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 8]) + data[middle + 8 :]


def push_with_layer(registry: Registry, name: str, layer: bytes, media_type: str) -> None:
    """An image whose one layer is these bytes, under their true digest."""
    repository, _, tag = name.rpartition(":")
    config = Image(layers=(layer,), entrypoint=["/bin/run"]).config()
    document = {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": registry.push_blob(repository, config), "size": len(config)},
        "layers": [{"mediaType": media_type, "digest": registry.push_blob(repository, layer), "size": len(layer)}],
    }  # fmt: skip
    registry.push_manifest(repository, tag, json.dumps(document).encode())


def push_artifact(registry: Registry, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    body = b'{"critical": {}}'
    empty = registry.push_blob(repository, b"{}")
    registry.push_blob(repository, body)
    document = {
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "application/json", "digest": sha256(body), "size": len(body)}],
    }  # fmt: skip
    registry.push_manifest(repository, tag, json.dumps(document).encode())
