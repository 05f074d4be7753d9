"""How our panels look: one function for each kind of panel, with what Grafana leaves to chance settled once.

Knows Grafana's words (through its foundation SDK, whose types stand for a server that tests cannot have); refuses to know
what is asked of Prometheus. Every panel takes a title, a sentence that says how to read it, and its queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as words_of
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
RED, AMBER, GREEN, BLUE = "red", "orange", "green", "blue"
Panel = Any
"""A panel builder; the SDK gives its kinds no common type."""


class Query(NamedTuple):
    """One question to Prometheus and what its answers are called."""

    expr: str
    legend: str = ""
    ref: str = "A"


class Column(NamedTuple):
    """One column of a table: the label or query it shows, its heading, and how."""

    field: str
    heading: str
    unit: str = "string"
    link: str = ""
    """Address that a cell leads to."""
    told: str = "Explain on the page of enoent"
    """What the link is called."""
    colour: str = ""


def figure(title: str, told: str, query: Query, *, unit: str = "short", steps: Mapping[float, str] | None = None) -> Panel:
    """One number, coloured from the steps it has passed; the first is what it has below all others."""
    panel = stat.Panel().graph_mode(words.BigValueGraphMode.NONE).color_mode(words.BigValueColorMode.VALUE)
    panel = panel.text_mode(words.BigValueTextMode.VALUE_AND_NAME if query.legend else words.BigValueTextMode.VALUE)
    panel = panel.thresholds(_thresholds(steps or {0: BLUE})).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _dressed(panel, title, told, [query], unit, instant=True)


def bars(title: str, told: str, query: Query, *, unit: str, colour: str = BLUE) -> Panel:
    """The biggest few, each a bar."""
    panel = bargauge.Panel().orientation(words.VizOrientation.HORIZONTAL).display_mode(words.BarGaugeDisplayMode.BASIC)
    panel = panel.min(0).show_unfilled(False).name_placement(words.BarGaugeNamePlacement.TOP)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _dressed(panel.thresholds(_thresholds({0: colour})), title, told, [query], unit, instant=True)


def lines(
    title: str, told: str, *queries: Query, unit: str, colours: Mapping[str, str] | None = None, stacked: bool = False
) -> Panel:
    """Values over time; `stacked` where their sum means something."""
    panel = timeseries.Panel().line_width(1).fill_opacity(25 if stacked else 8).min(0)
    panel = panel.show_points(words.VisibilityMode.NEVER).tooltip(common.VizTooltipOptions().mode(words.TooltipDisplayMode.MULTI))
    legend = common.VizLegendOptions().display_mode(words.LegendDisplayMode.LIST).placement(words.LegendPlacement.BOTTOM)
    panel = panel.legend(legend.show_legend(True).calcs([]))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(words.StackingMode.NORMAL))
    for name, colour in (colours or {}).items():
        fixed = DynamicConfigValue(id_val="color", value={"mode": FieldColorModeId.FIXED, "fixedColor": colour})
        panel = panel.override_by_name(name, [fixed])
    return _dressed(panel, title, told, queries, unit, instant=False)


def states(title: str, told: str, query: Query, values: Mapping[int, tuple[str, str]]) -> Panel:
    """What held when: a strip for each series, coloured and worded by value."""
    named = {str(value): words_of.ValueMappingResult(text=text, color=colour) for value, (text, colour) in values.items()}
    panel = statetimeline.Panel().merge_values(True).show_value(words.VisibilityMode.AUTO).line_width(0).fill_opacity(80)
    panel = panel.mappings([words_of.ValueMap(options=named)])
    return _dressed(panel, title, told, [query], "short", instant=False)


def rows(
    title: str, told: str, columns: Sequence[Column], *queries: Query, sort: str, empty: str, hidden: Sequence[str] = ("Time",)
) -> Panel:
    """A table of what holds now, worst first; `empty` is shown when there is nothing, fields in `hidden` never are."""
    panel = table.Panel().show_header(True).cell_height(words.TableCellHeight.SM).filterable(True).no_value(empty)
    panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    organized = {
        "indexByName": {column.field: place for place, column in enumerate(columns)},
        "renameByName": {column.field: column.heading for column in columns},
        "excludeByName": dict.fromkeys(hidden, True),
    }
    panel = panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(DataTransformerConfig(id_val="organize", options=organized))
    for column in columns:
        panel = panel.override_by_name(column.heading, _cell(column))
    return _dressed(panel, title, told, queries, "short", instant=True)


def _cell(column: Column) -> list[DynamicConfigValue]:
    found = [DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.link:
        link = {"title": column.told, "url": column.link, "targetBlank": True}
        found.append(DynamicConfigValue(id_val="links", value=[link]))
    if column.colour:
        found.append(DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": column.colour}))
        found.append(DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    return found


def _dressed(panel: Panel, title: str, told: str, queries: Sequence[Query], unit: str, *, instant: bool) -> Panel:
    panel = panel.title(title).description(told).datasource(DATASOURCE).unit(unit)
    in_rows = isinstance(panel, table.Panel)
    for query in queries:
        asked = Dataquery().expr(query.expr).ref_id(query.ref).datasource(DATASOURCE)
        asked = asked.legend_format(query.legend or "__auto")
        asked = asked.format(PromQueryFormat.TABLE if in_rows else PromQueryFormat.TIME_SERIES)
        panel = panel.with_target(asked.instant() if instant else asked.range())
    return panel


def _thresholds(steps: Mapping[float, str]) -> dashboards.ThresholdsConfig:
    (_, lowest), *others = sorted(steps.items())
    made = [Threshold(value=None, color=lowest), *(Threshold(value=value, color=colour) for value, colour in others)]
    return dashboards.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)
