"""A TCP proxy on loopback that loses what it is told to lose."""

from __future__ import annotations

import socket
import threading
from typing import List


class CuttingProxy:
    """Set ``next`` to ``pass``, or for once to

    - ``reply``: the next bytes from the service are lost, and their connection with them; its request got through;
    - ``accept``: the next connection is closed before anything gets through;

    or to ``hang``: nothing comes back any more.
    """

    def __init__(self, host: str, port: int) -> None:
        self.service = (host, port)
        self.next = "pass"
        self.cuts = 0
        self.accepted = 0
        self._open: List[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """No connection is accepted from here on."""
        # Wakes the thread that accepts, which closing alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut_all(self) -> None:
        """Every connection is closed, as by a service that restarts."""
        ends, self._open = self._open, []
        for end in ends:
            _close(end)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.next == "accept":
                self._cut(client)
                continue
            service = socket.create_connection(self.service)
            self._open += [client, service]
            for ends in ((client, service, False), (service, client, True)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket, is_reply: bool) -> None:
        try:
            while True:
                received = source.recv(65536)
                if not received:
                    break
                if is_reply and self.next == "reply":
                    self._cut(source, to)
                    return
                if not (is_reply and self.next == "hang"):
                    to.sendall(received)
        except OSError:
            pass
        for end in (source, to):
            end.close()

    def _cut(self, *ends: socket.socket) -> None:
        self.next = "pass"
        self.cuts += 1
        for end in ends:
            _close(end)


def _close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
