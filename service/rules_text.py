"""The table of rules for people."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from analyzers.rules import RULES, Rule
from service.terminal import Line, ends_apart, wrap
from service.words import SEVERITY_STYLES


def chosen_rules(patterns: Sequence[str]) -> list[Rule]:
    """Rules whose id fits one of the shell patterns; all when there are none. Raises KeyError with a pattern that fits none."""
    chosen: dict[str, Rule] = {} if patterns else dict(RULES)
    for pattern in patterns:
        fitting = {rule_id: rule for rule_id, rule in RULES.items() if fnmatch.fnmatchcase(rule_id, pattern)}
        if not fitting:
            raise KeyError(pattern)
        chosen |= fitting
    return list(chosen.values())


def rules_lines(rules: Sequence[Rule], width: int = 80, *, verbose: bool = False) -> Iterator[Line]:
    """Id and severity, title, remedy; `verbose`: also why it is, an example, and what decides it."""
    for place, rule in enumerate(rules):
        yield from [()] if place else []
        yield ends_apart((("strong", rule.id),), ((SEVERITY_STYLES[rule.severity], rule.severity.value),), width)
        yield from wrap((("", rule.title),), width, (("", "  "),))
        if verbose:
            yield from wrap((("", rule.why),), width, (("faint", "  why     "),))
        yield from wrap((("", rule.remedy),), width, (("good", "  remedy  " if verbose else "  → "),))
        if verbose:
            yield from wrap((("", rule.example),), width, (("faint", "  example "),))
            yield from wrap((("", rule.evidence),), width, (("faint", "  seen by "),))
            yield from wrap((("", rule.source),), width, (("faint", "  source  "),))
