"""The one way out: which addresses are reached, how redirects and TLS end, what proxies see, and how long anybody may take."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from service.blobs import collect
from service.errors import SourceError
from service.outbound import RATE_BYTES, RATE_WINDOW_SECONDS, REDIRECTS, ClientCertificate, HostPolicy, Outbound, is_loopback
from service.registry.client import TRIES, RegistryClient
from service.registry.credentials import Credentials
from tests.fakes.clock import Clock
from tests.fakes.registry import FakeRegistry, serving
from tests.fakes.server import Answer, Raw, Request, serving_raw
from tests.make.certificates import Authority
from tests.make.images import Image
from tests.make.layers import sha256, tar_of
from tests.service.clients import Names, connected

IMAGE = Image(layers=(tar_of({"etc/a": "a"}),), entrypoint=["/a"])
DATA = os.urandom(50_000)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving() as registry:
        registry.push("app:1", IMAGE)
        registry.blobs[sha256(DATA)] = DATA
        yield registry


@pytest.fixture
def clock() -> Clock:
    return Clock()


def port_of(registry: FakeRegistry) -> str:
    return registry.host.rpartition(":")[2]


async def failure_of(call: Awaitable[object]) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await call
    return failure.value


async def fetched(outbound: Outbound, url: str) -> bytes:
    async with outbound.request("GET", URL(url)) as response:
        return await collect(outbound.body(response), 1 << 20)


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1",
        "::", "fd00:ec2::254", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
    ],
)  # fmt: skip
def test_h062_no_private_address_is_reached_by_a_host_that_nobody_named(address: str) -> None:
    policy = HostPolicy(["named.test:5000", "[fd00:ec2::254]:443"])
    with pytest.raises(SourceError, match="not public"):
        policy.check_address("other.test", ipaddress.ip_address(address))
    policy.check_address("named.test", ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::"])
def test_public_addresses_are_reached(address: str) -> None:
    HostPolicy().check_address("other.test", ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:169.254.169.254]/", "file:///etc/passwd", "gopher://a.test/",
        "http://a.test/", "unix:///var/run/docker.sock", "https:///x",
    ],
)  # fmt: skip
def test_h062_addresses_and_schemes_are_refused_before_anything_is_resolved(url: str) -> None:
    with pytest.raises(SourceError) as failure:
        HostPolicy().check_url(URL(url))
    assert not failure.value.temporary


@given(st.ip_addresses())
def test_an_address_that_is_named_is_reached_and_another_only_when_public(address: ipaddress.IPv4Address) -> None:
    host = str(address) if address.version == 4 else f"[{address}]"
    HostPolicy([f"{host}:5000"]).check_url(URL(f"https://{host}:5000/"))
    with contextlib.suppress(SourceError):
        HostPolicy().check_url(URL(f"https://{host}/"))
        assert address.is_global
        assert not address.is_multicast


def test_only_this_machine_by_name_or_number_is_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.9.1", "::1")))
    assert not any(map(is_loopback, ("localhost.evil.test", "128.0.0.1", "127.0.0.1.evil.test", "")))


async def test_h062_a_name_is_resolved_once_and_what_was_checked_is_connected_to(registry: FakeRegistry) -> None:
    """A name server that answers otherwise the second time is never asked a second time for one connection."""
    names = Names({"registry.test": "127.0.0.1"})
    host = f"registry.test:{port_of(registry)}"
    async with connected(host, plain=[host], names=names) as client:
        assert await client.head("app", "1") is not None
    assert names.asked == ["registry.test"]


async def test_h070_a_name_that_leads_into_a_private_network_is_refused_and_may_be_mended(registry: FakeRegistry) -> None:
    names = Names({"rebound.test": "127.0.0.1"})
    outbound = Outbound(HostPolicy(["other.test"], ["rebound.test"]), lookup=names)
    told = await failure_of(fetched(outbound, f"http://rebound.test:{port_of(registry)}/v2/"))
    await outbound.close()
    assert (told.code, told.temporary) == ("denied", True)
    assert not registry.requests


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.1", "017700000001"])
async def test_h062_a_number_that_is_an_address_in_disguise_is_not_reached(registry: FakeRegistry, host: str) -> None:
    outbound = Outbound(HostPolicy(insecure=[host]))
    told = await failure_of(fetched(outbound, f"http://{host}:{port_of(registry)}/v2/"))
    await outbound.close()
    assert isinstance(told, SourceError)
    assert not registry.requests


# Redirects


async def test_h064_five_redirects_are_followed_and_no_sixth(registry: FakeRegistry) -> None:
    def on(request: Request) -> Answer | None:
        left = int(request.query.get("left", 0))
        return Answer(302, {"Location": f"?left={left - 1}"}) if left else Answer(200, {}, b"there")

    registry.always("GET", "/hop", on)
    outbound = Outbound(HostPolicy([registry.host]))
    assert await fetched(outbound, f"http://{registry.host}/hop?left={REDIRECTS}") == b"there"
    told = await failure_of(fetched(outbound, f"http://{registry.host}/hop?left=12"))
    await outbound.close()
    assert (told.code, told.temporary) == ("redirects", False)
    assert len(registry.requests) == 2 * (REDIRECTS + 1)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/hop", "redirects"),
        ("https://10.0.0.1/", "denied"),
        ("https://169.254.169.254/latest/meta-data", "denied"),
        ("http://169.254.169.254/latest/meta-data", "tls"),
        ("https://localhost:1/", "denied"),
        ("file:///etc/passwd", "bad-url"),
        ("ftp://a.test/", "denied"),
        ("http://plain.test/", "tls"),
        ("http://[::1", "bad-url"),
        ("http://a:99999/", "bad-url"),
    ],
)
async def test_h064_a_redirect_leads_nowhere_we_would_not_go(registry: FakeRegistry, target: str, code: str) -> None:
    registry.always("GET", "/hop", Answer(307, {"Location": target}))
    outbound = Outbound(HostPolicy([registry.host]))
    told = await failure_of(fetched(outbound, f"http://{registry.host}/hop"))
    await outbound.close()
    assert told.code == code


async def test_h064_no_header_with_a_secret_goes_to_another_port_nor_a_user_name_of_an_address(registry: FakeRegistry) -> None:
    async with serving() as other:
        registry.always("GET", "/hop", Answer(307, {"Location": f"http://u:p@{other.host}/x"}))
        outbound = Outbound(HostPolicy([registry.host]))
        secret = {"Authorization": "A", "Cookie": "C", "Proxy-Authorization": "P", "Range": "bytes=1-"}
        async with outbound.request("GET", URL(f"http://{registry.host}/hop"), secret):
            pass
        await outbound.close()
        (got,) = other.requests
    assert not {"authorization", "cookie", "proxy-authorization"} & set(got.headers)
    assert got.headers["range"] == "bytes=1-"


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.asynccontextmanager
async def over_tls(
    authority: Authority, *, called: str = "registry.test", ca_file: str = "", **certificate: object
) -> AsyncIterator[tuple[RegistryClient, FakeRegistry]]:
    """A registry over TLS that is called `called`, and a client that calls it registry.test."""
    context = authority.server(called, **certificate)
    async with serving(context) as registry:
        registry.push("app:1", IMAGE)
        names = Names({"registry.test": "127.0.0.1"})
        host = f"registry.test:{port_of(registry)}"
        async with connected(host, names=names, credentials=Credentials("u", "p"), ca_file=ca_file) as client:
            yield client, registry


async def test_a_registry_of_one_s_own_authority_is_read_when_it_is_named(authority: Authority) -> None:
    async with over_tls(authority, ca_file=str(authority.ca_file)) as (client, _):
        assert await client.head("app", "1") is not None


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ({"ends_in": -datetime.timedelta(days=1)}, True, "expired"),
        ({"called": "other.test"}, True, "not valid for 'registry.test'"),
        ({"self_signed": True}, True, "self"),
        ({}, False, "unable to get local issuer"),
    ],
    ids=["expired", "wrong-name", "self-signed", "unknown-authority"],
)
async def test_h073_a_certificate_that_does_not_hold_is_told_and_http_is_never_tried(
    authority: Authority, certificate: dict[str, object], trusted: bool, words: str
) -> None:
    async with over_tls(authority, ca_file=str(authority.ca_file) if trusted else "", **certificate) as (client, registry):
        told = await failure_of(client.head("app", "1"))
        assert (told.code, told.temporary) == ("tls", True)
        assert "TLS" in str(told)
        assert words in str(told)
        assert not registry.requests


async def test_h073_plain_http_on_the_port_of_tls_is_told_and_not_spoken(registry: FakeRegistry) -> None:
    names = Names({"registry.test": "127.0.0.1"})
    async with connected(f"registry.test:{port_of(registry)}", names=names, credentials=Credentials("u", "p")) as client:
        registry.always("", "", Answer(200))
        told = await failure_of(client.head("app", "1"))
    assert told.temporary
    assert told.code in ("tls", "unreachable")
    assert not registry.requests


async def test_h073_an_answer_in_plain_text_to_a_handshake_is_a_tls_error() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server")
        writer.close()

    async with (
        serving_raw(answer) as port,
        connected(f"registry.test:{port}", names=Names({"registry.test": "127.0.0.1"})) as client,
    ):
        told = await failure_of(client.head("app", "1"))
    assert (told.code, told.temporary) == ("tls", True)


async def test_h073_from_tls_no_redirect_leads_to_http(authority: Authority) -> None:
    async with over_tls(authority, ca_file=str(authority.ca_file)) as (client, registry), serving() as plain:
        registry.always("", "", Answer(307, {"Location": f"http://{plain.host}/v2/"}))
        told = await failure_of(client.head("app", "1"))
        assert (told.code, told.temporary) == ("tls", False)
        assert not plain.requests


async def test_a_client_certificate_is_shown_to_its_host_and_to_no_other(authority: Authority) -> None:
    """The other asks for one as well; whoever shows none is let in there and not here."""
    mine, other = authority.server("registry.test"), authority.server("other.test")
    for context, needed in ((mine, ssl.CERT_REQUIRED), (other, ssl.CERT_OPTIONAL)):
        context.load_verify_locations(authority.ca_file)
        context.verify_mode = needed
    async with serving(mine) as registry, serving(other) as elsewhere:
        shown: list[object] = []
        elsewhere.always("", "", look_at_certificate(shown))
        registry.push("app:1", IMAGE)
        names = Names({"registry.test": "127.0.0.1", "other.test": "127.0.0.1"})
        host = f"registry.test:{port_of(registry)}"
        more = {"names": names, "ca_file": str(authority.ca_file), "named": ["other.test"]}
        async with connected(host, **more) as client:
            assert (await failure_of(client.head("app", "1"))).code in ("tls", "unreachable")
        certificate = ClientCertificate(host, *map(str, authority.client("enoent")))
        async with connected(host, certificate=certificate, **more) as client:
            assert await client.head("app", "1") is not None
            registry.once("GET", "", Answer(307, {"Location": f"https://other.test:{port_of(elsewhere)}/x"}))
            await failure_of(client.manifest("app", "1"))
        assert shown == [None]


def look_at_certificate(shown: list[object]) -> Raw:
    async def look(request: Request, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("peercert") or None)
        writer.write(Answer(404).head())

    return look


async def test_a_client_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    certificate = ClientCertificate("registry.test", str(tmp_path / "absent.pem"))
    async with connected("registry.test", certificate=certificate) as client:
        told = await failure_of(client.head("app", "1"))
        assert (told.code, told.temporary) == ("tls", False)
        assert "cert_file" in str(told)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_an_authority_file_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    async with connected("registry.test", ca_file=str(path)) as client:
        told = await failure_of(client.head("app", "1"))
    assert (told.code, told.temporary) == ("tls", False)
    assert "ca.pem" in str(told)


# How long anybody may take


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1000)


async def headers_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(10**6):
        writer.write(b"X-%d: y\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_h069_a_host_that_does_not_answer_is_left_after_its_time() -> None:
    async with serving_raw(never) as port, connected(f"127.0.0.1:{port}", header_seconds=0.1) as client:
        told = await failure_of(client.head("app", "1"))
    assert (told.code, told.temporary) == ("slow", True)
    assert "does not answer" in str(told)


async def test_h069_a_handshake_that_stalls_is_left_after_its_time() -> None:
    names = Names({"registry.test": "127.0.0.1"})
    async with serving_raw(never) as port, connected(f"registry.test:{port}", names=names, connect_seconds=0.1) as client:
        told = await failure_of(client.head("app", "1"))
    assert (told.code, told.temporary) == ("slow", True)


async def test_h069_a_connection_that_is_never_taken_up_is_left_after_its_time() -> None:
    """A full backlog: the kernel drops what would connect."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        await asyncio.sleep(0.05)
        async with connected(f"127.0.0.1:{listener.getsockname()[1]}", connect_seconds=0.1) as client:
            told = await failure_of(client.head("app", "1"))
        for filler in fillers:
            filler.close()
    assert (told.code, told.temporary) == ("slow", True)


async def test_h069_headers_that_never_end_are_left_after_their_time() -> None:
    async with serving_raw(headers_for_ever) as port, connected(f"127.0.0.1:{port}", header_seconds=0.1) as client:
        told = await failure_of(client.head("app", "1"))
    assert told.temporary


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: y\r\n" % number for number in range(100_000)),
        b"X: " + b"y" * (1 << 20) + b"\r\n",
        b"X" * (1 << 20) + b": y\r\n",
    ],
    ids=["100000-headers", "1-MB-value", "1-MB-name"],
)
async def test_h069_a_flood_of_headers_is_refused(registry: FakeRegistry, head: bytes) -> None:
    registry.always("", "", b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    async with connected(registry.host) as client:
        told = await failure_of(client.head("app", "1"))
    assert (told.code, told.temporary) == ("unreachable", True)


async def test_h069_a_long_challenge_is_read(registry: FakeRegistry) -> None:
    """Some registries list many scopes: aiohttp's own ceiling of 8,190 bytes is too low."""
    registry.once("", "", Answer(401, {"WWW-Authenticate": f'Basic realm="{"x" * 20_000}"'}))
    async with connected(registry.host, credentials=Credentials("u", "p")) as client:
        assert await client.head("app", "1") is not None


def drip(clock: Clock, piece: bytes, every: float, pieces: int) -> Callable[[Request, asyncio.StreamWriter], Awaitable[None]]:
    """Sends the blob in pieces, the clock moving on before each."""

    async def send(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA))
        for _ in range(pieces):
            clock.advance(every)
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)

    return send


async def test_h068_a_body_that_drips_is_left_and_its_place_given_back(registry: FakeRegistry, clock: Clock) -> None:
    """One byte every half second: no read ever takes long, yet the layer would take years."""
    registry.always("GET", "/blobs/", drip(clock, b"x", 0.5, 200))
    async with connected(registry.host, clock=clock) as client:
        async with asyncio.timeout(20):
            told = await failure_of(_blob(client))
        assert (told.code, told.temporary) == ("slow", True)
        assert len(registry.asked("GET", "/blobs/")) == TRIES
        registry.mend()
        assert await _blob(client) == DATA


async def test_h068_a_large_layer_over_a_slow_but_honest_line_has_no_limit_in_all(registry: FakeRegistry, clock: Clock) -> None:
    data = os.urandom(4 << 20)
    registry.blobs[sha256(data)] = data

    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for start in range(0, len(data), 128 << 10):
            clock.advance(1.9)  # a little above the least rate, in all a minute
            writer.write(data[start : start + (128 << 10)])
            await writer.drain()
            await asyncio.sleep(0.001)

    registry.always("GET", "/blobs/", slowly)
    async with connected(registry.host, clock=clock) as client:
        assert await _blob(client, data) == data
    assert len(registry.requests) == 1


async def test_h068_our_own_slowness_is_not_the_registry_s(registry: FakeRegistry, clock: Clock) -> None:
    async with connected(registry.host, clock=clock) as client:
        got = b""
        async for chunk in client.blob("app", sha256(DATA), len(DATA)):
            got += chunk
            clock.advance(10 * RATE_WINDOW_SECONDS)
    assert got == DATA
    assert len(DATA) < RATE_BYTES * RATE_WINDOW_SECONDS


async def test_h068_a_body_that_stops_is_left_after_its_time_and_resumed(registry: FakeRegistry) -> None:
    async def stop(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA) + DATA[:1000])
        await writer.drain()
        await asyncio.sleep(1000)

    registry.once("GET", "/blobs/", stop)
    async with connected(registry.host, idle_seconds=0.5) as client:
        assert await _blob(client) == DATA
    assert registry.requests[-1].headers["range"] == "bytes=1000-"


async def _blob(client: RegistryClient, data: bytes = DATA) -> bytes:
    return b"".join([chunk async for chunk in client.blob("app", sha256(data), len(data))])
