"""Controls about regions: which regions count, what is cropped, and what a prediction says of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.convert.items import item_from_task
from prelabel.integrations.label_studio.convert.regions import MAX_REGIONS
from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Answer, ItemError, Prediction, Region

BOXES = '<RectangleLabels name="box" toName="img"><Label value="Car"/><Label value="Bus"/></RectangleLabels>'
CONFIG = (
    f'<View><Image name="img" value="$image"/>{BOXES}'
    '<Choices name="cls" toName="img" perRegion="true" {extra}><Choice value="New"/><Choice value="Old" alias="o"/>'
    '</Choices><Taxonomy name="tax" toName="img" perRegion="true"><Choice value="A"><Choice value="B"/></Choice>'
    "</Taxonomy></View>"
)


def box(number="r1", label="Car", **value):
    geometry = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, **value}
    return {
        "id": number,
        "from_name": "box",
        "to_name": "img",
        "type": "rectanglelabels",
        "origin": "manual",
        "score": 0.4,
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "value": {**geometry, "rectanglelabels": [label]},
    }


def task(**sources):
    return {"id": 7, "data": {"image": "https://e.org/1.jpg"}, **sources}


def annotation(*results, number=1, **fields):
    return {"id": number, "result": list(results), **fields}


def item_of(config=None, **sources):
    return item_from_task(task(**sources), LabelConfig.parse(config or CONFIG.format(extra="")), None)


def ids(item):
    return [image.origin.id for image in item.images]


def test_a_prediction_about_regions_carries_its_own_copies_of_them():
    config = LabelConfig.parse(CONFIG.format(extra=""))
    item = item_of(annotations=[annotation(box("r1"), box("r2", "Bus", x=50))])
    assert [image.region for image in item.images] == [
        Region(x=10, y=20, width=30, height=40),
        Region(x=50, y=20, width=30, height=40),
    ]
    answers = [
        Answer(control="cls", index=0, rule="softmax", paths=(("Old",),), confidence=0.9),
        Answer(control="cls", index=1, rule="softmax", paths=(("New",),), confidence=0.8),
        Answer(control="tax", index=1, rule="tree-softmax", paths=(("A", "B"),), confidence=0.7),
    ]
    made = prediction_to_label_studio(Prediction(item=item, model_version="m@1+tax.abc123", answers=answers), config)
    copies = [{key: value for key, value in box(*of).items() if key not in ("origin", "score")} for of in [("r1",)]]
    assert made["result"][0] == copies[0]
    assert made["result"][1]["id"] == "r2"
    fields = ("id", "from_name", "type", "value", "score")
    assert [tuple(entry[field] for field in fields) for entry in made["result"][2:]] == [
        ("r1", "cls", "choices", {"choices": ["o"]}, 0.9),
        ("r2", "cls", "choices", {"choices": ["New"]}, 0.8),
        ("r2", "tax", "taxonomy", {"taxonomy": [["A", "B"]]}, 0.7),
    ]
    assert made["score"] == 0.7

    from label_studio_sdk.label_interface import LabelInterface

    assert LabelInterface(CONFIG.format(extra="")).validate_prediction(made, return_errors=True) == []


def test_a_region_nothing_was_chosen_for_is_not_copied():
    item = item_of(annotations=[annotation(box("r1"), box("r2"))])
    answers = [Answer(control="cls", index=1, rule="softmax", paths=(("New",),), confidence=0.8)]
    made = prediction_to_label_studio(
        Prediction(item=item, model_version="m", answers=answers), LabelConfig.parse(CONFIG.format(extra=""))
    )
    assert {entry["id"] for entry in made["result"]} == {"r2"}


SOURCES = [
    ({"annotations": [annotation(box("old"), number=1), annotation(box("new"), number=2)]}, ["new"]),
    ({"annotations": [annotation(box("old"), number=9, updated_at="2026-01-01T00:00:00Z"),
                      annotation(box("new"), number=2, updated_at="2026-02-01T00:00:00Z")]}, ["new"]),
    ({"annotations": [annotation(box("skipped"), was_cancelled=True)], "drafts": [annotation(box("d"))]}, ["d"]),
    ({"annotations": [annotation()], "predictions": [annotation(box("p"), model_version="yolo")]}, ["p"]),
    ({"predictions": [annotation(box("copy"), number=9, model_version="siglip@12345678+tax.abc123"),
                      annotation(box("p"), number=1, model_version="yolo")]}, ["p"]),
    ({"annotations": [annotation(box("a"), box("a"))]}, ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("sources", "expected"), SOURCES)
def test_one_source_of_regions_counts(sources, expected):
    assert ids(item_of(**sources)) == expected


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"annotations": None, "predictions": [None, {"result": "Cat"}, {"result": [None, 7, {"id": 3}]}]},
        {"annotations": [annotation({**box(), "to_name": "other"})]},
        {"annotations": [annotation({key: value for key, value in box().items() if key != "id"})]},
        {"predictions": [annotation(box(), model_version="siglip@12345678+tax.abc123")]},
        {"predictions": [annotation(box(), model_version="siglip@12345678+tax.abc123+cal.abc123")]},
    ],
)
def test_without_a_usable_region_there_is_nothing_to_ask(sources):
    with pytest.raises(ItemError, match="no region yet that cls, tax asks about"):
        item_of(**sources)


UNUSABLE = {
    "no area": (box(width=0), "r1 (rectanglelabels) cannot be cut out: it has no area in the image"),
    "text": (box(x="10"), "its x is no number"),
    "nan": (box(x=float("nan")), "its x is no number"),
    "outside": (box(x=-50, width=40), "it has no area in the image"),
    "rotated": (box(x=-5, rotation=10), "it is rotated, and its first corner lies outside the image"),
    "another type's value": ({**box(), "type": "ellipselabels"}, "its radiusX is no number"),
    "of tomorrow": ({**box(), "type": "cuboidlabels"}, "r1 (cuboidlabels) cannot be cut out: nothing says what"),
    "labels alone": ({**box(), "type": "labels"}, "nothing says what its shape is"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_region_that_cannot_be_cut_out_is_said_and_takes_no_other(name):
    bad, reason = UNUSABLE[name]
    with pytest.raises(ItemError) as refused:
        item_of(annotations=[annotation(bad)])
    assert reason in str(refused.value)
    item = item_of(annotations=[annotation(bad, box("good"))])
    assert reason in item.problem
    assert [(image.origin.id, image.region is None) for image in item.images] == [("r1", True), ("good", False)]


def test_regions_that_can_be_cut_out_come_before_newer_ones_that_cannot():
    drawn = annotation(UNUSABLE["no area"][0], number=2)
    assert ids(item_of(annotations=[drawn], predictions=[annotation(box("p"), model_version="yolo")])) == ["p"]


def test_what_people_say_about_a_region_is_no_region():
    said = {**box(), "type": "choices", "from_name": "cls", "value": {**box()["value"], "choices": ["New"]}}
    assert ids(item_of(annotations=[annotation(said, box("r1"))])) == ["r1"]


def test_a_box_dragged_over_the_edge_is_cut_off_there_and_kept_as_it_is():
    item = item_of(annotations=[annotation(box(x=-5, y=90, width=30, height=40))])
    assert item.images[0].region == Region(x=0, y=90, width=25, height=10)
    (stored,) = json.loads(item.images[0].origin.stored)
    assert stored["value"]["x"] == -5


def test_a_rotated_box_is_kept_rotated():
    item = item_of(annotations=[annotation(box(rotation=370.5, x=90, width=30))])
    assert item.images[0].region == Region(x=90, y=20, width=30, height=40, rotation=370.5)


def test_a_rectangle_with_labels_beside_it_is_one_region():
    config = (
        '<View><Image name="img" value="$image"/><Rectangle name="rect" toName="img"/><Labels name="lab" toName="img">'
        '<Label value="Car"/></Labels><Choices name="cls" toName="img" perRegion="true" whenTagName="lab"'
        ' whenLabelValue="Car"><Choice value="New"/></Choices></View>'
    )
    rectangle = {**box(), "from_name": "rect", "type": "rectangle"}
    del rectangle["value"]["rectanglelabels"]
    labels = {**box(), "from_name": "lab", "type": "labels"}
    labels["value"] = {**rectangle["value"], "labels": ["Car"]}
    item = item_of(config, annotations=[annotation(rectangle, labels)])
    assert [entry["type"] for entry in json.loads(item.images[0].origin.stored)] == ["rectangle", "labels"]
    answers = [Answer(control="cls", index=0, rule="softmax", paths=(("New",),), confidence=0.8)]
    made = prediction_to_label_studio(
        Prediction(item=item, model_version="m", answers=answers), LabelConfig.parse(config)
    )
    from label_studio_sdk.label_interface import LabelInterface

    assert LabelInterface(config).validate_prediction(made, return_errors=True) == []


def test_a_control_is_asked_about_the_regions_it_is_shown_for():
    item = item_of(
        CONFIG.format(extra='whenTagName="box" whenLabelValue="Bus"'),
        annotations=[annotation(box("r1"), box("r2", "Bus"))],
    )
    groups = {
        name: [image.origin.id for image in item.images_of(name)] for name in {image.name for image in item.images}
    }
    assert sorted(groups.values()) == [["r1", "r2"], ["r2"]]


def test_regions_of_an_image_of_a_list_are_cut_from_that_image():
    config = CONFIG.format(extra="").replace('value="$image"', 'valueList="$images"')
    entry = {**box(), "item_index": 1}
    made = {"id": 7, "data": {"images": ["https://e.org/1.jpg", "https://e.org/2.jpg"]}}
    item = item_from_task({**made, "annotations": [annotation(entry)]}, LabelConfig.parse(config), None)
    assert [image.uri for image in item.images] == ["https://e.org/2.jpg"]
    entry["item_index"] = 5
    with pytest.raises(ItemError, match="no region"):
        item_from_task({**made, "annotations": [annotation(entry)]}, LabelConfig.parse(config), None)


def test_too_many_regions_are_refused():
    with pytest.raises(ItemError, match="501 regions, at most 500"):
        item_of(annotations=[annotation(*[box(str(i)) for i in range(MAX_REGIONS + 1)])])


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-200, 200) | st.none() | st.text(max_size=2)


@given(st.fixed_dictionaries(dict.fromkeys(("x", "y", "width", "height", "rotation"), NUMBERS)))
def test_whatever_a_box_says_it_is_a_region_inside_the_image_or_none(value):
    try:
        item = item_of(annotations=[annotation(box(**value))])
    except ItemError:
        return
    region = item.images[0].region
    assert 0 <= region.x <= 100
    assert 0 < region.width <= 100
    json.loads(item.images[0].origin.stored)
