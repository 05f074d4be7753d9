"""enoent ldd: a tree an object, how each library was found, one JSON object a line, and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyzers.finding import Attempt, Outcome, State, Step
from analyzers.linkage import ObjectListing
from service.ldd_text import listing_jsonl, listing_lines, object_lines
from service.scan import Listing, objects_status
from service.terminal import paint
from tests.make.command import Command
from tests.make.images import Image, oci_layout
from tests.make.layers import file, program, tar_of
from tests.make.starts import TRUE, tiny

KEYS = [
    "platform", "path", "interpreter", "verdict", "error", "needed", "unmet_versions", "unbound_symbols", "layer", "tree",
]  # fmt: skip
DYNAMIC = program(tiny(interp=b"/lib64/ld-linux-x86-64.so.2"))
LAYER = tar_of({"bin/app": DYNAMIC, "bin/static": TRUE, "etc/motd": file("x")})
IMAGE = Image(layers=(LAYER,), entrypoint=["/bin/app"])


def found(path: str, origin: str, outcome: Outcome = Outcome.FOUND, whose: str = "", detail: str = "") -> Attempt:
    return Attempt(origin, path, outcome, whose=whose, detail=detail, layer=0 if outcome is Outcome.FOUND else None)


TREE = (
    Step("exec", "/opt/tool", path="/opt/tool", layer=1),
    Step("interpreter", "/lib64/ld-linux-x86-64.so.2", "/opt/tool", "/lib/ld-linux-x86-64.so.2", layer=0,
         attempts=(found("/lib64/ld-linux-x86-64.so.2", "PT_INTERP"),)),
    Step("library", "libshop.so", "/opt/tool", "/opt/lib/libshop.so.1", layer=1,
         attempts=(found("/opt/lib/libshop.so", "DT_RUNPATH"),)),
    Step("library", "libc.so.6", "/opt/tool", "/lib/libc.so.6", layer=0, attempts=(found("/lib64/libc.so.6", "ld.so.cache"),)),
    Step("library", "libcart.so", "/opt/lib/libshop.so", "/opt/lib/libcart.so", layer=1,
         attempts=(found("/opt/lib/libcart.so", "DT_RPATH", whose="/opt/tool"),)),
    Step("library", "libpay.so.2", "/opt/lib/libcart.so", ok=False, attempts=(
        Attempt("DT_RUNPATH", "", Outcome.SKIPPED, detail="not inherited"),
        found("/lib64/libpay.so.2", "default directory", Outcome.ABSENT),
        found("/usr/lib64/libpay.so.2", "default directory", Outcome.WRONG_CLASS, detail="32 bit"),
    )),
)  # fmt: skip
MISSING = ObjectListing(
    path="/opt/tool", interpreter="/lib64/ld-linux-x86-64.so.2", verdict=State.FAILS, layer=1, tree=TREE,
    error="/opt/tool: error while loading shared libraries: libpay.so.2: cannot open shared object file",
    needed={"libshop.so": "/opt/lib/libshop.so.1", "libc.so.6": "/lib/libc.so.6"},
)  # fmt: skip


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arm = Image(layers=(LAYER,), entrypoint=["/bin/app"], platform="linux/s390x")
    amd = Image(layers=(LAYER,), entrypoint=["/bin/app"])
    return oci_layout(tmp_path_factory.mktemp("ldd"), {"1": IMAGE, "both": [amd, arm]})


def test_libraries_hang_below_who_wants_them_with_how_they_were_found_and_whose_run_path_it_was() -> None:
    assert paint(object_lines(MISSING)).splitlines() == [
        "✗ /opt/tool  /lib64/ld-linux-x86-64.so.2                                 layer 1",
        "  /opt/tool: error while loading shared libraries: libpay.so.2: cannot open shared object file",
        "├─ ✓ interpreter /lib64/ld-linux-x86-64.so.2                             layer 0",
        "│     → /lib/ld-linux-x86-64.so.2",
        "├─ ✓ libshop.so → /opt/lib/libshop.so.1  (DT_RUNPATH)                    layer 1",
        "│  └─ ✓ libcart.so → /opt/lib/libcart.so  (DT_RPATH of /opt/tool)        layer 1",
        "│     └─ ✗ library libpay.so.2",
        "│        ├─ DT_RUNPATH  skipped: not inherited",
        "│        └─ default directory",
        "│           ├─ /lib64/libpay.so.2      absent",
        "│           └─ /usr/lib64/libpay.so.2  wrong ELF class: 32 bit",
        "└─ ✓ libc.so.6 → /lib/libc.so.6  (ld.so.cache)                           layer 0",
    ]


def test_what_is_unmet_and_unbound_stands_in_the_tree() -> None:
    listing = ObjectListing(
        path="/app",
        verdict=State.FAILS,
        error="too old",
        unmet_versions=("GLIBC_2.38 of /lib/libc.so.6",),
        unbound_symbols=("f@V1",),
    )
    assert paint(object_lines(listing)).splitlines() == [
        "✗ /app", "  too old", "├─ ✗ version GLIBC_2.38 of /lib/libc.so.6", "└─ ✗ symbol f@V1",
    ]  # fmt: skip


def test_what_a_library_leaves_to_its_program_is_a_doubt_and_not_endless() -> None:
    listing = ObjectListing(path="/plugin.so", unbound_symbols=tuple(f"f{number}, wanted by /plugin.so" for number in range(9)))
    assert paint(object_lines(listing)).splitlines() == [
        "✓ /plugin.so  needs nothing",
        "├─ ? symbol f0, wanted by /plugin.so",
        "├─ ? symbol f1, wanted by /plugin.so",
        "├─ ? symbol f2, wanted by /plugin.so",
        "└─ ? 6 more symbols, as --verbose and jsonl tell",
    ]
    assert len(paint(object_lines(listing, verbose=True)).splitlines()) == 10


def test_names_from_an_image_stay_on_their_line() -> None:
    evil = ObjectListing(path="/a\nb\x1b[2J", verdict=State.FAILS, error="x\x07", needed={"\x1b": None}, tree=(
        Step("library", "lib\x1b[31m.so\n", "/a", ok=False, attempts=(found("/lib/\u202e", "path", Outcome.ABSENT),)),
    ))  # fmt: skip
    shown = paint(listing_lines([Listing("linux/amd64", (evil,))]))
    assert len(shown.splitlines()) == 4
    assert not any(character in shown for character in "\x1b\x07\u202e")


def test_without_a_path_it_is_the_program_that_the_image_starts(enoent: Command, layout: Path) -> None:
    said = enoent("ldd", f"oci:{layout}:1")
    assert (said.status, said.err) == (1, "")
    assert said.out.splitlines()[:3] == [
        "✗ /bin/app  /lib64/ld-linux-x86-64.so.2                                  layer 0",
        "  no such file or directory",
        "└─ ✗ interpreter /lib64/ld-linux-x86-64.so.2",
    ]


def test_a_start_that_ends_before_any_program_says_so(enoent: Command, layout: Path) -> None:
    said = enoent("ldd", f"oci:{layout}:1", "--env", "PATH=/bin", "--platform", "linux/amd64", "--user", "ghost")
    assert said.status == 1
    assert "unable to find user ghost: no matching entries in passwd file" in said.out
    other = enoent("ldd", f"oci:{layout}:both", "--platform", "linux/s390x")
    assert "exec /bin/app: exec format error" in other.out


@pytest.mark.parametrize(("paths", "status", "verdicts"), [
    (["/bin/static"], 0, ["starts"]),
    (["/bin/app"], 1, ["fails"]),
    (["/bin/static", "bin/app"], 1, ["starts", "fails"]),
    (["/bin/none"], 1, ["fails"]),
    (["/etc/motd"], 1, ["fails"]),
    (["--all"], 1, ["fails", "starts"]),
])  # fmt: skip
def test_programs_get_one_object_a_line_with_every_key(
    enoent: Command, layout: Path, paths: list[str], status: int, verdicts: list[str]
) -> None:
    said = enoent("ldd", f"oci:{layout}:1", *paths, "--format", "jsonl")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert said.status == status
    assert [row["verdict"] for row in rows] == verdicts
    assert all(list(row) == KEYS for row in rows)
    assert all(bool(row["error"]) == (row["verdict"] == "fails") for row in rows)


def test_needed_is_null_where_nothing_was_found() -> None:
    (line,) = listing_jsonl([Listing("linux/amd64", (ObjectListing(path="/a", needed={"libx.so": None}),))]).splitlines()
    assert json.loads(line)["needed"] == {"libx.so": None}


def test_all_is_one_line_for_what_is_fine_and_a_sum_at_the_end(enoent: Command, layout: Path) -> None:
    lines = enoent("ldd", f"oci:{layout}:1", "--all").out.splitlines()
    assert lines[-1] == "2 objects: 1 would be loaded, 1 would not"
    assert sum("/bin/static" in line for line in lines) == 1


def test_of_an_index_it_is_this_machines_platform_unless_another_is_chosen(enoent: Command, layout: Path) -> None:
    def platforms(*words: str) -> list[str]:
        said = enoent("ldd", f"oci:{layout}:both", "--format", "jsonl", *words)
        return [json.loads(line)["platform"] for line in said.out.splitlines()]

    assert platforms("--platform", "linux/s390x") == ["linux/s390x"]
    assert platforms("--platform", "linux/s390x", "--platform", "linux/amd64") == ["linux/amd64", "linux/s390x"]
    assert len(platforms()) in (1, 2)  # 2 where this machine is neither


@pytest.mark.parametrize(("verdicts", "status"), [
    ([], 2), ([State.STARTS], 0), ([State.STARTS, State.UNKNOWN], 2), ([State.UNKNOWN, State.FAILS], 1),
])  # fmt: skip
def test_one_object_that_fails_decides(verdicts: list[State], status: int) -> None:
    assert objects_status([ObjectListing(path="/x", verdict=verdict) for verdict in verdicts]) == status


def test_an_image_that_cannot_be_read_is_undecided(enoent: Command) -> None:
    said = enoent("ldd", "oci:/nowhere")
    assert (said.status, said.out, said.err) == (2, "", "enoent: oci:/nowhere: /nowhere is not a folder\n")
