"""The daemon as people meet it: it starts on anything, shows what it found, forgets what is gone, and stops as it should."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from service.database import FILE_NAME
from tests.daemon import CHILD, ROOT, LiveDaemon, live, write_config
from tests.make.images import Image, oci_layout
from tests.make.layers import program, script, tar_of
from tests.service.test_demo import FAILING, STARTING

BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "opt/data": program(os.urandom(300_000))})


def failing(name: str) -> Image:
    """Its script asks for an interpreter that is not there."""
    own = tar_of({"bin/run": script("#!/opt/none\n"), "etc/name": name})
    return Image(layers=(BASE, own), entrypoint=["/bin/run"])


def run_until_it_ends(folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """A daemon that is expected not to stay."""
    path = write_config(folder, settings)
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def watching(folder: Path) -> dict[str, object]:
    return {"layouts": [{"path": str(folder), "name": "builds", "poll_seconds": 0.1}]}


def test_with_nothing_to_watch_the_first_page_shows_a_demonstration_fleet(tmp_path: Path) -> None:
    with live(tmp_path, {"demo": True}) as daemon:
        items = daemon.until(daemon.images) and daemon.until_settled()
        by_name = {item["repository"] + ":" + item["tag"]: item for item in items}
        assert {name for name, item in by_name.items() if item["standing"] == "starts"} >= STARTING
        for name, message in FAILING.items():
            assert (by_name[name]["standing"], message in by_name[name]["message"]) == ("fails", True), name
        page = daemon.get("/")
        assert "go-net" in page
        assert "will not start" in page
        assert [line.split()[-1] for line in daemon.greeting[1:]] == [f"{daemon.url}/", f"{daemon.url}/metrics"]
        assert (tmp_path / "state" / "demo" / "go-net" / "index.json").exists()


def test_without_anything_to_watch_and_without_the_demonstration_it_runs_and_is_empty(tmp_path: Path) -> None:
    with live(tmp_path) as daemon:
        assert daemon.images() == []
        assert "No image seen yet" in daemon.get("/")


def test_an_image_that_appears_gets_a_verdict_a_metric_and_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    oci_layout(folder / "app", {"1": failing("one")})
    with live(tmp_path, watching(folder)) as daemon:
        (item,) = daemon.until_settled(1)
        assert (item["name"], item["standing"], item["reason"]) == ("oci-layout/app:1", "fails", "interpreter_absent")
        verdict = {"repository": "app", "tag": "1", "verdict": "fails", "reason": "interpreter_absent"}
        assert daemon.total("enoent_image_start_verdict", **verdict) == 1
        assert daemon.total("enoent_layer_requests_total", result="miss") == 2
        assert daemon.total("enoent_streamed_bytes_total", source="builds") == item["compressed_bytes"]
        assert daemon.report(item["image_id"])["verdict"]["message"] == item["message"]
        (line,) = daemon.logged("image done")
        assert line["image"] == "oci-layout/app:1"
        assert (line["layers"], line["read"], line["verdict"]) == (2, 2, "fails")


def test_a_moved_tag_shows_the_new_image_and_a_deleted_one_leaves_every_metric(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    oci_layout(folder / "app", {"1": failing("one"), "2": failing("two")})
    with live(tmp_path, watching(folder)) as daemon:
        before = {item["tag"]: item for item in daemon.until_settled(2)}
        moved = failing("three")
        oci_layout(folder / "app", {"1": moved})
        daemon.until(lambda: [item["image_id"] for item in daemon.images()] == [moved.image_id])
        assert daemon.image("oci-layout/app:1")["first_seen"] == before["1"]["first_seen"]
        samples = {dict(labels).get("tag") for name, labels in daemon.samples() if name.startswith("enoent_image_")}
        assert samples == {"1", None}
        digests = {dict(labels)["digest"] for name, labels in daemon.samples() if name == "enoent_image_info"}
        assert len(digests) == 1
        assert before["1"]["manifest_digest"].removeprefix("sha256:")[:12] not in digests


def test_after_a_restart_nothing_is_read_or_judged_again_and_what_left_meanwhile_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    oci_layout(folder / "app", {"1": failing("one"), "2": failing("two")})
    with live(tmp_path, watching(folder)) as daemon:
        before = {item["tag"]: item for item in daemon.until_settled(2)}
        assert daemon.stop() == 0
    oci_layout(folder / "app", {"1": failing("one")})
    with live(tmp_path, watching(folder)) as daemon:
        daemon.until(lambda: len(daemon.images()) == 1)
        item = daemon.image("oci-layout/app:1")
        assert {key: item[key] for key in ("image_id", "first_seen", "analysed_at", "message")} == {
            key: before["1"][key] for key in ("image_id", "first_seen", "analysed_at", "message")
        }
        assert daemon.total("enoent_analyses_total") is None
        assert daemon.total("enoent_streamed_bytes_total") is None


def test_what_is_not_there_at_a_start_is_not_shown_and_comes_back_without_being_read_again(tmp_path: Path) -> None:
    folder, away = tmp_path / "layouts", tmp_path / "away"
    oci_layout(folder / "app", {"1": failing("one")})
    settings = {"layouts": [{"path": str(folder), "name": "builds", "poll_seconds": 0.1, "missing_ok": True}]}
    with live(tmp_path, settings) as daemon:
        (before,) = daemon.until_settled(1)
        daemon.stop()
    folder.rename(away)
    with live(tmp_path, settings) as daemon:
        assert daemon.images() == []
        assert daemon.total("enoent_image_info") is None
        away.rename(folder)
        daemon.signal(signal.SIGHUP)
        (item,) = daemon.until_settled(1)
        assert (item["image_id"], item["message"]) == (before["image_id"], before["message"])
        assert daemon.total("enoent_streamed_bytes_total") is None


def test_a_person_s_wish_is_examined_anew(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    oci_layout(folder / "app", {"1": failing("one")})
    with live(tmp_path, watching(folder)) as daemon:
        daemon.until_settled(1)
        status, _, body = daemon.request("POST", "/api/v1/rescan", {"repository": "app"})
        assert (status, body) == (202, b'{"queued":1}')
        daemon.until(lambda: len(daemon.logged("image done")) == 2)
        assert daemon.total("enoent_layer_requests_total", result="miss") == 2


def test_a_damaged_store_is_told_in_clear_words_and_by_the_exit_status(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).write_bytes(b"this is no database at all" * 1000)
    ended = run_until_it_ends(tmp_path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "is damaged" in ended.stderr
    assert "to begin anew: mv" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_told_in_clear_words(tmp_path: Path) -> None:
    with live(tmp_path / "first") as daemon:
        port = int(daemon.url.rpartition(":")[2])
        (tmp_path / "second").mkdir()
        ended = run_until_it_ends(tmp_path / "second", listen={"port": port})
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_h119_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with live(tmp_path):
        ended = run_until_it_ends(tmp_path)
    assert ended.returncode == 1
    assert "in use by another enoent" in ended.stderr


def test_h128_a_secret_that_cannot_be_read_is_told_at_start_by_its_key(tmp_path: Path) -> None:
    registry = {"host": "127.0.0.1:1", "username": "robot", "password_file": str(tmp_path / "absent")}
    ended = run_until_it_ends(tmp_path, registries=[registry])
    assert ended.returncode == 64
    assert "password_file of 127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_sources_of_one_name_are_refused_at_start(tmp_path: Path) -> None:
    ended = run_until_it_ends(tmp_path, layouts=[{"path": "a", "name": "x"}, {"path": "b", "name": "x"}])
    assert ended.returncode == 64
    assert "two sources are called 'x'" in ended.stderr


def test_h128_a_reload_with_a_bad_file_keeps_the_old_configuration_and_a_good_one_takes_up_new_sources(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    oci_layout(first / "app", {"1": failing("one")})
    oci_layout(second / "app", {"1": failing("two")})

    def layouts(*folders: Path) -> dict[str, object]:
        return {"layouts": [{"path": str(folder), "name": folder.name, "poll_seconds": 0.1} for folder in folders]}

    def reload(daemon: LiveDaemon, event: str) -> None:
        before = len(daemon.logged(event))
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: len(daemon.logged(event)) > before)

    with live(tmp_path, layouts(first)) as daemon:
        daemon.until_settled(1)
        assert daemon.total("enoent_config_last_reload_successful") == 1
        (tmp_path / "enoent.toml").write_text("layouts = 7\n")
        reload(daemon, "config reload failed")
        assert daemon.total("enoent_config_last_reload_successful") == 0
        assert [item["source"] for item in daemon.images()] == ["first"]
        write_config(tmp_path, {**layouts(first, second), "jobs": {"parallel": 3}})
        reload(daemon, "config reload done")
        assert daemon.total("enoent_config_last_reload_successful") == 1
        assert [item["source"] for item in daemon.until_settled(2)] == ["first", "second"]
        assert daemon.logged("config reload done")[-1]["at_next_start"] == ["jobs"]
        write_config(tmp_path, layouts(second))
        reload(daemon, "config reload done")
        assert [item["source"] for item in daemon.images()] == ["second"]
        assert daemon.total("enoent_source_up", source="first") is None
        assert '"name":"second"' in daemon.get("/config")
        assert '"name":"first"' not in daemon.get("/config")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_h124_a_signal_ends_an_idle_daemon_with_status_0(tmp_path: Path, number: int) -> None:
    with live(tmp_path) as daemon:
        daemon.signal(number)
        assert daemon.wait(25) == 0


def test_h124_a_signal_during_the_start_ends_it_with_status_0_and_a_sound_store(tmp_path: Path) -> None:
    with live(tmp_path, {"demo": True}, ready=False) as daemon:
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(25) == 0
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
