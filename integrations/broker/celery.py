"""Celery as producers and workers configure it, and the producers' side of it: tasks sent by name."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.util import register_after_fork
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu import Queue
from kombu.pools import ProducerPool

from ...schemas.queues import QUEUE_BULK, QUEUE_PUSH, QUEUES, TASK_PUSH, TASK_SCORE_CHUNK, TASK_SEARCH
from ...schemas.settings import Settings
from .connection import CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S, url_options


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
    options = url_options(settings)
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


class _Producers:
    """A Celery app's connections that publish, in a pool of their own.

    Celery's pool is shared by all apps of a process that use one Redis, so that nobody could close theirs.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._forget()
        register_after_fork(self, _Producers._forget)

    def _forget(self) -> None:
        """Have no connection, as at the start and in a forked process: those there are belong to the parent."""
        self._lock = threading.Lock()
        self._pool: Any = None

    @contextmanager
    def acquire(self) -> Iterator[Any]:
        """A producer, for the block."""
        with self._lock:
            if self._pool is None:
                limit = self._app.conf.broker_pool_limit
                self._pool = ProducerPool(self._app.connection_for_write().Pool(limit), limit=limit)
            pool = self._pool
        with pool.acquire(block=True) as producer:
            yield producer

    def close(self) -> None:
        """Drop the connections."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.force_close_all()
            pool.connections.force_close_all()


class Sender:
    """Sends tasks by name: producers never import worker code. Thread-safe; close it after use."""

    def __init__(self, settings: Settings) -> None:
        self._app = BrokerApp("prelabel-producer", set_as_current=False)
        self._app.conf.update(celery_config(settings))
        self._producers = _Producers(self._app)
        # Who forgets to close one is not warned of sockets: redis-py's connections close themselves like this too.
        weakref.finalize(self, self._producers.close).atexit = False

    def score_chunk(self, job_id: str, chunk: int, queue: str) -> None:
        """Hint that a chunk of a job waits."""
        self.score_chunks(job_id, [chunk], queue)

    def score_chunks(self, job_id: str, chunks: Iterable[int], queue: str) -> None:
        """Hint that chunks of a job wait; one round trip for all of them."""
        there: Any = Queue(queue)  # by its name alone it would have to be declared, and jobs name models' queues
        with self._producers.acquire() as producer, _batch(producer):
            for chunk in chunks:
                self._app.send_task(TASK_SCORE_CHUNK, args=[job_id, chunk], queue=there, producer=producer)

    def push(self, job_id: str) -> None:
        """Hint that a job has predictions to push."""
        with self._producers.acquire() as producer:
            self._app.send_task(TASK_PUSH, args=[job_id], queue=QUEUE_PUSH, producer=producer)

    def search(self, request: str, queue: str) -> None:
        """Ask a worker to search.

        Args:
            request: JSON of the request.
            queue: of the workers that can.
        """
        there: Any = Queue(queue)
        with self._producers.acquire() as producer:
            self._app.send_task(TASK_SEARCH, args=[request], queue=there, producer=producer)

    def close(self) -> None:
        """Drop the connections; what is sent afterwards makes new ones."""
        self._producers.close()


def _batch(producer: Any) -> AbstractContextManager[Any]:
    """Hold back what is published inside the block and send it at once; kombu can since 5.7."""
    batch = getattr(producer, "batch", nullcontext)
    made: AbstractContextManager[Any] = batch()
    return made
