"""Hints lead to looks at a real registry: whatever came late, twice, out of order or never, the final state is the registry's."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import SourceError
from service.hooks.looking import LATE_TRIES, Looking, look, look_kind
from service.hooks.senders import Hint
from service.settings import JobSettings
from service.sources import EventKind, ImageEvent, Sighting
from service.sources.registry import RegistrySource
from service.watching import AGREEING_LISTINGS, Follower
from tests.make.images import Image, manifest_of
from tests.make.layers import tar_of
from tests.registry import Registry
from tests.service.clients import source_at
from tests.service.parts import Parts, assembled, until
from tests.service.watching import watched

BASE = tar_of({"lib/base": b"x" * 2000})


def image(name: str) -> Image:
    return Image(layers=(BASE, tar_of({f"opt/{name}": name.encode() * 50})), entrypoint=[f"/opt/{name}"])


class Scene:
    """A registry, a source over a repository of it, and the parts between hint and verdict."""

    def __init__(self, registry: Registry, repository: str, parts: Parts, source: RegistrySource) -> None:
        self.registry = registry
        self.repository = repository
        self.parts = parts
        self.source = source
        self.follower: Follower = parts.follower(source)
        self.looking = Looking(parts.ledger, parts.metrics, {source.name: self.follower}, [source.name])

    def push(self, tag: str, content: str) -> str:
        return self.registry.push(f"{self.repository}:{tag}", image(content))

    async def tell(self, *hints: Hint) -> None:
        """Hints come in, in this order, and are worked off."""
        await self.parts.work.submit_many([look(self.source.name, "own", hint) for hint in hints])
        await self.settle()

    async def settle(self) -> None:
        task = asyncio.create_task(self.looking.run())
        try:
            async with asyncio.timeout(30):
                while (state := await self.parts.work.state()).queued + state.leased and await self._looks():
                    self.looking.wake.set()
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _looks(self) -> bool:
        due = await self.parts.work.next_due([look_kind(self.source.name)])
        return bool(self.looking._running) or (due is not None and due <= 0)

    async def list_once(self) -> None:
        """One whole listing is taken in."""
        events: list[ImageEvent] = []
        async for event in self.source.events():
            events.append(event)
            if event.kind in (EventKind.LISTED, EventKind.LISTED_PARTIALLY):
                break
        await self.follower.take(events)

    def hint(self, tag: str, digest: str = "", *, gone: bool = False) -> Hint:
        return Hint(self.repository, tag, digest, gone)

    def shown(self) -> dict[str, str]:
        return {row.tag: row.digest for row in self.parts.fleet.rows()}

    def blobs_read(self) -> list[str]:
        return [each.path for each in self.registry.requests("GET", f"/v2/{self.repository}/blobs/")]


@pytest.fixture
async def scene(registry: Registry, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    repository = "hinted/" + request.node.name.lower().replace("_", "-")[-60:].strip("-")
    async with assembled(tmp_path, JobSettings(parallel=4, retry_first_seconds=1.0)) as parts:
        source = source_at(registry.host, repository)
        yield Scene(registry, repository, parts, source)
        await source.close()


async def test_h107_a_hint_shows_a_push_without_any_listing(scene: Scene) -> None:
    digest = scene.push("1", "one")
    await scene.tell(scene.hint("1", digest))
    assert scene.shown() == {"1": digest}
    await scene.parts.work_off()
    assert scene.parts.outcomes() == {"1": "done"}


async def test_h107_late_doubled_and_shuffled_hints_end_as_a_listing_would_and_no_layer_is_read_twice(scene: Scene) -> None:
    first = scene.push("moved", "first")
    kept = scene.push("kept", "kept")
    gone = scene.push("gone", "gone")
    hints = [
        scene.hint("moved", first), scene.hint("kept", kept), scene.hint("gone", gone), scene.hint("never", first),
    ]  # fmt: skip
    await scene.tell(*hints)
    await scene.parts.work_off()
    scene.registry.delete(scene.repository, gone)
    second = scene.push("moved", "second")
    hints += [scene.hint("moved", second), scene.hint("gone", gone=True), scene.hint("", gone, gone=True)]
    for seed in range(5):
        shuffled = hints * 3
        random.Random(seed).shuffle(shuffled)
        await scene.tell(*shuffled)
        await scene.parts.work_off()
    assert scene.shown() == {"moved": second, "kept": kept}
    assert set(scene.parts.outcomes().values()) == {"done"}
    read = scene.blobs_read()
    assert len(read) == len(set(read)), "a blob was read twice"
    await scene.list_once()
    await scene.parts.work_off()
    assert scene.shown() == {"moved": second, "kept": kept}
    assert scene.blobs_read() == read


async def test_h107_three_hundred_lost_hints_are_healed_by_the_next_listing(scene: Scene) -> None:
    body = scene.push("0", "same")
    for number in range(1, 300):
        scene.registry.push_manifest(scene.repository, str(number), manifest_of(image("same"))[0])
    await scene.tell(scene.hint("0", body))
    assert len(scene.shown()) == 1
    await scene.list_once()
    assert scene.shown() == {str(number): body for number in range(300)}
    assert (await scene.parts.work.state()).queued == 300


async def test_h107_a_lost_deletion_is_healed_by_listings_that_agree(scene: Scene) -> None:
    digest = scene.push("1", "one")
    await scene.tell(scene.hint("1", digest))
    scene.registry.delete(scene.repository, digest)
    await scene.list_once()  # in the course of this one it was seen, by the look
    for _ in range(AGREEING_LISTINGS):
        assert scene.shown() == {"1": digest}
        await scene.list_once()
    assert scene.shown() == {}


async def test_a_deleted_digest_leads_to_a_look_at_every_tag_that_showed_it(scene: Scene) -> None:
    digest = scene.push("1", "one")
    scene.push("2", "one")
    other = scene.push("3", "other")
    await scene.list_once()
    scene.registry.delete(scene.repository, digest)
    await scene.tell(scene.hint("", digest, gone=True))
    assert scene.shown() == {"3": other}


async def test_a_told_deletion_that_did_not_happen_changes_nothing(scene: Scene) -> None:
    digest = scene.push("1", "one")
    await scene.list_once()
    await scene.tell(scene.hint("1", gone=True), scene.hint("", digest, gone=True))
    assert scene.shown() == {"1": digest}


async def test_h108_a_hint_of_an_overwritten_tag_shows_what_the_tag_shows_now(scene: Scene) -> None:
    old = scene.push("1", "old")
    new = scene.push("1", "new")
    await scene.tell(scene.hint("1", old))
    assert scene.shown() == {"1": new}


async def test_a_registry_that_tells_before_it_shows_is_asked_again_for_a_while(scene: Scene) -> None:
    old = scene.push("1", "old")
    await scene.tell(scene.hint("1", "sha256:" + "9" * 64))
    assert scene.shown() == {"1": old}
    new = scene.push("1", "new")
    for _ in range(LATE_TRIES):
        scene.parts.clock.now += 60
        await scene.settle()
    assert scene.shown() == {"1": new}
    assert (await scene.parts.work.state()).retrying == 0  # it is given up


async def test_a_registry_that_is_down_keeps_its_hints_until_it_is_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = scene.push("1", "one")

    async def down(repository: str, tag: str) -> ImageEvent:
        raise SourceError("down")

    monkeypatch.setattr(scene.source, "look", down)
    for _ in range(10):
        await scene.tell(scene.hint("1", digest))
        scene.parts.clock.now += 100
    assert scene.shown() == {}
    monkeypatch.undo()
    await scene.settle()
    assert scene.shown() == {"1": digest}


async def test_a_listing_that_saw_a_tag_before_the_look_does_not_undo_it(scene: Scene) -> None:
    """The listing's event waits in a queue while a push and its hint come and are taken in."""
    old = scene.push("1", "old")
    async with watched(scene.source) as watch:
        assert await watch.next() == (EventKind.APPEARED, f"{scene.repository}:1")
    stale = ImageEvent(EventKind.APPEARED, Sighting(scene.source.name, scene.registry.host, scene.repository, "1", old))
    new = scene.push("1", "new")
    await scene.tell(scene.hint("1", new))
    await scene.follower._take_listed([stale])
    assert scene.shown() == {"1": new}
    await scene.follower._take_listed([ImageEvent(EventKind.LISTED)])
    back = scene.push("1", "old")
    await scene.follower._take_listed([stale])  # of the next listing, and newer than the look
    assert scene.shown() == {"1": back}


async def test_a_listing_under_way_and_hints_leave_the_state_of_the_registry(scene: Scene) -> None:
    digests = {str(number): scene.push(str(number), f"n{number}") for number in range(12)}
    following = asyncio.create_task(scene.follower.follow())
    looking = asyncio.create_task(scene.looking.run())
    try:
        for number in range(0, 12, 2):
            digests[str(number)] = await asyncio.to_thread(scene.push, str(number), f"m{number}")
            hint = scene.hint(str(number), digests[str(number)])
            await scene.parts.work.submit_many([look(scene.source.name, "own", hint)])
            scene.looking.wake.set()
        await until(lambda: scene.shown() == digests)
    finally:
        for task in (following, looking):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
