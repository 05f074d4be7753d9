"""docs/metrics.md made anew from the table of all metrics: `python -m tests.make.metrics_page`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from analyzers.finding import Reason, Severity
from service.metrics import DAEMON_METRICS, FLEET_METRICS, IMAGE, IMAGE_METRICS, MAX_SERIES_AN_IMAGE, Metric
from service.risk import FAILS, HIGHEST_OF_STARTING, LATER_KEEPS, UNKNOWN, WARNING_KEEPS
from service.settings import MetricsSettings
from service.words import human_bytes
from tests.make.dive import CASES, DEBIAN

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "metrics.md"
MOST = f"{MetricsSettings().max_series:,}"
MEASURED = ", ".join(f"`{name}`" for name in IMAGE)
TOP = f"""\
# Metrics

`/metrics` of the daemon gives OpenMetrics to whoever asks for it, as Prometheus does, and Prometheus text to all others,
compressed when asked for. Sizes are bytes, times are seconds, and a point in
time is a timestamp, never an age. This page is made from the table in `service/metrics.py`.

## Images

One series for each tag and platform, with the labels {MEASURED} (called *image* below). `registry` is empty for images of a
Docker engine or a folder that name none. The digest stands only on `enoent_image_info`: join it on where it is needed, so that a
push to a tag continues its series instead of beginning new ones.

```promql
enoent_image_start_verdict{{verdict="fails"}}
  * on (source, registry, repository, tag, platform) group_left (digest, os, libc, team) enoent_image_info
```

A tag that is deleted leaves at once, one that is merely missing from a listing leaves after three. An image has at most
{MAX_SERIES_AN_IMAGE} series, one more where findings are silenced; the fleet has at most `metrics.max_series` ({MOST}): beyond
it failing images stay first, then those analysed last, and two metrics count what is left out. Images without a tag are
counted, not listed.

Repositories that nobody wants to be told of have no series of their own when a pattern of `metrics.exclude` fits
`registry/repository`: they are on the page, in the API and in all sums of the fleet, and neither in dashboards nor in alerts.

```toml
[metrics]
exclude = ["*/sandbox/*", "registry.example/mirror/*"]
```
"""
LABELS = f"""\
| label | values |
|---|---|
| `verdict` | `starts`, `fails`, `unknown`; in the fleet's counts also `waiting` |
| `reason` | with `fails` one of {", ".join(f"`{reason}`" for reason in Reason)}; else empty |
| `severity` | {", ".join(f"`{severity}`" for severity in Severity)}, worst first |
| `silenced` | `true` on a failing verdict whose reason the configuration silences (`[[silence]]`), else empty |
| `rule` | an id that `enoent rules` lists, or `other` for what an image has beyond four; of new rules the first, or empty |
"""


RISK = f"""\
### The risk score

`enoent_image_risk` is {FAILS} for an image that will not start and {UNKNOWN} for one that could not be decided. For one that
starts it is

```
100 x (1 - {LATER_KEEPS}^later x {WARNING_KEEPS}^warning), at most {HIGHEST_OF_STARTING}
```

where *later* and *warning* are its findings of that severity; those about size do not count, nor does anything silenced: an image
whose failure is silenced is scored by its other findings. The counts stand beside it in
`enoent_image_findings`.
"""


DIVE = """\
## Our bytes and dive's

[dive](https://github.com/wagoodman/dive) is what most people know of wasted bytes. It adds up the sizes of every path that more
than one layer has (a whiteout has none), and its efficiency is the sum of the smallest size of each path over the sum of all. We
count a byte as wasted when a later layer hides or replaces the file it is of: once, in the layer that brought it, however often
it is hidden, and never the copy that is used. The size of an image is the same for both: the bytes of all files of all layers.

Both were asked about the same images (dive 0.13.1; `tests/oracle/test_dive.py` asks again on every run). A file `a` has 1 MB.

| build | size | wasted, ours | wasted, dive | efficiency, dive | why |
|---|---|---|---|---|---|
"""


def side_by_side() -> str:
    """Rows of tests/make/dive.py; figures that differ stand out."""
    rows = []
    for case in (*CASES, DEBIAN):
        sizes = [human_bytes(size) for size in (case.dive.size_bytes, case.ours, case.dive.wasted_bytes)]
        if case.ours != case.dive.wasted_bytes:
            sizes[1] = f"**{sizes[1]}**"
        rows.append(f"| {case.build} | {' | '.join(sizes)} | {100 * case.dive.efficiency:.0f} % | {case.why} |\n")
    return DIVE + "".join(rows)


def table(metrics: Iterable[Metric]) -> str:
    """Rows of name, kind, labels and meaning."""
    return "| name | kind | labels | meaning |\n|---|---|---|---|\n" + "".join(map(_row, metrics))


def _row(metric: Metric) -> str:
    own, labels = metric.labels, []
    if own[: len(IMAGE)] == IMAGE:
        own, labels = own[len(IMAGE) :], ["*image*"]
    labels += [f"`{name}`" for name in own]
    return f"| `{metric.name}` | {metric.kind} | {', '.join(labels)} | {metric.help} |\n"


def page() -> str:
    """The whole file."""
    parts = (
        TOP, table(IMAGE_METRICS), LABELS, RISK,
        "## The fleet\n\nSums over all images, exported whatever the number of series.\n", table(FLEET_METRICS),
        "## The daemon\n\nBesides these there are the usual `process_...` metrics.\n", table(DAEMON_METRICS),
        side_by_side(),
    )  # fmt: skip
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
