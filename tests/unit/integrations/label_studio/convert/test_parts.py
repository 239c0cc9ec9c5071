"""What is wrong with one control, image or region takes no other: the rest is asked, and what is missing is said."""

import pytest

from prelabel.integrations.label_studio.convert.items import item_from_task
from prelabel.integrations.label_studio.convert.regions import MAX_REGIONS
from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Answer, ItemError, Prediction, Unanswered

A, B = "https://e.org/a.jpg", "https://e.org/b.jpg"
CHOICES = '<Choice value="Cat"/><Choice value="Dog"/>'
STATIC = f'<Choices name="cls" toName="img">{CHOICES}</Choices>'
TREE = (
    f'<View><Image name="img" value="$image"/>{STATIC}<Taxonomy name="kind" toName="img" value="$tree"/>'
    '<Choices name="more" toName="img" value="$more"/></View>'
)
TWO = (
    '<View><Image name="img" value="$image"/><Image name="other" value="$second"/>'
    f'{STATIC}<Choices name="is" toName="other">{CHOICES}</Choices></View>'
)


def item_of(xml, /, annotations=(), **data):
    return item_from_task({"id": 7, "data": data, "annotations": list(annotations)}, LabelConfig.parse(xml), None)


@pytest.mark.parametrize("tree", [None, [], ["plain"], [{"value": ""}], "Cat", 7, [{"value": "x", "children": "y"}, 8]])
def test_labels_that_cannot_be_used_take_no_other_control(tree):
    item = item_of(TREE, image=A, tree=tree, more=[{"value": "ok"}])
    assert [image.uri for image in item.images] == [A]
    assert set(item.options) == {"more"}
    assert set(item.problems) == {"kind"}
    assert "'tree'" in item.problem
    with pytest.raises(ItemError, match="'tree'"):
        item_of(TREE.replace(STATIC, ""), image=A, tree=tree, more=tree)


@pytest.mark.parametrize("second", ["", None, 7, [], [""], {"url": B}, "file:///etc/passwd", "http://[", [[B]]])
def test_an_image_that_cannot_be_used_takes_no_other_control(second):
    item = item_of(TWO, image=A, second=second)
    assert [image.uri for image in item.images if not image.problem] == [A]
    assert item.problem
    (left,) = item.images_of("img")
    assert left.problem is None
    with pytest.raises(ItemError):
        item_of(TWO, image=second, second=second)


@pytest.mark.parametrize("bad", ["", None, 7, [B], {"url": B}, "file:///etc/passwd"])
def test_an_image_of_a_list_that_cannot_be_used_keeps_its_place(bad):
    xml = (
        '<View><Image name="img" valueList="$images"/><Choices name="each" toName="img" perItem="true">'
        f"{CHOICES}</Choices></View>"
    )
    first, second, third = item_of(xml, images=[A, bad, B]).images_of("img")
    assert (first.uri, third.uri) == (A, B)
    assert second.problem
    with pytest.raises(ItemError):
        item_of(xml, images=[bad, bad])


def box(number, to_name="img", **fields):
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0, "rectanglelabels": ["Car"]}
    entry = {"id": f"{to_name}{number}", "from_name": "box", "to_name": to_name, "type": "rectanglelabels"}
    return {**entry, "value": value, **fields}


REGIONS = (
    '<View><Image name="img" value="$image"/><Image name="other" value="$second"/>'
    '<RectangleLabels name="box" toName="img,other"><Label value="Car"/></RectangleLabels>'
    f'{STATIC}<Choices name="one" toName="img" perRegion="true">{CHOICES}</Choices>'
    f'<Choices name="two" toName="other" perRegion="true">{CHOICES}</Choices></View>'
)


def test_too_many_regions_of_one_image_take_no_other_image_and_no_other_control():
    boxes = [box(i) for i in range(MAX_REGIONS + 1)]
    item = item_of(REGIONS, [{"id": 1, "result": [*boxes, box(0, "other")]}], image=A, second=B)
    assert set(item.problems) == {"one"}
    assert "501 regions, at most 500" in item.problem
    assert [(image.uri, image.region is None) for image in item.images] == [(A, True), (B, False)]


def test_regions_of_an_image_that_cannot_be_used_take_no_other_image():
    result = [box(0), box(0, "other")]
    item = item_of(REGIONS, [{"id": 1, "result": result}], image=A, second="")
    assert set(item.problems) == {"two"}
    assert [image.uri for image in item.images] == [A, A]


@pytest.mark.parametrize("junk", [{"to_name": []}, {"to_name": {}}, {"type": []}, {"id": []}, {"value": 7}])
def test_a_region_that_is_junk_takes_no_other(junk):
    item = item_of(REGIONS, [{"id": 1, "result": [{**box(1), **junk}, box(0)]}], image=A, second=B)
    assert [image.origin.id for image in item.images if image.origin] == ["img0"]


def test_a_config_answers_what_shares_no_name_and_no_image_with_a_bad_control():
    twice = '<Image name="twice" value="$a"/><Image name="twice" value="$b"/>'
    config = LabelConfig.parse(
        f'<View><Image name="img" value="$image"/>{twice}{STATIC}<Choices name="same" toName="img">{CHOICES}</Choices>'
        f'<Choices name="same" toName="img">{CHOICES}</Choices><Choices name="t" toName="twice">{CHOICES}</Choices>'
        "</View>"
    )
    assert [control.from_name for control in config.controls] == ["cls"]
    assert dict(config.skipped) == {
        "same": "several controls of the label config share this name",
        "t": "the label config has two <Image> tags named 'twice'",
    }


def test_a_prediction_with_some_of_the_answers_is_pushed_with_those():
    item = item_of(TWO, image=A, second="")
    prediction = Prediction(
        item=item,
        model_version="m@1+tax.abc123",
        answers=(Answer(control="cls", rule="softmax", paths=(("Cat",),), confidence=0.75),),
        unanswered=(Unanswered(control="is", place=1, kind="ItemError", message="no image"),),
    )
    made = prediction_to_label_studio(prediction, LabelConfig.parse(TWO))
    assert [entry["from_name"] for entry in made["result"]] == ["cls"]
    assert made["score"] == 0.75
    assert prediction.ok
    assert not prediction.complete
