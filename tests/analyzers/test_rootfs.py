"""The merged view: one test a sentence of the layer specification and of the kernel's path walk."""

from __future__ import annotations

import pytest

from analyzers.accounts import Credentials
from analyzers.facts import Coverage, LayerFacts, Unread
from analyzers.profile import HostProfile
from analyzers.rootfs import Resolution, Rootfs
from tests.make.views import elf, elf_facts, file, folder, hardlink, layer, script, symlink


def look(path: str, *layers: LayerFacts) -> Resolution:
    return Rootfs(layers).resolve(path.encode())


def layer_holding(path: str, *layers: LayerFacts) -> int:
    found = look(path, *layers)
    assert found.node is not None, found
    return found.node.layer


def error(path: str, *layers: LayerFacts) -> str:
    return look(path, *layers).error


# -- whiteouts, opaque directories, type changes --


def test_a_higher_layer_replaces_a_file() -> None:
    assert layer_holding("/a", layer({"a": "1"}), layer({"a": "2"})) == 1


def test_a_whiteout_hides_the_lower_file() -> None:
    assert error("/d/a", layer({"d/a": "1"}), layer({"d": folder()}, whiteouts=("d/a",))) == "ENOENT"


def test_a_whiteout_of_a_directory_hides_all_below_it() -> None:
    assert error("/d/e/f", layer({"d/e/f": "1"}), layer({}, whiteouts=("d",))) == "ENOENT"


def test_h008_a_whiteout_hides_only_lower_layers() -> None:
    assert layer_holding("/a", layer({"a": "1"}), layer({"a": "2"}, whiteouts=("a",))) == 1


def test_h008_a_whited_out_directory_made_again_is_empty_but_for_the_new() -> None:
    layers = (layer({"d/old": "1"}), layer({"d/new": "2"}, whiteouts=("d",)))
    assert error("/d/old", *layers) == "ENOENT"
    assert layer_holding("/d/new", *layers) == 1


def test_h009_an_opaque_directory_hides_lower_content_and_keeps_its_own() -> None:
    layers = (layer({"d/old": "1", "d/sub/x": "1"}), layer({"d/new": "2", "d/sub": folder()}, opaques=("d",)))
    assert error("/d/old", *layers) == "ENOENT"
    assert error("/d/sub/x", *layers) == "ENOENT"
    assert layer_holding("/d/new", *layers) == 1


def test_h009_opaque_and_plain_whiteout_together_are_the_same() -> None:
    layers = (layer({"d/old": "1"}), layer({"d/new": "2"}, opaques=("d",), whiteouts=("d/old",)))
    assert error("/d/old", *layers) == "ENOENT"
    assert layer_holding("/d/new", *layers) == 1


def test_an_opaque_root_hides_nothing_and_is_remarked_on() -> None:
    layers = (layer({"a": "1", "d/x": "1"}), layer({"b": "2", "d/y": "2"}, opaques=("",)))
    assert layer_holding("/a", *layers) == layer_holding("/d/x", *layers) == 0
    assert layer_holding("/d/y", *layers) == 1
    assert [(note.layer, note.note.code) for note in Rootfs(layers).notes] == [(1, "opaque-root")]


def test_a_file_over_a_directory_removes_what_was_below() -> None:
    layers = (layer({"d/x": "1"}), layer({"d": "file"}), layer({"d/y": "3"}))
    assert error("/d/x", *layers[:2]) == "ENOTDIR"
    assert error("/d/x", *layers) == "ENOENT"
    assert layer_holding("/d/y", *layers) == 2


def test_h006_directory_replaced_by_symlink_and_back() -> None:
    first = layer({"d/x": "1", "other/x": "1"})
    second = layer({"d": symlink("other")})
    third = layer({"d": folder(), "d/y": "3"})
    assert look("/d/x", first, second).path == b"other/x"
    assert error("/d/x", first, second, third) == "ENOENT"
    assert layer_holding("/d/y", first, second, third) == 2


def test_directory_metadata_is_that_of_the_topmost_layer_listing_it() -> None:
    rootfs = Rootfs((layer({"d": folder(0o755), "d/x": "1"}), layer({"d": folder(0o700)})))
    node = rootfs.resolve(b"/d").node
    assert node is not None
    assert node.entry.mode == 0o700


def test_directories_that_no_layer_lists_are_made() -> None:
    node = Rootfs((layer({"a/b/c": "1"}, parents=False),)).resolve(b"/a/b").node
    assert node is not None
    assert (node.entry.mode, node.entry.uid) == (0o755, 0)


# -- layers over symlinked parents: what Docker and containerd do is seen in tests/fleet/test_snapshotter.py --

MERGED_USR = {"usr/lib/old.so": file(), "lib": symlink("usr/lib")}


def test_h002_an_entry_under_a_lower_symlink_takes_the_place_of_the_link() -> None:
    layers = (layer(MERGED_USR), layer({"lib/x.so": "2"}, parents=False))
    assert look("/lib/x.so", *layers).path == b"lib/x.so"
    assert error("/lib/old.so", *layers) == error("/usr/lib/x.so", *layers) == "ENOENT"
    assert layer_holding("/usr/lib/old.so", *layers) == 0


def test_an_entry_under_a_lower_symlink_is_noted_because_other_unpackers_follow_it() -> None:
    notes = Rootfs((layer(MERGED_USR), layer({"lib/x.so": "2"}, parents=False))).notes
    assert [(each.layer, each.note.code, each.note.path, each.note.detail) for each in notes] == [
        (1, "symlinked-parent", b"lib", "/usr/lib")
    ]


def test_a_listed_directory_replaces_the_lower_symlink() -> None:
    layers = (layer(MERGED_USR), layer({"lib/x.so": "2"}))
    assert error("/usr/lib/x.so", *layers) == "ENOENT"
    assert error("/lib/old.so", *layers) == "ENOENT"


def test_h002_a_symlink_out_of_the_root_leads_nothing_out() -> None:
    layers = (layer({"esc": symlink("../../outside")}), layer({"esc/f": "2"}, parents=False))
    assert look("/esc/f", *layers).path == b"esc/f"
    assert error("/outside/f", *layers) == "ENOENT"


def test_h010_a_whiteout_under_a_lower_symlink_takes_its_place_and_deletes_nothing_behind_it() -> None:
    layers = (layer(MERGED_USR), layer({}, whiteouts=("lib/old.so",)))
    assert error("/lib/old.so", *layers) == "ENOENT"
    assert layer_holding("/usr/lib/old.so", *layers) == 0


def test_h010_so_does_an_opaque_mark() -> None:
    layers = (layer(MERGED_USR), layer({}, opaques=("lib",), parents=False))
    assert error("/lib/old.so", *layers) == "ENOENT"
    assert look("/lib", *layers).node is not None
    assert layer_holding("/usr/lib/old.so", *layers) == 0


@pytest.mark.parametrize(("bare", "mode", "owner"), [(True, 0o755, 0), (False, 0o700, 7)])
def test_a_directory_that_a_layer_implies_is_made_anew_by_overlay2_and_kept_by_containerd(
    bare: bool, mode: int, owner: int
) -> None:
    lower = layer({"d": folder(0o700, 7, 7), "d/old": "1"})
    for upper in (layer({"d/new": "2"}, parents=False), layer({}, whiteouts=("d/old",))):
        node = Rootfs((lower, upper), bare_parents=bare).resolve(b"/d").node
        assert node is not None
        assert (node.entry.mode, node.entry.uid) == (mode, owner)
    assert HostProfile().bare_parents
    assert not HostProfile(engine="containerd").bare_parents


# -- hard links --


def test_h003_a_hard_link_is_the_same_inode_as_its_target() -> None:
    rootfs = Rootfs((layer({"a": "1", "b": hardlink("a")}),))
    a, b = rootfs.resolve(b"/a").node, rootfs.resolve(b"/b").node
    assert a is not None
    assert b is not None
    assert a.identity == b.identity
    assert b.path == b"b"


def test_h003_a_hard_link_to_nothing_is_absent() -> None:
    assert error("/b", layer({"b": hardlink("missing")})) == "ENOENT"


def test_a_hard_link_keeps_the_inode_when_a_higher_layer_replaces_the_target() -> None:
    rootfs = Rootfs((layer({"a": elf(elf_facts()), "b": hardlink("a")}), layer({"a": "2"})))
    b = rootfs.resolve(b"/b").node
    assert b is not None
    assert rootfs.elf(b) is not None


def test_a_hard_link_reaches_a_lower_layer() -> None:
    assert layer_holding("/b", layer({"a": "1"}), layer({"b": hardlink("a")})) == 0


def test_h004_a_hard_link_to_a_symlink_is_that_symlink() -> None:
    rootfs = Rootfs((layer({"target": "1", "s": symlink("target"), "h": hardlink("s")}),))
    found = rootfs.resolve(b"/h")
    assert (found.path, found.links) == (b"target", (b"h",))
    kept = rootfs.resolve(b"/h", follow=False).node
    assert kept is not None
    assert kept.entry.link == b"target"


def test_hard_links_to_each_other_are_absent() -> None:
    assert error("/a", layer({"a": hardlink("b"), "b": hardlink("a")})) == "ENOENT"


# -- the kernel's walk --


def test_h001_dots_cannot_leave_the_root() -> None:
    assert look("/../../a/./../a", layer({"a": folder()})).path == b"a"


def test_absolute_links_restart_at_the_root_and_relative_ones_at_their_directory() -> None:
    image = layer({"d/abs": symlink("/a"), "d/rel": symlink("x"), "a": "1", "d/x": "2"})
    assert look("/d/abs", image).path == b"a"
    assert look("/d/rel", image).path == b"d/x"


def test_h005_forty_links_resolve_and_forty_one_do_not() -> None:
    chain = {f"l{i}": symlink(f"l{i + 1}") for i in range(41)}
    image = layer({**chain, "l41": "end"})
    assert look("/l1", image).path == b"l41"
    assert error("/l0", image) == "ELOOP"


def test_h005_links_of_directories_and_of_the_file_are_counted_together() -> None:
    chain = {f"d{i}": symlink(f"d{i + 1}") for i in range(30)}
    files = {f"real/f{i}": symlink(f"f{i + 1}") for i in range(11)}
    image = layer({**chain, "d30": symlink("real"), **files, "real/f11": "end"})
    assert look("/d0/f2", image).path == b"real/f11"
    assert error("/d0/f1", image) == "ELOOP"


def test_h005_cycles_and_exponential_fan_out_end() -> None:
    fan = {f"x{i}": symlink(f"x{i + 1}/../x{i + 1}") for i in range(60)}
    image = layer({"a": symlink("b"), "b": symlink("a"), **fan, "x60": folder()})
    assert error("/a", image) == "ELOOP"
    assert error("/x0", image) == "ELOOP"


def test_h005_a_chain_of_10000_links_ends() -> None:
    image = layer({f"l{i}": symlink(f"l{i + 1}") for i in range(10000)})
    assert error("/l0", image) == "ELOOP"


def test_a_directory_as_deep_as_paths_go_is_found() -> None:
    deep = "/".join(["d"] * 2000)
    assert look("/" + deep + "/f", layer({deep + "/f": "1"})).node is not None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/missing", "ENOENT"),
        ("/f/x", "ENOTDIR"),
        ("/f/", "ENOTDIR"),
        ("/f/.", "ENOTDIR"),
        ("/d/", ""),
        ("/tofile/", "ENOTDIR"),
        ("/tofile", ""),
        ("/" + "n" * 256, "ENAMETOOLONG"),
        ("/" + "d/" * 2048, "ENAMETOOLONG"),
        ("", "ENOENT"),
        ("/empty", "ENOENT"),
    ],
)
def test_errors_of_the_walk(path: str, expected: str) -> None:
    image = layer({"f": "1", "d": folder(), "tofile": symlink("f"), "empty": symlink("")})
    assert error(path, image) == expected


def test_a_link_to_nothing_is_dangling_and_a_missing_file_in_a_linked_directory_is_not() -> None:
    image = layer({"gone": symlink("nowhere"), "lib": symlink("usr/lib"), "usr/lib": folder(), "dd": symlink("no/dir")})
    assert look("/gone", image).dangling
    assert look("/dd/x", image).dangling
    assert not look("/lib/x", image).dangling


def test_relative_paths_start_in_the_working_directory() -> None:
    rootfs = Rootfs((layer({"app/run": "1", "top": "2", "wd": symlink("app")}),))
    assert rootfs.resolve(b"run", cwd=b"app").path == b"app/run"
    assert rootfs.resolve(b"./run", cwd=b"/app").path == b"app/run"
    assert rootfs.resolve(b"run", cwd=b"wd").path == b"app/run"
    assert rootfs.resolve(b"../top", cwd=b"app").path == b"top"
    assert rootfs.resolve(b"/top", cwd=b"app").path == b"top"


def test_directories_without_search_permission_stop_the_walk() -> None:
    rootfs = Rootfs((layer({"d": folder(0o700), "d/x": "1", "g": folder(0o750, gid=7), "g/x": "1"}),))
    user = Credentials(1000, 1000)
    assert rootfs.resolve(b"/d/x", creds=user).error == "EACCES"
    assert rootfs.resolve(b"/d/x", creds=Credentials(1000, 1000, (), True)).error == ""
    assert rootfs.resolve(b"/g/x", creds=user).error == "EACCES"
    assert rootfs.resolve(b"/g/x", creds=Credentials(1000, 1000, (7,))).error == ""
    assert rootfs.resolve(b"/d/x").error == ""


def test_permission_classes_are_tried_in_order_and_the_first_decides() -> None:
    rootfs = Rootfs((layer({"f": script("#!x", 0o077, uid=5, gid=6)}),))
    node = rootfs.resolve(b"/f").node
    assert node is not None
    assert not rootfs.may_execute(node, Credentials(5, 6))
    assert rootfs.may_execute(node, Credentials(1, 6))
    assert rootfs.may_read(node, Credentials(1, 1))
    assert rootfs.may_execute(node, Credentials(5, 6, (), True))


# -- what the runtime puts on top --


@pytest.mark.parametrize("path", ["/proc/prog", "/sys/prog", "/dev/prog"])
def test_image_content_under_the_runtimes_mounts_is_absent(path: str) -> None:
    assert error(path, layer({path[1:]: elf(elf_facts())})) == "ENOENT"


@pytest.mark.parametrize("path", ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"])
def test_files_that_the_runtime_mounts_hide_the_images(path: str) -> None:
    rootfs = Rootfs((layer({path[1:]: elf(elf_facts())}),))
    node = rootfs.resolve(path.encode()).node
    assert node is not None
    assert rootfs.elf(node) is None
    assert rootfs.layer_of(node) is None
    assert not rootfs.may_execute(node, Credentials(0, 0, (), True))


def test_the_runtimes_own_paths_are_not_listed() -> None:
    assert [node.path for node in Rootfs((layer({"a": "1", "dev/x": "1"}),)).nodes()] == [b"a"]


# -- the list, and what was not seen --


def test_nodes_lists_every_visible_path_once_sorted() -> None:
    layers = (layer({"a": "1", "d/x": "1", "d/y": "1"}), layer({"a": "2", "d/z": "2"}, whiteouts=("d/x",)))
    assert [(node.path, node.layer) for node in Rootfs(layers).nodes()] == [
        (b"a", 1),
        (b"d", 1),
        (b"d/y", 0),
        (b"d/z", 1),
    ]


def test_what_a_partial_layer_might_hold_is_unknown() -> None:
    cut = (Unread(b"", "entry-limit"),)
    rootfs = Rootfs((layer({"low": "1"}), layer({"mid": "1"}, coverage=Coverage.PARTIAL, unread=cut), layer({"top": "1"})))
    assert rootfs.partial
    assert rootfs.resolve(b"/missing").unknown
    assert rootfs.resolve(b"/low").unknown
    assert not rootfs.resolve(b"/mid").unknown
    assert not rootfs.resolve(b"/top").unknown


def test_an_unread_file_makes_nothing_else_unknown() -> None:
    rootfs = Rootfs((layer({"big": "1"}, coverage=Coverage.PARTIAL, unread=(Unread(b"big", "elf-too-large"),)),))
    node = rootfs.resolve(b"/big").node
    assert node is not None
    assert rootfs.unread(node)
    assert not rootfs.resolve(b"/missing").unknown


def test_elf_nodes_are_the_visible_elf_files_under_each_of_their_names() -> None:
    program, text = elf(elf_facts()), file("x")
    below = layer({"a": program, "b": program, "gone": program, "d/c": program})
    above = layer({"b": text, "e": hardlink("f"), "f": elf(elf_facts(machine=183)), "s": symlink("a")}, whiteouts=("gone",))
    rootfs = Rootfs((below, above))
    assert [node.path for node in rootfs.elf_nodes()] == [b"a", b"d/c", b"e", b"f"]
    assert [node.path for node in rootfs.nodes() if rootfs.elf(node) is not None] == [b"a", b"d/c", b"e", b"f"]
