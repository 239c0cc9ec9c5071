"""Regions of every shape through a real Label Studio: cut out, answered, stored as they were drawn, and shown."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import mask2rle
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image, ImageDraw

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


@pytest.mark.parametrize("extra", ["", 'model_mask_background="true"'], ids=["plain", "masked"])
@pytest.mark.parametrize("tag", TAGS)
def test_a_region_is_answered_stored_as_it_was_drawn_and_shown(
    label_studio: LabelStudio, server: LabelStudioServer, backend: Stack, tag: str, extra: str
) -> None:
    config = config_of(tag, extra)
    project = label_studio.make_project(config, title=f"regions: {tag}")
    (task,) = label_studio.import_tasks(project, [{"image": inline(PICTURE)}])
    drawn = [region(tag, "left", right=False), region(tag, "right", right=True)]
    detector = {"task": task, "result": drawn, "score": 0.5, "model_version": "detector"}
    label_studio.call("POST", "/api/predictions/", json=detector)
    steps = connect_project(backend, project, pre_label_all=True)
    assert {step.status for step in steps} <= {"ok", "changed"}, steps
    version = label_studio.project(project)["model_version"]
    (stored,) = label_studio.wait_for(project, 1, version=version)
    answers = [
        {"id": number, "from_name": "shape", "to_name": "image", "type": "choices", "value": {"choices": [chosen]}}
        for number, chosen in (("left", "circle"), ("right", "cross"))
    ]
    assert without_scores(stored["result"]) == [*drawn, *answers]
    assert LabelInterface(config).validate_prediction(stored, return_errors=True) == []
    (job,) = jobs_of(backend.client(), project)
    (prediction,) = job.results(timeout=30)
    assert prediction.complete
    about = [(image.region, image.origin) for image in prediction.item.images]
    assert all(len(region.model_dump_json() + origin.model_dump_json()) < 3_000 for region, origin in about), (
        "what is large does not travel"
    )
    with opened(server, project, task) as page:
        for number, chosen in enumerate(("circle", "cross")):
            page.locator(".lsf-outliner-item").nth(number).click()
            page.wait_for_function(CHECKED, arg=[chosen])
