"""The engine that tests lean on is real: it loads an archive and refuses as Docker refuses."""

from __future__ import annotations

import pytest

from tests.engine import Engine

pytestmark = pytest.mark.docker


def test_the_engine_is_the_release_that_predictions_are_made_for(engine: Engine) -> None:
    assert str(engine.info()["ServerVersion"]).startswith("26.1.")


def test_an_unknown_image_is_refused_with_exit_status_125(engine: Engine) -> None:
    result = engine.run("absent.invalid/none:never", options=("--pull", "never"))
    assert result.exit_code == 125
    assert "No such image" in result.stderr
