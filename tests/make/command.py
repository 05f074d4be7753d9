"""`enoent` as a person calls it, in this process: its exit status, what it printed and what it complained of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from service.cli import cli

ROOT = Path(__file__).resolve().parent.parent.parent


class Said(NamedTuple):
    """How a call of the command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def first_line(self) -> str:
        return self.out.partition("\n")[0]

    @property
    def prose(self) -> str:
        """What it printed, without regard to where lines were broken."""
        return " ".join(self.out.split())


class Command:
    """Calls with an environment of their own: no home but `home`, no Docker and no settings of this machine."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        self.env = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "DOCKER_CONFIG": str(home / "docker"), **env}
        self._unset = dict.fromkeys(("DOCKER_HOST", "NO_COLOR", "FORCE_COLOR", "ENOENT_CONFIG"))

    def __call__(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Said:
        runner = CliRunner(env={**self._unset, **self.env, **(env or {})})
        result = runner.invoke(cli, [str(word) for word in words], prog_name="enoent")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    def process(self, *words: str | Path, stdout: Any = subprocess.PIPE, **env: str) -> subprocess.Popen[bytes]:
        """The same as a process of its own; `env` is laid over its environment."""
        command = [sys.executable, "-m", "service", *map(str, words)]
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **self.env, **env}
        return subprocess.Popen(command, cwd=self.home, env=environment, stdout=stdout, stderr=subprocess.PIPE)
