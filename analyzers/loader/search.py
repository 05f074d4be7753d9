"""What searches of both loaders share: names of the places, path lists, dynamic string tokens, and a bounded record of it all.

Knows no order of places; that is glibc_search.py and musl.py.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping

from analyzers.finding import Attempt, Outcome

SHOWN_ATTEMPTS = 64
"""Attempts kept of one search; the last one, which is the answer, always is."""
KEPT_ATTEMPTS = 4_096
"""Attempts kept of a whole load: beyond it a search that succeeds keeps its answer alone."""


class Origin(enum.StrEnum):
    """Where a loader got the path that it tried (Attempt.origin)."""

    PRELOAD = "LD_PRELOAD"
    RPATH = "DT_RPATH"
    LIBRARY_PATH = "LD_LIBRARY_PATH"
    RUNPATH = "DT_RUNPATH"
    CACHE = "ld.so.cache"
    SYSTEM = "default directory"
    PATH_FILE = "musl path file"
    LOADED = "already loaded"
    RESERVED = "reserved name"
    PATH = "path"


class Trail:
    """The attempts of one search, in order; what does not fit is counted."""

    __slots__ = ("_dropped", "_kept", "_last", "met")

    def __init__(self) -> None:
        self._kept: list[Attempt] = []
        self._last: Attempt | None = None
        self._dropped = 0
        self.met: set[Outcome] = set()
        """Every outcome there was."""

    def add(self, attempt: Attempt) -> None:
        self.met.add(attempt.outcome)
        if len(self._kept) < SHOWN_ATTEMPTS:
            self._kept.append(attempt)
        else:
            self._dropped += self._last is not None
            self._last = attempt

    def skip(self, origin: Origin, why: str, whose: str = "") -> None:
        """A source of directories that the loader passes over."""
        self.add(Attempt(origin, "", Outcome.SKIPPED, whose, why))

    def last_path(self) -> str:
        """The path of the attempt added last."""
        last = self._last or (self._kept[-1] if self._kept else None)
        return last.path if last is not None else ""

    def attempts(self) -> tuple[Attempt, ...]:
        if self._last is None:
            return tuple(self._kept)
        left_out = Attempt(Origin.PATH, "", Outcome.SKIPPED, detail=f"{self._dropped + 1} more places are not shown")
        return (*self._kept[:-1], left_out, self._last)


class Ledger:
    """How many attempts of one load are still to be kept, so that a process of a thousand libraries stays small."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = KEPT_ATTEMPTS

    def keep(self, attempts: tuple[Attempt, ...], *, found: bool) -> tuple[Attempt, ...]:
        """All of them while there is room, and always those of a failure."""
        self._left -= len(attempts)
        return attempts if self._left >= 0 or not found else attempts[-1:]


_TOKEN = re.compile(rb"\$(?:\{(ORIGIN|PLATFORM|LIB)\}|(ORIGIN|PLATFORM|LIB)(?![A-Za-z0-9_]))")


def token_names(text: bytes) -> list[bytes]:
    """The dynamic string tokens that occur in `text`, as glibc's is_dst knows them (G20)."""
    return [found[1] or found[2] for found in _TOKEN.finditer(text)]


def expand_tokens(text: bytes, values: Mapping[bytes, bytes | None]) -> bytes:
    """`text` with its tokens replaced; empty when one of them has no value (G20). What is no token stays as it is."""
    if b"$" not in text:
        return text
    if any(values.get(name) is None for name in token_names(text)):
        return b""
    return _TOKEN.sub(lambda found: values[found[1] or found[2]] or b"", text)


def split_list(text: bytes, separators: bytes) -> list[bytes]:
    """Every element between separators, the empty ones too."""
    return re.split(b"[" + re.escape(separators) + b"]", text)


def unique(items: Iterable[bytes]) -> list[bytes]:
    """In order, each once."""
    return list(dict.fromkeys(items))
