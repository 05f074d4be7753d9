"""Debian's registry with notifications on tells the running daemon of pushes; its listings are a day apart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import registry as registries
from tests.conftest import absent
from tests.daemon import LiveDaemon, live
from tests.make.images import Image
from tests.make.layers import tar_of
from tests.registry import Registry, free_port

TOKEN = "only-the-registry-knows-it"


class Notifying(NamedTuple):
    registry: Registry
    settings: dict[str, Any]
    """Of a daemon that it tells."""


@pytest.fixture
def notifying(tmp_path: Path) -> Iterator[Notifying]:
    port = free_port()
    endpoint = {
        "name": "enoent", "url": f"http://127.0.0.1:{port}/hooks/registry", "headers": {"Authorization": [f"Bearer {TOKEN}"]},
        "timeout": "2s", "threshold": 3, "backoff": "500ms",
        "ignore": {"mediatypes": ["application/octet-stream"], "actions": ["pull"]},
    }  # fmt: skip
    config = {"notifications": {"events": {"includereferences": True}, "endpoints": [endpoint]}}
    (tmp_path / "token").write_text(TOKEN + "\n")
    with contextlib.ExitStack() as stack:
        try:
            registry = stack.enter_context(registries.started(config=config))
        except registries.RegistryAbsent as error:
            absent(str(error))
        yield Notifying(
            registry,
            {
                "listen": {"port": port},
                "registries": [{"host": registry.host, "name": "own", "tags": ["[0-9]*"], "poll_seconds": 86400}],
                "hooks": [{"name": "registry", "registry": "own", "token": {"file": str(tmp_path / "token")}}],
            },
        )


def image(name: str, platform: str = "linux/amd64") -> Image:
    return Image(layers=(tar_of({f"opt/{name}": b"x" * 900}),), entrypoint=[f"/opt/{name}"], platform=platform)


def listed(daemon: LiveDaemon) -> bool:
    return daemon.total("enoent_source_last_success_timestamp_seconds", source="own") is not None


def test_a_push_has_its_verdict_at_once_though_the_next_listing_is_a_day_away(notifying: Notifying, tmp_path: Path) -> None:
    registry = notifying.registry
    registry.push("shop/api:1", image("first"))
    with live(tmp_path, notifying.settings) as daemon:
        daemon.until(lambda: listed(daemon) and len(daemon.images()) == 1)
        registry.push("shop/api:2", image("second"))
        daemon.until(lambda: [row["outcome"] for row in daemon.images() if row["tag"] == "2"] == ["done"])
        # An index: its children are told first, by digest, and are not shown by themselves.
        registry.push("shop/api:3", [image("third"), image("third", "linux/arm64")])
        daemon.until(lambda: [row["outcome"] for row in daemon.images() if row["tag"] == "3"] == ["done", "done"])
        # A tag that is not watched is dropped, and does not stop what comes after it.
        registry.push("shop/api:latest", image("fourth"))
        moved = registry.push("shop/api:1", image("fifth"))
        daemon.until(lambda: [row["manifest_digest"] for row in daemon.images() if row["tag"] == "1"] == [moved])
        registry.delete("shop/api", moved)
        daemon.until(lambda: {row["tag"] for row in daemon.images()} == {"2", "3"})
        assert (daemon.total("enoent_hook_requests_total", hook="registry", outcome="accepted") or 0) >= 5
        assert (daemon.total("enoent_hook_events_total", hook="registry", outcome="unwatched") or 0) >= 1
        assert daemon.total("enoent_hook_lag_seconds", hook="registry") is not None
        assert TOKEN not in (tmp_path / "log").read_text() + daemon.get("/config")


def test_what_was_told_while_the_daemon_was_down_comes_when_it_is_back(notifying: Notifying, tmp_path: Path) -> None:
    registry = notifying.registry
    registry.push("shop/api:1", image("first"))
    with live(tmp_path, notifying.settings) as daemon:
        daemon.until(lambda: listed(daemon) and len(daemon.images()) == 1)
        daemon.stop()
    registry.push("shop/api:2", image("second"))
    with live(tmp_path, notifying.settings) as daemon:
        daemon.until(lambda: {row["tag"]: row["outcome"] for row in daemon.images()} == {"1": "done", "2": "done"})


def test_a_registry_with_a_wrong_token_is_told_so_and_counted(notifying: Notifying, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another\n")
    notifying.registry.push("shop/api:1", image("first"))
    with live(tmp_path, notifying.settings) as daemon:
        daemon.until(lambda: (daemon.total("enoent_hook_requests_total", hook="registry", outcome="unauthorized") or 0) >= 1)
        assert daemon.logged("hook refused", hook="registry", status=401)
