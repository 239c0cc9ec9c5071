"""Galleries, controls about several images, and tasks that can be answered in part: stored, and shown as chosen."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from label_studio_sdk.label_interface import LabelInterface

from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.running.stack import Stack
from tests.cookbook import inline, without_scores
from tests.label_studio_server.opened import CHECKED, opened
from tests.label_studio_server.site import LabelStudio, connect_project, jobs_of

CHOICES = '<Choice value="circle"/><Choice value="cross"/>'
CIRCLE, CROSS = "red-circle.jpg", "blue-cross.jpg"


def choices(name: str, to: str, extra: str = "") -> str:
    return f'<Choices name="{name}" toName="{to}" {extra}>{CHOICES}</Choices>'


def result(name: str, to: str, chosen: str, **fields: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": "choices", "value": {"choices": [chosen]}, **fields}


class Case(NamedTuple):
    """A task, what is stored for it, which choices its page shows as chosen, and which control has no answer."""

    config: str
    data: dict[str, Any]
    result: list[dict[str, Any]]
    shown: list[str]
    unanswered: tuple[str, ...] = ()


PER_ITEM = 'perItem="true"'
ONE = '<Image name="image" value="$image"/>'
TWO = '<Image name="left" value="$a"/><Image name="right" value="$b"/>'
CASES = {
    "gallery": Case(
        f"<View>{ONE}{choices('shape', 'image')}</View>",
        {"image": [inline(CIRCLE), inline("blue-circle.jpg"), inline(CROSS)]},
        [result("shape", "image", "circle")],
        ["circle"],
    ),
    "gallery per item": Case(
        f"<View>{ONE}{choices('shape', 'image', PER_ITEM)}</View>",
        {"image": [inline(CIRCLE), inline(CROSS)]},
        [result("shape", "image", "circle", item_index=0), result("shape", "image", "cross", item_index=1)],
        ["circle"],
    ),
    "gallery with a gap": Case(
        f"<View>{ONE}{choices('shape', 'image', PER_ITEM)}</View>",
        {"image": [inline(CIRCLE), "", inline(CROSS)]},
        [result("shape", "image", "circle", item_index=0), result("shape", "image", "cross", item_index=2)],
        ["circle"],
        ("shape",),
    ),
    "two images": Case(
        f"<View>{TWO}{choices('shape', 'left,right')}</View>",
        {"a": inline(CIRCLE), "b": inline("blue-circle.jpg")},
        [result("shape", "left", "circle")],
        ["circle"],
    ),
    "no tree": Case(
        f'<View>{ONE}{choices("shape", "image")}<Taxonomy name="kind" toName="image" value="$tree"/></View>',
        {"image": inline(CROSS), "tree": None},
        [result("shape", "image", "cross")],
        ["cross"],
        ("kind",),
    ),
    "second image blank": Case(
        f"<View>{TWO}{choices('was', 'left')}{choices('is', 'right')}</View>",
        {"a": inline(CIRCLE), "b": ""},
        [result("was", "left", "circle")],
        ["circle"],
        ("is",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_can_be_answered_is_stored_and_shown_and_what_is_missing_is_said(
    label_studio: LabelStudio, server: LabelStudioServer, backend: Stack, name: str
) -> None:
    case = CASES[name]
    project = label_studio.make_project(case.config, title=f"case: {name}")
    (task,) = label_studio.import_tasks(project, [case.data])
    steps = connect_project(backend, project, pre_label_all=True)
    assert not [step for step in steps if step.status == "failed"], steps
    (stored,) = label_studio.wait_for(project, 1)
    assert without_scores(stored["result"]) == case.result
    assert LabelInterface(case.config).validate_prediction(stored, return_errors=True) == []
    (job,) = jobs_of(backend.client(), project)
    (prediction,) = job.results(timeout=30)
    assert tuple(one.control for one in prediction.unanswered) == case.unanswered
    told = [step.detail for step in steps if "in part only" in step.detail or "is not answered" in step.detail]
    assert bool(told) is bool(case.unanswered), steps
    with opened(server, project, task) as page:
        page.wait_for_function(CHECKED, arg=case.shown)
