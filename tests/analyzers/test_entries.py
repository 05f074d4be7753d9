"""Millions of entries in little memory, found by path and seen in order."""

from __future__ import annotations

import random
import resource

import pytest

from analyzers.entries import Columns, Entries, Row, merge_runs
from analyzers.facts import Entry, Kind


def sample(count: int, seed: int = 1) -> list[Entry]:
    chance = random.Random(seed)
    paths = {
        b"/".join(chance.choice((b"usr", b"lib", b"a", b"a-b", b"b0", b"x" * 90)) for _ in range(chance.randint(1, 9)))
        for _ in range(count)
    }
    return [
        Entry(
            path,
            chance.choice(list(Kind)),
            chance.randrange(0o10000),
            chance.randrange(1 << 32),
            chance.randrange(1 << 32),
            chance.randrange(1 << 63),
            link=chance.choice((b"", b"../target", b"/abs\n")),
            device=chance.choice(((0, 0), (0, 0), (1, 3))),
            capability=chance.choice((b"", b"", b"", b"\1\0\0\2\0")),
            sha256=chance.choice((b"", chance.randbytes(32))),
        )
        for path in paths
    ]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 3000])
def test_entries_come_back_as_they_went_in_sorted_by_path(count: int) -> None:
    given = sample(count)
    entries = Entries(given)
    wanted = sorted(given, key=lambda entry: entry.path)
    assert list(entries) == wanted
    assert len(entries) == len(wanted)
    assert [entries[number] for number in range(len(wanted))] == wanted
    assert [entries.path(number) for number in range(len(wanted))] == [entry.path for entry in wanted]
    assert [entries.kind(number) for number in range(len(wanted))] == [entry.kind for entry in wanted]


def test_find_gives_the_index_or_minus_one() -> None:
    entries = Entries(sample(2000))
    for number, entry in enumerate(entries):
        assert entries.find(entry.path) == number
        assert entries.get(entry.path) == entry
        assert entries.find(entry.path + b"\xff~") == -1
    assert entries.find(b"") == -1
    assert entries.get(b"\xff") is None
    assert Entries([]).find(b"a") == -1


def test_below_is_the_range_of_all_descendants_whatever_sorts_between() -> None:
    given = [b"a", b"a-b", b"a/x", b"a/x/y", b"a0", b"b", b"b/z"]
    entries = Entries(Entry(path, Kind.DIRECTORY, 0o755, 0, 0, 0) for path in given)
    assert [entries.path(index) for index in entries.below(b"a")] == [b"a/x", b"a/x/y"]
    assert [entries.path(index) for index in entries.below(b"a/x/y")] == []
    assert [entries.path(index) for index in entries.below(b"")] == given
    big = Entries(sample(3000))
    for directory in (b"usr", b"a", b"lib/a", b"nowhere", b"x" * 90):
        wanted = [entry.path for entry in big if entry.path.startswith(directory + b"/")]
        assert [big.path(index) for index in big.below(directory)] == wanted


def test_the_root_is_not_below_itself() -> None:
    entries = Entries([Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0), Entry(b"a", Kind.FILE, 0o644, 0, 0, 1)])
    assert list(entries.below(b"")) == [1]


def test_an_index_out_of_range_is_an_index_error() -> None:
    entries = Entries(sample(10))
    for index in (-1, len(entries), 1 << 40):
        with pytest.raises(IndexError):
            entries[index]


def test_sorted_runs_merge_by_path_and_then_by_place_in_the_tar() -> None:
    rows = [Row(b"p%d" % (number * 37 % 100), number, 0, 0o644, 0, 0, number, b"", b"") for number in range(1000)]
    runs = []
    for start in range(0, 1000, 250):
        run = Columns(serials=True)
        run.extend(sorted(rows[start : start + 250]))
        runs.append(run)
    assert list(merge_runs(runs)) == sorted(rows)


def test_h028_names_and_columns_of_a_million_files_stay_small() -> None:
    columns = Columns()
    count = 300_000
    columns.extend(
        Row(b"opt/app/node_modules/package-%04d/dist/file-%06d.js" % (n // 100, n), n, 0, 0o644, 0, 0, n, b"", b"")
        for n in range(count)
    )
    numbers = sum(len(column) * column.itemsize for column in (columns.modes, columns.uids, columns.gids, columns.sizes))
    assert (numbers + len(columns.kinds)) / count <= 40
    assert columns.kept_bytes / count <= 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    entries = Entries.from_columns(columns, {}, {})
    assert entries.find(b"opt/app/node_modules/package-2999/dist/file-299999.js") == count - 1
    assert sum(1 for _ in entries) == count
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10, "walking over entries keeps them"


def test_names_too_long_for_one_block_are_split_over_several() -> None:
    given = [Entry(b"%04d/" % number + b"d" * 4000, Kind.SYMLINK, 0o777, 0, 0, 0, link=b"t" * 4000) for number in range(300)]
    entries = Entries(given)
    assert list(entries) == given
    assert len(entries.columns.blocks) > 2
