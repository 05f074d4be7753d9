"""What is seen on a terminal and what when nobody watches: bars, colours, widths, pipes, and how fast help is there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from service.terminal import cells, ends_apart, paint, printable, shorten, wrap
from tests.make.command import ROOT, Command
from tests.make.images import Image, oci_layout
from tests.make.layers import file, tar_of
from tests.make.starts import TRUE

BIG = tar_of({"opt/data": file(os.urandom(3_000_000)), "bin/app": TRUE})
IMAGE = Image(layers=(BIG, tar_of({"etc/x": "x"})), cmd=["/bin/app"])


class Seen(NamedTuple):
    """What a terminal was sent, and what a pipe was."""

    status: int
    terminal: str
    piped: str


def on_terminal(enoent: Command, *words: str | Path, piped: bool = False, size: tuple[int, int] = (40, 80), **env: str) -> Seen:
    """Runs the command with standard error on a terminal, and standard output too unless `piped`."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    command = [sys.executable, "-m", "service", *map(str, words)]
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "PYTHONPATH": str(ROOT),
        **enoent.env,
        **env,
    }
    process = subprocess.Popen(
        command, cwd=enoent.home, env=environment, stdin=child, stdout=subprocess.PIPE if piped else child, stderr=child
    )
    os.close(child)
    seen = bytearray()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([parent], [], [], 0.1)[0]:
            try:
                chunk = os.read(parent, 65536)
            except OSError:  # what Linux says when the last writer has gone
                break
            if not chunk:
                break
            seen += chunk
        elif process.poll() is not None:
            break
    out = process.stdout.read().decode() if process.stdout else ""
    status = process.wait(60)
    os.close(parent)
    return Seen(status, seen.decode("utf-8", "replace"), out)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return f"oci:{oci_layout(tmp_path / 'big', {'1': IMAGE})}"


def test_a_terminal_sees_a_bar_a_layer_and_then_only_the_answer(enoent: Command, reference: str) -> None:
    seen = on_terminal(enoent, "scan", reference)
    assert seen.status == 0
    assert re.search(r"linux/amd64  [0-9a-f]{12}", seen.terminal)
    assert re.search(r"read, 3\.0 MB", plain(seen.terminal))
    assert "\x1b[32m✓\x1b[0m \x1b[1moci:" in seen.terminal
    assert "\x1b[2K" in seen.terminal[: seen.terminal.index("✓")], "the bars are wiped away before the answer"


def test_layers_that_are_known_are_shown_as_known(enoent: Command, reference: str) -> None:
    enoent("scan", reference)
    seen = on_terminal(enoent, "scan", reference)
    assert len(re.findall(r"known, ", plain(seen.terminal))) >= 2
    assert "read, " not in seen.terminal


def test_bars_go_to_the_terminal_while_the_answer_goes_down_the_pipe(enoent: Command, reference: str) -> None:
    seen = on_terminal(enoent, "scan", reference, "--format", "json", piped=True)
    assert seen.piped.startswith("{")
    assert "\x1b" not in seen.piped
    assert "linux/amd64  " in seen.terminal
    assert '"schema"' not in seen.terminal


@pytest.mark.parametrize("words", [["--quiet"], ["--no-progress"]])
def test_bars_can_be_done_without(enoent: Command, reference: str, words: Sequence[str]) -> None:
    seen = on_terminal(enoent, "scan", reference, "--format", "json", *words, piped=True)
    assert (seen.status, seen.terminal) == (0, "")


def test_a_dumb_terminal_gets_neither_bars_nor_colours(enoent: Command, reference: str) -> None:
    seen = on_terminal(enoent, "scan", reference, TERM="dumb")
    assert "\x1b" not in seen.terminal
    assert seen.terminal.startswith("✓ oci:")


def test_when_piped_all_is_quiet_and_without_colour(enoent: Command, reference: str) -> None:
    process = enoent.process("scan", reference, TERM="xterm-256color")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")
    assert b"\x1b" not in out


@pytest.mark.parametrize(("words", "env"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"})])
def test_colours_can_be_refused(enoent: Command, reference: str, words: Sequence[str], env: dict[str, str]) -> None:
    seen = on_terminal(enoent, "scan", reference, "--no-progress", *words, **env)
    assert "✓ oci:" in seen.terminal
    assert "\x1b[" not in seen.terminal


def test_colours_can_be_asked_for_in_a_pipe(enoent: Command, reference: str) -> None:
    assert "\x1b[32m✓" in enoent("scan", reference, env={"FORCE_COLOR": "1"}).out
    assert "\x1b" not in enoent("scan", reference, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).out


def test_wide_terminals_are_used_within_reason(enoent: Command, reference: str) -> None:
    wide = plain(on_terminal(enoent, "scan", reference, "--no-progress", size=(40, 200)).terminal)
    narrow = plain(on_terminal(enoent, "scan", reference, "--no-progress", size=(40, 70)).terminal)
    longest = [max(len(line) for line in text.splitlines() if "layer 0" in line) for text in (wide, narrow)]
    assert longest == [100, 70]


def test_a_reader_that_goes_away_changes_no_verdict(enoent: Command, reference: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = enoent.process("scan", reference, stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")


def test_an_ascii_world_gets_ascii(enoent: Command, tmp_path: Path) -> None:
    named = Image(layers=(tar_of({"bin/größe": TRUE}),), cmd=["/bin/größe"])
    process = enoent.process("scan", f"oci:{oci_layout(tmp_path / 'a', {'1': named})}", PYTHONIOENCODING="ascii")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")
    assert out.isascii()
    assert b"/bin/gr\\xf6\\xdfe" in out
    assert out.startswith(b"+ oci:")


def test_an_interrupt_ends_it_with_130_and_no_traceback(enoent: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        process = enoent.process("scan", f"127.0.0.1:{silent.getsockname()[1]}/app")
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


HEAVY = (
    "aiohttp",
    "docker",
    "google",
    "grpc",
    "rich",
    "sqlalchemy",
    "alembic",
    "jinja2",
    "structlog",
    "prometheus_client",
    "asyncio",
)


@pytest.mark.parametrize(("words", "heavy"), [
    (["--help"], HEAVY), (["scan", "--help"], HEAVY), (["rules"], HEAVY), (["config", "check"], HEAVY),
    (["scan", "oci:/nowhere"], ("sqlalchemy", "alembic", "google", "grpc", "jinja2", "prometheus_client")),
    (["gate", "sha256:" + "0" * 64], ("google", "grpc", "jinja2", "prometheus_client")),
])  # fmt: skip
def test_no_command_imports_what_it_does_not_need(enoent: Command, words: Sequence[str], heavy: Sequence[str]) -> None:
    script = (
        "import sys\nfrom service.cli import cli\ncli.main(sys.argv[1:], standalone_mode=False)\n"
        "print('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=enoent.home, capture_output=True, text=True, timeout=60, check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **enoent.env},
    )  # fmt: skip
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "click" in loaded
    assert sorted(set(loaded) & set(heavy)) == []


# Lines


@pytest.mark.parametrize(("text", "shown"), [
    ("plain", "plain"),
    ("größe 日本", "größe 日本"),
    ("a\x1b[2Jb\r\n\x07\x85\u200b\u202e", "a\\x1b[2Jb\\x0d\\x0a\\x07\\x85\\u200b\\u202e"),
    ("\ud800", "\\xed\\xa0\\x80"),
    ("already \\x1b", "already \\x1b"),
])  # fmt: skip
def test_what_a_terminal_would_act_upon_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(printable(text)) == shown
    assert paint([(("", text),)]) == f"{shown}\n"


def test_endless_text_is_cut_and_says_so() -> None:
    assert printable("x" * 100_000) == "x" * 2000 + "… (98000 more characters)"


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("", 0)])
def test_widths_are_those_of_a_terminal(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(("width", "shown"), [(20, "COPY 日本 /app"), (13, "COPY 日本 /a…"), (8, "COPY 日…"), (1, "…")])
def test_text_that_does_not_fit_ends_in_an_ellipsis(width: int, shown: str) -> None:
    assert shorten("COPY 日本 /app", width) == shown
    assert cells(shown) <= width


def test_words_are_filled_into_lines_and_long_ones_left_whole() -> None:
    lines = wrap((("", "one two"), ("strong", "three /a/path/that/is/longer/than/a/line end")), 12, (("", "* "),))
    assert paint(lines).splitlines() == ["* one two", "  three", "  /a/path/that/is/longer/than/a/line", "  end"]


def test_both_ends_of_a_line_keep_apart() -> None:
    assert paint([ends_apart((("", "left"),), (("", "right"),), 12)]) == "left   right\n"
    assert paint([ends_apart((("", "much longer"),), (("", "right"),), 12)]) == "much longer  right\n"
