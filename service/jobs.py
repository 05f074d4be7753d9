"""The two kinds of jobs: examining a name, and judging an image again. How each is named and what it has in hand.

An examination's kind carries its source, so that no source can take every turn; its key is the name alone, so that a tag
that moves while it waits is one job with the newer digest (hostile 113).
"""

from __future__ import annotations

import json

import msgspec

from service.sources import Sighting
from service.work import PRIORITY_JUDGE, PRIORITY_NEW, Wish

JUDGE = "judge"
_EXAMINE = "examine "
_ENCODE = msgspec.msgpack.Encoder(enc_hook=str).encode
"""A Digest is text of its own class."""


class Look(msgspec.Struct, frozen=True):
    """What an examination has in hand."""

    sighting: Sighting
    asked: bool = False
    """A person wants it: what is known of another name with the same digest does not do."""


def examine_kind(source: str) -> str:
    """The kind of all examinations of one source."""
    return _EXAMINE + source


def examination(sighting: Sighting, priority: int = PRIORITY_NEW, *, fresh: bool = False, asked: bool = False) -> Wish:
    """A wish to examine a name. `fresh`: it shows something new, so earlier tries and deaths do not count."""
    name = (sighting.registry, sighting.repository, sighting.tag or sighting.digest)
    return Wish(examine_kind(sighting.source), json.dumps(name), _ENCODE(Look(sighting, asked)), priority, fresh)


def look_of(payload: bytes) -> Look:
    """The payload of an examination."""
    return msgspec.msgpack.decode(payload, type=Look)


def judgement(image_id: str) -> Wish:
    """A wish to judge an image again from stored facts; its key is the image ID."""
    return Wish(JUDGE, image_id, b"", PRIORITY_JUDGE)
