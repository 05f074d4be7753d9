"""Generated pages are current."""

from __future__ import annotations

from service.metrics import METRICS
from tests.make.metrics_page import PAGE, page


def test_the_page_of_metrics_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.make.metrics_page"


def test_the_page_of_metrics_names_every_metric_once() -> None:
    assert all(PAGE.read_text().count(f"| `{metric.name}` |") == 1 for metric in METRICS)
