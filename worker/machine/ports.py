"""Ports of this machine: whether one is free, and who has it."""

from __future__ import annotations

import errno
import socket

import psutil

from ...schemas.errors import ConfigError


def require_free_port(host: str, port: int) -> None:
    """Refuse, before anything is started, a port that a server could not listen on.

    Args:
        host: the address to listen on, or its name.
        port: 0 is any free one.

    Raises:
        ConfigError: another process has the port, this user may not have it, or the address is not this machine's.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # a name that cannot be one is a UnicodeError
        raise ConfigError(f"PRELABEL_HOST={host} is no address that can be found") from None
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            # As the server does: a connection that was just closed does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise _refusal(host, port, error) from None


def _refusal(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        holder = _holder(port)
        return ConfigError(f"port {port} is taken{f' (by {holder})' if holder else ''}: PRELABEL_PORT=… picks another")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"PRELABEL_HOST={host} is no address of this machine")
    if error.errno == errno.EACCES:
        return ConfigError(f"this user may not listen on port {port}: PRELABEL_PORT=… picks another, from 1024 on")
    return ConfigError(f"nothing can listen on port {port} of {host}: {error.strerror or error}")


def _holder(port: int) -> str:
    """The program that listens on the port, `nginx, process 81`; empty where this user may not know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()}, process {connection.pid}"
    except (psutil.Error, OSError):
        return ""
    return ""
