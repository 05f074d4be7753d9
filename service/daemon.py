"""The composition root: all parts are made here, run in one TaskGroup, reloaded by SIGHUP and drained by SIGTERM.

Knows what belongs to what and in which order it is taken down; every decision is made in the part it belongs to. Stopping
means: no longer ready at once, no more work begun, work at hand finished within the grace time or handed back, all closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.metadata
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from analyzers.judges import RULES_VERSION
from analyzers.oci import parse_platform
from analyzers.readers import FACTS_VERSION
from analyzers.rules import RULES
from service.demo import build_demo
from service.errors import ServiceError, SettingsError, StoreError
from service.examining import Examining
from service.fleet import Fleet
from service.hooks.looking import Looking
from service.hooks.receiving import Hook, Receiving, read_hooks
from service.jobs import JUDGE, examine_kind
from service.ledger import Ledger
from service.log import set_up
from service.metrics import Metrics
from service.owners import Owners
from service.pipeline import Examiner
from service.settings import Settings, load_settings, read_tokens
from service.silencing import Silences, day_of
from service.sources import Source
from service.sources.build import WatchedSettings, check_secrets, is_there, make_source, watched
from service.sources.settings import LayoutSettings
from service.store import Store
from service.telling import Receiver, Telling, read_receivers
from service.vitals import Vitals
from service.watching import Follower
from service.web import make_app, show_config
from service.work import Work
from service.worker import Pool

log = structlog.get_logger()

EXIT_FAILED = 1
EXIT_SETTINGS = 64
GRACE_LONGEST_SECONDS = 20.0
"""Longest time for work at hand after SIGTERM, so that all is closed within DRAIN_SECONDS."""
DRAIN_SECONDS = 24.0
"""After this the process ends whatever still hangs; everything that matters is written down by then (hostile 124)."""
HTTP_CLOSE_SECONDS = 1.0
SILENCE_SECONDS = 60.0
"""How often it is looked whether a silence has ended."""
DEMO = "demo"
LIVE_SETTINGS = frozenset({"registries", "docker", "layouts", "buildkit", "containerd", "demo", "owners", "silence", "log"})
"""What SIGHUP puts into force; the rest waits for the next start."""

Reread = Callable[[], Settings]
"""Reads the configuration anew. Raises SettingsError."""


def serve(settings: Settings, env: Mapping[str, str], reread: Reread | None = None) -> int:
    """Runs the daemon until a signal ends it; gives its exit status: 0, 1 (it cannot run) or 64 (a setting is wrong).

    `reread` is how SIGHUP reads the configuration anew: without it, as at a start without flags. Blocking; main thread only.
    """
    set_up(settings.log)
    ending = _Ending()
    try:
        return asyncio.run(_serve(settings, env, reread or (lambda: load_settings(env=env)), ending))
    except SettingsError as error:
        sys.stderr.write(f"enoent: {error}\n")
        return EXIT_SETTINGS
    except (ServiceError, OSError) as error:
        sys.stderr.write(f"enoent: {error}\n")
        return EXIT_FAILED
    finally:
        ending.over()


class _Ending:
    """The first signal asks, the second ends; and after DRAIN_SECONDS it is over anyhow, even if a thread still blocks."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._alarm = threading.Timer(DRAIN_SECONDS, os._exit, [0])
        self._alarm.daemon = True

    def signalled(self, number: int) -> None:
        if self.asked.is_set():
            os._exit(128 + number)
        self.asked.set()
        self._alarm.start()

    def over(self) -> None:
        self._alarm.cancel()


async def _serve(settings: Settings, env: Mapping[str, str], reread: Reread, ending: _Ending) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.signalled, number)
    reload = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    async with open_daemon(settings, env) as daemon:
        sys.stdout.write(daemon.greeting())
        sys.stdout.flush()
        await daemon.run(ending.asked, reload, reread)
    return 0


@contextlib.asynccontextmanager
async def open_daemon(settings: Settings, env: Mapping[str, str]) -> AsyncIterator[Daemon]:
    """All parts, listening but not yet at work. Raises SettingsError, StoreError, ServiceError in words for the operator."""
    tokens = read_tokens(settings, env)
    receivers = read_receivers(settings.webhooks, env)
    hooks = read_hooks(settings, env)
    for each in watched(settings).values():
        await check_secrets(each)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_alone(settings.state.folder))
        store = await Store.open(settings.state)
        stack.push_async_callback(store.close)
        fleet = Fleet(Owners(settings.owners), Silences(settings.silence, day_of(time.time())))
        metrics = Metrics(fleet)
        ledger = Ledger(store, Work(store.database, settings.jobs), fleet)
        pool = await stack.enter_async_context(Pool(settings.workers, settings.limits))
        examiner = Examiner(store, pool, settings.profile)
        daemon = Daemon(settings, ledger, metrics, examiner, receivers, hooks)
        stack.push_async_callback(daemon.telling.close)
        app = make_app(
            fleet=fleet, reports=store, history=ledger.history, metrics=metrics, rescan=ledger.rescan,
            running=daemon.examining.board.running,
            readiness=daemon.vitals.unready, hooks=daemon.receiving,
            settings=settings, tokens=tokens, rules=RULES, version=version(),
        )  # fmt: skip
        daemon.addresses = await _listen(app, settings, stack)
        daemon.app = app
        stack.push_async_callback(daemon.close_sources)
        yield daemon


class Daemon:
    """One running daemon. What lives over time: the sources that are followed, and the settings in force."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        metrics: Metrics,
        examiner: Examiner,
        receivers: Sequence[Receiver] = (),
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.metrics = metrics
        self.sources: dict[str, Source] = {}
        platforms = tuple(parse_platform(text) for text in settings.platforms)
        self.examining = Examining(ledger, examiner, self.sources, metrics, settings.jobs, platforms)
        self.telling = Telling(ledger, metrics, receivers, settings.listen.public_url)
        self._followers: dict[str, Follower] = {}
        self.looking = Looking(ledger, metrics, self._followers, [each.settings.registry for each in hooks])
        self.receiving = Receiving(hooks, ledger, metrics, self._followers, self.looking.wake.set)
        self.vitals = Vitals(ledger, metrics, examiner, self.examining)
        self.addresses: list[str] = []
        self.app: web.Application | None = None
        self._followed: dict[str, tuple[WatchedSettings, asyncio.Task[None]]] = {}
        metrics.set("enoent_build_info", version(), FACTS_VERSION, RULES_VERSION, to=1)
        self._note_reload(well=True)

    def greeting(self) -> str:
        """Where the page and the metrics are, for people."""
        lines = [f"enoent {version()}\n"]
        for address in self.addresses:
            lines += [f"  page     {address}/\n", f"  metrics  {address}/metrics\n"]
        return "".join(lines)

    async def run(self, ending: asyncio.Event, reload: asyncio.Event, reread: Reread) -> None:
        """Until `ending` is set, and what was at hand then is finished or handed back."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (self.vitals.watch(), self.vitals.beat())]
            tasks.append(group.create_task(self._live(group, reload, reread)))
            await ending.wait()
            log.info("daemon stop", at_hand=self.examining.at_hand)
            self.vitals.stopping = True
            for task in (*tasks[2:], *(task for _, task in self._followed.values())):
                task.cancel()
            await self.examining.stop(min(self.settings.jobs.grace_seconds, GRACE_LONGEST_SECONDS))
            for task in tasks:
                task.cancel()
        log.info("daemon done")

    async def _live(self, group: asyncio.TaskGroup, reload: asyncio.Event, reread: Reread) -> None:
        """From an open store to work under way; then reloads when told to, for ever."""
        self.vitals.starting = "reading what is stored"
        ledger = self.ledger
        names = {*watched(self.settings), DEMO}
        await ledger.persist(lambda: ledger.store.keep_sources(names))
        await ledger.persist(
            lambda: ledger.work.keep_kinds([JUDGE, *self.telling.kinds, *self.looking.kinds, *map(examine_kind, names)])
        )
        freed = await ledger.persist(ledger.work.reconcile)
        wanted = await self._to_watch(self.settings)
        # What is configured and not there now keeps its rows in the store, but nobody vouches for them: they are not shown.
        await ledger.persist(lambda: ledger.recall(wanted, self.settings.profile))
        log.info("daemon start", version=version(), names=len(ledger.fleet), unfinished=freed)
        await self._follow(group, wanted)
        self.vitals.starting, self.vitals.began_at = "", time.monotonic()
        group.create_task(self.examining.run())
        async with asyncio.TaskGroup() as own:
            own.create_task(self.telling.run())
            own.create_task(self._let_silences_end())
            own.create_task(self.looking.run())
            await self._reload_when_told(group, reload, reread)

    async def _reload_when_told(self, group: asyncio.TaskGroup, reload: asyncio.Event, reread: Reread) -> None:
        while True:
            await reload.wait()
            reload.clear()
            try:
                await self._reload(group, await asyncio.to_thread(reread))
            except (ServiceError, OSError) as error:
                self._note_reload(well=False)
                log.error("config reload failed", error=str(error), kept="the settings in force")

    # Silences

    async def _let_silences_end(self) -> None:
        """A silence ends with its day, without anybody's doing."""
        self._tell_expired()
        while True:
            await asyncio.sleep(SILENCE_SECONDS)
            await self._renew_silences()

    async def _renew_silences(self) -> None:
        """Puts the silences of the settings into force as they stand today; nothing happens where they stand so already."""
        ledger = self.ledger
        known, today = ledger.fleet.silences, day_of(ledger.clock())
        if (known.settings, known.today) == (self.settings.silence, today):
            return
        await ledger.persist(lambda: ledger.renew_silences(Silences(self.settings.silence, today)))
        self._tell_expired()

    def _tell_expired(self) -> None:
        for silence in self.ledger.fleet.silences.expired:
            log.warning("silence expired", rule=silence.rule, repository=silence.repository, path=silence.path,
                        reason=silence.reason, until=silence.until.isoformat())  # fmt: skip

    # Sources

    async def _to_watch(self, settings: Settings) -> dict[str, WatchedSettings]:
        """What there is to watch; when that is nothing, a demonstration fleet made from this machine's own files."""
        found = {name: each for name, each in watched(settings).items() if is_there(each)}
        if found or not settings.demo:
            return found
        self.vitals.starting = self.vitals.starting and "building the demonstration fleet"
        folder = settings.state.folder / DEMO
        try:
            references = await asyncio.to_thread(build_demo, folder)
        except OSError as error:
            log.error("demo build failed", error=str(error))
            return {}
        log.info("demo built", folder=str(folder), images=len(references), why="there is nothing to watch")
        return {DEMO: LayoutSettings(path=str(folder), name=DEMO)}

    async def _follow(self, group: asyncio.TaskGroup, wanted: Mapping[str, WatchedSettings]) -> None:
        """Follows these sources and no others; one whose settings did not change is left as it is."""
        for name, (settings, task) in list(self._followed.items()):
            if wanted.get(name) != settings:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del self._followed[name], self._followers[name]
                await self.sources.pop(name).close()
            if name not in wanted:
                self.ledger.fleet.forget_source(name)
        for name, settings in wanted.items():
            if name not in self._followed:
                source = self.sources[name] = make_source(settings, lambda: self.settings.registries)
                log.info("source start", source=name, kind=source.kind)
                follower = self._followers[name] = Follower(source, self.ledger, self.metrics)
                self._followed[name] = (settings, group.create_task(follower.follow(), name=f"follow {name}"))
        self.ledger.wake.set()

    async def close_sources(self) -> None:
        for source in self.sources.values():
            await source.close()

    # Reload

    async def _reload(self, group: asyncio.TaskGroup, new: Settings) -> None:
        """Puts new settings into force as far as that goes without a start. Raises SettingsError, and nothing has changed."""
        for each in watched(new).values():
            await check_secrets(each)
        waiting = [name for name in Settings.__struct_fields__ if getattr(new, name) != getattr(self.settings, name)]
        waiting = [name for name in waiting if name not in LIVE_SETTINGS]
        changes = {name: getattr(new, name) for name in LIVE_SETTINGS}
        wanted = await self._to_watch(new)
        self.settings = msgspec.structs.replace(self.settings, **changes)
        self.ledger.fleet.renew_owners(Owners(new.owners))
        await self._renew_silences()
        set_up(new.log)
        await self._follow(group, wanted)
        if self.app is not None:
            show_config(self.app, self.settings)
        self._note_reload(well=True)
        log.info("config reload done", sources=sorted(wanted), at_next_start=waiting)

    def _note_reload(self, *, well: bool) -> None:
        self.metrics.set("enoent_config_last_reload_successful", to=float(well))
        if well:
            self.metrics.set("enoent_config_last_reload_success_timestamp_seconds", to=self.ledger.clock())


async def _listen(app: web.Application, settings: Settings, stack: contextlib.AsyncExitStack) -> list[str]:
    """Serves the application; gives its addresses as people open them. Raises ServiceError when it cannot listen."""
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=HTTP_CLOSE_SECONDS, auto_decompress=False
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    listen = settings.listen
    try:
        await web.TCPSite(runner, listen.address, listen.port).start()
    except OSError as error:
        raise ServiceError(f"listen: {listen.address}:{listen.port}: {error.strerror or error}") from error
    found = []
    for host, port, *_ in runner.addresses:
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        found.append(f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}")
    return found


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second daemon out of the same state folder (hostile 119). Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"state.dir: {folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StoreError(f"state.dir: {folder} is in use by another enoent") from None
    finally:
        os.close(descriptor)


def version() -> str:
    """Of this program, as installed."""
    try:
        return importlib.metadata.version("enoent")
    except importlib.metadata.PackageNotFoundError:
        return "0"
