"""`demo-report.html`: one self-contained page with every picture, its prediction and the truth."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import jinja2
from PIL import Image

from ...schemas.predictions import Prediction
from ...schemas.progress import Progress
from ...schemas.taxonomy import LabelPath
from .finding import Findings
from .story import Accuracy, Chapter, accuracies

_THUMBNAIL_PX = (200, 150)
_BINS = 10


@dataclass(frozen=True)
class ChapterResult:
    """One job of the demo with its predictions, in the order of its pictures."""

    chapter: Chapter
    predictions: Sequence[Prediction]
    progress: Progress

    @cached_property
    def accuracies(self) -> list[Accuracy]:
        """How often the answers were right."""
        return accuracies(self.chapter, self.predictions)


@dataclass(frozen=True)
class Card:
    """One picture of the contact sheet."""

    thumbnail: str
    name: str
    answer: str
    truth: str
    confidence: float
    right: bool
    held_out: bool
    runners_up: str
    error: str


@dataclass(frozen=True)
class Bin:
    """One column of the confidence histogram: `low` <= confidence < `high`."""

    low: float
    high: float
    right: int
    wrong: int


@dataclass(frozen=True)
class Confusion:
    """Rows are the truth, columns the answer; `cells[i][j]` counts pictures.

    For a multiple choice, where a picture has no single truth, `labels` has one row each: hits, missed, wrongly set.
    """

    labels: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[int]]
    diagonal: bool


def write_report(path: Path, results: Sequence[ChapterResult], findings: Findings) -> None:
    """Render the page. Raises OSError when it cannot be written."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((files("prelabel.worker.demo") / "report.html").read_text(encoding="utf-8"))
    sections = [
        {
            "chapter": result.chapter,
            "progress": result.progress,
            "accuracies": result.accuracies,
            "cards": _cards(result),
            "bins": _histogram(result),
            "confusion": _confusion(result),
            "prompt": result.chapter.taxonomy.prompts()[0][0],
        }
        for result in results
    ]
    versions = sorted(
        {prediction.model_version for result in results for prediction in result.predictions if prediction.ok}
    )
    searches = [
        {
            "text": one.text,
            "there": one.there,
            "hits": [(hit, _thumbnail(picture.path), right) for hit, picture, right in one.hits],
        }
        for one in findings.shown
    ]
    html = template.render(sections=sections, versions=versions, findings=findings, searches=searches)
    path.write_text(html, encoding="utf-8")


def _cards(result: ChapterResult) -> list[Card]:
    held_out = {str(picture.path): picture.held_out for picture in result.chapter.pictures}
    cards = []
    for prediction in result.predictions:
        uri = prediction.item.images[0].uri
        paths = prediction.answer.paths if prediction.answer else ()
        others = [score for score in prediction.scores if score.logit is not None and score.path not in paths][:3]
        cards.append(
            Card(
                thumbnail=_thumbnail(Path(uri)),
                name=Path(uri).stem,
                answer=_names(paths),
                truth=_names(sorted(result.chapter.truth[uri])),
                confidence=prediction.confidence or 0.0,
                right=result.chapter.right(prediction),
                held_out=held_out[uri],
                runners_up=", ".join(f"{' > '.join(score.path)} {score.probability:.2f}" for score in others),
                error=prediction.error.message if prediction.error else "",
            )
        )
    return cards


def _histogram(result: ChapterResult) -> list[Bin]:
    right: Counter[int] = Counter()
    wrong: Counter[int] = Counter()
    for prediction in result.predictions:
        if prediction.confidence is not None:
            column = min(_BINS - 1, int(prediction.confidence * _BINS))
            (right if result.chapter.right(prediction) else wrong)[column] += 1
    return [Bin(i / _BINS, (i + 1) / _BINS, right[i], wrong[i]) for i in range(_BINS)]


def _confusion(result: ChapterResult) -> Confusion:
    if result.chapter.taxonomy.choice == "multiple":
        return _hits_and_misses(result)
    labels = [label.name for label in result.chapter.taxonomy.labels]
    counts: Counter[tuple[str, str]] = Counter()
    for prediction in result.predictions:
        (truth,) = result.chapter.truth[prediction.item.images[0].uri]
        counts[truth[0], prediction.path[0] if prediction.path else "none"] += 1
    columns = [*labels, *(["none"] if any(answer == "none" for _, answer in counts) else [])]
    cells = [[counts[truth, answer] for answer in columns] for truth in labels]
    return Confusion(labels, columns, cells, diagonal=True)


def _hits_and_misses(result: ChapterResult) -> Confusion:
    labels = [label.name for label in result.chapter.taxonomy.labels]
    counts: Counter[tuple[str, int]] = Counter()
    for prediction in result.predictions:
        truth = {path[-1] for path in result.chapter.truth[prediction.item.images[0].uri]}
        chosen = set(prediction.labels)
        for column, outcome in enumerate((truth & chosen, truth - chosen, chosen - truth)):
            counts.update((label, column) for label in outcome)
    cells = [[counts[label, column] for column in range(3)] for label in labels]
    return Confusion(labels, ("found", "missed", "wrongly set"), cells, diagonal=False)


def _names(paths: Sequence[LabelPath]) -> str:
    return ", ".join(" > ".join(path) for path in paths) or "none"


def _thumbnail(path: Path) -> str:
    """The picture as a small JPEG in a data: URI."""
    with Image.open(path) as image:
        image.thumbnail(_THUMBNAIL_PX)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
