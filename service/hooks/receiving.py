"""POST /hooks/NAME: who sends is settled before a byte is parsed, what is told is written down before the answer.

In this order: the token by its digest, in constant time; the body, bounded in bytes and seconds and never decompressed; its
signature; the JSON, through the same guard as manifests; names against the one registry that the hook is bound to. Then one
transaction holds the sender's own names of its deliveries and the hints as rows of the queue; the answer is 202 after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import sqlalchemy as sa
import structlog
from aiohttp import hdrs, web
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from analyzers.errors import Rejected
from service.errors import SettingsError, StoreError
from service.hooks.looking import look, look_kind
from service.hooks.senders import BODY_BYTES, SENDERS, Hint, Sender, Told, read_letter
from service.hooks.settings import HookSettings
from service.ledger import Ledger
from service.metrics import Metrics
from service.routes import Refused, json_response
from service.schema import DELIVERY
from service.secret import Secret, token_in
from service.settings import Settings

log = structlog.get_logger()

BODY_SECONDS = 10.0
READING_AT_ONCE = 8
"""Bodies that are read at the same time; more senders are asked to come again."""
RATE = 100.0
"""Requests a second that a hook takes for long; RATE_BURST of them at once."""
RATE_BURST = 300.0
WAITING_HINTS = 50_000
"""Hints of one registry that may wait; with more the listing is quicker."""
KEPT_SECONDS = 7 * 86400.0
"""How long a delivery's name is remembered."""
PRUNED_EVERY = 1000


class Hook(msgspec.Struct, frozen=True):
    """One address with its secrets at hand."""

    settings: HookSettings
    host: str
    """Host of its registry, as in image names."""
    token: Secret
    key: Secret

    @property
    def sender(self) -> Sender:
        return SENDERS[self.settings.sender]

    @property
    def hosts(self) -> frozenset[str]:
        """Every host under which this registry may be spoken of, in lower case."""
        return frozenset(host.lower() for host in (self.host, *self.settings.called))


class Watching(Protocol):
    """The follower of a source (service.watching.Follower)."""

    def watches(self, repository: str, tag: str) -> bool: ...


class Counts(msgspec.Struct):
    """The answer: what became of the events of one body."""

    taken: int = 0
    """Led to a look."""
    unwatched: int = 0
    """About repositories or tags that are not watched."""
    ignored: int = 0
    """About something else, such as pulls, blobs and manifests without a tag."""
    replayed: int = 0
    """Told before."""


def read_hooks(settings: Settings, env: Mapping[str, str]) -> list[Hook]:
    """The hooks of the settings. Raises SettingsError naming the key, never a value."""
    hosts = {each.source_name: each.host for each in settings.registries}
    hooks: dict[str, Hook] = {}
    for index, each in enumerate(settings.hooks):
        where = f"hooks[{index}]"
        if not each.name or not each.name.replace("-", "").isalnum() or not each.name.isascii() or each.name != each.name.lower():
            raise SettingsError(f"{where}.name: {each.name!r} is not made of lower case letters, digits and dashes")
        if each.name in hooks:
            raise SettingsError(f"{where}.name: two hooks are called {each.name!r}")
        if each.registry not in hosts:
            raise SettingsError(f"{where}.registry: {each.registry!r} is no source of `registries`")
        token, key = (bool(secret.file or secret.env) for secret in (each.token, each.key))
        if not token and not key:
            raise SettingsError(f"{where}: give a token, or the key of a signature; nobody may send without")
        if key and not SENDERS[each.sender].signature_header:
            raise SettingsError(f"{where}.key: {each.sender} does not sign what it sends; give a token")
        hooks[each.name] = Hook(
            each, hosts[each.registry],
            each.token.read(env, f"{where}.token") if token else Secret(""),
            each.key.read(env, f"{where}.key") if key else Secret(""),
        )  # fmt: skip
    return list(hooks.values())


class Receiving:
    """What is behind /hooks/. `followers` is looked at anew for each request; `wake` is told when there are new hints."""

    def __init__(
        self,
        hooks: Sequence[Hook],
        ledger: Ledger,
        metrics: Metrics,
        followers: Mapping[str, Watching],
        wake: Callable[[], None],
        *,
        body_seconds: float = BODY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hooks = {each.settings.name: each for each in hooks}
        self._ledger = ledger
        self._metrics = metrics
        self._followers = followers
        self._wake = wake
        self._body_seconds = body_seconds
        self._clock = clock
        self._reading = 0
        self._buckets = {name: (RATE_BURST, clock()) for name in self._hooks}
        self._until_pruned = 0

    async def receive(self, request: web.Request, name: str, token: str) -> web.StreamResponse:
        """The answer to one delivery. Raises Refused (400, 401, 408, 413, 415, 422, 429, 503)."""
        hook = self._hooks.get(name)
        try:
            if hook is None:
                raise Refused(401, "no hook takes this")
            self._check_token(hook, request, token)
            self._check_rate(hook)
            raw = await self._body(request)
            _check_signature(hook, request, raw)
            if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() not in ("", "identity"):
                raise Refused(415, "a body is taken as it is, without an encoding")
            told = self._read(hook, request, raw)
            if told.challenge:
                self._count(hook, "accepted")
                return json_response({"validationResponse": told.challenge})
            counts = await self._take(hook, told)
        except Refused as refused:
            outcome = _OUTCOMES.get(refused.status, "malformed")
            self._metrics.add("enoent_hook_requests_total", name if hook else "unknown", outcome)
            if hook is not None:
                log.warning("hook refused", hook=name, status=refused.status, why=refused.detail)
            raise
        self._count(hook, "accepted")
        return json_response(counts, status=202)

    def _count(self, hook: Hook, outcome: str) -> None:
        self._metrics.add("enoent_hook_requests_total", hook.settings.name, outcome)

    # Who

    def _check_token(self, hook: Hook, request: web.Request, in_path: str) -> None:
        """Raises Refused 401. Every form in which the token may have come is compared, all of them to the end."""
        if not hook.token:
            if in_path or len(request.headers.getall(hook.sender.signature_header, [])) != 1:
                raise Refused(401, "exactly one signature is needed")
            return
        given = [in_path]
        for header in hook.sender.token_headers:
            stated = request.headers.getall(header, [])
            if len(stated) > 1:
                raise Refused(401, "exactly one token is needed")
            for value in stated:
                given += [value, token_in(value)]
        if not sum(hmac.compare_digest(_sha256(each), hook.token.sha256) for each in given):
            raise Refused(401, "this token is not known")

    def _check_rate(self, hook: Hook) -> None:
        """A bucket that fills with RATE: a body is read only where there is one for it."""
        name, now = hook.settings.name, self._clock()
        left, since = self._buckets[name]
        left = min(RATE_BURST, left + (now - since) * RATE)
        if left < 1:
            self._buckets[name] = left, now
            raise Refused(429, "too many at once", {"Retry-After": "1"})
        self._buckets[name] = left - 1, now

    # What

    async def _body(self, request: web.Request) -> bytes:
        """The raw bytes (hostile 131). Raises Refused 408, 413, 503."""
        if (request.content_length or 0) > BODY_BYTES:
            raise Refused(413, f"the body is larger than {BODY_BYTES} bytes")
        if self._reading >= READING_AT_ONCE:
            raise Refused(503, "too many bodies at once", {"Retry-After": "1"})
        self._reading += 1
        raw = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while chunk := await request.content.read(BODY_BYTES + 1 - len(raw)):
                    raw += chunk
                    if len(raw) > BODY_BYTES:
                        raise Refused(413, f"the body is larger than {BODY_BYTES} bytes")
        except TimeoutError:
            raise Refused(408, f"the body did not come in {self._body_seconds:.0f} seconds") from None
        finally:
            self._reading -= 1
        return bytes(raw)

    def _read(self, hook: Hook, request: web.Request, raw: bytes) -> Told:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            return read_letter(hook.sender, raw, headers, pulls=hook.settings.pulls)
        except Rejected as rejected:
            status = 413 if rejected.code == "too-many-events" else 422 if rejected.code == "bad-event" else 400
            raise Refused(status, f"not a notification of {hook.settings.sender}: {rejected.detail}") from rejected

    async def _take(self, hook: Hook, told: Told) -> Counts:
        """Writes down what is to be looked at. Raises Refused 422, 503."""
        counts = Counts(ignored=told.ignored)
        follower = self._followers.get(hook.settings.registry)
        if follower is None:
            raise Refused(503, "its registry is not watched now", {"Retry-After": "60"})
        ours = [hint for hint in told.hints if not (hook.sender.claims_host and hint.host) or hint.host.lower() in hook.hosts]
        if told.hints and not ours:
            raise Refused(422, f"this is about another host than {hook.host}; `called` names further ones")
        watched = [hint for hint in ours if follower.watches(hint.repository, hint.tag)]
        counts.unwatched = len(told.hints) - len(watched)
        if watched:
            try:
                counts.taken = await self._write(hook, watched)
            except StoreError as error:
                self._ledger.note_trouble(str(error))
                raise Refused(503, str(error), {"Retry-After": "5"}) from error
            counts.replayed = len(watched) - counts.taken
            self._wake()
        for field in Counts.__struct_fields__:
            self._metrics.add("enoent_hook_events_total", hook.settings.name, field, by=getattr(counts, field))
        return counts

    async def _write(self, hook: Hook, hints: Sequence[Hint]) -> int:
        """Hints and names of deliveries, together or not at all; how many were not told before."""
        source = hook.settings.registry
        async with self._ledger.store.database.writing() as connection:
            if await self._ledger.work.waiting_within(connection, look_kind(source)) >= WAITING_HINTS:
                raise Refused(503, f"more than {WAITING_HINTS} hints wait already", {"Retry-After": "60"})
            fresh = [hint for hint in hints if await self._is_news(connection, hook, hint)]
            await self._ledger.work.submit_within(connection, [look(source, hook.settings.name, hint) for hint in fresh])
            await self._prune(connection)
        return len(fresh)

    async def _is_news(self, connection: AsyncConnection, hook: Hook, hint: Hint) -> bool:
        if not hint.delivery:
            return True
        row = {"hook": hook.settings.name, "name": hint.delivery, "at": self._ledger.clock()}
        added = await connection.scalar(insert(DELIVERY).values(row).on_conflict_do_nothing().returning(DELIVERY.c.name))
        return added is not None

    async def _prune(self, connection: AsyncConnection) -> None:
        self._until_pruned -= 1
        if self._until_pruned < 0:
            self._until_pruned = PRUNED_EVERY
            await connection.execute(sa.delete(DELIVERY).where(DELIVERY.c.at < self._ledger.clock() - KEPT_SECONDS))


_OUTCOMES = {
    400: "malformed", 401: "unauthorized", 408: "slow", 413: "too-large", 415: "malformed", 422: "not-ours", 429: "limited",
    503: "unavailable",
}  # fmt: skip


def _check_signature(hook: Hook, request: web.Request, raw: bytes) -> None:
    """Raises Refused 401 unless the header is the HMAC-SHA256 of exactly these bytes."""
    if not hook.key:
        return
    stated = request.headers.getall(hook.sender.signature_header, [])
    wanted = "sha256=" + hmac.new(hook.key.reveal().encode(), raw, hashlib.sha256).hexdigest()
    if len(stated) != 1 or not hmac.compare_digest(_sha256(stated[0]), _sha256(wanted)):
        raise Refused(401, "the signature is not that of this body")


def _sha256(text: str) -> str:
    """What is compared in place of a text: of one length, and plain ASCII whatever a header held."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
