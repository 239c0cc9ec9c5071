"""Which tasks get a label as look-alikes, what is refused, and that a model's predictions are another matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI, NotThere
from prelabel.integrations.label_studio.deliver import look_alikes
from prelabel.integrations.label_studio.deliver.look_alikes import (
    ANNOTATED,
    ELSEWHERE,
    LABELLED,
    SKIPPED,
    UNDER_WAY,
    WITHOUT_ASKING,
    LookAlikes,
    is_look_alike,
    label_look_alikes,
    undo_look_alikes,
)
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.claims import Claims
from prelabel.integrations.label_studio.projects.prune import prune
from prelabel.integrations.label_studio.projects.removal import remove_ours
from prelabel.integrations.label_studio.projects.shown import is_ours_to_change
from prelabel.schemas import ConfigError, ModelVersion, Settings, TransientError, model_version
from tests.label_studio import DROP, LabelStudio

XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
VERSION = model_version("siglip@12345678", LabelConfig.parse(XML).to_controls())
OLD = f"{VERSION[:-6]}000000"

Propose = Callable[..., LookAlikes]


@pytest.fixture
def propose(label_studio: LabelStudio, settings: Callable[..., Settings], claims: Claims) -> Propose:
    label_studio.add_project(1, XML, tasks=range(1, 401), model_version="what people chose")

    def run(tasks: Mapping[int, float] | range, label: Any = "Cat", **how: Any) -> LookAlikes:
        cosines = tasks if isinstance(tasks, Mapping) else dict.fromkeys(tasks, 0.9)
        return label_look_alikes(settings(), claims, 1, how.pop("like", 399), cosines, label, **how)

    return run


def versions(label_studio: LabelStudio) -> Counter[str]:
    return Counter(one["model_version"] for one in label_studio.predictions)


def stored(task: int, version: str) -> dict[str, Any]:
    return {"task": task, "result": [], "score": 0.5, "model_version": version}


def test_each_task_has_one_prediction_with_the_cosine_as_its_score(label_studio: LabelStudio, propose: Propose) -> None:
    done = propose({7: 0.91238, 8: -0.2, 9: 1.0000001})
    assert (done.pushed, done.left_out) == (3, {})
    assert {one["task"]: one["score"] for one in label_studio.predictions} == {7: 0.9124, 8: 0.0, 9: 1.0}
    assert [one["value"] for p in label_studio.predictions for one in p["result"]] == [{"choices": ["Cat"]}] * 3
    assert versions(label_studio) == {done.version: 3}
    assert done.version.startswith("look-alike:399@")
    assert label_studio.projects[1]["model_version"] == "what people chose"


def test_the_same_again_adds_what_is_new_and_another_label_is_another_version(
    label_studio: LabelStudio, propose: Propose
) -> None:
    first = propose(range(1, 6))
    again = propose(range(1, 9))
    assert again == (first.version, 3, {LABELLED: 5})
    other = propose(range(1, 6), "Dog")
    assert other.version != first.version
    assert versions(label_studio) == {first.version: 8, other.version: 5}


def test_what_people_have_seen_and_what_is_not_there_is_left_out(label_studio: LabelStudio, propose: Propose) -> None:
    label_studio.add_project(2, XML, tasks=[900])
    label_studio.tasks[3]["total_annotations"] = 1
    label_studio.tasks[4]["cancelled_annotations"] = 1
    done = propose(dict.fromkeys([1, 2, 3, 4, 900, 901], 0.5))
    assert done.pushed == 2
    assert done.left_out == {ANNOTATED: 1, SKIPPED: 1, ELSEWHERE: 2}
    assert {one["task"] for one in label_studio.predictions} == {1, 2}


def test_a_task_that_is_annotated_during_the_push_has_no_prediction_afterwards(
    label_studio: LabelStudio, propose: Propose
) -> None:
    def annotate(method: str, path: str) -> None:
        if path.endswith("/import/predictions"):
            label_studio.tasks[2]["total_annotations"] = 1

    label_studio.predictions.append(stored(2, VERSION))
    label_studio.trouble = annotate
    done = propose(range(1, 4))
    assert (done.pushed, done.left_out) == (2, {ANNOTATED: 1})
    assert Counter(one["task"] for one in label_studio.predictions) == {1: 1, 2: 1, 3: 1}
    assert versions(label_studio) == {done.version: 2, VERSION: 1}


def test_tasks_that_somebody_else_proposes_at_this_moment_are_left_to_them(
    label_studio: LabelStudio, propose: Propose, claims: Claims
) -> None:
    version = propose(range(1, 2)).version
    claims.take(1, [(2, version)], "somebody else", 60)
    assert propose(range(1, 4)) == (version, 1, {LABELLED: 1, UNDER_WAY: 1})


def test_when_label_studio_does_not_answer_nothing_is_stored_twice(label_studio: LabelStudio, propose: Propose) -> None:
    label_studio.trouble = lambda _, path: DROP if path.endswith("/import/predictions") else None
    with pytest.raises(TransientError, match=r"take back look-alike:399@[0-9a-f]{6}, or do the same after"):
        propose(range(1, 4))
    label_studio.trouble = None
    assert propose(range(1, 5)).pushed == 1
    assert Counter(one["task"] for one in label_studio.predictions) == dict.fromkeys(range(1, 5), 1)


def test_many_tasks_need_a_yes(label_studio: LabelStudio, propose: Propose) -> None:
    with pytest.raises(ConfigError, match=f"more than {WITHOUT_ASKING}"):
        propose(range(1, WITHOUT_ASKING + 2))
    assert label_studio.calls == []
    assert propose(range(1, WITHOUT_ASKING + 2), yes=True).pushed == WITHOUT_ASKING + 1


PER_REGION = (
    '<View><Image name="img" value="$image"/><RectangleLabels name="box" toName="img"><Label value="x"/>'
    '</RectangleLabels><Choices name="cls" toName="img" perRegion="true"><Choice value="Cat"/></Choices></View>'
)
PER_ITEM = (
    '<View><Image name="img" valueList="$image"/><Choices name="cls" toName="img" perItem="true"><Choice value="Cat"/>'
    "</Choices></View>"
)
OPEN = '<View><Image name="img" value="$image"/><Choices name="cls" toName="img" value="$names"/></View>'
HIDDEN = (
    '<View><Image name="img" value="$image"/><Choices name="kind" toName="img"><Choice value="Animal"/></Choices>'
    '<Choices name="cls" toName="img" visibleWhen="choice-selected" whenTagName="kind"><Choice value="Cat"/></Choices>'
    "</View>"
)


@pytest.mark.parametrize(
    ("xml", "label", "control", "message"),
    [
        (XML, "cat", None, "control 'cls' has no label 'cat', did you mean 'Cat'"),
        (XML, "Cat", "colour", "the label config has no control 'colour', it has: cls"),
        (HIDDEN, "Cat", None, "the label config has several controls, name one of: kind, cls"),
        (HIDDEN, "Cat", "cls", "control 'cls' is hidden until other questions are answered"),
        (PER_REGION, "Cat", None, "control 'cls' asks about each region of an image: look-alikes are whole images"),
        (PER_ITEM, "Cat", None, "control 'cls' asks about each image of a list: look-alikes are tasks as a whole"),
        (OPEN, "Cat", None, "the labels of control 'cls' come with each task"),
        ("", "Cat", None, "the label config is empty"),
    ],
)
def test_a_label_that_cannot_be_given_is_refused_in_words(
    label_studio: LabelStudio, propose: Propose, xml: str, label: str, control: str | None, message: str
) -> None:
    label_studio.projects[1]["label_config"] = xml
    with pytest.raises(ConfigError) as refused:
        propose(range(1, 3), label, control=control)
    assert str(refused.value).startswith(message)
    assert label_studio.predictions == []


@pytest.mark.parametrize("tasks", [{}, {0: 0.5}, {True: 0.5}, {"7": 0.5}, {7: float("nan")}, {7: "near"}, {7: None}])
def test_what_is_no_number_is_refused(label_studio: LabelStudio, propose: Propose, tasks: Mapping[int, float]) -> None:
    with pytest.raises(ConfigError, match="task"):
        propose(tasks)
    assert label_studio.calls == []


def test_a_project_that_is_not_there_is_named(settings: Callable[..., Settings], label_studio: LabelStudio) -> None:
    with pytest.raises(NotThere, match="project 5"):
        label_look_alikes(settings(), None, 5, 1, {1: 0.5}, "Cat")
    with pytest.raises(NotThere, match="project 5"):
        undo_look_alikes(settings(), 5)


def test_nested_choices_which_the_bulk_endpoint_refuses_are_pushed(label_studio: LabelStudio, propose: Propose) -> None:
    label_studio.projects[1]["label_config"] = (
        '<View><Image name="img" value="$image"/><Choices name="cls" toName="img" allowNested="true">'
        '<Choice value="Animal"><Choice value="Cat"/><Choice value="Dog"/></Choice></Choices></View>'
    )
    assert propose(range(1, 3), "Cat").pushed == 2
    assert label_studio.predictions[0]["result"][0]["value"] == {"choices": [["Animal", "Cat"]]}


def test_taking_back_removes_that_version_and_nothing_else(
    label_studio: LabelStudio, propose: Propose, settings: Callable[..., Settings]
) -> None:
    label_studio.predictions += [stored(task, version) for task in (1, 2) for version in (VERSION, "somebody else's")]
    cats, dogs = propose(range(1, 100)), propose(range(1, 4), "Dog")
    assert undo_look_alikes(settings(), 1, cats.version) == 99
    assert versions(label_studio) == {VERSION: 2, "somebody else's": 2, dogs.version: 3}
    assert undo_look_alikes(settings(), 1, cats.version) == 0
    assert undo_look_alikes(settings(), 1) == 3
    assert undo_look_alikes(settings(), 1) == 0
    assert label_studio.projects[1]["model_version"] == "what people chose"


@pytest.mark.parametrize("version", [VERSION, "somebody else's", "", "look-alike:7", "look-alike:7@12345678"])
def test_other_versions_cannot_be_taken_back(
    label_studio: LabelStudio, propose: Propose, settings: Callable[..., Settings], version: str
) -> None:
    label_studio.predictions.append(stored(1, version))
    with pytest.raises(ConfigError, match="no version of look-alikes"):
        undo_look_alikes(settings(), 1, version)
    assert len(label_studio.predictions) == 1


@given(st.integers(1), st.text(), st.lists(st.text(), min_size=1))
def test_no_version_of_look_alikes_is_a_models(like: int, control: str, stored: list[str]) -> None:
    version = look_alikes.version_of(like, control, stored)
    assert is_look_alike(version)
    assert ModelVersion.parse(version) is None
    assert not ModelVersion.is_ours(version)
    assert not is_ours_to_change(version), "a project that shows it goes on showing it"
    assert "," not in version, "Label Studio lists a task's versions with commas between them"


def test_what_removes_our_predictions_leaves_look_alikes_alone(
    label_studio: LabelStudio, propose: Propose, settings: Callable[..., Settings]
) -> None:
    done = propose(range(1, 4))
    label_studio.predictions += [stored(task, version) for task in range(1, 4) for version in (OLD, VERSION)]
    with closing(LabelStudioAPI(settings())) as api:
        assert not prune(api, 1, VERSION)
        assert versions(label_studio) == {done.version: 3, VERSION: 3}
        remove_ours(api, 1, range(1, 4), lambda: None)
    assert versions(label_studio) == {done.version: 3}
