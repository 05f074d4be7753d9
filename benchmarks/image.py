"""The image that is measured: 1.5 GB in four layers, 44,000 entries, 1,300 distinct ELF files, all from Debian packages.

Made once and kept below .cache/bench; made anew when the recipe or what apt resolves has changed. Goals that the packages do
not reach are not padded: what came out is printed. The layers are compressed as `docker push` does it (gzip, level 6).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import io
import json
import random
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks import packages

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "bench"
RECIPE = 3
"""Rises when this file makes another image of the same packages."""
BYTES = 1_500_000_000
ENTRIES = 44_000
ELF_FILES = 1_300
GZIP_LEVEL = 6
MTIME = 1_700_000_000
WRITE_BYTES = 1 << 20
LAYERS = (
    ("base", ("bash", "coreutils")),
    ("apt-get install gcc g++ git", ("gcc", "g++", "git")),
    (
        "apt-get install python3-scipy python3-pandas python3-matplotlib",
        ("python3-scipy", "python3-pandas", "python3-matplotlib"),
    ),
    ("apt-get install ffmpeg nodejs postgresql", ("ffmpeg", "nodejs", "postgresql")),
)
ENTRYPOINT = ("/usr/bin/ffmpeg", "-version")
"""Needs more libraries than anything else here: about two hundred."""
_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
_OWN: dict[str, str | bytes] = {
    **packages.installed_links(),
    "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": b"root:x:0:\n",
}
"""What the first layer has beside packages: links (text) and files (bytes)."""
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CREATED = "2024-01-01T00:00:00Z"


class Layer(msgspec.Struct, frozen=True):
    """One layer blob below FOLDER/blobs, and what is in it."""

    instruction: str
    digest: str
    diff_id: str
    compressed_bytes: int
    uncompressed_bytes: int
    entries: int
    elf_files: int

    @property
    def path(self) -> Path:
        return FOLDER / "blobs" / self.digest.removeprefix("sha256:")


class Image(msgspec.Struct, frozen=True):
    """What was made. `recipe` names everything it was made from."""

    recipe: str
    layers: tuple[Layer, ...]

    @property
    def compressed_bytes(self) -> int:
        return sum(layer.compressed_bytes for layer in self.layers)

    @property
    def uncompressed_bytes(self) -> int:
        return sum(layer.uncompressed_bytes for layer in self.layers)

    @property
    def entries(self) -> int:
        return sum(layer.entries for layer in self.layers)

    @property
    def elf_files(self) -> int:
        return sum(layer.elf_files for layer in self.layers)

    def config(self) -> bytes:
        """The image config as JSON."""
        document = {
            "architecture": "amd64",
            "os": "linux",
            "created": _CREATED,
            "config": {"Entrypoint": ENTRYPOINT, "Env": _ENVIRONMENT},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": [{"created": _CREATED, "created_by": layer.instruction} for layer in self.layers],
        }
        return json.dumps(document).encode()

    def manifest(self) -> bytes:
        """The OCI manifest as JSON."""
        config = self.config()
        layers = [(_LAYER, layer.digest, layer.compressed_bytes) for layer in self.layers]
        first, *rest = [
            {"mediaType": kind, "digest": digest, "size": size}
            for kind, digest, size in [(_CONFIG, sha256(config), len(config)), *layers]
        ]
        return json.dumps({"schemaVersion": 2, "mediaType": _MANIFEST, "config": first, "layers": rest}).encode()


def sha256(data: bytes) -> str:
    """A digest as images name it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def big_image() -> Image:
    """The image, from the cache where it is there. Raises PackagesAbsent."""
    names: list[str] = []
    per_layer: list[list[str]] = []
    for _, wanted in LAYERS:
        names += wanted
        have = [file for files in per_layer for file in files]
        per_layer.append([file for file in packages.resolve(names) if file not in have])
    recipe = sha256(json.dumps([RECIPE, BYTES, ENTRIES, ELF_FILES, GZIP_LEVEL, LAYERS, per_layer]).encode())
    kept = FOLDER / "image.json"
    if kept.exists():
        image = msgspec.json.decode(kept.read_bytes(), type=Image)
        if image.recipe == recipe and all(layer.path.exists() for layer in image.layers):
            return image
    packages.download(names, FOLDER / "debs")
    (FOLDER / "blobs").mkdir(parents=True, exist_ok=True)
    left_out = _left_out(per_layer)
    # zlib lets go of the interpreter lock, so threads use every core.
    with concurrent.futures.ThreadPoolExecutor() as threads:
        made = threads.map(
            lambda number: _write_layer(LAYERS[number][0], _members(per_layer[number], left_out, number), FOLDER / "blobs"),
            range(len(LAYERS)),
        )
        image = Image(recipe, tuple(made))
    kept.write_bytes(msgspec.json.encode(image))
    return image


def added_layer(size: int = 1_000_000, seed: int = 0) -> Layer:
    """A small layer as a rebuild puts it on top: a program's own files, `size` bytes that do not shrink."""
    (FOLDER / "blobs").mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    contents = [draw.randbytes(size // 20) for _ in range(20)]
    members = [(_member(f"srv/app/part-{at}.bin", len(body)), body) for at, body in enumerate(contents)]
    return _write_layer("COPY app /srv/app", members, FOLDER / "blobs")


def small_layers(count: int, files: int = 20) -> tuple[Layer, ...]:
    """Many layers of few small files each."""
    (FOLDER / "blobs").mkdir(parents=True, exist_ok=True)
    layers = []
    for number in range(count):
        body = b"%d\n" % number * 50
        members = [(_member(f"srv/step-{number}/file-{at}", len(body)), body) for at in range(files)]
        layers.append(_write_layer(f"RUN step {number}", members, FOLDER / "blobs"))
    return tuple(layers)


# what goes in


def _left_out(per_layer: Sequence[Sequence[str]]) -> set[tuple[int, str]]:
    """Files (layer, path) to leave out so that the three goals are met and not passed."""
    plain: list[tuple[int, int, str]] = []
    elf: dict[bytes, tuple[int, int, str]] = {}
    total, entries = 0, len(_OWN)
    for number, names in enumerate(per_layer):
        for file in _unique(names):
            size = len(file.content) + 512 + -len(file.content) % 512
            if file.content.startswith(b"\x7fELF"):
                elf.setdefault(hashlib.sha256(file.content).digest(), (size, number, file.path))
            elif file.member.isreg():
                plain.append((size, number, file.path))
            entries += 1
            total += size
    # Conversions between character sets go first: no program here needs one to start.
    spare = sorted(elf.values(), key=lambda each: "/gconv/" in each[2])[ELF_FILES:]
    entries, total = entries - len(spare), total - sum(size for size, _, _ in spare)
    plain.sort()
    while total > BYTES and plain:
        spare.append(plain.pop())
        entries, total = entries - 1, total - spare[-1][0]
    spare += plain[: max(entries - ENTRIES, 0)]
    return {(number, path) for _, number, path in spare}


def _unique(names: Iterable[str]) -> Iterator[packages.File]:
    """Every file of some packages, each path once: the first package that has it wins."""
    seen: set[str] = set()
    for name in names:
        for file in packages.files(FOLDER / "debs" / name):
            if file.path not in seen:
                seen.add(file.path)
                yield file


def _members(names: Sequence[str], left_out: set[tuple[int, str]], number: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for path, content in _OWN.items() if number == 0 else ():
        member = _member(path, len(content))
        if isinstance(content, str):
            member.type, member.linkname, member.size, member.mode = tarfile.SYMTYPE, content, 0, 0o777
        yield member, b"" if isinstance(content, str) else content
    for file in _unique(names):
        if (number, file.path) in left_out:
            continue
        made = _member(file.path, len(file.content))
        made.type, made.mode = file.member.type, file.member.mode
        made.linkname = file.member.linkname
        if file.member.islnk():
            made.linkname = packages.merged(made.linkname) or made.linkname
        yield made, file.content


def _member(path: str, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mtime, member.mode = size, MTIME, 0o644
    return member


class _Blob:
    """Takes a tar, writes it compressed, and knows both digests."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._gzip = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
        self.digest, self.diff_id = hashlib.sha256(), hashlib.sha256()
        self.compressed_bytes = self.uncompressed_bytes = 0

    def write(self, data: bytes) -> int:
        self.diff_id.update(data)
        self.uncompressed_bytes += len(data)
        self._put(self._gzip.compress(data))
        return len(data)

    def _put(self, packed: bytes) -> None:
        self.digest.update(packed)
        self.compressed_bytes += len(packed)
        self._file.write(packed)

    def close(self) -> None:
        self._put(self._gzip.flush())
        self._file.close()


def _write_layer(instruction: str, members: Iterable[tuple[tarfile.TarInfo, bytes]], folder: Path) -> Layer:
    entries = 0
    elf: set[bytes] = set()
    unfinished = folder / f"unfinished-{hashlib.sha256(instruction.encode()).hexdigest()[:16]}"
    blob = _Blob(unfinished)
    with (
        contextlib.closing(blob),
        tarfile.open(fileobj=blob, mode="w|", format=tarfile.PAX_FORMAT, bufsize=WRITE_BYTES) as tar,
    ):
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
            entries += 1
            if content.startswith(b"\x7fELF"):
                elf.add(hashlib.sha256(content).digest())
    layer = Layer(
        instruction, f"sha256:{blob.digest.hexdigest()}", f"sha256:{blob.diff_id.hexdigest()}",
        blob.compressed_bytes, blob.uncompressed_bytes, entries, len(elf),
    )  # fmt: skip
    unfinished.rename(layer.path)
    return layer
