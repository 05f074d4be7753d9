"""supervisord's programs against the image, in its own words (a run of supervisor 4.2.5 logged `spawnerr:` before them)."""

from __future__ import annotations

from analyzers.finding import Severity, State
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig
from tests.make.layers import program
from tests.make.starts import tiny
from tests.make.views import file, folder, layer, script, symlink

TRUE = program(tiny())
MAIN = "[supervisord]\nnodaemon=true\n[include]\nfiles = /etc/supervisor/conf.d/*.conf\n"
ROOT = {
    "usr/bin/python3": TRUE, "usr/bin/app": TRUE, "bin/sh": symlink("dash"), "bin/dash": TRUE, "srv": folder(), "data": file("x"),
    "usr/bin/supervisord": script("#!/usr/bin/python3\n"), "etc/supervisor/supervisord.conf": file(MAIN),
}  # fmt: skip


def found(programs: str, *cmd: str) -> list[str]:
    items = {**ROOT, "etc/supervisor/conf.d/app.conf": file(programs), "own.conf": file("x")}
    report = judge_image("x", ImageConfig(cmd=cmd or ("supervisord", "-n")), [layer(items)])
    assert report.verdict.state is not State.FAILS
    findings = [each for each in report.findings if each.rule.startswith("supervisor.")]
    assert all(each.severity is Severity.LATER for each in findings)
    return [each.message for each in findings]


def test_programs_that_supervisord_cannot_run_are_told() -> None:
    assert found(
        "[program:a]\ncommand=nope --x ; why\n[program:b]\ncommand = /srv\n"
        "[program:c]\ncommand=/data\n[program:d]\ncommand=/opt/d\n"
    ) == [
        "[program:a] can't find command 'nope'",
        "[program:b] command at '/srv' is a directory",
        "[program:c] command at '/data' is not executable",
        "[program:d] can't find command '/opt/d'",
    ]


def test_programs_that_run_or_are_not_understood_are_left_alone() -> None:
    assert found("[program:a]\ncommand=app -x\n[program:b]\ncommand=%(ENV_X)s/y\n[program:c]\ncommand='\n[program:d]\n") == []
    assert found("[program:a]\ncommand=nope\nautostart=false\n") == []
    assert found("command=nope\n") == []


def test_another_program_or_configuration_is_not_looked_into() -> None:
    programs = "[program:a]\ncommand=nope\n"
    assert found(programs, "app") == []
    assert found(programs, "supervisord", "-c", "/own.conf") == []
    assert found(programs, "sh", "-c", "exec supervisord -n") == ["[program:a] can't find command 'nope'"]
