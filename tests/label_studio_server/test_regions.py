"""Regions of every shape through a real Label Studio: cut out, answered, stored as they were drawn, and shown."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np
import pytest
from label_studio_sdk.converter.brush import mask2rle
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image, ImageDraw

from prelabel.integrations.label_studio.deliver.push import Pusher
from prelabel.schemas import PushTarget, Settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.running.stack import Stack
from tests.cookbook import inline, without_scores
from tests.label_studio_server.opened import CHECKED, opened
from tests.label_studio_server.site import LabelStudio, connect_project, jobs_of

PICTURE = "red-circle+blue-cross.jpg"
WIDTH, HEIGHT = 960, 360


def half(*, right: bool) -> np.ndarray:
    """`(HEIGHT, WIDTH)` uint8: most of one half, painted."""
    image = Image.new("L", (WIDTH, HEIGHT))
    left = 480 if right else 0
    ImageDraw.Draw(image).ellipse((left + 5, 5, left + 474, 354), fill=255)
    return np.array(image)


def bitmask(mask: np.ndarray) -> str:
    file = io.BytesIO()
    alpha = Image.fromarray(mask)
    Image.merge("LA", (Image.new("L", alpha.size), alpha)).convert("RGBA").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def vertex(number: int, x: float, y: float) -> dict[str, Any]:
    before = f"v{number - 1}" if number else None
    return {"id": f"v{number}", "x": x, "y": y, "prevPointId": before, "isBezier": False}


def values(*, right: bool) -> dict[str, dict[str, Any]]:
    """For each tag one region, around the figure of one half."""
    x = 50.0 if right else 0.0
    corners = [(x + 2, 5.0), (x + 48, 5.0), (x + 48, 95.0), (x + 2, 95.0)]
    return {
        "RectangleLabels": {"x": x, "y": 0, "width": 50, "height": 100, "rotation": 0},
        "EllipseLabels": {"x": x + 25, "y": 50, "radiusX": 24, "radiusY": 48, "rotation": 0},
        "PolygonLabels": {"points": [list(corner) for corner in corners], "closed": True},
        "KeyPointLabels": {"x": x + 25, "y": 50, "width": 18},
        "VectorLabels": {"vertices": [vertex(i, *corner) for i, corner in enumerate(corners)], "closed": False},
        "BrushLabels": {"format": "rle", "rle": mask2rle(half(right=right))},
        "BitmaskLabels": {"imageDataURL": bitmask(half(right=right))},
    }


def region(tag: str, number: str, *, right: bool) -> dict[str, Any]:
    kind = tag.lower()
    return {
        "id": number,
        "from_name": "drawn",
        "to_name": "image",
        "type": kind,
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**values(right=right)[tag], kind: ["figure"]},
    }


def config_of(tag: str, extra: str = "") -> str:
    return (
        f'<View><Image name="image" value="$image"/><{tag} name="drawn" toName="image"><Label value="figure"/></{tag}>'
        f'<Choices name="shape" toName="image" perRegion="true" {extra}><Choice value="circle"/><Choice value="cross"/>'
        "</Choices></View>"
    )


TAGS = list(values(right=False))


MASKED = 'model_mask_background="true"'
OUTLINED = ("EllipseLabels", "PolygonLabels", "BrushLabels", "BitmaskLabels")


class Detected(NamedTuple):
    """A project with one task, on which a detector has drawn two regions."""

    project: int
    task: int
    drawn: list[dict[str, Any]]

    @property
    def expected(self) -> list[dict[str, Any]]:
        """What is stored for it."""
        answer = {"from_name": "shape", "to_name": "image", "type": "choices"}
        return [
            *self.drawn,
            {"id": "left", **answer, "value": {"choices": ["circle"]}},
            {"id": "right", **answer, "value": {"choices": ["cross"]}},
        ]


def detected(label_studio: LabelStudio, tag: str, config: str) -> Detected:
    project = label_studio.make_project(config, title=f"regions: {tag}")
    (task,) = label_studio.import_tasks(project, [{"image": inline(PICTURE)}])
    drawn = [region(tag, "left", right=False), region(tag, "right", right=True)]
    detector = {"task": task, "result": drawn, "score": 0.5, "model_version": "detector"}
    label_studio.call("POST", "/api/predictions/", json=detector)
    return Detected(project, task, drawn)


def pre_labelled(label_studio: LabelStudio, backend: Stack, project: int) -> dict[str, Any]:
    """The project's one prediction of ours, connected with `--all`."""
    steps = connect_project(backend, project, pre_label_all=True)
    assert {step.status for step in steps} <= {"ok", "changed"}, steps
    version = label_studio.project(project)["model_version"]
    (stored,) = label_studio.wait_for(project, 1, version=version)
    return stored


SELECTED = "id => document.querySelector('[data-testid=detailed-region]')?.textContent.includes(id) ?? false"
"""JavaScript: whether this region is the selected one."""


def select(page: Any, number: int, region: str) -> None:
    """Select a region in the list. The editor forgets a click that comes before it has drawn the image."""
    entry = page.locator(".lsf-outliner-item").nth(number)
    for look in range(120):
        if page.evaluate(SELECTED, region):
            return
        if look % 10 == 0:
            entry.click()
        page.wait_for_timeout(500)
    raise AssertionError(f"Label Studio does not select region {region!r}")


@pytest.mark.parametrize("tag", TAGS)
def test_a_region_is_answered_stored_as_it_was_drawn_and_shown(
    label_studio: LabelStudio, server: LabelStudioServer, backend: Stack, tag: str
) -> None:
    config = config_of(tag)
    made = detected(label_studio, tag, config)
    stored = pre_labelled(label_studio, backend, made.project)
    assert without_scores(stored["result"]) == made.expected
    assert LabelInterface(config).validate_prediction(stored, return_errors=True) == []
    with opened(server, made.project, made.task) as page:
        for number, (drawn, chosen) in enumerate((("left", "circle"), ("right", "cross"))):
            select(page, number, drawn)
            page.wait_for_function(CHECKED, arg=[chosen])


@pytest.mark.parametrize("tag", OUTLINED)
def test_a_masked_region_is_answered_from_what_lies_in_it_and_nothing_large_travels(
    label_studio: LabelStudio, backend: Stack, tag: str
) -> None:
    made = detected(label_studio, tag, config_of(tag, MASKED))
    stored = pre_labelled(label_studio, backend, made.project)
    assert without_scores(stored["result"]) == made.expected
    (job,) = jobs_of(backend.client(), made.project)
    (prediction,) = job.results(timeout=30)
    assert prediction.complete
    for image in prediction.item.images:
        assert image.region is not None
        assert image.region.mask is not None
        assert image.origin is not None
        assert len(image.region.model_dump_json() + image.origin.model_dump_json()) < 3_000


def test_opening_a_task_answers_with_the_pixels_of_its_brushes(label_studio: LabelStudio, backend: Stack) -> None:
    made = detected(label_studio, "BrushLabels", config_of("BrushLabels"))
    connect_project(backend, made.project)
    version = label_studio.project(made.project)["model_version"]
    label_studio.retrieve_predictions(made.project)
    (stored,) = label_studio.wait_for(made.project, 1, version=version)
    assert without_scores(stored["result"]) == made.expected


def test_brushes_that_change_before_they_are_delivered_are_refused_with_the_reason(
    label_studio: LabelStudio, backend: Stack, backend_settings: Settings
) -> None:
    config = config_of("BrushLabels")
    made = detected(label_studio, "BrushLabels", config)
    pre_labelled(label_studio, backend, made.project)
    (job,) = jobs_of(backend.client(), made.project)
    (prediction,) = job.results(timeout=30)
    for known in label_studio.predictions(task=made.task):
        label_studio.call("DELETE", f"/api/predictions/{known['id']}/")
    again = prediction.model_copy(update={"model_version": f"{prediction.model_version}+cal.abc123"})
    with Pusher(backend_settings) as pusher:
        report = pusher.push(PushTarget(project=made.project, label_config=config), [again])
    assert report.rejected == ((0, "the regions that were labelled have changed since, or are gone"),)
    assert label_studio.predictions(task=made.task) == []


def test_a_region_that_cannot_be_cut_out_is_said_and_takes_no_other(label_studio: LabelStudio, backend: Stack) -> None:
    made = detected(label_studio, "PolygonLabels", config_of("PolygonLabels"))
    bad = {**made.drawn[0], "id": "bad", "value": {"points": [[1, 1], [2, 2]], "polygonlabels": ["figure"]}}
    annotation = {"result": [bad, made.drawn[1]]}
    label_studio.call("POST", f"/api/tasks/{made.task}/annotations/", json=annotation)
    steps = connect_project(backend, made.project, pre_label_all=True)
    reason = "the region bad (polygonlabels) cannot be cut out: it has fewer than three points"
    assert [reason in step.detail for step in steps if step.status == "warning"] == [True, True], steps
    version = label_studio.project(made.project)["model_version"]
    (stored,) = label_studio.wait_for(made.project, 1, version=version)
    assert without_scores(stored["result"]) == [made.drawn[1], made.expected[-1]]
