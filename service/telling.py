"""Changes on their way to the people who asked for them: one job for each change and receiver.

None is lost, and none is told twice: the jobs are written in the transaction that writes the change down.

A receiver that is down gets its notices later, with growing pauses, and is given up for one notice after its tries. Nobody
waits for a receiver: jobs of this kind are run here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import msgspec
import structlog
from yarl import URL

from service.errors import SettingsError, SourceError
from service.history import Change, ChangeKind
from service.ledger import Ledger
from service.metrics import Metrics
from service.notices import SIGNATURE_HEADER, Notice, make_notice, signature, slack_body
from service.outbound import HostPolicy, Outbound
from service.receivers import WebhookSettings
from service.secret import Secret
from service.work import PRIORITY_ASKED, Job, Wish

log = structlog.get_logger()

IDLE_SECONDS = 30.0
_KIND = "tell "


def tell_kind(receiver: str) -> str:
    """The kind of all jobs for one receiver."""
    return _KIND + receiver


class Receiver(msgspec.Struct, frozen=True):
    """One webhook with its secrets at hand."""

    settings: WebhookSettings
    url: Secret
    key: Secret

    def wants(self, change: Change, team: str) -> bool:
        wanted = self.settings.teams
        return str(change.kind) in self.settings.on and (not wanted or team in wanted)


def read_receivers(webhooks: Sequence[WebhookSettings], env: Mapping[str, str]) -> list[Receiver]:
    """The receivers of the settings. Raises SettingsError naming the key, never the value."""
    receivers: list[Receiver] = []
    for index, settings in enumerate(webhooks):
        where = f"webhooks[{index}]"
        if settings.name in (each.settings.name for each in receivers):
            raise SettingsError(f"{where}.name: two receivers are called {settings.name!r}")
        url = settings.url.read(env, f"{where}.url")
        try:
            if URL(url.reveal()).scheme not in ("http", "https"):
                raise ValueError
        except ValueError:
            raise SettingsError(f"{where}.url: not an http address") from None
        signed = bool(settings.key.file or settings.key.env)
        receivers.append(Receiver(settings, url, settings.key.read(env, f"{where}.key") if signed else Secret("")))
    return receivers


class Telling:
    """Turns changes into jobs and jobs into requests. `run` goes on until it is cancelled; then `close`."""

    def __init__(self, ledger: Ledger, metrics: Metrics, receivers: Sequence[Receiver], site: str) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._receivers = {each.settings.name: each for each in receivers}
        self._site = site.rstrip("/")
        self._outbound = {name: Outbound(_policy(each)) for name, each in self._receivers.items()}
        ledger.wishes_of = self.wishes_of

    @property
    def kinds(self) -> list[str]:
        return [tell_kind(name) for name in self._receivers]

    def wishes_of(self, changes: Sequence[Change]) -> list[Wish]:
        """One job for each change and whoever wants to know of it."""
        wishes = []
        for change in changes:
            team = self._ledger.fleet.owners.team_of(change.after.registry, change.after.repository)
            notice = make_notice(change, team=team, site=self._site)
            for name, receiver in self._receivers.items():
                if receiver.wants(change, team):
                    wishes.append(Wish(tell_kind(name), str(notice.id), msgspec.msgpack.encode(notice), PRIORITY_ASKED))
        return wishes

    async def run(self) -> None:
        while self._receivers:
            self._ledger.told.clear()
            job = await self._ledger.persist(lambda: self._ledger.work.lease(self.kinds))
            if job is None:
                due = await self._ledger.persist(lambda: self._ledger.work.next_due(self.kinds))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS if due is None else min(IDLE_SECONDS, max(due, 0.5))):
                        await self._ledger.told.wait()
                continue
            await self._work_off(job)

    async def close(self) -> None:
        for outbound in self._outbound.values():
            await outbound.close()

    async def _work_off(self, job: Job) -> None:
        name = job.kind.removeprefix(_KIND)
        try:
            await self._send(name, msgspec.msgpack.decode(job.payload, type=Notice))
        except SourceError as error:
            await self._failed(name, job, error)
        else:
            self._metrics.add("enoent_notices_total", name, "sent")
            await self._ledger.persist(lambda: self._ledger.work.done(job))

    async def _failed(self, name: str, job: Job, error: SourceError) -> None:
        given_up = job.tries >= self._receivers[name].settings.tries
        self._metrics.add("enoent_notices_total", name, "given-up" if given_up else "retried")
        log.warning("notice failed", receiver=name, change=job.key, error=str(error), given_up=given_up)
        if given_up:
            await self._ledger.persist(lambda: self._ledger.work.done(job))
        else:
            await self._ledger.persist(lambda: self._ledger.work.retry(job, str(error), error.retry_after))

    async def _send(self, name: str, notice: Notice) -> None:
        receiver = self._receivers[name]
        slack = receiver.settings.form == "slack"
        body = slack_body(notice, ChangeKind(notice.kind)) if slack else msgspec.json.encode(notice)
        headers = {"Content-Type": "application/json", "X-Enoent-Change": str(notice.id)}
        if receiver.key:
            headers[SIGNATURE_HEADER] = signature(body, receiver.key.reveal())
        async with self._outbound[name].request("POST", URL(receiver.url.reveal()), headers, body) as answer:
            if answer.status >= 300:
                raise SourceError(f"{name} answers {answer.status}", code=f"http-{answer.status}")


def _policy(receiver: Receiver) -> HostPolicy:
    """The address was written down by the operator: it may be private; plain HTTP beyond loopback must be allowed."""
    place = URL(receiver.url.reveal()).authority
    return HostPolicy((place,), (place,) if receiver.settings.insecure else ())
