"""The one way out: every request to a registry, a token server or a redirect goes through here.

Names are resolved, the addresses checked, and the connection made to the address that was checked (hostile 62, 64): private
and loopback ranges only for hosts that the configuration or the command line named. Plain HTTP only to loopback and to
hosts configured as insecure. Redirects are followed by hand, at most five, and lose their credentials.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from service.errors import SourceError

CONNECT_SECONDS = 10.0
HEADER_SECONDS = 30.0
IDLE_SECONDS = 60.0
REDIRECTS = 5
FIELD_BYTES = 64 << 10
READ_BUFFER_BYTES = 1 << 20
_REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


class HostPolicy:
    """Which hosts were named by people. `named` may be private; `insecure` may be spoken to without TLS."""

    def __init__(self, named: Collection[str] = (), insecure: Collection[str] = ()) -> None:
        self.named = frozenset(map(_bare, named))
        self.insecure = frozenset(map(_bare, insecure))

    def check_url(self, url: URL) -> None:
        """Raises SourceError for a scheme or a literal address that may not be used."""
        host = url.host or ""
        if url.scheme == "http" and not (is_loopback(host) or _bare(url.authority) in self.insecure or host in self.insecure):
            raise SourceError(f"{host}: plain HTTP is not allowed; set `insecure` for it", temporary=False, code="tls")
        if url.scheme not in ("http", "https") or not host:
            raise SourceError(f"not an http address: {url.scheme}://{host}", temporary=False, code="denied")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return
        self.check_address(host, address)

    def check_address(self, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        """Raises SourceError for an address outside the public ranges of a host nobody named."""
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_global and host not in self.named:
            raise SourceError(f"{host} leads to {address}, which is not public; name it in the configuration", code="denied")


def _bare(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _CheckedResolver(AbstractResolver):
    """Resolves a name and refuses its addresses before anything connects to them."""

    def __init__(self, policy: HostPolicy) -> None:
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            self._policy.check_address(host, ipaddress.ip_address(str(address[0]).partition("%")[0]))
            results.append(
                ResolveResult(
                    hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held open."""


class Outbound:
    """A pool of connections under one host policy. Use it inside one event loop; close it once."""

    def __init__(self, policy: HostPolicy, *, idle_seconds: float = IDLE_SECONDS, header_seconds: float = HEADER_SECONDS) -> None:
        self.policy = policy
        self._idle_seconds = idle_seconds
        self._header_seconds = header_seconds
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_CheckedResolver(self.policy), limit=64, use_dns_cache=False),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._idle_seconds),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=FIELD_BYTES,
                max_field_size=FIELD_BYTES,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity", "User-Agent": "enoent"},
                trust_env=False,  # it would also read netrc; proxies are taken from the environment below
            )
        return self._session

    @asynccontextmanager
    async def request(
        self, method: str, url: URL, headers: Mapping[str, str] | None = None, data: Mapping[str, str] | bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One answer, redirects followed. Raises SourceError for everything that stands between us and an answer."""
        sent = dict(headers or {})
        for _ in range(REDIRECTS + 1):
            self.policy.check_url(url)
            response = await self._send(method, url, sent, data)
            target = response.headers.get("Location", "")
            if response.status not in _REDIRECT_STATUS or not target:
                try:
                    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
                        raise SourceError(f"{url.host} encodes its answer though told not to", code="bad-encoding")
                    yield response
                finally:
                    response.close()
                return
            response.close()
            following = url.join(URL(target))
            if url.scheme == "https" and following.scheme != "https":
                raise SourceError(f"{url.host} redirects to plain HTTP", temporary=False, code="tls")
            if following.origin() != url.origin():
                sent = {name: value for name, value in sent.items() if name.lower() not in _SECRET_HEADERS}
            url, method, data = following, "GET" if method == "POST" else method, None
        raise SourceError(f"{url.host} redirects more than {REDIRECTS} times", temporary=False, code="redirects")

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], data: Mapping[str, str] | bytes | None
    ) -> aiohttp.ClientResponse:
        proxy = _proxy_for(url)
        try:
            async with asyncio.timeout(self._header_seconds):
                return await self._open().request(
                    method, url, headers=headers, data=data, allow_redirects=False, proxy=proxy, ssl=True
                )
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError) as error:
            raise SourceError(f"{url.host}: TLS: {_first_line(error)}", code="tls") from error
        except TimeoutError as error:
            raise SourceError(f"{url.host} does not answer", code="slow") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SourceError(f"{url.authority} cannot be reached: {_why_unreached(error)}") from error

    async def close(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _proxy_for(url: URL) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for this address."""
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _why_unreached(error: BaseException) -> str:
    """The system's own words where it has some, such as "Connection refused"."""
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if isinstance(cause, socket.gaierror):
        return cause.strerror or _first_line(error)
    return os.strerror(number) if isinstance(number, int) and number > 0 else _first_line(error)


def _first_line(error: BaseException) -> str:
    """What an error says, without the address it may carry."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
