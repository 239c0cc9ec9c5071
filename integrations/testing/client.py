"""A client whose jobs, queues and worker are in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ...schemas.errors import ConfigError
from ...schemas.items import Item
from ...schemas.jobs import Control
from ...schemas.taxonomy import LabelPath
from ...schemas.wire import kind_of
from ..client.arguments import count_of
from ..client.client import Client
from ..ledger.memory.state import MemoryState
from .answers import first_leaf
from .connection import MemoryConnection
from .worker import Answering, MemoryWorker

MODEL: Final = "memory@00000000"
"""The model that answers where a job asks for none."""


class MemoryClient(Client):
    """A `Client` for tests: no Redis, no worker, no model, no socket; it reads no setting of the environment.

    Nothing is scored before it is asked for. A program that reads `job.results()` or calls `job.wait()` gets what is
    queued scored one image at a time, in its own thread, whenever nothing else would come: it just works, and
    what it does meanwhile, such as `job.cancel()`, still finds images that wait. `work()` scores what is queued at
    any other time. Interactive jobs come first, and each queue is first in, first out. Jobs with a `PushTarget` are
    scored too, but pushed nowhere: their messages stay on the push queue. What is kept beside jobs, such as connected
    Label Studio projects, is not there: `client.connection.redis` raises `ConfigError`. Thread-safe.

    Args:
        answer: called with each item and each control that asks about it, the labels an item brings (`Item.options`)
            among the control's. Where each of several images is asked about, with the item as if it had that image
            alone. Returns what is chosen: a label's name; its path, a tuple; a list or a set of names or paths, where
            several may be right; None, when nothing is; or probabilities (0..1) of leaves by name or path, 0 where one
            is left out, from which the job's thresholds choose. What is chosen by name has the probability 0.9. What
            it raises of `PrelabelError`, such as `ItemError` or `TransientError`, is the item's failure; there is no
            second try. Anything else, and a choice that the control does not have (`ConfigError`), ends the call that
            had it scored, and leaves the item in its queue. Left out, everything gets the taxonomy's first leaf.
        model: `<model>@<revision8>` in the `model_version` of jobs that ask for none; a job that asks for one gets it.
        automatic: False leaves all scoring to `work()`: `job.results(timeout)` and `job.wait(timeout)` then raise
            TimeoutError as without a worker, and without a timeout wait for another thread.
        clock: Unix seconds, for deadlines and expiry; a test that gives one need not sleep.
    """

    def __init__(
        self,
        answer: Answering | None = None,
        *,
        model: str = MODEL,
        automatic: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for name, function in (("answer", answer), ("clock", clock)):
            if not (callable(function) or (function is None and name == "answer")):
                raise ConfigError(f"{name} must be a function, not {kind_of(function)}")
        if not isinstance(automatic, bool):
            raise ConfigError(f"automatic must be True or False, not {kind_of(automatic)}")
        connection = MemoryConnection(MemoryState(clock), work=self._work_on_one if automatic else None)
        super().__init__(connection=connection)
        self._worker = MemoryWorker(
            connection.state,
            connection.push_hints,
            connection.sender,
            answer=_first if answer is None else answer,
            model=model,
            ttl_s=connection.settings.job_ttl_s,
        )

    def work(self, limit: int | None = None) -> int:
        """Score what is queued, also what `answer` itself submits.

        Args:
            limit: images at most (of items with several, items); None scores all.

        Returns:
            How many items were answered or failed.

        Raises:
            ConfigError: `limit` is no number of images.
        """
        if limit is not None:
            count_of(limit, "limit")
        return self._worker.work(limit)

    def _work_on_one(self) -> bool:
        return self._worker.work(1) > 0


def _first(_: Item, control: Control) -> LabelPath:
    return first_leaf(control.taxonomy)
