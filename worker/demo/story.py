"""The demo's story: pictures with a known truth, three jobs, and how often the answers were right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from ...schemas.predictions import Prediction
from ...schemas.taxonomy import Taxonomy
from .shapes import ALL_PAIRS, COLOURS, HELD_OUT_PAIRS, SHAPES, Scene, draw, sample_scene

CHECKPOINT: Final = Path(str(files("prelabel.worker.demo"))) / "siglip-shapes"
"""The small SigLIP checkpoint, trained by `training/demo_checkpoint.py` on pictures without the held-out pairs."""

TEMPLATE: Final = "This is a photo of a {label}."
MULTIPLE_THRESHOLD: Final = 0.5
"""From the checkpoint's training report. It belongs to this checkpoint: released SigLIP models want about 0.1."""

_TRAINED_PICTURES = 80
_HELD_OUT_PICTURES = 60
_GROUP_PICTURES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One generated picture.

    Attributes:
        path: the JPEG file.
        pairs: (colour, shape) of each figure in it.
        held_out: whether it shows one pair the checkpoint was never trained on.
    """

    path: Path
    pairs: tuple[tuple[str, str], ...]
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One job of the demo: which pictures, which question, what is right.

    Attributes:
        truth: path of the picture -> the right label paths.
    """

    name: str
    question: str
    pictures: tuple[Picture, ...]
    taxonomy: Taxonomy
    truth: Mapping[str, frozenset[tuple[str, ...]]]

    def right(self, prediction: Prediction) -> bool:
        """Whether the answer is exactly the truth."""
        chosen = prediction.answer.paths if prediction.answer else ()
        return frozenset(chosen) == self.truth[prediction.item.images[0].uri]


def draw_pictures(directory: Path, *, seed: int = 7) -> list[Picture]:
    """Write about 200 pictures as JPEG files: single figures, of trained and of held-out pairs, and groups."""
    rng = np.random.default_rng(seed)
    trained = [pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS]
    held_out = sorted(HELD_OUT_PAIRS)
    scenes: list[tuple[Scene, bool]] = []
    scenes += [(sample_scene(rng, pairs=[_turn(trained, i)]), False) for i in range(_TRAINED_PICTURES)]
    scenes += [(sample_scene(rng, pairs=[_turn(held_out, i)]), True) for i in range(_HELD_OUT_PICTURES)]
    scenes += [(sample_scene(rng, figures=2 + i % 2), False) for i in range(_GROUP_PICTURES)]
    pictures = []
    for number, (scene, is_held_out) in enumerate(scenes):
        path = directory / f"picture-{number:03d}.jpg"
        draw(scene).save(path, quality=90)
        pairs = tuple((figure.colour, figure.shape) for figure in scene.figures)
        pictures.append(Picture(path=path, pairs=pairs, held_out=is_held_out))
    return pictures


def chapters(pictures: Sequence[Picture]) -> list[Chapter]:
    """The three jobs: single choice, multiple choice, and a taxonomy of two levels."""
    single = tuple(picture for picture in pictures if len(picture.pairs) == 1)
    groups = tuple(picture for picture in pictures if len(picture.pairs) > 1)
    tree = {colour: list(SHAPES) for colour in COLOURS}
    return [
        Chapter(
            name="single choice",
            question="which shape is it?",
            pictures=single,
            taxonomy=Taxonomy.flat(SHAPES, template=TEMPLATE),
            truth={str(picture.path): frozenset({(picture.pairs[0][1],)}) for picture in single},
        ),
        Chapter(
            name="multiple choice",
            question="which shapes are there?",
            pictures=groups,
            taxonomy=Taxonomy.flat(SHAPES, "multiple", template=TEMPLATE, threshold=MULTIPLE_THRESHOLD),
            truth={str(picture.path): frozenset((shape,) for _, shape in picture.pairs) for picture in groups},
        ),
        Chapter(
            name="two-level taxonomy",
            question="colour, then shape",
            pictures=single,
            # Threshold 0: always down to a leaf, so that every answer can be held against the truth.
            taxonomy=Taxonomy.tree(tree, template=TEMPLATE, threshold=0.0),
            truth={str(picture.path): frozenset({picture.pairs[0]}) for picture in single},
        ),
    ]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a part of the answers was right (0..1).

    Attributes:
        overall: on all of the job's pictures.
        trained: on pictures of combinations the checkpoint was trained on; None where pictures mix both.
        held_out: on pictures of combinations it never saw; None where pictures mix both.
    """

    what: str
    overall: float
    trained: float | None = None
    held_out: float | None = None


def accuracies(chapter: Chapter, predictions: Sequence[Prediction]) -> list[Accuracy]:
    """What the demo says about one job's answers; a failed item counts as wrong."""
    held_out = {str(picture.path): picture.held_out for picture in chapter.pictures}
    if chapter.taxonomy.choice == "multiple":
        exact = [chapter.right(prediction) for prediction in predictions]
        return [
            Accuracy("exactly the right shapes", _share(exact)),
            Accuracy("F1 over shapes", _f1(chapter, predictions)),
        ]
    depth = 2 if chapter.taxonomy.is_tree else 1
    names = {1: ("shape",), 2: ("colour", "colour > shape")}[depth]
    accuracies = []
    for level, name in enumerate(names, start=1):
        right: dict[bool, list[bool]] = {False: [], True: []}
        for prediction in predictions:
            uri = prediction.item.images[0].uri
            (truth,) = chapter.truth[uri]
            right[held_out[uri]].append((prediction.path or ())[:level] == truth[:level])
        both = right[False] + right[True]
        accuracies.append(Accuracy(name, _share(both), _share(right[False]), _share(right[True])))
    return accuracies


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else 0.0


def _f1(chapter: Chapter, predictions: Sequence[Prediction]) -> float:
    """Micro-averaged F1: 2 * hits / (labels chosen + labels true)."""
    hits = chosen = true = 0
    for prediction in predictions:
        answer = frozenset(prediction.answer.paths) if prediction.answer else frozenset()
        truth = chapter.truth[prediction.item.images[0].uri]
        hits, chosen, true = hits + len(answer & truth), chosen + len(answer), true + len(truth)
    return 2 * hits / (chosen + true) if chosen + true else 0.0


def _turn(pairs: Sequence[tuple[str, str]], i: int) -> tuple[str, str]:
    return pairs[i % len(pairs)]
