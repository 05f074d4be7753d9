"""Proxies of the environment are used, with their password and never with ours, and their faults are told without either."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable

import pytest
from yarl import URL

from service.errors import SourceError
from service.outbound import HostPolicy, Outbound
from service.registry.credentials import Credentials
from tests.fakes.registry import FakeRegistry, serving
from tests.fakes.server import serving_raw
from tests.make.certificates import Authority
from tests.make.images import Image
from tests.make.layers import tar_of
from tests.service.clients import Names, connected

IMAGE = Image(layers=(tar_of({"etc/a": "a"}),), entrypoint=["/a"])


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving() as registry:
        registry.push("app:1", IMAGE)
        yield registry


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def port_of(registry: FakeRegistry) -> str:
    return registry.host.rpartition(":")[2]


async def failure_of(call: Awaitable[object]) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await call
    return failure.value


class Proxy:
    """An HTTP proxy: forwards what is asked in full, tunnels CONNECT, wants a password if it has one."""

    def __init__(self, password: str = "") -> None:
        self.password = password
        self.seen: list[tuple[str, str]] = []
        """First line and Proxy-Authorization of each request."""
        self.targets: dict[str, int] = {}
        """Ports on this machine by host."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.split("\r\n")
        given = next((row.partition(": ")[2] for row in rest if row.lower().startswith("proxy-authorization")), "")
        self.seen.append((line, given))
        if self.password and given != Credentials("user", self.password).basic:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = line.split()
        url = URL(target if "://" in target else f"https://{target}")
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.targets[url.host or ""])
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            kept = [row for row in rest if row and not row.lower().startswith(("proxy-", "connection"))]
            upstream.write("\r\n".join([f"{method} {url.raw_path_qs} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
        await asyncio.gather(_pump(reader, upstream), _pump(upstream_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxied(monkeypatch: pytest.MonkeyPatch, password: str = "") -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy that the environment names as proxy.test, which is in a private network as proxies are."""
    proxy = Proxy(password)
    async with serving_raw(proxy.serve) as port:
        user = f"user:{password}@" if password else ""
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{user}proxy.test:{port}")
        yield proxy, f"proxy.test:{port}"


@pytest.mark.parametrize("password", ["", "PLANTED"])
async def test_h076_proxies_of_the_environment_are_used_with_their_password(
    registry: FakeRegistry, authority: Authority, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    names = Names({"proxy.test": "127.0.0.1"})
    async with proxied(monkeypatch, password) as (proxy, _), serving(authority.server("secure.test")) as secure:
        secure.push("app:1", IMAGE)
        proxy.targets = {"plain.test": int(port_of(registry)), "secure.test": int(port_of(secure))}
        async with connected("plain.test", plain=["plain.test"], names=names) as client:
            assert await client.head("app", "1") is not None
        async with connected("secure.test", names=names, ca_file=str(authority.ca_file)) as client:
            assert await client.head("app", "1") is not None
        lines = [line for line, _ in proxy.seen]
        assert lines[0].startswith("HEAD http://plain.test/v2/app/manifests/1 ")
        assert lines[1].startswith("CONNECT secure.test:443 ")
        basic = Credentials("user", password).basic if password else ""
        assert {given for _, given in proxy.seen} == {basic}
        for each in (*registry.requests, *secure.requests):
            assert "proxy-authorization" not in each.headers
    assert set(names.asked) == {"proxy.test"}


async def test_h076_no_proxy_is_honoured_and_loopback_never_goes_through_one(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(monkeypatch) as (proxy, _):
        async with connected(registry.host) as client:
            assert await client.head("app", "1") is not None
        monkeypatch.setenv("NO_PROXY", "registry.test")
        monkeypatch.setenv("no_proxy", "registry.test")
        host = f"registry.test:{port_of(registry)}"
        async with connected(host, plain=[host], names=Names({"registry.test": "127.0.0.1"})) as client:
            assert await client.head("app", "1") is not None
        assert not proxy.seen


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_h076_a_proxy_that_refuses_us_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    names = Names({"proxy.test": "127.0.0.1"})
    plain = ["registry.test"] if scheme == "http" else []
    async with proxied(monkeypatch, "PLANTED") as (proxy, _):
        proxy.password = "another"
        async with connected("registry.test", plain=plain, names=names) as client:
            told = await failure_of(client.head("app", "1"))
    assert "407" in str(told)
    assert "PLANTED" not in "".join(traceback.format_exception(told))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_h076_a_proxy_that_is_dead_is_temporary_and_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    names = Names({"proxy.test": "127.0.0.1"})
    async with proxied(monkeypatch, "PLANTED"):
        pass
    plain = ["registry.test"] if scheme == "http" else []
    async with connected("registry.test", plain=plain, names=names) as client:
        told = await failure_of(client.head("app", "1"))
    assert (told.code, told.temporary) == ("unreachable", True)
    assert "PLANTED" not in "".join(traceback.format_exception(told))


async def test_h076_a_proxy_address_that_is_malformed_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://user:PLANTED@[::1")
    async with connected("registry.test") as client:
        told = await failure_of(client.head("app", "1"))
    assert told.temporary
    assert "PLANTED" not in "".join(traceback.format_exception(told))


async def test_h076_behind_a_proxy_literal_private_addresses_stay_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(monkeypatch) as (proxy, _):
        outbound = Outbound(HostPolicy(["registry.test"]), lookup=Names({"proxy.test": "127.0.0.1"}))
        told = await failure_of(outbound.request("GET", URL("https://169.254.169.254/")).__aenter__())
        await outbound.close()
        assert told.code == "denied"
        assert not proxy.seen
