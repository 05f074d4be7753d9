"""docs/images/scan.png made anew from what the command prints now: `python -m tests.make.screenshot` (needs chromium)."""

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

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURE = ROOT / "docs" / "images" / "scan.png"
REFERENCE = "oci:rust-cli:busybox-glibc"
COLUMNS = 84


def main() -> None:
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
    main()
