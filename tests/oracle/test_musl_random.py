"""Random roots (tests/make/musl_worlds.py) foretold from their layers and run by real musl loaders: every line must agree.

A disagreement prints its seed; `make_world(seed)` makes that root again. ENOENT_TEST_FULL=1 draws many more.
"""

from __future__ import annotations

import os
import random

import pytest

from analyzers.finding import State
from tests.make.layers import tar_of
from tests.make.musl_elves import a_main, lib
from tests.make.musl_worlds import World, make_world
from tests.oracle.musl_roots import Ended, actual, config_of, foretell, musl_layer, needs_tools, predicted, read_layer, unpacked

BATCH = 25
SEEDS = 10_000 if os.environ.get("ENOENT_TEST_FULL") else 300
STARTED = 42


def both(world: World) -> tuple[Ended, Ended]:
    """(what the loader does, what was foretold)."""
    musl = musl_layer(world.release, world.loader)
    lower, upper = tar_of(world.layers[0]), tar_of(world.layers[1], whiteouts=world.deleted, parents=False)
    config = config_of(world.cmd, world.env, world.user, world.working_dir)
    start = foretell([musl.facts, read_layer(lower), read_layer(upper)], config)
    with unpacked(musl.tar, lower) as root:
        for path in (*world.deleted, *world.layers[1]):
            (root / path).unlink()
        for path, item in world.layers[1].items():
            (root / path).write_bytes(item.content)
            (root / path).chmod(item.mode)
        ended = actual(root, start, success=STARTED)
    told = predicted(start)
    return ended, told._replace(exit_code=STARTED) if told.started else told


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_random_roots(first: int) -> None:
    for seed in range(first, first + BATCH):
        with needs_tools():
            ended, told = both(make_world(seed))
        assert ended == told, f"seed {seed}"


CUT_SOURCES = {
    "plain": None,
    "data": "int d[3000] = {1, 2}; char b[9000]; __thread int t = 4; int liba(void) { return d[1] + b[2] + t; }",
    "bss": "char big[20000]; int liba(void) { return big[3]; }",
}
CUTS = 200 if os.environ.get("ENOENT_TEST_FULL") else 12


@pytest.mark.parametrize("source", CUT_SOURCES)
@pytest.mark.parametrize("flag", ["-Wl,-z,separate-code", "-Wl,-z,noseparate-code", "-Wl,-z,norelro"])
def test_a_library_cut_anywhere(source: str, flag: str) -> None:
    """It is refused, kills the process, or works; only a cut inside the dynamic section is left undecided."""
    with needs_tools():
        whole = lib("liba.so", None, flag, source=CUT_SOURCES[source])
        program_of, musl = a_main(), musl_layer("1.2.5")
    for length in sorted(random.Random(source + flag).sample(range(len(whole)), CUTS)):
        tar = tar_of({"app/main": program_of, "lib/liba.so": whole[:length]})
        start = foretell([musl.facts, read_layer(tar)], config_of(("/app/main",)))
        if start.state is State.UNKNOWN:
            assert "is cut" in start.why_unknown, length
            continue
        with unpacked(musl.tar, tar) as root:
            assert actual(root, start) == predicted(start), length
