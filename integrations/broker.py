"""Redis as broker and as ledger: one URL, one set of time-outs, one translation of its errors."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kombu.exceptions
import redis
import redis.backoff
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


def connect_redis(settings: Settings) -> redis.Redis:
    """A client for the ledger; connects on first use. Replies are bytes.

    Raises:
        ConfigError: the URL is not a redis URL.
    """
    url = settings.redis_url.get_secret_value()
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=10,
            retry=redis.retry.Retry(redis.backoff.ExponentialWithJitterBackoff(cap=1.0, base=0.05), retries=3),
        )
    except ValueError:  # its text would show the URL
        raise ConfigError(
            "PRELABEL_REDIS_URL is no redis URL, like redis://user:password@host:6379/0 "
            "(percent-encode special characters in the password)"
        ) from None


@contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turn redis-py's and kombu's errors into ours.

    Raises:
        BrokerUnavailable: Redis does not answer, is loading or is out of memory.
        ConfigError: Redis refuses the credentials.
    """
    try:
        yield
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise ConfigError(
            f"Redis at {shown_url(settings)} refuses us ({error}): check user and password in PRELABEL_REDIS_URL"
        ) from None
    except (
        redis.exceptions.ConnectionError,
        redis.exceptions.TimeoutError,
        kombu.exceptions.OperationalError,
    ) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BrokerUnavailable(
            f"no Redis at {shown_url(settings)} ({reason}): start everything here with `prelabel up`, "
            "or set PRELABEL_REDIS_URL"
        ) from None
    except redis.exceptions.ResponseError as error:
        if "NOAUTH" in str(error) or "WRONGPASS" in str(error):
            raise ConfigError(
                f"Redis at {shown_url(settings)} wants a password: put it into PRELABEL_REDIS_URL"
            ) from None
        if passes(error):
            raise BrokerUnavailable(f"Redis at {shown_url(settings)} takes no writes for now: {error}") from None
        raise


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
    """
    url = settings.redis_url.get_secret_value()
    config: dict[str, Any] = {
        "broker_url": url,
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
    if url.startswith("rediss://"):
        config["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return config


class Sender:
    """Sends tasks by name: producers never import worker code."""

    def __init__(self, settings: Settings) -> None:
        self._app = Celery("prelabel-producer", set_as_current=False)
        self._app.conf.update(celery_config(settings))

    def score_chunk(self, job_id: str, chunk: int, queue: str) -> None:
        """Hint that a chunk of a job waits."""
        self._app.send_task(TASK_SCORE_CHUNK, args=[job_id, chunk], queue=queue)

    def push(self, job_id: str) -> None:
        """Hint that a job has predictions to push."""
        self._app.send_task(TASK_PUSH, args=[job_id], queue="push")

    def close(self) -> None:
        """Drop the connections."""
        self._app.close()
