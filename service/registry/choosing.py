"""Which repositories and tags of a registry are looked at: patterns that take in, patterns that leave out, and the newest N.

A registry tells no push times, and asking each config for its `created` would cost a GET a tag, so newest means the highest
version: numbers compare as numbers, a pre-release stands below its release. Tags without a digit (latest, stable, main) move,
and are looked at whatever N is.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

from service.sources.settings import RegistrySettings

_PATTERN = frozenset("*?[")
_VERSION = re.compile(r"v?(\d{1,18}(?:[._]\d{1,18})*)(.*)", re.IGNORECASE | re.DOTALL)
_COMMIT = re.compile(r"(?=.*[a-f])[0-9a-f]{7,64}")
"""Digests of commits have no order, though some begin with digits."""
_PRE_RELEASE = re.compile(
    r"(?:^|[-._])(?:alpha|beta|rc|dev|pre|preview|snapshot|nightly|canary|m)[-._]?\d*(?:$|[-._])", re.IGNORECASE
)
_NUMBER = re.compile(r"(\d{1,18})")


class Choice:
    """The names of one registry that its settings have watched."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self.exact = [name for name in settings.repositories if not _PATTERN & set(name)]
        """Repositories that are named in full: they are asked for whether a catalog lists them or not."""
        self.needs_catalog = len(self.exact) < len(settings.repositories) or not settings.repositories

    def has_repository(self, repository: str) -> bool:
        settings = self._settings
        return _fits(repository, settings.repositories or ("*",)) and not _fits(repository, settings.exclude_repositories)

    def has_tag(self, tag: str) -> bool:
        return _fits(tag, self._settings.tags) and not _fits(tag, self._settings.exclude_tags)

    def repositories(self, catalog: Iterable[str]) -> list[str]:
        """Those to look at, each once: the ones named in full, and what the catalog lists."""
        return [name for name in dict.fromkeys((*self.exact, *catalog)) if self.has_repository(name)]

    def tags(self, listed: Iterable[str]) -> list[str]:
        """Those of one repository that are looked at."""
        fitting = [tag for tag in listed if self.has_tag(tag)]
        return newest(fitting, self._settings.newest) if self._settings.newest else fitting


def newest(tags: Sequence[str], count: int) -> list[str]:
    """The `count` highest versions and every tag without a digit, in the order they were given."""
    dated = [tag for tag in tags if _NUMBER.search(tag)]
    kept = set(sorted(dated, key=version_key, reverse=True)[:count])
    return [tag for tag in tags if tag in kept or not _NUMBER.search(tag)]


def version_key(tag: str) -> tuple[bool, tuple[int, ...], bool, tuple[tuple[int, str], ...], str]:
    """Orders tags from old to new: what is no version, versions by their numbers, pre-releases before releases, the rest as
    people would sort it.
    """
    found = _VERSION.fullmatch(tag)
    if found is None or _COMMIT.fullmatch(tag):
        return False, (), False, _natural(tag), tag
    numbers = tuple(int(part) for part in re.split(r"[._]", found[1]))
    return True, numbers, _PRE_RELEASE.search(found[2]) is None, _natural(found[2]), tag


def _natural(text: str) -> tuple[tuple[int, str], ...]:
    """Runs of digits as numbers, everything else as it is."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(text) if part)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
