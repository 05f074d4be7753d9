"""enoent top: a daemon in a terminal, and one plain look where there is none."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.terminal import paint, width_of
from service.top import Examined, Now, Told, View, top_lines
from tests.daemon import LiveDaemon, live
from tests.make.command import ROOT, Command
from tests.make.images import Image, oci_layout
from tests.make.layers import program, tar_of
from tests.make.starts import TRUE
from tests.service.test_cli_terminal import plain


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    folder = tmp_path_factory.mktemp("top")
    good = Image(layers=(tar_of({"bin/app": TRUE}),), cmd=["/bin/app"])
    bad = Image(layers=(tar_of({"app": program(b"#!/bin/none\n")}),), cmd=["/app"])
    layout = oci_layout(folder / "images" / "shop", {"good": good, "bad": bad})
    owners = [{"team": "payments", "images": ["*"]}]
    with live(folder / "daemon", {"layouts": [{"path": str(layout.parent)}], "owners": owners}) as running:
        running.until_settled(2)
        yield running


def test_without_a_terminal_it_is_shown_once(enoent: Command, daemon: LiveDaemon) -> None:
    said = enoent("top", daemon.url)
    assert (said.status, said.err) == (0, "")
    assert daemon.url in said.first_line
    assert "1 will not start   0 undecided   0 waiting   1 start" in said.out
    assert "Being examined\n  nothing\n" in said.out
    assert re.search(r"now  fails-now        oci-layout/shop:bad linux/amd64 .*payments\n", said.out)
    assert "\x1b" not in said.out


def test_where_no_daemon_answers_that_is_told(enoent: Command) -> None:
    said = enoent("top", "http://127.0.0.1:1")
    assert (said.status, said.out) == (2, "")
    assert "http://127.0.0.1:1 gives no answer" in said.err


def test_on_a_terminal_it_stays_and_leaves_by_control_c(enoent: Command, daemon: LiveDaemon) -> None:
    parent, child = pty.openpty()
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **enoent.env}
    command = [sys.executable, "-m", "service", "top", daemon.url]
    process = subprocess.Popen(command, cwd=enoent.home, env=environment, stdin=child, stdout=child, stderr=child)
    os.close(child)
    seen = read_until(parent, b"fails-now")
    assert b"\x1b[?1049h" in seen, "its own screen"
    assert "1 will not start" in plain(seen.decode())
    process.send_signal(signal.SIGINT)
    seen = read_until(parent, b"\x1b[?1049l")
    assert process.wait(30) == 0
    assert b"Traceback" not in seen
    os.close(parent)


def read_until(descriptor: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 60
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([descriptor], [], [], 0.2)[0]:
            seen += os.read(descriptor, 65536)
    return seen


def view(running: int = 1, changes: int = 1, name: str = "registry.example/shop/api:1.0") -> View:
    at_hand = Examined(name, "linux/amd64", 8, 3, 40_000_000, 100_000_000, 12.0)
    told = Told("fails-now", name, "linux/amd64", "exec /api: no such file", "payments", 1000.0)
    return View("http://host:1", Now({"fails": 1, "starts": 7}, (at_hand,) * running), (told,) * changes, 1000.0 + 7200)


def test_what_is_examined_has_a_bar_as_long_as_what_was_read() -> None:
    text = paint(top_lines(view(), 100))
    assert "──────────··············  3/8 layers  40.0 MB  12 s" in text
    assert "2 h  fails-now        registry.example/shop/api:1.0 linux/amd64  exec /api: no such…  payments" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 14), (120, 10)])
def test_what_is_shown_fits_the_terminal(width: int, height: int) -> None:
    lines = top_lines(view(running=30, changes=50, name="registry.example/" + "long/" * 40 + "name:1"), width, height)
    assert len(lines) <= height
    assert all(width_of(line) <= width for line in lines)
    assert sum("fails-now" in paint([line]) for line in lines) >= 1, "changes keep some room"


def test_names_from_images_cannot_act_upon_the_terminal() -> None:
    text = paint(top_lines(view(name="shop/\x1b[2Japi\n\u202egnp:1"), 100))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_daemon_that_fell_silent_is_told_above_what_was_known(tmp_path: Path) -> None:
    import msgspec

    text = paint(top_lines(msgspec.structs.replace(view(), trouble="connection refused"), 80))
    assert "no answer: connection refused" in text
    assert "1 will not start" in text
