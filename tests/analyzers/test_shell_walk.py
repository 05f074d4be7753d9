"""Scripts followed through facts: variables, patterns, branches, what is certain and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.finding import Report, Severity, State
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig
from tests.make.layers import program
from tests.make.starts import tiny
from tests.make.views import file, folder, layer, script, symlink

TRUE = program(tiny())
TOOLS = ("id", "app", "mkdir", "chown", "cat", "dirname", "basename", "uname", "setup", "env", "hostname", "which", "readlink")
ROOT = {
    "bin/dash": TRUE, "bin/bash": TRUE, "bin/sh": symlink("dash"), **{f"usr/bin/{name}": TRUE for name in TOOLS},
    "etc/passwd": file("root:x:0:0:root:/root:/bin/sh\napp:x:999:999::/home/app:/bin/sh\n"),
    "parts/10.sh": script("#!/bin/sh\n:\n"), "parts/20.sh": file("FROM_PART=yes\n"), "conf": file("x"), "empty": folder(),
    "opt/lib.sh": file('pick() { CHOSEN="$1"; }\n'),
}  # fmt: skip


def judged(text: str, *words: str, shell: str = "/bin/sh", **more: object) -> Report:
    config = ImageConfig(entrypoint=("/x", *words), **more)  # type: ignore[arg-type]
    return judge_image("x", config, [layer({**ROOT, "x": script(f"#!{shell}\n{text}\n")})])


def end(text: str, *words: str, shell: str = "/bin/sh", **more: object) -> str:
    """The program it runs, the line it fails with, or why it was not followed."""
    report = judged(text, *words, shell=shell, **more)
    if report.verdict.state is State.FAILS:
        return report.verdict.message
    told = [each for each in report.assumptions if "follow" in each or "may end" in each]
    if told:
        return told[0]
    last = [step.path for step in report.chain if step.action == "exec" and step.ok][-1]
    return "" if last == "/x" else last


@pytest.mark.parametrize(
    "text",
    [
        'x=app; exec "$x"',
        "x=; exec ${x:-app}",
        "exec ${NOPE-app}",
        'x=usr/bin/app; exec "/${x#/}"',
        'x=a.b; [ "${x%.*}" = a ] && exec app',
        'x=/a/b; [ "${x##*/}" = b ] && exec app',
        'x=/a/b/c; [ "${x%%/b*}" = /a ] && exec app',
        ": ${x:=app}; exec $x",
        'set -- app x; exec "$@"',
        'set -- nope app; shift; exec "$@"',
        'case "$0" in /x) exec app;; esac',
        'f() { exec "$1"; }; f app',
        "for x in nope app; do [ $x = app ] && exec $x; done",
        'while [ "$1" != app ]; do set -- app; done; exec "$1"',
        'if [ "$(id -u)" = 0 ]; then exec app; fi; exec nope',
        '[ "$(basename /a/app)" = app ] && exec app',
        "cd /usr/bin; exec ./app",
        '[ "$(dirname /usr/bin/x)" = /usr/bin ] && exec app',
        ". /opt/lib.sh; pick app; exec $CHOSEN",
        'eval "exec app"',
        'for f in /parts/*; do . $f; done; [ "$FROM_PART" = yes ] && exec app',
        '[ "$#" -eq 0 ] && exec app',
        "x=$((1+1)); [ $x -eq 2 ] && exec app",
        "id app >/dev/null 2>&1 && exec app",
        "id nobody-here >/dev/null 2>&1 || exec app",
        'set -- "a b" c; [ $# = 2 ] && exec app',
        'x="a b"; set -- $x; [ $# = 2 ] && exec app',
        "[ -f /conf ] && [ ! -e /nope ] && [ -d /empty ] && exec app",
        "app",
        "true && app",
        "x() { return 3; }; x; [ $? = 3 ] && exec app",
        "until false; do exec app; done",
        "set -e; setup || true; exec app",
        "(exit 3); [ $? = 3 ] && exec app",
        "exec env X=1 app",
        '[ "$(uname -m)" = x86_64 ] && exec app',
        'x=$(command -v app); exec "$x"',
        "! [ a = b ] && exec app",
        "[ \"$(echo 'a  b')\" = 'a  b' ] && exec app",
        '[ "${#X}" = 0 ] && exec app',
        "[ a = b -o \\( c = c -a ! d = e \\) ] && exec app",
    ],
)
def test_what_is_foretold_runs_the_program(text: str) -> None:
    assert end(text) == "/usr/bin/app"


@pytest.mark.parametrize(
    "text",
    [
        'a=(x app); exec "${a[1]}"',
        'a=(app); a+=(y); [[ ${#a[@]} == 2 ]] && exec "${a[@]}"',
        "[[ $0 == /* && ! -e /nope ]] && exec app",
        'x=FOO; [ "${x,,}" = foo ] && exec app',
        'x=a.b; [ "${x/./-}" = a-b ] && exec app',
        "[[ app =~ ^a ]] && exec app",
        "function f { local x=app; exec $x; }; f",
        'x=abc; [ "${x:1:1}" = b ] && exec app',
        "(( 1 + 1 )) && exec app",
        "declare -r x=app; exec $x",
        "x=$'a\\tb'; [ ${#x} = 3 ] && exec app",
        "[[ -z ${NOPE:-} ]] && exec app",
        "source /opt/lib.sh; pick app; exec $CHOSEN",
    ],
)
def test_what_only_bash_has(text: str) -> None:
    assert end(text, shell="/bin/bash") == "/usr/bin/app"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("exec nope", "/x: 2: exec: nope: not found"),
        ('if [ "$(cat /proc/1/comm)" = a ]; then exec nope; else exec nope; fi', "/x: 2: exec: nope: not found"),
        ("set -e\nmkdir -p /data\nnope", "/x: 4: nope: not found"),
        ("cat <<E\n$(\nE\nexec nope", "/x: 5: exec: nope: not found"),
        ("mkdir /data\nexec /srv/run", "/x: 3: exec: /srv/run: not found"),
    ],
)
def test_a_failure_is_foretold_where_every_way_leads_to_it(text: str, line: str) -> None:
    assert end(text) == line


@pytest.mark.parametrize(
    "text",
    [
        'if [ "$(cat /proc/1/comm)" = a ]; then exec nope; fi; exec app',
        "setup; exec /srv/made",
        "mkdir /srv; cat app >/srv/run; exec /srv/run",
        'eval "$(cat /proc/1/comm)"; exec nope',
        'x=$(hostname); exec "$x"',
        "nope; exec app",
        "nope || exec app",
        "while nope; do nope; done; exec app",
        'export PATH="$(hostname):$PATH"; exec nope',
        "trap 'nope' EXIT; exec app",
        "exec 3>&1; exec app",
        "( exec nope ); exec app",
        "nope & exec app",
        "nope | cat; exec app",
    ],
)
def test_no_alarm_where_anything_is_uncertain(text: str) -> None:
    assert judged(text).verdict.state is State.STARTS


def test_what_cannot_be_followed_is_said_with_its_line() -> None:
    assert end('true\neval "$(hostname)"\nexec app') == "/x was followed to line 3: `eval` cannot be foretold"
    assert end("true\nfi") == "/x was followed to line 3: fi is not expected here"


def test_a_command_that_is_missed_on_the_way_is_a_warning() -> None:
    [finding] = [each for each in judged("nope\nexec app").findings if each.rule.startswith("shell.")]
    assert finding.rule == "shell.wants-absent-command"
    assert finding.severity is Severity.WARNING
    assert "nope: not found" in finding.message
    assert not [each for each in judged("nope 2>/dev/null\nexec app").findings if each.rule.startswith("shell.")]


def test_a_script_that_ends_itself_is_no_failed_start() -> None:
    report = judged('if [ -z "$PASSWORD" ]; then echo "no PASSWORD" >&2; exit 1; fi\nexec app')
    assert report.verdict.state is State.STARTS
    assert [each.rule for each in report.findings if each.rule.startswith("shell.")] == ["shell.gives-up"]
    assert end('[ -n "$PASSWORD" ] || exit 1\nexec app', env=("PASSWORD=x", "PATH=/usr/bin:/bin")) == "/usr/bin/app"


def test_the_environment_that_the_script_makes_is_the_programs() -> None:
    assert end("PATH=/opt\nexec app") == "/x: 3: exec: app: not found"
    assert end("export PATH=/opt\nexec /usr/bin/env app") == "/usr/bin/env: 'app': No such file or directory"


NGINX = """if find /docker-entrypoint.d/ -mindepth 1 -print -quit 2>/dev/null | read v; then
    find /docker-entrypoint.d/ -follow -type f -print | sort -V | while read -r f; do
        case "$f" in
            *.sh) if [ -x "$f" ]; then "$f"; fi;;
            *) ;;
        esac
    done
fi
exec "$@"
"""


def test_parts_that_an_entrypoint_finds_by_itself_are_looked_at_one_by_one() -> None:
    parts = {
        "docker-entrypoint.d/10-good.sh": script("#!/bin/sh\nsetup\n"),
        "docker-entrypoint.d/20-wants.sh": script("#!/bin/sh\nset -e\nnope\n"),
        "docker-entrypoint.d/30-lost.sh": script("#!/bin/nosh\n"),
        "docker-entrypoint.d/40-closed.sh": script("#!/bin/sh\nnope\n", 0o644),
    }
    items = {**ROOT, "usr/bin/find": TRUE, "usr/bin/sort": TRUE, **parts, "x": script("#!/bin/sh\n" + NGINX)}
    report = judge_image("x", ImageConfig(entrypoint=("/x", "app")), [layer(items)])
    assert report.verdict.state is State.STARTS
    assert [each.message for each in report.findings if each.rule == "shell.wants-absent-command"] == [
        "/docker-entrypoint.d/20-wants.sh line 3: /docker-entrypoint.d/20-wants.sh: 3: nope: not found",
        "/docker-entrypoint.d/30-lost.sh names /bin/nosh, which is not in the image",
    ]


@given(
    st.lists(
        st.sampled_from(
            ["if hostname", "then", "fi", "x=$(hostname)", "exec app", "exec $x", "nope", "exit 1", "f() {", "}", "f",
             "for i in a b",
             "do", "done", "while hostname", "set -e", 'eval "$x"', "( ", ")", "case $x in", "a)", ";;", "esac", "&&", "||",
             "|", "&",
             "shift", 'set -- "$@" $x', "cd $x", ". /opt/lib.sh", "break", "return", "[ -f $x ]"]
        ),
        max_size=30,
    ),
    st.sampled_from(["\n", " ", ";"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_script_runs_away_or_breaks_the_walk(words: list[str], joint: str) -> None:
    assert judged(joint.join(words)).verdict.state in (State.STARTS, State.FAILS)


@pytest.mark.parametrize(
    "text",
    [
        "if hostname; then exit 1; fi\n" * 200,
        "if hostname; then exec app; fi\n" * 200,
        "f() { f; }; f",
        "while :; do if hostname; then break; fi; done; exec app",
        "for i in 1 2 3 4 5 6 7 8 9; do " * 20 + "f\n" + "done\n" * 20,
        "x=a; " + "x=$x$x$x$x; " * 40 + "exec app",
        ". /x",
        'exec "$0"',
        'set -- "$@" "$@" a; exec "$0" "$@"',
        "x='" + "*a" * 1000 + "'; y='" + "a" * 2000 + "'; echo ${y#$x} ${y##$x} ${y%%$x}; exec app",
        "case " + "a" * 3000 + " in " + "*a" * 500 + "b) ;; esac; exec app",
    ],
)
def test_a_hostile_script_is_given_up(text: str) -> None:
    assert judged(text).verdict.state in (State.STARTS, State.FAILS)
