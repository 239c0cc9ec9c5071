"""Keeps leases alive while a chunk is worked on, and tells the world that this worker is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import redis

from ...integrations.ledger.fleet import Fleet
from ...integrations.ledger.leases import Lease
from ...integrations.ledger.protocol import Leases
from ...schemas.progress import WorkerInfo

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""Seconds between heartbeats at most: a worker counts as silent after 20."""


class LeaseKeeper:
    """Renews every held lease three times per lease duration, from one thread.

    Args:
        ledger: where the leases are.
        fleet: where this worker says that it is alive.
        info: what to tell about this worker.
        lease_s: seconds a lease lasts.
        watch: called at each beat; does not return when this worker is beyond help.
    """

    def __init__(
        self,
        ledger: Leases,
        fleet: Fleet,
        info: WorkerInfo,
        lease_s: float,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self._watch = watch
        self._ledger = ledger
        self._fleet = fleet
        self._info = info
        self._every_s = min(lease_s / 3, BEAT_S)
        self._held: dict[Lease, threading.Event] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prelabel-leases", daemon=True)

    def start(self) -> None:
        """Begin; the worker is visible as soon as Redis answers."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and take the worker off the list of live ones."""
        self._stop.set()
        if not self._thread.is_alive():
            return
        self._thread.join()
        try:
            self._fleet.sign_off(self._info)
            self._ledger.forget_owner()
        except redis.RedisError as error:
            log.debug("could not sign off: %s", error)

    @contextmanager
    def hold(self, lease: Lease) -> Iterator[threading.Event]:
        """Renew `lease` inside the block. The event is set when it has been lost (taken over or cancelled)."""
        lost = threading.Event()
        with self._lock:
            self._held[lease] = lost
        try:
            yield lost
        finally:
            with self._lock:
                self._held.pop(lease, None)

    def _run(self) -> None:
        while True:
            self._watch()
            # Leases first: at its memory limit Redis refuses a heartbeat, and renews leases all the same. If they run
            # out, the fencing token keeps us from writing.
            self._try(self._renew_all, "leases could not be renewed")
            self._try(partial(self._fleet.beat, self._info), "no heartbeat could be sent")
            if self._stop.wait(self._every_s):
                return

    @staticmethod
    def _try(work: Callable[[], None], failed: str) -> None:
        try:
            work()
        except redis.RedisError as error:
            log.warning("%s: %s", failed, error)
        except Exception:  # a thread that ends silently would make a live worker look dead
            log.exception("%s", failed)

    def _renew_all(self) -> None:
        with self._lock:
            held = list(self._held.items())
        for lease, lost in held:
            if not lost.is_set() and not self._ledger.renew(lease):
                lost.set()
