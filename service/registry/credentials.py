"""User names and passwords for registries: from the settings, else from Docker's config.json and its helpers.

Credentials belong to the exact host they are stored for (hostile 63) and never appear in a repr.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import docker.auth
import docker.errors
import requests.exceptions

from service.errors import SettingsError, SourceError
from service.sources.settings import RegistrySettings

HELPER_SECONDS = 20.0


class Credentials:
    """What one host is told. `identity_token` replaces name and password."""

    __slots__ = ("identity_token", "password", "username")

    def __init__(self, username: str = "", password: str = "", identity_token: str = "") -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token)

    def __repr__(self) -> str:
        return "Credentials(***)" if self else "Credentials()"


async def credentials_for(settings: RegistrySettings) -> Credentials:
    """Of one registry. Raises SettingsError (unreadable password file), SourceError (a helper that fails or hangs)."""
    if settings.username:
        return Credentials(settings.username, _password(settings))
    try:
        async with asyncio.timeout(HELPER_SECONDS):
            return await asyncio.to_thread(_from_docker, settings.host)
    except TimeoutError as error:
        raise SourceError(f"the credential helper for {settings.host} does not answer", code="unauthorized") from error


def _password(settings: RegistrySettings) -> str:
    if not settings.password_file:
        raise SettingsError(f"registries: {settings.host} has a username but no password_file")
    try:
        return Path(settings.password_file).read_text().strip()
    except OSError as error:
        raise SettingsError(f"registries: password_file of {settings.host}: {error.strerror}") from error


def _from_docker(host: str) -> Credentials:
    registry = None if host == "docker.io" else host
    try:
        found = docker.auth.load_config().resolve_authconfig(registry)
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
        raise SourceError(f"credentials of {host}: {type(error).__name__}", code="unauthorized") from error
    found = found or {}
    return Credentials(
        found.get("Username") or found.get("username") or "",
        found.get("Password") or found.get("password") or "",
        found.get("IdentityToken") or found.get("identitytoken") or "",
    )
