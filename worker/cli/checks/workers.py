"""Workers: alive, on which device, with which model, and whether work waits for them."""

from __future__ import annotations

from ....integrations.client.checkpoint import settings_model_id
from ....integrations.client.client import Client
from ....schemas.settings import Settings
from ..console import duration
from . import Check, Checks

_LONG_S = 60.0


def check_workers(settings: Settings) -> Checks:
    """A line for each live worker, and one for the queues."""
    with Client(settings.model_copy(update={"broker_wait_s": 0})) as client:  # it is here to say what is wrong
        workers, states = client.workers(), client.queue_states()
    if not workers:
        yield Check("workers", "warn", "none is running", "prelabel worker, or prelabel up")
    expected = settings_model_id(settings)
    for worker in workers:
        detail = f"{worker.name}: {worker.model} on {worker.device} ({worker.dtype})"
        if worker.model == expected:
            yield Check("worker", "ok", detail)
        else:
            yield Check(
                "worker", "warn", f"{detail}, while the settings here say {expected}",
                "set PRELABEL_MODEL and PRELABEL_REVISION alike for producers, adapter and workers",
            )  # fmt: skip
    detail = ", ".join(
        f"{name} {state.depth}" + (f" (oldest {duration(state.oldest_s)})" if state.oldest_s >= 1 else "")
        for name, state in states.items()
    )
    if not workers and any(state.depth for state in states.values()):
        yield Check("queues", "fail", f"{detail}, and nobody works on it", "prelabel worker")
    elif states["interactive"].oldest_s > _LONG_S:
        yield Check("queues", "warn", f"{detail}: people wait", "more workers")
    elif states["push"].oldest_s > 5 * _LONG_S:
        yield Check("queues", "warn", f"{detail}: predictions do not get to Label Studio", "see the label studio lines")
    else:
        yield Check("queues", "ok", detail)
