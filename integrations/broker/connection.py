"""Redis as broker and as ledger: one URL and one set of time-outs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import redis
import redis.backoff
import redis.connection
import redis.exceptions
import redis.retry

from ...schemas.errors import ConfigError, PrelabelError
from ...schemas.settings import Settings
from .errors import NO_CLUSTER, UnfitBroker, broker_errors, shown_url

CONNECT_TIMEOUT_S = 3.0
SOCKET_TIMEOUT_S = 10.0

_STUBBORN = redis.retry.Retry(redis.backoff.ExponentialWithJitterBackoff(cap=1.0, base=0.05), 3)
_ONCE_MORE = redis.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,))

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")


def connect_redis(settings: Settings, *, stubborn: bool = True) -> redis.Redis:
    """A client for the ledger; connects on first use. Replies are bytes.

    Args:
        settings: where Redis is.
        stubborn: try everything again three times. redis-py does so for the connection and for the command, so a
            Redis that hangs takes minutes to be an error; not for a producer, whose `Patience` knows how long it may
            take. A connection that was cut while nobody used it is made anew either way.

    Raises:
        ConfigError: the URL cannot be used: no redis URL, an unknown parameter, a file that is not there.
    """
    url_options(settings)
    url = settings.redis_url.get_secret_value()
    client = redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_keepalive=True,
        health_check_interval=10,
        retry=_STUBBORN if stubborn else _ONCE_MORE,
    )
    pool: Any = client.connection_pool
    try:
        pool.connection_class(**pool.connection_kwargs)  # as the first command would; connects to nothing
    except (TypeError, ValueError, redis.RedisError):
        hint = "" if url.startswith("rediss:") else " (ssl_… parameters need rediss://)"
        raise ConfigError(f"PRELABEL_REDIS_URL has a parameter that redis-py does not take{hint}") from None
    return client


def refuse_unfit(settings: Settings) -> None:
    """Look once at what there is, before anything large is loaded. One that is away or refuses us may come round.

    Raises:
        UnfitBroker: it is a server that prelabel cannot work with.
    """
    try:
        with connect_redis(settings, stubborn=False) as client, broker_errors(settings):
            server: Any = client.info("cluster")
    except UnfitBroker:
        raise
    except PrelabelError:
        return
    if server.get("cluster_enabled"):
        raise UnfitBroker(f"Redis at {shown_url(settings)} is {NO_CLUSTER}")


def url_options(settings: Settings) -> dict[str, Any]:
    """What redis-py reads from the URL.

    Raises:
        ConfigError: it is not a redis URL, or it names a file that is not there. Never shows the URL.
    """
    options = parse_url(settings.redis_url.get_secret_value(), "PRELABEL_REDIS_URL")
    for name in _TLS_FILES:
        if options.get(name) and not Path(options[name]).exists():
            raise ConfigError(f"PRELABEL_REDIS_URL: no file {options[name]} ({name})")
    return options


_URL = re.compile(r"rediss?://[^/?#]*(/\d*/?)?(\?[^@#]*)?")
"""User, password, host and port, a database number, parameters. What redis-py takes beyond that comes of a password
with a character that ends one of them: its rest is then read as the host, and looked up."""


def parse_url(url: str, variable: str) -> dict[str, Any]:
    """What redis-py reads from a URL.

    Args:
        url: of a Redis.
        variable: where it stands, for the message.

    Raises:
        ConfigError: it is no redis URL. Shows nothing of it.
    """
    parse: Any = redis.connection.parse_url  # not typed
    try:
        if not _URL.fullmatch(url):
            raise ValueError("another scheme, or a password with a slash in it")
        options: dict[str, Any] = parse(url)
    except ValueError:  # redis-py's text would show the URL
        raise ConfigError(
            f"{variable} is no redis URL, like redis://user:password@host:6379/0, or rediss://… for TLS "
            "(percent-encode special characters in user and password: @ is %40, # is %23, / is %2F, ? is %3F)"
        ) from None
    return options
