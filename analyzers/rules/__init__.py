"""The table of everything that can be found: what is wrong, why it is, and what mends it.

Ids are `area.what-is-wrong` and never change meaning. `source` names the rule of docs or the upstream file that
decides. Which rule applies is decided elsewhere (start.py, kernel.py, linkage.py); this package only has the words,
a file for each area, whose tables are added up here in the order in which the areas are listed.
"""

from __future__ import annotations

from analyzers.rules import config, elf, image, layer, load, script, shell, size
from analyzers.rules.rule import Rule

_AREAS = (
    config,
    script,
    shell,
    elf,
    load,
    layer,
    size,
    image,
)

RULES: dict[str, Rule] = {rule.id: rule for area in _AREAS for rule in area.TABLE}

__all__ = ["RULES", "Rule"]
