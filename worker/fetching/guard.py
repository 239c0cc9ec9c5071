"""Which addresses may be fetched from, enforced where the connection is made.

Image references come from people, and the worker stands inside the operator's network. So a name is resolved
once, every address it has is checked, and the connection goes to the checked address itself: a name that changes
its answer between check and use (DNS rebinding) gains nothing, and every redirect is checked because it needs a
connection as well. TLS still verifies the name.

The check sits in an httpcore network backend, not in a rewrite of the URL: connections are pooled by name, so one
made for `a.example` is never handed to `b.example` that happens to share its address.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from .addresses import RESOLVE_TIMEOUT_S, AddressPolicy
from .deadline import Deadline
from .reader import CONNECT_TIMEOUT_S, READ_TIMEOUT_S


class GuardedTransport(httpx.BaseTransport):
    """An httpx transport that connects only where an `AddressPolicy` allows, never through a proxy.

    Usable from many threads. The thread's `Deadline`, when one is in force, bounds every wait, so that neither
    headers nor a body that trickle in can hold a thread longer.

    Args:
        policy: where connections may go.
        keepalive: idle connections kept for reuse.
    """

    def __init__(self, policy: AddressPolicy, *, keepalive: int = 16) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=None,  # bounded by the threads that call
            max_keepalive_connections=keepalive,
            keepalive_expiry=15.0,
            network_backend=_GuardedBackend(policy),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response's body is still to be read.

        Raises:
            ItemError: a forbidden or unknown host.
            TransientError: the name does not resolve at the moment.
            httpx.TransportError: anything else that keeps the answer from coming.
        """
        with _httpx_errors():
            response = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _GuardedBackend(httpcore.NetworkBackend):
    """Resolves, checks, and connects to what was checked."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for address in self._policy.resolve(host, port, _within_deadline(RESOLVE_TIMEOUT_S)):
            try:
                stream = self._inner.connect_tcp(
                    address, port, _within_deadline(timeout, CONNECT_TIMEOUT_S), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _BoundedStream(stream)
        raise failure


class _BoundedStream(httpcore.NetworkStream):
    """A connection whose every wait ends with the calling thread's deadline, to a server that begins with `HTTP/`."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._begun = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, _within_deadline(timeout))
        # h11 waits for the end of the headers before it looks: what greets and hangs up seems a connection that broke.
        if not self._begun and data[:5] != b"HTTP/"[: len(data)]:
            raise httpcore.RemoteProtocolError("its answer does not begin with HTTP/")
        self._begun = self._begun or bool(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _within_deadline(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _BoundedStream(self._inner.start_tls(ssl_context, server_hostname, _within_deadline(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Body(httpx.SyncByteStream):
    """A response body that speaks httpx's errors."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise httpx's exception of the same name for each of httpcore's, as httpx's own transport does."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    ) as error:
        kind = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error)) from error


def _within_deadline(timeout: float | None, otherwise: float = READ_TIMEOUT_S) -> float:
    """`timeout`, or what the thread's deadline leaves of it; where there is neither, `otherwise`."""
    deadline = Deadline.current()
    if deadline is None:
        return otherwise if timeout is None else timeout
    remaining = deadline.remaining
    if remaining <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return remaining if timeout is None else min(timeout, remaining)
