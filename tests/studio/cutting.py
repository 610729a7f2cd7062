"""A connection between a page and a server that is cut where a test says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence

RESET = struct.pack("ii", 1, 0)  # closing sends a reset: nothing that waits is sent


class CuttingProxy:
    """Forwards connections to a port of this machine, and resets one each time another of `cuts` bytes has gone up."""

    def __init__(self, port: int, cuts: Sequence[int]) -> None:
        self.cuts = list(cuts)  # that are still to come
        self._to = port
        self._sent = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(16384):
                if is_up and self._is_cut(len(content)):
                    target.sendall(content[: len(content) // 2])
                    for end in (source, target):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        end.shutdown(socket.SHUT_RDWR)
                    break
                target.sendall(content)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _is_cut(self, num_bytes: int) -> bool:
        with self._lock:
            self._sent += num_bytes
            if self.cuts and self._sent >= self.cuts[0]:
                self.cuts.pop(0)
                return True
        return False
