"""ElfReader on this machine's own files."""

from __future__ import annotations

from pathlib import Path

from analyzers.elf import read_elf


def test_an_empty_file_and_a_bare_magic_give_facts_with_defects() -> None:
    for data in (b"", b"\x7fELF"):
        result = read_elf(data)
        assert "truncated-header" in result.facts.defects
        assert result.symbols is None


def test_the_interpreter_of_this_process_is_read() -> None:
    facts = read_elf(Path("/proc/self/exe").read_bytes()).facts
    assert facts.interp
    assert facts.needed
