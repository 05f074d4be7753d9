"""Changes reach those who want them: from a push to a webhook, once each, also when the receiver was down."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.errors import SettingsError
from service.notices import SIGNATURE_HEADER, signature
from service.receivers import WebhookSettings
from service.secret import SecretFrom
from service.telling import read_receivers
from tests.daemon import LiveDaemon, live
from tests.make.images import Image, oci_layout
from tests.make.layers import script, tar_of
from tests.make.starts import TRUE


class Receiver:
    """A web server on loopback that keeps what it is sent and answers with `status`."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.url = ""

    def notices(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((dict(self.headers), body))
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def image(starts: bool, note: str = "") -> Image:
    own = {"bin/run": TRUE if starts else script("#!/opt/none\n"), "etc/note": note}
    return Image(layers=(tar_of(own),), entrypoint=["/bin/run"])


def settings(folder: Path, receiver: Receiver, **webhook: Any) -> Mapping[str, Any]:
    (folder / "url").write_text(receiver.url)
    (folder / "key").write_text("a signing key")
    return {
        "layouts": [{"path": str(folder / "layouts"), "name": "builds", "poll_seconds": 0.1}],
        "listen": {"port": 0, "public_url": "https://enoent.example"},
        "owners": [{"team": "payments", "images": ["oci-layout/pay*"]}],
        "webhooks": [{"url": {"file": str(folder / "url")}, "key": {"file": str(folder / "key")}, **webhook}],
    }


def push(folder: Path, starts: bool, note: str = "", repository: str = "pay-app") -> None:
    oci_layout(folder / "layouts" / repository, {"1": image(starts, note)})


def until_told(daemon: LiveDaemon, receiver: Receiver, count: int) -> list[dict[str, Any]]:
    daemon.until(lambda: len(receiver.got) >= count, f"{count} notices")
    return receiver.notices()


def test_breaking_and_mending_an_image_is_told_once_each_and_signed(tmp_path: Path) -> None:
    with receiving() as receiver:
        push(tmp_path, starts=True)
        with live(tmp_path, settings(tmp_path, receiver)) as daemon:
            daemon.until_settled(1)
            push(tmp_path, starts=False)
            broken = until_told(daemon, receiver, 1)[0]
            push(tmp_path, starts=True, note="mended")
            mended = until_told(daemon, receiver, 2)[1]
            assert (broken["kind"], broken["team"], broken["before"]) == ("fails-now", "payments", "starts")
            assert broken["message"] == "exec /bin/run: no such file or directory"
            assert broken["url"] == f"https://enoent.example/images/{broken['image_id']}"
            assert mended["kind"] == "recovered"
            headers, body = receiver.got[0]
            assert headers[SIGNATURE_HEADER] == signature(body, "a signing key")
            assert daemon.total("enoent_notices_total", receiver="webhook", outcome="sent") == 2
        with live(tmp_path, settings(tmp_path, receiver)) as daemon:
            daemon.until_settled(1)
            assert len(receiver.got) == 2, "a restart tells nothing anew"


def test_a_receiver_that_is_down_is_told_later(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.status = 503
        push(tmp_path, starts=False)
        with live(tmp_path, settings(tmp_path, receiver)) as daemon:
            until_told(daemon, receiver, 1)
            receiver.status = 200
            told = until_told(daemon, receiver, 2)
            assert told[0] == told[1], "the same notice, with the same number"
            daemon.until(lambda: daemon.total("enoent_notices_total", outcome="sent") == 1)


def test_a_notice_waits_in_the_database_while_the_daemon_is_dead(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.status = 503
        push(tmp_path, starts=False)
        with live(tmp_path, settings(tmp_path, receiver)) as daemon:
            until_told(daemon, receiver, 1)
            daemon.kill()
        receiver.status = 200
        receiver.got.clear()
        with live(tmp_path, settings(tmp_path, receiver)) as daemon:
            assert until_told(daemon, receiver, 1)[0]["kind"] == "fails-now"


def test_only_what_was_asked_for_is_told(tmp_path: Path) -> None:
    with receiving() as receiver:
        push(tmp_path, starts=False, repository="other")
        push(tmp_path, starts=False, note="x", repository="pay-one")
        with live(tmp_path, settings(tmp_path, receiver, teams=["payments"], form="slack")) as daemon:
            daemon.until_settled(2)
            told = until_told(daemon, receiver, 1)
            assert [("pay-one" in each["text"], "other" in each["text"]) for each in told] == [(True, False)]
            assert "will not start" in told[0]["text"]


def test_growth_and_new_rules_of_the_last_push_are_metrics_and_survive_a_restart(tmp_path: Path) -> None:
    with receiving() as receiver:
        push(tmp_path, starts=True)
        with live(tmp_path, settings(tmp_path, receiver)) as daemon:
            daemon.until_settled(1)
            assert daemon.total("enoent_image_growth_bytes", repository="pay-app") is None
            push(tmp_path, starts=True, note="x" * 5000)
            daemon.until(lambda: daemon.total("enoent_image_growth_bytes", repository="pay-app") == 5000)
            assert daemon.total("enoent_image_new_rules", repository="pay-app", rule="") == 0
            assert daemon.total("enoent_image_risk", repository="pay-app") == 0
            assert daemon.total("enoent_image_info", repository="pay-app", team="payments") == 1
            push(tmp_path, starts=False, note="x" * 5000)
            new = {"repository": "pay-app", "rule": "script.interpreter-absent"}
            daemon.until(lambda: daemon.total("enoent_image_new_rules", **new) == 1)
            grown = daemon.total("enoent_image_growth_bytes", repository="pay-app")
        with live(tmp_path, settings(tmp_path, receiver)) as daemon:
            daemon.until(lambda: daemon.total("enoent_image_new_rules", **new) == 1)
            assert daemon.total("enoent_image_growth_bytes", repository="pay-app") == grown


@pytest.mark.parametrize(
    ("url", "why"),
    [("ftp://example/x", "not an http address"), ("", "is empty")],
)
def test_a_wrong_address_is_named_by_its_key_and_not_by_its_value(tmp_path: Path, url: str, why: str) -> None:
    (tmp_path / "url").write_text(url)
    webhook = WebhookSettings(SecretFrom(file=str(tmp_path / "url")))
    with pytest.raises(SettingsError) as error:
        read_receivers([webhook], {})
    assert "webhooks[0].url" in str(error.value)
    assert why in str(error.value)
    assert "ftp" not in str(error.value)
