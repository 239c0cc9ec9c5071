"""How far a job has come, who works on it, and what was predicted last."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from .jobs import Priority
from .models import ModelCard
from .taxonomy import LabelPath
from .wire import Model, WireModel


class RecentAnswer(Model):
    """One more answer of a prediction that is shown.

    Attributes:
        control: the control's name.
        paths: the chosen labels; empty when nothing was chosen.
        confidence: 0..1.
    """

    control: str
    paths: tuple[LabelPath, ...] = ()
    confidence: float


class Recent(WireModel):
    """One of the last predictions. Workers write a sample, at most one a second each; the ledger keeps the newest.

    Attributes:
        job_id: the job it was made for.
        item_id: the item; in Label Studio the task's number.
        image: the image's reference as it may be shown, without credentials.
        project: the Label Studio project it was made for, if any.
        paths: the first control's chosen labels; empty when nothing was chosen.
        confidence: of that answer, 0..1.
        made_at: Unix seconds.
        thumbnail: a small JPEG, base64; empty when the image was not read (its vector was stored).
        others: the answers after the first, the first few of them.
    """

    job_id: str
    item_id: str
    image: str
    project: int | None = None
    paths: tuple[LabelPath, ...] = ()
    confidence: float
    made_at: float
    thumbnail: str = ""
    others: tuple[RecentAnswer, ...] = ()


class JobState(StrEnum):
    """Where a job stands; derived from the ledger, never stored."""

    SUBMITTING = "submitting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether no further result will come."""
        return self in (JobState.DONE, JobState.CANCELLED)


class Progress(Model):
    """A job's counts at one moment, derived from sets of items, so a redelivered chunk never counts twice.

    Attributes:
        total: items submitted so far.
        done: items with an answer.
        failed: items with an error.
        quarantined: items among the failed that killed their worker again and again.
        cancelled: why the job was cancelled; empty when it was not.
        pushed: items whose answer is on the platform.
        refused: items whose answer the platform does not take; `Job.refusals` has the reasons.
        push_problem: why nothing can be pushed at present; empty when all is well, or nothing is to be pushed.
        model: `<model>@<revision8>` the answers must come from; None takes whatever a worker serves.
        waiting_for: what it lacks to go on, and the fix, where no worker serves its model; empty when all is well.
        rate: images per second from the first claim to the last result; None before the second result.
        eta_s: seconds until done at that rate; None when unknown.
    """

    job_id: str
    name: str = ""
    priority: Priority = Priority.BULK
    state: JobState
    total: int
    done: int
    failed: int
    quarantined: int = 0
    cancelled: str = ""
    pushed: int = 0
    refused: int = 0
    push_problem: str = ""
    model: str | None = None
    waiting_for: str = ""
    created_at: float = 0.0
    rate: float | None = None
    eta_s: float | None = None

    @property
    def pending(self) -> int:
        """Items without an outcome yet."""
        return self.total - self.done - self.failed


class PushRefusal(Model):
    """One reason for which a platform does not take answers, and what it was given for.

    Attributes:
        reason: in words; numbers that differ from item to item are an ellipsis.
        count: items it was given for.
        examples: ids of the first few of them; in Label Studio the tasks' numbers.
    """

    reason: str
    count: int
    examples: tuple[str, ...] = ()


class WorkerInfo(Model):
    """What a live worker says of itself, every few seconds.

    Attributes:
        name: unique among workers.
        model: `<model>@<revision8>` it serves.
        device: where that runs: "cpu", "cuda:0", ….
        dtype: what it computes in.
        card: the model's facts; None where a release from before there were cards says nothing of them.
        search: the queue it answers searches on; empty where it stores no vectors.
        beat: Unix second of the last heartbeat.
    """

    name: str
    model: str
    device: str
    dtype: str
    card: ModelCard | None = None
    search: str = ""
    beat: float = 0.0

    @property
    def consumes_its_queue(self) -> bool:
        """Whether jobs that name its model reach it: releases that give a model its queues publish a card."""
        return self.card is not None


class QueueState(NamedTuple):
    """One queue at one moment.

    Attributes:
        depth: messages on it; one is a chunk of at most 64 images, or a job with something to push.
        oldest_s: seconds the oldest chunk has waited for a worker, or the oldest prediction for its push; 0 for none.
    """

    depth: int
    oldest_s: float
