"""What a prediction copies of regions: small ones travel with it, large ones are read again when it is delivered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prelabel.integrations.label_studio.convert.copies import LARGEST, bulk_takes
from prelabel.integrations.label_studio.convert.items import item_from_task
from prelabel.integrations.label_studio.convert.regions import copies_of
from prelabel.integrations.label_studio.convert.results import copies_left_out, prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Answer, Chunk, ItemError, Origin, Prediction
from tests.unit.integrations.label_studio.convert.test_shapes import VALUES, config_of, entry

CONFIG = LabelConfig.parse(config_of("brush"))


def labelled(*brushes: dict[str, Any]) -> tuple[dict[str, Any], Prediction]:
    """A task with these regions, and a prediction that says something about each."""
    task = {"id": 7, "data": {"image": "https://e.org/1.jpg"}, "annotations": [{"id": 1, "result": list(brushes)}]}
    item = item_from_task(task, CONFIG, None)
    answers = tuple(
        Answer(control="cls", index=index, rule="softmax", paths=(("New",),), confidence=0.9 - index / 10)
        for index in range(len(brushes))
    )
    return task, Prediction(item=item, model_version="m@1", answers=answers)


def without_origin(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "origin"}


def test_the_pixels_of_a_brush_do_not_travel_and_are_copied_from_label_studio() -> None:
    brush = entry("brush")
    task, prediction = labelled(brush)
    assert len(json.dumps(brush)) > 2 * LARGEST
    assert len(Chunk(items=(prediction.item,)).to_json()) < 1_000
    digests = copies_left_out(prediction, CONFIG)
    assert len(digests) == 1
    made = prediction_to_label_studio(prediction, CONFIG, copies_of(task, digests))
    assert made is not None
    assert made["result"][0] == without_origin(brush)
    assert made["result"][1]["id"] == "r1"


def test_a_brush_that_has_changed_since_is_left_out_and_the_others_stay() -> None:
    first, second = entry("brush", id="a"), entry("brush", id="b")
    task, prediction = labelled(first, second)
    changed = {**second, "value": {**second["value"], "rle": [*second["value"]["rle"], 0]}}
    task["annotations"] = [{"id": 1, "result": [first, changed]}]
    made = prediction_to_label_studio(prediction, CONFIG, copies_of(task, copies_left_out(prediction, CONFIG)))
    assert made is not None
    assert [result["id"] for result in made["result"]] == ["a", "a"]
    assert made["score"] == 0.9, "an answer that is left out counts no more"
    task["annotations"] = []
    with pytest.raises(ItemError, match="have changed since, or are gone"):
        prediction_to_label_studio(prediction, CONFIG, copies_of(task, copies_left_out(prediction, CONFIG)))


def test_what_others_say_about_a_brush_meanwhile_changes_nothing() -> None:
    task, prediction = labelled(entry("brush"))
    said = {**entry("brush"), "type": "choices", "from_name": "cls", "value": {"choices": ["Old"]}}
    task["annotations"][0]["result"] = [said, {**entry("brush"), "score": 0.3, "meta": {"text": ["?"]}}]
    assert copies_of(task, copies_left_out(prediction, CONFIG))


def test_a_region_nothing_was_chosen_for_is_not_read_again() -> None:
    _, prediction = labelled(entry("brush"))
    (answer,) = prediction.answers
    silent = prediction.model_copy(update={"answers": (answer.model_copy(update={"paths": ()}),)})
    assert copies_left_out(silent, CONFIG) == frozenset()
    assert prediction_to_label_studio(silent, CONFIG) is None


def test_what_an_earlier_release_wrote_of_a_region_is_read() -> None:
    assert Origin.model_validate_json('{"id":"r1","stored":"[]"}') == Origin(id="r1", stored="[]")


@pytest.mark.parametrize("shape", VALUES)
def test_what_the_editor_draws_in_the_image_goes_to_the_bulk_import(shape: str) -> None:
    assert bulk_takes(entry(shape))


@pytest.mark.parametrize("junk", [{"x": "1"}, {"rotation": None}, {"points": 7}, {"points": [7]}, {"points": [["a"]]}])
def test_junk_beside_a_shape_does_not_go_to_the_bulk_import(junk: dict[str, Any]) -> None:
    assert not bulk_takes({"type": "labels", "value": {**junk, "labels": ["Thing"]}})


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ("rectangle", {"rotation": 370.5}),
        ("ellipse", {"radiusX": 60}),
        ("keypoint", {"x": 100.5}),
        ("polygon", {"points": [[1, 1], [101, 1], [2, 2]]}),
    ],
)
def test_what_the_bulk_import_would_drop_is_known_beforehand(shape: str, change: dict[str, Any]) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    result = entry(shape, {**VALUES[shape], **change})
    prediction = {"result": [result], "score": 0.5, "model_version": "m"}
    assert LabelInterface(config_of(shape)).validate_prediction(prediction, return_errors=True)
    assert not bulk_takes(result)
