"""A TCP proxy between workers and Redis that can refuse, reset, and stall one packet."""

from __future__ import annotations

import queue
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: close() sends a reset


class _Link:
    """One worker's connection and ours to Redis for it."""

    def __init__(self, client: socket.socket, upstream: socket.socket, port: int) -> None:
        self.client = client
        self.upstream = upstream
        self.client_port = port


class Proxy:
    """Forwards to 127.0.0.1:`upstream_port`, on one thread.

    Attributes:
        port: where it listens, always the same.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._selector = selectors.DefaultSelector()
        self._links: set[_Link] = set()
        self._orders: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._bell, self._ring = socket.socketpair()
        self._caught: queue.SimpleQueue[int] | None = None
        self._running = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._watch(self._listener, self._accept)
        self._watch(self._bell, self._obey)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Refuse new connections, as a host does where nothing listens."""

        def close() -> None:
            self._selector.unregister(self._listener)
            self._listener.close()

        self._order(close)

    def accept(self) -> None:
        """Take connections again."""

        def listen() -> None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._watch(self._listener, self._accept)

        self._order(listen)

    def reset(self) -> int:
        """Reset every connection, to both sides. Returns how many there were."""
        count = len(self._links)
        self._order(lambda: self._drop_all(list(self._links)))
        return count

    @contextmanager
    def stalled_booking(self, timeout_s: float) -> Iterator[int]:
        """Hold back the next packet that books a bulk message as taken, after BRPOP has removed it from its queue.

        Yields:
            The worker's own port of that connection. The packet is never delivered; the connection ends with the block.
        """
        caught: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._caught = caught
        try:
            port = caught.get(timeout=timeout_s)
        finally:
            self._caught = None
        try:
            yield port
        finally:
            self._order(lambda: self._drop_all([link for link in self._links if link.client_port == port]))

    def close(self) -> None:
        """End every connection and the thread."""

        def end() -> None:
            self._running = False

        self._order(end)
        self._thread.join()
        self._drop_all(list(self._links))
        for one in (self._listener, self._bell, self._ring):
            one.close()
        self._selector.close()

    def _order(self, what: Callable[[], None]) -> None:
        """Do something on the proxy's thread, and wait until it is done."""
        done: Future[None] = Future()
        self._orders.put((what, done))
        self._ring.send(b"!")
        done.result(10)

    def _obey(self) -> None:
        self._bell.recv(1)
        what, done = self._orders.get()
        try:
            what()
            done.set_result(None)
        except Exception as error:
            done.set_exception(error)

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                if self._is_watched(key):
                    key.data()

    def _is_watched(self, key: selectors.SelectorKey) -> bool:
        """Whether it is still there: an earlier one of the same round may have dropped it."""
        try:
            return self._selector.get_key(key.fileobj).data is key.data
        except (KeyError, ValueError):  # unregistered, or closed
            return False

    def _watch(self, one: socket.socket, then: Callable[[], None]) -> None:
        self._selector.register(one, selectors.EVENT_READ, then)

    def _accept(self) -> None:
        client, (_, port) = self._listener.accept()
        try:
            upstream = socket.create_connection(("127.0.0.1", self._upstream_port), timeout=5)
        except OSError:
            _reset(client)
            return
        for one in (client, upstream):
            one.settimeout(5)  # of a peer that takes nothing more
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, upstream, port)
        self._links.add(link)
        self._watch(client, lambda: self._from_client(link))
        self._watch(upstream, lambda: self._forward(link, link.upstream, link.client))

    def _from_client(self, link: _Link) -> None:
        if self._caught is None:
            self._forward(link, link.client, link.upstream)
            return
        with suppress(OSError):
            if books_bulk_message(link.client.recv(256 * 1024, socket.MSG_PEEK)):
                self._caught.put(link.client_port)
                self._caught = None
                self._selector.unregister(link.client)
                return
        self._forward(link, link.client, link.upstream)

    def _forward(self, link: _Link, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(256 * 1024)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass
        self._drop(link)

    def _drop_all(self, links: list[_Link]) -> None:
        for link in links:
            self._drop(link)

    def _drop(self, link: _Link) -> None:
        self._links.discard(link)
        for one in (link.client, link.upstream):
            with suppress(KeyError, ValueError):
                self._selector.unregister(one)
            _reset(one)


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    one.close()


def books_bulk_message(packet: bytes) -> bool:
    """Whether this is kombu's `QoS.append` for a message of the bulk queue."""
    return b"\r\nHSET\r\n" in packet and b"\r\nunacked\r\n" in packet and b"bulk" in packet
