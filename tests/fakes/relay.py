"""A way between a client and a server that can be made to stop in the middle of an answer, as networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

PIECE_BYTES = 64 << 10


class Relay:
    """Passes bytes on. With `hold_after` set, a connection that has given the client so many bytes gives no more."""

    def __init__(self, host: str) -> None:
        name, _, port = host.rpartition(":")
        self._server = (name, int(port))
        self.hold_after: int | None = None
        self.held = threading.Event()
        """A connection is being held."""
        self._free = threading.Event()
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def release(self) -> None:
        """Whatever is held goes on, and nothing is held any more."""
        self.hold_after = None
        self._free.set()

    def hold(self, after: int) -> None:
        """From now on, answers stop after so many bytes of a connection."""
        self.held.clear()
        self._free.clear()
        self.hold_after = after

    def close(self) -> None:
        self._closing = True
        self.release()
        self._listener.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._server) as server:
            self._open |= {client, server}
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
            given = 0
            while piece := server.recv(PIECE_BYTES):
                client.sendall(piece)
                given += len(piece)
                if self.hold_after is not None and given > self.hold_after:
                    self.held.set()
                    self._free.wait()
        self._open -= {client}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                server.sendall(piece)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(host: str) -> Iterator[Relay]:
    """A relay to `host` for as long as the context lasts."""
    made = Relay(host)
    try:
        yield made
    finally:
        made.close()
