"""Changes, histories and comparisons as people and programs get them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import validate

from analyzers.finding import Report, Weight
from service.history import Change, Moment, kind_of
from tests.make.reports import failing, starting
from tests.make.site import World


def moment(world: World, number: int, report: Report, tag: str = "1") -> Moment:
    """A moment of shop/app and its stored report."""
    row = world.show(report, "shop/app", tag)
    return Moment(
        id=number, source=row.source, registry=row.registry, repository=row.repository, tag=tag, platform=row.platform,
        manifest_digest=row.manifest_digest, image_id=row.image_id, report_key=row.report_key, state=str(row.state),
        reason=str(row.reason or ""), message=row.message, rules=(), size_bytes=row.size_bytes, compressed_bytes=0,
        at=1_700_000_000.0 + number,
    )  # fmt: skip


@pytest.fixture
def world() -> World:
    made = World()
    before = moment(made, 1, starting(1, directories=(Weight("/", 100, 2), Weight("/usr", 90, 1)), size_bytes=100))
    after = moment(made, 2, failing(2, directories=(Weight("/", 160, 2), Weight("/usr", 150, 1)), size_bytes=160))
    made.history.changes = [Change(kind_of(before, after), after, before), Change(kind_of(None, before), before)]
    return made


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(world.app())) as made:
        yield made


async def text(client: TestClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status == 200, (path, answer.status, await answer.text())
    return await answer.text()


async def test_the_page_of_changes_says_what_broke_and_how_much_it_grew(client: TestClient) -> None:
    page = await text(client, "/changes")
    assert "exec /usr/local/bin/report: no such file or directory" in page
    assert "+60 B" in page
    assert "/compare?before=1&amp;after=2" in page


async def test_two_moments_side_by_side(client: TestClient) -> None:
    page = await text(client, "/compare?before=1&after=2")
    assert "It started and will not start now." in page
    assert "New findings" in page
    assert "elf.interpreter-absent" in page
    assert "<code>/usr</code>" in page
    assert "Findings that are gone" in await text(client, "/compare?before=2&after=1")


async def test_two_images_of_the_fleet_side_by_side(client: TestClient, world: World) -> None:
    world.show(starting(5), "shop/app", "2")
    one, other = starting(5).image_id, failing(2).image_id
    assert "Only after" in await text(client, f"/compare?before={one}&after={other}")


@pytest.mark.parametrize("side", ["7", "sha256:" + "f" * 64, "'; drop table history", "9" * 400])
async def test_what_is_not_there_is_said_to_be_missing(client: TestClient, side: str) -> None:
    answer = await client.get("/compare", params={"before": side, "after": "2"})
    assert answer.status == 404


async def test_a_report_that_had_to_leave_is_said_to_be_gone(client: TestClient, world: World) -> None:
    world.reports.bodies.clear()
    answer = await client.get("/compare?before=1&after=2", headers={"Accept": "text/html"})
    assert answer.status == 404
    assert "no longer stored" in await answer.text()


async def test_the_image_page_has_the_history_of_its_tag_and_others_to_compare_with(client: TestClient, world: World) -> None:
    world.show(starting(9), "shop/app", "2")
    page = await text(client, f"/images/{failing(2).image_id}")
    assert "History of this tag" in page
    assert "/compare?before=1&amp;after=2" in page
    assert "shop/app:2" in page
    assert 'aria-label="Directories by size"' in page


async def test_the_api_tells_changes_and_the_history_of_a_tag(client: TestClient, world: World) -> None:
    latest = json.loads(await text(client, "/api/v1/changes?limit=1"))["items"]
    assert [each["kind"] for each in latest] == ["fails-now"]
    registry = world.history.changes[0].after.registry
    moments = json.loads(await text(client, f"/api/v1/history?registry={registry}&repository=shop/app&tag=1"))["items"]
    assert [each["id"] for each in moments] == [2, 1]
    assert (await client.get("/api/v1/history?tag=1")).status == 400


async def test_the_feed_names_this_site_where_no_public_address_is_set(client: TestClient) -> None:
    answer = await client.get("/feed.atom")
    assert answer.content_type == "application/atom+xml"
    body = await answer.text()
    assert f"http://127.0.0.1:{client.port}/changes/2" in body


async def test_the_openapi_document_is_valid_and_knows_the_history(client: TestClient) -> None:
    document = json.loads(await text(client, "/api/v1/openapi.json"))
    validate(document)
    assert {"/api/v1/history", "/api/v1/changes", "/api/v1/images"} <= document["paths"].keys()
    assert not [path for path in document["paths"] if not path.startswith("/api/")]
