"""Shows people what is being predicted: now and then one image, small, with its answer, for the adapter's page.

A sample, so that it costs a fast worker nothing: a dozen at once, then one a second. And best effort: a Redis that
refuses the entry has worse troubles.
"""

from __future__ import annotations

import base64
import io
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import redis
from PIL import Image

from ...integrations.ledger import recent
from ...schemas.errors import PrelabelError
from ...schemas.items import Item
from ...schemas.jobs import JobSpec
from ...schemas.predictions import Outcome
from ...schemas.progress import Recent, RecentAnswer
from ..arrays import Pixels

log = logging.getLogger(__name__)

EVERY_S = 1.0
BURST = 12
SIZE_PX = (160, 120)
_QUALITY = 70
_OTHERS = 5


class Exhibit(NamedTuple):
    """A scored item that people may see.

    Attributes:
        item: the item.
        outcome: makes its outcome, which has answers: hardly any is shown.
        thumbnail: a small JPEG of its image, base64; empty where the image was not read, or none was due.
    """

    item: Item
    outcome: Callable[[], Outcome]
    thumbnail: str


class Showcase:
    """Picks what is shown, and writes it. Thread-safe.

    Args:
        client: Redis.
        clock: seconds, monotonic.
    """

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._thumbnails = _Bucket(clock, BURST)
        self._without_thumbnail = _Bucket(clock, 1)

    def thumbnail(self, pixels: Pixels) -> str:
        """A small JPEG in base64 when one is due, else "".

        Args:
            pixels: `(height, width, 3)` uint8, RGB.
        """
        if not self._thumbnails.due():
            return ""
        stride = max(1, min(pixels.shape[0] // (2 * SIZE_PX[1]), pixels.shape[1] // (2 * SIZE_PX[0])))
        small = Image.fromarray(pixels[::stride, ::stride])
        small.thumbnail(SIZE_PX)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=_QUALITY)
        return base64.b64encode(buffer.getvalue()).decode()

    def show(self, job_id: str, spec: JobSpec, exhibits: Sequence[Exhibit]) -> None:
        """Show those with a thumbnail; where none has one, one of them when one is due.

        Args:
            job_id: whose items they are.
            spec: what that job asks.
            exhibits: what was scored; may be none.
        """
        if spec.keep_s is not None:  # its submitter looks at it alone: it is no part of the work that is done
            return
        chosen = [exhibit for exhibit in exhibits if exhibit.thumbnail]
        if not chosen and exhibits and self._without_thumbnail.due():
            chosen = list(exhibits[-1:])
        if not chosen:
            return
        project = spec.label_studio_project
        try:
            recent.add(self._redis, [_recent(job_id, project, exhibit) for exhibit in chosen])
        except (redis.RedisError, PrelabelError) as error:
            log.debug("nothing shown: %s", error)


def _recent(job_id: str, project: int | None, exhibit: Exhibit) -> Recent:
    answer, *others = exhibit.outcome().answers
    return Recent(
        job_id=job_id,
        item_id=exhibit.item.id,
        image=exhibit.item.images[0].display,
        project=project,
        paths=answer.paths,
        confidence=answer.confidence,
        made_at=time.time(),
        thumbnail=exhibit.thumbnail,
        others=tuple(
            RecentAnswer(control=one.control, paths=one.paths, confidence=one.confidence) for one in others[:_OTHERS]
        ),
    )


class _Bucket:
    """A token bucket: `size` at once, one more each `EVERY_S`."""

    def __init__(self, clock: Callable[[], float], size: int) -> None:
        self._clock = clock
        self._size = size
        self._lock = threading.Lock()
        self._full_at = clock()

    def due(self) -> bool:
        now = self._clock()
        with self._lock:
            self._full_at = max(self._full_at, now)
            if self._full_at - now > (self._size - 1) * EVERY_S:
                return False
            self._full_at += EVERY_S
            return True
