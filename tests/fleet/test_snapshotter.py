"""The same engine with its images in containerd: its layers are laid over each other as foretold.

They differ from overlay2's in one thing: what owner and mode a directory has that a layer implies and does not list.
"""

from __future__ import annotations

import msgspec
import pytest

from analyzers.finding import State
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import disagreements, profile_of, seen
from tests.fleet.foretold import Foreteller
from tests.fleet.image import Layer
from tests.fleet.layer_images import TRIPLET, app, stacked
from tests.fleet.libraries import A, needs, one
from tests.fleet.run import load, run, tag_of
from tests.make.elves import ToolAbsent, runpath
from tests.make.layers import folder, program

pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("fleet")]

SAME = (
    stacked("snapshots_a_library_deleted", "G18", "debian", lambda: (
        Layer({"app": program(needs(A, flags=runpath("/a"))), f"a/{A}": one(A)}), Layer({}, (f"a/{A}",)))),
    stacked("snapshots_an_opaque_directory", "G18", "debian", lambda: (
        Layer({"app": program(needs(A, flags=runpath("/a"))), f"a/{A}": one(A)}), Layer({"a/other": "x"}, (), ("a",)))),
    stacked("snapshots_an_opaque_root", "K15", "debian", lambda: (app(), Layer({"d": "x"}, (), ("",)))),
    stacked("snapshots_a_library_below_a_linked_directory", "K15", "debian", lambda: (
        Layer({"app": program(needs(A))}), Layer({f"lib/{TRIPLET}/{A}": one(A)}, parents=False))),
    stacked("snapshots_a_deletion_below_a_linked_directory", "K15", "debian", lambda: (
        app(), Layer({}, (f"lib/{TRIPLET}/libm.so.6",), parents=False))),
    stacked("snapshots_an_opaque_linked_directory", "K15", "debian", lambda: (app(), Layer({}, (), ("lib64",), parents=False))),
    stacked("snapshots_a_real_lib_over_the_merged_one", "K15", "debian", lambda: (app(), Layer({"lib/x": "x"}))),
)  # fmt: skip
CLOSED = stacked("snapshots_a_closed_directory_implied_above", "C13", "debian", lambda: (
    Layer({"app": program(needs(A, flags=runpath("/a"))), "a": folder(0o700), f"a/{A}": one(A)}),
    Layer({"a/more": "x"}, parents=False)), user="1000")  # fmt: skip


def test_layers_in_containerd_are_laid_as_foretold(containerd_engine: Engine) -> None:
    profile = msgspec.structs.replace(profile_of(containerd_engine), engine_version=(29, 0))
    foreteller = Foreteller()
    try:
        load(containerd_engine, {tag_of(image): image.image() for image in (*SAME, CLOSED)})
    except ToolAbsent as error:
        absent(str(error))
    for image in (*SAME, CLOSED):
        real = seen(run(containerd_engine, tag_of(image), image.id))
        assert disagreements(real, foreteller.image(image.image(), profile, NO_OVERRIDES)) == [], image.id
    assert "cannot open shared object file" in seen(run(containerd_engine, tag_of(CLOSED), CLOSED.id)).text


def test_overlay2_opens_a_closed_directory_that_a_layer_implies(engine: Engine) -> None:
    try:
        load(engine, {tag_of(CLOSED): CLOSED.image()})
    except ToolAbsent as error:
        absent(str(error))
    real = seen(run(engine, tag_of(CLOSED), CLOSED.id))
    assert real.state is State.STARTS
    assert disagreements(real, Foreteller().image(CLOSED.image(), profile_of(engine), NO_OVERRIDES)) == []
