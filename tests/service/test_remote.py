"""A scan that a daemon answers: what it knows is not read again, what it does not know is read here, and both are told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from analyzers.finding import Severity
from analyzers.oci import parse_platform
from analyzers.start import Overrides
from service.errors import SettingsError, SourceError
from service.registry.reference import parse_reference
from service.remote import scan_by_daemon
from service.report_text import scan_lines
from service.scan import Question, Scan, Surroundings
from service.secret import Secret
from service.settings import ListenSettings, Settings, TokenSettings, load_settings
from service.terminal import paint
from tests.make.images import Image, oci_layout
from tests.make.layers import tar_of
from tests.make.reports import failing, starting
from tests.make.site import World
from tests.make.starts import TRUE

NOBODY = "127.0.0.1:1"
"""A registry where nothing listens: whoever reads from it fails at once."""


class Notes:
    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, image: object) -> None:
        return None

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def world() -> World:
    made = World()
    made.show(starting(1), "shop/api", "1", registry=NOBODY)
    made.show(failing(2), "shop/report", "1", registry=NOBODY)
    made.show(failing(3, platform="linux/arm64"), "shop/report", "1", registry=NOBODY)
    made.show(starting(4), "shop/new", "1", registry=NOBODY)
    made.show(None, "shop/new", "1", registry=NOBODY, platform="linux/arm64")
    made.show(None, "shop/odd", "1", registry=NOBODY, platform="linux/amd64", outcome="corrupt-layer", detail="cut",
              manifest_digest="sha256:odd")  # fmt: skip
    made.show(starting(5), "shop/mine", "1", registry=NOBODY, source="docker", manifest_digest="")
    return made


@pytest.fixture
async def server(world: World) -> AsyncIterator[str]:
    async with TestServer(world.app()) as running:
        yield str(running.make_url("/"))


def guarded(world: World) -> web.Application:
    tokens = ((TokenSettings(name="reader"), Secret("read-me-0123456789")),)
    return world.app(settings=Settings(listen=ListenSettings(address="0.0.0.0")), tokens=tokens)


async def ask(server: str, name: str, notes: Notes | None = None, env: dict[str, str] | None = None, **more: Any) -> Scan:
    flags = {"scan.server": server, "scan.token.env": "TOKEN"} if env else {"scan.server": server}
    question = Question(parse_reference(name), cached=False, **more)
    return await scan_by_daemon(question, Surroundings(load_settings(None, {}, flags), env or {}, notes or Notes()))


async def test_what_the_daemon_knows_is_its_answer(server: str) -> None:
    good, bad = await ask(server, f"{NOBODY}/shop/api:1"), await ask(server, f"{NOBODY}/shop/report:1")
    assert (good.exit_status, good.answered_by) == (0, server)
    assert [(image.platform, image.exit_status) for image in bad.images] == [("linux/amd64", 1), ("linux/arm64", 1)]
    assert [image.report for image in good.images] == [starting(1)]
    assert f"asked  {server}, which had read it before" in paint(scan_lines(good, 120))


async def test_a_platform_and_a_digest_choose_among_its_rows(server: str) -> None:
    arm = await ask(server, f"{NOBODY}/shop/report:1", platforms=(parse_platform("arm64"),))
    assert [image.platform for image in arm.images] == ["linux/arm64"]
    digest = arm.images[0].manifest_digest
    assert [image.manifest_digest for image in (await ask(server, f"{NOBODY}/shop/report@{digest}")).images] == [digest]


async def test_the_severity_that_counts_is_the_askers(server: str, world: World) -> None:
    waste = failing(6).findings[1]
    world.show(starting(6, findings=(waste,)), "shop/warned", "1", registry=NOBODY)
    assert (await ask(server, f"{NOBODY}/shop/warned:1")).exit_status == 0
    assert (await ask(server, f"{NOBODY}/shop/warned:1", fail_on=Severity.WARNING)).exit_status == 1


async def test_what_could_not_be_analysed_there_is_undecided_here(server: str) -> None:
    odd = await ask(server, f"{NOBODY}/shop/odd:1")
    assert (odd.exit_status, odd.images[0].outcome, odd.images[0].detail) == (2, "corrupt-layer", "cut")


@pytest.mark.parametrize(("name", "more"), [
    ("shop/none:1", {}),
    ("shop/new:1", {}),  # one platform of it is still waiting
    ("shop/mine:1", {}),  # an engine's image is no registry's
    ("shop/api:1", {"platforms": (parse_platform("s390x"),)}),
    ("shop/api:1", {"overrides": Overrides(cmd=("x",))}),
])  # fmt: skip
async def test_what_the_daemon_cannot_answer_is_read_here(server: str, name: str, more: dict[str, Any]) -> None:
    notes = Notes()
    with pytest.raises(SourceError, match="127.0.0.1:1 cannot be reached"):
        await ask(server, f"{NOBODY}/{name}", notes, **more)
    assert notes.told == []


async def unlike(_: web.Request) -> web.Response:
    return web.json_response({"items": "none"})


def strange() -> web.Application:
    """Something else that listens there."""
    app = web.Application()
    app.router.add_get("/api/v1/images", unlike)
    return app


@pytest.mark.parametrize("broken", ["absent", "strange", "guarded"])
async def test_a_daemon_that_gives_no_answer_is_told_and_done_without(broken: str, world: World) -> None:
    async with TestServer(strange() if broken == "strange" else guarded(world)) as running:
        server = "http://127.0.0.1:1" if broken == "absent" else str(running.make_url("/"))
        notes = Notes()
        with pytest.raises(SourceError, match="127.0.0.1:1 cannot be reached"):
            await ask(server, f"{NOBODY}/shop/api:1", notes)
    (told,) = notes.told
    assert told.startswith(f"{server} gives no answer (")
    assert told.endswith("); reading the image here")


async def test_a_token_is_given_to_who_asks_for_it_and_to_nobody_in_the_clear(world: World) -> None:
    async with TestServer(guarded(world)) as running:
        answer = await ask(str(running.make_url("/")), f"{NOBODY}/shop/api:1", env={"TOKEN": "read-me-0123456789"})
    assert answer.answered_by
    notes = Notes()
    with pytest.raises(SourceError):
        await ask("http://enoent.invalid", f"{NOBODY}/shop/api:1", notes, env={"TOKEN": "read-me-0123456789"})
    assert "not sent over plain HTTP" in notes.told[0]


async def test_files_are_this_machines_own_and_never_asked_about(tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "app", {"1": Image(layers=(tar_of({"bin/app": TRUE}),), cmd=["/bin/app"])})
    answer = await ask("http://127.0.0.1:1", f"oci:{layout}")
    assert (answer.exit_status, answer.answered_by) == (0, "")


def test_an_address_that_is_none_names_its_key() -> None:
    with pytest.raises(SettingsError, match="scan.server: 'enoent.example' is not an address"):
        load_settings(None, {}, {"scan.server": "enoent.example"})
