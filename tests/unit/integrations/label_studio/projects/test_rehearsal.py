"""Label Studio's own check of a prediction, run on one of each control before anything is queued."""

from __future__ import annotations

import pytest

from prelabel.integrations.label_studio.label_config.config import LabelConfig
from prelabel.integrations.label_studio.projects.rehearsal import refused
from tests.cookbook import Example, examples

LOWER_CASE = (
    '<View><image name="image" value="$image"/><Choices name="kind" toname="image"><Choice value="a"/></Choices>'
    '<Choices name="mood" toName="image"><Choice value="b"/></Choices></View>'
)


@pytest.mark.parametrize("example", examples(), ids=lambda one: one.name)
def test_every_kind_of_question_we_answer_is_answered_as_label_studio_wants_it(example: Example) -> None:
    assert refused(example.config, LabelConfig.parse(example.config)) == []


@pytest.mark.parametrize("tag", ["Choices", "Taxonomy"])
@pytest.mark.parametrize(
    "choice",
    [
        'value=" cat "',
        'value="a&#160;b"',
        'value="x" alias=" y "',
        'value="a,b"',
        'value="&#10;a"',
        'value="cafe&#769;"',
    ],
)
def test_odd_labels_are_taken_as_they_are_written(tag: str, choice: str) -> None:
    config = f'<View><Image name="i" value="$i"/><{tag} name="c" toName="i"><Choice {choice}/></{tag}></View>'
    assert refused(config, LabelConfig.parse(config)) == []


def test_a_control_label_studio_does_not_know_is_told_and_its_neighbour_is_not() -> None:
    ((control, reason),) = refused(LOWER_CASE, LabelConfig.parse(LOWER_CASE))
    assert control == "kind"
    assert "not found in configuration" in reason
