"""Lists of images, labels that come with the task, and controls that hide each other."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.convert.items import item_from_task
from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.label_config.choices import MAX_OPTIONS
from prelabel.schemas import Answer, ImageRef, Item, ItemError, Prediction

LIST = (
    '<View><Image name="img" valueList="$images"/><Choices name="cls" toName="img" {extra}><Choice value="Cat"/>'
    '<Choice value="Dog" alias="d"/></Choices></View>'
)
PHOTOS = ["https://e.org/1.jpg", "https://e.org/2.jpg"]


def task(**data):
    return {"id": 7, "data": data}


def predicted(item, *answers):
    return Prediction(item=item, model_version="m@1+tax.abc123", answers=answers)


def answer(*paths, control="cls", index=None, confidence=0.9):
    return Answer(control=control, index=index, rule="softmax", paths=paths, confidence=confidence)


def test_each_image_of_a_list_is_answered_with_its_place():
    config = LabelConfig.parse(LIST.format(extra='perItem="true"'))
    item = item_from_task(task(images=PHOTOS), config, None)
    assert [image.uri for image in item.images_of("img")] == PHOTOS
    made = prediction_to_label_studio(predicted(item, answer(("Cat",), index=0), answer(("Dog",), index=1)), config)
    assert [(entry["item_index"], entry["value"]) for entry in made["result"]] == [
        (0, {"choices": ["Cat"]}),
        (1, {"choices": ["d"]}),
    ]


def test_a_list_as_a_whole_is_answered_once():
    config = LabelConfig.parse(LIST.format(extra=""))
    item = item_from_task(task(images=PHOTOS), config, None)
    made = prediction_to_label_studio(predicted(item, answer(("Cat",))), config)
    (entry,) = made["result"]
    assert "item_index" not in entry


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "not a list of images"),
        ({"a": 1}, "not a list of images"),
        (["https://e.org/1.jpg", 7], "must be a non-empty string"),
        (["https://e.org/1.jpg"] * 1000, "holds 1,000 images, at most 200"),
        (None, "has no 'images'"),
    ],
)
def test_lists_that_cannot_be_used(images, message):
    with pytest.raises(ItemError, match=message):
        item_from_task(task(images=images), LabelConfig.parse(LIST.format(extra="")), None)


OPEN = '<View><Image name="img" value="$image"/><{tag} name="cls" toName="img" value="$opts" {extra}/></View>'
IMAGE = "https://e.org/1.jpg"
ENTRIES = [
    {"value": "red"},
    {"value": "green", "alias": "g", "hint": "like grass", "children": [{"value": "lime", "alias": "l"}]},
    {"value": "red", "alias": "again"},
]


def open_item(tag, entries, extra=""):
    config = LabelConfig.parse(OPEN.format(tag=tag, extra=extra))
    return config, item_from_task(task(image=IMAGE, opts=entries), config, None)


def test_choices_that_come_with_the_task_are_answered_by_alias():
    config, item = open_item("Choices", ENTRIES)
    labels = item.options["cls"].labels
    assert [(label.name, label.answer, label.description, label.children) for label in labels] == [
        ("red", None, None, ()),
        ("green", "g", "like grass", ()),
    ]
    assert prediction_to_label_studio(predicted(item, answer(("green",))), config)["result"][0]["value"] == {
        "choices": ["g"]
    }


@pytest.mark.parametrize(
    ("tag", "extra", "value"),
    [
        ("Taxonomy", "", {"taxonomy": [["g", "l"]]}),
        ("Taxonomy", 'leafsOnly="true"', {"taxonomy": [["g", "l"]]}),
        ("Choices", 'allowNested="true"', {"choices": [["g", "l"]]}),
    ],
)
def test_trees_that_come_with_the_task_are_answered_by_path(tag, extra, value):
    config, item = open_item(tag, ENTRIES, extra)
    made = prediction_to_label_studio(predicted(item, answer(("green", "lime"))), config)
    assert made["result"][0]["value"] == value


def test_leafs_only_holds_for_labels_that_come_with_the_task():
    config, item = open_item("Taxonomy", ENTRIES, 'leafsOnly="true"')
    assert prediction_to_label_studio(predicted(item, answer(("green",))), config) is None


def test_tasks_that_bring_the_same_labels_share_them():
    _, first = open_item("Choices", ENTRIES)
    _, second = open_item("Choices", json.loads(json.dumps(ENTRIES)))
    assert first.options["cls"] is second.options["cls"]


DEEP: dict = {"value": "x"}
for _ in range(40):
    DEEP = {"value": "x", "children": [DEEP]}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["red"], r"plain text \('red'\), which Label Studio shows as a blank choice: write {\"value\": \"red\"}"),
        (None, "has no 'opts', the labels of 'cls'"),
        ([], "holds no choices"),
        ({"value": "red"}, "not a list of choices"),
        ("red", "not a list of choices"),
        ([{"alias": "r"}], "without a text under 'value'"),
        ([{"value": " "}], "without a text under 'value'"),
        ([{"value": 3}], "without a text under 'value'"),
        ([[]], "without a text under 'value'"),
        ([{"value": "red", "children": "x"}], "not a list of choices"),
        ([{"value": "red", "model_score_threshold": 7}], "must be a number from 0 to 1"),
        ([DEEP], "nested more than 32 levels"),
        ([{"value": str(i)} for i in range(MAX_OPTIONS + 1)], "more than 5,000 choices"),
    ],
)  # fmt: skip
def test_labels_of_a_task_that_cannot_be_used(entries, message):
    with pytest.raises(ItemError, match=message):
        open_item("Taxonomy", entries)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["value", "alias", "hint", "children"]), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_whatever_a_task_brings_is_labels_or_an_item_error(entries):
    try:
        _, item = open_item("Taxonomy", entries)
    except ItemError:
        return
    assert item.options["cls"].labels


SHOWN_FOR = (
    '<View><Image name="img" value="$image"/><Choices name="kind" toName="img"><Choice value="Animal" alias="a"/>'
    '<Choice value="Car"/></Choices><Choices name="animal" toName="img" visibleWhen="choice-selected"'
    ' whenTagName="kind" whenChoiceValue="{value}"><Choice value="Cat"/></Choices><View visibleWhen="choice-unselected"'
    ' whenTagName="animal"><Choices name="rest" toName="img"><Choice value="x"/></Choices></View></View>'
)


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        ("Animal", "Animal", ["kind", "animal"]),
        ("a", "Animal", ["kind", "animal"]),
        ("Boat,Animal", "Animal", ["kind", "animal"]),
        ("Animal", "Car", ["kind", "rest"]),
    ],
)
def test_an_answer_is_given_when_its_control_is_shown(value, kind, shown):
    config = LabelConfig.parse(SHOWN_FOR.format(value=value))
    item = Item(id="7", images=(ImageRef(uri=IMAGE),))
    answers = [
        answer((kind,), control="kind"),
        answer(("Cat",), control="animal", confidence=0.2),
        answer(("x",), control="rest"),
    ]
    made = prediction_to_label_studio(predicted(item, *answers), config)
    assert [entry["from_name"] for entry in made["result"]] == shown
