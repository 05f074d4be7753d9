"""Scripts that a script runs and waits for: followed in turn, for what they want and what they write."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from analyzers.facts import Kind
from analyzers.handover.asked import asked, dialect_of
from analyzers.shell.commands import Speaker
from analyzers.shell.outcomes import Break, Ended, Failed, GaveUp, Lost, NotQuiet, Over, Return
from analyzers.shell.state import ANYWHERE, Launched, State, Writes
from analyzers.trail import show_path

if TYPE_CHECKING:
    from analyzers.shell.launching import Launching
    from analyzers.shell.walk import Walk

MAX_LEVELS = 3


class Followed(NamedTuple):
    status: int | None
    writes: Writes


def follow_script(walk: Launching, launched: Launched, *, seen: bool) -> Followed | None:
    """None for a program that is no script of a known shell, or whose text is not known. `seen`: its error output is."""
    executed = launched.executed
    dialect = dialect_of(executed)
    wanted = asked(executed.argv) if dialect is not None else None
    if dialect is None or wanted is None or wanted.path is None or wanted.unforeseen or walk.level >= MAX_LEVELS:
        return None
    node = walk.place.rootfs.resolve(wanted.path, cwd=launched.cwd, creds=walk.creds).node
    text = None if node is None or node.entry.kind != Kind.FILE else walk.place.rootfs.script(node)
    if text is None or node is None or walk.state.writes.names(b"/" + node.path):
        return None
    from analyzers.shell.survey import Script, first_state
    from analyzers.shell.walk import Walk

    place = walk.place._replace(env=launched.env, cwd=launched.cwd)
    file = show_path(node.path)
    state: State = first_state(place, Script(text, file, wanted.positional, wanted.options))
    state.writes = walk.state.writes
    speaker = Speaker(dialect, wanted.zero, text=False)
    inner = Walk(place, speaker, executed.creds, state, file=file, budget=walk.budget, choices=[], level=walk.level + 1)
    status, lost = _status(inner, text)
    walk.overheard(inner.missing, seen=seen)
    return Followed(status, inner.state.writes | ANYWHERE if lost else inner.state.writes)


def _status(inner: Walk, text: bytes) -> tuple[int | None, bool]:
    """(exit status, whether it was left before its end)."""
    try:
        status = inner.run_text(text)
        return (status if inner.state.last is None else None), False
    except Return as way:
        return way.status, False
    except Over as over:
        outcome = over.outcome
        if isinstance(outcome, Failed):
            return outcome.blame.exit_code, False
        if isinstance(outcome, GaveUp | Ended):
            return outcome.status, False
        return None, isinstance(outcome, Lost | Launched)
    except (NotQuiet, Break):
        return None, True
