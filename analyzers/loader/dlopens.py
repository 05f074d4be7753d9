"""What objects of a process say that they will ask dlopen for: the FDO notes `.note.dlopen` (R42).

A note is an array of wishes, each with alternative sonames, any of which will do. Here it is only read; where a soname leads
is the loader's to say. Notes that are no such JSON are passed over, as tools that read them do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from analyzers.finding import Attempt, show

REQUIRED, RECOMMENDED, SUGGESTED = "required", "recommended", "suggested"
_WISHES = 64
"""Of one object."""
_SONAMES = 16
_TEXT = 200


class Wish(NamedTuple):
    """One feature of an object, and the libraries of which it needs one."""

    sonames: tuple[bytes, ...]
    priority: str = RECOMMENDED
    feature: str = ""
    description: str = ""


class Wished(msgspec.Struct, frozen=True):
    """A wish that no library of the image fulfils."""

    by: str
    """Path of the object."""
    sonames: tuple[str, ...]
    priority: str
    feature: str
    description: str
    attempts: tuple[Attempt, ...] = ()
    """For the first of the sonames."""


class _Json(msgspec.Struct):
    soname: list[str]
    priority: str = RECOMMENDED
    feature: str = ""
    description: str = ""


def read_wishes(notes: tuple[bytes, ...]) -> Iterator[Wish]:
    """In the order of the notes; the first few of an object with very many."""
    left = _WISHES
    for note in notes:
        try:
            items = msgspec.json.decode(note, type=list[_Json])
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        for item in items[:left]:
            sonames = tuple(name.encode("utf-8", "surrogatepass") for name in item.soname[:_SONAMES] if name)
            if not sonames:
                continue
            priority = item.priority if item.priority in (REQUIRED, SUGGESTED) else RECOMMENDED
            left -= 1
            yield Wish(sonames, priority, item.feature[:_TEXT], item.description[:_TEXT])


def unfulfilled(by: bytes, wish: Wish, attempts: tuple[Attempt, ...]) -> Wished:
    """The wish as it is told."""
    return Wished(show(by), tuple(map(show, wish.sonames)), wish.priority, wish.feature, wish.description, attempts)
