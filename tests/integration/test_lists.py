"""Items with many images, regions and labels of their own, through a real broker and worker."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from prelabel.integrations import Client
from prelabel.schemas import Control, ImageRef, Item, Label, Options, Prediction, Region, Taxonomy
from tests.conftest import eventually

COLOURS = Taxonomy.flat(["red", "blue"])
SQUARES = 50


def stripes(path: Path) -> Path:
    """A picture of 50 stripes, red and blue in turn."""
    picture = Image.new("RGB", (SQUARES * 20, 40), (200, 20, 20))
    for place in range(1, SQUARES, 2):
        picture.paste((20, 20, 200), (place * 20, 0, place * 20 + 20, 40))
    picture.save(path)
    return path


def boxes(path: Path, name: str = "boxes") -> tuple[ImageRef, ...]:
    width = 100 / SQUARES
    return tuple(
        ImageRef(uri=str(path), region=Region(x=place * width, y=0, width=width, height=100), name=name)
        for place in range(SQUARES)
    )


def colours(prediction: Prediction) -> list[str]:
    return [answer.paths[0][0] for answer in prediction.answers]


def test_every_region_of_a_picture_is_answered_and_answered_again_from_stored_vectors(
    live: Client, pictures_dir: Path
) -> None:
    path = stripes(pictures_dir / "stripes.png")
    speck = ImageRef(uri=str(path), region=Region(x=1, y=1, width=0.01, height=0.01), name="boxes")
    item = Item(id="stripes", images=(speck, *boxes(path)))
    control = Control(name="colour", taxonomy=COLOURS, image="boxes", over="each")
    job = live.submit([item], [control], priority="interactive")
    (prediction,) = job.results(timeout=60)
    # The speck is smaller than a pixel: it has no answer, and every other one keeps its place.
    assert [answer.index for answer in prediction.answers] == list(range(1, SQUARES + 1))
    assert colours(prediction) == ["red", "blue"] * (SQUARES // 2)
    path.unlink()
    swapped = control.model_copy(update={"taxonomy": Taxonomy.flat(["blue", "red", "green"])})

    def again() -> Prediction | None:  # vectors are stored soon
        (found,) = live.rescore(job, [swapped]).results(timeout=30)
        return found if found.ok else None

    assert colours(eventually(again)) == colours(prediction)


def test_a_list_of_images_that_are_all_missing_is_one_failed_item(live: Client) -> None:
    item = Item(id="1", images=tuple(ImageRef(uri=f"no-such-{i}.jpg", name="many") for i in range(3)))
    controls = [Control(taxonomy=COLOURS, image="many", over="each")]
    (prediction,) = live.submit([item], controls).results(timeout=30)
    assert prediction.error is not None
    assert "no-such-0.jpg" in prediction.error.message


def test_a_list_as_a_whole_needs_all_of_its_images(live: Client, photo: Path) -> None:
    images = tuple(ImageRef(uri=uri, name="many") for uri in (str(photo), "no-such-file.jpg"))
    controls = [Control(taxonomy=COLOURS, image="many", over="all")]
    (prediction,) = live.submit([Item(id="1", images=images)], controls).results(timeout=30)
    assert prediction.error is not None
    assert "no-such-file.jpg" in prediction.error.message


def test_items_with_labels_of_their_own_share_a_job(live: Client, photo: Path) -> None:
    def options(*names: str) -> dict[str, Options]:
        return {"colour": Options(labels=tuple(Label(name=name) for name in names))}

    brought = [options("red", "blue"), options("green", "blue", "red"), {}, options("red", "red")]
    items = [
        Item(id=str(i), images=(ImageRef(uri=str(photo)),), options=labels) for i, labels in enumerate([*brought] * 20)
    ]
    control = Control(name="colour", taxonomy=Taxonomy(labels=(), is_open=True))
    found = {prediction.ordinal: prediction for prediction in live.submit(items, [control]).results(timeout=60)}
    assert len(found) == len(items)
    for ordinal, prediction in found.items():
        if ordinal % 4 < 2:
            assert prediction.label == "red"
            assert len(prediction.scores) == 2 + ordinal % 4
        else:
            assert prediction.error is not None
            assert ["brings no labels for 'colour'", "duplicate label: red"][
                ordinal % 4 - 2
            ] in prediction.error.message
    assert len({prediction.model_version for prediction in found.values() if prediction.ok}) == 1
