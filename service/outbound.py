"""The one way out: every request to a registry, a token server or a redirect goes through here.

Names are resolved, the addresses checked, and the connection made to the address that was checked (hostile 62, 64): private
and loopback ranges only for hosts that the configuration or the command line named. Plain HTTP only to loopback and to
hosts configured as insecure. Redirects are followed by hand, at most five, and lose their credentials. Behind a proxy it is
the proxy that resolves; then only what an address says by itself can be checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from service.errors import SourceError

CONNECT_SECONDS = 10.0
HEADER_SECONDS = 30.0
IDLE_SECONDS = 60.0
RATE_WINDOW_SECONDS = 60.0
RATE_BYTES = 64 * 1024
REDIRECTS = 5
FIELD_BYTES = 64 << 10
READ_BUFFER_BYTES = 1 << 20
_REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str, int, socket.AddressFamily], Awaitable[Sequence[str]]]
"""Addresses of a host; raises OSError when it has none."""


class HostPolicy:
    """Which hosts were named by people. `named` may be private; `insecure` may be spoken to without TLS."""

    def __init__(self, named: Collection[str] = (), insecure: Collection[str] = ()) -> None:
        self.named = frozenset(map(_bare, named))
        self.insecure = frozenset(map(_bare, insecure))

    def check_url(self, url: URL) -> None:
        """Raises SourceError for a scheme or a literal address that may not be used."""
        host = url.host or ""
        if url.scheme not in ("http", "https") or not host:
            raise SourceError(f"not an http address: {url.scheme}://{host}", temporary=False, code="denied")
        if url.scheme == "http" and not self.allows_plain(host):
            raise SourceError(f"{host}: plain HTTP is not allowed; set `insecure` for it", temporary=False, code="tls")
        if (address := _literal(host)) is not None:
            self.check_address(host, address, temporary=False)

    def allows_plain(self, host: str) -> bool:
        """Whether this host may be spoken to, and be given credentials, without TLS."""
        return is_loopback(host) or host in self.insecure

    def check_address(self, host: str, address: Address, *, temporary: bool = True) -> None:
        """Raises SourceError for an address outside the public ranges of a host nobody named.

        What a name leads to may be another address tomorrow, so that is temporary.
        """
        if host not in self.named and not all(each.is_global and not each.is_multicast for each in _meant(address)):
            raise SourceError(
                f"{host} leads to {address}, which is not public; name it in the configuration",
                temporary=temporary,
                code="denied",
            )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _meant(address: Address) -> list[Address]:
    """An address and the IPv4 address that it wraps, if it does (mapped, 6to4, NAT64)."""
    meant = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return [address.ipv4_mapped]
        if address.sixtofour is not None:
            meant.append(address.sixtofour)
        if address in _NAT64 or int(address) >> 32 == 0:
            meant.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return meant


def _bare(host: str) -> str:
    """A host without its port, as URLs spell it."""
    host = host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name."""
    address = _literal(host)
    return host == "localhost" if address is None else address.is_loopback


async def _system_lookup(host: str, port: int, family: socket.AddressFamily) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


class _Resolver(AbstractResolver):
    """Resolves a name and refuses its addresses, by the policy if there is one, before anything connects to them."""

    def __init__(self, lookup: Lookup, policy: HostPolicy | None) -> None:
        self._lookup = lookup
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        results: list[ResolveResult] = []
        for text in await self._lookup(host, port, family):
            address = ipaddress.ip_address(text.partition("%")[0])
            if self._policy is not None:
                self._policy.check_address(host, address)
            kind = socket.AF_INET if address.version == 4 else socket.AF_INET6
            results.append(ResolveResult(hostname=host, host=text, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST))
        return results

    async def close(self) -> None:
        """Nothing is held open."""


class ClientCertificate(NamedTuple):
    """A certificate of ours, and the one host that it is shown to."""

    host: str
    cert_file: str
    key_file: str = ""


class Outbound:
    """Pools of connections under one host policy. Use it inside one event loop; close it once."""

    def __init__(
        self,
        policy: HostPolicy,
        *,
        ca_file: str = "",
        certificate: ClientCertificate | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        header_seconds: float = HEADER_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        lookup: Lookup = _system_lookup,
    ) -> None:
        """`ca_file`: authorities trusted besides the machine's own. `clock` measures the least rate of bodies."""
        self.policy = policy
        self._ca_file = ca_file
        self._certificate = certificate
        self._connect_seconds = connect_seconds
        self._header_seconds = header_seconds
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lookup = lookup
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}

    def _session(self, proxied: bool, url: URL) -> aiohttp.ClientSession:
        """One session for connections of our own, one for those to proxies: a proxy may be private, what it leads to may not.

        And others for the host that is shown a certificate, so that no other host is.
        """
        shows = self._certificate is not None and url.host == _bare(self._certificate.host)
        if (proxied, shows) not in self._sessions:
            resolver = _Resolver(self._lookup, None if proxied else self.policy)
            self._sessions[proxied, shows] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, limit=64, use_dns_cache=False, ssl=self._tls(shows)),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds, sock_read=self._idle_seconds),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=FIELD_BYTES,
                max_field_size=FIELD_BYTES,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity", "User-Agent": "enoent"},
                trust_env=False,  # it would also read netrc; proxies are taken from the environment below
            )
        return self._sessions[proxied, shows]

    def _tls(self, shows: bool) -> ssl.SSLContext | bool:
        if not self._ca_file and not shows:
            return True
        context = ssl.create_default_context()
        try:
            if self._ca_file:
                context.load_verify_locations(self._ca_file)
        except OSError as error:
            raise SourceError(f"ca_file {self._ca_file}: {error.strerror or error}", temporary=False, code="tls") from error
        if self._certificate is not None and shows:
            _, cert_file, key_file = self._certificate
            try:
                context.load_cert_chain(cert_file, key_file or None, lambda: "")  # or it would ask the terminal
            except OSError as error:
                raise SourceError(f"cert_file {cert_file}: {error.strerror or error}", temporary=False, code="tls") from error
        return context

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
            following = parse_url(target, f"{url.host} redirects to", url)
            if url.scheme == "https" and following.scheme == "http":
                raise SourceError(f"{url.host} redirects to plain HTTP", temporary=False, code="tls")
            if following.origin() != url.origin():
                sent = {name: value for name, value in sent.items() if name.lower() not in _SECRET_HEADERS}
            url, method, data = following, "GET" if method == "POST" else method, None
        raise SourceError(f"{url.host} redirects more than {REDIRECTS} times", temporary=False, code="redirects")

    def body(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The body of an answer in pieces. Raises SourceError (`slow`, `truncated`)."""
        return paced(response.content, response.url.host or "", clock=self._clock)

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], data: Mapping[str, str] | bytes | None
    ) -> aiohttp.ClientResponse:
        place = f"{url.host}:{url.explicit_port}" if url.explicit_port else url.host
        try:
            proxy = _proxy_for(url)
            async with asyncio.timeout(self._header_seconds):
                return await self._session(proxy is not None, url).request(
                    method, url, headers=headers, data=data, allow_redirects=False, proxy=proxy
                )
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError) as error:
            raise SourceError(f"{place}: TLS: {_tls_words(error)}", code="tls") from error
        except TimeoutError as error:
            raise SourceError(f"{place} does not answer", code="slow") from error
        except aiohttp.ClientHttpProxyError as error:
            _refuse(f"{place} cannot be reached: the proxy answers {error.status}")
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL):
            _refuse(f"{place} answers with something that is not HTTP")
        except (aiohttp.ClientError, OSError) as error:
            raise SourceError(f"{place} cannot be reached: {_why_unreached(error)}") from error
        except ValueError:
            _refuse(f"{place} cannot be asked: its address or the proxy's is malformed")

    async def close(self) -> None:
        """Closes every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


async def paced(
    content: aiohttp.StreamReader, who: str, idle_seconds: float | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncGenerator[bytes, None]:
    """A body in pieces, as long as it comes at a least rate (hostile 68). Raises SourceError (`slow`, `truncated`).

    Only the time spent waiting for the other side counts: how slowly we take it is not its fault. `idle_seconds`: longest
    wait for one piece, where the session does not know it. Pieces are as the socket gave them: joined ones would have left
    the processor's cache before they are hashed.
    """
    waited, received = 0.0, 0
    while True:
        asked = clock()
        try:
            async with asyncio.timeout(idle_seconds):
                chunk, more = await content.readchunk()
        except TimeoutError as error:
            raise SourceError(f"{who} stopped sending", code="slow") from error
        except aiohttp.ClientResponseError:
            _refuse(f"{who} sends a body that is not HTTP", code="truncated")
        except (aiohttp.ClientError, OSError) as error:
            raise SourceError(f"{who} broke off: {type(error).__name__}", code="truncated") from error
        if not chunk and (not more or content.at_eof()):
            return  # aiohttp's reader of nothing, which answers without a body share, says `more` for ever
        waited, received = waited + clock() - asked, received + len(chunk)
        if waited >= RATE_WINDOW_SECONDS:
            if received < RATE_BYTES * waited:
                raise SourceError(f"{who} sends {received} bytes in {waited:.0f} seconds", code="slow")
            waited, received = 0.0, 0
        if chunk:
            yield chunk


def parse_url(text: str, what: str, base: URL | None = None) -> URL:
    """An address that somebody else wrote, without any user name in it. Raises SourceError, which does not repeat it."""
    try:
        url = URL(text) if base is None else base.join(URL(text))
        if not url.host:
            raise ValueError("no host")
        return url.with_user(None) if url.user is not None or url.password is not None else url
    except ValueError:
        raise SourceError(f"{what} a malformed address", temporary=False, code="bad-url") from None


def _proxy_for(url: URL) -> URL | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for this address."""
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    stated = urllib.request.getproxies().get(url.scheme)
    return URL(stated if "://" in stated else f"http://{stated}") if stated else None


def _refuse(message: str, code: str = "unreachable") -> NoReturn:
    """An error without its cause, whose text holds the whole address and with it tokens, signatures or a proxy's password."""
    raise SourceError(message, code=code) from None


def _tls_words(error: BaseException) -> str:
    """What is wrong with a certificate, or with the handshake."""
    inner = getattr(error, "certificate_error", error)
    return getattr(inner, "verify_message", "") or _first_line(error)


def _why_unreached(error: BaseException) -> str:
    """The system's own words where it has some, such as "Connection refused"."""
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if isinstance(cause, socket.gaierror):
        return cause.strerror or _first_line(error)
    return os.strerror(number) if isinstance(number, int) and number > 0 else _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
