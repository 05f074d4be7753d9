"""K4-K8: the #! line, byte by byte. What the kernel does with the answers is in tests/make/starts.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.scripts import BUFFER, ScriptLine, read_script_line


@pytest.mark.parametrize(
    ("head", "interpreter", "argument"),
    [
        (b"#!/bin/sh\n", b"/bin/sh", None),
        (b"#! \t /bin/sh\n", b"/bin/sh", None),
        (b"#!/bin/sh  \t\n", b"/bin/sh", None),
        (b"#!/bin/sh\t-x\n", b"/bin/sh", b"-x"),
        (b"#!/bin/sh", b"/bin/sh", None),
    ],
)
def test_k04_blanks_around_the_name_do_not_count(head: bytes, interpreter: bytes, argument: bytes | None) -> None:
    assert read_script_line(head) == ScriptLine(interpreter, argument)


def test_k05_the_rest_of_the_line_is_one_argument() -> None:
    assert read_script_line(b"#!/usr/bin/env node  --flag \n").argument == b"node  --flag"


def test_k06_the_argument_is_cut_at_255_bytes() -> None:
    line = read_script_line(b"#!/bin/sh " + b"a" * 300)
    assert line.argument is not None
    assert len(line.argument) == BUFFER - 1 - len(b"#!/bin/sh ")
    assert line.truncated


def test_t27_k06_a_name_must_end_within_the_buffer() -> None:
    assert read_script_line(b"#!/" + b"a" * 252 + b"\n").interpreter == b"/" + b"a" * 252
    assert read_script_line(b"#!/" + b"a" * 253 + b"\n").refused
    assert read_script_line(b"#!" + b" " * 300).refused


def test_k06_a_short_file_needs_no_line_end() -> None:
    assert read_script_line(b"#!/bin/sh -x") == ScriptLine(b"/bin/sh", b"-x")


@pytest.mark.parametrize("head", [b"#!\n", b"#!  \t \n"])
def test_k07_a_line_of_blanks_is_refused(head: bytes) -> None:
    assert read_script_line(head).refused


@pytest.mark.parametrize("head", [b"#!", b"#!   ", b"#!\0/bin/sh\n"])
def test_t33_k07_an_empty_name_is_the_working_directory(head: bytes) -> None:
    assert read_script_line(head) == ScriptLine(b"")


def test_k07_a_nul_ends_name_or_argument() -> None:
    assert read_script_line(b"#!/bin/sh\0x\n") == ScriptLine(b"/bin/sh")
    assert read_script_line(b"#!/bin/sh a\0b\n") == ScriptLine(b"/bin/sh", b"a")


def test_t22_k08_a_carriage_return_belongs_to_the_name() -> None:
    assert read_script_line(b"#!/bin/sh\r\n").interpreter == b"/bin/sh\r"
    assert read_script_line(b"#!/bin/sh -x\r\n").argument == b"-x\r"


@given(st.binary(max_size=400), st.integers(0, 3))
def test_h103_any_line_is_read_and_only_its_first_256_bytes_count(rest: bytes, blanks: int) -> None:
    head = b"#!" + b" " * blanks + rest
    line = read_script_line(head)
    assert line == read_script_line(head[:BUFFER])
    assert b"\n" not in line.interpreter
    assert b"\0" not in line.interpreter + (line.argument or b"")
