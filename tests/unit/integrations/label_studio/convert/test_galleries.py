"""`<Image value="$image">` whose data is a list, and controls about several images."""

import json

import pytest

from prelabel.integrations.label_studio.convert.items import item_from_task
from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Answer, ItemError, Prediction

A, B = "https://e.org/a.jpg", "https://e.org/b.jpg"
CHOICES = '<Choice value="Cat"/><Choice value="Dog"/>'
GALLERY = f'<View><Image name="img" {{shows}}/><Choices name="cls" toName="img" {{extra}}>{CHOICES}</Choices></View>'
BOXES = '<RectangleLabels name="box" toName="img"><Label value="Car"/></RectangleLabels>'
PAIR = (
    '<View><Image name="left" value="$a"/><Image name="right" value="$b"/>'
    f'<{{tag}} name="cls" toName="{{to}}">{CHOICES}</{{tag}}></View>'
)


def gallery(extra="", shows='value="$image"'):
    return LabelConfig.parse(GALLERY.format(extra=extra, shows=shows))


def item_of(config, /, annotations=(), **data):
    return item_from_task({"id": 7, "data": data, "annotations": list(annotations)}, config, None)


def uris(item):
    return [image.uri for image in item.images]


def answer(*paths, index=None):
    return Answer(control="cls", index=index, rule="softmax", paths=paths, confidence=0.9)


def made_of(config, item, *answers):
    return prediction_to_label_studio(Prediction(item=item, model_version="m@1+tax.abc123", answers=answers), config)


@pytest.mark.parametrize("extra", ["", 'perItem="true"'])
@pytest.mark.parametrize("value", [[A, B], [A], A])
def test_a_list_under_value_is_asked_about_as_one_under_value_list(extra, value):
    items = [item_of(gallery(extra, shows), image=value) for shows in ('value="$image"', 'valueList="$image"')]
    assert items[0] == items[1]
    assert uris(items[0]) == ([value] if isinstance(value, str) else value)
    over = {(control.image, control.over) for control in gallery(extra).to_controls()}
    assert over == {("img", "each" if extra else "all")}


def test_each_image_of_a_list_under_value_is_answered_with_its_place():
    config = gallery('perItem="true"')
    made = made_of(config, item_of(config, image=[A, B]), answer(("Cat",), index=0), answer(("Dog",), index=1))
    assert [entry["item_index"] for entry in made["result"]] == [0, 1]


@pytest.mark.parametrize(
    "value", [[], [[]], [[A, B]], [{"url": A}], {"a": A}, json.dumps([A, B]), [A, 7], [A, None], [A, ""], [A] * 201, 7]
)
def test_a_list_under_value_that_is_no_list_of_images_is_refused_in_words(value):
    with pytest.raises(ItemError, match=r"image|references"):
        item_of(gallery(), image=value)


def region(to_name="img", **fields):
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0, "rectanglelabels": ["Car"]}
    entry = {"id": "r", "from_name": "box", "to_name": to_name, "type": "rectanglelabels", "value": value, **fields}
    return {"id": 1, "result": [entry]}


def test_a_region_of_a_gallery_is_cut_from_the_image_it_is_on_or_from_none():
    config = LabelConfig.parse(
        f'<View><Image name="img" value="$image"/>{BOXES}<Choices name="cls" toName="img" perRegion="true">{CHOICES}'
        "</Choices></View>"
    )
    assert uris(item_of(config, [region(item_index=1)], image=[A, B])) == [B]
    assert uris(item_of(config, [region()], image=[A])) == [A]
    with pytest.raises(ItemError, match="do not say which they are on"):
        item_of(config, [region()], image=[A, B])


@pytest.mark.parametrize("tag", ["Choices", "Taxonomy"])
@pytest.mark.parametrize("to", ["left,right", "left, right", " left ,right", "left,right,left"])
def test_a_control_about_several_images_is_answered_over_all_of_them(tag, to):
    config = LabelConfig.parse(PAIR.format(tag=tag, to=to))
    (control,) = config.to_controls()
    item = item_of(config, a=A, b=B)
    assert [image.uri for image in item.images_of(control.image)] == [A, B]
    assert control.over == "all"
    (entry,) = made_of(config, item, answer(("Cat",)))["result"]
    assert entry["to_name"] == "left"  # Label Studio takes one of the names, never both


def test_one_name_twice_is_one_image():
    once, twice = (LabelConfig.parse(PAIR.format(tag="Choices", to=to)) for to in ("left", "left,left"))
    assert once.to_controls() == twice.to_controls()


def test_which_images_a_control_is_about_makes_another_version():
    forms = {LabelConfig.parse(PAIR.format(tag="Choices", to=to)).to_controls() for to in ("left", "left,right")}
    assert len(forms) == 2
