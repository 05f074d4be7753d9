"""A browser and a daemon with a small fleet, shared by the tests of the pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from service.tiny_elf import dynamic_program, static_program
from tests.browser.chromium import Browser, ChromiumAbsent, Page, started
from tests.conftest import absent
from tests.daemon import LiveDaemon, live
from tests.make.images import Image
from tests.make.layers import program, tar_of
from tests.registry import Registry

LOADER = "/lib64/ld-linux-x86-64.so.2"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202e"


def image(content: bytes, *instructions: str, **more: object) -> Image:
    """One program, started by its path."""
    return Image(layers=(tar_of({"app": program(content), **more}),), entrypoint=["/app"], history=instructions)  # type: ignore[dict-item]


GOOD = image(static_program("hello"), **{"var/lib/apt/lists/packages": "x" * 2_000_000})
BROKEN = image(dynamic_program("hello", LOADER, ("libc.so.6",)))
EVIL = Image(
    layers=(tar_of({"app": program(b"#!/" + HOSTILE.encode() + b"\n"), f"etc/{HOSTILE.replace('/', '_')}": "x" * 5000}),),
    entrypoint=["/app"], cmd=[HOSTILE], history=[f"COPY {HOSTILE} /"],
)  # fmt: skip


class Shown(NamedTuple):
    """What the pages show, and who pushes."""

    daemon: LiveDaemon
    registry: Registry

    @property
    def url(self) -> str:
        return self.daemon.url

    def image_id(self, repository: str) -> str:
        return str(self.daemon.images(repository=repository)[0]["image_id"])


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(started(tmp_path_factory.mktemp("browser")))
        except ChromiumAbsent as error:
            absent(str(error))
        yield running


@pytest.fixture(scope="session")
def shown(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    names = {"pages/good": GOOD, "pages/broken": BROKEN, "pages/evil": EVIL}
    watched = [*names, "pages/later"]
    settings = {"registries": [{"host": registry.host, "name": "here", "poll_seconds": 0.5, "repositories": watched}]}
    for name, made in names.items():
        registry.push(f"{name}:1.0", made)
    with live(tmp_path_factory.mktemp("pages"), settings) as daemon:
        daemon.until_settled(len(names))
        yield Shown(daemon, registry)


@pytest.fixture
def page(browser: Browser, shown: Shown) -> Iterator[Page]:
    """A tab that must have nothing to complain of, and asked nobody but the daemon."""
    made = browser.page()
    made.resize(1280)
    yield made
    assert made.complaints == []
    assert [each for each in made.requests if not each.startswith((shown.url, "about:", "data:"))] == []
