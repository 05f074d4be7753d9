"""The risk score of an image: one number from 0 to 100, a fixed function of its verdict and the counts of its findings.

docs/metrics.md shows the formula to people; the counts stand beside the score wherever it is shown. Findings about size are
no risk and do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from analyzers.finding import Finding, Severity, State

FAILS = 100
UNKNOWN = 70
HIGHEST_OF_STARTING = 69
LATER_KEEPS, WARNING_KEEPS = 0.7, 0.95
"""What one finding of that severity leaves of the distance to 100."""
WITHOUT_RISK = ("size.",)

_SEVERITIES = tuple(Severity)


class FindingCount(msgspec.Struct, frozen=True, array_like=True):
    """How many findings of one rule an image has."""

    rule: str
    severity: Severity
    count: int


def count_findings(findings: Iterable[Finding]) -> tuple[FindingCount, ...]:
    """Findings by rule and severity, worst first."""
    counted = Counter((_SEVERITIES.index(found.severity), found.rule) for found in findings)
    return tuple(FindingCount(rule, _SEVERITIES[place], count) for (place, rule), count in sorted(counted.items()))


def without(findings: Iterable[FindingCount], silenced: Iterable[FindingCount]) -> tuple[FindingCount, ...]:
    """What is left of counts when the silenced ones are taken away, in the same order."""
    away = {(each.rule, each.severity): each.count for each in silenced}
    left = []
    for each in findings:
        count = each.count - away.get((each.rule, each.severity), 0)
        left += [FindingCount(each.rule, each.severity, count)] if count > 0 else []
    return tuple(left)


def risk_of(state: State | None, findings: Iterable[FindingCount]) -> int | None:
    """100 x (1 - 0.7^later x 0.95^warning) for an image that starts, at most 69; None where nothing is known yet."""
    if state is None:
        return None
    if state is State.FAILS:
        return FAILS
    if state is State.UNKNOWN:
        return UNKNOWN
    kept = 1.0
    for found in findings:
        if found.rule.startswith(WITHOUT_RISK):
            continue
        if found.severity is Severity.LATER:
            kept *= LATER_KEEPS**found.count
        elif found.severity is Severity.WARNING:
            kept *= WARNING_KEEPS**found.count
    return min(HIGHEST_OF_STARTING, round(100 * (1 - kept)))
