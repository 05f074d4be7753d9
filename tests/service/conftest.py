"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make.command import Command


@pytest.fixture
def enoent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in an empty folder, with a home and a cache of its own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    return Command(home)
