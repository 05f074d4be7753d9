"""A Docker engine as a source: real engines with both kinds of store, and a fake one for the faults that they do not have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from analyzers.finding import State
from analyzers.limits import Limits
from analyzers.oci import Platform
from service.errors import SourceError
from service.memory import Memory
from service.pipeline import Examined, Examiner
from service.settings import Workers
from service.sources import EventKind, Sighting
from service.sources import docker_engine as docker_module
from service.sources.docker_engine import UNTAGGED, DockerSource
from service.sources.settings import DockerSettings
from service.worker import Pool
from tests.conftest import absent
from tests.engine import Engine, EngineAbsent, started
from tests.fakes.clock import Clock
from tests.fakes.engine import FakeEngine, engine_at
from tests.fakes.server import Answer, Request
from tests.fakes.sink import Kept
from tests.make.images import Image, docker_archive
from tests.make.layers import script, sha256, tar_of
from tests.service.parts import assembled
from tests.service.watching import Watch, watched

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"})


def image(name: str) -> Image:
    own = tar_of({"bin/run": script("#!/opt/none\n"), f"etc/{name}": name})
    return Image(layers=(BASE, own), entrypoint=["/bin/run"], cmd=["x"], env=["A=b"], user="0", labels={"l": name})


def source_of(socket: str, poll_seconds: float = 60.0, **seconds: float) -> DockerSource:
    """Layers come by export: tests/service/test_in_place.py reads them where they lie."""
    return DockerSource(DockerSettings(socket=socket, name="test", poll_seconds=poll_seconds, in_place=False), **seconds)


async def failure_of(call: object) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await call
    return failure.value


async def examined_of(source: DockerSource, sighting: Sighting, limits: Limits | None = None) -> Examined:
    async with Pool(Workers(parallel=1), limits) as pool:
        (examined,) = await Examiner(Memory(), pool).examine(source, sighting)
    return examined


# Real engines


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of this file's own: what stands in it is looked at as a whole."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(started())
        except EngineAbsent as error:
            absent(str(error))
        yield running


@pytest.fixture(params=["graphdriver", "containerd"])
def running(request: pytest.FixtureRequest) -> Engine:
    """Both kinds of store."""
    found: Engine = request.getfixturevalue("engine" if request.param == "graphdriver" else "containerd_engine")
    return found


@pytest.mark.docker
async def test_images_come_and_go_under_their_names(running: Engine) -> None:
    running.load(docker_archive({"test/seen:1": image("seen"), "docker:26-cli": image("dind")}))
    source = source_of(running.socket)
    async with watched(source, 60) as watch:
        seen, gone, whole = await watch.listing()
        assert seen["test/seen:1"]
        assert seen["library/docker:26-cli"] != seen["test/seen:1"]
        assert (gone, whole) == ([], True)
        assert running.docker("tag", "test/seen:1", "127.0.0.1:5000/other/name:2").exit_code == 0
        await watch.until(EventKind.APPEARED, "other/name:2")
        running.docker("rmi", "docker:26-cli")
        await watch.until(EventKind.GONE, "library/docker:26-cli")
        running.load(docker_archive({"test/seen:1": image("moved")}))
        while (moved := (await watch.listing())[0])["test/seen:1"] == seen["test/seen:1"]:
            pass
        assert moved["other/name:2"] == seen["test/seen:1"]
        running.docker("rmi", "127.0.0.1:5000/other/name:2", "test/seen:1")
        await watch.until(EventKind.GONE, "other/name:2")
    await source.close()


@pytest.mark.docker
async def test_an_image_without_a_name_is_seen_and_read_by_its_id(running: Engine) -> None:
    running.load(docker_archive({"test/bare:1": image("bare")}))
    source = source_of(running.socket)
    identity = json.loads(running.request("GET", "/images/test/bare:1/json")[1])["Id"]
    with running_container(running, "test/bare:1"):
        running.load(docker_archive({"test/bare:1": image("bare-next")}))
        async with watched(source, 60) as watch:
            seen, _, _ = await watch.listing()
        if running.request("GET", f"/images/{identity}/json")[0] == 200:  # the containerd store drops it with its last name
            assert f"{UNTAGGED}:" in seen
            (found,) = await source.resolve(Sighting("test", "docker", UNTAGGED, "", identity), ())
            assert found.image_id == image("bare").image_id
    running.docker("rmi", "-f", identity, "test/bare:1")
    await source.close()


class running_container:
    """Holds an image by a container that is never started, which one is enough for."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def __enter__(self) -> None:
        made = self._engine.docker("create", "--name", "holder", self._name)
        assert made.exit_code == 0, made.stderr

    def __exit__(self, *_: object) -> None:
        self._engine.docker("rm", "-f", "holder")


@pytest.mark.docker
async def test_an_image_is_read_by_export_and_judged_as_from_anywhere_else(running: Engine) -> None:
    wanted = image("judged")
    running.load(docker_archive({"test/judged:1": wanted}))
    source = source_of(running.socket)
    sighting = Sighting("test", "docker.io", "test/judged", "1")
    (found,) = await source.resolve(sighting, [Platform("linux", "amd64")])
    assert [layer.diff_id for layer in found.layers] == list(found.config.diff_ids)
    config = found.config
    assert (config.entrypoint, config.cmd, config.user, config.env) == (("/bin/run",), ("x",), "0", ("A=b",))
    assert [text for text, empty in config.history if not empty] in ([], ["COPY layer-0 /", "COPY layer-1 /"])
    async with Pool(Workers(parallel=1)) as pool:
        examiner = Examiner(Memory(), pool)
        (examined,) = await examiner.examine(source, sighting)
        (again,) = await examiner.examine(source, sighting)
    await source.close()
    verdict = json.loads(examined.report)["verdict"]
    assert (examined.outcome, verdict["state"], verdict["stage"]) == ("done", State.FAILS, "S2-execve")
    assert (examined.layers_read, again.layers_read, again.report) == (2, 0, examined.report)
    run = running.run("test/judged:1")
    assert verdict["message"].splitlines()[0] in run.stderr


@pytest.mark.docker
async def test_the_engine_s_own_config_is_read_where_its_data_can_be(engine: Engine) -> None:
    wanted = image("stored")
    engine.load(docker_archive({"test/stored:1": wanted}))
    source = source_of(engine.socket)
    (found,) = await source.resolve(Sighting("test", "docker.io", "test/stored", "1"), ())
    await source.close()
    assert found.config_body == wanted.config()
    assert found.image_id == wanted.image_id


@pytest.mark.docker
async def test_an_image_that_was_built_with_a_dockerfile_tells_which_instruction_made_each_layer(
    running: Engine, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "Dockerfile").write_text('FROM scratch\nENV A=1\nCOPY a /one\nUSER 7\nCOPY a /two\nCMD ["/one"]\n')
    built = running.docker("build", "--network", "none", "-t", "test/built:1", str(tmp_path))
    assert built.exit_code == 0, built.stderr
    source = source_of(running.socket)
    (found,) = await source.resolve(Sighting("test", "docker.io", "test/built", "1"), ())
    await source.close()
    texts = [text for text, empty in found.config.history if not empty]
    assert len(texts) == len(found.layers) == 2
    assert "/one" in texts[0]
    assert "/two" in texts[1]


@pytest.mark.docker
async def test_what_is_not_there_or_not_for_the_platform_is_told(running: Engine) -> None:
    running.load(docker_archive({"test/here:1": image("here")}))
    source = source_of(running.socket)
    told = await failure_of(source.resolve(Sighting("test", "docker.io", "test/here", "2"), ()))
    assert (told.code, told.temporary) == ("not-found", False)
    told = await failure_of(source.resolve(Sighting("test", "docker.io", "test/here", "1"), [Platform("linux", "s390x")]))
    assert (told.code, told.temporary) == ("no-such-platform", False)
    (found,) = await source.resolve(Sighting("test", "docker.io", "test/here", "1"), ())
    running.docker("rmi", "test/here:1")
    if found.manifest_digest:  # blobs of the containerd store stay until they are collected, at its own time
        kept, collected = Kept(), ""
        try:
            await source.read(found, [0], kept)
        except SourceError as missing:
            collected = missing.code
        assert collected == "layers-missing" or sha256(kept.blobs[0]) == found.layers[0].digest
    else:
        told = await failure_of(source.read(found, [0], Kept()))
        assert (told.code, told.temporary) == ("not-found", False)
    await source.close()


@pytest.mark.docker
async def test_when_an_engine_restarts_contact_is_lost_and_taken_up_even_with_another_store(
    containerd_engine: Engine, tmp_path: Path
) -> None:
    socket = tmp_path / "socket"
    containerd_engine.load(docker_archive({"test/second:1": image("second")}))
    source = source_of(str(socket))
    try:
        with started() as first:
            first.load(docker_archive({"test/first:1": image("first")}))
            socket.symlink_to(first.socket)
            async with watched(source, 60) as watch:
                assert "test/first:1" in (await watch.listing())[0]
                stop = asyncio.create_task(_stop(first))
                told = await failure_of(_forever(watch))
                await stop
            assert told.temporary
            assert "ended its events" in str(told)
    except EngineAbsent as error:
        absent(str(error))
    async with watched(source) as watch:
        told = await failure_of(watch.listing())
        assert (told.code, told.temporary) == ("not-found", True)
    socket.unlink()
    socket.symlink_to(containerd_engine.socket)
    async with watched(source, 60) as watch:
        seen, _, _ = await watch.listing()
    assert "test/second:1" in seen
    assert "test/first:1" not in seen
    examined = await examined_of(source, Sighting("test", "docker.io", "test/second", "1"))
    await source.close()
    assert examined.outcome == "done"


async def _stop(engine: Engine) -> None:
    pid = int((Path(engine.socket).parent / "pid").read_text())
    await asyncio.to_thread(subprocess.run, ["kill", "-TERM", str(pid)], check=True)


async def _forever(watch: Watch) -> None:
    while True:
        await watch.listing()


# A fake engine


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeEngine]:
    monkeypatch.setattr(docker_module, "SETTLE_SECONDS", 0.01)
    async with engine_at(tmp_path / "docker.sock") as engine:
        engine.images["app:1"] = image("app")
        yield engine


APP = Sighting("test", "docker.io", "app", "1")


async def test_an_event_that_was_lost_is_made_good_by_the_next_listing(fake: FakeEngine) -> None:
    """The engine keeps 256 events and some actions cause none (sources.md 2.2)."""
    source = source_of(fake.socket, poll_seconds=0.05)
    async with watched(source) as watch:
        assert (await watch.listing())[0].keys() == {"library/app:1"}
        fake.images = {"app:2": image("silent")}
        while (found := await watch.listing())[0].keys() != {"library/app:2"}:
            pass
        assert found[2]
    await source.close()


async def test_h105_three_hundred_events_in_a_gap_and_a_restart_leave_every_image_analysed_once(
    fake: FakeEngine, tmp_path: Path
) -> None:
    """The engine keeps 256 events, none across a restart of its own; the listing is the truth."""
    fake.images = {}
    # In the gap thirty tags are moved ten times; then nothing changes, and the daemon alone restarts.
    for number, (count, moves) in enumerate(((1, 1), (31, 10), (31, 0))):
        for move in range(moves):
            for at in range(number, count):
                labels = {"at": str(at), "move": str(move)}
                fake.images[f"many:{at}"] = Image(layers=(BASE,), entrypoint=["/bin/run"], labels=labels)
                fake.stirred.set()
        async with assembled(tmp_path / "state") as parts:
            follower = parts.follower(source_of(fake.socket))
            await parts.ledger.recall(["test"], parts.examiner.profile)
            following = asyncio.create_task(follower.follow())
            async with asyncio.timeout(60):
                while not follower.status.up or len(parts.fleet) < count:  # noqa: ASYNC110 - a status rings no bell
                    await asyncio.sleep(0.01)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await parts.work_off()
            assert set(parts.outcomes().values()) == {"done"}
            assert (parts.metrics.value("enoent_analyses_total", "done") or 0) == (1, 30, 0)[number]
            await follower.source.close()
    assert len(fake.asked("GET", "/get")) == 1, "the one layer of all was read again"


async def test_events_are_subscribed_to_before_the_first_listing(fake: FakeEngine) -> None:
    source = source_of(fake.socket)
    async with watched(source) as watch:
        await watch.listing()
        paths = [each.path.partition("?")[0].rpartition("/v1.45")[2] for each in fake.requests]
        assert paths.index("/events") < paths.index("/images/json")
        fake.images["app:2"] = image("two")
        fake.stirred.set()
        await watch.until(EventKind.APPEARED, "library/app:2")
    await source.close()


async def test_names_that_are_none_do_not_hide_an_image(fake: FakeEngine) -> None:
    rows = [{"Id": "sha256:" + "1" * 64, "RepoTags": tags} for tags in (None, ["<none>:<none>"], ["UPPER:1", "ok:1"])]
    fake.always("GET", "/images/json", Answer(200, {}, json.dumps(rows).encode()))
    source = source_of(fake.socket)
    async with watched(source) as watch:
        seen, _, _ = await watch.listing()
    await source.close()
    assert seen.keys() == {f"{UNTAGGED}:", "library/ok:1"}


async def test_h077_only_reading_requests_are_ever_made(fake: FakeEngine) -> None:
    source = source_of(fake.socket)
    async with watched(source) as watch:
        await watch.listing()
    assert (await examined_of(source, APP)).outcome == "done"
    await source.close()
    # An upgrade cannot be asked for otherwise; what is asked beyond it are the history and blobs.
    assert {(each.method, each.path) for each in fake.requests if each.method != "GET"} == {("POST", "/grpc")}
    allowed = ("/version", "/info", "/events", "/images/json", "/json", "/history", "/get", "/grpc")
    assert all(each.path.partition("?")[0].endswith(allowed) for each in fake.requests)


def cut_export(send: bytes, then: str) -> Callable[[Request, asyncio.StreamWriter], object]:
    async def export(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(send), send))
        await writer.drain()
        if then == "hang":
            await asyncio.sleep(1000)

    return export


@pytest.mark.parametrize(("size", "then", "code"), [(0, "end", "truncated"), (3000, "end", "truncated"), (700, "hang", "slow")])
async def test_h077_an_export_that_breaks_off_or_stops_is_tried_again_and_nothing_is_kept(
    fake: FakeEngine, size: int, then: str, code: str
) -> None:
    whole = docker_archive({"app:1": image("app")})
    fake.once("GET", "/get", cut_export(whole[:size] or b"\0", then))
    source = source_of(fake.socket, idle_seconds=0.5)
    async with Pool(Workers(parallel=1)) as pool:
        examiner = Examiner(Memory(), pool)
        told = await failure_of(examiner.examine(source, APP))
        assert (told.code, told.temporary) == (code, True)
        (examined,) = await examiner.examine(source, APP)
    await source.close()
    assert (examined.outcome, examined.layers_read) == ("done", 2)


async def test_h077_an_export_that_drips_is_left(fake: FakeEngine) -> None:
    clock = Clock()

    async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            clock.advance(0.5)
            writer.write(b"1\r\n\0\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)

    fake.always("GET", "/get", drip)
    source = source_of(fake.socket, clock=clock)
    told = await failure_of(examined_of(source, APP))
    await source.close()
    assert (told.code, told.temporary) == ("slow", True)


async def test_h077_an_export_that_never_begins_is_left_after_its_time(fake: FakeEngine) -> None:
    async def never(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1000)

    fake.always("GET", "/get", never)
    source = source_of(fake.socket, first_byte_seconds=0.1)
    told = await failure_of(examined_of(source, APP))
    await source.close()
    assert (told.code, told.temporary) == ("slow", True)


async def test_h077_an_export_of_a_hundred_gigabytes_ends_at_the_ceiling(fake: FakeEngine) -> None:
    sent = 0

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        head = bytearray(tar_of({"layer.tar": b""}, parents=False)[:512])
        head[124:136] = b"\x80" + (100 << 30).to_bytes(11, "big")
        head[148:156] = b"        "
        head[148:156] = b"%06o\0 " % sum(head)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(head))
        while sent < 1 << 30:
            writer.write(bytes(1 << 20))
            sent += 1 << 20
            await writer.drain()

    fake.always("GET", "/get", endless)
    source = source_of(fake.socket)
    examined = await examined_of(source, APP, Limits(uncompressed_image_bytes=4 << 20, compressed_image_bytes=4 << 20))
    await source.close()
    assert examined.outcome == "too-large"
    assert sent > 4 << 20


@pytest.mark.parametrize("part", ["/version", "/info", "/events", "/images/json"])
async def test_h077_an_engine_that_hangs_is_left_after_its_time(fake: FakeEngine, part: str) -> None:
    async def never(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1000)

    fake.once("GET", part, never)
    source = source_of(fake.socket, request_seconds=1.0)
    async with watched(source) as watch:
        told = await failure_of(watch.listing())
    assert (told.code, told.temporary) == ("slow", True)
    async with watched(source) as watch:
        assert (await watch.listing())[2]
    await source.close()


async def test_h077_an_engine_that_hangs_does_not_hold_up_the_loop_nor_the_end_of_the_process(tmp_path: Path) -> None:
    """docker-py's calls block: in asyncio's own threads they would be waited for at exit."""
    program = (
        "import asyncio, sys\n"
        "from service.sources.docker_engine import DockerSource\n"
        "from service.sources.settings import DockerSettings\n"
        "async def main():\n"
        "    source = DockerSource(DockerSettings(socket=sys.argv[1]))\n"
        "    task = asyncio.create_task(anext(source.events()))\n"
        "    for _ in range(10): await asyncio.sleep(0.02)\n"
        "    task.cancel()\n"
        "    print('turned')\n"
        "asyncio.run(main())\n"
    )
    async with engine_at(tmp_path / "s") as engine:

        async def never(request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1000)

        engine.always("GET", "", never)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, engine.socket, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        async with asyncio.timeout(30):
            out, err = await child.communicate()
    assert (out, child.returncode) == (b"turned\n", 0), err


@pytest.mark.parametrize("answer", [Answer(500, {}, b"<html>"), Answer(200, {}, b"no JSON"), b"", b"garbage\r\n\r\n"])
@pytest.mark.parametrize("part", ["/version", "/images/json", "/images/app:1/json"])
async def test_h077_an_engine_that_answers_nonsense_is_temporary(fake: FakeEngine, part: str, answer: Answer | bytes) -> None:
    fake.always("GET", part, answer)
    source = source_of(fake.socket)
    if part == "/images/app:1/json":
        told = await failure_of(source.resolve(APP, ()))
    else:
        async with watched(source) as watch:
            told = await failure_of(watch.listing())
    await source.close()
    assert told.temporary


async def test_h077_a_socket_that_is_not_there_or_not_served_or_no_socket_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with engine_at(tmp_path / "left"):
        pass
    for name, code in (("absent", "not-found"), ("file", "unreachable"), ("left", "unreachable")):
        source = source_of(str(tmp_path / name))
        told = await failure_of(source.resolve(APP, ()))
        assert (told.code, told.temporary) == (code, True)
        assert str(tmp_path / name) in str(told)


async def test_h077_a_socket_that_we_may_not_use_is_told_as_such(fake: FakeEngine) -> None:
    if shutil.which("capsh") is None:
        absent("no capsh to drop root's right to every socket: run tests/setup/debian.sh")
    Path(fake.socket).chmod(0)
    drop = ["capsh", "--drop=cap_dac_override", "--shell=/usr/bin/env", "--"] if os.geteuid() == 0 else []
    program = (
        "import asyncio, sys\n"
        "from service.errors import SourceError\n"
        "from service.sources import Sighting\n"
        "from service.sources.docker_engine import DockerSource\n"
        "from service.sources.settings import DockerSettings\n"
        "async def main():\n"
        "    try: await DockerSource(DockerSettings(socket=sys.argv[1])).resolve(Sighting('d', 'd', 'a', '1'), ())\n"
        "    except SourceError as error: print(error.code, error)\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        *drop, sys.executable, "-c", program, fake.socket,
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    assert out.decode() == f"denied no Docker engine at {fake.socket}: Permission denied\n", err
    assert not fake.requests
