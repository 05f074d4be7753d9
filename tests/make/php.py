"""A real PHP of this machine in a small Debian: the program, two extensions with their settings, and all libraries they want."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

from tests.make import roots
from tests.make.elves import ToolAbsent
from tests.make.layers import file, symlink

VERSION, API = "8.2", "20220829"
EXTENSIONS = f"usr/lib/php/{API}"
CONF = f"etc/php/{VERSION}/cli/conf.d"


@functools.cache
def root() -> roots.Root:
    """`php` with zip and calendar turned on."""
    programs = [Path(f"/usr/bin/php{VERSION}"), *(Path(f"/{EXTENSIONS}/{name}.so") for name in ("zip", "calendar"))]
    missing = [str(path) for path in programs if not path.exists()]
    if missing:
        raise ToolAbsent(f"{missing[0]} is not on this machine: php8.2-cli, php8.2-zip")
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, timeout=60, check=True).stdout
    libraries = sorted(set(re.findall(r"=> /(?:usr/)?lib/(\S+)", said)))
    return {
        **roots.debian(),
        **roots.machine(*(f"usr/lib/{path}" for path in libraries)),
        **roots.machine(*(str(path)[1:] for path in programs)),
        "usr/bin/php": symlink(f"php{VERSION}"),
        f"etc/php/{VERSION}/mods-available/zip.ini": file(
            "; configuration for php zip module\n; priority=20\nextension=zip.so\n"
        ),
        f"etc/php/{VERSION}/mods-available/calendar.ini": file("extension=calendar\n"),
        f"{CONF}/20-zip.ini": symlink(f"/etc/php/{VERSION}/mods-available/zip.ini"),
        f"{CONF}/20-calendar.ini": symlink(f"/etc/php/{VERSION}/mods-available/calendar.ini"),
    }
