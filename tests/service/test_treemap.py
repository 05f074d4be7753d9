"""Treemaps as numbers, and two reports side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analyzers.finding import Finding, LayerSummary, Report, Severity, Weight
from service.comparison import compare
from service.treemap import Box, Tile, squarify, treemap
from tests.make.reports import digest, failing, starting


def overlap(one: Tile, other: Tile) -> bool:
    return (
        one.x < other.x + other.width - 1e-6
        and other.x < one.x + one.width - 1e-6
        and one.y < other.y + other.height - 1e-6
        and other.y < one.y + one.height - 1e-6
    )


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=60))
def test_areas_are_in_proportion_and_fill_the_box(sizes: list[int]) -> None:
    sizes.sort(reverse=True)
    boxes = squarify(sizes, Box(0, 0, 800, 400))
    areas = [box.width * box.height for box in boxes]
    for size, area in zip(sizes, areas, strict=True):
        assert abs(area - size / sum(sizes) * 800 * 400) < 1
    assert all(box.x >= -1e-6 and box.x + box.width <= 800.001 and box.y + box.height <= 400.001 for box in boxes)


TREE = (
    Weight("/", 1000, 50),
    Weight("/usr", 800, 40),
    Weight("/usr/lib", 600, 30),
    Weight("/usr/lib/jvm", 500, 20),
    Weight("/usr/bin", 150, 9),
    Weight("/opt", 150, 8),
)


def test_a_directory_has_its_children_on_it_and_what_is_its_own() -> None:
    tiles = treemap(TREE, (), 900, 500)
    assert {(tile.path, tile.own) for tile in tiles if tile.depth == 0} == {("/usr", False), ("/opt", False), ("/", True)}
    assert {(tile.path, tile.own) for tile in tiles if tile.depth == 1} == {
        ("/usr/lib", False), ("/usr/bin", False), ("/usr", True),
    }  # fmt: skip
    assert next(tile.size_bytes for tile in tiles if tile.path == "/" and tile.own) == 50


def test_tiles_of_one_depth_do_not_overlap_and_stay_on_their_directory() -> None:
    tiles = treemap(TREE, (), 900, 500)
    for depth in range(3):
        level = [tile for tile in tiles if tile.depth == depth]
        assert not any(overlap(one, other) for at, one in enumerate(level) for other in level[:at])
    usr = next(tile for tile in tiles if tile.path == "/usr" and not tile.own)
    inside = [tile for tile in tiles if tile.depth == 1]
    assert all(tile.x >= usr.x and tile.x + tile.width <= usr.x + usr.width + 1e-6 for tile in inside)


def test_a_big_file_lies_on_its_directory_and_leaves_the_rest() -> None:
    tiles = treemap(TREE, (Weight("/opt/app", 140, 1),), 900, 500)
    inside = {(tile.name, tile.own): tile.size_bytes for tile in tiles if tile.depth == 1 and tile.path.startswith("/opt")}
    assert inside == {("app", False): 140, ("opt", True): 10}


def test_an_empty_image_has_no_treemap() -> None:
    assert treemap((), (), 10, 10) == []
    assert treemap((Weight("/", 0, 0),), (), 10, 10) == []


def with_tree(*directories: Weight, **more: object) -> Report:
    return starting(1, directories=directories, **more)


def test_what_is_new_and_what_is_gone() -> None:
    before, after = starting(1), failing(2)
    compared = compare(before, after)
    assert not compared.same_verdict
    assert [each.rule for each in compared.new_findings] == [each.rule for each in after.findings]
    assert compared.gone_findings == ()
    back = compare(after, before)
    assert [each.rule for each in back.gone_findings] == [each.rule for each in after.findings]


def test_the_same_finding_in_another_layer_is_the_same() -> None:
    one = Finding("a.b", Severity.WARNING, "m", "/x", 1)
    other = Finding("a.b", Severity.WARNING, "m", "/x", 2)
    compared = compare(starting(1, findings=(one,)), starting(2, findings=(other,)))
    assert (compared.new_findings, compared.gone_findings) == ((), ())


def test_layers_part_where_they_first_differ() -> None:
    layers = [LayerSummary(digest(number)) for number in range(4)]
    compared = compare(starting(1, layers=tuple(layers[:3])), starting(2, layers=(layers[0], layers[3], layers[2])))
    assert compared.shared_layers == 1
    assert compared.new_layers == (layers[3], layers[2])
    assert compared.gone_layers == (layers[1], layers[2])


def test_the_place_that_grew_is_told_and_not_every_directory_above_it() -> None:
    before = with_tree(Weight("/", 100), Weight("/usr", 80), Weight("/usr/lib", 50), Weight("/opt", 20))
    after = with_tree(Weight("/", 140), Weight("/usr", 120), Weight("/usr/lib", 90), Weight("/opt", 20))
    assert [(each.path, each.grown_bytes) for each in compare(before, after).places] == [("/usr/lib", 40)]
