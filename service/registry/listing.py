"""Catalogs and tag lists: the names on a page, and where the next page is. What a registry lists is checked before it is used:
a name becomes part of an address only if it follows the grammar of names, and a next page must lie in the same API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from yarl import URL

from analyzers.errors import Rejected
from analyzers.oci import load_json
from service.errors import SourceError
from service.outbound import parse_url
from service.registry.reference import is_repository, is_tag

LISTING_BYTES = 8 << 20
LISTING_PAGES = 10_000
LISTING_NAMES = 250_000
"""More than this are not kept in memory: the listing is partial (hostile 65)."""
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r'(?:^|;)\s*rel\s*=\s*"?(?:[^";]*\s)?next(?:\s[^";]*)?"?\s*(?:[;,]|$)', re.IGNORECASE)
_GRAMMAR = {"repositories": is_repository, "tags": is_tag}


class Listing:
    """Names, and whether they are all there are."""

    def __init__(self, names: list[str], *, complete: bool = True) -> None:
        self.names = names
        self.complete = complete


def names_of(body: bytes, field: str, host: str) -> list[str]:
    """The names on one page that can be names; `field` is `repositories` or `tags`. Raises SourceError."""
    try:
        fields = load_json(body, LISTING_BYTES)
    except Rejected as error:
        raise SourceError(f"{host}: its listing is not readable: {error.detail}") from error
    rows = fields.get(field) if isinstance(fields, dict) else None
    fits = _GRAMMAR[field]
    return [row for row in rows if isinstance(row, str) and fits(row)] if isinstance(rows, list) else []


def next_page(links: Iterable[str], page: URL, base: URL) -> tuple[URL | None, bool]:
    """Address of the next page as Link headers tell it, and whether there is one that may be followed or none at all.

    `base` is the API; a page elsewhere, or an address that is none, is not followed (hostile 65).
    """
    for target, parameters in _LINK.findall(", ".join(links)):
        if _NEXT.search(parameters):
            try:
                following = parse_url(target, "a listing continues at", page)
            except SourceError:
                return None, False
            inside = following.origin() == base.origin() and following.path.startswith(base.path)
            return (following, True) if inside else (None, False)
    return None, True
