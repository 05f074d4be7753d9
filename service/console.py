"""What a command shows: answers on standard output; progress, notes and complaints on standard error.

Decides about colour, width and bars by what the streams are; knows nothing of what is shown.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from service.scan import Onlooker
    from service.terminal import Line

NARROWEST, WIDEST, USUAL = 60, 100, 80
Answer = TypeVar("Answer")


def wait_for(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs it to its end. The log is the daemon's: what goes wrong here is told as the answer, or as a complaint."""
    import asyncio
    import logging

    import structlog

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(work)
    finally:
        structlog.configure(**before)


@contextlib.contextmanager
def watching(reference: str, shared: Mapping[str, Any]) -> Iterator[Onlooker]:
    """Bars on a terminal, notes elsewhere, silence when asked for."""
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    if shared["quiet"] or shared["no_progress"] or dumb or not sys.stderr.isatty():
        yield _Quiet(notes=not shared["quiet"])
        return
    from service.progress import Bars

    with Bars(sys.stderr, reference, colour=coloured(sys.stderr, no_color=shared["no_color"])) as bars:
        yield bars


class _Quiet:
    """Implements scan.Onlooker where nobody watches."""

    def __init__(self, *, notes: bool) -> None:
        self._notes = notes

    def begin(self, image: object) -> None:
        return None

    def note(self, text: str) -> None:
        if self._notes:
            complain(text)


def coloured(stream: Any, *, no_color: bool) -> bool:
    """Whether colours are wanted there: NO_COLOR and --no-color forbid them, FORCE_COLOR wants them without a terminal."""
    if no_color or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM", "dumb") != "dumb")


def page_width() -> int:
    """Columns to fill: those of the terminal within reason, 80 elsewhere."""
    if not sys.stdout.isatty():
        return USUAL
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((USUAL, 24)).columns))


def print_lines(lines: Iterable[Line], *, no_color: bool) -> None:
    """To standard output, in ASCII where that knows no better."""
    from service.terminal import paint

    plain = "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    text = paint(lines, colour=coloured(sys.stdout, no_color=no_color), ascii_only=plain)
    write(text.encode("ascii", "backslashreplace") if plain else text.encode())


def write(data: bytes) -> None:
    """To standard output. A reader that has gone away changes no verdict."""
    try:
        click.echo(data, nl=False)
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # What is left in the buffer would be flushed, and fail again, at exit.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def complain(text: str) -> None:
    """One line on standard error."""
    from service.terminal import printable

    click.echo(f"enoent: {printable(' '.join(text.split()))}", err=True)
