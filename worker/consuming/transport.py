"""Kombu's Redis transport, for a consumer that loses Redis with messages in hand, and for messages that are none.

When a connection is given up, kombu 5.7 puts the messages not acknowledged yet back on their queue, over the
connection that is gone. The error this raises ends the worker ("Unrecoverable error"). A message is only a hint
here: the ledger finds what waits without one, so what cannot be given back is let go.

A Redis that can never serve prelabel ends the worker: Celery would try it for ever.

What is no message of Celery's makes kombu or Celery raise in the middle of consuming, which ends the worker, and the
next one meets it again. It is set aside here, whatever about it is wrong, and consuming goes on.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from kombu.transport import redis
from redis import RedisError

from ...integrations.broker.errors import unfit
from ...integrations.ledger.malformed import set_aside
from ...schemas.queues import is_queue
from ...schemas.settings import get_settings
from ..machine.children import EXIT_CONFIG

log = logging.getLogger(__name__)


class QoS(redis.QoS):
    """Kombu's list of the messages that were taken and not acknowledged yet; giving them back may fail here."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give messages in hand back, if Redis is there to take them."""
        try:
            super().restore_unacked_once(stderr)
        except Exception as error:  # whatever a dead connection makes of it
            log.info("messages in hand could not be given back, the ledger sends them again: %s", error)
            if self._delivered is not None:
                self._delivered.clear()


class Channel(redis.Channel):
    """Kombu's channel; what is no message of Celery's never reaches its consumers."""

    QoS = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except RedisError as error:
            problem = unfit(error, get_settings())
            if problem is None:
                raise
            log.critical("%s", problem)
            sys.exit(EXIT_CONFIG)

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[..., Any] | None, consumer_tag: str | None, **options: Any
    ) -> str:
        """Called by kombu for each queue; see its `Channel`."""
        if not is_queue(queue):
            its_tag: str = super().basic_consume(queue, no_ack, callback, consumer_tag, **options)
            return its_tag

        def take(message: Any) -> None:
            try:
                if callback:
                    callback(message)
            except Exception as error:
                if isinstance(error, (*self.connection.connection_errors, RedisError)):
                    raise
                self.put_aside(queue, message.body, str(error) or type(error).__name__)
                self.basic_ack(message.delivery_tag)

        tag: str = super().basic_consume(queue, no_ack, take, consumer_tag, **options)
        return tag

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs leave it out
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end; it is gone
            log.error("a message that cannot be read was dropped: %s", error)
            return True

    def put_aside(self, queue: str, message: object, problem: str) -> None:
        """Say that a message cannot be used, and keep it where somebody may look at it."""
        log.error("a message on queue %s cannot be used and is set aside: %s", queue, problem)
        with self.conn_or_acquire() as client:
            set_aside(client, queue, message, problem)


def envelope_problem(raw: object) -> str:
    """What kombu and Celery could not read of a message's envelope; empty when they can.

    Args:
        raw: the JSON value taken from the queue (Celery's message protocol 2,
            https://docs.celeryq.dev/en/stable/internals/protocol.html).
    """
    if not isinstance(raw, dict):
        return "it is no object"
    properties, headers = raw.get("properties"), raw.get("headers")
    if not isinstance(properties, dict):
        return "it has no properties"
    if not isinstance(properties.get("delivery_tag"), str):
        return "it has no delivery_tag"
    info = properties.get("delivery_info")
    if not isinstance(info, dict) or not all(isinstance(info.get(name), str) for name in ("exchange", "routing_key")):
        return "it has no delivery_info"
    if properties.get("body_encoding") not in (None, "base64"):
        return "its body_encoding is not known"
    if not isinstance(headers, dict) or not all(isinstance(headers.get(name), str) for name in ("task", "id")):
        return "it has no headers of a task"
    texts = ("body", "content-type", "content-encoding")
    missing = [name for name in texts if not isinstance(raw.get(name), str)]
    return f"it has no {missing[0]}" if missing else ""


class Transport(redis.Transport):
    """`broker_transport` of the worker's Celery app; serves redis:// and rediss:// URLs."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        # Celery's own queues, for `inspect` and `control`, carry other envelopes.
        problem = envelope_problem(message) if queue and is_queue(queue) else ""
        if problem:
            channels: Any = self.channels
            channels[0].put_aside(str(queue), message, problem)
        else:
            super()._deliver(message, queue)
