"""The Celery app: `celery -A prelabel.worker.app worker` or, supervised, `prelabel worker`.

The main consumer takes bulk chunks, of jobs that name this worker's model and of jobs that name none in turn;
interactive chunks, likewise, and pushes have lanes of their own. The pool is threads: one process owns the device
(CUDA does not survive a fork), and a chunk's thread mostly waits.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from celery import Celery, signals
from kombu import Queue

from ..integrations.broker.celery import BrokerApp, celery_config
from ..integrations.broker.connection import refuse_unfit
from ..schemas.errors import ModelLoadError, PrelabelError, ScorerError
from ..schemas.queues import (
    QUEUE_BULK,
    QUEUE_INTERACTIVE,
    QUEUE_PUSH,
    TASK_PUSH,
    TASK_SCORE_CHUNK,
    TASK_SEARCH,
    queue_of,
)
from ..schemas.settings import get_settings
from .consuming.lanes import LaneStep
from .machine.children import EXIT_BROKEN, EXIT_CONFIG
from .runtime import Runtime, load_runtime
from .telemetry.logs import configure_logging

log = logging.getLogger(__name__)

PUSH_THREADS: Final = 2
SEARCH_THREADS: Final = 2

_runtime: Runtime | None = None


def runtime() -> Runtime:
    """This worker process's runtime; exists once the worker has started."""
    if _runtime is None:
        raise RuntimeError("the worker has not started")
    return _runtime


def score_chunk(job_id: str, chunk: int) -> None:
    """Score one chunk of a job (`prelabel.score_chunk`)."""
    with _redis_may_fail(job_id):
        runtime().score_chunk(job_id, chunk)


def score_urgent_chunk(job_id: str, chunk: int) -> None:
    """Score one chunk of an interactive job (`prelabel.score_chunk` on the interactive queue)."""
    with _redis_may_fail(job_id):
        runtime().score_chunk(job_id, chunk, urgent=True)


def push(job_id: str) -> None:
    """Push a job's finished predictions (`prelabel.push`)."""
    with _redis_may_fail(job_id):
        runtime().push(job_id)


def search(request: str) -> None:
    """Search a project or a job (`prelabel.search`)."""
    try:
        runtime().search(request)
    except redis.RedisError as error:
        log.warning("a search is not answered: %s", error)


@contextmanager
def _redis_may_fail(job_id: str) -> Iterator[None]:
    """One line instead of a traceback: the message was only a hint, a sweep sends another when Redis is right again."""
    try:
        yield
    except redis.RedisError as error:
        log.warning("job %s goes on later: %s", job_id, error)


class InteractiveLane(LaneStep):
    """Interactive chunks never wait behind bulk chunks."""

    name = "prelabel-interactive-lane"
    queues = staticmethod(lambda: (QUEUE_INTERACTIVE, queue_of(QUEUE_INTERACTIVE, runtime().info.model)))
    threads = staticmethod(lambda: get_settings().interactive_chunks)
    handlers = {TASK_SCORE_CHUNK: score_urgent_chunk}  # noqa: RUF012  # declared ClassVar by LaneStep


class PushLane(LaneStep):
    """Pushes wait for a platform, not for the device."""

    name = "prelabel-push-lane"
    queues = staticmethod(lambda: (QUEUE_PUSH,))
    threads = staticmethod(lambda: PUSH_THREADS)
    handlers = {TASK_PUSH: push}  # noqa: RUF012  # declared ClassVar by LaneStep


class SearchLane(LaneStep):
    """Searches wait for memory and for Label Studio, not for the device."""

    name = "prelabel-search-lane"
    queues = staticmethod(lambda: (runtime().info.search,) if runtime().info.search else ())
    threads = staticmethod(lambda: SEARCH_THREADS)
    handlers = {TASK_SEARCH: search}  # noqa: RUF012  # declared ClassVar by LaneStep


def make_app() -> Celery:
    """The worker's Celery app, from the process's settings."""
    settings = get_settings()
    worker_app = BrokerApp("prelabel", set_as_current=True)
    worker_app.conf.update(celery_config(settings))
    worker_app.conf.update(
        broker_transport="prelabel.worker.consuming.transport:Transport",
        task_queues=[Queue(QUEUE_BULK)],
        worker_pool="threads",
        worker_concurrency=settings.bulk_chunks,
    )
    worker_app.task(name=TASK_SCORE_CHUNK)(score_chunk)
    worker_app.task(name=TASK_PUSH)(push)
    worker_app.steps["consumer"].update((InteractiveLane, PushLane, SearchLane))
    return worker_app


@signals.celeryd_init.connect
@signals.setup_logging.connect
def _on_setup_logging(**_: Any) -> None:
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)


@signals.worker_init.connect
def _on_worker_init(sender: Any, **_: Any) -> None:
    """Load the model and warm it up before the first message is taken; its queue is consumed beside the plain one."""
    global _runtime
    try:
        refuse_unfit(get_settings())
        loaded = load_runtime(get_settings())
        loaded.start()
    except ScorerError as error:
        log.critical("%s", error)
        sys.exit(EXIT_CONFIG if isinstance(error, ModelLoadError) else EXIT_BROKEN)
    except PrelabelError as error:
        log.critical("%s", error)
        sys.exit(EXIT_CONFIG)
    except Exception as error:  # Celery would only log it and go on with a worker that can do nothing
        log.critical("the first forward passes failed: %r", error)
        sys.exit(EXIT_BROKEN)
    _runtime = loaded
    sender.app.amqp.queues.select_add(Queue(queue_of(QUEUE_BULK, loaded.info.model)))


@signals.worker_ready.connect
def _on_worker_ready(**_: Any) -> None:
    runtime().announce()
    log.info("worker %s is ready: %s", runtime().info.name, runtime().describe())


@signals.worker_shutting_down.connect
def _on_worker_shutting_down(**_: Any) -> None:
    if _runtime:
        _runtime.stop_soon()


@signals.worker_shutdown.connect
def _on_worker_shutdown(**_: Any) -> None:
    if _runtime:
        _runtime.close()
        if _runtime.broken:
            logging.shutdown()
            os._exit(EXIT_BROKEN)  # Celery ends a warm shutdown with 0; the supervisor must see a death


def _make_app_or_exit() -> Celery:
    try:
        return make_app()
    except PrelabelError as error:  # a bad setting is one line, for `celery -A` too
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_CONFIG)


app = _make_app_or_exit()
