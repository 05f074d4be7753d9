"""Challenges, tokens and credentials: who is told what, how often, and what nobody ever sees (hostile 61-64, 142)."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from service.errors import SourceError
from service.registry.auth import parse_challenges, same_site
from service.registry.client import RegistryClient
from service.registry.credentials import Credentials
from tests import registry as real
from tests import token_server
from tests.conftest import absent
from tests.fakes.clock import Clock
from tests.fakes.registry import FakeRegistry, challenge, error, serving
from tests.fakes.server import Answer, Request
from tests.make.images import Image
from tests.make.layers import sha256, tar_of
from tests.service.clients import Keyring, Names, connected

IMAGE = Image(layers=(tar_of({"etc/a": "a"}),), entrypoint=["/a"])
USER = Credentials("user", "PASSWORD-PLANTED")
DATA = os.urandom(300_000)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving() as registry:
        registry.push("app:1", IMAGE)
        registry.blobs[sha256(DATA)] = DATA
        yield registry


@pytest.fixture
async def tokens() -> AsyncIterator[FakeRegistry]:
    """A server that gives a new token at each request."""
    async with serving() as tokens:
        tokens.always("", "/token", lambda _: token(f"T{len(tokens.requests)}"))
        yield tokens


@pytest.fixture
def clock() -> Clock:
    return Clock()


def token(value: str, **more: object) -> Answer:
    return Answer(200, {}, json.dumps({"token": value, **more}).encode())


def guard(registry: FakeRegistry, realm: str, *good: str, part: str = "") -> None:
    """From now on only these tokens open the registry (none named: any)."""

    def look(request: Request) -> Answer | None:
        fits = request.authorization.removeprefix("Bearer ") in good if good else request.authorization.startswith("Bearer ")
        return None if fits else challenge(realm, service="s", scope="repository:app:pull")

    registry.always("", part, look)


async def failure_of(client: RegistryClient) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await client.head("app", "1")
    return failure.value


# Reading challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t",service="s"', [("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('Basic realm="x, y", Bearer realm="z"', [("basic", {"realm": "x, y"}), ("bearer", {"realm": "z"})]),
        ('bearer realm="a\\"b",scope="r:a:pull,push"', [("bearer", {"realm": 'a"b', "scope": "r:a:pull,push"})]),
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        ("", []),
        ('Bearer realm="open', [("bearer", {})]),
    ],
)
def test_challenges_are_read_with_their_commas_and_quotes(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(found.scheme, found.parameters) for found in parse_challenges(header)] == expected


@pytest.mark.parametrize(
    ("host", "other", "expected"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry.example.com", "evil.com", False),
        ("registry.example.com", "example.com.evil.com", False),
        ("registry.example.com", "evilexample.com", False),
        ("registry.co.uk", "evil.co.uk", False),
        ("registry.io", "evil.io", False),
        ("10.0.0.5", "192.0.0.5", False),
        ("10.0.0.5", "10.0.0.5", True),
        ("localhost", "other", False),
    ],
)
def test_h062_a_token_server_belongs_to_a_registry_by_its_parent_domain(host: str, other: str, expected: bool) -> None:
    assert same_site(host, other) is expected


# Tokens


async def test_a_token_is_asked_for_once_and_serves_until_it_is_old(
    registry: FakeRegistry, tokens: FakeRegistry, clock: Clock
) -> None:
    guard(registry, f"http://{tokens.host}/token")
    async with connected(registry.host, credentials=USER, clock=clock) as client:
        for _ in range(3):
            assert await client.head("app", "1") is not None
        assert len(tokens.requests) == 1
        assert tokens.requests[0].query == {"service": "s", "scope": "repository:app:pull"}
        assert tokens.requests[0].authorization == USER.basic
        clock.advance(50)  # four fifths of the minute that is meant where nothing is said
        assert await client.head("app", "1") is not None
        assert len(tokens.requests) == 2


async def test_requests_that_are_refused_together_share_one_token(registry: FakeRegistry, tokens: FakeRegistry) -> None:
    guard(registry, f"http://{tokens.host}/token")
    async with connected(registry.host) as client:
        await asyncio.gather(*(client.head("app", "1") for _ in range(8)))
    assert len(tokens.requests) == 1


async def test_an_identity_token_is_exchanged_by_a_form(registry: FakeRegistry, tokens: FakeRegistry) -> None:
    guard(registry, f"http://{tokens.host}/token")
    async with connected(registry.host, credentials=Credentials(identity_token="IDENTITY")) as client:
        assert await client.head("app", "1") is not None
    (asked,) = tokens.requests
    assert (asked.method, asked.authorization) == ("POST", "")
    assert b"grant_type=refresh_token" in asked.body
    assert b"refresh_token=IDENTITY" in asked.body


async def test_h061_a_registry_that_is_never_content_is_asked_three_times(registry: FakeRegistry, tokens: FakeRegistry) -> None:
    guard(registry, f"http://{tokens.host}/token", "none fits")
    async with connected(registry.host, credentials=USER) as client:
        told = await failure_of(client)
    assert (told.code, told.temporary) == ("unauthorized", False)
    assert (len(registry.requests), len(tokens.requests)) == (3, 2)


async def test_h061_a_basic_challenge_again_and_again_is_a_refusal(registry: FakeRegistry) -> None:
    registry.always("", "", challenge("r", scheme="Basic"))
    async with connected(registry.host, credentials=USER) as client:
        told = await failure_of(client)
    assert (told.code, told.temporary) == ("unauthorized", False)
    assert "refuses these credentials" in str(told)
    assert len(registry.requests) == 2


async def test_a_registry_that_wants_credentials_where_there_are_none_says_so(registry: FakeRegistry) -> None:
    registry.always("", "", challenge("r", scheme="Basic"))
    async with connected(registry.host) as client:
        assert "there are none for it" in str(await failure_of(client))


@pytest.mark.parametrize("life", [0, -5, None, "300", 1e300, True])
async def test_h061_a_token_without_a_usable_life_serves_a_while(registry: FakeRegistry, clock: Clock, life: object) -> None:
    async with serving() as tokens, connected(registry.host, clock=clock) as client:
        tokens.always("", "/token", token("T", expires_in=life))
        guard(registry, f"http://{tokens.host}/token")
        await client.head("app", "1")
        await client.head("app", "1")
        assert len(tokens.requests) == 1


async def test_h061_a_token_that_ends_in_the_middle_of_a_layer_is_renewed_and_the_layer_goes_on(
    registry: FakeRegistry, tokens: FakeRegistry, clock: Clock
) -> None:
    async def half(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA) + DATA[:100_000])
        await writer.drain()

    guard(registry, f"http://{tokens.host}/token", "T1", part="/manifests/")
    async with connected(registry.host, clock=clock) as client:
        await client.head("app", "1")
        registry.mend()
        registry.once("GET", "/blobs/", half)
        guard(registry, f"http://{tokens.host}/token", "T2")
        got = b"".join([chunk async for chunk in client.blob("app", sha256(DATA), len(DATA))])
    assert got == DATA
    last = registry.requests[-1]
    assert (last.authorization, last.headers["range"]) == ("Bearer T2", "bytes=100000-")
    assert len(tokens.requests) == 2


async def test_a_token_server_that_is_down_for_a_while_is_no_refusal(registry: FakeRegistry, tokens: FakeRegistry) -> None:
    guard(registry, f"http://{tokens.host}/token")
    tokens.mend()
    tokens.once("", "/token", *[Answer(503)] * 3, token("T"))
    async with connected(registry.host) as client:
        assert await client.head("app", "1") is not None
        tokens.always("", "/token", Answer(503))
    async with connected(registry.host) as client:
        told = await failure_of(client)
    assert (told.code, told.temporary) == ("unreachable", True)
    assert "503 instead of a token" in str(told)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {}, b"no JSON"),
        Answer(200, {}, b"[]"),
        Answer(200, {}, b'{"token": 7}'),
        Answer(200, {}, b'{"token": ""}'),
        Answer(200, {}, b'{"token": "a\\r\\nX-Injected: 1"}'),
        Answer(200, {}, b'{"token": "' + b"x" * (2 << 20) + b'"}'),
        Answer(200, {"Content-Length": "500"}, b"{"),
        Answer(500),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
    ids=["text", "list", "number", "empty", "injection", "2-MB", "short", "500", "cut"],
)  # fmt: skip
async def test_a_token_server_that_does_not_give_a_token_is_a_clear_failure(
    registry: FakeRegistry, answer: Answer | bytes
) -> None:
    async with serving() as tokens, connected(registry.host, idle_seconds=0.5) as client:
        tokens.always("", "/token", answer)
        guard(registry, f"http://{tokens.host}/token")
        told = await failure_of(client)
    assert "127.0.0.1" in str(told) or "document" in str(told)
    assert not any("Injected" in each.authorization for each in registry.requests)


# Where credentials go


@pytest.mark.parametrize(
    ("realm", "code"),
    [
        ("https://token.evil.test/token", "denied"),
        ("http://169.254.169.254/latest/meta-data", "denied"),
        ("https://2852039166/", "denied"),
        ("http://[::1", "bad-url"),
        ("file:///etc/passwd", "bad-url"),
        ("gopher://registry.example.test/", "denied"),
        ("", "bad-url"),
        ("http://auth.example.test/token", "tls"),
    ],
)
async def test_h062_credentials_follow_no_challenge_to_another_place(registry: FakeRegistry, realm: str, code: str) -> None:
    """The registry is plain HTTP by configuration; the token server's name is not."""
    port = registry.host.rpartition(":")[2]
    names = Names({"registry.example.test": "127.0.0.1", "auth.example.test": "127.0.0.1", "token.evil.test": "127.0.0.1"})
    registry.always("", "", challenge(realm))
    host = f"registry.example.test:{port}"
    async with connected(host, plain=[host], names=names, credentials=USER) as client:
        told = await failure_of(client)
    assert told.code == code
    assert {each.authorization for each in registry.requests} == {""}
    assert set(names.asked) <= {"registry.example.test"}


async def test_h062_a_token_server_of_the_same_site_is_not_followed_into_a_private_network(registry: FakeRegistry) -> None:
    names = Names({"registry.example.test": "127.0.0.1", "auth.example.test": "10.0.0.1"})
    host = "registry.example.test:{}".format(registry.host.rpartition(":")[2])
    registry.always("", "", challenge("https://auth.example.test/token"))
    async with connected(host, plain=[host], names=names) as client:
        told = await failure_of(client)
    assert (told.code, told.temporary) == ("denied", True)
    assert "10.0.0.1" in str(told)


async def test_h062_a_token_server_that_redirects_takes_no_credentials_along(
    registry: FakeRegistry, tokens: FakeRegistry
) -> None:
    async with serving() as elsewhere, connected(registry.host, credentials=USER) as client:
        elsewhere.always("", "/token", token("T"))
        tokens.mend()
        tokens.always("", "/token", Answer(307, {"Location": f"http://{elsewhere.host}/token"}))
        guard(registry, f"http://{tokens.host}/token")
        assert await client.head("app", "1") is not None
    assert tokens.requests[0].authorization == USER.basic
    assert [each.authorization for each in elsewhere.requests] == [""]


async def test_h062_a_trusted_host_is_named_by_people(registry: FakeRegistry, tokens: FakeRegistry) -> None:
    port = tokens.host.rpartition(":")[2]
    names = Names({"registry.test": "127.0.0.1", "login.other.test": "127.0.0.1"})
    host = "registry.test:{}".format(registry.host.rpartition(":")[2])
    plain = [host, f"login.other.test:{port}"]
    guard(registry, f"http://login.other.test:{port}/token")
    async with connected(host, plain=plain, names=names, trusted=["login.other.test"], credentials=USER) as client:
        assert await client.head("app", "1") is not None
    assert tokens.requests[0].authorization == USER.basic


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_h064_a_blob_kept_elsewhere_is_fetched_without_credentials(registry: FakeRegistry, status: int) -> None:
    async with serving() as storage, connected(registry.host, credentials=USER) as client:
        storage.blobs[sha256(DATA)] = DATA
        registry.once("", "", challenge("r", scheme="Basic"))
        registry.once("", "/blobs/", Answer(status, {"Location": f"http://{storage.host}/v2/x/blobs/{sha256(DATA)}?sig=S"}))
        await client.head("app", "1")
        assert b"".join([chunk async for chunk in client.blob("app", sha256(DATA), len(DATA))]) == DATA
    assert registry.requests[-1].authorization == USER.basic
    assert [each.authorization for each in storage.requests] == [""]
    assert not {"cookie", "proxy-authorization"} & set(storage.requests[0].headers)


async def test_h064_who_we_are_sent_to_may_not_ask_for_credentials(registry: FakeRegistry) -> None:
    async with serving() as storage, connected(registry.host, credentials=USER) as client:
        storage.always("", "", challenge("r", scheme="Basic"))
        registry.always("", "/manifests/", Answer(307, {"Location": f"http://{storage.host}/x"}))
        told = await failure_of(client)
    assert told.code == "unauthorized"
    assert [each.authorization for each in storage.requests] == [""]
    assert [each.authorization for each in registry.requests] == [""]


# Credentials at need


async def test_a_password_that_changed_is_taken_up_without_a_restart(registry: FakeRegistry) -> None:
    """Helpers of cloud registries give passwords that last for hours."""
    keyring = Keyring(Credentials("user", "old"), Credentials("user", "new"))
    new = Credentials("user", "new").basic
    registry.once("", "", challenge("r", scheme="Basic"))
    async with connected(registry.host, credentials=keyring) as client:
        await client.head("app", "1")
        registry.always("", "", lambda request: None if request.authorization == new else challenge("r", scheme="Basic"))
        assert await client.head("app", "1") is not None
    assert keyring.asked == 2


async def test_a_password_that_changed_is_taken_up_by_the_token_server_as_well(registry: FakeRegistry) -> None:
    keyring = Keyring(Credentials("user", "old"), Credentials("user", "new"))
    clock = Clock()
    async with serving() as tokens, connected(registry.host, credentials=keyring, clock=clock) as client:
        tokens.once("", "/token", token("T"))
        new = Credentials("user", "new").basic
        tokens.always("", "/token", lambda request: token("U") if request.authorization == new else Answer(401))
        guard(registry, f"http://{tokens.host}/token")
        await client.head("app", "1")
        clock.advance(1000)
        assert await client.head("app", "1") is not None
    assert [each.authorization == new for each in tokens.requests] == [False, False, True]


async def test_a_public_image_costs_no_look_at_credentials(registry: FakeRegistry) -> None:
    keyring = Keyring(USER)
    async with connected(registry.host, credentials=keyring) as client:
        await client.head("app", "1")
    assert keyring.asked == 0


# Nothing is told (I7)


async def test_h142_no_secret_stands_in_any_error_of_a_registry(registry: FakeRegistry) -> None:
    """Servers that repeat what they were sent, addresses with signatures, tokens that are refused."""
    planted = ["PASSWORD-PLANTED", USER.basic.removeprefix("Basic "), "TOKEN-PLANTED", "SIGNATURE-PLANTED", "IDENTITY-PLANTED"]
    told: list[str] = []

    def echo(request: Request, password: str) -> Answer:
        return error(400, "BAD", f"got {request.authorization} of {password}")

    async def ask(credentials: Credentials) -> None:
        async with connected(registry.host, credentials=credentials, idle_seconds=0.5) as client:
            for call in (client.manifest("app", "1"), client.tags("app"), client.head("app", "1")):
                with pytest.raises(SourceError) as failure:
                    await call
                told.append("".join(traceback.format_exception(failure.value)) + repr(vars(failure.value)))

    async with serving() as tokens:
        tokens.always("", "/token", token("TOKEN-PLANTED"))
        realm = challenge(f"http://{tokens.host}/token")

        def knowing(password: str, request: Request) -> Answer:
            return echo(request, password) if request.authorization else realm

        for credentials in (USER, Credentials(identity_token="IDENTITY-PLANTED")):
            registry.always("", "", partial(knowing, credentials.password))
            await ask(credentials)
            registry.mend()
        tokens.mend()
        tokens.always("", "/token", lambda request: Answer(401, {}, request.body + request.authorization.encode()))
        registry.always("", "", realm)
        await ask(USER)
        await ask(Credentials(identity_token="IDENTITY-PLANTED"))
        registry.mend()
        where = f"http://u:PASSWORD-PLANTED@{tokens.host}/x?X-Signature=SIGNATURE-PLANTED"
        for answer in (
            b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", Answer(500), Answer(307),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        ):  # fmt: skip
            tokens.mend()
            tokens.always("", "/x", answer)
            registry.mend()
            registry.always("", "", Answer(307, {"Location": where}))
            await ask(USER)
        registry.mend()
        registry.always("", "", Answer(307, {"Location": "http://u:PASSWORD-PLANTED@[::1/SIGNATURE-PLANTED"}))
        await ask(USER)
    assert len(told) > 30
    assert not [text for text in told for secret in planted if secret in text]


def test_h142_credentials_do_not_show_themselves() -> None:
    for shown in (repr(USER), str(USER), f"{USER}", repr([USER]), repr(Credentials(identity_token="PLANTED"))):
        assert "PLANTED" not in shown


# Against real servers


@pytest.fixture
def htpasswd_registry() -> Iterator[real.Registry]:
    if reason := real.why_absent():
        absent(reason)
    with real.started(("user", "PASSWORD-PLANTED")) as registry:
        registry.push("app:1", IMAGE)
        yield registry


@pytest.mark.registry
async def test_a_real_registry_with_passwords_is_read_by_basic(htpasswd_registry: real.Registry) -> None:
    async with connected(htpasswd_registry.host, credentials=USER) as client:
        digest = await client.head("app", "1")
        assert digest is not None
        body, _ = await client.manifest("app", digest)
        assert sha256(body) == digest
        listing = await client.tags("app")
        assert listing is not None
        assert listing.names == ["1"]
        assert (await client.catalog()).names == ["app"]
    assert [each.status for each in htpasswd_registry.requests("HEAD", "/v2/app/manifests/1")] == [401, 200]


@pytest.mark.registry
async def test_a_real_registry_refuses_the_wrong_password_and_none(htpasswd_registry: real.Registry) -> None:
    for credentials, words in ((Credentials("user", "wrong"), "refuses these"), (Credentials(), "there are none")):
        async with connected(htpasswd_registry.host, credentials=credentials) as client:
            told = await failure_of(client)
        assert (told.code, told.temporary) == ("unauthorized", False)
        assert words in str(told)


@pytest.mark.registry
async def test_a_real_registry_behind_a_token_server_is_read_by_its_tokens(tmp_path: Path) -> None:
    if reason := real.why_absent():
        absent(reason)
    with token_server.started(tmp_path) as tokens:
        tokens.identity_tokens = {"IDENTITY"}
        with real.started() as open_registry:  # filled without a token, then served with one
            digest = open_registry.push("app:1", IMAGE)
            config = {**tokens.registry_config, "storage": {"filesystem": {"rootdirectory": f"{open_registry.folder}/data"}}}
            with real.started(config=config) as registry:
                user = Credentials("user", "password")
                clock = Clock()
                async with connected(registry.host, credentials=user, clock=clock) as client:
                    assert await client.head("app", "1") == digest
                    body, _ = await client.manifest("app", digest)
                    layer = json.loads(body)["layers"][0]
                    got = b"".join([chunk async for chunk in client.blob("app", layer["digest"], layer["size"])])
                    assert len(tokens.asked) == 1
                    assert (await client.catalog()).names == ["app"]
                    clock.advance(1000)
                    assert await client.head("app", "1") == digest
                assert sha256(got) == layer["digest"]
                scopes = [asked["scope"] for asked in tokens.asked]
                assert scopes == [["repository:app:pull"], ["registry:catalog:*"], ["repository:app:pull"]]
                async with connected(registry.host, credentials=Credentials(identity_token="IDENTITY")) as client:
                    assert await client.head("app", "1") == digest
                async with connected(registry.host, credentials=Credentials("user", "wrong")) as client:
                    assert (await failure_of(client)).code == "unauthorized"
