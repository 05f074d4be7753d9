"""The pages: the fleet, one image, one finding, the sources. They work without JavaScript and without the internet.

All state of a view stands in its URL. Everything that comes from an image is text and is escaped by the templates
(hostile 135); widths are SVG attributes because the content policy allows no inline style. Knows no clock but the one
that says how long ago something was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
import msgspec
from aiohttp import web
from markupsafe import Markup, escape

from analyzers.finding import LayerSummary, Report, Severity, show
from service import api
from service.fleet import FleetQuery, FleetRow, Standing, short_digest
from service.history import ChangeKind
from service.notices import CHANGE_WORDS
from service.routes import Call, Refused, Route, Site, store_answers
from service.treemap import treemap
from service.words import ACTION_WORDS, REASON_WORDS, STAGE_WORDS, human_bytes, instruction, tree

HERE = Path(__file__).resolve().parent
STATIC = {
    "enoent.css": "text/css",
    "enoent.js": "text/javascript",
    "enoent.svg": "image/svg+xml",
}
PAGE_ROWS = 50
BAR_WIDTH = 1000
MIN_BAR = 3
SHOWN_MOMENTS = 20
SHOWN_TAGS = 50
MAP_WIDTH, MAP_HEIGHT = 1130.0, 420.0
CHANGE_MARKS = {
    ChangeKind.FAILS_NOW: "fatal",
    ChangeKind.FAILS_OTHERWISE: "fatal",
    ChangeKind.VERDICT_LOST: "warning",
    ChangeKind.NEW_RULE: "warning",
    ChangeKind.RECOVERED: "good",
    ChangeKind.PUSHED: "info",
    ChangeKind.APPEARED: "info",
}
STANDING_WORDS = {
    Standing.FAILS: "will not start",
    Standing.UNKNOWN: "undecided",
    Standing.WAITING: "waiting",
    Standing.STARTS: "starts",
    Standing.ARTIFACT: "not an image",
}


class FleetView(FleetQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query of the fleet page."""

    cursor: api.Cursor = ""


class PageOnly(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a page that only goes on."""

    cursor: api.Cursor = ""


class ImageView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of an image page: set after a rescan was asked for."""

    queued: int = 0


class Slice(msgspec.Struct, frozen=True):
    """One layer in the proportional bar and in the table below it."""

    index: int
    layer: LayerSummary
    instruction: str
    x: float
    width: float
    wasted_width: float
    share: float
    compressed_bytes: int


async def fleet(site: Site, call: Call) -> web.StreamResponse:
    """Every name, the worst first."""
    query: FleetView = call.query
    page = api.listed(site, query, PAGE_ROWS, query.cursor)
    standings = site.fleet.standings()
    reasons: dict[str, int] = {}
    for row in site.fleet.rows():
        if row.standing is Standing.FAILS:
            reasons[row.reason or "other"] = reasons.get(row.reason or "other", 0) + 1
    given = {name: value for name, value in msgspec.structs.asdict(query).items() if value and name != "cursor"}
    if query.sort == "standing":
        given.pop("sort")
    return html(
        site, "fleet.html",
        page=page, query=query, given=given, standings=standings, total=len(site.fleet), choices=site.fleet.choices(),
        reasons=sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])), bar=_standing_bar(standings),
        filtered=bool(set(given) - {"sort"}), link=_linker(given),
    )  # fmt: skip


async def image(site: Site, call: Call) -> web.StreamResponse:
    """One image: the verdict, its sentence, why, the trail, the layers."""
    rows = site.fleet.of_image(call.path("digest"))
    if not rows:
        raise Refused(404, "No image of this digest is in the fleet.")
    body = await api.report_bytes(site, rows)
    report = msgspec.json.decode(body, type=Report)
    compressed = await api.compressed_layers(site, rows, len(report.layers))
    with store_answers():
        moments = await site.history.of_tag(rows[0].registry, rows[0].repository, rows[0].tag, rows[0].platform, SHOWN_MOMENTS)
    cause = next((found for found in report.findings if found.severity is Severity.FATAL), None)
    others = tuple(found for found in report.findings if found is not cause)
    silenced = {id(report.findings[each.finding]): each for each in api.silenced_in(site, rows[0], report)}
    return html(
        site, "image.html",
        report=report, verdict=report.verdict, rows=rows, row=rows[0], cause=cause,
        findings=[(found, silenced.get(id(found))) for found in others],
        silence=silenced.get(id(cause)), hushed=rows[0].hushed,
        remedies=await api.remedies_in(site, report), bases=await api.bases_in(site, rows[0], report),
        trail=tree(cause.trail if cause and cause.trail else report.chain), chain=tree(report.chain),
        slices=slices(report.layers, compressed), rules=site.rules, queued=call.query.queued,
        moments=moments, others=_other_tags(site, rows[0]),
        tiles=treemap(report.directories, report.biggest, MAP_WIDTH, MAP_HEIGHT),
        share=site.exposition.sharing.by_image.get(report.image_id), standing=rows[0].standing,
        command=_command(rows[0].name, report.platform),
    )  # fmt: skip


def _other_tags(site: Site, row: FleetRow) -> list[FleetRow]:
    """Other images of the same repository and platform, to be compared with."""
    query = FleetQuery(registry=row.registry, repository=row.repository, platform=row.platform, sort="name")
    return [other for other in site.fleet.matching(query) if other.report_key and other.image_id != row.image_id][:SHOWN_TAGS]


async def findings(site: Site, call: Call) -> web.StreamResponse:
    """The rules that found something."""
    return html(site, "findings.html", items=api.finding_items(site))


async def finding(site: Site, call: Call) -> web.StreamResponse:
    """One rule, and every image it found something in."""
    rule = call.path("rule")
    page = api.listed(site, FleetQuery(rule=rule, sort="standing"), PAGE_ROWS, call.query.cursor)
    if not page.rows and rule not in site.rules:
        raise Refused(404, "There is no such rule, and no finding of it.")
    found = await api.found_in(site, page, rule)
    return html(site, "finding.html", rule=api.rule_item(site, rule), found=found, page=page, rows=page.rows)


async def sources(site: Site, call: Call) -> web.StreamResponse:
    """How the sources and the daemon itself do."""
    reasons = await site.readiness()
    counted: dict[str, dict[Standing, int]] = {}
    for row in site.fleet.rows():
        of_source = counted.setdefault(row.source, dict.fromkeys(Standing, 0))
        of_source[row.standing] += 1
    return html(site, "sources.html", sources=site.fleet.sources(), counted=counted, reasons=reasons, config=site.config)


async def rescan(site: Site, call: Call) -> web.StreamResponse:
    """The button of an image page, which is a plain form."""
    form = await call.request.post()
    digest = str(form.get("image_id", ""))
    queued = await api.rescan_matching(site, api.RescanRequest(image_id=digest))
    back = f"/images/{quote(digest)}?" + urlencode({"queued": queued})
    return web.Response(status=303, headers={"Location": back})


async def static(site: Site, call: Call) -> web.StreamResponse:
    """The three files the pages use."""
    name = call.path("name")
    if name not in STATIC:
        raise Refused(404, "no such file")
    return web.Response(
        body=(HERE / "static" / name).read_bytes(), content_type=STATIC[name], headers={"Cache-Control": "max-age=3600"}
    )


ROUTES = (
    Route("GET", "/", fleet, "read", query=FleetView),
    Route("GET", "/images/{digest}", image, "read", query=ImageView),
    Route("GET", "/findings", findings, "read"),
    Route("GET", "/findings/{rule}", finding, "read", query=PageOnly),
    Route("GET", "/sources", sources, "read"),
    Route("POST", "/rescan", rescan, "rescan"),
    Route("GET", "/static/{name}", static, "", query=None),
)


def refused(site: Site, why: Refused) -> web.Response:
    """A refusal as a page, for browsers."""
    text = site.render("refused.html", status=why.status, detail=why.detail)
    return web.Response(text=text, content_type="text/html", status=why.status, headers=why.headers)


def make_renderer(version: str) -> Callable[..., str]:
    """Template name and values to HTML; everything is escaped unless a template's author wrote it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=visible,
    )  # fmt: skip
    environment.filters |= {
        "bytes": human_bytes, "grown": grown, "percent": percent, "ago": ago, "iso": iso, "short": short_digest,
        "ticks": ticks, "instruction": instruction,
    }  # fmt: skip
    environment.globals |= {
        "version": version, "standing_words": STANDING_WORDS, "stage_words": STAGE_WORDS, "reason_words": REASON_WORDS,
        "action_words": ACTION_WORDS, "severities": tuple(Severity), "change_words": CHANGE_WORDS, "change_marks": CHANGE_MARKS,
    }  # fmt: skip

    def render(name: str, **values: Any) -> str:
        return environment.get_template(name).render(**values)

    return render


def visible(value: Any) -> Any:
    """What a template prints: in text, characters that cannot be seen or turn the line round are spelled out (hostile 26)."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(
        each if each.isprintable() or each in "\n\t" else show(each.encode("utf-8", "backslashreplace")) for each in value
    )


def slices(layers: Sequence[LayerSummary], compressed: Sequence[int] = ()) -> list[Slice]:
    """Layers side by side, as wide as they are big; none so narrow that it cannot be seen."""
    total = sum(layer.size_bytes for layer in layers) or 1
    wide = [max(MIN_BAR, BAR_WIDTH * layer.size_bytes / total) for layer in layers]
    scale = BAR_WIDTH / sum(wide) if wide else 1.0
    cut, x = [], 0.0
    for index, (layer, width) in enumerate(zip(layers, wide, strict=True)):
        width *= scale
        wasted = width * min(1.0, layer.wasted_bytes / layer.size_bytes) if layer.size_bytes else 0.0
        share = layer.size_bytes / total
        bytes_out = compressed[index] if compressed else 0
        cut.append(
            Slice(index, layer, instruction(layer.created_by), round(x, 2), round(width, 2), round(wasted, 2), share, bytes_out)
        )
        x += width
    return cut


def grown(change: int) -> str:
    """A change of size with its sign."""
    return f"{'+' if change > 0 else '−'}{human_bytes(abs(change))}" if change else "no change of size"


def ago(at: float) -> str:
    """How long ago, in the one unit that matters."""
    if not at:
        return "never"
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "just now"


def iso(at: float) -> str:
    """The moment in UTC, for machines and tooltips."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if at else ""


def ticks(text: str) -> Markup:
    """Escaped text in which `this` is code; a line that is no sentence is a command."""
    if "`" not in text and not text.rstrip().endswith((".", "!", "?")):
        return Markup("<code class='command'>{}</code>").format(text)
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece) for place, piece in enumerate(parts)
    )


def percent(share: float) -> str:
    """A share of 0 to 1, never rounded to nothing."""
    return "<1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _standing_bar(standings: Mapping[Standing, int]) -> list[tuple[Standing, float, float]]:
    shown = [(standing, count) for standing, count in standings.items() if count and standing is not Standing.ARTIFACT]
    wide = [max(8.0, BAR_WIDTH * count / sum(count for _, count in shown)) for _, count in shown]
    bar: list[tuple[Standing, float, float]] = []
    x = 0.0
    for (standing, _), width in zip(shown, wide, strict=True):
        width *= BAR_WIDTH / sum(wide)
        bar.append((standing, round(x, 2), round(width, 2)))
        x += width
    return bar


def _linker(given: Mapping[str, str]) -> Callable[..., str]:
    """The URL of this view with something changed; empty values leave it."""

    def link(**changes: str) -> str:
        merged = {name: value for name, value in {**given, **changes}.items() if value}
        return "/?" + urlencode(merged) if merged else "/"

    return link


def _command(name: str, platform: str) -> str:
    return f"docker run --platform {platform} {name}"


def html(site: Site, template: str, **values: Any) -> web.Response:
    """A page of a template."""
    return web.Response(text=site.render(template, **values), content_type="text/html")
