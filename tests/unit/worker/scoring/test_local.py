"""Scoring in this process: the parts a worker is made of, without a queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prelabel.schemas import Control, ImageRef, Item, Label, Options, Region, ScorerError, Settings, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.arrays import Pixels, Vectors
from prelabel.worker.demo.shapes import draw, sample_scene
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.model.colour import ColourEncoder, ColourImages
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.scoring.local import score_items
from tests.oracle import right_answer

COLOURS = Taxonomy.flat(["red", "green", "blue"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(image_roots=(tmp_path,), fetch_threads=2, batch_size=4)


@pytest.fixture
def score(settings: Settings) -> Iterator[Callable[..., Iterator]]:
    """Scores items with an encoder that sees colours only, or another."""
    fetcher = Fetcher(settings)

    def make(items, *controls: Control, encoder=None):
        asked = controls or (Control(taxonomy=COLOURS),)
        return score_items(items, asked, encoder=encoder or ColourEncoder(), fetch=fetcher.fetch, settings=settings)

    yield make
    fetcher.close()


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prelabel")]


def picture(directory: Path, colour: str) -> str:
    path = directory / f"{colour}.png"
    Image.new("RGB", (8, 8), colour).save(path)
    return str(path)


def test_answers_are_those_of_one_image_at_a_time(tmp_path, settings) -> None:
    encoder = load_encoder(load_settings(model=str(CHECKPOINT)), "demo@00000000")
    shapes = Taxonomy.flat(["circle", "ring", "cross", "square"])
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{number}.jpg" for number in range(12)]
    for path in paths:
        draw(sample_scene(rng)).save(path, quality=90)
    region = Region(x=10, y=20, width=50, height=40)
    items = [
        Item(images=(ImageRef(uri=str(path), region=region if number % 2 else None),))
        for number, path in enumerate(paths)
    ]
    with closing(Fetcher(settings)) as fetcher:
        found = list(
            score_items(items, [Control(taxonomy=shapes)], encoder=encoder, fetch=fetcher.fetch, settings=settings)
        )
    assert [prediction.ordinal for prediction in found] == list(range(12))
    for prediction, path in zip(found, paths, strict=True):
        image = prediction.item.images[0]
        right = right_answer(encoder, shapes, path.read_bytes(), settings, image.region)
        assert {score.path: score.logit for score in prediction.scores} == pytest.approx(
            {score.path: score.logit for score in right.scores}, abs=0.05
        )


def test_all_images_of_an_item_are_scored_and_the_labels_it_brings(tmp_path, score) -> None:
    images = tuple(ImageRef(uri=picture(tmp_path, colour), name="list") for colour in ("red", "blue"))
    brought = Options(labels=(Label(name="green"), Label(name="blue")))
    controls = (
        Control(name="each", taxonomy=COLOURS, image="list", over="each"),
        Control(name="any", taxonomy=Taxonomy.flat(["red", "blue"], "multiple"), image="list", over="all"),
        Control(name="brought", taxonomy=Taxonomy(labels=(), is_open=True), image="list"),
    )
    (prediction,) = score([Item(id="1", images=images, options={"brought": brought})], *controls)
    assert prediction.error is None
    each = [answer.paths for answer in prediction.answers if answer.control == "each"]
    assert each == [(("red",),), (("blue",),)]
    assert {answer.control for answer in prediction.answers} == {"each", "any", "brought"}


def test_what_cannot_be_scored_fails_in_its_place(tmp_path, score) -> None:
    (tmp_path / "text.png").write_text("no image")
    uris = [picture(tmp_path, "red"), str(tmp_path / "none.png"), str(tmp_path / "text.png"), picture(tmp_path, "blue")]
    found = list(score([Item.of(uri) for uri in uris]))
    assert [prediction.label for prediction in found] == ["red", None, None, "blue"]
    assert [prediction.error.kind for prediction in found if prediction.error] == ["ItemError"] * 2


def test_what_cannot_be_answered_takes_no_other_answer_of_its_item(tmp_path, score) -> None:
    images = (
        ImageRef(uri=picture(tmp_path, "red"), name="a"),
        ImageRef(uri=str(tmp_path / "none.png"), name="b"),
        ImageRef.unusable("the second is blank", name="c"),
        *(ImageRef(uri=picture(tmp_path, "blue"), name="list"), ImageRef.unusable("a gap", name="list")),
    )
    opened = Taxonomy(labels=(), is_open=True)
    twice = {"twice": Options(labels=(Label(name="red"), Label(name="red")))}
    item = Item(id="1", images=images, options=twice, problems={"tree": "the tree is null"})
    controls = [
        Control(name="b", taxonomy=COLOURS, image="b"),
        Control(name="a", taxonomy=COLOURS, image="a"),
        Control(name="c", taxonomy=COLOURS, image="c"),
        Control(name="all", taxonomy=COLOURS, image="list", over="all"),
        Control(name="each", taxonomy=COLOURS, image="list", over="each"),
        Control(name="tree", taxonomy=opened, image="a"),
        Control(name="twice", taxonomy=opened, image="a"),
        Control(name="none", taxonomy=opened, image="a"),
        Control(name="gone", taxonomy=COLOURS, image="gone"),
    ]
    (prediction,) = score([item], *controls)
    assert prediction.error is None
    assert [(answer.control, answer.index, answer.paths) for answer in prediction.answers] == [
        ("a", None, (("red",),)),
        ("each", 0, (("blue",),)),
    ]
    missing = {(one.control, one.place, one.index): one.message for one in prediction.unanswered}
    assert "none.png" in missing.pop(("b", 0, None))
    assert missing == {
        ("c", 2, None): "the second is blank",
        ("all", 3, None): "a gap",
        ("each", 4, 1): "a gap",
        ("tree", 5, None): "the tree is null",
        ("twice", 6, None): "duplicate label: red",
        ("none", 7, None): "the item brings no labels for 'none'",
        ("gone", 8, None): "the item has no image named 'gone'",
    }
    # The first control has no answer, and another's is not taken for it.
    assert (prediction.complete, prediction.label, prediction.confidence) == (False, None, None)
    (failed,) = score([item], *(control for control in controls if control.name not in ("a", "each")))
    assert failed.error is not None
    assert not failed.unanswered


def test_labels_that_make_no_taxonomy_fail_their_item(tmp_path, score) -> None:
    options = {"c": Options(labels=(Label(name="red"), Label(name="red")))}
    item = Item(images=(ImageRef(uri=picture(tmp_path, "red")),), options=options)
    (prediction,) = score([item], Control(name="c", taxonomy=Taxonomy(labels=(), is_open=True)))
    assert "duplicate label: red" in prediction.error.message


def test_items_are_taken_as_their_turn_comes(tmp_path, score) -> None:
    taken = 0

    def items() -> Iterator[Item]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Item.of(picture(tmp_path, "red"))

    with closing(score(items())) as predictions:
        next(predictions)
        assert taken <= 16
        next(predictions)
        assert taken <= 17


class Gathering(ColourImages):
    """Holds its first pass back until several images are prepared; remembers how many there were in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []
        self._prepared = threading.Semaphore(0)

    def prepare(self, image: Pixels) -> Pixels:
        self._prepared.release()
        return super().prepare(image)

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        if not self.passes:
            for _ in range(6):
                assert self._prepared.acquire(timeout=20)
        self.passes.append(len(images))
        return super().start(images)


def test_images_share_forward_passes(tmp_path, score) -> None:
    images = Gathering()
    found = list(score([Item.of(picture(tmp_path, "red"))] * 12, encoder=ColourEncoder(images=images)))
    assert len(found) == sum(images.passes) == 12
    assert 1 < max(images.passes) <= 4


class Breaking(ColourImages):
    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        raise RuntimeError("an illegal memory access was encountered")


def test_a_broken_device_ends_it_with_one_error(tmp_path, score) -> None:
    with pytest.raises(ScorerError, match="illegal memory access"):
        list(score([Item.of(picture(tmp_path, "red"))] * 3, encoder=ColourEncoder(images=Breaking())))
    assert our_threads() == []


def test_no_thread_is_left_when_it_is_over_or_given_up(tmp_path, score) -> None:
    items = [Item.of(picture(tmp_path, "red"))] * 40
    list(score(items))
    assert our_threads() == []
    predictions = score(items)
    next(predictions)
    assert our_threads() != []
    predictions.close()
    assert our_threads() == []
