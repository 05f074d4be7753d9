"""What a route is, and how a request becomes the typed arguments of its handler.

One table of routes serves requests, and the OpenAPI document is made from the same table, so that it cannot lie. Query,
path and body are decoded into msgspec types; whatever does not fit is an `application/problem+json` naming the field.
Refuses to know what any handler does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from aiohttp import web

from analyzers.finding import Report
from service.errors import StoreError
from service.fleet import Fleet
from service.history import Change, Moment
from service.image_samples import Exposition
from service.metrics import Metrics
from service.remedies import Learned
from service.running import Running
from service.sources import LayerSource, Sighting

MAX_BODY_BYTES = 1 << 20
MAX_QUERY_CHARACTERS = 4096
PROBLEM = "application/problem+json"


class Problem(msgspec.Struct, frozen=True):
    """An error as RFC 9457 writes it."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"


class Refused(Exception):
    """Ends a request with a Problem; raised by handlers and by the binder, answered in web.py."""

    def __init__(self, status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


class RuleText(Protocol):
    """What people are told of a rule (analyzers/rules/)."""

    @property
    def id(self) -> str: ...
    @property
    def severity(self) -> Any: ...
    @property
    def title(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def example(self) -> str: ...
    @property
    def evidence(self) -> str: ...


class Reports(Protocol):
    """The store's two questions that only pages and API ask."""

    async def report(self, key: str) -> bytes | None:
        """The stored report of this key."""

    async def packages_of(self, report: Report) -> dict[str, Learned]:
        """The packages that have the report's missing libraries, as the fleet taught."""

    async def layers_of(self, manifest_digest: str) -> tuple[LayerSource, ...]:
        """Layers as transported."""


class Changes(Protocol):
    """What pages ask of the history."""

    async def latest(self, limit: int = 50) -> list[Change]:
        """The latest changes of the whole fleet, the newest first."""

    async def of_tag(self, registry: str, repository: str, tag: str, platform: str = "", limit: int = 100) -> list[Moment]:
        """The moments of a tag, the latest first."""

    async def moment(self, number: int) -> Moment | None:
        """One moment by its number."""


@contextlib.contextmanager
def store_answers() -> Iterator[None]:
    """Turns the store's refusals into a 503 that says so."""
    try:
        yield
    except StoreError as error:
        raise Refused(503, str(error), {"Retry-After": "5"}) from error


class Token(msgspec.Struct, frozen=True):
    """One bearer token: its holder, its SHA-256 and what it may do. The token itself is not kept."""

    name: str
    sha256: str
    scopes: frozenset[str]


class Access(msgspec.Struct, frozen=True):
    """Who may do what (decisions 19)."""

    tokens: tuple[Token, ...] = ()
    """None: everything is open, which only loopback or `auth = "none"` may be."""
    hosts: frozenset[str] = frozenset()
    """Host names that requests may be for; empty allows any. Loopback names keep DNS rebinding out (hostile 136)."""


class Deliveries(Protocol):
    """What is behind /hooks/ (service.hooks.receiving.Receiving)."""

    async def receive(self, request: web.Request, name: str, token: str) -> web.StreamResponse:
        """The answer to one delivery. Raises Refused."""


Rescan = Callable[[Sequence[Sighting]], Awaitable[int]]
"""Asks for these names to be examined anew; gives how many were taken."""
Readiness = Callable[[], Awaitable[Sequence[str]]]
"""What keeps the daemon from being ready, a sentence each; empty when it is ready."""


@dataclass(frozen=True)
class Site:
    """Everything that handlers use. Nothing here is global."""

    fleet: Fleet
    reports: Reports
    history: Changes
    metrics: Metrics
    exposition: Exposition
    access: Access
    rules: Mapping[str, RuleText]
    running: Callable[[], tuple[Running, ...]]
    """The examinations under way."""
    rescan: Rescan
    hooks: Deliveries | None
    """None: nobody tells us of pushes."""
    readiness: Readiness
    config: Mapping[str, Any]
    """The settings in force with every secret masked."""
    version: str
    public_url: str
    """Address that people reach the pages by, without a slash at its end; empty where nobody said it."""
    render: Callable[..., str]
    """Template name and values to HTML."""
    openapi: bytes


@dataclass(frozen=True)
class Call:
    """One request, decoded."""

    request: web.Request
    query: Any = None
    body: Any = None

    def path(self, name: str) -> str:
        return self.request.match_info[name]


@dataclass(frozen=True)
class Route:
    """One row of the table."""

    method: str
    path: str
    handler: Callable[[Site, Call], Awaitable[web.StreamResponse]]
    scope: str
    """`read`, `rescan`, or empty for what needs no token."""
    summary: str = ""
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    answer: Any = None
    """Type of the JSON answer; None for what is not JSON."""
    status: int = 200
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Path parameters with their descriptions."""


async def bind(route: Route, request: web.Request) -> Call:
    """The decoded request. Raises Refused (400, 411, 413, 414, 415)."""
    if len(request.query_string) > MAX_QUERY_CHARACTERS:
        raise Refused(414, f"the query is longer than {MAX_QUERY_CHARACTERS} characters")
    query = _query(route.query, request)
    body = await _body(route.body, request) if route.body is not None else None
    return Call(request, query, body)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers)


def problem(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer of a Refused."""
    body = msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, detail))
    return web.Response(body=body, status=status, content_type=PROBLEM, headers=headers)


def _query(kind: type[msgspec.Struct] | None, request: web.Request) -> Any:
    names = list(request.query.keys())
    if kind is None:
        if names:
            raise Refused(400, f"{names[0][:60]}: no such parameter")
        return None
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise Refused(400, f"{repeated[0][:60]}: given twice")
    # Forms send every field; an empty one is as good as absent.
    given = {name: value for name, value in request.query.items() if value}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(400, str(error)[:300]) from None


async def _body(kind: type[msgspec.Struct], request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise Refused(415, "the body is to be application/json")
    raw = await request.content.read(MAX_BODY_BYTES + 1)
    while len(raw) <= MAX_BODY_BYTES and not request.content.at_eof():
        raw += await request.content.read(MAX_BODY_BYTES + 1 - len(raw))
    if len(raw) > MAX_BODY_BYTES:
        raise Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, str(error)[:300]) from None
