"""Fixtures that more than one part shares. What is absent on a machine is skipped with its reason; on CI it fails."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests import registry as registries
from tests.engine import Engine, EngineAbsent, started


def absent(reason: str) -> NoReturn:
    """Skips the test that asks, or fails it on CI, where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew from what is printed now")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps tests of one xdist_group in one process.

    pytest-xdist 3.8 writes the group into `_nodeid`, which pytest 9.2 no longer reads; where it did not arrive it is put
    where it is read now.
    """
    for item in items if getattr(config.option, "loadgroup", False) else ():
        group = item.get_closest_marker("xdist_group")
        if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
            item._id = type(item._id).parse(f"{item.nodeid}@{group.args[0]}")  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests recorded under `summary`: counts and shares that are worth seeing when all is well."""
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            for name, text in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                if name == "summary":
                    terminalreporter.write_line(str(text))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine of this test process, started when first asked for."""
    with _engine() as running:
        yield running


@pytest.fixture(scope="session")
def containerd_engine() -> Iterator[Engine]:
    """Another, that keeps its images in containerd."""
    with _engine({"features": {"containerd-snapshotter": True}}) as running:
        yield running


@contextlib.contextmanager
def _engine(config: dict[str, object] | None = None) -> Iterator[Engine]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(started(config))
        except EngineAbsent as error:
            absent(str(error))
        yield running


@pytest.fixture(scope="session")
def registry() -> Iterator[registries.Registry]:
    """A registry of this test process, open to everybody; tests push into repositories of their own."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(registries.started())
        except registries.RegistryAbsent as error:
            absent(str(error))
        yield running


@pytest.fixture(scope="session")
def guarded_registry() -> Iterator[registries.Registry]:
    """A registry that asks for a user name and a password (`credentials`)."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(registries.started(("ann", "s3cret")))
        except registries.RegistryAbsent as error:
            absent(str(error))
        yield running
