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
from analyzers.rules.shown import SHOWN
from tests.make import rules_page

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
    assert used <= RULES.keys()


def test_no_two_rules_have_one_id() -> None:
    tables = [importlib.import_module(f"analyzers.rules.{module.name}") for module in pkgutil.iter_modules(rules.__path__)]
    assert sum(len(module.TABLE) for module in tables if hasattr(module, "TABLE")) == len(RULES)


def test_only_fatal_rules_carry_a_reason_of_their_own() -> None:
    assert all(rule.reason is Reason.OTHER for rule in RULES.values() if rule.severity is not Severity.FATAL)


def test_examples_are_of_rules_that_there_are() -> None:
    assert all(rule.example for rule in RULES.values())
    assert SHOWN.keys() <= RULES.keys()


def test_the_page_of_rules_is_that_of_the_table() -> None:
    assert rules_page.PAGE.read_text() == rules_page.page(), "run `python -m tests.make.rules_page`"


def test_every_row_of_the_catalogue_of_failures_names_its_rules_or_why_there_is_none() -> None:
    assert [row.number for row in rules_page.FAILURES] == list(range(1, 51))
    assert {rule for row in rules_page.FAILURES for rule in row.rules} <= RULES.keys()
    assert all(row.rules or row.untold for row in rules_page.FAILURES if row.number in (43, 50))
