"""`prelabel score`: no queue, no server."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ...integrations.client.checkpoint import settings_model_id
from ...integrations.client.cutting import absolute_item
from ...schemas.items import Item
from ...schemas.jobs import Control
from ...schemas.predictions import Prediction
from ...schemas.settings import get_settings, load_settings
from . import options
from .console import bar, err, needs, out, predictions_table, print_json, user_errors


def score(
    images: Annotated[list[str], typer.Argument(help="Image files or URLs")],
    labels: options.Labels = None,
    taxonomy: options.TaxonomyFile = None,
    multiple: options.Multiple = False,
    threshold: options.Threshold = None,
    template: options.Template = None,
    as_json: options.AsJson = False,
) -> None:
    """Score images here and now: no Redis, no worker.

    The quickest way to try labels and prompts before a project is queued:

        prelabel score photos/*.jpg --labels cat,dog,"empty sofa"
    """
    with user_errors():
        chosen = options.build_taxonomy(labels, taxonomy, multiple, threshold, template)
        with needs("worker"):
            from ..fetching.fetcher import Fetcher
            from ..model.registry import load_encoder
            from ..scoring.local import score_items
            from ..telemetry.logs import quiet_pillow

        quiet_pillow()
        settings = get_settings()
        # Whoever types a path may read it: the roots guard against references that come through a queue.
        settings = load_settings(**{**settings.model_dump(), "image_roots": (Path("/"),)})
        with err.status(f"loading {settings.model}"), needs("worker"):
            encoder = load_encoder(settings, settings_model_id(settings))
        items = [absolute_item(Item.of(image)) for image in images]
        found: list[Prediction] = []
        fetcher = Fetcher(settings)
        controls = [Control(taxonomy=chosen)]
        scored = score_items(items, controls, encoder=encoder, fetch=fetcher.fetch, settings=settings)
        # The fetcher goes first: whoever is fetching has not to be waited for.
        with closing(scored), closing(fetcher), bar() as progress:
            task = progress.add_task("scoring", total=len(items), detail="")
            for prediction in scored:
                found.append(prediction)
                progress.advance(task)
    if as_json:
        print_json([prediction.model_dump(mode="json", exclude_none=True) for prediction in found])
    else:
        out.print(predictions_table(found))
        err.print(f"[dim]{encoder.card.id} on {encoder.device}[/]")
    if any(prediction.error for prediction in found):
        raise typer.Exit(1)
