"""`enoent top`: a daemon in a terminal, live: how its fleet stands, what it examines, what changed last.

Everything shown passes service/terminal.py, so that no name of an image can act upon the terminal. Without a terminal it is
shown once.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from analyzers.errors import EnoentError
from service.errors import SourceError
from service.remote import DaemonClient
from service.secret import Secret
from service.terminal import Line, cells, ends_apart, paint, shorten, width_of
from service.words import human_bytes

LOOK_SECONDS = 1.0
BAR_CELLS = 24
HEADER_ROWS = 4
LEAST_CHANGES = 3
KIND_CELLS = 17
LEAST_WORDS = 12
"""Cells below which words about a change are left out."""
WIDE_ENOUGH = 76
"""Columns that a bar needs."""
_STANDINGS = (
    ("fails", "bad", "will not start"),
    ("unknown", "doubt", "undecided"),
    ("waiting", "name", "waiting"),
    ("starts", "good", "start"),
)
_STYLES = {
    "fails-now": "bad", "fails-otherwise": "bad", "verdict-lost": "doubt", "new-rule": "doubt", "recovered": "good",
    "pushed": "faint", "appeared": "faint",
}  # fmt: skip


class Examined(msgspec.Struct, frozen=True):
    """What is needed of running.Running."""

    name: str
    platform: str
    layers: int
    layers_known: int
    done_bytes: int
    total_bytes: int
    seconds: float


class Now(msgspec.Struct, frozen=True):
    """What is needed of live.News."""

    standings: dict[str, int]
    running: tuple[Examined, ...]


class Told(msgspec.Struct, frozen=True):
    """What is needed of notices.Notice."""

    kind: str
    image: str
    platform: str
    message: str
    team: str
    at: float


class Changes(msgspec.Struct, frozen=True):
    items: tuple[Told, ...]


class View(msgspec.Struct, frozen=True):
    """One look at a daemon."""

    server: str
    now: Now
    changes: tuple[Told, ...]
    at: float
    trouble: str = ""
    """Why the last look failed; what is shown is older then."""


async def look(client: DaemonClient, server: str) -> View:
    """As it is now. Raises SourceError."""
    now = await client.get("/api/v1/now", Now)
    changes = await client.get("/api/v1/changes?limit=50", Changes)
    return View(server, now, changes.items, time.time())


async def once(server: str, token: Secret) -> View:
    """One look. Raises SourceError."""
    client = DaemonClient(server, token)
    try:
        return await look(client, server)
    finally:
        await client.close()


async def follow(server: str, token: Secret, *, colour: bool) -> None:
    """Until it is interrupted; a daemon that falls silent is waited for. Raises SourceError before the first look."""
    client = DaemonClient(server, token)
    console = Console(file=sys.stdout, no_color=not colour, highlight=False, markup=False, emoji=False)
    try:
        view = await look(client, server)
        with Live(_drawn(view, console), console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_drawn(view, console), refresh=True)
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    view = await look(client, server)
                except SourceError as error:
                    view = msgspec.structs.replace(view, trouble=str(error))
    finally:
        await client.close()


def _drawn(view: View, console: Console) -> Text:
    lines = top_lines(view, console.width, console.height)
    return Text.from_ansi(paint(lines, colour=True).rstrip("\n"), no_wrap=True, overflow="crop")


def top_lines(view: View, width: int, height: int | None = None) -> list[Line]:
    """The whole view; what does not fit in `height` lines is left out from the end of each part."""
    title: Line = (("strong", "enoent "), ("name", view.server))
    clock: Line = (("faint", time.strftime("%H:%M:%S", time.localtime(view.at))),)
    lines = [ends_apart(title, clock, width), tuple(_standings(view.now.standings)), ()]
    if view.trouble:
        lines[2] = (("alarm", shorten(f"no answer: {view.trouble}", width)),)
    running = list(_running(view.now.running, width))
    changes = list(_changes(view.changes, view.at, width))
    if height is not None:
        room = max(0, height - HEADER_ROWS - len(lines))
        least = min(len(changes), LEAST_CHANGES)
        running = running[: max(1, room - least)]
        changes = changes[: max(1, room - len(running))]
    lines += [(("strong", "Being examined"),), *running, (), (("strong", "Changes"),), *changes]
    return lines


def _standings(standings: dict[str, int]) -> Iterator[tuple[str, str]]:
    for place, (name, style, words) in enumerate(_STANDINGS):
        count = standings.get(name, 0)
        yield "", "   " if place else ""
        yield style if count else "faint", f"{count} {words}"


def _running(running: Sequence[Examined], width: int) -> Iterator[Line]:
    if not running:
        yield (("faint", "  nothing"),)
    for each in running:
        share = each.done_bytes / each.total_bytes if each.total_bytes else 0.0
        full = min(BAR_CELLS, round(BAR_CELLS * share))
        told = f"{each.layers_known}/{each.layers} layers"
        if each.done_bytes:
            told += f"  {human_bytes(each.done_bytes)}"
        right: Line = (("", told), ("faint", f"  {each.seconds:.0f} s"))
        if width >= WIDE_ENOUGH:
            right = (("name", "─" * full), ("faint", "·" * (BAR_CELLS - full)), ("", "  "), *right)
        name = shorten(f"{each.name} {each.platform}", width - width_of(right) - 4)
        yield ends_apart((("", f"  {name}"),), right, width)


def _changes(changes: Sequence[Told], now: float, width: int) -> Iterator[Line]:
    if not changes:
        yield (("faint", "  none yet"),)
    for each in changes:
        when, kind = f"{_ago(now - each.at):>8}  ", f"{each.kind:<{KIND_CELLS}}"
        team = f"  {shorten(each.team, KIND_CELLS)}" if each.team else ""
        room = width - cells(when) - KIND_CELLS - cells(team)
        said = f"  {each.message}" if each.message else ""
        name = shorten(f"{each.image} {each.platform}", room)
        yield (
            ("faint", when), (_STYLES.get(each.kind, ""), kind), ("", name),
            ("faint", shorten(said, room - cells(name)) if room - cells(name) > LEAST_WORDS else ""), ("name", team),
        )  # fmt: skip


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "now"


def describe(error: EnoentError, server: str) -> str:
    """Why there is nothing to show."""
    return f"{server} gives no answer: {error}"
