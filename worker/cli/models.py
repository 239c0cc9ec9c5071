"""`prelabel models`: which models workers serve, and which ones there are to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ...integrations.client.client import Client
from ...schemas.errors import BrokerUnavailable
from ...schemas.known_models import KNOWN_MODELS, KnownModel
from ...schemas.progress import WorkerInfo
from . import options
from .console import err, folding_table, out, plain, print_json, user_errors
from .here import settings_here


def models(as_json: options.AsJson = False) -> None:
    """Show the models that live workers serve, and published figures of checkpoints to choose from.

    Without Redis, or without a worker, the second table alone. `PRELABEL_MODEL` takes any checkpoint of a family named
    here, not only those in the table: see "Choosing a model" in the documentation.
    """
    with user_errors():
        settings = settings_here().model_copy(update={"broker_wait_s": 0})
        try:
            with Client(settings) as client:
                workers = client.workers()
            problem = ""
        except BrokerUnavailable as error:
            workers, problem = [], str(error)
    if as_json:
        print_json(
            {
                "serving": [worker.model_dump(mode="json") for worker in workers],
                "problem": problem,
                "known": [model._asdict() for model in KNOWN_MODELS],
            }
        )
        return
    if problem:
        err.print(f"[yellow]what workers serve is not known:[/] {plain(problem)}", soft_wrap=True)
    elif workers:
        out.print(_serving(workers))
    else:
        out.print("[yellow]no worker is running[/]: `prelabel worker`, or `prelabel up`")
    out.print(_known(KNOWN_MODELS))


def _serving(workers: Sequence[WorkerInfo]) -> Table:
    table = folding_table("model", "workers", "family", "scores", "image", "vectors", "GFLOP", title="served now")
    by_model: dict[str, list[WorkerInfo]] = {}
    for worker in workers:
        by_model.setdefault(worker.model, []).append(worker)
    for model, serving in sorted(by_model.items()):
        where = ", ".join(sorted({f"{worker.device} ({worker.dtype})" for worker in serving}))
        row = [plain(model), plain(f"{len(serving)} on {where}")]
        card = next((worker.card for worker in serving if worker.card), None)
        if card:
            height, width = card.input_size
            image = f"{width}x{height} {card.resize}"
            row += [plain(card.family), card.head, image, str(card.dim), _number(card.gflop)]
        table.add_row(*row)
    return table


def _known(known: Sequence[KnownModel]) -> Table:
    table = folding_table(
        *(
            "checkpoint",
            "family",
            "params M",
            "GFLOP",
            "ImageNet",
            "EuroSAT",
            "COCO T>I",
            "COCO I>T",
            "languages",
            "licence",
        ),
        title="published figures: zero-shot accuracy and recall at 1 in percent",
    )
    for one in known:
        figures = (one.parameters, one.gflop, one.imagenet, one.eurosat, one.images_of_text, one.texts_of_image)
        table.add_row(one.name, one.family, *map(_number, figures), one.languages, one.licence)
    table.caption = "\n".join(dict.fromkeys(one.source for one in known))
    table.caption_justify = "left"
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
