"""How a Go program was built, and which remedy fits (scenarios S1, S2b): real programs by the machine's own go."""

from __future__ import annotations

import pytest

from analyzers.builds import built_words, go_setting, static_remedies
from analyzers.elf import read_elf
from analyzers.facts import ElfFacts
from tests.conftest import absent
from tests.fleet import programs
from tests.make.elves import ToolAbsent
from tests.make.views import elf_facts

pytestmark = pytest.mark.toolchain


def facts(*flags: str, by: str = "go_net", **environment: str) -> ElfFacts:
    try:
        return read_elf(getattr(programs, by)(*flags, **environment)).facts
    except ToolAbsent as error:
        absent(str(error))


def test_s1_a_go_program_tells_of_its_toolchain_and_of_cgo() -> None:
    found = facts()
    assert found.go_build is not None
    assert found.go_build.version.startswith(b"go1.")
    assert go_setting(found.go_build, b"CGO_ENABLED") == b"1"
    assert "built by go1." in built_words(found)
    assert "CGO_ENABLED=1" in built_words(found)
    assert static_remedies(found)[0].startswith("Build with CGO_ENABLED=0")
    assert "netgo,osusergo" in static_remedies(found)[1]


def test_s2b_tags_that_do_not_suffice_are_not_advised_once_more() -> None:
    found = facts("-tags", "netgo", by="go_net_and_c")
    assert found.interp is not None
    assert "-tags=netgo" in built_words(found)
    assert "some other package uses cgo" in built_words(found)
    assert not any("netgo" in remedy for remedy in static_remedies(found))


def test_a_position_independent_program_without_cgo_is_told_of_its_build_mode() -> None:
    found = facts("-buildmode=pie", CGO_ENABLED="0")
    assert found.interp is not None
    assert "names the loader all the same" in built_words(found)
    assert static_remedies(found) == ("Build without -buildmode=pie: the program is then static.",)


def test_a_static_go_program_is_read_too_and_other_programs_tell_nothing() -> None:
    assert go_setting(facts(CGO_ENABLED="0").go_build, b"CGO_ENABLED") == b"0"
    assert built_words(elf_facts()) == ""
    assert built_words(None) == ""
    assert "-unknown-linux-musl" in static_remedies(elf_facts())[0]
    assert static_remedies(None) == ()
