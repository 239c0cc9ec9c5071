"""Whether somebody would score what is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client


def nobody_serves(client: Client, model: str) -> str:
    """Why nobody scores with a model at present, and the fix; empty where a worker does.

    Args:
        client: the queue of the workers.
        model: `schemas.model_id` of the checkpoint they would have to serve.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    served = {worker.model for worker in client.workers()}
    if model in served:
        return ""
    others = f" (there are some with {', '.join(sorted(served))})" if served else ""
    return f"no worker with {model} is running{others}: start one with `prelabel worker`"
