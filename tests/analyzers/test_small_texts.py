"""Texts that interpreters read when they start: kept while they are small, and never at the price of a layer's completeness."""

from __future__ import annotations

from analyzers.facts import Coverage, LayerFacts
from analyzers.layer import LayerReader
from analyzers.limits import Limits
from analyzers.readers import SMALL_TEXT_BYTES
from tests.make.layers import tar_of


def read(files: dict[str, str], **limits: int) -> LayerFacts:
    reader = LayerReader(limits=Limits(**limits))
    reader.feed(tar_of(files))
    return reader.finish()


def test_they_are_kept_where_an_interpreter_looks() -> None:
    wanted = {
        "venv/pyvenv.cfg": "home = /usr/bin\n",
        "usr/lib/python3/dist-packages/x.pth": "/opt\n",
        "venv/lib/python3.11/site-packages/y.pth": "/opt\n",
        "app/package.json": "{}",
        "usr/include/node/node_version.h": "#define X 1\n",
    }
    others = {
        "opt/x.pth": "/opt\n",
        "app/node_modules/a/package.json": "{}",
        "app/package-lock.json": "{}",
        "app/node_modules/.bin/x": "",
    }
    facts = read(wanted | others)
    assert facts.texts == {path.encode(): text.encode() for path, text in wanted.items()}


def test_thirty_thousand_files_of_node_modules_leave_no_text() -> None:
    facts = read({f"app/node_modules/p{number}/package.json": "{}" for number in range(2_000)})
    assert facts.texts == {}


def test_one_that_is_too_large_is_passed_over_and_the_layer_is_whole() -> None:
    big = {"venv/pyvenv.cfg": "x" * (SMALL_TEXT_BYTES + 1), "app/package.json": "{}"}
    facts = read(big)
    assert facts.coverage is Coverage.FULL
    assert set(facts.texts) == {b"app/package.json"}
    crowded = read({f"a{number}/package.json": "x" * 1000 for number in range(9)}, layer_text_bytes=4_000)
    assert crowded.coverage is Coverage.FULL
    assert len(crowded.texts) == 4
