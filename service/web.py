"""The web application: every route in one table, who may use it, the headers of every answer, health and metrics.

Knows HTTP; refuses to know what an image is. Loopback without tokens is open, tokens close everything but the health
checks (decisions 19). A browser gives its token as the password of basic authentication, so that pages need no script
and no cookie.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import hdrs, web

from service import api, change_pages, live, pages
from service.exposition import OPEN_METRICS_TYPE, TEXT_TYPE, wants_gzip, wants_open_metrics
from service.fleet import Fleet
from service.image_samples import Exposition
from service.metrics import Metrics
from service.routes import (
    MAX_BODY_BYTES,
    Access,
    Call,
    Changes,
    Deliveries,
    Readiness,
    Refused,
    Reports,
    Rescan,
    Route,
    RuleText,
    Site,
    Token,
    bind,
    json_response,
    problem,
)
from service.running import Running
from service.secret import token_in

log = structlog.get_logger()

READY_SECONDS = 2.0
ROUTE = web.RequestKey("route", str)
CONFIG = web.AppKey("config", dict[str, Any])
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SECRET_KEY = re.compile(r"pass(word|wd)?$|secret|token$|credential|private|authorization", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")
_URL_QUERY = re.compile(r"(\w+://[^\s?]+)\?\S*")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def livez(site: Site, call: Call) -> web.StreamResponse:
    """The loop turns: that is all."""
    return web.Response(text="ok\n")


async def readyz(site: Site, call: Call) -> web.StreamResponse:
    """Whether work can be done; a registry that is down does not count (decisions 16)."""
    try:
        reasons = await asyncio.wait_for(site.readiness(), READY_SECONDS)
    except TimeoutError:
        reasons = ("the store does not answer",)
    return web.Response(text="".join(f"{reason}\n" for reason in reasons) or "ok\n", status=503 if reasons else 200)


async def metrics(site: Site, call: Call) -> web.StreamResponse:
    """All samples, from memory."""
    asked = call.request.headers
    zipped = wants_gzip(asked.get(hdrs.ACCEPT_ENCODING, ""))
    open_metrics = wants_open_metrics(asked.get(hdrs.ACCEPT, ""))
    headers = {
        hdrs.CONTENT_TYPE: OPEN_METRICS_TYPE if open_metrics else TEXT_TYPE,
        hdrs.VARY: f"{hdrs.ACCEPT}, {hdrs.ACCEPT_ENCODING}",
        **({hdrs.CONTENT_ENCODING: "gzip"} if zipped else {}),
    }
    if zipped:
        return web.Response(body=await site.exposition.zipped(open_metrics=open_metrics), headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(call.request)
    async for piece in site.exposition.plain(open_metrics=open_metrics):
        await response.write(piece)
    await response.write_eof()
    return response


async def config(site: Site, call: Call) -> web.StreamResponse:
    """The settings in force."""
    return json_response(site.config)


async def hooks(site: Site, call: Call) -> web.StreamResponse:
    """A registry tells of pushes; who may, the hook itself knows."""
    if site.hooks is None:
        raise Refused(401, "no hook takes this")
    return await site.hooks.receive(call.request, call.path("name"), call.request.match_info.get("token", ""))


ROUTES = (
    Route("GET", "/livez", livez, ""),
    Route("GET", "/readyz", readyz, ""),
    Route("GET", "/metrics", metrics, "read"),
    Route("GET", "/config", config, "read"),
    Route("POST", "/hooks/{name}", hooks, ""),
    Route("POST", "/hooks/{name}/{token}", hooks, ""),
    *api.ROUTES,
    *pages.ROUTES,
    *change_pages.ROUTES,
    *live.ROUTES,
)


def make_app(
    *,
    fleet: Fleet,
    reports: Reports,
    history: Changes,
    metrics: Metrics,
    running: Callable[[], tuple[Running, ...]],
    rescan: Rescan,
    readiness: Readiness,
    hooks: Deliveries | None = None,
    settings: msgspec.Struct,
    tokens: Iterable[tuple[Any, Any]] = (),
    rules: Mapping[str, RuleText] | None = None,
    version: str = "",
) -> web.Application:
    """The application, ready for a runner.

    `settings` is shown masked at /config, its `listen.address` and `metrics.max_series` are obeyed; `tokens` are pairs of
    TokenSettings (name, scopes) and Secret (sha256), as `Loaded.tokens`. Run by daemon.py with `handler_cancellation`.
    """
    masked = mask(msgspec.to_builtins(settings))
    exposition = Exposition(
        fleet, metrics, int(_dig(masked, "metrics", "max_series") or 200_000), _dig(masked, "metrics", "exclude") or ()
    )
    site = Site(
        fleet=fleet, reports=reports, history=history, metrics=metrics, exposition=exposition, access=_access(masked, tokens),
        rules=rules or {}, running=running, rescan=rescan, hooks=hooks, readiness=readiness, config=masked, version=version,
        public_url=str(_dig(masked, "listen", "public_url") or "").rstrip("/"),
        render=pages.make_renderer(version), openapi=api.make_openapi(version or "0", ROUTES),
    )  # fmt: skip
    for name, value in (_dig(masked, "limits") or {}).items():
        if isinstance(value, int | float):
            metrics.set("enoent_config_limit", name, to=value)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_dress(site)])
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _served(site, route), name=None)
    app.cleanup_ctx.append(_keep_fresh(exposition))
    app.on_response_prepare.append(_add_headers)
    app[CONFIG] = masked
    app[live.LISTENING] = set()
    app.on_shutdown.append(live.stop_listening)
    return app


def show_config(app: web.Application, settings: msgspec.Struct) -> None:
    """Other settings are in force: /config shows these from now on."""
    app[CONFIG].clear()
    app[CONFIG].update(mask(msgspec.to_builtins(settings)))


def mask(value: Any, key: str = "") -> Any:
    """Settings without what must not be seen: values of secret keys, user information and queries of URLs (hostile 142)."""
    if isinstance(value, Mapping):
        return {name: mask(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mask(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    if value and _SECRET_KEY.search(key):
        return "***"
    return _URL_QUERY.sub(r"\1?***", _USERINFO.sub("***@", value))


def _dig(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _access(config: Any, tokens: Iterable[tuple[Any, Any]]) -> Access:
    known = tuple(Token(given.name, secret.sha256, frozenset(given.scopes)) for given, secret in tokens)
    address = str(_dig(config, "listen", "address") or "127.0.0.1")
    loopback = address in ("localhost", "::1") or address.startswith("127.")
    if not loopback and not known and _dig(config, "listen", "auth") != "none":
        raise ValueError(f"listen.address {address} without tokens")
    return Access(known, LOOPBACK_NAMES | {address} if loopback else frozenset())


def _keep_fresh(exposition: Exposition) -> Callable[[web.Application], AsyncIterator[None]]:
    async def context(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(exposition.keep_fresh())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return context


def _served(site: Site, route: Route) -> Handler:
    """A route as aiohttp calls it: who asks, what is asked, then the handler."""
    document = route.path.startswith("/api/")

    async def serve(request: web.Request) -> web.StreamResponse:
        request[ROUTE] = route.path
        try:
            _check_access(site.access, route, request)
            return await route.handler(site, await bind(route, request))
        except Refused as refused:
            if document or refused.status == 401 or "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
                return problem(refused.status, refused.detail, refused.headers)
            return pages.refused(site, refused)

    return serve


def _dress(site: Site) -> Any:
    """Problems instead of aiohttp's texts, and a count of what was answered."""

    @web.middleware
    async def dress(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check_origin(site.access, request)
            response = await handler(request)
        except Refused as refused:
            response = problem(refused.status, refused.detail, refused.headers)
        except web.HTTPException as error:
            allow = {"Allow": error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
            response = problem(error.status, error.reason, allow)
        site.metrics.add("enoent_http_requests_total", request.get(ROUTE, "none"), f"{response.status // 100}xx")
        return response

    return dress


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Before the first byte of every answer, of streams too."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-cache")


def _check_origin(access: Access, request: web.Request) -> None:
    """A page elsewhere may neither reach us under a name of its own nor have its forms sent here (hostile 136)."""
    host = request.headers.get(hdrs.HOST, "")
    if access.hosts and re.sub(r":\d+$", "", host).lower() not in access.hosts:
        raise Refused(421, "this address answers to loopback names only")
    origin = request.headers.get(hdrs.ORIGIN)
    if request.method not in ("GET", "HEAD") and origin is not None and origin.partition("://")[2] != host:
        raise Refused(403, "this request comes from another site")


def _check_access(access: Access, route: Route, request: web.Request) -> None:
    """Raises Refused 401 or 403. Tokens are compared by digest, in constant time, all of them."""
    if not access.tokens or not route.scope:
        return
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    challenge = {"WWW-Authenticate": 'Basic realm="enoent, a token as password", charset="UTF-8"'}
    if route.path.startswith("/api/"):
        challenge = {"WWW-Authenticate": 'Bearer realm="enoent"'}
    if len(given) != 1:
        raise Refused(401, "exactly one token is needed", challenge)
    digest = hashlib.sha256(token_in(given[0]).encode("utf-8", "surrogateescape")).hexdigest()
    scopes: frozenset[str] | None = None
    for token in access.tokens:
        if hmac.compare_digest(token.sha256, digest):
            scopes = token.scopes
    if scopes is None:
        raise Refused(401, "this token is not known", challenge)
    if route.scope not in scopes and "admin" not in scopes:
        raise Refused(403, f"this token may not {route.scope}")
