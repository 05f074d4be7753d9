"""Challenges and tokens of registries (distribution token specification): Basic, and Bearer from a token server.

Credentials go to the registry itself, or to a token server of the same site or named in `trusted_hosts`; nowhere else
(hostile 62). Expiry is counted on the monotonic clock, from when we got the token (hostile 61).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from yarl import URL

from analyzers.errors import Rejected
from analyzers.oci import load_json
from service.blobs import collect
from service.errors import SourceError
from service.outbound import Outbound, parse_url
from service.registry.credentials import Credentials

TOKEN_BYTES = 1 << 20
SHORTEST_LIFE = 60.0
_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|,|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')


class Challenge(msgspec.Struct, frozen=True):
    """One WWW-Authenticate challenge; names of parameters in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Every challenge of a header; what is not one ends the reading."""
    found: list[Challenge] = []
    place = 0
    while scheme := _SCHEME.match(header, place):
        place = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, place):
            quoted, plain = parameter.group(2), parameter.group(3)
            parameters[parameter.group(1).lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            place = parameter.end()
        found.append(Challenge(scheme.group(1).lower(), parameters))
    return found


def same_site(host: str, other: str) -> bool:
    """Whether two hosts belong together: equal, or under one parent domain that is no public suffix by its looks."""
    if host == other:
        return True
    if any(":" in name or name.replace(".", "").isdigit() for name in (host, other)):
        return False  # addresses have no parents
    parent = host.split(".", 1)[-1]
    labels = parent.split(".")
    registrable = len(labels) >= 3 or (len(labels) == 2 and len(labels[0]) > 3)
    return registrable and (other == parent or other.endswith(f".{parent}"))


LoadCredentials = Callable[[], Awaitable[Credentials]]
"""The credentials of the registry as they are now. Raises SourceError."""


class Authenticator:
    """What one registry wants to see in Authorization, by scope. `host` is its API host with port."""

    def __init__(
        self,
        host: str,
        outbound: Outbound,
        load: LoadCredentials,
        trusted_hosts: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = URL(f"https://{host}").host or host
        self._outbound = outbound
        self._load = load
        self._credentials: Credentials | None = None
        self._trusted = trusted_hosts
        self._clock = clock
        self._basic = False
        self._tokens: dict[str, tuple[str, float]] = {}
        self._answering = asyncio.Lock()

    def header(self, scope: str) -> dict[str, str]:
        """The Authorization header for a scope, as far as known."""
        if self._basic and self._credentials:
            return {"Authorization": self._credentials.basic}
        token, until = self._tokens.get(scope, ("", 0.0))
        return {"Authorization": f"Bearer {token}"} if token and self._clock() < until else {}

    async def answer(self, challenges: list[Challenge], scope: str, url: URL, sent: Mapping[str, str]) -> None:
        """Prepares for the next try after a 401 to what was `sent`. Raises SourceError when nothing more can be done.

        Of many requests that were refused together only the first asks for a token.
        """
        async with self._answering:
            if self.header(scope) != sent:
                return
            self._tokens.pop(scope, None)
            for challenge in challenges:
                if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                    self._tokens = {key: held for key, held in self._tokens.items() if held[1] > self._clock()}
                    self._tokens[scope] = await self._token(challenge.parameters, scope)
                    return
                if challenge.scheme == "basic" and await self._can_basic(url):
                    self._basic = True
                    return
        what = "refuses these credentials" if self._credentials else "wants credentials and there are none for it"
        raise SourceError(f"{self._host} {what}", temporary=False, code="unauthorized")

    def redact(self, text: str) -> str:
        """A text that others wrote, without any secret of ours that they may have sent back."""
        secrets = [token for token, _ in self._tokens.values()]
        if self._credentials:
            basic = self._credentials.basic.removeprefix("Basic ")
            secrets += [self._credentials.password, self._credentials.identity_token, basic]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    async def _can_basic(self, url: URL) -> bool:
        """Whether there are a user name and a password that were not refused yet."""
        refused = self._credentials if self._basic else None
        credentials = await self._renewed()
        if not credentials.username or credentials == refused:
            return False
        self._check_cleartext(url)
        return True

    async def _renewed(self) -> Credentials:
        self._credentials = await self._load()
        return self._credentials

    def _check_cleartext(self, url: URL) -> None:
        if url.scheme != "https" and not self._outbound.policy.allows_plain(url.host or ""):
            raise SourceError(f"{url.host}: credentials are not sent over plain HTTP", temporary=False, code="tls")

    async def _token(self, parameters: Mapping[str, str], scope: str) -> tuple[str, float]:
        """A token, by the credentials at hand, or by those of now when these are refused."""
        realm = parse_url(parameters["realm"], f"{self._host} names as token server")
        host = realm.host or ""
        if not (same_site(self._host, host) or host in self._trusted):
            raise SourceError(
                f"{self._host} sends us to {host} for a token; name it in trusted_hosts if that is right",
                temporary=False,
                code="denied",
            )
        asked = {"service": parameters.get("service", ""), "scope": parameters.get("scope") or scope}
        asked = {key: value for key, value in asked.items() if value}
        known = self._credentials
        credentials = known if known is not None else await self._renewed()
        try:
            return await self._ask(realm, asked, credentials)
        except SourceError as error:
            fresh = credentials if error.code != "unauthorized" or known is None else await self._renewed()
            if fresh == credentials:
                raise
        return await self._ask(realm, asked, fresh)

    async def _ask(self, realm: URL, asked: dict[str, str], credentials: Credentials) -> tuple[str, float]:
        host, method, headers = realm.host, "GET", dict[str, str]()
        form: dict[str, str] | None = None
        if credentials:
            self._check_cleartext(realm)
        if credentials.identity_token:
            method = "POST"
            form = {**asked, "grant_type": "refresh_token", "client_id": "enoent", "refresh_token": credentials.identity_token}
        else:
            realm = realm.update_query(asked)
            if credentials.username:
                headers["Authorization"] = credentials.basic
        begun = self._clock()
        async with self._outbound.request(method, realm, headers, form) as response:
            body = await collect(self._outbound.body(response), TOKEN_BYTES)
            if response.status in (400, 401, 403):
                raise SourceError(f"{host} refuses a token for {self._host}", temporary=False, code="unauthorized")
            if response.status != 200:
                raise SourceError(f"{host} answers {response.status} instead of a token")
        try:
            fields = load_json(body, TOKEN_BYTES)
        except Rejected as error:
            raise SourceError(f"{host}: its token is not readable: {error.detail}") from error
        token = fields.get("token") or fields.get("access_token") if isinstance(fields, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise SourceError(f"{host} answers without a token")
        life = fields.get("expires_in")
        seconds = float(life) if isinstance(life, (int, float)) and 0 < life < 1 << 31 else SHORTEST_LIFE
        return token, begun + max(seconds, 5.0) * 0.8
