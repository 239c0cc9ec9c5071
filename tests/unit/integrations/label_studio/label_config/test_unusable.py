"""What is refused of a label config, and what is left to people: with its reason, and alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import ConfigError
from tests.unit.integrations.label_studio.label_config.configs import IMAGE, choices, only, view

REFUSED = [
    ("", "is empty"),
    ("<View></View>", r"no <Choices> or <Taxonomy> tag"),
    (view(IMAGE), r"no <Choices> or <Taxonomy> tag"),
    (view(choices("Cat")), "the label config has no <Image>"),
    ("<View>", "not well-formed XML"),
    ("\ud800<View/>", "characters that XML does not allow"),
    ('<!DOCTYPE v [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><View>&b;</View>', "declares a DTD or entities"),
    ('<!DOCTYPE v SYSTEM "file:///etc/passwd"><View/>', "declares a DTD or entities"),
    ("<View>" * 100 + "</View>" * 100, "nested more than 32 levels"),
    (view(IMAGE, '<Taxonomy name="t" toName="img">' + '<Choice value="x">' * 50 + "</Choice>" * 50 + "</Taxonomy>"),
     "nested more than 32 levels"),
    (f"<View>{'x' * 2**20}</View>", "at most 1,048,576 are read"),
    (view(IMAGE, *(choices("Cat", name=f"c{i}") for i in range(1001))), "has 1,001 controls, at most 1,000 are read"),
    (view(IMAGE, choices("Cat"), choices("Dog")), "cls: several controls of the label config share this name$"),
    (view(IMAGE, IMAGE, choices("Cat")), "two <Image> tags named 'img'"),
    (view(IMAGE, choices("Cat", choice="many")), r"choice='many' must be single"),
    (view(IMAGE, choices("Cat", "")), "a <Choice> without value"),
    (view(IMAGE, choices("Cat", model_score_threshold="high")), "must be a number from 0 to 1"),
    (view(IMAGE, choices("Cat", model_score_threshold="nan")), "must be a number from 0 to 1"),
    (view(IMAGE, choices("Cat", model_score_threshold="1.5")), "must be a number from 0 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("xml", "message"), REFUSED)
def test_refused(xml, message):
    with pytest.raises(ConfigError, match=message):
        LabelConfig.parse(xml)


@given(st.lists(st.sampled_from([IMAGE, choices("a"), "<View>", "</View>", "<Choices", "&lt;", "<!--", "]]>", "/>"])
                | st.text(max_size=3), max_size=8).map("".join))  # fmt: skip
def test_any_text_is_a_config_or_a_config_error(text):
    try:
        config = LabelConfig.parse(text)
    except ConfigError:
        return
    assert config.controls


def test_five_thousand_choices():
    xml = view(IMAGE, choices(*(f"label {number}" for number in range(5000))))
    control = only(xml)
    assert len(control.answers) == len(control.taxonomy.labels) == 5000


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (choices("Cat", choice="radio", name="odd"), "choice='radio' must be single"),
        (choices("Cat", model_score_threshold="30%", name="odd"), "must be a number from 0 to 1"),
        (choices("Cat", "", name="odd"), "a <Choice> without value"),
    ],
)
def test_a_control_that_cannot_be_used_takes_no_other_with_it(broken, reason):
    config = LabelConfig.parse(view(IMAGE, broken, choices("Cat", "Dog")))
    assert [control.from_name for control in config.controls] == ["cls"]
    ((name, told),) = config.skipped
    assert name == "odd"
    assert reason in told


REPEATED = (
    '<Repeater on="$pages" indexFlag="{{idx}}"><Image name="page_{{idx}}" value="$pages[{{idx}}]"/>'
    + choices("Cat", name="kind_{{idx}}", to="page_{{idx}}")
    + "</Repeater>"
)


def test_what_a_repeater_makes_is_left_to_people_in_words():
    with pytest.raises(ConfigError, match=r"kind_\{\{idx\}\}: it stands in a <Repeater>"):
        LabelConfig.parse(view(REPEATED))
    about_one = f'<Repeater on="$pages" indexFlag="{{{{idx}}}}">{choices("Cat", name="kind_{{idx}}")}</Repeater>'
    for repeated in (REPEATED, about_one):
        config = LabelConfig.parse(view(IMAGE, repeated, choices("Cat", "Dog")))
        assert [control.from_name for control in config.controls] == ["cls"]
        assert [name for name, _ in config.skipped] == ["kind_{{idx}}"]


def test_of_choices_with_one_value_the_first_counts():
    twice = '<Choice value="Cat" hint="a pet"/><Choice value="Cat" hint="a wild one"/><Choice value="Dog"/>'
    control = only(view(IMAGE, f'<Choices name="cls" toName="img">{twice}</Choices>'))
    assert [(label.name, label.description) for label in control.taxonomy.labels] == [("Cat", "a pet"), ("Dog", None)]


def test_controls_that_wait_for_each_other_in_a_long_chain_are_left_to_people_with_the_first():
    chain = [choices("Cat", name=f"c{i}", visibleWhen="choice-selected", whenTagName=f"c{i - 1}") for i in range(999)]
    config = LabelConfig.parse(view(IMAGE, *chain, choices("Cat", "Dog")))
    assert [control.from_name for control in config.controls] == ["cls"]
    assert config.skipped[0] == ("c0", "it is shown for answers to 'c-1', which people give")
    assert config.skipped[998] == ("c998", "it is shown for answers to 'c997', which people give")


# What people write into label configs: any text XML can hold. Tabs and line breaks come back as spaces there.
