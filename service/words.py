"""How reports are put into words, for pages and terminal alike: stages, reasons, sizes, build instructions and the trail
as a tree. Pure functions of what a report says.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analyzers.finding import Outcome, Severity, Stage, Step

MAX_TREE_DEPTH = 12
STAGE_WORDS = {
    Stage.CONFIG: "settings: the engine refuses the configuration",
    Stage.LOOKUP: "lookup: the runtime does not find the program",
    Stage.EXECVE: "exec: the kernel refuses the program",
    Stage.LOAD: "load: the dynamic loader gives up",
    Stage.CRASH: "crash: it dies before its first own instruction",
    Stage.STARTED: "started: its own code runs",
}
REASON_WORDS = {
    "interpreter_absent": "loader or interpreter absent",
    "library_absent": "library absent",
    "version": "version too old",
    "symbol": "symbol missing",
    "architecture": "wrong architecture",
    "user": "user unknown",
    "path": "program not found",
    "permission": "permission denied",
    "script": "broken script",
    "runtime": "refused by the runtime",
    "other": "other",
}
ACTION_WORDS = {
    "lookup": "program",
    "exec": "exec",
    "interpreter": "interpreter",
    "loader": "loader",
    "library": "library",
    "preload": "preload",
    "version": "version",
    "symbol": "symbol",
    "user": "user",
    "workdir": "working directory",
}
SEVERITY_STYLES = {Severity.FATAL: "bad", Severity.LATER: "bad", Severity.WARNING: "doubt", Severity.INFO: "faint"}
"""Styles of service/terminal.py."""


class Branch(msgspec.Struct):
    """A step of the start chain and what its result asked for in turn."""

    step: Step
    children: list[Branch]
    ok: bool


def tree(steps: Sequence[Step]) -> list[Branch]:
    """Steps hung below the step that found the object they are wanted by; order is kept, failures shine through."""
    roots: list[Branch] = []
    by_path: dict[str, tuple[Branch, int]] = {}
    for step in steps:
        branch = Branch(step, [], step.ok)
        parent = by_path.get(step.by) if step.by else None
        depth = 0
        if parent is None or parent[1] >= MAX_TREE_DEPTH:
            roots.append(branch)
        else:
            parent[0].children.append(branch)
            depth = parent[1] + 1
        for path in _names_of(step):
            by_path.setdefault(path, (branch, depth))
    for root in roots:
        _settle(root)
    return roots


def _names_of(step: Step) -> list[str]:
    """Paths by which what was found may be named as the one that wants more: links resolved, as opened, as written."""
    opened = [attempt.path for attempt in step.attempts if attempt.outcome is Outcome.FOUND]
    return [path for path in (step.path, *opened, step.wanted) if path.startswith("/")] if step.path else []


def _settle(branch: Branch) -> bool:
    for child in branch.children:
        branch.ok = _settle(child) and branch.ok
    return branch.ok


def instruction(created_by: str) -> str:
    """A build instruction as its author wrote it, without what builders add."""
    text = created_by.strip().removesuffix("# buildkit").strip()
    if "#(nop)" in text:
        return text.partition("#(nop)")[2].strip()
    if text.startswith("|"):
        # Classic builders put "|2 A=1 B=2 " before a RUN with build arguments.
        _, _, text = text.partition(" /bin/sh -c ")
        text = "/bin/sh -c " + text if text else created_by
    if text.startswith("/bin/sh -c "):
        return "RUN " + text.removeprefix("/bin/sh -c ").strip()
    return text.replace("RUN /bin/sh -c ", "RUN ", 1) or "(no record)"


def human_bytes(count: float) -> str:
    """Powers of a thousand, three digits: 13.9 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
