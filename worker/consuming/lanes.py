"""Lanes: queues with threads of their own, beside Celery's main consumer.

Celery gives all queues of a worker one set of slots, so a backlog of bulk chunks would keep interactive chunks
and pushes waiting for a slot. Each lane consumes its queues on its own channel with its own prefetch window
(Celery's documented custom consumer step), so neither can hold up the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from celery import bootsteps
from kombu import Consumer, Queue

log = logging.getLogger(__name__)

Handler = Callable[..., None]


class LaneStep(bootsteps.ConsumerStep):
    """Consumes some queues in turn, on `threads` threads.

    A message is acknowledged when its handler has returned; the ledger makes running it again harmless.
    Subclasses name the queues, the tasks they carry and the number of threads.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    queues: ClassVar[Callable[[], Sequence[str]]]
    threads: ClassVar[Callable[[], int]]
    handlers: ClassVar[dict[str, Handler]]

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._consumer: Any = parent
        self._threads = type(self).threads()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=str(self.name))
        super().__init__(parent, **kwargs)

    def get_consumers(self, channel: Any) -> list[Consumer]:
        """Called by Celery at every (re)connection."""
        return [
            Consumer(
                channel,
                queues=[Queue(name) for name in type(self).queues()],
                on_message=self._on_message,
                accept=["json"],
                prefetch_count=self._threads,
            )
        ]

    def stop(self, parent: Any) -> None:
        """Called by Celery when the connection is given up; it may be gone already."""
        try:
            super().stop(parent)
        except Exception as error:
            log.debug("%s: its consumer went with the connection: %s", self.name, error)

    def shutdown(self, parent: Any) -> None:
        """Stop consuming and wait for the handlers that run; `Runtime.stop_soon` makes them end in time."""
        super().shutdown(parent)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _on_message(self, message: Any) -> None:
        handler = self.handlers.get(message.headers.get("task", ""))
        if handler is None:
            log.error("unknown task %r on queue %s dropped", message.headers.get("task"), _queue_of(message))
            message.ack()
            return
        try:
            args, kwargs, _ = message.decode()
        except Exception as error:
            log.error("unreadable message on queue %s dropped: %s", _queue_of(message), error)
            message.ack()
            return
        try:
            self._pool.submit(self._handle, message, handler, args, kwargs)
        except RuntimeError:  # shutting down: the broker keeps the message
            message.requeue()

    def _handle(self, message: Any, handler: Handler, args: Any, kwargs: Any) -> None:
        try:
            handler(*args, **kwargs)
        except Exception:
            log.exception("task %s failed, called with %.200r", message.headers.get("task"), args)
        finally:
            self._consumer.call_soon(self._ack, message)  # kombu's channels belong to the consumer's thread

    def _ack(self, message: Any) -> None:
        try:
            message.ack()
        except Exception as error:  # Redis was away: the channel is gone, and the message comes again, harmlessly
            log.info("message on queue %s comes again: %s", _queue_of(message), error)


def _queue_of(message: Any) -> str:
    """The queue a message was sent to."""
    return str((message.delivery_info or {}).get("routing_key", ""))
