"""The fleet in memory: rows come, change and go; listings filter, sort and page."""

from __future__ import annotations

import pytest

from analyzers.errors import Malformed
from service.fleet import Fleet, FleetQuery, SourceStatus, Standing
from tests.make.reports import digest, failing, row, starting


def small_fleet() -> Fleet:
    fleet = Fleet()
    fleet.upsert(row(starting(1), "shop/api", "1.0"))
    fleet.upsert(row(failing(2), "shop/report", "1.0"))
    fleet.upsert(row(None, "shop/later", "2.0"))
    fleet.upsert(row(None, "shop/broken", "3.0", outcome="corrupt-layer", detail="layer 2 ends early"))
    return fleet


def test_a_row_replaces_the_one_of_the_same_name_and_platform() -> None:
    fleet = small_fleet()
    fleet.upsert(row(failing(3), "shop/api", "1.0"))
    assert len(fleet) == 4
    assert [r.standing for r in fleet.matching(FleetQuery(repository="shop/api"))] == [Standing.FAILS]


def test_the_revision_counts_changes_and_only_changes() -> None:
    fleet = small_fleet()
    before = fleet.revision
    fleet.upsert(row(starting(1), "shop/api", "1.0"))
    assert fleet.revision == before
    fleet.remove(row(starting(1), "shop/api", "1.0").sighting)
    assert fleet.revision == before + 1


def test_platforms_that_an_examination_no_longer_finds_leave() -> None:
    fleet = Fleet()
    both = [row(starting(1), "a", platform="linux/amd64"), row(starting(2), "a", platform="linux/arm64")]
    fleet.replace(both[0].sighting, both)
    fleet.replace(both[0].sighting, both[:1])
    assert [r.platform for r in fleet.rows()] == ["linux/amd64"]


def test_an_examined_name_leaves_no_waiting_row_behind() -> None:
    fleet = Fleet()
    waiting = row(None, "a")
    fleet.upsert(waiting)
    fleet.replace(waiting.sighting, [row(starting(1), "a")])
    assert [r.standing for r in fleet.rows()] == [Standing.STARTS]


def test_a_moved_tag_is_the_same_name() -> None:
    fleet = Fleet()
    fleet.upsert(row(starting(1), "a"))
    moved = row(starting(2), "a")
    fleet.remove(moved.sighting)
    assert len(fleet) == 0


def test_not_analysed_is_never_clean() -> None:
    fleet = small_fleet()
    standings = fleet.standings()
    assert standings[Standing.STARTS] == 1
    assert standings[Standing.WAITING] == 1
    assert standings[Standing.UNKNOWN] == 1


def test_the_worst_stands_first() -> None:
    fleet = small_fleet()
    assert [r.standing for r in fleet.matching(FleetQuery())] == ["fails", "unknown", "waiting", "starts"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (FleetQuery(q="report"), ["shop/report"]),
        (FleetQuery(q="NO SUCH file"), ["shop/report"]),
        (FleetQuery(reason="interpreter_absent"), ["shop/report"]),
        (FleetQuery(os="debian"), ["shop/api"]),
        (FleetQuery(os="alpine 3.20.3"), ["shop/report"]),
        (FleetQuery(severity="warning"), ["shop/report"]),
        (FleetQuery(rule="size.deleted-later"), ["shop/report"]),
        (FleetQuery(layer=digest(9001)), ["shop/api"]),
        (FleetQuery(standing="unknown"), ["shop/broken"]),
        (FleetQuery(q="nothing like it"), []),
    ],
)
def test_a_listing_shows_what_fits(query: FleetQuery, names: list[str]) -> None:
    assert [r.repository for r in small_fleet().matching(query)] == names


def test_pages_show_every_row_once() -> None:
    fleet = Fleet()
    for number in range(25):
        fleet.upsert(row(starting(number), f"r{number % 5}", f"t{number}"))
    seen, cursor = [], ""
    while True:
        page = fleet.page(FleetQuery(sort="-size"), limit=10, cursor=cursor)
        seen += [r.key for r in page.rows]
        cursor = page.cursor
        assert page.total == 25
        if not cursor:
            break
    assert sorted(seen) == [r.key for r in fleet.rows()]


def test_a_row_that_leaves_between_pages_hides_no_other() -> None:
    fleet = Fleet()
    rows = [row(starting(number), "r", f"t{number}") for number in range(6)]
    for one in rows:
        fleet.upsert(one)
    first = fleet.page(FleetQuery(sort="name"), limit=3)
    fleet.remove(rows[2].sighting)
    second = fleet.page(FleetQuery(sort="name"), limit=3, cursor=first.cursor)
    assert [r.tag for r in second.rows] == ["t3", "t4", "t5"]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "%%%", "gaFhoWI", "é"])
def test_a_tampered_cursor_is_malformed(cursor: str) -> None:
    with pytest.raises(Malformed):
        small_fleet().page(FleetQuery(), cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 501, 10**9])
def test_a_limit_is_bounded(limit: int) -> None:
    with pytest.raises(Malformed):
        small_fleet().page(FleetQuery(), limit=limit)


def test_an_unknown_order_is_malformed() -> None:
    with pytest.raises(Malformed):
        small_fleet().matching(FleetQuery(sort="colour"))


def test_a_forgotten_source_takes_its_rows_along() -> None:
    fleet = small_fleet()
    fleet.note_source(SourceStatus(name="production", kind="registry", up=True))
    fleet.upsert(row(starting(9), "other", source="local"))
    fleet.forget_source("production")
    assert [r.repository for r in fleet.rows()] == ["other"]
    assert fleet.sources() == ()
