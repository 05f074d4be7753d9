"""docs/images/*.png made anew from what the command prints and the pages show now: `python -m tests.make.screenshot`.

Needs chromium. The pages are those of a running daemon over the demonstration fleet.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from service.demo import build_demo
from tests.browser.chromium import started
from tests.daemon import live

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "docs" / "images"
PICTURE = PICTURES / "scan.png"
REFERENCE = "oci:rust-cli:busybox-glibc"
COLUMNS = 84


def pages() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "browser").mkdir()
        build_demo(folder / "images")
        settings = {"layouts": [{"path": str(folder / "images"), "name": "images"}]}
        with live(folder / "daemon", settings) as daemon, started(folder / "browser") as browser:
            daemon.until_settled()
            page = browser.page()
            page.resize(1180, 860)
            page.open(daemon.url)
            page.picture(PICTURES / "fleet.png", whole=False)
            [failing] = daemon.images(repository="removed-library")
            page.open(f"{daemon.url}/images/{failing['image_id']}")
            page.picture(PICTURES / "image.png")


def command() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_demo(folder)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1", "LANG": "C.UTF-8"}
        command = [sys.executable, "-m", "service", "scan", REFERENCE]
        shown = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=False).stdout.decode()
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(shown), soft_wrap=False)
        drawn = console.export_svg(title=f"enoent scan {REFERENCE}", theme=MONOKAI)
        # Nothing is fetched for a picture: the fonts of this machine will do.
        drawn = re.sub(r"@font-face\s*\{.*?\}", "", drawn, flags=re.DOTALL)
        size = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', drawn)
        assert size is not None
        page = folder / "page.html"
        page.write_text(f'<meta charset="utf-8"><body style="margin:0">{drawn}')
        window = f"--window-size={int(float(size[1]))},{int(float(size[2])) + 4}"
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", window]
        subprocess.run([*browser, f"--screenshot={PICTURE}", page.as_uri()], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    command()
    pages()
