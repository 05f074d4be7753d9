"""The text forms of Prometheus (0.0.4) and OpenMetrics (1.0.0): families, labels and numbers as every parser reads them.

For what we export the two differ in three things only: a family of counters is named without its `_total`, bounds of histograms
have a point, and the end is said. A gauge is the same bytes in both, so the images' samples are written once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analyzers.finding import show

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END = b"# EOF\n"
"""The last line of OpenMetrics."""
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


def head_text(metric: Metric, *, open_metrics: bool = False) -> tuple[str, str]:
    """The two lines before a family."""
    name = metric.name.removesuffix("_total") if open_metrics and metric.kind == "counter" else metric.name
    return f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"


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


def wants_open_metrics(accept: str) -> bool:
    """Whether OpenMetrics is liked more than text by an Accept header; without a wish, text it is (RFC 9110, 12.5.1)."""
    liking = _likings(accept)
    text = liking.get("text/plain", liking.get("text/*", liking.get("*/*", 0.0)))
    return liking.get("application/openmetrics-text", 0.0) > text


def wants_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header takes gzip."""
    return _likings(accept_encoding).get("gzip", 0.0) > 0


def _likings(header: str) -> dict[str, float]:
    """How much each item of such a header is liked, 0 to 1; of several versions of one type the one liked most."""
    found: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        liked = next((part[2:].strip() for part in parameters if part.startswith("q=")), "1")
        try:
            weight = min(1.0, max(0.0, float(liked)))
        except ValueError:
            weight = 0.0
        found[name] = max(found.get(name, 0.0), weight)
    return found
