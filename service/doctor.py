"""`enoent doctor`: looks at everything the daemon will need, one check a thing, and says what to do about each that fails.

Nothing is changed and nobody is told: sources are asked for their first answer, a worker reads one empty layer, and the state
folder is written to by a file without a name.
"""

from __future__ import annotations

import asyncio
import enum
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from analyzers.errors import EnoentError
from service.database import look_at
from service.errors import ServiceError, SettingsError, SourceError, StoreError
from service.hooks.receiving import Hook, read_hooks
from service.registry.credentials import credentials_for
from service.settings import DEFAULT_FILE, Settings, load_settings, read_tokens
from service.silencing import Silences, day_of, describe
from service.sources import Source
from service.sources.build import WatchedSettings, is_there, make_source, registry_source, watched
from service.sources.settings import DockerSettings, RegistrySettings
from service.telling import read_receivers
from service.terminal import Line, wrap
from service.words import human_bytes
from service.worker import Pool

SOURCE_SECONDS = 20.0
LABEL_CELLS = 16


class Health(enum.StrEnum):
    """How a thing does."""

    GOOD = "good"
    DOUBT = "doubt"
    """Works, and yet somebody should know."""
    BAD = "bad"
    """The daemon will not do its part until it is mended."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    health: Health
    told: str
    todo: str = ""
    """What to do about it; empty where nothing need be done."""


_REMEDIES = {
    "unauthorized": "give it `username` and `password_file` in the configuration, or run `docker login` for this host as the "
    "user that enoent runs as",
    "denied": "the credentials are known and may not do this: grant reading, or name `repositories` instead of listing all",
    "tls": "name the authority's certificate in `ca_file`; `insecure = true` allows plain HTTP",
    "not-found": "see that the name or path is right and that it is there for the user that enoent runs as",
    "slow": "see whether something between here and there is slow or drops packets",
    "rate-limited": "raise `poll_seconds`, narrow `repositories` and `tags`, or give credentials that are allowed more",
}
_REACH = "see that the host is up and its name resolves here: `getent hosts NAME`"


def exit_status(checks: Sequence[Check]) -> int:
    """0 unless something is bad."""
    return int(any(check.health is Health.BAD for check in checks))


async def examine(path: Path | None, env: Mapping[str, str]) -> list[Check]:
    """Every check, in the order in which the daemon would meet the things. A wrong setting is the only check then."""
    try:
        settings = load_settings(path, env)
        read_tokens(settings, env)
        receivers = read_receivers(settings.webhooks, env)
        hooks = read_hooks(settings, env)
        sources = watched(settings)
    except SettingsError as error:
        todo = "mend the key named here; deploy/config.example.toml explains every key, `enoent config check` tries again"
        return [Check("configuration", Health.BAD, str(error), todo)]
    place = path or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    told = f"{place} is sound" if place else "no enoent.toml here; the defaults are sound"
    if receivers:
        told += f", {len(receivers)} webhook{'' if len(receivers) == 1 else 's'}"
    checks = [Check("configuration", Health.GOOD, told), *_silences(settings)]
    running = _is_locked(settings.state.folder)
    checks += await _state(settings, running=running)
    checks += [_listen(settings, running=running), await _workers(settings)]
    checks += [_hook(settings, each) for each in hooks]
    present = {name: each for name, each in sources.items() if is_there(each)}
    for found in await asyncio.gather(*(_source(name, each) for name, each in present.items())):
        checks += found
    return checks if present else [*checks, _nothing_to_watch(settings)]


def _nothing_to_watch(settings: Settings) -> Check:
    if settings.demo:
        return Check("sources", Health.DOUBT, "nothing to watch; a demonstration fleet will be built", "name `[[registries]]`")
    return Check("sources", Health.BAD, "nothing to watch", "name `[[registries]]`, `[[docker]]` or `[[layouts]]`")


def _silences(settings: Settings) -> Iterator[Check]:
    """Silences that have expired: their findings are told of again."""
    for each in Silences(settings.silence, day_of(time.time())).expired:
        yield Check("silence", Health.DOUBT, describe(each), "mend what it hid, give it a later `until`, or remove it")


# State


def _is_locked(folder: Path) -> bool:
    """Whether a daemon runs in this folder."""
    try:
        descriptor = os.open(folder / "daemon.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


async def _state(settings: Settings, *, running: bool) -> list[Check]:
    folder = settings.state.folder
    try:
        there = _nearest(folder)
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"enoent")
        free = shutil.disk_usage(there).free
    except OSError as error:
        todo = f"give the folder to uid {os.getuid()}: `chown {os.getuid()} {folder}`, or set state.dir to another"
        return [Check("state", Health.BAD, f"{folder}: {error.strerror or error}", todo)]
    if free < settings.state.min_free_bytes:
        told = f"{folder}: {human_bytes(free)} free, less than state.min_free_bytes"
        return [Check("state", Health.BAD, told, "make room there, or set state.dir to a bigger disk")]
    try:
        await look_at(folder)
    except StoreError as error:
        return [Check("state", Health.BAD, str(error), "nothing is lost but time: all facts can be read again")]
    told = f"{folder} can be written, {human_bytes(free)} free" + (", a daemon runs on it" if running else "")
    return [Check("state", Health.GOOD, told)]


def _nearest(folder: Path) -> Path:
    """The folder, or the one in which it would be made."""
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())


# The port


def _listen(settings: Settings, *, running: bool) -> Check:
    address, port = settings.listen.address, settings.listen.port
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        if running:
            return Check("listen", Health.GOOD, f"{address}:{port} is taken by the daemon that runs")
        todo = "set listen.port to another, or end what holds it: `ss -ltnp`"
        return Check("listen", Health.BAD, f"{address}:{port}: {error.strerror or error}", todo)
    return Check("listen", Health.GOOD, f"{address}:{port} is free")


# Workers


async def _workers(settings: Settings) -> Check:
    """A worker is started, confines itself and reads an empty layer."""
    async with Pool(settings.workers, settings.limits) as pool:
        try:
            await pool.layer(_chunks(_empty_tar()))
        except ServiceError as error:
            todo = "see that there is memory and room for processes: `ulimit -u`, workers.address_space_bytes"
            return Check("workers", Health.BAD, f"a worker does not read: {error}", todo)
        confined = pool.confined
    refused = {name: told for name, told in confined.items() if told.startswith("refused")}
    if "system_calls" in refused and "network" in refused:
        todo = "run on x86-64 or arm64 with seccomp and without a profile that forbids prctl(PR_SET_SECCOMP)"
        return Check("workers", Health.BAD, "the kernel lets workers keep sockets and other programs", todo)
    if "network" in refused:
        told = "confined by a filter of system calls; a network namespace of their own was refused, as usual in containers"
        return Check("workers", Health.GOOD, told)
    if refused:
        said = ", ".join(f"{name} {told}" for name, told in sorted(refused.items()))
        return Check("workers", Health.DOUBT, f"confined, except: {said}", "see docs/hostile.md for what each is good for")
    return Check("workers", Health.GOOD, "confined: no network, no new programs, no files, bounded memory and time")


def _empty_tar() -> bytes:
    """Two blocks of zeros, padded as tar pads them."""
    return bytes(10240)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


# Hooks


def _hook(settings: Settings, hook: Hook) -> Check:
    """Where the sender is to post to, and whether it can get there."""
    what, listen = f"hook {hook.settings.name}", settings.listen
    place = listen.public_url.rstrip("/") or f"http://{listen.address}:{listen.port}"
    shown = "a signature" if hook.key else "a token"
    told = f"{hook.settings.sender} posts to {place}/hooks/{hook.settings.name} with {shown}; it leads to looks at {hook.host}"
    loopback = listen.address in ("localhost", "::1") or listen.address.startswith("127.")
    if loopback and not listen.public_url:
        todo = (
            "set listen.public_url to the address of the proxy that leads here, or listen.address; if it runs here, all is well"
        )
        return Check(what, Health.DOUBT, f"{told}; only from this machine", todo)
    if place.startswith("http://") and not loopback and hook.token:
        return Check(what, Health.DOUBT, f"{told}; the token travels without TLS", "put a proxy with TLS in front")
    return Check(what, Health.GOOD, told)


# Sources


async def _source(name: str, settings: WatchedSettings) -> list[Check]:
    checks = []
    if isinstance(settings, RegistrySettings):
        checks.append(await _credentials(name, settings))
        source: Source = registry_source(settings, tries=1)
    else:
        source = make_source(settings)
    what = f"{source.kind} {name}"
    events = source.events()
    try:
        async with asyncio.timeout(SOURCE_SECONDS):
            first = await anext(aiter(events))
        shown = f" and shows {first.sighting.repository}" if first.sighting is not None else " and shows nothing yet"
        checks.append(Check(what, Health.GOOD, f"answers{shown}"))
    except TimeoutError:
        checks.append(Check(what, Health.BAD, f"no answer in {SOURCE_SECONDS:.0f} seconds", _REMEDIES["slow"]))
    except SourceError as error:
        checks.append(Check(what, Health.BAD, str(error), _remedy(settings, error.code)))
    except EnoentError as error:
        checks.append(Check(what, Health.BAD, str(error), "see that this is the address of a registry"))
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
        await source.close()
    return checks


def _remedy(settings: WatchedSettings, code: str) -> str:
    if isinstance(settings, DockerSettings):
        return (
            f"start the engine, and let uid {os.getuid()} use the socket: add the socket's group (`stat -c %G {settings.socket}`)"
        )
    return _REMEDIES.get(code, _REACH)


async def _credentials(name: str, settings: RegistrySettings) -> Check:
    what = f"credentials {name}"
    try:
        found = await credentials_for(settings)
    except (SettingsError, SourceError) as error:
        return Check(what, Health.BAD, str(error), "mend the file or helper named here")
    if not found:
        return Check(what, Health.GOOD, "none are stored for this host; it is asked without")
    whose = "from the configuration" if settings.username else "from Docker's config.json"
    return Check(what, Health.GOOD, f"{whose}, for {found.username or 'an identity token'}")


# In words

_MARKS = {Health.GOOD: ("good", "✓"), Health.DOUBT: ("doubt", "•"), Health.BAD: ("bad", "✗")}


def doctor_lines(checks: Sequence[Check], width: int) -> Iterator[Line]:
    """A line a check, and what to do below those that need it."""
    room = min(32, max(LABEL_CELLS, *(len(check.what) for check in checks)))
    for check in checks:
        style, mark = _MARKS[check.health]
        first = ((style, mark), ("", " "), ("strong", check.what.ljust(room)), ("", "  "))
        yield from wrap([(style if check.health is Health.BAD else "", check.told)], width, first)
        if check.todo:
            yield from wrap([("", check.todo)], width, (("", " " * (room + 4)), ("name", "→ ")))
    bad = sum(check.health is Health.BAD for check in checks)
    yield ()
    yield (("bad", f"{bad} of {len(checks)} need mending"),) if bad else (("good", "all is well"),)
