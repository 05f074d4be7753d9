"""Remedies on a real engine: what is said to mend an image is done to it, and it starts; what is said to fail, fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analyzers.finding import Report, State
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES
from service.bases import Base, fits
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet import programs
from tests.fleet.engine_words import profile_of, seen
from tests.fleet.foretold import Foreteller
from tests.fleet.image import BASES, base_tar
from tests.fleet.run import load, run
from tests.make.elves import ToolAbsent
from tests.make.images import Image
from tests.make.layers import program, tar_of
from tests.make.views import layer

pytestmark = [pytest.mark.docker, pytest.mark.toolchain]

PROGRAMS: dict[str, Callable[[], bytes]] = {
    "hello": programs.hello,
    "rust": programs.rust,
    "cpp": programs.cpp,
    "go": programs.go_net,
    "musl": programs.musl_hello,
    "static": lambda: programs.hello("-static"),
}
TRIED = ("alpine", "busybox-glibc", "debian", "glibc-2.31")


@pytest.fixture(scope="module")
def foreteller() -> Foreteller:
    return Foreteller()


@pytest.fixture(scope="module")
def profile(engine: Engine) -> HostProfile:
    return profile_of(engine)


def on(base: str, name: str) -> Image:
    try:
        return Image(layers=(base_tar(base), tar_of({"app": program(PROGRAMS[name]())})), cmd=["/app"])
    except ToolAbsent as error:
        absent(str(error))


def started(engine: Engine, tag: str, image: Image) -> bool:
    load(engine, {tag: image})
    ran = run(engine, tag, tag.replace("/", "-").partition(":")[0])
    return seen(ran).state is State.STARTS


def own_base(name: str, report: Report) -> Base:
    """One of the fleet's roots as a base: its C library as it was read from a program on it, and the libraries that lie in it."""
    family, _, release = report.libc.partition(" ")
    libraries = frozenset(path.rpartition("/")[2] for path in BASES[name]() if "lib" in path)
    return Base(name, family, release, libraries, 0, "a root of the fleet")


def test_a_program_starts_on_exactly_those_bases_that_are_said_to_do(
    engine: Engine, foreteller: Foreteller, profile: HostProfile
) -> None:
    native = {"alpine": "musl", "busybox-glibc": "hello", "debian": "hello", "glibc-2.31": "hello"}
    bases = [own_base(name, foreteller.image(on(name, app), profile, NO_OVERRIDES)) for name, app in native.items()]
    assert {base.name: base.libc for base in bases} == {
        "alpine": "musl", "busybox-glibc": "glibc", "debian": "glibc", "glibc-2.31": "glibc",
    }  # fmt: skip
    wrong, mended = [], 0
    for name in PROGRAMS:
        # Judged where it does not start, unless it starts anywhere; nothing of that image but the program goes along.
        report = foreteller.image(on("alpine" if name != "musl" else "debian", name), profile, NO_OVERRIDES)
        said = {fit.base: fit.starts for fit in fits(report, bases)}
        for base in TRIED:
            starts = started(engine, f"remedy-base/{name}-{base}:1", on(base, name))
            mended += starts and report.verdict.state is State.FAILS
            if said[base] is not starts:
                wrong.append((name, base, said[base], starts))
    assert wrong == []
    assert mended >= 6


@pytest.mark.parametrize(("name", "base"), [("hello", "debian"), ("cpp", "debian"), ("go", "busybox-glibc"), ("musl", "alpine")])
def test_s9_the_least_run_stage_starts_from_scratch(
    engine: Engine, foreteller: Foreteller, profile: HostProfile, name: str, base: str
) -> None:
    whole = on(base, name)
    report = foreteller.image(whole, profile, NO_OVERRIDES)
    assert report.verdict.state is State.STARTS
    root = BASES[base]() | {"app": program(PROGRAMS[name]())}
    view = Rootfs([layer(root)])
    places = {part.path: view.resolve(part.path.encode()).node for part in report.parts}
    least = {path.lstrip("/"): root[node.path.decode()] for path, node in places.items() if node is not None}
    assert len(least) == len(report.parts)
    assert sum(len(item.content) for item in least.values()) == sum(part.size_bytes for part in report.parts)
    assert started(engine, f"remedy-least/{name}:1", Image(layers=(tar_of(least),), cmd=["/app"]))


def test_s1_a_go_program_built_as_the_remedy_says_starts_where_it_failed(
    engine: Engine, foreteller: Foreteller, profile: HostProfile
) -> None:
    report = foreteller.image(on("alpine", "go"), profile, NO_OVERRIDES)
    assert any("CGO_ENABLED=0" in remedy for finding in report.findings for remedy in finding.remedies)
    assert not started(engine, "remedy-go/before:1", on("alpine", "go"))
    mended = Image(layers=(tar_of({"app": program(programs.go_net(CGO_ENABLED="0"))}),), cmd=["/app"])
    assert started(engine, "remedy-go/after:1", mended)
