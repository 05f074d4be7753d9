"""User names and passwords for registries: from the settings, else from Docker's config.json and its helpers.

Credentials belong to the exact host they are stored for (hostile 63) and never appear in a repr. They are read at need and
again when a registry refuses them, because helpers of cloud registries give passwords that last for hours only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import docker.auth
import docker.utils.config

from service.errors import SettingsError, SourceError
from service.sources.settings import RegistrySettings

HELPER_SECONDS = 20.0
ANSWER_BYTES = 64 << 10
CONFIG_BYTES = 1 << 20
HUB_SERVER = "https://index.docker.io/v1/"
"""What Docker Hub is called in config.json and by helpers."""


class Credentials:
    """What one host is told. `identity_token` replaces name and password."""

    __slots__ = ("identity_token", "password", "username")

    def __init__(self, username: str = "", password: str = "", identity_token: str = "") -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def _parts(self) -> tuple[str, str, str]:
        return (self.username, self.password, self.identity_token)

    def __repr__(self) -> str:
        return "Credentials(***)" if self else "Credentials()"

    @property
    def basic(self) -> str:
        """The Authorization header of the Basic scheme."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


async def credentials_for(settings: RegistrySettings) -> Credentials:
    """Of one registry, as they are now. Raises SettingsError (password file), SourceError (a broken config.json or helper)."""
    if settings.username:
        return Credentials(settings.username, await asyncio.to_thread(_password, settings))
    host = settings.host
    config = await asyncio.to_thread(_docker_config, host)
    server = HUB_SERVER if host == "docker.io" else host
    helpers = config.get("credHelpers")
    helpers = helpers if isinstance(helpers, dict) else {}
    helper = helpers.get(server) or helpers.get(host) or config.get("credsStore")
    if isinstance(helper, str) and helper and (found := await _from_helper(helper, server)) is not None:
        return found
    return _from_entries(config, host)


def _password(settings: RegistrySettings) -> str:
    if not settings.password_file:
        raise SettingsError(f"registries: {settings.host} has a username but no password_file")
    try:
        return Path(settings.password_file).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"registries: password_file of {settings.host}: {_reason(error)}") from error


def _docker_config(host: str) -> dict[str, Any]:
    """Docker's config.json, empty where there is none."""
    place = docker.utils.config.find_config_file()
    if place is None:
        return {}
    path = Path(str(place))
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES + 1)
        fields = json.loads(raw) if len(raw) <= CONFIG_BYTES else None
    except (OSError, ValueError) as error:
        raise _unusable(f"credentials of {host}: {path}: {_reason(error)}") from None  # a parser quotes what it reads
    if not isinstance(fields, dict):
        raise _unusable(f"credentials of {host}: {path} is not a JSON object")
    return fields


def _from_entries(config: dict[str, Any], host: str) -> Credentials:
    """The entry of exactly this host under `auths`; its key may be a whole address. Other entries are not even looked at."""
    entries = config.get("auths")
    for key, entry in entries.items() if isinstance(entries, dict) else ():
        if docker.auth.resolve_index_name(key) != host or not isinstance(entry, dict):
            continue
        if token := entry.get("identitytoken"):
            return Credentials(identity_token=str(token))
        if joined := entry.get("auth"):
            try:
                return Credentials(*docker.auth.decode_auth(joined))
            except (ValueError, TypeError):
                raise _unusable(f"credentials of {host}: its entry in config.json is not user:password in base64") from None
        if username := entry.get("username"):  # as in the secrets of Kubernetes
            return Credentials(str(username), str(entry.get("password", "")))
    return Credentials()


async def _from_helper(name: str, server: str) -> Credentials | None:
    """What `docker-credential-NAME get` says of a server; None when it has nothing. It and its children end in time."""
    program = shutil.which(f"docker-credential-{name}")
    if program is None or os.sep in name:
        raise _unusable(f"credentials of {server}: docker-credential-{name[:60]} is not on PATH")
    child = await asyncio.create_subprocess_exec(
        program, "get",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True, limit=ANSWER_BYTES,
    )  # fmt: skip
    try:
        async with asyncio.timeout(HELPER_SECONDS):
            answer, _ = await child.communicate(server.encode())
    except TimeoutError as error:
        raise _unusable(f"credentials of {server}: docker-credential-{name} does not answer") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    if child.returncode:
        return None
    try:
        fields = json.loads(answer)
        username, secret = fields["Username"], fields["Secret"]
    except (ValueError, KeyError, TypeError):
        raise _unusable(f"credentials of {server}: docker-credential-{name} gives no user name and secret") from None
    if username == "<token>":
        return Credentials(identity_token=str(secret))
    return Credentials(str(username), str(secret)) if username or secret else None


def _unusable(message: str) -> SourceError:
    """Temporary, because files are mounted and helpers are mended while we run."""
    return SourceError(message, code="unauthorized")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
