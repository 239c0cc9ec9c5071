"""`GET /metrics` on a port of its own, without authentication: for a network that only the monitoring reaches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, start_http_server

log = logging.getLogger(__name__)

PORTS: Final = 16
"""Ports tried, from the one set on, so that processes of one host can share a setting."""


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> tuple[int, Callable[[], None]] | None:
    """Answer from a thread of its own.

    Args:
        registry: what is told.
        host: the address to listen on.
        port: the first port to try; where another process has it the next ones are tried, `PORTS` in all.

    Returns:
        The port and what ends it; None when none can be had, which is logged: no metrics are no reason not to work.
    """
    for candidate in range(port, min(port + PORTS, 65_536)):
        try:
            server: Any
            server, thread = start_http_server(candidate, host, registry)
        except OSError as error:
            log.debug("metrics cannot be read from port %d: %s", candidate, error)
            continue

        def stop(server: Any = server, thread: Any = thread) -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        log.info("metrics at http://%s:%d/metrics", host, candidate)
        return candidate, stop
    log.warning("no metrics: no port of %s from %d on can be had (PRELABEL_METRICS_PORT, PRELABEL_HOST)", host, port)
    return None
