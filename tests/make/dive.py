"""Our bytes and dive's on the same images: one image for each way in which a build wastes bytes, and what each tool must say.

The figures stand in docs/metrics.md (metrics_page.py puts them there); tests/oracle/test_dive.py holds both tools to them.
"""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.make.elves import CACHE, ToolAbsent
from tests.make.layers import Items, tar_of
from tests.make.views import file, folder, hardlink

PROGRAM = CACHE / "dive" / "dive-0.13.1"
ARCHIVE = CACHE / "image" / "debian-bookworm-slim.tar"
"""A whole Debian with what apt keeps, as a layer's tar (tests/setup/image.sh)."""
MB = 1_000_000
BIG, OTHER = file("x" * MB), file("y" * MB)


class Told(NamedTuple):
    """What dive says of an image."""

    size_bytes: int
    wasted_bytes: int
    efficiency: float


class Case(NamedTuple):
    """An image by its layers, and what is to be said of it."""

    build: str
    """What a Dockerfile does."""
    layers: tuple[bytes, ...]
    ours: int
    """Wasted bytes."""
    dive: Told
    why: str = ""
    """Why the figures differ, or are what they are."""


def _layers(*layers: Items | tuple[Items, tuple[str, ...], tuple[str, ...]]) -> tuple[bytes, ...]:
    """Tars of dictionaries; a tuple has whiteouts and opaque directories besides."""
    made = [layer if isinstance(layer, tuple) else (layer, (), ()) for layer in layers]
    return tuple(tar_of(items, whiteouts=whiteouts, opaques=opaques) for items, whiteouts, opaques in made)


def _deleted(*paths: str) -> tuple[Items, tuple[str, ...], tuple[str, ...]]:
    return {}, paths, ()


CASES = (
    Case("`COPY a`, `COPY b`", _layers({"a": BIG}, {"b": OTHER}), 0, Told(2 * MB, 0, 1.0), "Nothing is hidden."),
    Case("`COPY a`, `RUN rm a`", _layers({"a": BIG}, _deleted("a")), MB, Told(MB, MB, 0.0), "The same."),
    Case("`COPY d/`, `RUN rm -r d`", _layers({"d/e/a": BIG}, _deleted("d")), MB, Told(MB, 0, 1.0),
         "One whiteout stands for the directory. dive looks for paths that come twice, and `d` comes once: as the whiteout. All "
         "of it is pulled and nobody sees it."),
    Case("`COPY d/`, `RUN rm -r d && mkdir d` (opaque)", _layers({"d/a": BIG}, ({"d/b": file("z")}, (), ("d",))), MB,
         Told(MB + 1, 0, 1.0), "dive passes over opaque marks: to it, `d` keeps what it had."),
    Case("`COPY d/`, `COPY` a file named `d`", _layers({"d/a": BIG}, {"d": file("z")}), MB, Told(MB + 1, 0, 1.0),
         "The file hides the directory; no path comes twice."),
    Case("`COPY a`, `RUN chmod 755 a`", _layers({"a": BIG}, {"a": file("x" * MB, 0o755)}), MB, Told(2 * MB, 2 * MB, 0.5),
         "dive counts every copy, the one that is used too; we count the hidden one."),
    Case("`COPY a`, `COPY` another `a`", _layers({"a": BIG}, {"a": OTHER}), MB, Told(2 * MB, 2 * MB, 0.5), "As before."),
    Case("`COPY a` three times", _layers({"a": BIG}, {"a": OTHER}, {"a": BIG}), 2 * MB, Told(3 * MB, 3 * MB, 1 / 3),
         "As before."),
    Case("`COPY a`, `RUN mv a b`", _layers({"a": BIG}, ({"b": BIG}, ("a",), ())), MB, Told(2 * MB, MB, 0.5), "The same."),
    Case("`COPY a`, `RUN rm a`, `COPY a`, `RUN rm a`", _layers({"a": BIG}, _deleted("a"), {"a": BIG}, _deleted("a")), 2 * MB,
         Told(2 * MB, 2 * MB, 0.0), "The same."),
    Case("`COPY a`, `RUN ln a b` in one layer", _layers({"a": BIG, "b": hardlink("a")}), 0, Told(MB, 0, 1.0),
         "A hard link has no bytes."),
    Case("`COPY d/`, `RUN chmod 700 d`", _layers({"d/a": BIG}, {"d": folder(0o700)}), 0, Told(MB, 0, 1.0),
         "A directory alone; its files are not copied."),
    Case("`COPY a b` of the same content", _layers({"a": BIG, "b": BIG}), 0, Told(2 * MB, 0, 1.0),
         "No layer hides anything. We tell such doubles by `size.duplicate-files`; dive does not look at contents."),
)  # fmt: skip
"""One way to waste bytes each."""


LISTS, PERL, INCLUDED = "var/lib/apt/lists", "usr/bin/perl", "usr/lib/x86_64-linux-gnu/libperl.so.5.36.0"
DEBIAN = Case(
    f"Debian bookworm with apt's lists, `RUN rm -r /{LISTS}`, `RUN chmod 4755 /{PERL}`, `RUN rm /{INCLUDED}`", (), 26_619_740,
    Told(159_438_980, 11_432_896, 0.957), "apt's lists are the difference, less the perl that is used.",
)  # fmt: skip
"""As of the archive of November 2026; the test computes what other archives must give."""


def ask_dive(archive: Path, answer: Path) -> Told:
    """What the real dive says of a `docker save` archive; `answer` is a file of its own. Raises ToolAbsent."""
    if not PROGRAM.exists():
        raise ToolAbsent(f"no dive for {platform.machine()}: run tests/setup/dive.sh")
    command = [str(PROGRAM), str(archive), "--source", "docker-archive", "--json", str(answer)]
    environment = {"HOME": str(archive.parent), "PATH": "/usr/bin:/bin"}
    subprocess.run(command, env=environment, check=True, timeout=240, capture_output=True)
    said = json.loads(answer.read_text())["image"]
    return Told(said["sizeBytes"], said["inefficientBytes"], said["efficiencyScore"])
