"""The cases of tests/make/starts.py on a real Docker engine: exit status and the whole error line must be those predicted.

Normalised are the words of the daemon and runtime before the error, container IDs, and where the engine mounts roots.
"""

from __future__ import annotations

import re

import pytest

from analyzers.finding import State, show
from analyzers.judges import judge_image
from analyzers.profile import HostProfile
from tests.engine import Engine
from tests.make.images import Image, docker_archive
from tests.make.starts import CASES, Case

_PREFIXES = re.compile(
    r"^docker: |Error response from daemon: |failed to create task for container: |failed to create shim task: "
    r"|OCI runtime create failed: |runc create failed: |unable to start container process: "
)
_ROOT = re.compile(r"/[^ ]*?/overlay2/[0-9a-f]+/merged")
_HELP = "\n\nRun 'docker run --help' for more information"


def profile_of(engine: Engine, case: Case) -> HostProfile:
    """The profile of this engine: its own version, runc's and the kernel's."""
    info = engine.info()

    def pair(text: object) -> tuple[int, int]:
        numbers = re.findall(r"\d+", str(text))
        return int(numbers[0]), int(numbers[1])

    runc = engine.docker("version", "--format", '{{range .Server.Components}}{{if eq .Name "runc"}}{{.Version}}{{end}}{{end}}')
    return HostProfile(
        engine_version=pair(info["ServerVersion"]),
        runc_version=pair(runc.stdout),
        kernel=pair(info["KernelVersion"]),
        dac_override="--cap-drop=ALL" not in case.options,
    )


def normalised(stderr: str) -> str:
    """The error as predictions word it."""
    text = stderr.rstrip("\n")
    text = text.partition(_HELP)[0].rstrip("\n").removesuffix("\nSee 'docker run --help'.")
    if text.startswith("docker: "):
        text = text.removesuffix(".")  # the command line of 26.1 ends its own errors so, with its hint or without
    while (shorter := _PREFIXES.sub("", text, count=1)) != text:
        text = shorter
    text = _ROOT.sub("<rootfs>", text.removesuffix(": unknown"))
    return show(text.encode())


@pytest.mark.docker
@pytest.mark.parametrize("case", [case for case in CASES if not case.oracle], ids=lambda case: case.id)
def test_a_real_engine_agrees(engine: Engine, case: Case) -> None:
    predicted = judge_image("x", case.config, case.facts(), profile=profile_of(engine, case)).verdict
    assert predicted.state is not State.UNKNOWN
    name = f"enoent-start:{case.id}"
    image = Image(
        layers=case.tars(),
        entrypoint=case.entrypoint,
        cmd=case.cmd,
        env=case.env,
        user=case.user,
        working_dir=case.working_dir,
        platform=case.platform,
    )
    engine.load(docker_archive({name: image}))
    try:
        ran = engine.run(name, options=case.options)
    finally:
        engine.docker("rmi", "-f", name)
    assert (normalised(ran.stderr), ran.exit_code) == (predicted.message, predicted.exit_code or 0), ran.stderr
