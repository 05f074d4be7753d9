"""How a walk through a script can end, and the ways out of its loops and functions."""

from __future__ import annotations

from typing import NamedTuple

from analyzers.finding import Step
from analyzers.shell.state import Blame, Launched


class Missing(NamedTuple):
    """A command that is wanted on the way and cannot be run."""

    file: str
    line: int
    blame: Blame
    steps: tuple[Step, ...] = ()
    tested: bool = False
    """The script asks whether it could be run."""


class Failed(NamedTuple):
    """The script ends because a command cannot be run."""

    file: str
    blame: Blame
    steps: tuple[Step, ...] = ()


class GaveUp(NamedTuple):
    """The script ends itself with a status that is not 0."""

    file: str
    line: int
    status: int | None
    words: bytes = b""


class Ended(NamedTuple):
    """The script is through."""

    status: int | None
    last: Launched | None = None
    """The program that it ends with, where its last command is one."""


class Stays(NamedTuple):
    """The script goes round in a loop for ever: it is the program."""

    file: str
    line: int


class Lost(NamedTuple):
    """From here on nothing is known."""

    file: str
    line: int
    why: str


Outcome = Launched | Failed | GaveUp | Ended | Stays | Lost


class Over(Exception):
    """The script ends here."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class Return(Exception):
    """A function or sourced file ends."""

    def __init__(self, status: int | None) -> None:
        super().__init__()
        self.status = status


class Break(Exception):
    """A loop ends."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels


class Continue(Break):
    """A loop's next round begins."""


class NotQuiet(Exception):
    """A branch that may or may not be taken leaves the script or its place: both ways have to be walked."""
