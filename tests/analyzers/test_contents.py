"""What an image carries that it need not, and where its bytes are."""

from __future__ import annotations

import pytest

from analyzers.contents import SHOWN_DIRECTORIES, SHOWN_FILES, Weighing, Weights
from analyzers.facts import LayerFacts
from analyzers.finding import Report
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig
from analyzers.rootfs import Rootfs
from analyzers.size import measure
from tests.make.views import Item, elf, elf_facts, file, folder, hardlink, layer

BIG = file("x" * 1000)


def weighed(*layers: LayerFacts) -> Weights:
    weighing = Weighing()
    measure(Rootfs(layers), weighing)
    return weighing.finish()


def found(*layers: LayerFacts) -> list[tuple[str, str, int, int]]:
    return [(each.kind, each.path, each.size_bytes, each.files) for each in weighed(*layers).contents]


def test_a_directory_weighs_all_that_is_below_it() -> None:
    weights = weighed(layer({"a/b/c": BIG, "a/b-c": file("yy"), "a/d": file("z"), "e": file("eee")}))
    assert [(each.path, each.size_bytes, each.files) for each in weights.directories] == [
        ("/", 1006, 4),
        ("/a", 1003, 3),
        ("/a/b", 1000, 1),
    ]


def test_only_what_is_visible_weighs() -> None:
    weights = weighed(layer({"a/b": BIG, "c": BIG}), layer({"c": file("new")}, whiteouts=("a/b",)))
    assert [(each.path, each.size_bytes, each.layer) for each in weights.biggest] == [("/c", 3, 1)]


def test_the_lists_stay_short_and_keep_the_heaviest() -> None:
    many = {f"d{number:04}/f": file("x" * (number + 1)) for number in range(SHOWN_DIRECTORIES + 50)}
    weights = weighed(layer(many))
    assert len(weights.directories) == SHOWN_DIRECTORIES + 1
    assert len(weights.biggest) == SHOWN_FILES
    assert weights.directories[1].path == f"/d{SHOWN_DIRECTORIES + 49:04}"
    assert "/d0000" not in {each.path for each in weights.directories}


def test_every_listed_directory_has_its_parents_listed() -> None:
    items = {"/".join(f"p{depth}" for depth in range(1, deep)) + f"/f{deep}": file("x" * deep) for deep in range(3, 60)}
    shown = {each.path for each in weighed(layer(items)).directories}
    assert all((path.rpartition("/")[0] or "/") in shown for path in shown)


@pytest.mark.parametrize(
    ("path", "kind", "place"),
    [
        ("var/lib/apt/lists/deb.example_InRelease", "cache", "/var/lib/apt/lists"),
        ("var/cache/apk/APKINDEX.tar.gz", "cache", "/var/cache/apk"),
        ("root/.cache/pip/http/a/b", "cache", "/root/.cache/pip"),
        ("home/app/.npm/_cacache/x", "cache", "/home/app/.npm"),
        ("usr/lib/gcc/x86_64-linux-gnu/12/cc1", "build-tools", "/usr/lib/gcc"),
        ("usr/bin/x86_64-linux-gnu-gcc-12", "build-tools", "/usr/bin"),
        ("usr/bin/ld.bfd", "build-tools", "/usr/bin"),
        ("usr/local/go/bin/go", "build-tools", "/usr/local/go"),
        ("usr/lib/jvm/java-17/jmods/java.base.jmod", "build-tools", "/usr/lib/jvm/java-17/jmods"),
        ("usr/include/stdio.h", "headers", "/usr/include"),
        ("usr/lib/x86_64-linux-gnu/libc.a", "static-libraries", "/usr/lib/x86_64-linux-gnu"),
        ("app/.git/objects/pack/p.pack", "version-control", "/app/.git"),
        (".git/HEAD", "version-control", "/.git"),
    ],
)
def test_what_a_run_stage_need_not_carry(path: str, kind: str, place: str) -> None:
    assert found(layer({path: BIG})) == [(kind, place, 1000, 1)]


@pytest.mark.parametrize(
    "path",
    ["usr/bin/golang-app", "usr/bin/makefile-viewer", "opt/gcc", "app/include/x.h", "data.git/x", "usr/bin/asciinema", "x.a"],
)
def test_names_that_only_look_alike_are_left_alone(path: str) -> None:
    assert found(layer({path: BIG})) == []


def test_a_place_counts_once_and_names_the_layer_that_brought_most() -> None:
    below = layer({"usr/include/a.h": file("xx")}, name="below")
    weights = weighed(below, layer({"usr/include/sys/b.h": BIG}, name="above"))
    assert [(each.size_bytes, each.files, each.layer) for each in weights.contents] == [(1002, 2, 1)]


def test_the_same_content_at_two_paths_is_double_but_a_hard_link_is_not() -> None:
    program = elf(elf_facts(file_size=5000))
    weights = weighed(layer({"a": program, "b": program, "c": program, "d": hardlink("a"), "e": elf(elf_facts(file_size=9))}))
    assert [(each.path, each.size_bytes, each.files) for each in weights.doubles] == [("/a", 10_000, 3)]


def unstripped(debug: int, symbols: int = 30_000, **more: object) -> Item:
    return elf(elf_facts(file_size=9_000_000, debug_bytes=debug, symbol_bytes=symbols, **more))  # type: ignore[arg-type]


def test_debug_information_is_told_by_program_and_the_same_directorys_together() -> None:
    names = {"app/server": unstripped(4_000_000), "lib/a.so": unstripped(0, 500_000), "lib/b.so": unstripped(0, 600_000)}
    assert found(layer(names)) == [("debug", "/app/server", 4_030_000, 1), ("symbols", "/lib", 1_100_000, 2)]


def test_what_lies_in_a_place_already_told_or_is_small_is_not_told_again() -> None:
    names = {"usr/lib/gcc/x/cc1": unstripped(4_000_000), "bin/small": unstripped(0, 9_000), "usr/lib/debug/x.debug": BIG}
    assert [kind for kind, *_ in found(layer(names))] == ["build-tools", "debug"]


@pytest.mark.parametrize(("go", "remedy"), [(True, '-ldflags="-s -w"'), (False, "strip = true")])
def test_an_unstripped_program_is_a_finding_with_the_remedy_of_its_language(go: bool, remedy: str) -> None:
    [finding] = judged(layer({"app/server": unstripped(4_000_000, go_build_info=go)})).findings[-1:]
    assert (finding.rule, finding.severity, finding.subject) == ("size.unstripped", "info", "/app/server")
    assert remedy in finding.remedies[0]


def test_two_thousand_directories_deep_is_no_trouble() -> None:
    weighing = Weighing()
    weighing.see(b"d/" * 2_000 + b"f", 7, 0, b"")
    weighing.see(b"e", 1, 0, b"")
    assert weighing.finish().directories[0].size_bytes == 8


def judged(*layers: LayerFacts) -> Report:
    return judge_image("sha256:" + "0" * 64, ImageConfig(cmd=("/x",)), layers)


def test_megabytes_become_findings_with_a_layer_and_a_remedy_of_their_own() -> None:
    lists = file("x" * 2_000_000)
    report = judged(layer({"var/lib/apt/lists/p": lists, "usr/include": folder(), "usr/include/small.h": BIG}))
    told = [finding for finding in report.findings if finding.rule.startswith("size.")]
    assert [(each.rule, each.subject, each.layer, each.message) for each in told] == [
        ("size.cache", "/var/lib/apt/lists", 0, "2.0 MB: package lists of apt")
    ]
    assert "rm -rf /var/lib/apt/lists" in told[0].remedies[0]
    assert {each.path for each in report.contents} == {"/var/lib/apt/lists", "/usr/include"}
