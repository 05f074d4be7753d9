"""A host that asks for peace gets it, a broken one is not stormed, and other hosts do not notice (hostile 59, 60, 70, 71)."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import AsyncIterator, Callable

import pytest
from multidict import CIMultiDict

from service.errors import SourceError
from service.registry.client import TRIES, RegistryClient
from service.registry.patience import BREAKER_FAILURES, BREAKER_SECONDS, quota, retry_after
from tests.fakes.clock import Clock
from tests.fakes.registry import FakeRegistry, error, serving
from tests.fakes.server import Answer, Request
from tests.make.images import Image
from tests.make.layers import tar_of
from tests.service.clients import PARALLEL, Names, connected

IMAGE = Image(layers=(tar_of({"etc/a": "a"}),), entrypoint=["/a"])
NOW = 1_753_000_000.0
BROKEN = b"no HTTP\r\n\r\n"
"""Unlike a cut connection it is not asked again by aiohttp itself."""
DATE = email.utils.formatdate(NOW, usegmt=True)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving() as registry:
        registry.push("app:1", IMAGE)
        yield registry


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(registry: FakeRegistry, clock: Clock) -> AsyncIterator[RegistryClient]:
    async with connected(registry.host, clock=clock) as client:
        yield client


async def failure_of(client: RegistryClient, tag: str = "1") -> SourceError:
    with pytest.raises(SourceError) as failure:
        await client.head("app", tag)
    return failure.value


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("-7", 0.0),
        ("1000000000", 3600.0),
        ("inf", 3600.0),
        ("nan", 1.0),
        (email.utils.formatdate(NOW + 30, usegmt=True), 30.0),
        (email.utils.formatdate(NOW + 10**6, usegmt=True), 3600.0),
        (email.utils.formatdate(NOW - 30, usegmt=True), 0.0),
        ("Mon, 01 Jan 99999 00:00:00 GMT", 1.0),
        ("soon", 1.0),
        ("", 1.0),
    ],
)
def test_h059_retry_after_is_seconds_or_a_date_and_never_more_than_an_hour(stated: str, seconds: float) -> None:
    """A date is held against the server's own clock: ours may be a day off (hostile 61)."""
    assert retry_after({"Retry-After": stated, "Date": DATE}) == seconds


def test_h059_an_answer_that_does_not_say_when_is_asked_again_after_a_second() -> None:
    assert retry_after({}) == 1.0


async def test_h059_a_short_wish_is_sat_out(registry: FakeRegistry, client: RegistryClient, clock: Clock) -> None:
    registry.once("HEAD", "", error(429, "TOOMANYREQUESTS", Retry_After="5"))
    assert await client.head("app", "1") is not None
    assert clock.slept == [5.0]


async def test_h059_a_long_wish_sends_the_work_back_and_nobody_asks_meanwhile(
    registry: FakeRegistry, client: RegistryClient, clock: Clock
) -> None:
    registry.once("HEAD", "", error(429, "TOOMANYREQUESTS", Retry_After="600"))
    told = await failure_of(client)
    assert (told.code, told.temporary, told.retry_after) == ("rate-limited", True, 600.0)
    clock.advance(100)
    later = await failure_of(client, "2")
    assert (later.code, later.retry_after) == ("rate-limited", 500.0)
    assert "500 s" in str(later)
    assert len(registry.requests) == 1
    clock.advance(500)
    assert await client.head("app", "1") is not None


async def test_h059_a_wish_beyond_all_reason_is_clipped_to_an_hour(
    registry: FakeRegistry, client: RegistryClient, clock: Clock
) -> None:
    registry.once("HEAD", "", error(429, Retry_After="1000000000"))
    assert (await failure_of(client)).retry_after == 3600.0
    clock.advance(3600)
    assert await client.head("app", "1") is not None


async def test_h059_the_wish_of_one_host_does_not_hold_up_another(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.once("HEAD", "", error(429, Retry_After="600"))
    await failure_of(client)
    async with serving() as other, connected(other.host) as neighbour:
        other.push("app:1", IMAGE)
        assert await neighbour.head("app", "1") is not None


async def test_h059_unavailability_with_a_time_is_a_wish_as_well(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.once("HEAD", "", error(503, Retry_After="60"))
    told = await failure_of(client)
    assert (told.code, told.retry_after) == ("rate-limited", 60.0)


async def test_h060_looking_at_known_tags_costs_no_manifest(registry: FakeRegistry, client: RegistryClient) -> None:
    """Docker Hub counts GET of manifests, not HEAD (sources.md 3.4)."""
    for _ in range(3):
        await client.head("app", "1")
    assert [each.method for each in registry.requests] == ["HEAD"] * 3


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
async def test_h070_what_may_pass_is_tried_again_with_growing_pauses_drawn_at_random(
    registry: FakeRegistry, client: RegistryClient, clock: Clock, status: int
) -> None:
    registry.once("HEAD", "", *[error(status)] * (TRIES - 1))
    assert await client.head("app", "1") is not None
    assert len(clock.slept) == TRIES - 1
    assert all(0 <= pause <= 2**number for number, pause in enumerate(clock.slept))
    assert len(set(clock.slept)) == TRIES - 1


async def test_h070_in_the_end_the_failure_is_told_and_is_temporary(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.always("HEAD", "", error(502))
    told = await failure_of(client)
    assert (told.code, told.temporary) == ("http-502", True)
    assert len(registry.requests) == TRIES


async def test_h070_a_connection_cut_in_the_middle_is_tried_again(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.once("HEAD", "", b"", b"", b"HTTP/1.1 200", b"HTTP/1.1 200", BROKEN)
    assert await client.head("app", "1") is not None
    assert len(registry.requests) == 6


async def test_h070_names_that_do_not_resolve_are_temporary(clock: Clock) -> None:
    names = Names({})
    async with connected("registry.test:5000", plain=["registry.test:5000"], names=names, clock=clock) as client:
        told = await failure_of(client)
    assert (told.code, told.temporary) == ("unreachable", True)
    assert "registry.test" in str(told)
    assert len(names.asked) == TRIES


async def test_h070_after_failures_in_a_row_one_asks_at_a_time_and_seldom(
    registry: FakeRegistry, client: RegistryClient, clock: Clock
) -> None:
    registry.always("HEAD", "", BROKEN)
    await failure_of(client)
    assert len(registry.requests) == BREAKER_FAILURES
    for _ in range(3):
        refused = await failure_of(client)
        assert (refused.code, refused.temporary) == ("unreachable", True)
        assert 0 < refused.retry_after <= BREAKER_SECONDS
    assert len(registry.requests) == BREAKER_FAILURES
    for interval in range(1, 4):
        clock.advance(BREAKER_SECONDS)
        await asyncio.gather(*(failure_of(client, str(number)) for number in range(20)))
        assert len(registry.requests) == BREAKER_FAILURES + interval


async def test_h070_when_the_one_is_answered_all_may_ask_again(
    registry: FakeRegistry, client: RegistryClient, clock: Clock
) -> None:
    registry.once("HEAD", "", *[BROKEN] * BREAKER_FAILURES)
    await failure_of(client)
    clock.advance(BREAKER_SECONDS)
    assert await client.head("app", "1") is not None
    assert await client.head("app", "1") is not None


async def test_h070_one_broken_image_does_not_make_a_registry_broken(
    registry: FakeRegistry, client: RegistryClient, clock: Clock
) -> None:
    registry.always("HEAD", "/manifests/broken", error(500))
    for _ in range(3):
        await failure_of(client, "broken")
        assert await client.head("app", "1") is not None


async def test_h070_many_who_wait_for_a_place_do_not_storm_a_host_that_broke_meanwhile(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    registry.always("HEAD", "", BROKEN)
    await asyncio.gather(*(failure_of(client, str(number)) for number in range(50)))
    assert len(registry.requests) <= BREAKER_FAILURES + PARALLEL


async def test_h071_a_registry_that_comes_back_is_asked_by_few_at_a_time_and_nothing_is_lost(
    registry: FakeRegistry, client: RegistryClient, clock: Clock
) -> None:
    """Down for six hours of probes, then 5,000 new tags."""
    registry.always("", "", BROKEN)
    for _ in range(6 * 60):
        clock.advance(BREAKER_SECONDS)
        await failure_of(client)
    assert len(registry.requests) < 6 * 60 + BREAKER_FAILURES
    registry.mend()
    clock.advance(BREAKER_SECONDS)
    digests = {f"t{number}": registry.put("app", f"t{number}", b'{"n": %d}' % number) for number in range(5_000)}
    most = 0

    def count(request: Request) -> Answer | None:
        nonlocal most
        most = max(most, len(registry.open))
        return None

    registry.always("HEAD", "", count)
    listing = await client.tags("app")
    assert listing is not None
    found = await asyncio.gather(*(client.head("app", tag) for tag in listing.names))
    assert dict(zip(listing.names, found, strict=True)).items() >= digests.items()
    assert 0 < most <= PARALLEL


# Quotas


@pytest.mark.parametrize(
    ("headers", "stated"),
    [
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}, (100, 76, 2160)),
        ({"RateLimit-Limit": "100", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"}, (100, 0, 30)),
        (
            {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "9", "X-RateLimit-Reset": str(NOW + 60), "Date": DATE},
            (5000, 9, 60),
        ),
        ({"RateLimit": "limit=100, remaining=50, reset=5"}, (100, 50, 5)),
        ({"RateLimit-Limit": "100"}, None),
        ({"RateLimit-Limit": "many", "RateLimit-Remaining": "few"}, None),
        ({"RateLimit-Limit": "-1", "RateLimit-Remaining": "-1"}, None),
        ({}, None),
    ],
)
def test_a_quota_is_read_in_the_forms_that_registries_write(
    headers: dict[str, str], stated: tuple[float, float, float] | None
) -> None:
    assert quota(CIMultiDict(headers)) == stated


async def test_h060_with_little_of_a_quota_left_nothing_is_polled_and_layers_still_come(
    registry: FakeRegistry, clock: Clock
) -> None:
    def answer(remaining: int) -> Callable[[Request], Answer]:
        def make(request: Request) -> Answer:
            honest = registry.honest(request)
            quoted = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": f"{remaining};w=21600"}
            return Answer(honest.status, {**honest.headers, **quoted}, honest.body)

        return make

    blob = next(iter(registry.blobs))
    registry.once("", "/manifests/", answer(11), answer(9), answer(76))
    async with connected(registry.host, clock=clock, reserve=0.1) as client:
        for _ in range(2):
            await client.head("app", "1")
        refused = await failure_of(client)
        assert (refused.code, refused.temporary, refused.retry_after) == ("rate-limited", True, 2160.0)
        assert "little of its quota is left" in str(refused)
        assert len(registry.requests) == 2
        assert b"".join([chunk async for chunk in client.blob("app", blob, None)]) == registry.blobs[blob]
        clock.now += 2161
        await client.head("app", "1")
    async with connected(registry.host, clock=clock) as client:
        registry.always("", "/manifests/", answer(0))
        for _ in range(3):  # without a reserve it is asked until it refuses itself
            await client.head("app", "1")
