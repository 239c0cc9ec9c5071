"""Workers: alive, on which device, with which models, and whether work waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....integrations.client.checkpoint import settings_model_id
from ....integrations.client.client import Client
from ....integrations.client.workers import nobody_serves, unserved
from ....schemas.progress import QueueState, WorkerInfo
from ....schemas.queues import QUEUE_INTERACTIVE, QUEUE_PUSH
from ....schemas.settings import Settings
from ..console import duration
from . import Check, Checks

_LONG_S = 60.0


def check_workers(settings: Settings) -> Checks:
    """A line for each live worker, one for what nobody serves, and one for the queues."""
    with Client(settings.model_copy(update={"broker_wait_s": 0})) as client:  # it is here to say what is wrong
        workers, states = client.workers(), client.queue_states()
        nobody, waiting = nobody_serves(client.connection, settings_model_id(settings)), unserved(client.connection)
    if not workers:
        yield Check("workers", "warn", "none is running", "prelabel worker, or prelabel up")
    for worker in workers:
        yield Check("worker", "ok", f"{worker.name}: {worker.model} on {worker.device} ({worker.dtype})")
    if workers:
        yield _models(workers, nobody)
    for one in waiting:
        waits = f"{_count(one.images, 'image')} of {_count(one.jobs, 'job')}"
        yield Check("waiting", "fail", f"{waits}: {one.lack.problem}", f"start one with {one.lack.fix}")
    yield _queues(workers, states)


def _models(workers: Sequence[WorkerInfo], nobody: str) -> Check:
    """Which models are served; that one of them is the settings' own is what jobs that the adapter makes need."""
    if nobody:
        return Check(
            "models", "warn", f"the settings here name one that nobody serves: {nobody}",
            "set PRELABEL_MODEL and PRELABEL_REVISION as one of the workers has them, or start one that has these",
        )  # fmt: skip
    served = [worker.model for worker in workers]
    counts = ", ".join(f"{model} ({_count(served.count(model), 'worker')})" for model in sorted(set(served)))
    return Check("models", "ok", f"served: {counts}")


def _queues(workers: Sequence[WorkerInfo], states: Mapping[str, QueueState]) -> Check:
    detail = ", ".join(
        f"{name} {state.depth}" + (f" (oldest {duration(state.oldest_s)})" if state.oldest_s >= 1 else "")
        for name, state in states.items()
    )
    if not workers and any(state.depth for state in states.values()):
        return Check("queues", "fail", f"{detail}, and nobody works on it", "prelabel worker")
    if any(state.oldest_s > _LONG_S for name, state in states.items() if name.startswith(QUEUE_INTERACTIVE)):
        return Check("queues", "warn", f"{detail}: people wait", "more workers")
    if states[QUEUE_PUSH].oldest_s > 5 * _LONG_S:
        problem = f"{detail}: predictions do not get to Label Studio"
        return Check("queues", "warn", problem, "see the label studio lines")
    return Check("queues", "ok", detail)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
