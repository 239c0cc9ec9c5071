import re
import unicodedata
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import ConfigError, Taxonomy
from tests.unit.integrations.label_studio.label_config.configs import IMAGE, NESTED, REGIONS, choices, only, view


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


def test_a_controls_taxonomy_is_what_may_be_answered():
    config = LabelConfig.parse(view(IMAGE, choices("Cat", "Dog"), choices("Red", "Blue", name="colour")))
    assert config.taxonomy("cls") == Taxonomy.flat(["Cat", "Dog"])
    with pytest.raises(ConfigError, match="several controls, name one of: cls, colour"):
        config.taxonomy()
    assert LabelConfig.parse(view(IMAGE, choices("Cat", "Dog"))).taxonomy() == Taxonomy.flat(["Cat", "Dog"])


def test_labels_that_come_with_the_task_are_no_taxonomy_to_submit_with():
    xml = '<View><Image name="i" value="$i"/><Choices name="c" toName="i" value="$opts"/></View>'
    with pytest.raises(ConfigError, match=r"the labels of control 'c' come with each task \(opts\)"):
        LabelConfig.parse(xml).taxonomy()


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
    assert plain.to_controls()[0].image == "img"


def test_layout_tags_and_case_do_not_matter():
    control = only(
        '<view><image NAME="img" VALUE="$image"/><choices name="c" toname="img"><View><Choice value="A"/>'
        "</View><!-- no --><Choice value='B'/></choices></view>"
    )
    assert [label.name for label in control.taxonomy.labels] == ["A", "B"]


SKIPPED = [
    (choices("x", to="txt"), "it is about <Text>, only <Image> is supported"),
    (choices("x", to="sound"), "it is about <Audio>, only <Image> is supported"),
    (choices("x", to="nowhere"), "toName='nowhere' is not an <Image> of the label config"),
    (choices("x", to="img,txt"), "it is about <Text>, only <Image> is supported"),
    (choices("x", to="img,nowhere"), "toName='nowhere' is not an <Image> of the label config"),
    (choices("x", to="img,"), "toName='' is not an <Image> of the label config"),
    (choices("x", to="img,second", perItem="true"), 'perItem="true" needs one name in toName: with several, Label'
     " Studio shows it for none"),
    (choices("x", to="img,second", perRegion="true"), 'perRegion="true" needs one name in toName: with several, Label'
     " Studio shows it for none"),
    (choices("x", model_skip="true"), 'model_skip="true"'),
    (choices("x", to="fixed"), '<Image name="fixed"> needs value="$variable" or valueList="$variable"'),
    (choices(value="options"), "its value='options' names no task data: write $ before the name"),
    (choices("$first", "$second"), "the texts of its choices come from the task data: use value=\"$…\" of the control"
     " for that"),
    ('<Taxonomy name="cls" toName="img" apiUrl="https://e.org"/>', "its labels come from apiUrl, which the browser asks"
     ' and prelabel does not: write them as <Choice> tags, or give each task its own with value="$…"'),
    (choices("x", visibleWhen="choice-selected", whenTagName="mood"), "it is shown for answers to 'mood', which people"
     " give"),
    (choices(), "there is no <Choice> in <Choices>"),
    (choices("x", to="second", perRegion="true"), "no tag draws regions on <Image name='second'> that can be cut out; "
     "such are <RectangleLabels>, <EllipseLabels>, <PolygonLabels>, <KeyPointLabels>, <VectorLabels>, <BrushLabels>, "
     "<BitmaskLabels>"),
    (choices("x", perRegion="true", whenTagName="txt"), "it is shown for regions of 'txt', which draws none on <Image "
     "name='img'> we can cut out"),
    (choices("x", to="third", perRegion="true"), "no tag draws regions on <Image name='third'> that can be cut out; "
     "such are <RectangleLabels>, <EllipseLabels>, <PolygonLabels>, <KeyPointLabels>, <VectorLabels>, <BrushLabels>, "
     "<BitmaskLabels>"),
]  # fmt: skip
OTHERS = (
    '<Image name="second" value="$u"/><Text name="txt" value="$t"/><Audio name="sound" value="$s"/>'
    '<Image name="fixed" value="x.jpg"/><Polygon name="outline" toName="img"/>'
    '<Image name="third" value="$v"/><Labels name="only labels" toName="third"><Label value="Car"/></Labels>'
)


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


def test_a_list_of_images_is_asked_about_as_a_whole_or_one_by_one():
    config = LabelConfig.parse(
        view('<Image name="many" valueList="$photos"/>', choices("a", name="all", to="many"),
             choices("a", name="each", to="many", perItem="true"))
    )  # fmt: skip
    assert config.images == {"many": "photos"}
    assert [(c.name, c.image, c.over) for c in config.to_controls()] == [
        ("all", "many", "all"),
        ("each", "many", "each"),
    ]


def test_regions_are_asked_about_one_by_one_and_alike_filters_share_them():
    config = LabelConfig.parse(
        view(
            IMAGE,
            REGIONS,
            choices("a", name="one", perRegion="true"),
            choices("b", name="two", perRegion="true"),
            choices("c", name="cars", perRegion="true", whenTagName="box", whenLabelValue="Car,Bus"),
            '<View visibleWhen="region-selected" whenLabelValue="Bus">',
            choices("d", name="bus", perRegion="true"),
            "</View>",
        )
    )
    one, two, cars, bus = config.controls
    assert one.image_name == two.image_name != cars.image_name != bus.image_name
    assert {control.over for control in config.to_controls()} == {"each"}
    assert one.regions == ()
    assert cars.regions[0].takes("box", ("Car",))
    assert not cars.regions[0].takes("box", ("Truck",))
    assert not cars.regions[0].takes("other", ("Car",))
    assert bus.regions[0].takes("anything", ("Bus", "Car"))


def test_a_regions_label_may_hold_a_comma():
    xml = view(IMAGE, REGIONS, choices("a", perRegion="true", whenLabelValue="Car, small"))
    (regions,) = only(xml).regions
    assert regions.takes("box", ("Car, small",))
    assert regions.takes("box", ("small",))
    assert not regions.takes("box", ("Bus",))


SHAPES = ("Rectangle", "Ellipse", "Polygon", "KeyPoint", "Vector", "Brush", "Bitmask")


@pytest.mark.parametrize("tag", [*SHAPES, *(f"{shape}Labels" for shape in SHAPES), "MagicWand"])
def test_every_tag_that_draws_on_an_image_makes_regions_that_are_asked_about(tag):
    control = only(view(IMAGE, f'<{tag} name="drawn" toName="img"/>', choices("a", perRegion="true")))
    assert control.per == "region"
    assert not control.masked


def test_controls_that_mask_regions_share_none_with_those_that_do_not():
    config = LabelConfig.parse(
        view(
            IMAGE,
            REGIONS,
            choices("a", name="one", perRegion="true"),
            choices("b", name="two", perRegion="true", model_mask_background="true"),
        )
    )
    one, two = config.controls
    assert (one.masked, two.masked) == (False, True)
    assert one.image_name != two.image_name


def test_labels_that_come_with_the_task():
    config = LabelConfig.parse(
        view(IMAGE,
             '<Taxonomy name="tax" toName="img" value="$tree" leafsOnly="true"><Choice value="Other"/></Taxonomy>',
             choices(value="$opts", choice="multiple", model_score_threshold="0.3"))
    )  # fmt: skip
    tax, cls = config.controls
    assert (tax.options, cls.options) == ("tree", "opts")
    assert tax.taxonomy.is_open
    assert tax.taxonomy.threshold == 0.0
    assert not tax.bulk, "Label Studio's bulk import knows only the labels in the config"
    assert cls.bulk
    assert cls.taxonomy == Taxonomy(labels=(), choice="multiple", threshold=0.3, is_open=True)


@pytest.mark.parametrize(
    ("extra", "choice", "most"),
    [
        ("", "single", None),
        ('maxUsages="1"', "single", None),
        ('maxUsages="3"', "multiple", 3),
        ('choice="multiple"', "multiple", None),
        ('choice="multiple" maxUsages="1"', "single", None),
        ('choice="single" maxUsages="3"', "single", None),
        ('maxUsages="many"', "single", None),
        ('pathSeparator=" > " showFullPath="true"', "single", None),
    ],
)
def test_how_many_paths_of_a_taxonomy_are_answered(extra, choice, most):
    taxonomy = only(view(IMAGE, TAXONOMY.format(extra=extra))).taxonomy
    assert (taxonomy.choice, taxonomy.max_answers) == (choice, most)


def test_what_a_control_is_shown_for():
    config = LabelConfig.parse(
        view(
            IMAGE,
            choices("Cat", "Car", name="kind"),
            choices("x", name="a", visibleWhen="choice-selected", whenTagName="kind", whenChoiceValue="Cat,Dog"),
            f'<View visibleWhen="choice-unselected" whenTagName="kind">{choices("x", name="b")}</View>',
            choices("x", name="c", whenChoiceValue="Cat"),
        )
    )
    conditions = {control.from_name: control.conditions for control in config.controls}
    assert conditions["a"] == (("kind", ("Cat", "Dog"), True),)
    assert conditions["b"] == (("kind", (), False),)
    assert conditions["c"] == (("", ("Cat",), True),)


def with_alias(alias):
    xml = f'<Choices name="cls" toName="img"><Choice value="x" alias="{alias}"/><Choice value="?"/></Choices>'
    return only(view(IMAGE, xml)).taxonomy.labels[0]


LETTERS = ["kitty_cat", "e\u0301cole", "γάτα", "ΣΚΎΛΟΣ", "кошка", "قطة", "חתול"]
SIGNS = ["बिल्ली", "क्\u200dषण", "แมว", "น้ำ", "猫", "猫_犬", "ねこ", "고양이"]
CODES = ["c1", "A", "ab", "s_1", "Б2", "א", "क१", "१२३", "ก", "→", "\u0301\u0301\u0301"]


@pytest.mark.parametrize("alias", LETTERS + SIGNS)
def test_an_alias_that_reads_as_words_in_any_script_is_a_synonym(alias):
    label = with_alias(alias)
    assert label.synonyms == (alias.replace("_", " "),)
    assert label.answer == alias


@pytest.mark.parametrize("alias", CODES)
def test_an_alias_that_is_a_code_in_any_script_is_none(alias):
    label = with_alias(alias)
    assert label.synonyms == ()
    assert label.answer == alias


TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=20
).filter(lambda text: text.strip() and not re.search(r"\$[A-Za-z_]", text))  # which stands for task data


@given(value=TEXTS, alias=TEXTS | st.just(""), name=TEXTS)
@example(value="circle ", alias=" c\u00a0", name="shape ")
@example(value="e\u0301", alias="\u05d0\u200f", name="\U0001f408\u200d\u2b1b")
@example(value="\"<&>'", alias="'", name='"')
def test_what_people_wrote_comes_back_as_it_stands_and_prompts_are_made_from_a_copy(value, alias, name):
    quoted = [quoteattr(text) for text in (name, value, alias)]
    xml = '<Choices name={} toName="img"><Choice value={} alias={}/><Choice value="?"/></Choices>'.format(*quoted)
    if value == "?":
        return
    control = only(view(IMAGE, xml))
    assert control.from_name == name
    assert control.answers[(value,)] == (alias,)
    prompt = control.taxonomy.prompts()[0][0]
    assert prompt == f"This is a photo of {unicodedata.normalize('NFC', ' '.join(value.split()))}."
