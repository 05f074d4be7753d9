"""A registry client as tests want it: a clock that we move, host names that we make up, credentials at hand."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence

from service.outbound import ClientCertificate, HostPolicy, Outbound
from service.registry.client import RegistryClient
from service.registry.credentials import Credentials
from service.sources.registry import RegistrySource
from service.sources.settings import RegistrySettings
from tests.fakes.clock import Clock

PARALLEL = RegistrySettings(host="any").parallel


class Names:
    """A name server: addresses by host; a host that is not in it does not exist. Counts who was looked up."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = dict(addresses)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int, family: socket.AddressFamily) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [self.addresses[host]]


class Keyring:
    """Credentials as they are now; counts how often it was asked."""

    def __init__(self, *credentials: Credentials) -> None:
        self._credentials = list(credentials) or [Credentials()]
        self.asked = 0

    async def __call__(self) -> Credentials:
        self.asked += 1
        return self._credentials.pop(0) if len(self._credentials) > 1 else self._credentials[0]


@contextlib.asynccontextmanager
async def connected(
    host: str,
    *,
    credentials: Credentials | Keyring | None = None,
    clock: Clock | None = None,
    names: Names | None = None,
    named: Sequence[str] = (),
    plain: Sequence[str] = (),
    trusted: Sequence[str] = (),
    ca_file: str = "",
    certificate: ClientCertificate | None = None,
    reserve: float = 0.0,
    header_seconds: float = 20.0,
    connect_seconds: float = 10.0,
    idle_seconds: float = 20.0,
) -> AsyncIterator[RegistryClient]:
    """A client of the registry at `host`. `named` are hosts that may be private besides, `plain` those without TLS."""
    clock = clock or Clock()
    settings = RegistrySettings(host=host, insecure=host in plain, trusted_hosts=tuple(trusted))
    policy = HostPolicy((host, *trusted, *named), plain)
    more = {"lookup": names} if names is not None else {}
    outbound = Outbound(
        policy, ca_file=ca_file, certificate=certificate, clock=clock, header_seconds=header_seconds,
        connect_seconds=connect_seconds,
        idle_seconds=idle_seconds, **more,
    )  # fmt: skip
    keyring = credentials if isinstance(credentials, Keyring) else Keyring(credentials or Credentials())
    try:
        yield RegistryClient(settings, outbound, keyring, reserve=reserve, clock=clock, sleep=clock.sleep)
    finally:
        await outbound.close()


def source_at(host: str, *repositories: str, tags: Sequence[str] = ("*",), clock: Clock | None = None) -> RegistrySource:
    """The registry at `host` as a source without credentials, which is listed again and again."""
    settings = RegistrySettings(host=host, name="test", repositories=repositories, tags=tuple(tags), poll_seconds=0.01)
    outbound = Outbound(HostPolicy([host]))
    clock = clock or Clock()
    client = RegistryClient(settings, outbound, Keyring(), clock=clock, sleep=clock.sleep)
    return RegistrySource(settings, outbound, client)
