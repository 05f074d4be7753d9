"""Findings that somebody knows and bears for a while: by rule, repository and path, with a reason and a last day.

Joined when a report is read, never stored in it (decisions.md 3): a silence changes no verdict and loses no finding, it only
keeps alerts, webhooks and exit statuses quiet (docs/design.md). A silence that has expired is none, and is told of.
"""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from analyzers.finding import Finding, Report
from service.risk import FindingCount, count_findings


class SilenceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Findings that are known and bearable for a while."""

    rule: str
    """Id of the rule as `enoent rules` lists it, or a shell pattern over ids, such as `size.*`."""
    reason: Annotated[str, Meta(min_length=1)]
    """Why it is bearable; shown wherever the finding is."""
    until: datetime.date
    """Last day on which it holds, by UTC. Every silence ends."""
    repository: str = "*"
    """Shell pattern over `registry/repository`; `*` also spans slashes."""
    path: str = "*"
    """Shell pattern over the path that the finding is about, such as `/opt/vendor/*`; only `*` fits findings without one."""


class Silenced(msgspec.Struct, frozen=True):
    """One finding that is silenced, and in whose words."""

    finding: int
    """Its place among the findings of the report."""
    rule: str
    subject: str
    reason: str
    until: str
    """Last day of the silence, such as `2027-01-01`."""


class _Matcher:
    """One silence with its patterns compiled."""

    __slots__ = ("path", "repository", "rule", "settings")

    def __init__(self, settings: SilenceSettings) -> None:
        self.settings = settings
        self.rule, self.repository, self.path = (
            re.compile(fnmatch.translate(pattern)) for pattern in (settings.rule, settings.repository, settings.path)
        )

    def fits(self, name: str, finding: Finding) -> bool:
        return bool(
            self.rule.match(finding.rule)
            and self.repository.match(name)
            and (self.settings.path == "*" or (finding.subject and self.path.match(finding.subject)))
        )


class Silences:
    """The silences of a configuration as they stand on one day."""

    def __init__(self, settings: Sequence[SilenceSettings] = (), today: datetime.date = datetime.date.min) -> None:
        self.settings = tuple(settings)
        self.today = today
        self._live = [_Matcher(each) for each in self.settings if each.until >= today]
        self._over = [_Matcher(each) for each in self.settings if each.until < today]

    @property
    def expired(self) -> tuple[SilenceSettings, ...]:
        """Those whose last day has passed."""
        return tuple(each.settings for each in self._over)

    def of(self, registry: str, repository: str, report: Report) -> tuple[Silenced, ...]:
        """The silenced findings of an image of that name; the first silence that fits speaks."""
        name = _name(registry, repository)
        found = []
        for place, finding in enumerate(report.findings):
            silence = next((each.settings for each in self._live if each.fits(name, finding)), None)
            if silence is not None:
                found.append(Silenced(place, finding.rule, finding.subject, silence.reason, silence.until.isoformat()))
        return tuple(found)

    def missed(self, registry: str, repository: str, report: Report) -> tuple[SilenceSettings, ...]:
        """Expired silences that would still fit a finding of this image."""
        name = _name(registry, repository)
        return tuple(each.settings for each in self._over if any(each.fits(name, finding) for finding in report.findings))

    def counts(self, registry: str, repository: str, report: Report) -> tuple[FindingCount, ...]:
        """The silenced findings by rule and severity, worst first."""
        if not self._live:
            return ()
        silenced = {each.finding for each in self.of(registry, repository, report)}
        return count_findings(each for place, each in enumerate(report.findings) if place in silenced)

    def may_fit(self, registry: str, repository: str, rules: Iterable[str]) -> bool:
        """Whether a finding of one of these rules in that repository could be silenced, whatever its path."""
        name = _name(registry, repository)
        live = [each for each in self._live if each.repository.match(name)]
        return any(each.rule.match(rule) for each in live for rule in rules)


def describe(silence: SilenceSettings) -> str:
    """A silence in a few words."""
    parts = [silence.rule]
    parts += [f"in {silence.repository}"] if silence.repository != "*" else []
    parts += [f"at {silence.path}"] if silence.path != "*" else []
    return f"the silence of {' '.join(parts)} ({silence.reason}) ended with {silence.until.isoformat()}"


def day_of(at: float) -> datetime.date:
    """The day of a moment, by UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).date()


def _name(registry: str, repository: str) -> str:
    return f"{registry}/{repository}" if registry else repository
