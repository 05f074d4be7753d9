"""What tags showed over time, and what each change means to people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from analyzers.finding import Finding, Report, Severity, State, Verdict
from service.database import Database
from service.fleet import FleetRow
from service.history import KEPT_A_NAME, ChangeKind, History
from tests.make.reports import failing, row, starting


class Ticking:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    database = await Database.open(tmp_path)
    yield History(database, Ticking())
    await database.close()


def shown(report: Report, tag: str = "1") -> FleetRow:
    return row(report, "team/app", tag)


async def kinds(history: History, *reports: Report) -> list[ChangeKind]:
    return [change.kind for report in reports for change in await history.note([shown(report)])]


UNDECIDED = {"verdict": Verdict(state=State.UNKNOWN, why_unknown="a layer was not wholly read")}
LATER = Finding("load.symbol-later", Severity.LATER, "fails when called")


async def test_a_new_image_that_fails_is_news_and_one_that_starts_appears(history: History) -> None:
    assert await kinds(history, failing(1)) == [ChangeKind.FAILS_NOW]
    assert [each.kind for each in await history.note([shown(starting(2), "2")])] == [ChangeKind.APPEARED]


async def test_breaking_mending_and_pushing_again(history: History) -> None:
    assert await kinds(history, starting(1), failing(2), failing(3), starting(4), starting(5)) == [
        ChangeKind.APPEARED, ChangeKind.FAILS_NOW, ChangeKind.FAILS_OTHERWISE, ChangeKind.RECOVERED, ChangeKind.PUSHED,
    ]  # fmt: skip


async def test_the_same_row_twice_is_no_change(history: History) -> None:
    assert await kinds(history, failing(1), failing(1), failing(1)) == [ChangeKind.FAILS_NOW]


async def test_a_verdict_that_is_lost_is_told(history: History) -> None:
    assert await kinds(history, starting(1), starting(2, **UNDECIDED)) == [ChangeKind.APPEARED, ChangeKind.VERDICT_LOST]


async def test_a_rule_that_was_not_there_before_is_told_though_the_image_starts(history: History) -> None:
    await history.note([shown(starting(1))])
    change = (await history.note([shown(starting(2, findings=(LATER,)))]))[0]
    assert (change.kind, change.new_rules) == (ChangeKind.NEW_RULE, ("load.symbol-later",))


async def test_growth_is_that_of_the_last_push(history: History) -> None:
    sizes = [1000, 5000, 4000]
    for number, size in enumerate(sizes):
        changes = await history.note([shown(starting(number, size_bytes=size))])
    assert changes[0].growth_bytes == -1000
    first = shown(starting(0))
    [(name, change)] = (await history.last_changes()).items()
    assert name == (first.source, first.registry, "team/app", "1", "linux/amd64")
    assert (change.growth_bytes, change.new_rules) == (-1000, ())


async def test_platforms_of_one_tag_have_histories_of_their_own(history: History) -> None:
    for platform in ("linux/amd64", "linux/arm64"):
        changes = await history.note([shown(starting(1, platform=platform))])
        assert [change.kind for change in changes] == [ChangeKind.APPEARED]


async def test_rows_without_tag_or_verdict_leave_no_trace(history: History) -> None:
    untagged = msgspec.structs.replace(shown(starting(1)), tag="")
    waiting = msgspec.structs.replace(shown(starting(1)), state=None, outcome="queued")
    assert await history.note([untagged, waiting]) == []
    assert await history.latest() == []


async def test_a_tags_history_is_bounded_and_the_latest_comes_first(history: History) -> None:
    for number in range(KEPT_A_NAME + 5):
        await history.note([shown(starting(number))])
    moments = await history.of_tag(shown(starting(0)).registry, "team/app", "1")
    assert len(moments) == KEPT_A_NAME
    assert moments[0].image_id == starting(KEPT_A_NAME + 4).image_id
    assert moments[0].at > moments[1].at


async def test_the_latest_changes_of_the_fleet_name_what_was_before(history: History) -> None:
    await history.note([shown(starting(1))])
    await history.note([shown(failing(2))])
    latest = await history.latest(10)
    assert [(each.kind, each.before is not None) for each in latest] == [
        (ChangeKind.FAILS_NOW, True),
        (ChangeKind.APPEARED, False),
    ]
