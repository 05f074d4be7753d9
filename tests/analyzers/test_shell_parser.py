"""The shell parser against the shells' own: dash and bash must accept and refuse the same texts; and no text may take it long."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.shell.parser import Parser
from analyzers.shell.tree import Dialect
from analyzers.shell.words import Unparsable
from tests.conftest import absent

_FOLDERS = ("/usr/bin", "/usr/sbin", "/etc/init.d", "/var/lib/dpkg/info", "/usr/lib/git-core")
_NAMES = {b"sh": Dialect.DASH, b"dash": Dialect.DASH, b"bash": Dialect.BASH}
_TOKENS = [
    "if", "then", "else", "elif", "fi", "case", "esac", "in", "for", "while", "until", "do", "done", "{", "}", "(", ")",
    ";", ";;", "&", "&&", "||", "|", "!", "<", ">", ">>", "<<", "a", "b=c", "$x", "${x:-y}", "${#x}", "$(a)", "`b`",
    "\"q\"", "'r'", "\\", "#", "[", "]", "[[", "]]", "$((1+2))", "f()", "\n", "EOF", "x=(1)", "=~", "*", "?", "~",
]  # fmt: skip


def accepts(text: bytes, dialect: Dialect) -> bool:
    try:
        for _ in Parser(text, dialect).scripts():
            pass
    except Unparsable:
        return False
    return True


def really_accepts(text: bytes, dialect: Dialect) -> bool:
    shell = shutil.which(dialect.value)
    if shell is None:
        absent(f"there is no {dialect}")
    return subprocess.run([shell, "-n"], input=text, capture_output=True, timeout=20, check=False).returncode == 0


def _scripts() -> list[tuple[bytes, Dialect, Path]]:
    found = []
    for folder in _FOLDERS:
        for path in sorted(Path(folder).glob("*")):
            if path.is_file() and path.stat().st_size < 128 * 1024:
                text = path.read_bytes()
                words = text[2:].split(b"\n", 1)[0].split() if text[:2] == b"#!" else []
                dialect = _NAMES.get(words[0].rpartition(b"/")[2]) if words else None
                if dialect is not None:
                    found.append((text, dialect, path))
    return found


def test_scripts_of_this_machine_are_read_as_the_shells_read_them() -> None:
    scripts = _scripts()
    scripts = scripts[:: max(1, len(scripts) // 120)]
    assert len(scripts) > 50
    wrong = [str(path) for text, dialect, path in scripts if accepts(text, dialect) != really_accepts(text, dialect)]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "if true; then\n", "case x in a) ;; esac; esac\n", "for x in a b; do echo; done\n", "f() { :; }\n", "a &&\nb\n",
        "( a; b\n", "echo ${x\n", "echo 'x\n", "done\n", "{ a; }; }\n", "a | | b\n", ";;\n", "! ! a\n",
        "while :; do :; done <x >y\n", "x= y\n", "grep -f <(a 'b' \"$@\") c\n",
        "case $x in (a|b) c;; *) esac\n", "cat <<A <<B\nx\nA\ny\nB\n", "cat <<-'E'\n\tx $(\n\tE\n", "a\\\nb\n", "$(a $(b `c`))\n",
        "echo \"${x:-\"y z\"}\" ${y%\"}\"}\n", "if a; then b; elif c; then d; else e; fi\n", "for i do a; done\n", "a # b ; (\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", [Dialect.DASH, Dialect.BASH])
def test_what_the_grammar_has(text: str, dialect: Dialect) -> None:
    assert accepts(text.encode(), dialect) is really_accepts(text.encode(), dialect)


HOSTILE = (
    "(", "$(", '"$(', "{ ", "if ", "case x in ", "`\\", "a=(", "<<A ", "[[ ( ", "$((", "${", '"', "a|", "x(){ ", "((", "a;",
    "<<A\n", "'", "\\\n", "#\n", "[[ a =~ (", "f() ", "! ", "for((", "a&&", '"${x:-"', "`", "\0", "a\n",
)  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_runs_away(unit: str) -> None:
    """128 KiB of anything end, accepted or refused, without the interpreter's own limits being met."""
    text = unit.encode() * (128 * 1024 // len(unit))
    accepts(text, Dialect.BASH)


@given(st.lists(st.sampled_from(_TOKENS), max_size=40), st.sampled_from(list(Dialect)))
@settings(max_examples=60, deadline=None)
def test_any_order_of_tokens_is_read_or_refused(tokens: list[str], dialect: Dialect) -> None:
    accepts(" ".join(tokens).encode(), dialect)
    accepts("".join(tokens).encode(), dialect)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    for dialect in Dialect:
        accepts(text, dialect)
