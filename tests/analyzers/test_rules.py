"""The table of rules: complete, consistent, and able to name every cause."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from analyzers import rules
from analyzers.finding import Reason, Severity
from analyzers.rules import RULES, Rule

ANALYZERS = Path(__file__).resolve().parents[2] / "analyzers"


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_says_what_why_and_what_mends_it(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z0-9-]+", rule.id)
    assert rule.title
    assert rule.why.endswith(".")
    assert rule.remedy.endswith((".", ")", "]"))
    assert rule.source


def test_every_rule_id_in_the_code_is_in_the_table() -> None:
    areas = {rule.partition(".")[0] for rule in RULES}
    pattern = re.compile(rf"(?:{'|'.join(areas)})\.[a-z]+(?:-[a-z0-9]+)+|(?:script\.crlf|path\.loop|path\.absent)")
    used = set()
    for name in ("start.py", "kernel.py", "linkage.py", "load_causes.py", "judges.py"):
        for node in ast.walk(ast.parse((ANALYZERS / name).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.fullmatch(node.value):
                used.add(node.value)
    assert used
    assert used
    assert used <= RULES.keys()


def test_no_two_rules_have_one_id() -> None:
    tables = [importlib.import_module(f"analyzers.rules.{module.name}") for module in pkgutil.iter_modules(rules.__path__)]
    assert sum(len(module.TABLE) for module in tables if hasattr(module, "TABLE")) == len(RULES)


def test_only_fatal_rules_carry_a_reason_of_their_own() -> None:
    assert all(rule.reason is Reason.OTHER for rule in RULES.values() if rule.severity is not Severity.FATAL)
