"""What every command shares: where it prints, how progress looks, how user mistakes end."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from ...schemas.errors import ConfigError, ModelLoadError, ModelUnreachable, PrelabelError
from ...schemas.models import ModelCard
from ...schemas.predictions import Prediction
from ...schemas.progress import Progress as JobProgress
from ...schemas.progress import PushRefusal

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

EXIT_USER = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Show our own errors as one line and an exit status: 2 for something to fix, 1 for trouble outside.

    Notes of an error, or of what interrupted the command, are in the line.
    """
    try:
        yield
    except PrelabelError as error:
        fail(_with_notes(str(error), error), EXIT_USER if _is_the_user_s(error) else EXIT_FAILED)
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(OSError):  # the terminal may have gone
            err.print(plain(_with_notes("interrupted", interrupt)), soft_wrap=True)
        sys.exit(EXIT_INTERRUPTED)


def _is_the_user_s(error: PrelabelError) -> bool:
    """Whether it is for the user to mend: a checkpoint that cannot be loaded is, other than a hub that is away."""
    return isinstance(error, ConfigError | ModelLoadError) and not isinstance(error, ModelUnreachable)


def _with_notes(message: str, error: BaseException) -> str:
    return "; ".join((message, *getattr(error, "__notes__", ())))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP unless it is ignored (nohup), end the block as Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    wanted = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in wanted if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a missing package inside the block into the install command that brings it.

    Raises:
        ConfigError: a package of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("prelabel"):
            raise
        raise ConfigError(
            f"{error.name} is not installed, this command needs it: pip install prelabel[{extra}]"
        ) from None


def fail(message: str, status: int = EXIT_FAILED) -> NoReturn:
    """One red line on stderr, then exit."""
    err.print(f"[bold red]error:[/] {plain(message)}", soft_wrap=True)
    sys.exit(status)


def takes_every_letter(stream: TextIO) -> bool:
    """Whether a stream's encoding has all of Unicode."""
    return stream.encoding.lower().startswith("utf")


def print_json(value: Any) -> None:
    """One JSON document on stdout, in ASCII where its encoding is not UTF-8."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not takes_every_letter(sys.stdout)) + "\n")
    sys.stdout.flush()  # so that whoever has the value learns that it cannot be written


def print_json_line(text: str) -> None:
    """A JSON document of one line on stdout, in ASCII where its encoding is not UTF-8."""
    if not takes_every_letter(sys.stdout):
        text = json.dumps(json.loads(text), separators=(",", ":"))
    sys.stdout.write(text + "\n")


def bar() -> Progress:
    """A progress bar: description, counts, bar, time, and a free `detail` text. On stderr, so stdout can be piped."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),  # in 80 columns there is room for the detail
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=err,
    )


def job_detail(progress: JobProgress) -> str:
    """`42.1 images/s, 3 failed, 2 refused, 12 s left`, as far as known."""
    parts = []
    if progress.rate:
        parts.append(f"{progress.rate:.1f} images/s")
    if progress.failed:
        parts.append(f"[red]{progress.failed} failed[/]")
    if progress.refused:
        parts.append(f"[red]{progress.refused} refused[/]")
    if progress.eta_s:
        parts.append(f"{duration(progress.eta_s)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def folding_table(*headers: str, title: str | None = None) -> Table:
    """A table that cuts nothing where the terminal is narrow: words, paths and numbers go on in the next line."""
    return Table(*(Column(header, overflow="fold") for header in headers), title=title, title_justify="left")


class Tally:
    """How many predictions there were, and how many of them answer only a part of what was asked."""

    def __init__(self) -> None:
        self.total = 0
        self.partly = 0

    def over(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """The same predictions, counted as they pass."""
        for prediction in predictions:
            self.total += 1
            self.partly += prediction.ok and not prediction.complete
            yield prediction


def tell_partly(tally: Tally) -> None:
    """Say on stderr how many items were answered in part, if any were; a job's own counts take them for done."""
    if tally.partly:
        err.print(
            f"[yellow]{tally.partly} of {tally.total} items were answered in part[/]: what is missing, and why, is "
            "in `unanswered` (--json)",
            soft_wrap=True,
        )


def predictions_table(predictions: Iterable[Prediction], title: str | None = None) -> Table:
    """Image, answer, confidence with a bar, and the runners-up."""
    table = folding_table("image", "answer", "confidence", "next best", title=title)
    for prediction in predictions:
        name = plain(prediction.item.id)
        if prediction.error:
            table.add_row(name, "[red]failed[/]", "", plain(prediction.error.message))
            continue
        for answer in prediction.answers:
            chosen = plain(", ".join(" > ".join(path) for path in answer.paths)) or "[dim]none[/]"
            others = [score for score in answer.scores if score.path not in answer.paths and score.logit is not None]
            runners = ", ".join(f"{score.label} {score.probability:.2f}" for score in others[:2])
            table.add_row(name, chosen, confidence_bar(answer.confidence), f"[dim]{plain(runners)}[/]")
        for missing in prediction.unanswered:
            table.add_row(name, "[red]not answered[/]", "", plain(f"{missing.control}: {missing.message}"))
    return table


def refusals_table(refusals: Iterable[PushRefusal], title: str) -> Table:
    """How many items the platform refused for each reason, and a few of them."""
    table = folding_table("items", "reason", "such as", title=title)
    for refusal in refusals:
        table.add_row(f"[red]{refusal.count}[/]", plain(refusal.reason), plain(", ".join(refusal.examples)))
    return table


def card_lines(card: ModelCard) -> Sequence[tuple[str, str]]:
    """What a card says, in words: a name and a value a line."""
    height, width = card.input_size
    how = {
        "squash": "squashed",
        "crop": "shorter edge scaled, middle cut out",
        "patches": "in its own proportions, as many patches",
    }[card.resize]
    bias = "no bias" if card.logit_bias is None else f"bias {card.logit_bias:.3f}"
    pairs = "each pair by itself" if card.head == "sigmoid" else "labels against each other only"
    text = "not cut" if card.text_length is None else f"{card.text_length} tokens"
    if card.padded:
        text += f", filled up on the {card.padding_side}, {'with' if card.mask else 'without'} a mask"
    if card.lower_case:
        text += ", lower-cased first"
    lines = [
        ("family", card.family),
        ("vectors", f"{card.dim} dimensions"),
        ("scores", f"{card.head} ({pairs}): {card.logit_scale:.2f} * cosine, {bias}"),
        ("image", f"{width}x{height}, {how}"),
        ("text", text),
        ("prompt", card.template),
    ]
    if card.head == "sigmoid":
        lines.append(("threshold", f"{card.threshold:g} where several labels may hold"))
    if card.gflop is not None:
        lines.append(("cost", f"{card.gflop:g} GFLOP an image"))
    lines.append(("licence", card.licence or "not named by the checkpoint"))
    return lines


def confidence_bar(confidence: float) -> str:
    """`0.87 ████████▋`, green from 0.8, yellow from 0.5."""
    colour = "green" if confidence >= 0.8 else "yellow" if confidence >= 0.5 else "red"
    return f"{confidence:.2f} [{colour}]{'█' * round(confidence * 10):<10}[/]"


_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys instead of showing it (escape sequences, line ends, right-to-left), and surrogates."""


def plain(text: str) -> str:
    """Text from outside, for rich to print: it is shown as it stands, and is neither markup nor a terminal's command.

    Every text that is not ours goes through here, or through `fail`: names, labels, models, messages.
    """
    visible = _COMMANDS.sub(lambda character: character[0].encode("unicode_escape").decode(), text)
    body = visible.rstrip("\\")
    backslashes = len(visible) - len(body)
    # Rich reads backslashes as pairs before a tag, and only there: so there is one, of no style.
    return escape(body) + ("\\\\" * backslashes + "[none][/none]" if backslashes else "")
