"""The demonstration fleet: small images, good and broken, made from this machine's own files when there is nothing to watch.

Each is one of the ways in which run stages go wrong (S1 to S5b of the scenarios and their kin). Loader, libraries and tools
are the machine's; the programs are put together by tiny_elf.py, so no compiler is needed. What the machine lacks is left
out. The same files give the same digests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from service.tiny_elf import MACHINES, dynamic_program, static_program

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CREATED = "2024-01-01T00:00:00Z"
_BUSYBOX_GLIBC = ("libc.so.6", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2")
_DEBIAN_MORE = ("libdl.so.2", "librt.so.1", "libgcc_s.so.1")
_NET = ("libresolv.so.2", "libpthread.so.0", "libc.so.6")
_RUST = ("libdl.so.2", "libpthread.so.0", "libgcc_s.so.1", "libc.so.6")
_ACCOUNTS = {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "etc/group": b"root:x:0:\n"}


class _Link(msgspec.Struct, frozen=True):
    target: str


class _Layer(msgspec.Struct, frozen=True):
    """Paths to contents or links, what the layer removes, and the build instruction that it came from."""

    instruction: str
    files: Mapping[str, bytes | _Link] = {}
    removed: tuple[str, ...] = ()
    modes: Mapping[str, int] = {}


class _Image(msgspec.Struct, frozen=True, kw_only=True):
    layers: tuple[_Layer, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    architecture: str


class _Machine:
    """What of this machine's own files can serve."""

    def __init__(self) -> None:
        names = {"x86_64": "amd64", "aarch64": "arm64"}
        self.architecture = names.get(platform.machine(), "amd64")
        self.facts = MACHINES[self.architecture]
        self._native = platform.machine() in names

    def glibc(self, names: Sequence[str]) -> dict[str, bytes | _Link] | None:
        """The loader and these libraries under /lib; None where the machine has no glibc of its own."""
        loader = Path(self.facts.glibc_loader)
        found = {name: path for name in names if (path := self._library(name)) is not None}
        if not self._native or not loader.exists() or "libc.so.6" not in found:
            return None
        files: dict[str, bytes | _Link] = {f"lib/{loader.name}": loader.read_bytes()}
        if self.facts.glibc_loader.startswith("/lib64/"):
            files["lib64"] = _Link("lib")
        return files | {f"lib/{name}": path.read_bytes() for name, path in found.items()}

    def _library(self, name: str) -> Path | None:
        for folder in (
            f"/usr/lib/{self.facts.triplet}",
            f"/lib/{self.facts.triplet}",
            "/usr/lib64",
            "/lib64",
            "/usr/lib",
            "/lib",
        ):
            if Path(folder, name).is_file():
                return Path(folder, name)
        return None

    def musl(self) -> bytes | None:
        loader = Path(self.facts.musl_loader)
        return loader.read_bytes() if self._native and loader.exists() else None


def _images(machine: _Machine) -> dict[str, dict[str, _Image]]:
    """Repositories to tags to images."""
    facts, architecture = machine.facts, machine.architecture
    static = static_program("hello", architecture)
    in_c = dynamic_program("hello", facts.glibc_loader, ["libc.so.6"], architecture=architecture)
    with_net = dynamic_program("listening", facts.glibc_loader, _NET, architecture=architecture)
    in_rust = dynamic_program("hello from rust", facts.glibc_loader, _RUST, architecture=architecture)
    in_musl = dynamic_program(
        "hello", facts.musl_loader, [f"libc.musl-{facts.triplet.split('-')[0]}.so.1"], architecture=architecture
    )
    foreign = "arm64" if architecture == "amd64" else "amd64"

    shell = {
        "bin/sh": static_program("a shell", architecture),
        "etc/os-release": b'ID=alpine\nVERSION_ID=3.23\nPRETTY_NAME="Alpine Linux v3.23"\n',
    }
    musl = machine.musl()
    musl_files: dict[str, bytes | _Link] = {}
    if musl is not None:
        loader = facts.musl_loader.lstrip("/")
        libc = f"lib/libc.musl-{facts.triplet.split('-')[0]}.so.1"
        musl_files = {loader: musl, libc: _Link(loader.rpartition("/")[2])}
    alpine = _Layer("ADD alpine-minirootfs.tar.gz / # buildkit", {**shell, **musl_files, **_ACCOUNTS})

    def on(base: _Layer | None, path: str, program: bytes, **more: object) -> _Image:
        copy = _Layer(f"COPY --from=build {path} {path} # buildkit", {path.lstrip("/"): program})
        layers = (copy,) if base is None else (base, copy)
        return _Image(**{"layers": layers, "entrypoint": (path,), "architecture": architecture, **more})  # type: ignore[arg-type]

    script = b'#!/bin/bash\nset -e\nexec /app/server "$@"\n'
    fleet = {
        "hello-static": {"scratch": on(None, "/hello", static)},
        "hello-c": {"scratch": on(None, "/hello", in_c), "alpine": on(alpine, "/hello", in_c)},
        "go-net": {"scratch": on(None, "/server", with_net), "cgo-disabled": on(None, "/server", static)},
        "rust-cli": {"musl": on(None, "/usr/bin/tool", static)},
        "entrypoint-script": {
            "alpine": on(alpine, "/docker-entrypoint.sh", script),
            "crlf": on(alpine, "/docker-entrypoint.sh", b"#!/bin/sh\r\nexec /app/server\r\n"),
        },
        "shell-form": {"scratch": on(None, "/server", static, entrypoint=(), cmd=("/bin/sh", "-c", "/server --listen :8080"))},
        "unknown-user": {"scratch": on(None, "/server", static, user="app")},
        "wrong-architecture": {"latest": on(None, "/server", static_program("hello", foreign))},
        "not-executable": {"latest": _Image(
            layers=(_Layer("COPY server /server # buildkit", {"server": static}, modes={"server": 0o644}),),
            entrypoint=("/server",), architecture=architecture)},
        "not-on-path": {"latest": on(None, "/opt/bin/server", static, entrypoint=("server",))},
    }  # fmt: skip
    if musl is not None:
        fleet["hello-c"]["built-in-alpine"] = on(alpine, "/hello", in_musl)
    small, full = machine.glibc(_BUSYBOX_GLIBC), machine.glibc((*_BUSYBOX_GLIBC, *_DEBIAN_MORE))
    if small is None or full is None:
        return fleet
    busybox = _Layer("COPY rootfs / # busybox:glibc", {"bin/sh": static_program("a shell", architecture), **small, **_ACCOUNTS})
    debian = _Layer(
        "RUN debootstrap # debian:stable-slim", {"bin/sh": static_program("a shell", architecture), **full, **_ACCOUNTS}
    )
    fleet["hello-c"]["busybox-glibc"] = on(busybox, "/hello", in_c)
    fleet["go-net"]["busybox-glibc"] = on(busybox, "/server", with_net)
    fleet["rust-cli"]["debian"] = on(debian, "/usr/bin/tool", in_rust)
    fleet["rust-cli"]["busybox-glibc"] = on(busybox, "/usr/bin/tool", in_rust)
    cleaned = _Layer("RUN rm -f /lib/libresolv.so.2 # save some space", removed=("lib/libresolv.so.2",))
    server = on(debian, "/server", with_net)
    fleet["removed-library"] = {"latest": msgspec.structs.replace(server, layers=(*server.layers, cleaned))}
    return fleet


def _tar(layer: _Layer) -> bytes:
    buffer, seen = io.BytesIO(), set[str]()
    contents: dict[str, bytes | _Link] = dict(layer.files)
    for path in layer.removed:
        parent, slash, name = path.rpartition("/")
        contents[f"{parent}{slash}.wh.{name}"] = b""
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in sorted(contents.items()):
            for end in (at for at, character in enumerate(path) if character == "/"):
                if path[:end] not in seen:
                    seen.add(path[:end])
                    directory = tarfile.TarInfo(path[:end])
                    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(directory)
            member = tarfile.TarInfo(path)
            member.mode = layer.modes.get(path, 0o755)
            if isinstance(content, _Link):
                member.type, member.linkname = tarfile.SYMTYPE, content.target
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class _Layout:
    """An OCI image layout folder being filled; a layer that several images share is compressed once."""

    def __init__(self, folder: Path, tars: dict[int, tuple[str, bytes]]) -> None:
        self._folder = folder
        self._tars = tars
        self._entries: list[dict[str, object]] = []
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)

    def _put(self, data: bytes, media_type: str) -> dict[str, object]:
        hexadecimal = hashlib.sha256(data).hexdigest()
        (self._folder / "blobs" / "sha256" / hexadecimal).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{hexadecimal}", "size": len(data)}

    def add(self, tag: str, image: _Image) -> None:
        diff_ids, descriptors = [], []
        for layer in image.layers:
            if id(layer) not in self._tars:
                tar = _tar(layer)
                self._tars[id(layer)] = ("sha256:" + hashlib.sha256(tar).hexdigest(), gzip.compress(tar, 6, mtime=0))
            diff_id, blob = self._tars[id(layer)]
            diff_ids.append(diff_id)
            descriptors.append(self._put(blob, _LAYER))
        options = {"Entrypoint": image.entrypoint, "Cmd": image.cmd, "User": image.user}
        config = {
            "architecture": image.architecture,
            "os": "linux",
            "created": _CREATED,
            "config": {key: value for key, value in options.items() if value},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": _CREATED, "created_by": layer.instruction} for layer in image.layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._put(json.dumps(config).encode(), _CONFIG),
            "layers": descriptors,
        }
        descriptor = self._put(json.dumps(manifest).encode(), _MANIFEST)
        self._entries.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}})

    def finish(self) -> None:
        """Writes the two files that make it a layout, the index last: a reader never sees a half of it."""
        (self._folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": self._entries}
        partial = self._folder / "index.json.partial"
        partial.write_text(json.dumps(index))
        partial.replace(self._folder / "index.json")


def build_demo(folder: Path) -> list[str]:
    """Writes one OCI layout a repository below `folder`; gives the references, such as `oci:FOLDER/go-net:scratch`.

    Blocking, about a second. OSError when `folder` cannot be written.
    """
    references, tars = [], dict[int, tuple[str, bytes]]()
    fleet = _images(_Machine())
    for repository, tags in fleet.items():
        layout = _Layout(folder / repository, tars)
        for tag, image in tags.items():
            layout.add(tag, image)
            references.append(f"oci:{folder / repository}:{tag}")
        layout.finish()
    return references
