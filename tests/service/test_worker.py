"""Worker processes: what they give, how they are held, and that the end of one is the outcome of one request."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from analyzers.errors import Rejected
from analyzers.finding import Report, State
from analyzers.limits import MIB
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile
from service.blobs import verified
from service.errors import SourceError, WorkerDied
from service.settings import Workers
from service.worker import LayerOutcome, Pool, Sections
from tests.make.images import Image, docker_archive
from tests.make.layers import Blob, blob, program, script, sha256, tar_of

STATIC = Workers(parallel=2)


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def layer_blob(name: str = "a", size: int = 1000) -> Blob:
    return blob(tar_of({f"opt/{name}": program(name.encode() * size), "bin/run": script("#!/opt/none\n")}))


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(STATIC) as pool:
        yield pool


def children(pool: Pool) -> list[int]:
    return [process.child.pid for process in [*pool._idle, *pool._busy]]


async def fetch_nothing(key: str) -> Sections:
    raise AssertionError(f"{key} was asked for")


async def judged(pool: Pool, *outcomes: LayerOutcome, entrypoint: str = "/bin/run") -> Report:
    stored = {outcome.read.key: outcome.sections for outcome in outcomes}

    async def fetch(key: str) -> Sections:
        return stored[key]

    config = ImageConfig(entrypoint=(entrypoint,), diff_ids=tuple(outcome.read.diff_id for outcome in outcomes))
    body = await pool.judge("sha256:" + "0" * 64, config, [*stored], fetch, HostProfile())
    return msgspec.json.decode(body, type=Report)


async def test_a_layer_goes_in_as_bytes_and_comes_out_as_facts(pool: Pool) -> None:
    made = layer_blob()
    told: list[int] = []
    outcome = await pool.layer(pieces(made.data, 10), made.media_type, progress=told.append)
    assert outcome.read.blob_digest == made.digest
    assert outcome.read.diff_id == made.diff_id
    assert outcome.read.coverage == "full"
    assert outcome.read.entries == 4
    assert set(outcome.sections) >= {"entries", "text"}
    assert told[-1] == len(made.data)


async def test_a_digest_that_the_daemon_checks_itself_is_the_one_the_facts_are_known_by(pool: Pool) -> None:
    made = layer_blob()
    named = "sha512:" + hashlib.sha512(made.data).hexdigest()
    outcome = await pool.layer(verified(pieces(made.data), named), made.media_type, digest=named)
    assert outcome.read.blob_digest == named
    assert outcome.read.diff_id == made.diff_id


async def test_an_image_is_judged_by_the_worker_that_holds_its_layers_without_sending_them_again(pool: Pool) -> None:
    made = layer_blob()
    outcome = await pool.layer(pieces(made.data), made.media_type)
    config = ImageConfig(entrypoint=("/bin/run",), diff_ids=(made.diff_id,))
    body = await pool.judge("sha256:" + "0" * 64, config, [outcome.read.key], fetch_nothing, HostProfile())
    report = msgspec.json.decode(body, type=Report)
    assert report.verdict.state is State.FAILS
    assert "no such file or directory" in report.verdict.message


async def test_a_worker_that_does_not_hold_the_layers_gets_them_and_says_the_same(pool: Pool) -> None:
    made = layer_blob()
    outcome = await pool.layer(pieces(made.data), made.media_type)
    warm = await judged(pool, outcome)
    async with Pool(STATIC) as cold:
        assert await judged(cold, outcome) == warm


async def test_h053_a_layer_that_is_not_the_one_the_config_names_is_reported(pool: Pool) -> None:
    made = layer_blob()
    outcome = await pool.layer(pieces(made.data), made.media_type)
    config = ImageConfig(entrypoint=("/bin/run",), diff_ids=("sha256:" + "1" * 64,))
    body = await pool.judge("sha256:" + "0" * 64, config, [outcome.read.key], fetch_nothing, HostProfile())
    findings = msgspec.json.decode(body, type=Report).findings
    assert [finding.rule for finding in findings if "mismatch" in finding.rule]


async def test_facts_that_are_not_ours_are_refused_and_the_worker_lives(pool: Pool) -> None:
    outcome = await pool.layer(pieces(layer_blob().data))
    damaged = LayerOutcome(msgspec.structs.replace(outcome.read, key="other"), {"entries": [b"nonsense"]})
    with pytest.raises(Rejected, match="bad-facts"):
        await judged(pool, damaged)
    assert pool.stats.started == 1
    assert pool.stats.exits == {}


async def test_a_refused_layer_is_drawn_to_its_end_and_the_worker_goes_on(pool: Pool) -> None:
    drawn = 0

    async def garbage() -> AsyncIterator[bytes]:
        nonlocal drawn
        for _ in range(50):
            drawn += 1
            yield b"\x1f\x8b\x08\x00" + b"\xff" * 100_000
            await asyncio.sleep(0)

    with pytest.raises(Rejected):
        await pool.layer(garbage())
    assert drawn == 50
    assert (await pool.layer(pieces(layer_blob().data))).read.coverage == "full"
    assert pool.stats.started == 1


async def test_h037_a_corrupt_layer_whose_digest_does_not_hold_is_the_source_s_fault(pool: Pool) -> None:
    async def corrupt_on_the_way() -> AsyncIterator[bytes]:
        yield b"\x1f\x8b\x08\x00" + b"\xff" * 100_000
        await asyncio.sleep(0.2)
        raise SourceError("wanted one digest, got another", code="digest-mismatch")

    with pytest.raises(SourceError):
        await pool.layer(corrupt_on_the_way())


async def test_a_source_that_fails_in_the_middle_costs_that_request_alone(pool: Pool) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield layer_blob().data[:50]
        raise SourceError("reset")

    with pytest.raises(SourceError):
        await pool.layer(cut())
    assert (await pool.layer(pieces(layer_blob().data))).read.coverage == "full"
    assert pool.stats.exits == {}


async def test_h122_a_killed_worker_is_told_by_its_signal_and_another_takes_its_place(pool: Pool) -> None:
    async def killing() -> AsyncIterator[bytes]:
        yield layer_blob().data[:50]
        for pid in children(pool):
            os.kill(pid, signal.SIGSEGV)
        for _ in range(100):
            await asyncio.sleep(0.01)
            yield b"x" * 100_000

    with pytest.raises(WorkerDied) as death:
        await pool.layer(killing())
    assert death.value.reason == "signal-11"
    assert pool.stats.exits == {"signal-11": 1}
    assert (await pool.layer(pieces(layer_blob().data))).read.coverage == "full"


async def test_a_worker_that_does_not_answer_in_time_is_killed_for_its_deadline() -> None:
    async with Pool(Workers(parallel=1, deadline_seconds=1.0)) as pool:
        await pool.layer(pieces(layer_blob().data))

        async def stopping() -> AsyncIterator[bytes]:
            os.kill(children(pool)[0], signal.SIGSTOP)
            yield layer_blob().data

        with pytest.raises(WorkerDied) as death:
            await pool.layer(stopping())
    assert death.value.reason == "deadline"


async def test_a_worker_without_room_in_its_address_space_dies_of_memory() -> None:
    big = tar_of({f"etc/ld.so.conf.d/{number}.conf": program(bytes(1 << 20)) for number in range(12)})
    async with Pool(Workers(parallel=1, address_space_bytes=32 * MIB)) as pool:
        with pytest.raises(WorkerDied) as death:
            await pool.layer(pieces(big))
    assert death.value.reason == "memory"


async def test_a_worker_beyond_its_resident_memory_is_killed_for_it() -> None:
    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1024)
            await asyncio.sleep(0.05)

    async with Pool(Workers(parallel=1, memory_bytes=4 * MIB)) as pool:
        async with asyncio.timeout(20):
            with pytest.raises(WorkerDied) as death:
                await pool.layer(slow())
    assert death.value.reason == "memory"


async def test_h122_when_no_process_can_be_started_the_request_fails_and_no_slot_is_lost(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", refuse)
        for _ in range(10):
            with pytest.raises(WorkerDied) as death:
                await pool.layer(pieces(layer_blob().data))
            assert death.value.reason == "start"
    many = [pool.layer(pieces(layer_blob(str(number)).data)) for number in range(6)]
    async with asyncio.timeout(60):
        assert len(await asyncio.gather(*many)) == 6
    assert pool.stats.busy == 0


async def test_no_more_workers_than_wanted_and_one_for_judging(pool: Pool) -> None:
    await asyncio.gather(*(pool.layer(pieces(layer_blob(str(number)).data)) for number in range(8)))
    assert pool.stats.started <= 2
    assert pool.stats.busy == 0


async def test_a_slow_download_does_not_hold_up_a_verdict(pool: Pool) -> None:
    outcome = await pool.layer(pieces(layer_blob().data))
    release = asyncio.Event()

    async def slow(data: bytes) -> AsyncIterator[bytes]:
        yield data[:10]
        await release.wait()
        yield data[10:]

    downloads = [asyncio.create_task(pool.layer(slow(layer_blob(str(n)).data))) for n in range(4)]
    async with asyncio.timeout(30):
        assert (await judged(pool, outcome)).verdict.state is State.FAILS
    release.set()
    assert len(await asyncio.gather(*downloads)) == 4


async def test_a_worker_that_is_killed_while_it_starts_is_not_the_image_s_fault(pool: Pool) -> None:
    async def kill_when_there() -> None:
        while not (found := _children_of_this_process()):  # noqa: ASYNC110 - a child rings no bell
            await asyncio.sleep(0.001)
        for child in found:
            os.kill(child, signal.SIGKILL)

    killing = asyncio.create_task(kill_when_there())
    with pytest.raises(WorkerDied) as death:
        await pool.layer(pieces(layer_blob().data))
    await killing
    assert death.value.reason == "start"
    assert pool.stats.exits == {"start": 1}
    await pool.close()
    assert _children_of_this_process() == []
    assert (await pool.layer(pieces(layer_blob().data))).read.entries


async def test_a_request_that_is_cancelled_while_its_worker_starts_leaves_no_process_behind() -> None:
    async with Pool(Workers(parallel=1)) as pool:
        reading = asyncio.create_task(pool.layer(pieces(layer_blob().data)))
        while not pool.stats.started:  # noqa: ASYNC110 - a child rings no bell
            await asyncio.sleep(0.001)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    assert _children_of_this_process() == []


def _children_of_this_process() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in listed if b"analyzers" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_i3_a_small_layer_is_read_while_big_ones_take_every_worker() -> None:
    release = asyncio.Event()

    async def stalled(data: bytes) -> AsyncIterator[bytes]:
        yield data[:10]
        await release.wait()
        yield data[10:]

    async with Pool(msgspec.structs.replace(STATIC, parallel=1)) as pool:
        big = [layer_blob(str(number)).data for number in range(3)]
        waiting = [asyncio.create_task(pool.layer(stalled(data), size_bytes=1 << 30)) for data in big]
        await asyncio.sleep(0)
        small = layer_blob("small").data
        async with asyncio.timeout(30):
            assert (await pool.layer(pieces(small), size_bytes=len(small))).read.coverage == "full"
        assert not any(task.done() for task in waiting)
        release.set()
        await asyncio.gather(*waiting)


async def test_a_worker_s_death_is_told_while_its_source_stalls(pool: Pool) -> None:
    data = layer_blob().data
    stalled = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield data[:10]
        stalled.set()
        await asyncio.Event().wait()

    reading = asyncio.create_task(pool.layer(stalling()))
    await stalled.wait()
    os.kill(children(pool)[0], signal.SIGKILL)
    async with asyncio.timeout(30):
        with pytest.raises(WorkerDied, match="signal-9"):
            await reading
    assert (await pool.layer(pieces(data))).read.entries


async def test_a_fast_source_waits_for_the_reader(pool: Pool) -> None:
    """The pipe is the only buffer: what is drawn and not yet read stays below a few MiB."""
    await pool.layer(pieces(layer_blob().data))
    drawn = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal drawn
        while True:
            drawn += 1 << 20
            yield bytes(1 << 20)

    reading = asyncio.create_task(pool.layer(endless()))
    await asyncio.sleep(0.05)
    os.kill(children(pool)[0], signal.SIGSTOP)
    await asyncio.sleep(0.2)
    before = drawn
    await asyncio.sleep(0.5)
    assert drawn == before
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading


async def test_a_cancelled_request_frees_its_slot_and_leaves_no_worker_half_fed(pool: Pool) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    for _ in range(3):
        task = asyncio.create_task(pool.layer(never()))
        await asyncio.sleep(0.3)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert (await pool.layer(pieces(layer_blob().data))).read.coverage == "full"
    assert pool.stats.busy == 0


async def test_a_worker_is_replaced_after_its_share_of_requests() -> None:
    async with Pool(Workers(parallel=1, recycle_after=2)) as pool:
        for number in range(5):
            await pool.layer(pieces(layer_blob(str(number)).data))
        assert pool.stats.recycled == 2
        assert pool.stats.exits == {}


async def test_h143_a_worker_has_no_secrets_no_network_and_the_limits_it_was_given(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENOENT_TEST_SECRET", "s3cret")
    await pool.layer(pieces(layer_blob().data))
    (pid,) = children(pool)
    limits = Path(f"/proc/{pid}/limits").read_text()
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
    assert rows["Max address space"] == [str(1 << 30)] * 2
    assert rows["Max file size"] == ["0", "0"]
    assert rows["Max processes"] == ["0", "0"]
    assert rows["Max core file size"] == ["0", "0"]
    assert int(rows["Max open files"][0]) <= 64
    assert pool.confined["memory"] == str(1 << 30)
    network = pool.confined["network"]
    assert network == "none" or network.startswith("refused")
    if network == "none":
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    # Where the namespace is refused, as in a container, the filter still keeps sockets away.
    assert pool.confined["system_calls"] == "filtered"
    assert "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
    with contextlib.suppress(PermissionError):
        assert b"s3cret" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_an_archive_is_read_in_one_pass_and_known_layers_are_passed_over(pool: Pool) -> None:
    first, second = tar_of({"a": "1"}), tar_of({"bin/run": script("#!/opt/none\n")})
    made = docker_archive({"app:1": Image(layers=(first, second), entrypoint=["/bin/run"])})
    outcome = await pool.archive(pieces(made))
    assert "manifest.json" in outcome.documents
    found = {member.layer.read.diff_id for member in outcome.layers.values() if member.layer}
    assert found == {sha256(first), sha256(second)}
    assert all(member.layer.sections["entries"] for member in outcome.layers.values() if member.layer)
    names = [name for name, member in outcome.layers.items() if member.layer and member.layer.read.diff_id == sha256(first)]
    again = await pool.archive(pieces(made), known=names)
    assert [member.layer.read.diff_id for member in again.layers.values() if member.layer] == [sha256(second)]
    index = await pool.archive(pieces(made), index_only=True)
    assert not index.layers
    for name, (offset, size) in index.members.items():
        assert len(made[offset : offset + size]) == size, name


async def test_leaving_the_pool_leaves_no_process(pool: Pool) -> None:
    async with Pool(STATIC) as short:
        await short.layer(pieces(layer_blob().data))
        pids = children(short)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture(autouse=True)
def no_file_is_written(tmp_path: Path) -> Iterator[None]:
    before = sorted(os.listdir("/tmp"))
    yield
    new = [name for name in sorted(os.listdir("/tmp")) if name not in before and name.startswith(("enoent", "tmp"))]
    assert not [name for name in new if "enoent" in name]
