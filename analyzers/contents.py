"""What the visible files of an image weigh: by directory, the biggest, doubled ones, and what a run stage need not carry.

Fed every visible regular file once, in the order of paths, so that a directory is complete when the next one begins and
nothing is remembered of it but its sum. What counts as a cache or a build tool is the table below: places where package
managers, compilers and JDKs put things, not guesses from sizes.
"""

from __future__ import annotations

import heapq
import re
from typing import NamedTuple

from analyzers.facts import ElfFacts
from analyzers.finding import Content, Weight
from analyzers.trail import show_path

SHOWN_DIRECTORIES = 400
SHOWN_FILES = 30
SHOWN_DOUBLES = 20
KNOWN_CONTENTS = 200_000
"""Content digests that are remembered to find doubles; later ones are not looked for."""


CACHE, TOOLS, HEADERS, ARCHIVES, SOURCES = "cache", "build-tools", "headers", "static-libraries", "version-control"
DEBUG, SYMBOLS = "debug", "symbols"
STRIPPED_FLOOR = 16 << 10
"""Bytes that `strip` must take from a file before it counts: what a compiler leaves in every small program is no news."""

_APT = "Add `&& rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb` to the RUN that runs apt-get."
_MOUNT = "Keep it out of the layer with `RUN --mount=type=cache,target={}`."

# Directory patterns, relative to the root; `*` stays within one name. The first that fits a directory or a parent counts.
PLACES: tuple[tuple[str, str, str, str], ...] = (
    # kind, pattern, what it is, what mends it
    (CACHE, "var/lib/apt/lists", "package lists of apt", _APT),
    (CACHE, "var/cache/apt", "packages kept by apt", _APT),
    (CACHE, "var/cache/apk", "packages kept by apk", "Use `apk add --no-cache`."),
    (CACHE, "etc/apk/cache", "packages kept by apk", "Use `apk add --no-cache`."),
    (CACHE, "var/cache/dnf", "metadata and packages kept by dnf", "Add `&& dnf clean all` to the RUN that runs dnf."),
    (CACHE, "var/cache/libdnf5", "metadata and packages kept by dnf", "Add `&& dnf clean all` to the RUN that runs dnf."),
    (CACHE, "var/cache/yum", "metadata and packages kept by yum", "Add `&& yum clean all` to the RUN that runs yum."),
    (CACHE, "var/cache/zypp", "packages kept by zypper", "Add `&& zypper clean -a` to the RUN that runs zypper."),
    (CACHE, "var/cache/pacman", "packages kept by pacman", "Add `&& pacman -Scc --noconfirm` to the RUN that runs pacman."),
    (CACHE, "*/.cache/pip", "wheels kept by pip", "Use `pip install --no-cache-dir`."),
    (CACHE, "*/.cache/uv", "wheels kept by uv", "Use `uv pip install --no-cache`, or a cache mount."),
    (CACHE, "*/.cache/pypoetry", "packages kept by poetry", _MOUNT.format("/root/.cache/pypoetry")),
    (CACHE, "*/.npm", "packages kept by npm", "Add `&& npm cache clean --force`, or a cache mount on /root/.npm."),
    (CACHE, "*/.cache/yarn", "packages kept by yarn", "Add `&& yarn cache clean`."),
    (CACHE, "usr/local/share/.cache/yarn", "packages kept by yarn", "Add `&& yarn cache clean`."),
    (CACHE, "*/.local/share/pnpm/store", "packages kept by pnpm", "Add `&& pnpm store prune`, or a cache mount."),
    (CACHE, "*/.cache/go-build", "Go's build cache", _MOUNT.format("/root/.cache/go-build")),
    (CACHE, "go/pkg/mod", "Go's module cache", "Copy only the program into the run stage."),
    (CACHE, "*/.cargo/registry", "crates kept by cargo", "Copy only the program into the run stage."),
    (CACHE, "usr/local/cargo/registry", "crates kept by cargo", "Copy only the program into the run stage."),
    (CACHE, "*/.m2/repository", "jars kept by Maven", "Copy only the built jar into the run stage."),
    (CACHE, "*/.gradle/caches", "jars kept by Gradle", "Copy only the built jar into the run stage."),
    (CACHE, "*/.composer/cache", "packages kept by composer", "Use `composer install --no-cache`."),
    (CACHE, "*/.bundle/cache", "gems kept by bundler", "Add `&& rm -rf ~/.bundle/cache`."),
    (CACHE, "usr/local/bundle/cache", "gems kept by bundler", "Add `&& rm -rf /usr/local/bundle/cache`."),
    (TOOLS, "usr/lib/gcc", "GCC", ""),
    (TOOLS, "usr/libexec/gcc", "GCC", ""),
    (TOOLS, "usr/lib/llvm-*", "LLVM", ""),
    (TOOLS, "usr/local/go", "the Go toolchain", ""),
    (TOOLS, "usr/lib/go", "the Go toolchain", ""),
    (TOOLS, "usr/lib/go-*", "the Go toolchain", ""),
    (TOOLS, "usr/share/go-*", "the Go toolchain", ""),
    (TOOLS, "usr/local/rustup", "the Rust toolchain", ""),
    (TOOLS, "usr/local/cargo", "the Rust toolchain", ""),
    (TOOLS, "usr/lib/rustlib", "the Rust toolchain", ""),
    (TOOLS, "usr/share/cmake*", "CMake", ""),
    (TOOLS, "*/jmods", "the modules of a JDK", "Run on a JRE, or on a runtime made by jlink."),
    (HEADERS, "usr/include", "C headers", ""),
    (HEADERS, "usr/local/include", "C headers", ""),
    (DEBUG, "usr/lib/debug", "debug information in files of its own", "Leave packages for debugging out of the run stage."),
    (SOURCES, "*/.git", "the history of a git repository", "Name .git in .dockerignore."),
)  # fmt: skip
_GO = 'Build it with `go build -ldflags="-s -w"`: stack traces keep their names.'
_STRIP = (
    "Run `strip` on it in the build stage. Rust does so with `strip = true` below `[profile.release]`, C and C++ when they are "
    "linked with `-s`."
)
_STAGE = "Build in a stage of its own and copy only what runs into the last one."
_TOOL_NAMES = (
    "gcc|g\\+\\+|cpp|cc1|cc1plus|c\\+\\+|cc|as|ld|ld\\.bfd|ld\\.gold|gold|dwp|ar|ranlib|make|cmake|ctest|cpack|ninja|meson|"
    "clang|clang\\+\\+|lld|rustc|cargo|rustup|rustdoc|go|gofmt|javac|jlink|jdeps|javadoc|autoconf|automake|libtool|gfortran|lto-dump"
)
_TOOL = re.compile(rf"(?:[a-z0-9_]+-(?:[a-z0-9]+-)*[a-z0-9]+-)?(?:{_TOOL_NAMES})(?:-[0-9.]+)?")
_JDK_FILES = {"ct.sym": "the class list of a JDK's compiler", "src.zip": "the sources of a JDK"}


class Weights(NamedTuple):
    """What a weighing gives, biggest first everywhere."""

    directories: tuple[Weight, ...]
    """With all that is below them; the root first."""
    biggest: tuple[Weight, ...]
    contents: tuple[Content, ...]
    """What a run stage need not carry."""
    doubles: tuple[Weight, ...]
    """Contents at several paths."""


class _Directory:
    """An open directory: the sums of what was seen below it."""

    __slots__ = ("files", "path", "place", "size_bytes")

    def __init__(self, path: bytes, place: tuple[str, str, bytes, str] | None = None) -> None:
        self.path = path
        self.place = place
        """The row of PLACES that it or a directory above it fits."""
        self.size_bytes = self.files = 0


class _Sum:
    """Content of one kind at one place."""

    __slots__ = ("files", "first", "layers", "remedy", "size_bytes")

    def __init__(self, remedy: str, first: bytes) -> None:
        self.remedy = remedy
        self.first = first
        """The first file of it."""
        self.size_bytes = self.files = 0
        self.layers: dict[int, int] = {}

    def add(self, size: int, layer: int) -> None:
        self.size_bytes += size
        self.files += 1
        self.layers[layer] = self.layers.get(layer, 0) + size


class Weighing:
    """Weighs files as they come. `finish` gives everything, biggest first."""

    def __init__(self) -> None:
        self._open = [_Directory(b"")]
        self._heaviest: list[tuple[int, bytes, int]] = []
        self._biggest: list[tuple[int, bytes, int]] = []
        self._sums: dict[tuple[str, str, bytes], _Sum] = {}
        self._contents: dict[bytes, tuple[int, int, bytes, int]] = {}
        """Of each content digest: its size, how often it came, and where first."""

    def see(self, path: bytes, size: int, layer: int, sha256: bytes, elf: ElfFacts | None = None) -> None:
        """One visible file. Paths come in rising order; a hard link is not a file of its own. `elf`: it is an ELF file."""
        directory, _, name = path.rpartition(b"/")
        while directory != self._open[-1].path:
            top = self._open[-1].path
            if not top or directory.startswith(top + b"/"):
                rest = directory[len(top) + 1 if top else 0 :]
                first = rest.partition(b"/")[0]
                opened = top + b"/" + first if top else first
                self._open.append(_Directory(opened, self._open[-1].place or _place(opened)))
            else:
                self._close()
        here = self._open[-1]
        here.size_bytes += size
        here.files += 1
        if len(self._biggest) < SHOWN_FILES:
            heapq.heappush(self._biggest, (size, path, layer))
        elif size > self._biggest[0][0]:
            heapq.heapreplace(self._biggest, (size, path, layer))
        found = here.place or _by_name(directory, name)
        spared = size
        if found is None and elf is not None:
            spared = elf.debug_bytes + elf.symbol_bytes
            found = _unstripped(directory, elf) if spared >= STRIPPED_FLOOR else None
        if found is not None:
            kind, what, where, remedy = found
            kept = self._sums.get((kind, what, where))
            if kept is None:
                kept = self._sums[kind, what, where] = _Sum(remedy, path)
            kept.add(spared, layer)
        if sha256 and size:
            self._compare(path, size, layer, sha256)

    def _compare(self, path: bytes, size: int, layer: int, sha256: bytes) -> None:
        known = self._contents.get(sha256)
        if known is not None:
            self._contents[sha256] = (size, known[1] + 1, known[2], known[3])
        elif len(self._contents) < KNOWN_CONTENTS:
            self._contents[sha256] = (size, 1, path, layer)

    def _close(self) -> None:
        closed = self._open.pop()
        above = self._open[-1]
        above.size_bytes += closed.size_bytes
        above.files += closed.files
        entry = (closed.size_bytes, closed.path, closed.files)
        if len(self._heaviest) < SHOWN_DIRECTORIES:
            heapq.heappush(self._heaviest, entry)
        elif entry > self._heaviest[0]:
            heapq.heapreplace(self._heaviest, entry)

    def finish(self) -> Weights:
        """Ends the weighing."""
        while len(self._open) > 1:
            self._close()
        root = self._open[0]
        below = [Weight(show_path(path), size, files) for size, path, files in self._heaviest]
        doubles = [
            Weight(show_path(path), size * (times - 1), times, layer)
            for size, times, path, layer in self._contents.values()
            if times > 1
        ]
        return Weights(
            directories=(Weight("/", root.size_bytes, root.files), *_by_weight(below)),
            biggest=_by_weight([Weight(show_path(path), size, 1, layer) for size, path, layer in self._biggest]),
            contents=tuple(
                sorted(
                    (_content(*place, total) for place, total in self._sums.items()),
                    key=lambda each: (-each.size_bytes, each.path),
                )
            ),
            doubles=_by_weight(doubles)[:SHOWN_DOUBLES],
        )


def _by_weight(weights: list[Weight]) -> tuple[Weight, ...]:
    return tuple(sorted(weights, key=lambda each: (-each.size_bytes, each.path)))


def _content(kind: str, what: str, where: bytes, total: _Sum) -> Content:
    layer = max(total.layers, key=lambda at: (total.layers[at], -at))
    if total.files == 1 and kind in (DEBUG, SYMBOLS):
        where = total.first
    return Content(kind, what, show_path(where), total.size_bytes, total.files, layer, total.remedy or _STAGE)


def _pattern(pattern: str) -> re.Pattern[bytes]:
    """A leading `*/` stands for any directory or none, every other `*` for part of one name."""
    anywhere = pattern.startswith("*/")
    body = "[^/]*".join(re.escape(part) for part in pattern.removeprefix("*/").split("*"))
    return re.compile((("(?:.*/)?" if anywhere else "") + body).encode(), re.DOTALL)


_PATTERNS = tuple((kind, _pattern(pattern), what, remedy) for kind, pattern, what, remedy in PLACES)
_LAST_BEGINNINGS = tuple(sorted({pattern.rpartition("/")[2].partition("*")[0].encode() for _, pattern, _, _ in PLACES}))


def _place(directory: bytes) -> tuple[str, str, bytes, str] | None:
    """The row of PLACES for a directory itself: (kind, what, the directory, remedy)."""
    if not directory.rpartition(b"/")[2].startswith(_LAST_BEGINNINGS):
        return None  # nearly all: spares forty patterns
    return next(
        ((kind, what, directory, remedy) for kind, pattern, what, remedy in _PATTERNS if pattern.fullmatch(directory)), None
    )


def _unstripped(directory: bytes, elf: ElfFacts) -> tuple[str, str, bytes, str]:
    """What `strip` would take from an ELF file: (kind, what, the directory, remedy)."""
    of_go, remedy = (" of Go programs", _GO) if elf.go_build_info else ("", _STRIP)
    if elf.debug_bytes:
        return DEBUG, f"debug information and symbols{of_go}", directory, remedy
    return SYMBOLS, f"symbols that only debuggers read{of_go}", directory, remedy


def _by_name(directory: bytes, name: bytes) -> tuple[str, str, bytes, str] | None:
    """What a single file is by its name: a compiler in a bin directory, a static library, the big files of a JDK."""
    if name.endswith(b".a") and name.startswith(b"lib"):
        return ARCHIVES, "static libraries", directory, ""
    text = name.decode("utf-8", "replace")
    if text in _JDK_FILES and directory.endswith(b"lib"):
        return TOOLS, _JDK_FILES[text], directory + b"/" + name, "Run on a JRE, or on a runtime made by jlink."
    if directory.endswith(b"bin") and _TOOL.fullmatch(text):
        return TOOLS, "compilers and build programs", directory, ""
    return None
