"""The text form of Prometheus, version 0.0.4: families, labels and numbers as every parser reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analyzers.finding import show

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_LABEL_CHARACTERS = 256


class Metric(NamedTuple):
    """One row of docs/metrics.md."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


def samples_text(metric: Metric, values: Mapping[tuple[str, ...], float]) -> list[str]:
    """One line a sample, in the order given."""
    lines = []
    for labels, value in values.items():
        name = f"{metric.name}{{{labels_text(metric.labels, labels)}}}" if labels else metric.name
        lines.append(f"{name} {number_text(value)}")
    return lines


def head_text(metric: Metric) -> tuple[str, str]:
    """The two lines before a family."""
    return f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"


def labels_text(names: Sequence[str], values: Sequence[str]) -> str:
    """What stands between the braces."""
    return ",".join(f'{name}="{label_text(value)}"' for name, value in zip(names, values, strict=True))


def label_text(value: str) -> str:
    """A value that every parser reads: printable, bounded, with the three escapes of the text form."""
    if not value.isprintable():
        value = show(value.encode("utf-8", "backslashreplace"))
    value = value[:MAX_LABEL_CHARACTERS]
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return value


def number_text(value: float) -> str:
    """Whole numbers without a point."""
    whole = int(value)
    return str(whole) if whole == value else repr(float(value))
