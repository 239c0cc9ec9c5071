"""Chunks in, outcomes out: claims a chunk, works on it, and hands back what cannot be finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from ...integrations.ledger.leases import ChunkRef, Lease, Refusal
from ...schemas.errors import ConfigError
from ...schemas.jobs import JobSpec
from ..telemetry.logs import log_about
from ..telemetry.once import Once
from .chunk_run import ChunkRun
from .gate import Gate
from .keeper import LeaseKeeper
from .tools import Tools

log = logging.getLogger(__name__)

SPLIT_DEATHS = 2
"""Deaths in a row after which a chunk's items are tried one by one. After the first it is tried whole, but alone."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Scores chunks; `run` is called from many threads at once.

    Attributes:
        tools: what the chunks are scored and written with.
        keeper: renews leases.
        gate: keeps suspects apart from everything else.
        left: jobs this release cannot read, each spoken of once.
    """

    tools: Tools
    keeper: LeaseKeeper
    gate: Gate = field(default_factory=Gate)
    left: Once = field(default_factory=Once)

    def run(self, ref: ChunkRef, *, urgent: bool = False) -> None:
        """Score one chunk, unless somebody else does or it needs no scoring any more.

        Args:
            ref: the chunk.
            urgent: it came from the interactive queue.

        Raises:
            ScorerError: the encoder is broken; the chunk was handed back.
        """
        if self.tools.stopping.is_set():
            return  # it stays in the ledger; another worker's sweeper sends it again
        announced = self.tools.engine.precedence.expect() if urgent else nullcontext()
        with log_about(job=ref.job_id, chunk=ref.chunk), announced:
            begun = time.monotonic()
            self._run(ref, urgent=urgent)
            log.debug("job %s chunk %d took %.3f s", *ref, time.monotonic() - begun)

    def _run(self, ref: ChunkRef, *, urgent: bool) -> None:
        with self.gate.together(urgent=urgent):
            lease = self._claim(ref)
            if isinstance(lease, Lease):
                self._work_on(lease)
                return
        if lease is Refusal.SUSPECT:
            # A worker died while it held this chunk. Alone, so that the next death has one cause.
            with self.gate.alone():
                lease = self._claim(ref, alone=True)
                if isinstance(lease, Lease):
                    self._work_on(lease)
                    return
        log.debug("job %s chunk %d: %s", ref.job_id, ref.chunk, lease.value)

    def _claim(self, ref: ChunkRef, *, alone: bool = False) -> Lease | Refusal:
        try:
            return self.tools.ledger.claim(ref, alone=alone)
        except ConfigError as error:  # it is free again, and sweeps send it to whoever can read it
            if self.left.first(ref.job_id):
                log.warning("job %s is left to other workers: %s", ref.job_id, error)
            return Refusal.UNREADABLE

    def _work_on(self, lease: Lease) -> None:
        if queue := self._queue_of_others(lease.spec):
            log.info("job %s chunk %d is left to the workers of queue %s", *lease.ref, queue)
            if self.tools.ledger.hand_over(lease, queue):
                self.tools.hint(lease.ref, queue)
            return
        with self.keeper.hold(lease) as lost:
            finished = False
            try:
                if lease.deaths >= SPLIT_DEATHS and len(lease.pairs) > 1 and not lease.problem:
                    log.warning("job %s chunk %d: %s; trying its items one by one", *lease.ref, lease.why)
                    self._hint_all(self.tools.ledger.split(lease), lease)
                    finished = True
                else:
                    finished = ChunkRun(self.tools, lease, lost).run()
            finally:
                if not finished and self.tools.ledger.release(lease):
                    self._hint_all([lease.ref], lease)

    def _queue_of_others(self, spec: JobSpec) -> str | None:
        """Where a chunk belongs that is not for this worker's model; None where it is, or nobody else is there."""
        if not self.tools.scorers.serves(spec):  # an earlier release put every model's chunks on one queue
            return spec.queue
        return None if self.tools.scorers.can_answer(spec) else self.tools.queue_of_able(spec)

    def _hint_all(self, refs: Sequence[ChunkRef], lease: Lease) -> None:
        for ref in refs:
            self.tools.hint(ref, lease.spec.queue)
