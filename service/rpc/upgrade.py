"""The engine's own BuildKit: its socket speaks HTTP/1.1, and HTTP/2 only after `POST /grpc` was upgraded (sources.md 1.2).

gRPC dials for itself, so it is given a socket of ours that has no file, takes only this process, and passes bytes on to a
connection that was upgraded. Two threads a connection pump; nothing is looked at.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import threading

from service.errors import SourceError

CONNECT_SECONDS = 10.0
BUFFER_BYTES = 1 << 20
HEAD_BYTES = 16 << 10
_ASKED = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"


def upgraded(path: str) -> socket.socket:
    """A connection to the engine that speaks HTTP/2 from here on. Raises SourceError: `unsupported` where it is refused."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(path)
        connection.sendall(_ASKED)
        head = _head(connection)
        connection.settimeout(None)
    except OSError as error:
        connection.close()
        raise SourceError(f"{path}: {error.strerror or error}") from error
    if not head.startswith(b"HTTP/1.1 101 "):
        connection.close()
        said = head.partition(b"\r\n")[0].decode("latin-1")[:100]
        raise SourceError(f"{path} does not pass on to its BuildKit: {said}", temporary=False, code="unsupported")
    return connection


def _head(connection: socket.socket) -> bytes:
    """The answer up to its empty line, and no byte more: frames of the engine may follow at once."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < HEAD_BYTES:
        seen = connection.recv(HEAD_BYTES - len(head), socket.MSG_PEEK)
        if not seen:
            break
        end = (head[-3:] + seen).find(b"\r\n\r\n")
        head += connection.recv(len(seen) if end < 0 else end + 4 - len(head[-3:]))
    return head


class Passage:
    """A socket for gRPC to dial, `target`, each of whose connections leads to the engine's BuildKit."""

    def __init__(self, path: str) -> None:
        self._path = path
        name = f"enoent-{os.getpid()}-{secrets.token_hex(8)}"
        self.target = f"unix-abstract:{name}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("\0" + name)
        self._listener.listen(4)
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, name="buildkit passage", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return  # closed
            if not _is_ours(inner):
                inner.close()
                continue
            try:
                outer = upgraded(self._path)
            except SourceError:
                inner.close()  # gRPC says that nobody answers, and tries again by its own time
                continue
            self._open |= {inner, outer}
            if self._closed:
                self._end(inner, outer)
                return
            for here, there in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._pump, args=(here, there), name="buildkit pump", daemon=True).start()

    def _pump(self, here: socket.socket, there: socket.socket) -> None:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        try:
            while count := here.recv_into(buffer):
                there.sendall(buffer[:count])
        except OSError:
            pass  # one side has gone, and so the other goes
        finally:
            self._end(here, there)

    def _end(self, *connections: socket.socket) -> None:
        for each in connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            self._open.discard(each)
            each.close()

    def close(self) -> None:
        """Ends every connection and takes no more."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end(*list(self._open))


def _is_ours(connection: socket.socket) -> bool:
    """Whether this very process is at the other end: the engine behind is equal to root."""
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(pid == os.getpid())
