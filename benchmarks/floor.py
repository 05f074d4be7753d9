"""The least that any reader must spend: isal's inflate, and SHA-256 of what comes in and what comes out.

A process of its own: `python -m benchmarks.floor BLOB...` prints CPU seconds as JSON. Nothing is parsed and nothing is kept.
The same chunks as the product reads, in one thread.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from pathlib import Path

from isal import igzip_lib

CHUNK_BYTES = 256 << 10
WINDOW_BYTES = 256 << 10


def read(blob: Path) -> None:
    """One gzip layer of one member, as this benchmark's image has them."""
    incoming, outgoing = hashlib.sha256(), hashlib.sha256()
    inner = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    with blob.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            incoming.update(chunk)
            window = inner.decompress(chunk, WINDOW_BYTES)
            while window:
                outgoing.update(window)
                if inner.eof or inner.needs_input:
                    break
                window = inner.decompress(b"", WINDOW_BYTES)


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(blobs: list[str]) -> None:
    cpu, wall = cpu_seconds(), time.perf_counter()
    for blob in blobs:
        read(Path(blob))
    print(json.dumps({"cpu_seconds": cpu_seconds() - cpu, "wall_seconds": time.perf_counter() - wall}))


if __name__ == "__main__":
    main(sys.argv[1:])
