"""Whose an image is: teams by patterns over image names, the first that fits."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Sequence

import msgspec


class OwnerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One team and the images that are its own."""

    team: str
    """Name of the team, as metrics, alerts and pages show it."""
    images: tuple[str, ...] = ("*",)
    """Shell patterns over `registry/repository`; `*` also spans slashes."""


class NamePatterns:
    """Shell patterns over `registry/repository`, as those of OwnerSettings."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._pattern = re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None
        self._known = functools.lru_cache(maxsize=65_536)(self._find)

    def fit(self, registry: str, repository: str) -> bool:
        """Whether one of them does."""
        return self._pattern is not None and self._known(registry, repository)

    def _find(self, registry: str, repository: str) -> bool:
        return self._pattern is not None and self._pattern.match(_name(registry, repository)) is not None


NOTHING = NamePatterns()


class Owners:
    """The owners of the configuration, in their order."""

    def __init__(self, settings: Sequence[OwnerSettings] = ()) -> None:
        self._patterns = [(re.compile(fnmatch.translate(image)), each.team) for each in settings for image in each.images]
        self.team_of = functools.lru_cache(maxsize=65_536)(self._find)
        """The team of `registry/repository`; empty where nobody is named."""

    def _find(self, registry: str, repository: str) -> str:
        name = _name(registry, repository)
        return next((team for pattern, team in self._patterns if pattern.match(name)), "")


def _name(registry: str, repository: str) -> str:
    return f"{registry}/{repository}" if registry else repository
