"""The table of everything that can be found: what is wrong, why it is, and what mends it.

Ids are `area.what-is-wrong` and never change meaning. `source` names the rule of docs or the upstream file that
decides. Which rule applies is decided elsewhere (start.py, kernel.py, linkage.py); this package only has the words,
a file for each area, whose tables are added up here in the order in which the areas are listed.
"""

from __future__ import annotations

import msgspec

from analyzers.rules import (
    config,
    dotnet,
    elf,
    image,
    java,
    layer,
    load,
    needs,
    node,
    python,
    script,
    shell,
    size,
)
from analyzers.rules.rule import Rule
from analyzers.rules.shown import SHOWN, Shown

_AREAS = (
    config,
    script,
    shell,
    elf,
    load,
    python,
    java,
    dotnet,
    node,
    needs,
    layer,
    size,
    image,
)


def _shown(rule: Rule) -> Rule:
    example, evidence = SHOWN.get(rule.id, Shown("", ""))
    return msgspec.structs.replace(rule, example=rule.example or example or rule.title, evidence=rule.evidence or evidence)


RULES: dict[str, Rule] = {rule.id: _shown(rule) for area in _AREAS for rule in area.TABLE}

__all__ = ["RULES", "Rule"]
