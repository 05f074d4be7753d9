"""Bytes of layers, and those that later layers hide: each wasted byte counted once."""

from __future__ import annotations

from analyzers.facts import LayerFacts
from analyzers.rootfs import Rootfs
from analyzers.size import ImageSize, measure
from tests.make.views import elf, elf_facts, file, folder, hardlink, layer, symlink


def sized(*layers: LayerFacts) -> ImageSize:
    return measure(Rootfs(layers))


def wasted(*layers: LayerFacts) -> list[int]:
    return [each.wasted_bytes for each in sized(*layers).layers]


BIG = file("x" * 1000)


def test_bytes_and_entries_of_each_layer() -> None:
    first, second = sized(layer({"d/a": BIG, "s": symlink("d/a")}), layer({"b": file("xx")})).layers
    assert (first.file_bytes, first.entries) == (1000, 3)
    assert (second.file_bytes, second.entries) == (2, 1)


def test_a_replaced_file_is_wasted() -> None:
    assert wasted(layer({"a": BIG}), layer({"a": file("y")})) == [1000, 0]


def test_a_file_replaced_twice_is_wasted_once_in_each_layer_that_brought_it() -> None:
    assert wasted(layer({"a": BIG}), layer({"a": BIG}), layer({"a": BIG})) == [1000, 1000, 0]


def test_a_deleted_file_is_wasted() -> None:
    assert wasted(layer({"d/a": BIG}), layer({"d": folder()}, whiteouts=("d/a",))) == [1000, 0]


def test_a_file_deleted_and_brought_again_is_wasted_once() -> None:
    assert wasted(layer({"a": BIG}), layer({}, whiteouts=("a",)), layer({"a": BIG})) == [1000, 0, 0]


def test_what_lies_below_a_deleted_directory_is_wasted() -> None:
    assert wasted(layer({"d/e/a": BIG}), layer({}, whiteouts=("d",)), layer({"d/e/b": BIG})) == [1000, 0, 0]


def test_what_an_opaque_directory_hides_is_wasted() -> None:
    assert wasted(layer({"d/a": BIG}), layer({"d/b": BIG}, opaques=("d",))) == [1000, 0]


def test_a_directory_over_a_file_and_a_file_over_a_directory_waste_what_was_there() -> None:
    assert wasted(layer({"d": BIG}), layer({"d": folder()})) == [1000, 0]
    assert wasted(layer({"d/a": BIG}), layer({"d": file("f")})) == [1000, 0]


def test_a_touched_directory_wastes_nothing() -> None:
    assert wasted(layer({"d/a": BIG}), layer({"d": folder(0o700)})) == [0, 0]


def test_hard_links_have_no_bytes_of_their_own() -> None:
    size = sized(layer({"a": BIG, "b": hardlink("a")}))
    assert (size.layers[0].file_bytes, size.files) == (1000, 2)


def test_what_the_runtime_mounts_over_is_not_wasted_by_a_layer() -> None:
    assert wasted(layer({"etc/hosts": BIG, "dev/x": BIG})) == [0]


def test_elf_files_are_counted_where_they_are_visible() -> None:
    program = elf(elf_facts())
    size = sized(layer({"a": program, "b": program, "c": BIG}), layer({}, whiteouts=("a",)))
    assert (size.files, size.elf_files) == (2, 1)
