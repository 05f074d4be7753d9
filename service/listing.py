"""Which rows of the fleet a query means, and where a listing of them goes on. Pure functions of rows."""

from __future__ import annotations

import base64
import binascii
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from analyzers.errors import Malformed

if TYPE_CHECKING:
    from service.fleet import FleetQuery, FleetRow


def digests(row: FleetRow) -> tuple[str, ...]:
    """What the image may be known by."""
    return (row.digest, row.manifest_digest, row.image_id)


def filters(query: FleetQuery) -> Iterator[Callable[[FleetRow], bool]]:
    """What a row must fulfil; nothing for what is not asked."""
    for field in ("standing", "reason", "source", "registry", "repository", "tag", "platform", "team"):
        if wanted := getattr(query, field):
            yield lambda row, wanted=wanted, read=operator.attrgetter(field): wanted == read(row)  # type: ignore[misc]
    for field in ("os", "libc"):
        if wanted := getattr(query, field):
            yield lambda row, wanted=wanted, read=operator.attrgetter(field): wanted in _or_family(read(row))  # type: ignore[misc]
    if query.rule:
        yield lambda row: any(found.rule == query.rule for found in row.findings)
    if query.severity:
        yield lambda row: any(found.severity == query.severity for found in row.findings)
    if query.layer:
        yield lambda row: query.layer in row.layers
    if query.digest:
        yield lambda row: query.digest in digests(row)
    if query.build:
        yield lambda row: row.build is not None and row.build.ref == query.build
    if words := query.q.lower().split():
        yield lambda row: all(word in _searched(row) for word in words)


def _or_family(version: str) -> tuple[str, str]:
    """`debian 12` and `debian`."""
    return version, version.partition(" ")[0]


def _searched(row: FleetRow) -> str:
    return f"{row.name} {row.manifest_digest} {row.image_id} {row.message} {row.os} {row.libc} {row.detail}".lower()


def cursor_of(row: FleetRow, place: int) -> str:
    """What a listing that ends with this row goes on from."""
    raw = msgspec.msgpack.encode((place, row.key))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def place_after(rows: Sequence[FleetRow], cursor: str) -> int:
    """Where a listing goes on: behind the row the cursor names, or at its old place when it has left. Raises Malformed."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        place, key = msgspec.msgpack.decode(raw, type=tuple[int, tuple[str, str, str, str, str, str]])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise Malformed("cursor: not one that was given out here") from None
    found = next((index + 1 for index, row in enumerate(rows) if row.key == key), None)
    if found is not None:
        return found
    return max(0, min(place - 1, len(rows)))
