"""`prelabel models`: which models workers serve, and which ones there are to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Column, Table

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
    _print_known(KNOWN_MODELS, out.width)


def _serving(workers: Sequence[WorkerInfo]) -> Table:
    table = folding_table("model", "workers", "family", "scores", "image", "vectors", "GFLOP", title="served now")
    table.columns[0].no_wrap = True
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


_DROPPED_FIRST: Final = ("params M", "EuroSAT", "COCO I>T", "GFLOP", "licence", "languages", "COCO T>I", "family")
"""Columns that a narrow terminal, or a pipe, goes without: a checkpoint's name is there to be copied, in one piece."""


def _print_known(known: Sequence[KnownModel], width: int) -> None:
    columns = {
        "checkpoint": [one.name for one in known],
        "family": [one.family for one in known],
        "params M": [_number(one.parameters) for one in known],
        "GFLOP": [_number(one.gflop) for one in known],
        "ImageNet": [_number(one.imagenet) for one in known],
        "EuroSAT": [_number(one.eurosat) for one in known],
        "COCO T>I": [_number(one.images_of_text) for one in known],
        "COCO I>T": [_number(one.texts_of_image) for one in known],
        "languages": [one.languages for one in known],
        "licence": [one.licence for one in known],
    }
    dropped = []
    for header in _DROPPED_FIRST:
        if sum(max(map(len, (name, *cells))) + 3 for name, cells in columns.items()) + 1 <= width:
            break
        columns.pop(header)
        dropped.append(header)
    table = Table(
        *(Column(header, no_wrap=True) for header in columns),
        title="published figures: zero-shot accuracy and recall at 1 in percent",
        title_justify="left",
    )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    out.print(table)
    if dropped:
        out.print(f"no room here for {', '.join(dropped)}: see --json", soft_wrap=True)
    for source in dict.fromkeys(one.source for one in known):
        out.print(source, soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
