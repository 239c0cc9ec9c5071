"""Whether somebody would score what is asked, and the words for it where nobody would."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from ...schemas.errors import ConfigError
from ...schemas.model_version import model_id
from ...schemas.progress import Progress
from ...schemas.settings import DEFAULT_MODEL, DEFAULT_REVISION
from ...schemas.wire import brief
from ..ledger.protocol import Jobs
from .connection import Connection


class Lack(NamedTuple):
    """Why nobody scores with a model; as text the sentence for people.

    Attributes:
        problem: what is not there.
        fix: what to start.
    """

    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.problem}: start one with {self.fix}"


class Unserved(NamedTuple):
    """Work that nobody will do before another worker starts.

    Attributes:
        lack: whom it waits for.
        jobs: how many.
        images: items of theirs without an outcome.
    """

    lack: Lack
    jobs: int
    images: int


_EARLIER: Final = "those of an earlier release get no job that names it: update them"
_NO_WORKER: Final = Lack("no worker is running", "`prelabel worker`, or `prelabel up`")


def nobody_serves(connection: Connection, model: str) -> str:
    """Why nobody scores with a model at present, and the fix; empty where a worker does.

    Args:
        connection: the way to the ledger.
        model: `schemas.model_id` of the checkpoint they would have to serve.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    return str(connection.patiently(lambda: _lacks(connection.store, [model])).get(model, ""))


def with_problems(store: Jobs, listed: Sequence[Progress]) -> list[Progress]:
    """Jobs' progress, with what those lack that nobody works on (`Progress.waiting_for`).

    Args:
        store: the ledger.
        listed: what it says of the jobs.

    Raises:
        RedisError: Redis does not answer.
    """
    lacks = _lacks(store, [one.model for one in listed if _waits(one)])
    return [
        one.model_copy(update={"waiting_for": str(lacks[one.model])}) if _waits(one) and one.model in lacks else one
        for one in listed
    ]


def unserved(connection: Connection) -> list[Unserved]:
    """What nobody works on, the most images first.

    Args:
        connection: the way to the ledger.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    store, patiently = connection.store, connection.patiently
    jobs = [job for job in patiently(store.active) if _waits(job)]
    pending: dict[str | None, list[int]] = {}
    for job in jobs:
        pending.setdefault(job.model, []).append(job.pending)
    lacks = patiently(lambda: _lacks(store, pending))
    found = [Unserved(lack, len(pending[model]), sum(pending[model])) for model, lack in lacks.items()]
    return sorted(found, key=lambda one: -one.images)


def served_model(connection: Connection, name: str) -> str:
    """The `schemas.model_id` of a model that a live worker serves.

    Args:
        connection: the way to the ledger.
        name: its id, or that without the revision.

    Raises:
        ConfigError: no worker serves it, or workers serve several revisions of it; or whatever a job asks is answered.
        BrokerUnavailable: Redis does not answer.
    """
    serving = connection.patiently(connection.store.served)
    if serving is None:  # whatever a job asks is answered, but its answers name a revision
        raise ConfigError(f"the model {brief(name)} names no revision: write <model>@<revision>")
    named = sorted(model for model in serving if name in (model, model.rpartition("@")[0]))
    found = [model for model in named if serving[model]]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"workers serve several revisions of {name}: say which, {' or '.join(found)}")
    there = _EARLIER if named else _those_running(serving) or "none is running"
    raise ConfigError(f"no worker serves {brief(name)} ({there}): start one with it first")


def _waits(progress: Progress) -> bool:
    return not progress.state.ended and progress.pending > 0


def _lacks(store: Jobs, models: Iterable[str | None]) -> dict[str | None, Lack]:
    """Why nobody scores with these models, of those nobody does; None is a job that takes whatever is served."""
    asked = set(models)
    serving = store.served() if asked else None
    if serving is None:
        return {}
    lacks: dict[str | None, Lack] = {
        model: _lack(model, serving) for model in asked if model is not None and not serving.get(model)
    }
    return lacks | ({None: _NO_WORKER} if None in asked and not serving else {})


def _lack(model: str, serving: Collection[str]) -> Lack:
    """Why nobody serves this model; where a worker has it all the same, it is one of an earlier release."""
    there = _EARLIER if model in serving else _those_running(serving)
    return Lack(f"no worker serves {model}" + (f" ({there})" if there else ""), _variables(model))


def _those_running(models: Collection[str]) -> str:
    return f"those running serve {', '.join(sorted(models))}" if models else ""


def _variables(model: str) -> str:
    """What a worker's environment must say for it to serve a model, as far as its id tells."""
    name, _, revision = model.rpartition("@") if "@" in model else (model, "", "")
    if "/" not in name:  # a folder, whose files are what makes the revision
        return f"PRELABEL_MODEL=…/{name}"
    if not revision or revision == "main" or model == model_id(DEFAULT_MODEL, DEFAULT_REVISION):
        return f"PRELABEL_MODEL={name}"
    return f"PRELABEL_MODEL={name} PRELABEL_REVISION={revision}…"
