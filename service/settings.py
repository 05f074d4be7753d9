"""Settings: what may be set, its default, its unit and its reason; read once from a file, the environment and flags.

Later sources win: defaults, then `enoent.toml`, then ENOENT_... variables, then flags. Every message names its key. What
nobody should turn off has no key. Settings of the single sources live with them (service/sources/settings.py).
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from analyzers.limits import GIB, MIB, Limits
from analyzers.profile import HostProfile
from analyzers.rules import RULES
from service.errors import SettingsError
from service.hooks.settings import HookSettings
from service.owners import OwnerSettings
from service.receivers import WebhookSettings
from service.secret import Secret, SecretFrom
from service.silencing import SilenceSettings
from service.sources.settings import BuildkitSettings, ContainerdSettings, DockerSettings, LayoutSettings, RegistrySettings

DEFAULT_FILE = Path("enoent.toml")
ENV_PREFIX = "ENOENT_"
MAX_FILE_BYTES = 1 * MIB
# Not ours: variables that Kubernetes makes for a service called enoent, and switches of our own test runs.
FOREIGN_ENV = re.compile(r"ENOENT_(SERVICE_(HOST|PORT.*)|PORT(_.*)?|TEST_.*|CONFIG)")
PLATFORM = re.compile(r"[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?")
BUILDER = re.compile(r"unix:///\S+|tcp://([^/\s:@]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
SERVER = re.compile(r"https?://[^/\s?#@]+/?")

Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]


class StateSettings(msgspec.Struct, frozen=True):
    """Where results are remembered."""

    dir: str = "state"
    """Folder of the database; made when absent. The only place that is written to."""
    max_bytes: Annotated[int, Meta(ge=16 * MIB)] = 4 * GIB
    """Stored facts and reports may take this many bytes; beyond it, what was used longest ago goes first."""
    min_free_bytes: Annotated[int, Meta(ge=0)] = 200 * MIB
    """With less free on the disk nothing is written and the daemon is not ready (hostile 117)."""

    @property
    def folder(self) -> Path:
        return Path(self.dir).expanduser()


class ListenSettings(msgspec.Struct, frozen=True):
    """Where the pages, the API, the metrics and the health checks are served."""

    address: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs tokens or `auth = "none"`."""
    port: Port = 8736
    """TCP port; 0 lets the machine choose, and the choice is printed."""
    public_url: str = ""
    """Address by which people reach the pages, such as `https://enoent.example`; links in webhooks and the feed begin with it."""
    auth: Literal["", "none"] = ""
    """`none` says that this port is guarded by something else, such as a proxy."""


class TokenSettings(msgspec.Struct, frozen=True):
    """One bearer token of the API. Two may be valid at once, for rotation."""

    name: str
    """What the log calls its holder."""
    scopes: tuple[Literal["read", "rescan", "admin"], ...] = ("read",)
    """What its holder may do."""
    token: SecretFrom = SecretFrom()
    """Where the token itself is: `{ file = "..." }` or `{ env = "..." }`."""


class Workers(msgspec.Struct, frozen=True):
    """The processes that parse what images contain, and what the kernel holds each of them to."""

    parallel: Annotated[int, Meta(ge=0, le=64)] = 0
    """Layers read at a time; 0 is one a processor. One more worker judges, and one reads small layers past waiting big ones."""
    memory_bytes: Annotated[int, Meta(ge=64 * MIB)] = 512 * MIB
    """Resident memory at which a worker is killed; the image it held is not analysed for that reason."""
    address_space_bytes: Annotated[int, Meta(ge=256 * MIB)] = 1 * GIB
    """Address space limit of a worker, set by itself before it reads anything."""
    cpu_seconds: Positive = 900
    """CPU time one layer, archive or judgement may take."""
    deadline_seconds: Seconds = 120.0
    """How long the daemon waits for a worker that owes it something; waiting for a source does not count."""
    cache_bytes: Annotated[int, Meta(ge=0)] = 24 * MIB
    """Packed facts a worker keeps decoded, so that the next image of the same base is judged at once."""
    recycle_after: Positive = 500
    """Requests after which a worker is replaced by a new one."""
    recycle_memory_bytes: Annotated[int, Meta(ge=32 * MIB)] = 320 * MIB
    """Resident memory after a request at which a worker is replaced by a new one."""


class JobSettings(msgspec.Struct, frozen=True):
    """How work is ordered and repeated."""

    parallel: Positive = 8
    """Images examined at a time; most of that is waiting for a source."""
    retry_first_seconds: Seconds = 60.0
    """Longest pause before the second try; it doubles with each try, and the true pause is drawn below it."""
    retry_longest_seconds: Seconds = 3600.0
    """Longest pause there is. Nothing is dropped for being unreachable."""
    deaths: Positive = 3
    """Worker deaths after which an image is stored as not analysable."""
    grace_seconds: Annotated[float, Meta(ge=0, le=25)] = 20.0
    """How long work at hand may go on after SIGTERM."""


class MetricsSettings(msgspec.Struct, frozen=True):
    """What is exported."""

    max_series: Annotated[int, Meta(ge=1000)] = 200_000
    """Series of images; what does not fit is counted in an overflow counter."""
    exclude: tuple[str, ...] = ()
    """Shell patterns over `registry/repository` of images without series of their own; the fleet's sums have them."""


class LogSettings(msgspec.Struct, frozen=True):
    """What is logged, to standard error."""

    format: Literal["auto", "json", "console"] = "auto"
    """`auto` is console on a terminal and JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written."""


class ScanSettings(msgspec.Struct, frozen=True):
    """How `enoent scan` answers."""

    server: str = ""
    """Address of a running daemon to ask first, such as `https://enoent.example`; empty: none."""
    token: SecretFrom = SecretFrom()
    """Where a token of that daemon is: `{ file = "..." }` or `{ env = "..." }`."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    state: StateSettings = StateSettings()
    """Where results are remembered."""
    listen: ListenSettings = ListenSettings()
    """Where pages, API and metrics are served."""
    tokens: tuple[TokenSettings, ...] = ()
    """Bearer tokens of the API; without any, only loopback is served."""
    registries: tuple[RegistrySettings, ...] = ()
    """Registries to watch."""
    docker: tuple[DockerSettings, ...] = (DockerSettings(missing_ok=True),)
    """Docker engines to watch."""
    layouts: tuple[LayoutSettings, ...] = (LayoutSettings(missing_ok=True),)
    """Folders of OCI image layouts to watch."""
    buildkit: tuple[BuildkitSettings, ...] = ()
    """Standalone BuildKits to watch; that of a Docker engine is watched with it."""
    containerd: tuple[ContainerdSettings, ...] = ()
    """containerds to watch, such as that of a Kubernetes node."""
    owners: tuple[OwnerSettings, ...] = ()
    """Whose images are whose; the first pattern that fits counts."""
    silence: tuple[SilenceSettings, ...] = ()
    """Findings that are known and bearable for a while; they are shown as silenced, and keep alerts and exit statuses quiet."""
    webhooks: tuple[WebhookSettings, ...] = ()
    """Who is told of changes."""
    hooks: tuple[HookSettings, ...] = ()
    """Who tells us of pushes, so that a registry is looked at before its next listing."""
    demo: bool = True
    """Build a demonstration fleet from this machine's own files when there is nothing to watch."""
    platforms: tuple[str, ...] = ()
    """Platforms to analyse, such as `linux/amd64`; empty for all that an image has."""
    workers: Workers = Workers()
    """The processes that parse image content."""
    jobs: JobSettings = JobSettings()
    """Order and repetition of work."""
    limits: Limits = Limits()
    """Ceilings on untrusted bytes."""
    profile: HostProfile = HostProfile()
    """The host that images are judged for."""
    metrics: MetricsSettings = MetricsSettings()
    """What is exported."""
    log: LogSettings = LogSettings()
    """What is logged."""
    scan: ScanSettings = ScanSettings()
    """How `enoent scan` answers."""


def load_settings(
    path: Path | None = None, env: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> Settings:
    """Settings of a file (absent: ./enoent.toml if there is one), ENOENT_ variables (those of this process unless given)
    and flags such as {"listen.port": 80}.

    Raises SettingsError naming the key, and whether it stood in the file, the environment or a flag.
    """
    if path is None and DEFAULT_FILE.exists():
        path = DEFAULT_FILE
    env = os.environ if env is None else env
    data = _read(path) if path else {}
    origins: dict[str, str] = {}
    for key, name in _env_keys():
        if name in env:
            _put(data, key, from_text(key, env[name]))
            origins[key] = name
    _refuse_unknown_env(env)
    for key, value in (flags or {}).items():
        _put(data, key, value)
        origins[key] = "--" + key.replace(".", "-")
    _refuse_unknown_keys(data, Settings, "")
    where = str(path) if path else "defaults"
    try:
        settings = msgspec.convert(data, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _named(error, origins, where) from None
    _check(settings)
    return settings


def read_tokens(settings: Settings, env: Mapping[str, str]) -> tuple[tuple[TokenSettings, Secret], ...]:
    """The API tokens with their secrets. Raises SettingsError."""
    return tuple((token, token.token.read(env, f"tokens[{index}].token")) for index, token in enumerate(settings.tokens))


def described(kind: type[msgspec.Struct] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that can be set, as `a.b` (lists as `a[].b`), with its type; the order is that of the Structs."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for name in kind.__struct_fields__:
        inner, many = struct_within(hints[name])
        key = f"{prefix}{name}"
        if inner is None:
            yield key, hints[name]
        else:
            yield from described(inner, f"{key}[]." if many else f"{key}.")


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise SettingsError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def struct_within(hint: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The Struct that a field holds, and whether it holds many."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return struct_within(typing.get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint, False
    if origin in (tuple, list):
        return struct_within(typing.get_args(hint)[0])[0], True
    if origin in (typing.Union, types.UnionType):
        found = [inner for inner in map(struct_within, typing.get_args(hint)) if inner[0]]
        return found[0] if found else (None, False)
    return None, False


def _env_keys() -> Iterator[tuple[str, str]]:
    for key, _ in described():
        if "[]" not in key:
            yield key, ENV_PREFIX + key.replace(".", "_").upper()


def from_text(key: str, text: str) -> object:
    """A value as it is written in the environment or in a flag: lists are parted by commas."""
    hint = dict(described())[key]
    if typing.get_origin(hint) in (tuple, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _refuse_unknown_env(env: Mapping[str, str]) -> None:
    known = [name for _, name in _env_keys()]
    for name in sorted(env):
        if name.startswith(ENV_PREFIX) and name not in known and not FOREIGN_ENV.fullmatch(name):
            raise SettingsError(f"{name}: no such setting{_nearest(name, known)}")


def _refuse_unknown_keys(data: Mapping[str, Any], kind: type[msgspec.Struct], prefix: str) -> None:
    hints = typing.get_type_hints(kind, include_extras=True)
    for name, value in data.items():
        if name not in kind.__struct_fields__:
            raise SettingsError(f"{prefix}{name}: no such setting{_nearest(name, kind.__struct_fields__)}")
        inner, many = struct_within(hints[name])
        if inner is None:
            continue
        for index, item in enumerate(value if many and isinstance(value, list) else [value]):
            if isinstance(item, Mapping):
                _refuse_unknown_keys(item, inner, f"{prefix}{name}[{index}]." if many else f"{prefix}{name}.")


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""


def _put(data: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise SettingsError(f"{key}: {parent} is not a table")
    data[last] = value


def _named(error: msgspec.ValidationError, origins: Mapping[str, str], where: str) -> SettingsError:
    """msgspec says "... - at `$.listen.port`"; people want the key first, and where it was set."""
    text, _, place = str(error).partition(" - at ")
    key = place.strip("`").removeprefix("$").removeprefix(".") or "file"
    return SettingsError(f"{key}: {text} ({origins.get(key, where)})")


def _check(settings: Settings) -> None:
    """What no type can say."""
    loopback = settings.listen.address in ("localhost", "::1") or settings.listen.address.startswith("127.")
    if not loopback and not settings.tokens and settings.listen.auth != "none":
        raise SettingsError(
            f'listen.address: {settings.listen.address} is not loopback; set tokens, or listen.auth = "none" if a proxy guards it'
        )
    for index, platform in enumerate(settings.platforms):
        if not PLATFORM.fullmatch(platform):
            raise SettingsError(f"platforms[{index}]: {platform!r} is not os/architecture, such as linux/amd64")
    for index, builder in enumerate(settings.buildkit):
        if not BUILDER.fullmatch(builder.address):
            raise SettingsError(f"buildkit[{index}].address: {builder.address!r} is neither unix:///path nor tcp://host:port")
        if bool(builder.cert) != bool(builder.key):
            raise SettingsError(f"buildkit[{index}].{'key' if builder.cert else 'cert'}: a certificate and its key go together")
    for index, node in enumerate(settings.containerd):
        if not node.address.startswith("unix:///"):
            raise SettingsError(f"containerd[{index}].address: {node.address!r} is not unix:///path")
    if settings.scan.server and not SERVER.fullmatch(settings.scan.server):
        raise SettingsError(f"scan.server: {settings.scan.server!r} is not an address such as https://enoent.example")
    for index, silence in enumerate(settings.silence):
        if not fnmatch.filter(RULES, silence.rule):
            nearest = _nearest(silence.rule, list(RULES))
            raise SettingsError(f"silence[{index}].rule: no rule is called {silence.rule!r}{nearest}; `enoent rules` lists them")
    names = [token.name for token in settings.tokens]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"tokens: two are called {name!r}")
    if settings.workers.memory_bytes > settings.workers.address_space_bytes:
        raise SettingsError("workers.memory_bytes: larger than workers.address_space_bytes")
