"""Layer tars from dictionaries, as builders write them: parents listed, whiteouts as `.wh.` files, plain, gzip or zstd.

The words for one path (file, script, folder, symlink) are those of tests/make/views.py, which makes the facts
of such a layer without any tar.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from analyzers.facts import Kind
from tests.make.views import Item, file, folder, script, symlink

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Blob", "Item", "blob", "device", "fifo", "file", "folder", "hardlink", "program", "script", "symlink", "tar_of"]

MEDIA_TYPES = {
    "plain": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
_TAR_TYPES = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.DIRECTORY: tarfile.DIRTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.HARDLINK: tarfile.LNKTYPE,
    Kind.CHARACTER_DEVICE: tarfile.CHRTYPE,
    Kind.BLOCK_DEVICE: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}
Items = Mapping[str, Item | bytes | str]


class Blob(NamedTuple):
    """Bytes as transported, and the names that the specification gives them."""

    data: bytes
    media_type: str
    diff_id: str

    @property
    def digest(self) -> str:
        return sha256(self.data)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def program(content: bytes, mode: int = 0o755, uid: int = 0, gid: int = 0, capability: bytes = b"") -> Item:
    """A file with execute permission; `capability` is its raw `security.capability`."""
    return Item(Kind.FILE, content, mode, uid, gid, capability=capability)


def device(mode: int = 0o666) -> Item:
    """A character device; its number is that of /dev/null."""
    return Item(Kind.CHARACTER_DEVICE, mode=mode)


def fifo(mode: int = 0o644) -> Item:
    return Item(Kind.FIFO, mode=mode)


def hardlink(target: str, mode: int = -1, uid: int = 0, gid: int = 0) -> Item:
    """A hard link; with mode -1 it carries its target's mode and owner, as one inode has one of each."""
    return Item(Kind.HARDLINK, mode=mode, uid=uid, gid=gid, link=target.encode())


def tar_of(
    items: Items, *, whiteouts: Iterable[str] = (), opaques: Iterable[str] = (), parents: bool = True, mtime: int = 1_700_000_000
) -> bytes:
    """The tar of one layer in the order given (with `parents`: directories on the way first, root-owned 0755)."""
    wanted = {path: item if isinstance(item, Item) else file(item) for path, item in items.items()}
    wanted.update({_whiteout(path): file(b"") for path in whiteouts})
    wanted.update({f"{path}/.wh..wh..opq".lstrip("/"): file(b"") for path in opaques})
    buffer, seen = io.BytesIO(), set[str]()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, item in wanted.items():
            ancestors = [path[:end] for end, character in enumerate(path) if character == "/"] if parents else []
            for ancestor in ancestors:
                if ancestor not in wanted and ancestor not in seen:
                    tar.addfile(_member(ancestor, folder(), mtime))
                    seen.add(ancestor)
            if item.kind == Kind.HARDLINK and item.mode < 0:
                target = wanted.get(item.link.decode(), item)
                item = msgspec.structs.replace(item, mode=max(target.mode, 0), uid=target.uid, gid=target.gid)
            tar.addfile(_member(path, item, mtime), io.BytesIO(item.content))
    return buffer.getvalue()


def _whiteout(path: str) -> str:
    parent, slash, name = path.rpartition("/")
    return f"{parent}{slash}.wh.{name}"


def _member(path: str, item: Item, mtime: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = _TAR_TYPES[item.kind]
    member.mode, member.uid, member.gid, member.mtime = item.mode, item.uid, item.gid, mtime
    member.size = len(item.content) if item.kind == Kind.FILE else 0
    member.linkname = item.link.decode("utf-8", "surrogateescape")
    if item.kind == Kind.CHARACTER_DEVICE:
        member.devmajor, member.devminor = 1, 3
    if item.capability:
        member.pax_headers["SCHILY.xattr.security.capability"] = item.capability.decode("utf-8", "surrogateescape")
    return member


def blob(tar: bytes, compression: str = "gzip", level: int = 1) -> Blob:
    """A tar as it is transported: `plain`, `gzip` or `zstd`."""
    diff_id = sha256(tar)
    if compression == "gzip":
        return Blob(gzip.compress(tar, level, mtime=0), MEDIA_TYPES[compression], diff_id)
    if compression == "zstd":
        return Blob(zstd.compress(tar), MEDIA_TYPES[compression], diff_id)
    return Blob(tar, MEDIA_TYPES["plain"], diff_id)
