"""Redis as broker and as ledger: one URL, one set of time-outs, one translation of its errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kombu.exceptions
import redis
import redis.backoff
import redis.connection
import redis.exceptions
import redis.retry
from celery import Celery
from kombu import Queue

from ..schemas.errors import BrokerUnavailable, ConfigError
from ..schemas.items import display_uri
from ..schemas.names import QUEUE_BULK, QUEUES, TASK_PUSH, TASK_SCORE_CHUNK
from ..schemas.settings import Settings

CONNECT_TIMEOUT_S = 3.0
SOCKET_TIMEOUT_S = 10.0

_STUBBORN = redis.retry.Retry(redis.backoff.ExponentialWithJitterBackoff(cap=1.0, base=0.05), 3)
_ONCE_MORE = redis.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,))

_T = TypeVar("_T")
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
    _url_options(settings)
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


def _url_options(settings: Settings) -> dict[str, Any]:
    """What redis-py reads from the URL.

    Raises:
        ConfigError: it is not a redis URL, or it names a file that is not there. Never shows the URL.
    """
    url = settings.redis_url.get_secret_value()
    parse: Any = redis.connection.parse_url  # not typed
    try:
        if not url.startswith(("redis://", "rediss://")) or "@" in urlsplit(url).path:
            raise ValueError("another scheme, or a password with a slash in it")
        options: dict[str, Any] = parse(url)
    except ValueError:  # redis-py's text would show the URL
        raise ConfigError(
            "PRELABEL_REDIS_URL is no redis URL, like redis://user:password@host:6379/0, or rediss://… for TLS "
            "(percent-encode special characters in the password)"
        ) from None
    for name in _TLS_FILES:
        if options.get(name) and not Path(options[name]).exists():
            raise ConfigError(f"PRELABEL_REDIS_URL: no file {options[name]} ({name})")
    return options


class Patience:
    """Runs calls to Redis, again while it is away or takes no writes, for as long as `broker_wait_s` says.

    A call that is repeated must mean the same thing twice, for its reply may be all that was lost. Thread-safe.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._retry = redis.retry.Retry(_Backoff(cap=2.0, base=0.1), -1, supported_errors=(BrokerUnavailable,))

    def __call__(self, call: Callable[[], _T], *, wait_s: float | None = None) -> _T:
        """What `call` returns.

        Args:
            call: uses Redis or Celery, and may be run more than once.
            wait_s: seconds to keep trying, if that is less than `broker_wait_s`.

        Raises:
            BrokerUnavailable: Redis was away, loading, read-only or full all the time.
            ConfigError: Redis refuses us; waiting does not help.
        """
        limit = self._settings.broker_wait_s if wait_s is None else min(wait_s, self._settings.broker_wait_s)
        deadline = time.monotonic() + limit

        def attempt() -> _T:
            with broker_errors(self._settings):
                return call()

        def give_up(error: Exception) -> None:
            if time.monotonic() >= deadline:
                raise error

        return self._retry.call_with_retry(attempt, give_up)


class _Backoff(redis.backoff.FullJitterBackoff):
    """Redis-py's, for any number of failures: 2.0 ** 1024 is too large for it."""

    def compute(self, failures: int) -> float:
        return super().compute(min(failures, 16))


@contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turn redis-py's and kombu's errors into ours.

    Raises:
        BrokerUnavailable: Redis does not answer, is loading, read-only or out of memory.
        ConfigError: Redis refuses the credentials or its certificate is not to be trusted.
    """
    try:
        yield
    except (redis.RedisError, kombu.exceptions.KombuError) as error:
        cause = _cause(error)
        made = _refusal(cause, settings) or _trouble(cause, settings)
        if made is None:
            raise
        raise made from None


def _cause(error: BaseException) -> BaseException:
    """The redis-py error that kombu wrapped, or the error itself."""
    while error.__cause__ is not None and not isinstance(error, redis.RedisError):
        error = error.__cause__
    return error


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


def passes(error: redis.RedisError) -> bool:
    """Whether the same command may work later."""
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
        return not isinstance(error, redis.exceptions.AuthenticationError)
    text = str(error)
    # redis-py cuts the first word off some replies and keeps it as the class.
    return isinstance(error, redis.exceptions.OutOfMemoryError | redis.exceptions.ReadOnlyError) or any(
        word in text for word in _PASSING
    )


def shown_url(settings: Settings) -> str:
    """The Redis URL without user and password."""
    return display_uri(settings.redis_url.get_secret_value())


def celery_config(settings: Settings) -> dict[str, Any]:
    """Celery's settings for producers and workers.

    A message is only a hint and recovery is the ledger's business (leases, sweeps), so messages are acknowledged
    when they are taken: a late acknowledgement meets a closed channel when Redis was away meanwhile, which
    ends a Celery 5.7 worker ("Unrecoverable error").

    Raises:
        ConfigError: the URL is not a redis URL, or names a file that is not there.
    """
    return {
        **_celery_address(settings),
        "task_queues": [Queue(name) for name in QUEUES],
        "task_default_queue": QUEUE_BULK,
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "result_backend": None,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "broker_connection_timeout": CONNECT_TIMEOUT_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1},
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    }


def _celery_address(settings: Settings) -> dict[str, Any]:
    """The URL as redis-py reads it: kombu reads a query string otherwise, and fails on parameters it does not know."""
    options = _url_options(settings)
    parts = urlsplit(settings.redis_url.get_secret_value())
    made: dict[str, Any] = {"broker_url": f"{parts.scheme}://{parts.netloc or 'localhost'}/{options.get('db', 0)}"}
    if parts.scheme == "rediss":
        given = {name: value for name, value in options.items() if name.startswith("ssl_")}
        made["broker_use_ssl"] = {"ssl_cert_reqs": "required", **given}
    return made


class BrokerApp(Celery):
    """A Celery app that uses its own `broker_url`; CELERY_BROKER_URL, which otherwise wins, is for some other app."""

    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> Any:
        """The connection that consumes."""
        return super().connection_for_read(url or self.conf["broker_url"], **kwargs)

    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> Any:
        """The connection that publishes."""
        return super().connection_for_write(url or self.conf["broker_url"], **kwargs)


class Sender:
    """Sends tasks by name: producers never import worker code."""

    def __init__(self, settings: Settings) -> None:
        self._app = BrokerApp("prelabel-producer", set_as_current=False)
        self._app.conf.update(celery_config(settings))

    def score_chunk(self, job_id: str, chunk: int, queue: str) -> None:
        """Hint that a chunk of a job waits."""
        self.score_chunks(job_id, [chunk], queue)

    def score_chunks(self, job_id: str, chunks: Iterable[int], queue: str) -> None:
        """Hint that chunks of a job wait; one round trip for all of them."""
        with self._app.producer_pool.acquire(block=True) as producer, _batch(producer):
            for chunk in chunks:
                self._app.send_task(TASK_SCORE_CHUNK, args=[job_id, chunk], queue=queue, producer=producer)

    def push(self, job_id: str) -> None:
        """Hint that a job has predictions to push."""
        self._app.send_task(TASK_PUSH, args=[job_id], queue="push")

    def close(self) -> None:
        """Drop the connections."""
        self._app.close()


def _batch(producer: Any) -> AbstractContextManager[Any]:
    """Hold back what is published inside the block and send it at once; kombu can since 5.7."""
    batch = getattr(producer, "batch", nullcontext)
    made: AbstractContextManager[Any] = batch()
    return made
