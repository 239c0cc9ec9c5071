"""What redis-py and kombu raise, as our errors: what may pass, what must be set right, and the text that helps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import kombu.exceptions
import redis
import redis.backoff
import redis.connection
import redis.exceptions
import redis.retry

from ...schemas.errors import BrokerUnavailable, ConfigError
from ...schemas.references import display_uri
from ...schemas.settings import Settings


class UnfitBroker(ConfigError):
    """This server can never be prelabel's, however long it is waited for: another one must be named."""


@contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turn redis-py's and kombu's errors into ours.

    Raises:
        BrokerUnavailable: Redis does not answer, is loading, read-only or out of memory.
        ConfigError: Redis refuses the credentials or its certificate is not to be trusted.
        UnfitBroker: it is a server that prelabel cannot work with.
    """
    try:
        yield
    except (redis.RedisError, kombu.exceptions.KombuError) as error:
        cause = _cause(error)
        made = unfit(cause, settings) or _refusal(cause, settings) or _trouble(cause, settings)
        if made is None:
            raise
        raise made from None


def _cause(error: BaseException) -> BaseException:
    """The redis-py error that kombu wrapped, or the error itself."""
    while error.__cause__ is not None and not isinstance(error, redis.RedisError):
        error = error.__cause__
    return error


_CLUSTER = (
    redis.exceptions.ClusterError,
    redis.exceptions.ClusterCrossSlotError,
    redis.exceptions.AskError,  # MOVED, too
)


def unfit(error: BaseException, settings: Settings) -> UnfitBroker | None:
    """What no time and no password cures; None when it is something else.

    The server's own text is left out: the one about an unknown HELLO holds the password.
    """
    where, text = f"Redis at {shown_url(settings)}", str(error)
    if isinstance(error, redis.exceptions.MasterDownError):
        return None
    if isinstance(error, _CLUSTER) or "cluster mode" in text:
        return UnfitBroker(f"{where} is {NO_CLUSTER}")
    if isinstance(error, redis.exceptions.InvalidResponse):
        return UnfitBroker(f"what answers at {shown_url(settings)} is no Redis: check PRELABEL_REDIS_URL")
    if not isinstance(error, redis.exceptions.ResponseError):
        return None
    if "DB index" in text:
        return UnfitBroker(
            f"{where} has no database of that number: put a lower one into PRELABEL_REDIS_URL, like "
            "redis://host:6379/0, or raise `databases` in its configuration"
        )
    if unknown := re.search(r"unknown (?:sub)?command\W+(\w+)", text):
        return UnfitBroker(
            f"{where} does not know {unknown[1].upper()}: it is too old, or the command was taken from it; "
            f"{LEAST_VERSION}"
        )
    return None


NO_CLUSTER = (
    "a Redis Cluster, which spreads a job's keys over servers that cannot change them together: name a single "
    "Redis, a primary with replicas for instance, in PRELABEL_REDIS_URL"
)
LEAST_VERSION = "run Redis 6.2 or newer, or Valkey"


def _refusal(error: BaseException, settings: Settings) -> ConfigError | None:
    """What must be set right before Redis takes us; None when it is something else."""
    where, text = f"Redis at {shown_url(settings)}", _first_line(error)
    if isinstance(error, redis.exceptions.NoPermissionError):
        return ConfigError(
            f"{where} does not let this user do that ({text}): give it the ACL rights that the documentation lists "
            "(Security model, Redis)"
        )
    if isinstance(error, redis.exceptions.AuthenticationError):
        if "@" in settings.redis_url.get_secret_value():
            return ConfigError(f"{where} refuses us ({text}): check user and password in PRELABEL_REDIS_URL")
        return ConfigError(
            f"{where} wants a password: put it into PRELABEL_REDIS_URL, like redis://:password@host:6379/0"
        )
    for marks, todo in _TLS_TROUBLE.items():
        if any(mark in text.upper() for mark in marks):
            return ConfigError(f"no TLS with {where}: {todo} PRELABEL_REDIS_URL ({text})")
    return None


_TLS_TROUBLE = {
    ("CERTIFICATE_VERIFY_FAILED",): "its certificate does not stand the test; put the right host name, and "
    "ssl_ca_certs=/path/to/ca.pem where the CA is your own, into",
    ("CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA", "ALERT_HANDSHAKE_FAILURE"): "it wants a "
    "client certificate that it knows; put ssl_certfile=/path/to/client.pem and ssl_keyfile=… into",
    ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"): "it speaks plain Redis there; write redis:// in",
    ("PEM LIB", "[PEM", "KEY_VALUES_MISMATCH"): "a certificate or key file cannot be used; check the ssl_… files in",
}
"""What OpenSSL says, and what to do. Not everything about TLS: a connection cut off in a handshake may pass."""


def _trouble(error: BaseException, settings: Settings) -> BrokerUnavailable | None:
    """What may pass; None when it is something else."""
    where, text = f"Redis at {shown_url(settings)}", _first_line(error)
    waiting = f"PRELABEL_BROKER_WAIT_S (now {settings.broker_wait_s:g}) says for how many seconds it is waited for"
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "maxmemory" in text:
        return BrokerUnavailable(
            f"{where} is at its memory limit and takes no writes for now: raise maxmemory, or let jobs end and "
            f"expire (PRELABEL_JOB_TTL_S); {waiting}"
        )
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return BrokerUnavailable(f"{where} is starting up ({text}); {waiting}")
    if isinstance(
        error,
        redis.exceptions.ConnectionError | redis.exceptions.TimeoutError | kombu.exceptions.KombuError,
    ):
        return BrokerUnavailable(
            f"no {where} ({text}): start everything here with `prelabel up`, or set PRELABEL_REDIS_URL; {waiting}"
        )
    if isinstance(error, redis.RedisError) and passes(error):
        return BrokerUnavailable(f"{where} takes no writes for now: {text}; {waiting}")
    return None


def _first_line(error: BaseException) -> str:
    text = str(error).partition(" of pipeline caused error: ")[2] or str(error)  # before it, redis-py puts our data
    return text.splitlines()[0][:200] if text else type(error).__name__


_PASSING = ("OOM", "MISCONF", "READONLY", "NOREPLICAS", "LOADING", "BUSY", "TRYAGAIN")
"""Replies of a Redis that may take the same write later: memory or disk full, a replica, starting up."""


_PASSING_CLASSES = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
)


def passes(error: redis.RedisError) -> bool:
    """Whether the same command may work later."""
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
        return not isinstance(error, redis.exceptions.AuthenticationError)
    text = str(error)
    # redis-py cuts the first word off some replies and keeps it as the class.
    return isinstance(error, _PASSING_CLASSES) or any(word in text for word in _PASSING)


def shown_url(settings: Settings) -> str:
    """The Redis URL without user and password."""
    return display_uri(settings.redis_url.get_secret_value())
