"""What musl's emulation tells of its searches: every place, its source, what stood there, and what was passed over."""

from __future__ import annotations

import pytest

from analyzers.finding import Outcome, Reason
from analyzers.linkage import list_objects
from analyzers.loader.musl_search import SHOWN_ATTEMPTS
from tests.analyzers.musl_starts import LOADER, USER, calling, details, library, main, root, started, tried
from tests.make.synthetic import IFUNC, Symbol
from tests.make.views import Item, file, folder
from tests.oracle.musl_roots import config_of


def test_every_place_is_told_in_the_order_it_was_looked_at() -> None:
    result = started(
        root({"app/main": main("libb.so", runpath="/r"), "r/libb.so": library("liba.so", rpath="/s"), "lib/liba.so": library()}),
        env=("LD_LIBRARY_PATH=/l:/m",),
    )
    assert result.ok is True
    assert tried(result, "liba.so") == [
        ("LD_LIBRARY_PATH", "/l/liba.so", Outcome.ABSENT, ""),
        ("LD_LIBRARY_PATH", "/m/liba.so", Outcome.ABSENT, ""),
        ("DT_RPATH", "/s/liba.so", Outcome.ABSENT, ""),
        ("DT_RUNPATH", "/r/liba.so", Outcome.ABSENT, "/app/main"),
        ("default directory", "/lib/liba.so", Outcome.FOUND, ""),
    ]
    assert [(each.name, each.path, each.needed_by, each.origin, each.whose) for each in result.objects] == [
        ("/app/main", b"/app/main", None, "", ""),
        ("libb.so", b"/r/libb.so", 0, "DT_RUNPATH", ""),
        ("liba.so", b"/lib/liba.so", 1, "default directory", ""),
    ]


def test_the_path_file_is_named_as_the_source() -> None:
    result = started(root({"app/main": main("liba.so"), "etc/ld-musl-x86_64.path": file("/x"), "x/liba.so": library()}))
    assert tried(result, "liba.so") == [("musl path file", "/x/liba.so", Outcome.FOUND, "")]


@pytest.mark.parametrize(
    ("item", "outcome", "words"),
    [
        (file(""), Outcome.FOUND, "empty"),
        (folder(), Outcome.DIRECTORY, "directory"),
        (file("/x", 0o600), Outcome.DENIED, "cannot be opened"),
    ],
)
def test_a_path_file_that_leaves_no_directory_says_so(item: Item, outcome: Outcome, words: str) -> None:
    result = started(root({"app/main": main("liba.so", "libb.so"), "etc/ld-musl-x86_64.path": item}), creds=USER)
    first, second = (next(step for step in result.steps if step.wanted == name).attempts for name in ("liba.so", "libb.so"))
    assert [(each.origin, each.outcome) for each in first] == [("musl path file", outcome)]
    assert words in first[0].detail
    assert [(each.origin, each.outcome) for each in second] == [("musl path file", Outcome.SKIPPED)]


def test_a_spoilt_run_path_is_told_as_skipped() -> None:
    result = started(root({"app/main": main("liba.so", runpath="/a:$LIB"), "a/liba.so": library()}))
    assert tried(result, "liba.so")[0] == ("DT_RUNPATH", "/a:$LIB", Outcome.SKIPPED, "")
    assert "$" in details(result, "liba.so")[0]


def test_what_a_set_id_program_loses_is_told_as_skipped() -> None:
    items = {"app/main": main("liba.so", runpath="$ORIGIN"), "app/liba.so": library()}
    result = started(root(items), env=("LD_LIBRARY_PATH=/app",), secure=True)
    assert [each[:3] for each in tried(result, "liba.so")[:2]] == [
        ("LD_LIBRARY_PATH", "/app", Outcome.SKIPPED),
        ("DT_RUNPATH", "$ORIGIN", Outcome.SKIPPED),
    ]


def test_a_step_has_at_most_64_attempts_and_the_last_is_the_answer() -> None:
    directories = ":".join(f"/d{number}" for number in range(200))
    result = started(root({"app/main": main("liba.so"), "d199/liba.so": library()}), env=(f"LD_LIBRARY_PATH={directories}",))
    attempts = tried(result, "liba.so")
    assert len(attempts) == SHOWN_ATTEMPTS
    assert attempts[-1] == ("LD_LIBRARY_PATH", "/d199/liba.so", Outcome.FOUND, "")


def test_a_name_that_is_known_already_is_told_once() -> None:
    items = {"app/main": main("libb.so", "liba.so", "libc.so.6"), "lib/libb.so": library("liba.so", "libc.so.6")}
    result = started(root({**items, "lib/liba.so": library("libb.so")}))
    assert [step.wanted for step in result.steps] == ["libb.so", "liba.so", "libc.so.6"]


def test_a_second_search_for_what_is_missing_is_told_again() -> None:
    items = {"app/main": main("libb.so", "libz.so"), "lib/libb.so": library("libz.so", rpath="/r")}
    result = started(root(items))
    assert [(step.wanted, step.by) for step in result.steps if not step.ok] == [
        ("libz.so", "/app/main"),
        ("libz.so", "/lib/libb.so"),
    ]


def test_a_preload_is_a_step_of_its_own() -> None:
    result = started(root({"app/main": main(), "x/p.so": library()}), env=("LD_PRELOAD=/x/p.so gone.so",))
    assert [(step.action, step.wanted, step.by, step.ok) for step in result.steps] == [
        ("preload", "/x/p.so", "LD_PRELOAD", True),
        ("preload", "gone.so", "LD_PRELOAD", False),
    ]
    assert result.ok is True


def test_a_definition_that_musl_does_not_see_is_pointed_at() -> None:
    items = {"app/main": main("liba.so", **calling("f", "g")), "lib/liba.so": library(
        versions=True, symbols=(Symbol("f", type=IFUNC), Symbol("g", hidden_version=True)))}  # fmt: skip
    result = started(root(items))
    assert result.lines == (
        b"Error relocating /app/main: f: symbol not found",
        b"Error relocating /app/main: g: symbol not found",
    )
    near = {step.wanted: step.attempts for step in result.steps if step.action == "symbol"}
    assert [each.origin for each in (*near["f"], *near["g"])] == ["symbol table", "symbol table"]
    assert "IFUNC" in near["f"][0].detail
    assert "older" in near["g"][0].detail


def test_where_a_crash_comes_from_is_told() -> None:
    items = {"app/main": main("liba.so"), "lib/liba.so": library(hashes="none")}
    result = started(root(items))
    assert (result.crash, result.exit_code, result.reason) == ("SIGSEGV", None, Reason.OTHER)
    assert "hash table" in details(result, "liba.so")[-1]


def test_every_needed_name_has_a_place_in_the_listing() -> None:
    """Reserved names are all the loader itself."""
    items = {"app/main": main("libc.so.6", "libm.so.6", "liba.so", "libgone.so"), "lib/liba.so": library()}
    (listing,) = list_objects(config_of(("/app/main",)), [root(items)])
    assert listing.needed == {"libc.so.6": LOADER, "libm.so.6": LOADER, "liba.so": "/lib/liba.so", "libgone.so": None}
