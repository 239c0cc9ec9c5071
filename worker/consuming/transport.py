"""Kombu's Redis transport, for a consumer that loses Redis while it has messages in hand.

When a connection is given up, kombu 5.7 puts the messages not acknowledged yet back on their queue, over the
connection that is gone. The error this raises ends the worker ("Unrecoverable error"). A message is only a hint
here: the ledger finds what waits without one, so what cannot be given back is let go.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis

log = logging.getLogger(__name__)


class QoS(redis.QoS):
    """Books messages in hand."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give messages in hand back, if Redis is there to take them."""
        try:
            super().restore_unacked_once(stderr)
        except Exception as error:  # whatever a dead connection makes of it
            log.info("messages in hand could not be given back, the ledger sends them again: %s", error)
            if self._delivered is not None:
                self._delivered.clear()


class Channel(redis.Channel):
    """A channel with such a book."""

    QoS = QoS


class Transport(redis.Transport):
    """`broker_transport` of the worker's Celery app; serves redis:// and rediss:// URLs."""

    Channel = Channel
