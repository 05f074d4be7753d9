"""gRPC as we use it: messages made at run time, the passage to an engine's BuildKit, and what failures mean."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import SettingsError, SourceError
from service.rpc.content import ContentStore
from service.rpc.dialling import Certificates, dial
from service.rpc.messages import BUILDKIT, define
from service.rpc.upgrade import Passage, upgraded
from tests.fakes.buildkit import buildkit_at
from tests.make.layers import sha256


def test_fields_that_a_table_does_not_know_are_passed_over() -> None:
    """One table serves every version of a server."""
    newer = define("newer", {"Record": {"ref": (1, "string"), "later": (99, "string"), "attrs": (3, "map string string")}})
    sent = newer["Record"](ref="a", later="b", attrs={"k": "v"}).SerializeToString()
    read = BUILDKIT["Record"].FromString(sent)
    assert (read.ref, dict(read.frontend_attrs)) == ("a", {"k": "v"})


class Server:
    """Answers an upgrade with these bytes, and then sends back what it is sent."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.asked = b""
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            with client, contextlib.suppress(ConnectionError):
                self.asked = client.recv(4096)
                client.sendall(self._answer)
                while piece := client.recv(4096):
                    client.sendall(piece)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.fixture
def echoing(tmp_path: Path) -> Iterator[str]:
    """The path of a socket that upgrades, says `frames` at once, and echoes."""
    server = Server(tmp_path / "s", SWITCHED + b"frames")
    yield str(tmp_path / "s")
    server.close()


def test_an_upgraded_connection_begins_with_the_first_byte_behind_the_answer(echoing: str) -> None:
    """An engine may send its first frames along with the answer."""
    with upgraded(echoing) as connection:
        assert connection.recv(6, socket.MSG_WAITALL) == b"frames"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 403 Forbidden\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 20_000])
def test_a_filter_in_front_of_the_engine_is_told_from_an_engine_that_is_not_there(tmp_path: Path, answer: bytes) -> None:
    server = Server(tmp_path / "s", answer)
    with pytest.raises(SourceError) as refused:
        upgraded(str(tmp_path / "s"))
    server.close()
    assert (refused.value.code, refused.value.temporary) == ("unsupported", False)
    with pytest.raises(SourceError) as missing:
        upgraded(str(tmp_path / "absent"))
    assert missing.value.code == "unreachable"


def test_the_passage_serves_this_process_and_no_other(echoing: str) -> None:
    """Behind it is a socket that is equal to root."""
    passage = Passage(echoing)
    name = passage.target.removeprefix("unix-abstract:")
    script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{name}'); s.settimeout(20); print(s.recv(6))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "frames" not in done.stdout
    with socket.socket(socket.AF_UNIX) as own:
        own.connect("\0" + name)
        assert own.recv(6, socket.MSG_WAITALL) == b"frames"
        own.sendall(b"ping")
        assert own.recv(4, socket.MSG_WAITALL) == b"ping"
        passage.close()
        assert own.recv(1) == b""


async def test_a_store_that_stops_in_the_middle_is_left_after_its_time(tmp_path: Path) -> None:
    async with buildkit_at(tmp_path) as fake:
        data = bytes(3 << 20)
        fake.blobs[sha256(data)] = data
        fake.hold_after = 1
        channel = dial(fake.address, "test")
        with pytest.raises(SourceError) as told:
            async for _ in ContentStore(channel, idle_seconds=0.2).blob(sha256(data)):
                pass
        await channel.close()
    assert told.value.code == "slow"


async def test_a_read_that_is_given_up_ends_on_the_other_side_too(tmp_path: Path) -> None:
    async with buildkit_at(tmp_path) as fake:
        data = bytes(8 << 20)
        fake.blobs[sha256(data)] = data
        fake.hold_after = 2
        channel = dial(fake.address, "test")
        blob = ContentStore(channel).blob(sha256(data))
        await anext(blob)
        await blob.aclose()
        async with asyncio.timeout(30):
            await fake.given_up.wait()
        await channel.close()


async def test_closing_a_source_ends_a_read_as_a_failure_of_the_source_and_cancels_nobody(tmp_path: Path) -> None:
    """A reload may take a source away while an image of it is read."""
    async with buildkit_at(tmp_path) as fake:
        data = bytes(3 << 20)
        fake.blobs[sha256(data)] = data
        fake.hold_after = 1
        channel = dial(fake.address, "test")
        blob = ContentStore(channel).blob(sha256(data))
        await anext(blob)
        reading = asyncio.ensure_future(anext(blob))
        await asyncio.sleep(0)
        await channel.close()
        with pytest.raises(SourceError, match="was closed"):
            await reading


async def test_plain_tcp_is_for_loopback_or_who_allows_it() -> None:
    dialled = (("tcp://127.0.0.1:1", False), ("tcp://[::1]:1", False), ("tcp://192.0.2.1:1", True), ("tcp://192.0.2.1:1", False))
    channels = [dial(address, "test", insecure=insecure) for address, insecure in dialled]
    assert [channel.secure for channel in channels] == [False, False, False, True]
    for channel in channels:
        await channel.close()
    with pytest.raises(SettingsError, match=r"absent\.pem"):
        dial("tcp://127.0.0.1:1", "test", Certificates(ca="absent.pem"))
