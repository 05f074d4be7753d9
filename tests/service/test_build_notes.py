"""Which build made an image: remembered by digest, said of every image of it, whatever source shows that."""

from __future__ import annotations

from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer

from service.builds import Builds
from service.fleet import KEPT_BUILDS, Fleet, FleetQuery, SourceStatus
from service.sources import Build, EventKind, ImageEvent, Sighting
from tests.fakes.source import MemorySource
from tests.make.reports import row, starting
from tests.make.site import World
from tests.service.parts import assembled

DIGEST = "sha256:" + "a" * 64
BUILD = Build("qx7tfyh0q", "dockerfile.v0", "https://git.example/shop.git#abc", 10.0)
BUILT = Sighting("buildkit", "registry.example", "shop/api", "1", DIGEST)
PUSHED = Sighting("registry", "registry.example", "shop/api", "latest", DIGEST)


async def test_an_image_that_another_source_shows_names_its_build_also_after_a_restart(tmp_path: Path) -> None:
    async with assembled(tmp_path / "state") as parts:
        follower = parts.follower(MemorySource())
        await follower.take([ImageEvent(EventKind.APPEARED, PUSHED), ImageEvent(EventKind.APPEARED, BUILT, BUILD)])
        assert [shown.build for shown in parts.fleet.rows()] == [BUILD, BUILD]
        await follower.take([ImageEvent(EventKind.GONE, BUILT)])
    async with assembled(tmp_path / "state") as parts:
        await parts.ledger.recall(["registry"], parts.examiner.profile)
        assert [(shown.tag, shown.build) for shown in parts.fleet.rows()] == [("latest", BUILD)]
        assert [shown.tag for shown in parts.fleet.matching(FleetQuery(build=BUILD.ref))] == ["latest"]
        assert parts.fleet.matching(FleetQuery(build="another")) == []


async def test_the_last_build_of_a_digest_is_the_one_that_is_named(tmp_path: Path) -> None:
    later = Build("later", completed_at=20.0)
    async with assembled(tmp_path / "state") as parts:
        follower = parts.follower(MemorySource())
        for build in (BUILD, later):
            await follower.take([ImageEvent(EventKind.APPEARED, BUILT, build)])
        assert [shown.build for shown in parts.fleet.rows()] == [later]
        assert await Builds(parts.store.database).all() == {DIGEST: later}


async def test_the_oldest_builds_leave_first(tmp_path: Path) -> None:
    builds = {f"sha256:{number:064x}": Build(str(number), completed_at=float(number)) for number in range(KEPT_BUILDS + 3)}
    async with assembled(tmp_path / "state") as parts:
        await parts.ledger.note_builds(builds)
        assert list(await Builds(parts.store.database).all()) == list(builds)[3:]
        assert parts.fleet.news_of_builds(dict(list(builds.items())[:4])).keys() == set(list(builds)[:3])


async def test_a_gap_in_a_history_is_said_on_the_page_of_sources() -> None:
    world = World()
    world.fleet.note_source(SourceStatus(name="builder", kind="buildkit", up=True, remark="others may have come and gone"))
    async with TestClient(TestServer(world.app())) as client:
        answer = await client.get("/sources")
        assert "others may have come and gone" in await answer.text()


def test_an_image_is_found_by_each_of_its_digests() -> None:
    fleet = Fleet()
    made = row(starting(1), "shop/api", manifest_digest=DIGEST)
    fleet.upsert(made)
    fleet.upsert(row(starting(2), "shop/other"))
    assert [shown.repository for shown in fleet.matching(FleetQuery(digest=DIGEST))] == ["shop/api"]
    assert [shown.repository for shown in fleet.matching(FleetQuery(digest=made.image_id))] == ["shop/api"]
