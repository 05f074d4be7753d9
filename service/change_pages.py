"""What changed: the latest changes of the fleet as a page, as JSON and as a feed; the history of a tag; two images side by side.

All of it comes from the history and from stored reports; a report that had to leave for want of room is said to be gone.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta

from analyzers.finding import Report
from service.comparison import compare
from service.fleet import FleetRow
from service.history import Change, Moment
from service.notices import Notice, feed, make_notice
from service.pages import PageOnly, html
from service.routes import Call, Refused, Route, Site, json_response, store_answers

SHOWN = 100
FEED = 50
Many = Annotated[int, Meta(ge=1, le=500, description="Most items of the answer.")]


class Latest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many changes."""

    limit: Many = 50


class Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose history."""

    registry: str = ""
    repository: str
    tag: str
    platform: str = ""
    """Empty: of every platform."""
    limit: Many = 100


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two images: each the ID of an image of the fleet, or the number of a moment of the history."""

    before: str
    after: str


class ChangeList(msgspec.Struct, frozen=True):
    items: tuple[Notice, ...]
    """The newest first."""


class MomentList(msgspec.Struct, frozen=True):
    items: tuple[Moment, ...]
    """The latest first."""


def _notice(site: Site, change: Change) -> Notice:
    team = site.fleet.owners.team_of(change.after.registry, change.after.repository)
    return make_notice(change, team=team, site=site.public_url)


async def list_changes(site: Site, call: Call) -> web.StreamResponse:
    with store_answers():
        changes = await site.history.latest(call.query.limit)
    return json_response(ChangeList(tuple(_notice(site, change) for change in changes)))


async def list_history(site: Site, call: Call) -> web.StreamResponse:
    wanted: Tag = call.query
    with store_answers():
        moments = await site.history.of_tag(wanted.registry, wanted.repository, wanted.tag, wanted.platform, wanted.limit)
    return json_response(MomentList(tuple(moments)))


async def atom(site: Site, call: Call) -> web.StreamResponse:
    """For feed readers."""
    with store_answers():
        changes = await site.history.latest(FEED)
    address = site.public_url or f"{call.request.scheme}://{call.request.host}"
    notices = [make_notice(change, site=address) for change in changes]
    updated = changes[0].after.at if changes else 0.0
    return web.Response(body=feed(notices, site=address, updated=updated), content_type="application/atom+xml", charset="utf-8")


async def changes(site: Site, call: Call) -> web.StreamResponse:
    """The latest changes of the fleet."""
    with store_answers():
        latest = await site.history.latest(SHOWN)
    present = {row.image_id for row in site.fleet.rows()}
    return html(site, "changes.html", changes=latest, present=present)


async def comparison(site: Site, call: Call) -> web.StreamResponse:
    """Two images side by side."""
    before, after = [await _side(site, each) for each in (call.query.before, call.query.after)]
    return html(
        site, "compare.html", before=before[0], after=after[0], compared=compare(before[1], after[1]),
        turned="/compare?" + urlencode({"before": call.query.after, "after": call.query.before}),
    )  # fmt: skip


async def _side(site: Site, which: str) -> tuple[FleetRow | Moment, Report]:
    """What to call one of the two, and its report."""
    named: FleetRow | Moment | None = None
    with store_answers():
        if which.isdecimal() and len(which) < 19:
            named = await site.history.moment(int(which))
        else:
            named = next(iter(site.fleet.of_image(which)), None)
        body = await site.reports.report(named.report_key) if named is not None and named.report_key else None
    if named is None:
        raise Refused(404, "There is no such image in the fleet, and no such moment in its history.")
    if body is None:
        raise Refused(404, f"The report of {named.name} is no longer stored.")
    return named, msgspec.json.decode(body, type=Report)


ROUTES = (
    Route("GET", "/changes", changes, "read", query=PageOnly),
    Route("GET", "/compare", comparison, "read", query=Pair),
    Route("GET", "/feed.atom", atom, "read"),
    Route("GET", "/api/v1/changes", list_changes, "read", "The latest changes of the fleet", query=Latest, answer=ChangeList),
    Route("GET", "/api/v1/history", list_history, "read", "What a tag showed over time", query=Tag, answer=MomentList),
)
