"""Which network addresses images may come from: the rule, apart from the connections it is applied to."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Iterable
from typing import Any

from ...schemas.errors import ConfigError, ItemError, TransientError

SETTING = "PRELABEL_ALLOW_HOSTS"
RESOLVE_TIMEOUT_S = 10.0
"""Seconds a name may take to resolve: twice the resolver's own default, so that its second server has a chance."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What `is_global` lets through although it leads inside, or to whatever is nearest (measured on Python 3.11).
_NEVER_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT, also cloud-internal (Alibaba's metadata)
        "168.63.129.16/32",  # Azure's platform address: globally routable on paper, the host on Azure
        "192.0.0.0/24",  # protocol assignments; Oracle's old metadata address
        "192.31.196.0/24",  # AS112: answered by the nearest network that wants to
        "192.52.193.0/24",  # automatic multicast tunnelling, the nearest relay
        "192.88.99.0/24",  # 6to4, the nearest relay
        "192.175.48.0/24",  # AS112
    )
)

_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""All that was ever given out as global unicast. What holds an IPv4 address lies outside, but for the exceptions."""

_NEVER_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, multicast relays, AS112
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: holds any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the 6bone, given back
        "3fff::/20",  # documentation
    )
)

_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""Third quarter of an address whose last is the IPv4 address of a tunnel's end (RFC 5214)."""


def is_public(address: _Address) -> bool:
    """Whether `address` is somewhere on the internet, and surely not on this network or machine."""
    if isinstance(address, ipaddress.IPv4Address):
        return (
            address.is_global
            and not address.is_multicast
            and not any(address in network for network in _NEVER_PUBLIC_V4)
        )
    embedded = int(address) & 0xFFFF_FFFF
    return (
        address.is_global
        and address.scope_id is None
        and address in _PUBLIC_V6
        and not any(address in network for network in _NEVER_PUBLIC_V6)
        and ((int(address) >> 32) & 0xFFFF_FFFF not in _ISATAP or is_public(ipaddress.IPv4Address(embedded)))
    )


class AddressPolicy:
    """Public addresses, and what the operator allows besides.

    Args:
        allow: hosts (`minio`), hosts with a port (`minio:9000`, `[fd00::1]:80`), addresses or CIDR ranges.

    Raises:
        ConfigError: an entry is none of these.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[_Network, int | None]] = []
        for entry in allow:
            host, port = _split_entry(entry)
            try:
                self._networks.append((ipaddress.ip_network(host, strict=False), port))
            except ValueError:
                self._names.add((host, port))

    def vouches_for(self, host: str, port: int) -> bool:
        """Whether the operator allowed this host by its name."""
        name = _plain(host)
        return (name, None) in self._names or (name, port) in self._names

    def allows(self, address: _Address, port: int) -> bool:
        """Whether a connection to `address` and `port` may be made, whatever name led there."""
        return is_public(address) or any(
            address in network and only_port in (None, port) for network, only_port in self._networks
        )

    def resolve(self, host: str, port: int, timeout_s: float = RESOLVE_TIMEOUT_S) -> list[str]:
        """The addresses behind `host`, all of them checked.

        One bad address refuses the name: with a mixed answer the one connected to would be a matter of luck.

        Raises:
            ItemError: an address is not allowed, or there is no such name.
            TransientError: the resolver does not answer, or a name the operator vouches for is missing for now
                (a container that restarts leaves its network's DNS for a moment).
        """
        vouched = self.vouches_for(host, port)
        try:
            addresses = _addresses(host, port, timeout_s)
        except (socket.gaierror, UnicodeError) as error:
            unknown = isinstance(error, UnicodeError) or error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
            if unknown and not vouched:
                raise ItemError(f"there is no host named {host!r}: check the spelling") from None
            raise TransientError(f"the host name {host!r} does not resolve at the moment") from None
        if not addresses:
            raise TransientError(f"the host name {host!r} has no address at the moment")
        if not vouched and not all(self.allows(address, port) for address in addresses):
            raise ItemError(
                f"{host!r} is at a private, local or reserved address, which images may not be fetched from; "
                f"if you trust it, add {_plain(host)} to {SETTING}"
            )
        return [str(address) for address in addresses]


def _addresses(host: str, port: int, timeout_s: float) -> list[_Address]:
    """What the system's resolver says; it also reads `127.1` and `2130706433`, as a connect would."""
    try:
        return [ipaddress.ip_address(host.strip("[]"))]
    except ValueError:
        pass
    # getaddrinfo knows no timeout, and whoever owns the name's DNS server decides when it answers.
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="prelabel-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TransientError(f"the host name {host!r} did not resolve within {timeout_s:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in answer))


def _split_entry(entry: str) -> tuple[str, int | None]:
    """Host and port of one allow-list entry."""
    text = entry.strip()
    host, colon, port = text.rpartition(":")
    if colon and "]" not in port and (":" not in host or host.endswith("]")):
        if port.isdecimal() and 0 < int(port) < 65536 and host:
            return _plain(host), int(port)
    elif text and "://" not in text and not ("/" in text and not _is_network(text)):
        return _plain(text), None
    raise ConfigError(f"{SETTING}: {entry!r} is not a host, host:port, address or CIDR range (no scheme, no path)")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _plain(host: str) -> str:
    """A host name in the one spelling names are compared in."""
    return host.strip("[]").rstrip(".").lower()
