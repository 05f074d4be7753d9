"""The whole view in one command: daemon, Prometheus with the shipped rules, Alertmanager, all on this machine.

`python -m tests.make.stack` runs until Ctrl-C; with `--once` it ends when a push has become a told alert, with `--pictures` it
makes those of docs/images anew on the way. The fleet is the demonstration's; a tag of it is broken by a push after a while, so
that there is something to see. What Alertmanager would tell whom is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from service.demo import build_demo
from service.settings import ListenSettings
from service.tiny_elf import dynamic_program, static_program
from tests.browser.chromium import ChromiumAbsent
from tests.browser.chromium import started as browser_started
from tests.daemon import LiveDaemon, live
from tests.make.images import Image, oci_layout
from tests.make.layers import program, tar_of
from tests.prometheus import DEPLOY, Prometheus, PrometheusAbsent, free_port, running, started

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images"
SHOP = "shop-api"
PUSHED = f"oci-layout/{SHOP}:1.0"
ALERTS = "/classic/alerts"
"""Debian's Prometheus has the older pages only, and its Alertmanager has none."""
OPEN_ALERT = """
for (const row of document.querySelectorAll("tr")) {
  if (row.innerText.includes("enoent.rules.yml")) row.cells[0].innerText = row.innerText.replace(/^.*\\//, "");
  const header = row.matches(".alert_header") ? row : row.matches(".alert_details") ? row.previousElementSibling : null;
  if (header === null) continue;
  const news = header.innerText.includes("EnoentNewlyFails");
  row.style.display = header.innerText.includes("(0 active)") || (row !== header && !news) ? "none" : "table-row";
}
"""
"""What fires is shown, the news with its details; where the rules lie on this machine is nobody's business."""
LOADER = "/lib64/ld-linux-x86-64.so.2"


class Told:
    """A receiver on loopback in place of everybody's chat and pager: prints what Alertmanager sends it, and keeps it."""

    def __init__(self) -> None:
        self.alerts: list[tuple[str, str]] = []
        """(receiver, name of the alert)."""
        self.url = ""

    def take(self, receiver: str, message: dict[str, Any]) -> None:
        for alert in message["alerts"]:
            labels = alert["labels"]
            self.alerts.append((receiver, labels["alertname"]))
            # One write a line: receivers are told at the same time.
            sys.stdout.write(f"  {receiver} is told: {alert['status']}: {alert['annotations']['summary']}\n")
            sys.stdout.flush()


@contextlib.contextmanager
def receiving() -> Iterator[Told]:
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.take(self.path.strip("/"), json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def alerting(folder: Path, receivers: str) -> Iterator[str]:
    """Alertmanager with the shipped example, its receivers led to us and its pauses short; gives host:port."""
    command = shutil.which("prometheus-alertmanager")
    if command is None:
        raise PrometheusAbsent("no prometheus-alertmanager: run tests/setup/debian.sh")
    config = yaml.safe_load((DEPLOY / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "1s", "group_interval": "5s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{receivers}/{receiver['name']}"}]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    place = f"127.0.0.1:{free_port(9093)}"
    files = [f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alertmanager"]
    with running(
        [command, *files, f"--web.listen-address={place}", "--cluster.listen-address="], place, folder / "alertmanager.log"
    ):
        yield place


def push(folder: Path, *, starts: bool) -> None:
    """The tag that is broken before the onlookers' eyes."""
    content = static_program("hello") if starts else dynamic_program("hello", LOADER, ["libc.so.6"])
    image = Image(layers=(tar_of({"srv/api": program(content)}),), entrypoint=["/srv/api"], history=["COPY api /srv/api"])
    oci_layout(folder / SHOP, {"1.0": image})


def show(once: bool, pictures: bool) -> None:
    """Everything, until somebody has seen enough."""
    with tempfile.TemporaryDirectory(prefix="enoent-stack-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        build_demo(folder / "images")
        push(folder / "images", starts=True)
        settings = {
            "layouts": [{"path": str(folder / "images"), "name": "images", "poll_seconds": 1}],
            "owners": [{"team": "payments", "images": [f"*/{SHOP}"]}],
            "listen": {"port": free_port(ListenSettings().port)},
        }
        daemon = stack.enter_context(live(folder / "daemon", settings))
        told = stack.enter_context(receiving())
        alertmanager = stack.enter_context(alerting(folder, told.url))
        (folder / "prometheus").mkdir()
        target = daemon.url.removeprefix("http://")
        prometheus = stack.enter_context(started(folder / "prometheus", target, port=9090, alertmanager=alertmanager))
        print(f"page          {daemon.url}/\nmetrics       {daemon.url}/metrics\nprometheus    {prometheus.url}{ALERTS}")
        print(f"alertmanager  http://{alertmanager}/api/v2/alerts\n", flush=True)
        daemon.until_settled()
        watch_a_push(daemon, prometheus, folder / "images", told)
        if pictures:
            take_pictures(daemon, prometheus, folder)
        if not once:
            print("\nCtrl-C ends it.", flush=True)
            signal.pause()


def watch_a_push(daemon: LiveDaemon, prometheus: Prometheus, images: Path, told: Told) -> None:
    """A tag that starts is seen by Prometheus, broken by a push, and told."""
    wanted = f'enoent_image_start_verdict{{repository="{SHOP}", verdict="starts"}} == 1'
    prometheus.until(lambda: prometheus.query(wanted), PUSHED)
    print(f"{PUSHED} is pushed again, and does not start any more.", flush=True)
    push(images, starts=False)
    daemon.until(lambda: daemon.image(PUSHED)["standing"] == "fails")
    prometheus.until(lambda: ("payments-page", "EnoentNewlyFails") in told.alerts, "its alert")


def take_pictures(daemon: LiveDaemon, prometheus: Prometheus, folder: Path) -> None:
    """Of this very run: the alert in Prometheus, the changes, and what the push broke beside what was."""
    (folder / "browser").mkdir()
    with browser_started(folder / "browser") as browser:
        page = browser.page()
        page.resize(1180, 900)
        page.open(prometheus.url + ALERTS)
        page.until("document.body.innerText.includes('EnoentNewlyFails (1 active)')")
        page.js(OPEN_ALERT)
        page.picture(PICTURES / "alerts.png", whole=False)
        for name, place in (("changes", "/changes"), ("compare", compared(daemon))):
            page = browser.page()
            page.resize(1180, 720)
            page.open(daemon.url + place)
            page.picture(PICTURES / f"{name}.png", whole=False)


def compared(daemon: LiveDaemon) -> str:
    """The address of the two pushes side by side."""
    image = daemon.image(PUSHED)
    after, before = json.loads(daemon.get(f"/api/v1/history?repository={SHOP}&tag=1.0&registry={image['registry']}"))["items"]
    return f"/compare?before={before['id']}&after={after['id']}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.make.stack", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when the push has been told")
    parser.add_argument("--pictures", action="store_true", help="make docs/images anew; needs chromium")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        show(chosen.once, chosen.pictures)
    except (PrometheusAbsent, ChromiumAbsent) as error:
        print(f"demo-stack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
