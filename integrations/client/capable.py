"""Whether the models that are served can answer what a job asks, told before a single image is queued."""

from __future__ import annotations

from collections.abc import Sequence

from ...schemas.answerable import unanswerable
from ...schemas.errors import ConfigError
from ...schemas.jobs import JobSpec
from ...schemas.progress import WorkerInfo


def asks_each_label(spec: JobSpec) -> bool:
    """Whether the job asks what not every model can answer."""
    return any(control.taxonomy.choice == "multiple" for control in spec.controls)


def for_capable_workers(spec: JobSpec, workers: Sequence[WorkerInfo]) -> JobSpec:
    """The job, for a model that can answer it where others are served too.

    A job that names no model goes to whichever worker is free. Where some of them cannot answer, it is given the model
    of one that can; of several the one that most workers serve.

    Args:
        spec: what is asked.
        workers: who is there; those of earlier releases, which publish no card, are taken for able.

    Raises:
        ConfigError: nobody there can answer it; with the first one's reason.
    """
    there = [worker for worker in workers if spec.model in (None, worker.model)]
    problems = {worker.model: unanswerable(worker.card, spec.controls) for worker in there if worker.card}
    able = [worker.model for worker in there if not problems.get(worker.model)]
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
