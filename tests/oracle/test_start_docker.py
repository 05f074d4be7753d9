"""The cases of tests/make/starts.py on a real Docker engine: exit status and the whole error line must be those predicted."""

from __future__ import annotations

import pytest

from analyzers.finding import State
from analyzers.judges import judge_image
from tests.engine import Engine
from tests.fleet.engine_words import normalised, profile_of
from tests.make.images import Image, docker_archive
from tests.make.starts import CASES, Case


@pytest.mark.docker
@pytest.mark.parametrize("case", [case for case in CASES if not case.oracle], ids=lambda case: case.id)
def test_a_real_engine_agrees(engine: Engine, case: Case) -> None:
    profile = profile_of(engine, dac_override="--cap-drop=ALL" not in case.options)
    predicted = judge_image("x", case.config, case.facts(), profile=profile).verdict
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
