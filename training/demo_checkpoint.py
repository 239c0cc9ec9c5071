"""Train or measure the checkpoint of `prelabel demo`: `python -m training.demo_checkpoint --help`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from training.evaluation import Checkpoint, evaluate
from training.learn import Plan, train
from training.network import make_model, save
from training.pictures import make_pictures
from training.words import PhraseBook, make_tokenizer

SHIPPED = Path(__file__).parent.parent / "worker" / "demo" / "siglip-shapes"


def main(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint; files in it are replaced.")] = SHIPPED,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of 128 pictures each.")] = 2600,
    seed: Annotated[int, typer.Option(help="Same seed, steps and threads: same weights.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; another count gives other weights.")] = 2,
    pictures: Annotated[int, typer.Option(min=2000, help="Pictures to draw, rounded to 2000.")] = 44_000,
    hold_out: Annotated[
        bool,
        typer.Option(help="Keep HELD_OUT_PAIRS out of every training picture, as the shipped weights do."),
    ] = True,
    evaluate_only: Annotated[bool, typer.Option(help="Train nothing; measure what is in --out.")] = False,
    evaluation_seed: Annotated[int, typer.Option(help="Seed of the test pictures.")] = 20261123,
    evaluation_pictures: Annotated[int, typer.Option(min=12, help="Test pictures per test.")] = 1200,
) -> None:
    """Make the demo checkpoint from nothing (no download) and print how good it is."""
    torch.set_num_threads(threads)
    if not evaluate_only:
        start = time.monotonic()
        tokenizer = make_tokenizer()
        model = make_model(tokenizer, seed)
        typer.echo(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(tokenizer)} word pieces")

        def report(text: str) -> None:
            typer.echo(text)
            save(model, tokenizer, out)

        half, quarter = pictures // 2000 * 1000, pictures // 2000 * 500
        drawn = make_pictures(seed, (half, quarter, quarter), hold_out=hold_out, nameless=0.75, workers=threads)
        typer.echo(f"{len(drawn):,} pictures drawn in {time.monotonic() - start:.0f} s")
        plan = Plan(steps=steps, seed=seed, hold_out=hold_out)
        train(model, drawn, PhraseBook(tokenizer), plan, report)
        typer.echo(f"trained in {time.monotonic() - start:.0f} s, written to {out}")
    for row in evaluate(Checkpoint(out), evaluation_seed, evaluation_pictures):
        typer.echo(f"{row.value:8.3f}  {row.name}")


if __name__ == "__main__":
    typer.run(main)
