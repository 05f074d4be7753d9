"""From the end of a build to its verdict: small images built one after another by an engine that the daemon watches.

Both times are of one clock: when BuildKit says that the build was complete, and when the daemon had its verdict.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.buildkit import buildx
from tests.daemon import live
from tests.engine import Engine, started

BUILDS = 8
STORES: dict[str, dict[str, object]] = {"graphdriver": {}, "containerd": {"features": {"containerd-snapshotter": True}}}
_DOCKERFILE = b'FROM scratch\nCOPY run /bin/run\nENTRYPOINT ["/bin/run"]\n'


def after_builds() -> dict[str, list[float]]:
    """Seconds of each build by the engine's kind of store. The first is left out: it starts the workers."""
    found = {}
    for name, config in STORES.items():
        with (
            started(config) as engine,
            tempfile.TemporaryDirectory(prefix="enoent-bench-") as folder,
            live(Path(folder), {"docker": [{"socket": engine.socket, "poll_seconds": 3600.0}]}) as daemon,
        ):
            found[name] = [_seconds(engine, daemon, number) for number in range(BUILDS + 1)][1:]
    return found


def _seconds(engine: Engine, daemon: Any, number: int) -> float:
    made = buildx(engine, {"Dockerfile": _DOCKERFILE, "run": b"#!/opt/none\n%d" % number}, "-t", f"bench/app:{number}")
    ref = made["buildx.build.ref"].rpartition("/")[2]
    (item,) = daemon.until(lambda: [each for each in daemon.images(build=ref) if each["analysed_at"]])
    return float(item["analysed_at"] - item["build"]["completed_at"])
