"""The JSON API: images, reports, layers, findings, rules, and asking for another look; every list is paged and bounded.

Listings come from the fleet in memory; only the report of one image is asked of the store. The OpenAPI document is made
from ROUTES and its types.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, cast
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import Meta

from analyzers.errors import Malformed
from analyzers.finding import Finding, LayerSummary, Report, Severity
from service.bases import Fit, base_of, fits
from service.fleet import MAX_PAGE, FleetPage, FleetQuery, FleetRow
from service.remedies import Remedy, remedies_of
from service.risk import FindingCount
from service.routes import Call, Problem, Refused, Route, Site, json_response, store_answers
from service.silencing import Silenced
from service.sources import Build

MOST_OWN_BASES = 6
"""Images of the fleet that a program is tried on, those that most others are built on."""
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE, description="Most items on a page.")]
Cursor = Annotated[str, Meta(max_length=2000, description="`next` of the page before.")]


class Images(FleetQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to list, in which order, and from where."""

    limit: Limit = 50
    cursor: Cursor = ""


class Paging(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limit: Limit = 50
    cursor: Cursor = ""


class FindingCounts(msgspec.Struct, frozen=True):
    """Findings of one rule in one image."""

    rule: str
    severity: Severity
    count: int


class ImageItem(msgspec.Struct, frozen=True, kw_only=True):
    """One name and platform of the fleet. Times are seconds since the epoch, 0 for never."""

    name: str
    source: str
    registry: str
    repository: str
    tag: str
    platform: str
    manifest_digest: str
    image_id: str
    standing: str
    """fails, unknown, waiting, starts or artifact."""
    outcome: str
    detail: str
    stage: str
    reason: str
    message: str
    exit_code: int | None
    os: str
    libc: str
    compressed_bytes: int
    uncompressed_bytes: int
    wasted_bytes: int
    layers: int
    findings: tuple[FindingCounts, ...]
    silenced: tuple[FindingCounts, ...]
    """Those of the findings that the configuration silences."""
    risk: int | None
    """0 to 100 by the formula of docs/metrics.md; null where nothing is known."""
    team: str
    build: Build | None
    """The build that made it, where a source told of one."""
    growth_bytes: int | None
    """Change of the unpacked size by the last push of this tag; null before there were two."""
    new_rules: tuple[str, ...] | None
    """Rules of fatal and later findings that the last push of this tag brought; null before there were two."""
    isa_level: int
    """x86-64 level that the start chain needs; 0 where it says none."""
    max_page_size: int
    """Largest page of a kernel that can map the start chain; 0 where that does not apply."""
    kernel: str
    """Oldest Linux that the start chain says it runs on; empty where it says none."""
    complete: bool
    first_seen: float
    last_seen: float
    analysed_at: float
    report_url: str
    """Path of the report; empty when there is none."""


class ImageList(msgspec.Struct, frozen=True):
    """One page of the fleet."""

    items: tuple[ImageItem, ...]
    total: int
    """Items on all pages."""
    next: str
    """Cursor of the next page; empty on the last."""


class ImageDocument(msgspec.Struct, frozen=True):
    """One image: its names, its report, and what its layers weigh when transported."""

    names: tuple[ImageItem, ...]
    report: Report
    compressed_layer_bytes: tuple[int, ...]
    """One number a layer, lowest first; empty when the source does not tell."""
    silenced: tuple[Silenced, ...]
    """The findings that the configuration silences for the first of the names."""
    remedies: tuple[Remedy, ...]
    """What would mend it, from the package databases of the fleet's images."""
    bases: tuple[Fit, ...]
    """Bases that would do for its program, and what it would weigh on them."""


class LayerDocument(msgspec.Struct, frozen=True):
    """One layer and the images that have it."""

    layer: LayerSummary
    items: tuple[ImageItem, ...]
    total: int
    next: str


class RuleItem(msgspec.Struct, frozen=True):
    """One rule as people are told of it."""

    id: str
    severity: str
    title: str
    why: str
    remedy: str
    source: str
    example: str
    """A message as a report has it."""
    evidence: str
    """What in the image decides."""


class RuleList(msgspec.Struct, frozen=True):
    items: tuple[RuleItem, ...]


class FindingItem(msgspec.Struct, frozen=True):
    """How far one rule's findings spread in the fleet."""

    rule: str
    severity: str
    title: str
    images: int
    findings: int
    silenced: int
    """Findings that the configuration silences; they are not among the others."""


class FindingList(msgspec.Struct, frozen=True):
    items: tuple[FindingItem, ...]


class FoundIn(msgspec.Struct, frozen=True):
    """The findings of one rule in one image."""

    image: ImageItem
    findings: tuple[Finding, ...]
    silenced: tuple[Silenced, ...]
    """Those of them that are silenced; `finding` is the place in the list beside."""


class FoundInList(msgspec.Struct, frozen=True):
    rule: RuleItem
    items: tuple[FoundIn, ...]
    total: int
    next: str


class RescanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which names to examine anew; fields that are empty leave it open, at least one is not."""

    source: str = ""
    registry: str = ""
    repository: str = ""
    tag: str = ""
    image_id: str = ""


class RescanAnswer(msgspec.Struct, frozen=True):
    queued: int
    """How many names will be examined anew."""


def item_of(row: FleetRow) -> ImageItem:
    """A row as the API shows it."""
    return ImageItem(
        name=row.name, source=row.source, registry=row.registry, repository=row.repository, tag=row.tag,
        platform=row.platform, manifest_digest=row.manifest_digest, image_id=row.image_id, standing=str(row.standing),
        outcome=row.outcome, detail=row.detail, stage=row.stage or "", reason=row.reason or "", message=row.message,
        exit_code=row.exit_code, os=row.os, libc=row.libc, compressed_bytes=row.compressed_bytes,
        uncompressed_bytes=row.size_bytes, wasted_bytes=row.wasted_bytes, layers=len(row.layers),
        findings=tuple(_count(found) for found in row.findings), silenced=tuple(_count(found) for found in row.silenced),
        complete=row.complete, risk=row.risk,
        team=row.team, build=row.build, growth_bytes=row.growth_bytes, new_rules=row.new_rules, isa_level=row.isa_level,
        max_page_size=row.max_page_size, kernel=row.kernel, first_seen=row.first_seen,
        last_seen=row.last_seen, analysed_at=row.analysed_at,
        report_url=f"/api/v1/images/{quote(row.image_id)}" if row.report_key else "",
    )  # fmt: skip


async def report_bytes(site: Site, rows: tuple[FleetRow, ...]) -> bytes:
    """The stored report behind these rows, as JSON. Raises Refused 404 when there is none, 503 when the store fails."""
    key = next((row.report_key for row in rows if row.report_key), "")
    with store_answers():
        body = await site.reports.report(key) if key else None
    if body is None:
        detail = rows[0].detail or rows[0].outcome if rows else "no image of this digest"
        raise Refused(404, detail)
    return body


async def compressed_layers(site: Site, rows: tuple[FleetRow, ...], count: int) -> tuple[int, ...]:
    """Transported bytes of each layer, or nothing where the manifest does not tell or fit."""
    digest = next((row.manifest_digest for row in rows if row.manifest_digest), "")
    with store_answers():
        layers = await site.reports.layers_of(digest) if digest else ()
    return tuple(layer.size_bytes for layer in layers) if len(layers) == count else ()


def rule_item(site: Site, rule_id: str) -> RuleItem:
    """The rule, or a bare row for one that only older reports know."""
    rule = site.rules.get(rule_id)
    if rule is None:
        return RuleItem(rule_id, "", rule_id, "", "", "", "", "")
    return RuleItem(rule.id, str(rule.severity), rule.title, rule.why, rule.remedy, rule.source, rule.example, rule.evidence)


def finding_items(site: Site) -> tuple[FindingItem, ...]:
    """Every rule that found something, worst and widest first."""
    images: Counter[tuple[str, str]] = Counter()
    findings: Counter[tuple[str, str]] = Counter()
    silenced: Counter[tuple[str, str]] = Counter()
    for row in site.fleet.rows():
        for found in row.findings:
            images[found.severity, found.rule] += 0
        for found in row.loud:
            images[found.severity, found.rule] += 1
            findings[found.severity, found.rule] += found.count
        for found in row.silenced:
            silenced[found.severity, found.rule] += found.count
    order = {str(severity): place for place, severity in enumerate(Severity)}
    ranked = sorted(images, key=lambda pair: (order[pair[0]], -images[pair], pair[1]))
    return tuple(
        FindingItem(
            rule,
            str(severity),
            rule_item(site, rule).title,
            images[severity, rule],
            findings[severity, rule],
            silenced[severity, rule],
        )
        for severity, rule in ranked
    )


async def found_in(site: Site, page: FleetPage, rule: str) -> tuple[FoundIn, ...]:
    """The findings of a rule in the images of a page, from their reports."""
    reports: dict[str, Report] = {}
    for row in page.rows:
        if row.report_key not in reports:
            report = msgspec.json.decode(await report_bytes(site, (row,)), type=Report)
            own = tuple(found for found in report.findings if found.rule == rule)
            reports[row.report_key] = msgspec.structs.replace(report, findings=own)
    return tuple(
        FoundIn(item_of(row), reports[row.report_key].findings, silenced_in(site, row, reports[row.report_key]))
        for row in page.rows
    )


async def remedies_in(site: Site, report: Report) -> tuple[Remedy, ...]:
    """What the fleet's package databases know to mend it."""
    if not report.missing:
        return ()
    with store_answers():
        learned = await site.reports.packages_of(report)
    names = {row.image_id: row.name for row in site.fleet.rows() if row.image_id in {each.image_id for each in learned.values()}}
    return remedies_of(report, learned, names)


async def bases_in(site: Site, row: FleetRow, report: Report) -> tuple[Fit, ...]:
    """How the program would do on the images that others of the fleet are built on, and on published ones."""
    if not report.parts:
        return ()
    shares = site.exposition.sharing.by_image.values()
    wanted = Counter(share.base for share in shares if share.base)
    built_on = {name for name, _ in wanted.most_common(MOST_OWN_BASES)}
    own = []
    for other in site.fleet.rows():
        if other.name in built_on and other.platform == row.platform and other.report_key:
            with store_answers():
                body = await site.reports.report(other.report_key)
            base = base_of(other.name, msgspec.json.decode(body, type=Report)) if body is not None else None
            own += [base] if base is not None else []
    return fits(report, own)


def silenced_in(site: Site, row: FleetRow, report: Report) -> tuple[Silenced, ...]:
    """The findings that the configuration silences for this name."""
    return site.fleet.silences.of(row.registry, row.repository, report)


def listed(site: Site, query: FleetQuery, limit: int, cursor: str) -> FleetPage:
    """A page of the fleet. Raises Refused 400."""
    try:
        return site.fleet.page(query, limit=limit, cursor=cursor)
    except Malformed as error:
        raise Refused(400, str(error)) from error


async def list_images(site: Site, call: Call) -> web.StreamResponse:
    page = listed(site, call.query, call.query.limit, call.query.cursor)
    return json_response(ImageList(tuple(item_of(row) for row in page.rows), page.total, page.cursor))


async def show_image(site: Site, call: Call) -> web.StreamResponse:
    rows = site.fleet.of_image(call.path("image_id"))
    body = await report_bytes(site, rows)
    count = len(rows[0].layers)
    # The stored bytes go out as they are; Raw stands where the type says Report.
    raw = cast(Report, msgspec.Raw(body))
    compressed = await compressed_layers(site, rows, count)
    report = msgspec.json.decode(body, type=Report)
    silenced = silenced_in(site, rows[0], report)
    remedies, bases = await remedies_in(site, report), await bases_in(site, rows[0], report)
    document = ImageDocument(tuple(item_of(row) for row in rows), raw, compressed, silenced, remedies, bases)
    answer = msgspec.json.encode(document)
    etag = hashlib.sha256(answer).hexdigest()[:32]
    if call.request.if_none_match and etag in {tag.value for tag in call.request.if_none_match}:
        return web.Response(status=304, headers={"ETag": f'"{etag}"'})
    return web.Response(body=answer, content_type="application/json", headers={"ETag": f'"{etag}"'})


async def show_layer(site: Site, call: Call) -> web.StreamResponse:
    diff_id = call.path("diff_id")
    page = listed(site, FleetQuery(layer=diff_id, sort="name"), call.query.limit, call.query.cursor)
    if not page.rows:
        raise Refused(404, "no image of the fleet has this layer")
    report = msgspec.json.decode(await report_bytes(site, page.rows[:1]), type=Report)
    layer = next((layer for layer in report.layers if layer.diff_id == diff_id), LayerSummary(diff_id))
    return json_response(LayerDocument(layer, tuple(item_of(row) for row in page.rows), page.total, page.cursor))


async def list_findings(site: Site, call: Call) -> web.StreamResponse:
    return json_response(FindingList(finding_items(site)))


async def show_finding(site: Site, call: Call) -> web.StreamResponse:
    rule = call.path("rule")
    page = listed(site, FleetQuery(rule=rule, sort="name"), call.query.limit, call.query.cursor)
    if not page.rows and rule not in site.rules:
        raise Refused(404, "no such rule, and no finding of it")
    items = await found_in(site, page, rule)
    return json_response(FoundInList(rule_item(site, rule), items, page.total, page.cursor))


async def list_rules(site: Site, call: Call) -> web.StreamResponse:
    return json_response(RuleList(tuple(rule_item(site, rule) for rule in sorted(site.rules))))


async def rescan(site: Site, call: Call) -> web.StreamResponse:
    return json_response(RescanAnswer(await rescan_matching(site, call.body)), 202)


async def rescan_matching(site: Site, wanted: RescanRequest) -> int:
    """Queues the names that fit. Raises Refused 400 for an empty wish, 404 when nothing fits, 503 when the store fails."""
    given = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value}
    if not given:
        raise Refused(400, "name at least one of source, registry, repository, tag or image_id")
    image_id = given.pop("image_id", "")
    rows = site.fleet.of_image(image_id) if image_id else site.fleet.rows()
    names = {row.sighting: None for row in rows if all(getattr(row, name) == value for name, value in given.items())}
    if not names:
        raise Refused(404, "no name of the fleet fits")
    with store_answers():
        return await site.rescan(tuple(names))


async def openapi(site: Site, call: Call) -> web.StreamResponse:
    return web.Response(body=site.openapi, content_type="application/json")


ROUTES = (
    Route("GET", "/api/v1/images", list_images, "read", "List the fleet", query=Images, answer=ImageList),
    Route("GET", "/api/v1/images/{image_id}", show_image, "read", "One image's report", answer=ImageDocument,
          parameters={"image_id": "Digest of the image's config or of its manifest."}),
    Route("GET", "/api/v1/layers/{diff_id}", show_layer, "read", "One layer and the images that have it", query=Paging,
          answer=LayerDocument, parameters={"diff_id": "Digest of the layer's uncompressed tar."}),
    Route("GET", "/api/v1/findings", list_findings, "read", "The rules that found something", answer=FindingList),
    Route("GET", "/api/v1/findings/{rule}", show_finding, "read", "Every image that has a finding of a rule", query=Paging,
          answer=FoundInList, parameters={"rule": "Id of the rule, such as elf.interpreter-absent."}),
    Route("GET", "/api/v1/rules", list_rules, "read", "Every rule there is", answer=RuleList),
    Route("POST", "/api/v1/rescan", rescan, "rescan", "Examine names anew", body=RescanRequest, answer=RescanAnswer, status=202),
    Route("GET", "/api/v1/openapi.json", openapi, "read", "This document", answer=dict[str, Any]),
)  # fmt: skip


def make_openapi(version: str, routes: Sequence[Route]) -> bytes:
    """The OpenAPI 3.1 document of those of the routes that are the API's."""
    own = [route for route in routes if route.path.startswith("/api/")]
    kinds = [kind for route in own for kind in (route.query, route.body, route.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template="#/components/schemas/{name}")
    by_kind = {str(kind): schema for kind, schema in zip([*kinds, Problem], schemas, strict=True)}
    paths: dict[str, Any] = {}
    for route in own:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind, components)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "enoent", "version": version, "description": "Whether container images start, and why not."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}},
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
    }
    return msgspec.json.encode(document)


def _operation(route: Route, schemas: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in route.parameters.items()
    ]
    if route.query is not None:
        fields = components[route.query.__name__]["properties"]
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()]
    failure = {"description": "A problem.", "content": {"application/problem+json": {"schema": schemas[str(Problem)]}}}
    answer = {"description": route.summary, "content": {"application/json": {"schema": schemas[str(route.answer)]}}}
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": parameters,
        "responses": {str(route.status): answer, "4XX": failure, "5XX": failure},
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[str(route.body)]}}}
    return operation


def _count(found: FindingCount) -> FindingCounts:
    return FindingCounts(found.rule, found.severity, found.count)
