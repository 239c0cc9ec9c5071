"""Which label a person means."""

from __future__ import annotations

import pytest

from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.label_config.controls import ControlTag
from prelabel.integrations.label_studio.label_config.named import label_named
from prelabel.schemas import ConfigError
from tests.unit.integrations.label_studio.label_config.configs import IMAGE, view

FLAT = '<Choices name="c" toName="img"><Choice value="A tabby cat" alias="cat"/><Choice value="Dog"/></Choices>'
TREE = (
    '<Taxonomy name="c" toName="img"{}><Choice value="Animal"><Choice value="Cat"/><Choice value="Other"/></Choice>'
    '<Choice value="Vehicle" alias="v"><Choice value="Other"/></Choice></Taxonomy>'
)


def control(tag: str) -> ControlTag:
    return LabelConfig.parse(view(IMAGE, tag)).control()


@pytest.mark.parametrize(
    ("tag", "label", "path"),
    [
        (FLAT, "Dog", ("Dog",)),
        (FLAT, "cat", ("A tabby cat",)),
        (FLAT, "A tabby cat", ("A tabby cat",)),
        (FLAT, ["Dog"], ("Dog",)),
        (TREE, "Cat", ("Animal", "Cat")),
        (TREE, "Animal", ("Animal",)),
        (TREE, "Animal > Other", ("Animal", "Other")),
        (TREE, ("Vehicle", "Other"), ("Vehicle", "Other")),
        (TREE, "v > Other", ("Vehicle", "Other")),
    ],
)
def test_a_label_is_named_by_its_name_its_alias_or_its_path(tag: str, label: str, path: tuple[str, ...]) -> None:
    assert label_named(control(tag.format("")), label) == path


@pytest.mark.parametrize(
    ("tag", "label", "message"),
    [
        (FLAT, "dog", "control 'c' has no label 'dog', did you mean 'Dog'?"),
        (FLAT, "zebra", "control 'c' has no label 'zebra', it has: A tabby cat, Dog"),
        (FLAT, "", "control 'c' has no label '', it has: A tabby cat, Dog"),
        (TREE, "Other", "control 'c' has several labels 'Other', name one of: Animal > Other, Vehicle > Other"),
        (TREE, ["Animal", "Cow"], "control 'c' has no label 'Animal > Cow', did you mean 'Animal > Cat'"),
    ],
)
def test_what_is_no_label_is_refused_with_those_that_may_be_meant(tag: str, label: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        label_named(control(tag.format("")), label)
    assert str(refused.value).startswith(message)


def test_a_group_is_no_answer_where_only_leaves_are() -> None:
    with pytest.raises(ConfigError) as refused:
        label_named(control(TREE.format(' leafsOnly="true"')), "Animal")
    assert str(refused.value) == (
        "control 'c' is not answered with 'Animal' but with what is below it: Animal > Cat, Animal > Other"
    )


def test_of_many_labels_a_message_lists_some() -> None:
    tag = "".join(f'<Choice value="{n * 1111}"/>' for n in range(1, 31))
    with pytest.raises(ConfigError) as refused:
        label_named(control(f'<Choices name="c" toName="img">{tag}</Choices>'), "zebra")
    assert str(refused.value).endswith("11110, and 20 more")
