"""Challenges and tokens of registries (distribution token specification): Basic, and Bearer from a token server.

Credentials go to the registry itself, or to a token server of the same site or named in `trusted_hosts`; nowhere else
(hostile 62). Expiry is counted on the monotonic clock, from when we got the token (hostile 61).
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping

import msgspec
from yarl import URL

from analyzers.errors import Rejected
from analyzers.oci import load_json
from service.blobs import collect
from service.errors import SourceError
from service.outbound import Outbound, is_loopback
from service.registry.credentials import Credentials

TOKEN_BYTES = 1 << 20
SHORTEST_LIFE = 60.0
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|$)")
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
    parent = host.split(".", 1)[-1]
    labels = parent.split(".")
    registrable = len(labels) >= 3 or (len(labels) == 2 and len(labels[0]) > 3)
    return registrable and (other == parent or other.endswith(f".{parent}"))


class Authenticator:
    """What one registry wants to see in Authorization, by scope. `host` is its API host with port."""

    def __init__(
        self,
        host: str,
        outbound: Outbound,
        credentials: Credentials,
        trusted_hosts: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = URL(f"https://{host}").host or host
        self._outbound = outbound
        self._credentials = credentials
        self._trusted = trusted_hosts
        self._clock = clock
        self._basic = False
        self._tokens: dict[str, tuple[str, float]] = {}

    def header(self, scope: str) -> dict[str, str]:
        """The Authorization header for a scope, as far as known."""
        if self._basic:
            return {"Authorization": _basic(self._credentials)}
        token, until = self._tokens.get(scope, ("", 0.0))
        return {"Authorization": f"Bearer {token}"} if token and self._clock() < until else {}

    async def answer(self, challenges: list[Challenge], scope: str, url: URL) -> None:
        """Prepares for the next try after a 401. Raises SourceError when nothing more can be done."""
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                self._tokens[scope] = await self._token(challenge.parameters, scope)
                return
            if challenge.scheme == "basic" and self._credentials.username and not self._basic:
                self._check_cleartext(url)
                self._basic = True
                return
        what = "refuses these credentials" if self._credentials else "wants credentials and there are none for it"
        raise SourceError(f"{self._host} {what}", temporary=False, code="unauthorized")

    def forget(self, scope: str) -> None:
        """Drops what did not serve."""
        self._tokens.pop(scope, None)

    def _check_cleartext(self, url: URL) -> None:
        host = url.host or ""
        if url.scheme != "https" and not is_loopback(host) and host not in self._outbound.policy.insecure:
            raise SourceError(f"{host}: credentials are not sent over plain HTTP", temporary=False, code="tls")

    async def _token(self, parameters: Mapping[str, str], scope: str) -> tuple[str, float]:
        realm = URL(parameters["realm"])
        host = realm.host or ""
        if not (same_site(self._host, host) or host in self._trusted):
            raise SourceError(
                f"{self._host} sends us to {host} for a token; name it in trusted_hosts if that is right",
                temporary=False,
                code="denied",
            )
        asked = {"service": parameters.get("service", ""), "scope": parameters.get("scope") or scope}
        asked = {key: value for key, value in asked.items() if value}
        headers: dict[str, str] = {}
        form: dict[str, str] | None = None
        method = "GET"
        if self._credentials.identity_token:
            method = "POST"
            form = asked | {
                "grant_type": "refresh_token",
                "client_id": "enoent",
                "refresh_token": self._credentials.identity_token,
            }
            self._check_cleartext(realm)
        else:
            realm = realm.update_query(asked)
            if self._credentials.username:
                self._check_cleartext(realm)
                headers["Authorization"] = _basic(self._credentials)
        begun = self._clock()
        async with self._outbound.request(method, realm, headers, form) as response:
            body = await collect(response.content.iter_any(), TOKEN_BYTES)
            if response.status in (400, 401, 403):
                raise SourceError(f"{host} refuses a token for {self._host}", temporary=False, code="unauthorized")
            if response.status != 200:
                raise SourceError(f"{host} answers {response.status} instead of a token")
        try:
            fields = load_json(body, TOKEN_BYTES)
        except Rejected as error:
            raise SourceError(f"{host}: its token is not readable: {error.detail}") from error
        token = fields.get("token") or fields.get("access_token") if isinstance(fields, dict) else None
        if not isinstance(token, str) or not token.isprintable():
            raise SourceError(f"{host} answers without a token")
        life = fields.get("expires_in")
        seconds = float(life) if isinstance(life, (int, float)) and 0 < life < 1 << 31 else SHORTEST_LIFE
        return token, begun + max(seconds, 5.0) * 0.8


def _basic(credentials: Credentials) -> str:
    joined = f"{credentials.username}:{credentials.password}"
    return "Basic " + base64.b64encode(joined.encode()).decode()
