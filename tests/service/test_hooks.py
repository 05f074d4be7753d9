"""POST /hooks/NAME: who may send, what is refused before it is parsed, what is written down before the answer."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import sqlalchemy as sa
from aiohttp.test_utils import TestClient, TestServer

from service.errors import SettingsError, StoreFull
from service.hooks.looking import Looking, Pending, look_kind
from service.hooks.receiving import KEPT_SECONDS, RATE_BURST, Hook, Receiving, read_hooks
from service.hooks.senders import BODY_BYTES, Hint
from service.hooks.settings import HookSettings
from service.schema import DELIVERY
from service.secret import Secret, SecretFrom
from service.settings import Settings
from service.sources.settings import RegistrySettings
from tests.make.deliveries import HARBOR, A, event, github
from tests.make.site import World
from tests.service.parts import Parts, assembled

TOKEN = "only-the-registry-knows-it"
KEY = "and-only-github-knows-this"


class Watched:
    """A follower that watches the repositories below shop/."""

    def watches(self, repository: str, tag: str) -> bool:
        return repository.startswith("shop/")


class Hooks:
    """Hooks that listen, their parts, and a clock for the rate."""

    def __init__(self, parts: Parts, **changes: Any) -> None:
        self.parts = parts
        self.now = 1000.0
        self.woken = 0
        self.followers: dict[str, Watched] = {"hub": Watched()}
        hooks = [
            hook("own", "distribution", token=TOKEN),
            hook("harbor", "harbor", token=TOKEN),
            hook("github", "github", key=KEY),
            hook("both", "github", token=TOKEN, key=KEY),
        ]
        self.receiving = Receiving(hooks, parts.ledger, parts.metrics, self.followers, self._wake, clock=self._clock, **changes)

    def _wake(self) -> None:
        self.woken += 1

    def _clock(self) -> float:
        return self.now

    async def waiting(self) -> list[Hint]:
        """What the queue holds, without taking it."""
        found = []
        while (job := await self.parts.work.lease([look_kind("hub")])) is not None:
            found.append(job)
        for each in found:
            await self.parts.work.hand_back(each)
        return [msgspec.msgpack.decode(each.payload, type=Pending).hint for each in found]

    def bind(self, name: str, *, host: str = "", key: str = "") -> None:
        """Another host or key for a hook."""
        held = self.receiving._hooks[name]
        self.receiving._hooks[name] = Hook(held.settings, host or held.host, held.token, Secret(key) if key else held.key)

    def refused(self, name: str, outcome: str) -> float:
        return self.parts.metrics.value("enoent_hook_requests_total", name, outcome) or 0


def hook(name: str, sender: Any, *, token: str = "", key: str = "") -> Hook:
    return Hook(HookSettings(name=name, registry="hub", sender=sender), "hub.example", Secret(token), Secret(key))


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    async with assembled(tmp_path) as parts:
        yield Hooks(parts, body_seconds=0.5)


@pytest.fixture
async def client(hooks: Hooks) -> AsyncIterator[TestClient]:
    server = TestServer(World().app(hooks=hooks.receiving))
    await server.start_server(auto_decompress=False)  # as the daemon listens
    async with TestClient(server) as made:
        yield made


def body(*events: dict[str, Any]) -> bytes:
    return json.dumps({"events": list(events) or [event(tag="1.0")]}).encode()


def signed(raw: bytes, key: str = KEY) -> dict[str, str]:
    mac = hmac.new(key.encode(), raw, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Event": "registry_package", "X-GitHub-Delivery": "d1"}


BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def post(client: TestClient, path: str, raw: bytes, headers: Mapping[str, str] = BEARER) -> int:
    async with client.post(path, data=raw, headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_a_push_is_in_the_queue_when_its_sender_is_answered(client: TestClient, hooks: Hooks) -> None:
    async with client.post("/hooks/own", data=body(), headers=BEARER) as answer:
        assert answer.status == 202
        assert await answer.json() == {"taken": 1, "unwatched": 0, "ignored": 0, "replayed": 0}
    (hint,) = await hooks.waiting()
    assert (hint.repository, hint.tag, hint.digest) == ("shop/api", "1.0", A)
    assert hooks.woken == 1
    assert hooks.parts.metrics.value("enoent_hook_events_total", "own", "taken") == 1


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/hooks/own", {"Authorization": f"Bearer {TOKEN}"}),
        ("/hooks/own", {"Authorization": f"bearer {TOKEN}"}),
        ("/hooks/own", {"Authorization": "Basic " + base64.b64encode(f"x:{TOKEN}".encode()).decode()}),
        ("/hooks/own", {"Authorization": TOKEN}),
        (f"/hooks/own/{TOKEN}", {}),
    ],
)
async def test_a_token_may_come_in_every_form_that_a_sender_has(client: TestClient, path: str, headers: dict[str, str]) -> None:
    assert await post(client, path, body(), headers) == 202


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/hooks/own", {}),
        ("/hooks/own", {"Authorization": ""}),
        ("/hooks/own", {"Authorization": "Bearer "}),
        ("/hooks/own", {"Authorization": f"Bearer {TOKEN[:-1]}"}),
        ("/hooks/own", {"Authorization": f"Bearer {TOKEN}x"}),
        ("/hooks/own", {"Authorization": f"Bearer {KEY}"}),
        ("/hooks/own", {"Authorization": "Bearer \udcff\udcfe"}),
        ("/hooks/own", {"Authorization": "Basic ////"}),
        ("/hooks/own/wrong", {}),
        ("/hooks/nobody", BEARER),
        ("/hooks/github", {}),
        ("/hooks/github", BEARER),
        ("/hooks/github/x", signed(b"{")),
        ("/hooks/github", {"X-Hub-Signature-256": ""}),
        ("/hooks/github", {"X-Hub-Signature-256": "sha256="}),
        ("/hooks/github", {"X-Hub-Signature-256": signed(b"{")["X-Hub-Signature-256"][:-1]}),
        ("/hooks/github", {"X-Hub-Signature-256": signed(b"{")["X-Hub-Signature-256"].removeprefix("sha256=")}),
        ("/hooks/github", signed(b"{", "another key")),
        ("/hooks/github", {"X-Hub-Signature-256": "sha256=\udcff"}),
        ("/hooks/both", signed(b"{")),
        ("/hooks/both", BEARER),
    ],
)
async def test_h129_without_a_right_token_or_signature_nothing_is_parsed(
    client: TestClient, hooks: Hooks, path: str, headers: dict[str, str]
) -> None:
    """What follows is no JSON: had anybody parsed it, the answer would be 400."""
    assert await post(client, path, b"{", headers) == 401
    assert await hooks.waiting() == []


async def test_h129_two_tokens_are_none(client: TestClient) -> None:
    raw = "POST /hooks/own HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n"
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write((raw + f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n{{}}").encode())
    assert b" 401 " in await reader.readline()
    writer.close()


async def test_h129_a_signature_is_over_the_raw_bytes(client: TestClient, hooks: Hooks) -> None:
    raw = json.dumps(github(), indent=1).replace("Octo/Api", "shop/api").encode()
    hooks.bind("github", host="ghcr.io")
    assert await post(client, "/hooks/github", raw + b" ", signed(raw)) == 401
    assert await post(client, "/hooks/github", raw, signed(raw)) == 202
    assert await post(client, "/hooks/both", raw, signed(raw) | BEARER) == 422  # it is bound to another host


async def test_h129_the_signature_is_that_of_rfc_4231(client: TestClient, hooks: Hooks) -> None:
    """Test case 2. The body is no JSON, which is said only to who signed it rightly."""
    hooks.bind("github", key="Jefe")
    mac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    raw = b"what do ya want for nothing?"
    assert await post(client, "/hooks/github", raw, {"X-Hub-Signature-256": f"sha256={mac}"}) == 400
    assert await post(client, "/hooks/github", raw, {"X-Hub-Signature-256": f"sha256={mac[:-1]}4"}) == 401


async def test_h129_nothing_is_decompressed(client: TestClient, hooks: Hooks) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    packed = {"Content-Encoding": "gzip"}
    assert await post(client, "/hooks/github", bomb, signed(bytes(50_000_000)) | packed) == 401
    assert await post(client, "/hooks/github", bomb, signed(bomb) | packed) == 415
    assert await post(client, "/hooks/own", bomb, {**BEARER, **packed}) == 415


async def test_h129_the_same_delivery_again_is_dropped(client: TestClient, hooks: Hooks) -> None:
    for _ in range(100):
        assert await post(client, "/hooks/own", body()) == 202
    assert hooks.parts.metrics.value("enoent_hook_events_total", "own", "taken") == 1
    assert hooks.parts.metrics.value("enoent_hook_events_total", "own", "replayed") == 99
    other = event(tag="1.0") | {"id": "another"}
    assert await post(client, "/hooks/own", body(other)) == 202
    assert hooks.parts.metrics.value("enoent_hook_events_total", "own", "taken") == 2
    assert len(await hooks.waiting()) == 1  # one tag is one look


async def test_names_of_deliveries_are_forgotten_in_time(client: TestClient, hooks: Hooks) -> None:
    assert await post(client, "/hooks/own", body()) == 202
    hooks.parts.clock.now += KEPT_SECONDS + 1
    hooks.receiving._until_pruned = 0
    assert await post(client, "/hooks/own", body(event(tag="2.0") | {"id": "new"})) == 202
    async with hooks.parts.store.database.reading() as connection:
        assert list(await connection.scalars(sa.select(DELIVERY.c.name))) == ["new"]


async def test_h130_a_push_to_another_host_is_refused(client: TestClient, hooks: Hooks) -> None:
    inside = json.loads(json.dumps(HARBOR).replace("hub.example", "169.254.169.254"))
    assert await post(client, "/hooks/harbor", json.dumps(inside).encode()) == 422
    assert await hooks.waiting() == []
    assert hooks.refused("harbor", "not-ours") == 1
    assert await post(client, "/hooks/harbor", json.dumps(HARBOR).replace("hub.example", "HUB.example").encode()) == 202
    assert len(await hooks.waiting()) == 1


async def test_what_is_not_watched_is_accepted_and_dropped(client: TestClient, hooks: Hooks) -> None:
    """A refusal would make distribution send it again for ever, and nothing after it."""
    assert await post(client, "/hooks/own", body(event(tag="1.0", repository="other/api"))) == 202
    assert await hooks.waiting() == []
    assert hooks.parts.metrics.value("enoent_hook_events_total", "own", "unwatched") == 1


async def test_h131_bodies_have_ceilings(client: TestClient, hooks: Hooks) -> None:
    many = [event(tag=str(number)) for number in range(1001)]
    for number, each in enumerate(many):
        each |= {"id": str(number), "target": {"repository": "shop/api", "tag": str(number)}, "request": {}}
    assert await post(client, "/hooks/own", body(*many)) == 413
    assert await post(client, "/hooks/own", body(*many[:1000])) == 202
    assert (await hooks.parts.work.state()).queued == 1000
    assert await post(client, "/hooks/own", b"[" * 100_000) == 400
    assert await post(client, "/hooks/own", b'{"events": [' + b"[]," * 100_001 + b"[]]}") == 400
    assert await post(client, "/hooks/own", b'{"events": [], "events": []}') == 400


async def test_h131_a_body_of_50_megabytes_is_refused_by_its_stated_length_and_without_one(client: TestClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(1 << 20)

    for data in (bytes(50 << 20), pieces()):
        try:
            async with client.post("/hooks/own", data=data, headers=BEARER) as answer:
                assert answer.status == 413
        except aiohttp.ClientConnectionError:
            pass  # the connection was closed in the middle of it
    assert await post(client, "/hooks/own", bytes(BODY_BYTES + 1)) == 413


async def test_h131_a_slow_body_is_not_waited_for(client: TestClient, hooks: Hooks) -> None:
    held = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await held.wait()

    async with client.post("/hooks/own", data=slow(), headers=BEARER) as answer:
        assert answer.status == 408
    held.set()
    assert hooks.refused("own", "slow") == 1


async def test_a_hook_takes_so_many_a_second_and_others_are_not_touched(client: TestClient, hooks: Hooks) -> None:
    hooks.receiving._buckets["own"] = (1.0, hooks.now)
    assert await post(client, "/hooks/own", body()) == 202
    async with client.post("/hooks/own", data=body(), headers=BEARER) as answer:
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "1"
    assert await post(client, "/hooks/harbor", json.dumps(HARBOR).encode()) == 202
    hooks.now += 1000
    assert await post(client, "/hooks/own", body()) == 202
    assert hooks.receiving._buckets["own"][0] == RATE_BURST - 1


async def test_what_cannot_be_written_down_is_not_accepted(
    client: TestClient, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise StoreFull("the disk is full")

    monkeypatch.setattr(hooks.parts.store.database, "writing", full)
    async with client.post("/hooks/own", data=body(), headers=BEARER) as answer:
        assert answer.status == 503
        assert "Retry-After" in answer.headers
    monkeypatch.undo()
    assert await post(client, "/hooks/own", body()) == 202  # sent again, it is news
    assert hooks.parts.metrics.value("enoent_hook_events_total", "own", "taken") == 1


async def test_a_hook_without_its_registry_asks_to_come_again(client: TestClient, hooks: Hooks) -> None:
    hooks.followers.clear()
    assert await post(client, "/hooks/own", body()) == 503


async def test_a_pile_of_hints_has_an_end(client: TestClient, hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.hooks.receiving.WAITING_HINTS", 1)
    assert await post(client, "/hooks/own", body()) == 202
    assert await post(client, "/hooks/own", body(event(tag="2.0") | {"id": "2"})) == 503


async def test_hints_outlive_a_kill_of_the_daemon(client: TestClient, hooks: Hooks, tmp_path: Path) -> None:
    assert await post(client, "/hooks/own", body()) == 202
    assert await hooks.parts.work.lease([look_kind("hub")]) is not None  # and then it dies
    async with assembled(tmp_path) as again:
        looking = Looking(again.ledger, again.metrics, {}, ["hub"])
        await again.work.keep_kinds(looking.kinds)
        await again.work.reconcile()
        assert await again.work.lease(looking.kinds) is not None


def test_hooks_are_read_with_their_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    given = HookSettings(name="hub", registry="hub.example:5000", token=SecretFrom(file=str(tmp_path / "token")))
    (made,) = read_hooks(Settings(registries=(RegistrySettings(host="hub.example:5000"),), hooks=(given,)), {})
    assert made.host == "hub.example:5000"
    assert made.token == Secret(TOKEN)
    assert TOKEN not in repr(made)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Hub"}, "hooks[0].name"),
        ({"name": "a/b"}, "hooks[0].name"),
        ({"registry": "elsewhere"}, "hooks[0].registry: 'elsewhere' is no source"),
        ({"token": SecretFrom()}, "hooks[0]: give a token"),
        ({"token": SecretFrom(env="ABSENT")}, "hooks[0].token.env: the variable ABSENT is not set"),
        ({"key": SecretFrom(env="TOKEN")}, "hooks[0].key: distribution does not sign"),
    ],
)
def test_a_wrong_hook_is_refused_by_its_key(changes: dict[str, Any], told: str) -> None:
    values = {"name": "hub", "registry": "hub", "token": SecretFrom(env="TOKEN"), **changes}
    settings = Settings(registries=(RegistrySettings(host="hub"),), hooks=(HookSettings(**values),))
    with pytest.raises(SettingsError) as error:
        read_hooks(settings, {"TOKEN": TOKEN})
    assert told in str(error.value)


def test_two_hooks_have_two_names() -> None:
    one = HookSettings(name="hub", registry="hub", token=SecretFrom(env="TOKEN"))
    with pytest.raises(SettingsError, match="two hooks"):
        read_hooks(Settings(registries=(RegistrySettings(host="hub"),), hooks=(one, one)), {"TOKEN": TOKEN})
