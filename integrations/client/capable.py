"""Whether the models that are served can answer what a job asks, told before a single image is queued."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...schemas.answerable import unanswerable
from ...schemas.errors import ConfigError
from ...schemas.jobs import Control, JobSpec
from ...schemas.progress import WorkerInfo
from .connection import Connection


def asks_each_label(controls: Iterable[Control]) -> bool:
    """Whether this is what not every model can answer."""
    return any(control.taxonomy.choice == "multiple" for control in controls)


def refuse_unanswerable(connection: Connection, model: str, controls: Sequence[Control]) -> None:
    """Refuse what a model cannot answer, before anything is changed for it.

    Args:
        connection: the way to the ledger.
        model: `schemas.model_id` of the checkpoint that is to answer; nothing is known of one that no worker serves.
        controls: what is asked.

    Raises:
        ConfigError: it cannot answer them; says why, and what to do.
        BrokerUnavailable: Redis does not answer.
    """
    if not asks_each_label(controls):
        return
    if problem := _problems(connection.patiently(connection.store.workers), controls).get(model):
        raise ConfigError(problem)


def for_capable_workers(spec: JobSpec, workers: Sequence[WorkerInfo]) -> JobSpec:
    """The job, for a model that can answer it where others are served too.

    A job that names no model goes to whichever worker is free. Where some of them cannot answer, it is given the model
    of one that can; of several the one that most workers serve.

    Args:
        spec: what is asked.
        workers: who is there. Nothing is known of those of earlier releases, which publish no card, and no job that
            names a model reaches them.

    Raises:
        ConfigError: nobody there is known to answer it, and somebody not to; with the first one's reason.
    """
    there = [worker for worker in workers if spec.model in (None, worker.model)]
    problems = _problems(there, spec.controls)
    able = [worker.model for worker in there if worker.consumes_its_queue and not problems.get(worker.model)]
    refused = [problem for problem in problems.values() if problem]
    if refused and not able:
        raise ConfigError(refused[0])
    if not refused or spec.model is not None:
        return spec
    return spec.model_copy(update={"model": _most(able)})


def able_model(spec: JobSpec, workers: Sequence[WorkerInfo]) -> str | None:
    """The model that most of those workers serve which are known to be able to answer a job; None where none is."""
    able = [worker.model for worker in workers if worker.card and not unanswerable(worker.card, spec.controls)]
    return _most(able) if able else None


def _most(models: Sequence[str]) -> str:
    return max(sorted(set(models)), key=models.count)


def _problems(workers: Sequence[WorkerInfo], controls: Sequence[Control]) -> dict[str, str]:
    """Why each model that has published its card cannot answer; empty where it can."""
    return {worker.model: unanswerable(worker.card, controls) for worker in workers if worker.card}
