"""A model version changes with whatever an answer depends on, and with nothing else."""

import pytest

from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import model_version
from tests.unit.integrations.label_studio.label_config.configs import IMAGE, NESTED, REGIONS, choices, view

BASE = view(IMAGE, REGIONS.replace("img", "img,other"), '<Image name="other" value="$o"/>', NESTED.format(extra=""))
CHANGED = {
    "nested": BASE.replace('toName="img"', 'toName="img" allowNested="true"'),
    "code-like alias": BASE.replace('alias="A"', 'alias="B"'),
    "no alias": BASE.replace(' alias="A"', ""),
    "other image": BASE.replace('toName="img"', 'toName="other"'),
    "other data": BASE.replace("$image", "$picture"),
    "list": BASE.replace('value="$image"', 'valueList="$image"'),
    "tag": BASE.replace("Choices", "Taxonomy"),
    "renamed": BASE.replace('name="cls"', 'name="klass"'),
    "multiple": BASE.replace('toName="img"', 'toName="img" choice="multiple"'),
    "per region": BASE.replace('toName="img"', 'toName="img" perRegion="true"'),
    "for some regions": BASE.replace('toName="img"', 'toName="img" perRegion="true" whenLabelValue="Car"'),
    "masked": BASE.replace('toName="img"', 'toName="img" perRegion="true" model_mask_background="true"'),
    "threshold": BASE.replace('toName="img"', 'toName="img" model_score_threshold="0.2"'),
    "hint": BASE.replace('value="Blue"', 'value="Blue" hint="like the sky"'),
    "prompt": BASE.replace('value="Blue"', 'value="Blue" model_prompt="something blue"'),
    "predicted values": BASE.replace('value="Blue"', 'value="Blue" predicted_values="azure"'),
    "labels of the task": BASE.replace('toName="img"', 'toName="img" value="$options"'),
    "shown for": BASE.replace('toName="img"', 'toName="img" visibleWhen="choice-unselected" whenTagName="mood"'),
    "one more": BASE.replace("</View>", choices("x", name="more") + "</View>"),
}
SAME = {
    "colour": BASE.replace('value="Blue"', 'value="Blue" background="#00f" color="blue"'),
    "hotkey": BASE.replace('value="Blue"', 'value="Blue" hotkey="b"'),
    "order": BASE.replace('<Choice value="Blue"/>', "").replace(
        '<Choice value="Animal"', '<Choice value="Blue"/><Choice value="Animal"'
    ),
    "layout": BASE.replace("<View>", '<View><Header value="What is it?"/>', 1),
    "display": BASE.replace('toName="img"', 'toName="img" showInline="true" required="true"'),
    "a mask without regions": BASE.replace('toName="img"', 'toName="img" model_mask_background="true"'),
    "another control": BASE.replace("</View>", '<TextArea name="note" toName="img"/></View>'),
}


def version(xml):
    return model_version("m@1", LabelConfig.parse(xml).to_controls())


@pytest.mark.parametrize("change", CHANGED)
def test_the_version_changes_whenever_the_answer_could(change):
    assert CHANGED[change] != BASE
    assert version(CHANGED[change]) != version(BASE)


def test_every_such_change_makes_another_version():
    assert len({version(xml) for xml in CHANGED.values()}) == len(CHANGED)


@pytest.mark.parametrize("change", SAME)
def test_the_version_does_not_change_with_what_people_see_alone(change):
    assert SAME[change] != BASE
    assert version(SAME[change]) == version(BASE)
