"""`prelabel score`: no queue, no server."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...integrations.client.checkpoint import settings_model_id
from ...integrations.client.cutting import item_of
from ...schemas.errors import ItemError, TransientError
from ...schemas.items import Item
from ...schemas.jobs import Control
from ...schemas.predictions import ItemFailure, Prediction
from ...schemas.settings import Settings, get_settings, load_settings
from . import options
from .console import (
    EXIT_FAILED,
    Tally,
    bar,
    err,
    needs,
    out,
    plain,
    predictions_table,
    print_json,
    tell_partly,
    user_errors,
)
from .streams import keeping

if TYPE_CHECKING:
    from ..fetching.fetcher import Fetcher


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
            from ..telemetry.logs import quiet_pillow

        quiet_pillow()
        settings = get_settings()
        # Whoever types a path may read it: the roots guard against references that come through a queue.
        settings = load_settings(**{**settings.model_dump(), "image_roots": (Path("/"),)})
        items = [item_of(image) for image in images]
        fetcher = Fetcher(settings)
        with closing(fetcher):
            missing = _missing(items, fetcher)
            for problem in missing.values():
                err.print(f"[red]{plain(problem)}[/]", soft_wrap=True)
            there = [item for ordinal, item in enumerate(items) if ordinal not in missing]
            scored = _score(there, Control(taxonomy=chosen), fetcher, settings) if there else []
    tally = Tally()
    predictions = list(tally.over(_in_order(items, missing, scored)))
    with keeping(lambda: _put_aside(predictions)):
        if as_json:
            print_json([prediction.model_dump(mode="json", exclude_none=True) for prediction in predictions])
        elif scored:
            out.print(predictions_table(predictions))
    tell_partly(tally)
    if any(prediction.error for prediction in predictions):
        raise typer.Exit(EXIT_FAILED)


def _put_aside(predictions: Sequence[Prediction]) -> str:
    """Write the predictions to a file, so that nobody has to score again; says where they are."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="prelabel-", suffix=".jsonl", delete=False
        ) as file:
            file.writelines(f"{prediction.model_dump_json(exclude_none=True)}\n" for prediction in predictions)
    except OSError as error:
        return f"the results are lost, {error.filename or tempfile.gettempdir()} takes none either ({error.strerror})"
    return f"the results are in {file.name}"


def _missing(items: Sequence[Item], fetcher: Fetcher) -> dict[int, str]:
    """What stands against images, by ordinal, as far as this machine alone can tell."""
    problems: dict[int, str] = {}
    for ordinal, item in enumerate(items):
        for image in item.images:
            try:
                fetcher.check(image)
            except ItemError as error:
                problems[ordinal] = str(error)
            except TransientError:
                pass  # whether that passes is seen when it is scored
    return problems


def _score(items: Sequence[Item], control: Control, fetcher: Fetcher, settings: Settings) -> list[Prediction]:
    """The items' predictions in their order, with a progress bar. Closes the fetcher."""
    with needs("worker"):
        from ..model.registry import load_encoder
        from ..scoring.local import score_items

    with err.status(plain(f"loading {settings.model}")), needs("worker"):
        encoder = load_encoder(settings, settings_model_id(settings))
    predictions: list[Prediction] = []
    scored = score_items(items, [control], encoder=encoder, fetch=fetcher.fetch, settings=settings)
    # The fetcher goes first: whoever is fetching has not to be waited for.
    with closing(scored), closing(fetcher), bar() as progress:
        task = progress.add_task("scoring", total=len(items), detail="")
        for prediction in scored:
            predictions.append(prediction)
            progress.advance(task)
    err.print(f"[dim]{plain(encoder.card.id)} on {plain(encoder.device)}[/]")
    return predictions


def _in_order(items: Sequence[Item], missing: Mapping[int, str], scored: Sequence[Prediction]) -> list[Prediction]:
    """A prediction for every item: what was scored of those that were there, and why the others were not."""
    left = iter(scored)
    return [
        Prediction(item=item, ordinal=ordinal, error=ItemFailure(kind=ItemError.__name__, message=missing[ordinal]))
        if ordinal in missing
        else next(left).model_copy(update={"ordinal": ordinal})
        for ordinal, item in enumerate(items)
    ]
