import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas import ConfigError, Taxonomy
from prelabel.schemas.label_config import LabelConfig

IMAGE = '<Image name="img" value="$image"/>'


def view(*tags):
    return f"<View>{''.join(tags)}</View>"


def choices(*values, name="cls", to="img", **attributes):
    extra = "".join(f' {key}="{value}"' for key, value in attributes.items())
    inside = "".join(f'<Choice value="{value}"/>' for value in values)
    return f'<Choices name="{name}" toName="{to}"{extra}>{inside}</Choices>'


def only(xml):
    return LabelConfig.parse(xml).control()


@pytest.mark.parametrize(
    ("choice", "expected"), [("", "single"), ("single", "single"), ("single-radio", "single"), ("multiple", "multiple")]
)
def test_choices(choice, expected):
    attributes = {"choice": choice} if choice else {}
    config = LabelConfig.parse(view(IMAGE, choices("Cat", "Dog", **attributes)))
    control = config.control("cls")
    assert (control.from_name, control.to_name, control.kind) == ("cls", "img", "choices")
    assert control.taxonomy == Taxonomy.flat(["Cat", "Dog"], choice=expected)
    assert control.answers == {("Cat",): ("Cat",), ("Dog",): ("Dog",)}
    assert config.images == {"img": "image"}
    assert config.skipped == ()


def test_from_label_config_reads_the_same():
    xml = view(IMAGE, choices("Cat", "Dog"))
    assert Taxonomy.from_label_config(xml) == Taxonomy.flat(["Cat", "Dog"])


def test_choice_attributes():
    xml = view(
        IMAGE,
        '<Choices name="cls" toName="img" model_score_threshold="0.25">'
        '<Choice value="A photo of a cat" alias="kitty_cat" hint="a small feline" predicted_values="tabby, Kitty Cat"/>'
        '<Choice value="Dog" alias="d1" model_prompt="a dog on grass | a puppy" model_score_threshold="0.4"/>'
        "</Choices>",
    )
    control = only(xml)
    cat, dog = control.taxonomy.labels
    assert control.taxonomy.threshold == 0.25
    assert cat.synonyms == ("kitty cat", "tabby")
    assert cat.description == "a small feline"
    assert dog.synonyms == (), "an alias that is a code would only blur the label"
    assert dog.prompts == ("a dog on grass", "a puppy")
    assert dog.threshold == 0.4
    assert control.answers == {("A photo of a cat",): ("kitty_cat",), ("Dog",): ("d1",)}


NESTED = (
    '<Choices name="cls" toName="img" {extra}>'
    '<Choice value="Animal" alias="A"><Choice value="Cat"/><Choice value="Dog" alias="d"/></Choice>'
    '<Choice value="Blue"/></Choices>'
)


def test_nested_choices_answer_paths_of_leaves():
    control = only(view(IMAGE, NESTED.format(extra='allowNested="true"')))
    assert control.nested
    assert control.leafs_only
    assert control.taxonomy.is_tree
    assert control.taxonomy.threshold == 0.0
    assert control.answers[("Animal", "Dog")] == ("A", "d")
    assert control.answers[("Blue",)] == ("Blue",)


def test_nested_choices_need_allow_nested():
    control = only(view(IMAGE, NESTED.format(extra="")))
    assert not control.nested
    assert [label.name for label in control.taxonomy.labels] == ["Animal", "Blue"]
    assert not control.taxonomy.is_tree


TAXONOMY = (
    '<Taxonomy name="tax" toName="img" {extra}>'
    '<Choice value="Animals"><Choice value="Mammals"><Choice value="Dog" alias="d"/></Choice></Choice>'
    '<Choice value="Vehicles"/></Taxonomy>'
)


@pytest.mark.parametrize(
    ("extra", "leafs_only", "threshold"),
    [
        ("", False, None),
        ('leafsOnly="true"', True, 0.0),
        ('leafsOnly="true" model_score_threshold="0.3"', True, 0.3),
    ],
)
def test_taxonomy(extra, leafs_only, threshold):
    control = only(view(IMAGE, TAXONOMY.format(extra=extra)))
    assert control.kind == "taxonomy"
    assert control.leafs_only is leafs_only
    assert control.taxonomy.threshold == threshold
    assert control.answers[("Animals", "Mammals", "Dog")] == ("Animals", "Mammals", "d")
    assert [path for path, _ in control.taxonomy.leaves()] == [("Animals", "Mammals", "Dog"), ("Vehicles",)]


def test_several_controls_over_several_images():
    xml = view(
        '<Image name="left" value="$a"/><Image name="right" value="$b"/><Image name="spare" value="$c"/>',
        choices("Cat", "Dog", name="l", to="left"),
        f"<View><Header value='x'/>{choices('Day', 'Night', name='r', to='right')}</View>",
    )
    config = LabelConfig.parse(xml)
    assert config.images == {"left": "a", "right": "b"}
    assert [(control.name, control.image) for control in config.to_controls()] == [("l", "left"), ("r", "right")]
    with pytest.raises(ConfigError, match=r"several controls, name one of: l, r"):
        config.control()
    with pytest.raises(ConfigError, match=r"no control 'x', it has: l, r"):
        config.control("x")


def test_an_image_nobody_asks_about_changes_nothing():
    plain = LabelConfig.parse(view(IMAGE, choices("Cat", "Dog")))
    more = LabelConfig.parse(view(IMAGE, '<Image name="map" value="$map"/>', choices("Cat", "Dog")))
    assert plain.to_controls() == more.to_controls()
    assert plain.to_controls()[0].image is None


def test_layout_tags_and_case_do_not_matter():
    control = only(
        '<view><image NAME="img" VALUE="$image"/><choices name="c" toname="img"><View><Choice value="A"/>'
        "</View><!-- no --><Choice value='B'/></choices></view>"
    )
    assert [label.name for label in control.taxonomy.labels] == ["A", "B"]


SKIPPED = [
    (choices("x", to="txt"), "it is about <Text>, only <Image> is supported"),
    (choices("x", to="nowhere"), "toName='nowhere' is not an <Image> of the label config"),
    (choices("x", perRegion="true"), 'perRegion="true": labels of regions are not supported yet'),
    (choices("x", perItem="true"), 'perItem="true": lists of images are not supported yet'),
    (choices("x", model_skip="true"), 'model_skip="true"'),
    (choices("x", to="many"), '<Image name="many"> uses valueList, only one image per <Image> is supported'),
    (choices("x", to="fixed"), '<Image name="fixed"> needs value="$variable"'),
    (choices(value="$options"), "its labels come from the task data ($options), only <Choice> tags are supported"),
    ('<Taxonomy name="cls" toName="img" apiUrl="https://e.org"/>', "its labels come from apiUrl, only <Choice> tags are"
     " supported"),
    (choices(), "there is no <Choice> in <Choices>"),
]  # fmt: skip
OTHERS = '<Text name="txt" value="$t"/><Image name="many" valueList="$images"/><Image name="fixed" value="x.jpg"/>'


@pytest.mark.parametrize(("tag", "reason"), SKIPPED)
def test_skipped_with_the_reason(tag, reason):
    config = LabelConfig.parse(view(IMAGE, OTHERS, tag, choices("Cat", "Dog", name="good")))
    assert [control.from_name for control in config.controls] == ["good"]
    assert config.skipped == (("cls", reason),)
    with pytest.raises(ConfigError, match="cannot be pre-labelled"):
        config.control("cls")
    with pytest.raises(ConfigError) as alone:
        LabelConfig.parse(view(IMAGE, OTHERS, tag))
    assert str(alone.value) == f"nothing in the label config can be pre-labelled: cls: {reason}"


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
    (view(IMAGE, choices("Cat", "Cat")), r"control 'cls': .*duplicate label: Cat"),
    (view(IMAGE, choices("Cat"), choices("Dog")), "share a name: cls"),
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
    started = time.perf_counter()
    control = only(xml)
    assert len(control.answers) == len(control.taxonomy.labels) == 5000
    assert time.perf_counter() - started < 2.5, "Label Studio gives /setup 3 s"
