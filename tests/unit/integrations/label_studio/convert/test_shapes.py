"""Regions of every shape Label Studio draws on images: what is cut out of the image, and what of it counts."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import mask2rle
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image, ImageDraw

from prelabel.integrations.label_studio.convert.items import item_from_task
from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Answer, Item, ItemError, Prediction, Region
from prelabel.schemas.masks import EllipseMask, PolygonMask
from prelabel.worker.decoding.crop import OUTSIDE, crop

WIDTH, HEIGHT = 640, 480
TAGS = {
    "rectangle": "RectangleLabels",
    "ellipse": "EllipseLabels",
    "polygon": "PolygonLabels",
    "keypoint": "KeyPointLabels",
    "vector": "VectorLabels",
    "brush": "BrushLabels",
    "bitmask": "BitmaskLabels",
}


def painted(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """`(HEIGHT, WIDTH)` uint8: a disc in this box."""
    image = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).ellipse((left, top, right, bottom), fill=255)
    return np.array(image)


def bitmask_url(mask: np.ndarray) -> str:
    file = io.BytesIO()
    alpha = Image.fromarray(mask)
    Image.merge("LA", (Image.new("L", alpha.size), alpha)).convert("RGBA").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


VALUES: dict[str, dict[str, Any]] = {
    "rectangle": {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0},
    "ellipse": {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 0},
    "polygon": {"points": [[25, 25], [75, 25], [75, 75]], "closed": True},
    "keypoint": {"x": 50, "y": 50, "width": 0.4},
    "vector": {"vertices": [{"id": "a", "x": 25, "y": 25}, {"id": "b", "x": 75, "y": 75, "prevPointId": "a"}],
               "closed": False},
    "brush": {"format": "rle", "rle": mask2rle(painted(160, 120, 479, 359))},
    "bitmask": {"imageDataURL": bitmask_url(painted(160, 120, 479, 359))},
}  # fmt: skip


def entry(shape: str, value: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    kind = f"{shape}labels"
    made = {
        "id": "r1",
        "from_name": "drawn",
        "to_name": "img",
        "type": kind,
        "origin": "manual",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**(VALUES[shape] if value is None else value), kind: ["Thing"]},
    }
    return {**made, **fields}


def config_of(shape: str, extra: str = "") -> str:
    tag = TAGS[shape]
    return (
        f'<View><Image name="img" value="$image"/><{tag} name="drawn" toName="img"><Label value="Thing"/></{tag}>'
        f'<Choices name="cls" toName="img" perRegion="true" {extra}><Choice value="New"/><Choice value="Old"/>'
        "</Choices></View>"
    )


def item_of(shape: str, result: dict[str, Any], extra: str = "") -> Item:
    task = {"id": 7, "data": {"image": "https://e.org/1.jpg"}, "annotations": [{"id": 1, "result": [result]}]}
    return item_from_task(task, LabelConfig.parse(config_of(shape, extra)), None)


def region_of(shape: str, value: dict[str, Any] | None = None, extra: str = "", **fields: Any) -> Region:
    (image,) = item_of(shape, entry(shape, value, **fields), extra).images
    assert image.region is not None
    return image.region


def corners(region: Region) -> tuple[float, float, float, float]:
    return (region.x, region.y, region.x + region.width, region.y + region.height)


@pytest.mark.parametrize("shape", [shape for shape in TAGS if shape != "keypoint"])
def test_the_box_around_a_region_is_cut_out(shape: str) -> None:
    assert corners(region_of(shape)) == pytest.approx((25, 25, 75, 75))
    assert region_of(shape).mask is None


@pytest.mark.parametrize("shape", TAGS)
def test_a_region_without_labels_is_the_same(shape: str) -> None:
    bare_tag = f'<{TAGS[shape].removesuffix("Labels")} name="drawn" toName="img"/>'
    config = LabelConfig.parse(re.sub("<[A-Za-z]+Labels.*Labels>", bare_tag, config_of(shape)))
    bare = entry(shape, type=shape)
    task = {"id": 7, "data": {"image": "https://e.org/1.jpg"}, "annotations": [{"id": 1, "result": [bare]}]}
    (image,) = item_from_task(task, config, None).images
    assert image.region == region_of(shape)


def test_a_key_point_is_the_middle_of_a_square_of_a_tenth_of_the_shorter_side() -> None:
    left, top, right, bottom = corners(region_of("keypoint"))
    assert ((right - left) * WIDTH / 100, (bottom - top) * HEIGHT / 100) == pytest.approx((48, 48))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((50, 50))
    upright = region_of("keypoint", original_width=HEIGHT, original_height=WIDTH)
    assert (upright.width * HEIGHT / 100, upright.height * WIDTH / 100) == pytest.approx((48, 48))


def test_a_larger_key_point_is_as_large_as_it_is_drawn() -> None:
    region = region_of("keypoint", {"x": 50, "y": 50, "width": 10})
    assert (region.width * WIDTH / 100, region.height * HEIGHT / 100) == pytest.approx((128, 128))


def test_a_key_point_at_the_edge_is_cut_off_there() -> None:
    region = region_of("keypoint", {"x": 100, "y": 0, "width": 0.4})
    assert corners(region) == pytest.approx((100 - 3.75, 0, 100, 5))


def test_a_straight_line_gets_the_width_of_a_key_point() -> None:
    region = region_of("vector", {"vertices": [{"x": 10, "y": 50}, {"x": 90, "y": 50}]})
    assert corners(region) == pytest.approx((10, 45, 90, 55))


def test_a_curve_lies_between_the_points_that_bend_it() -> None:
    bent = {
        "x": 50,
        "y": 50,
        "isBezier": True,
        "controlPoint1": {"x": 40, "y": 10},
        "controlPoint2": {"x": 95, "y": 50},
    }
    region = region_of("vector", {"vertices": [{"x": 30, "y": 40}, bent]})
    assert corners(region) == pytest.approx((30, 10, 95, 50))


@pytest.mark.parametrize("rotation", [0, 30, 45, 90, 135, 200.5, 270, -60])
@pytest.mark.parametrize("size", [(640, 480), (300, 900)])
def test_the_box_of_an_ellipse_respects_its_rotation(rotation: float, size: tuple[int, int]) -> None:
    value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 5, "rotation": rotation}
    region = region_of("ellipse", value, original_width=size[0], original_height=size[1])
    width, height = size
    angles, turn = np.linspace(0, 2 * np.pi, 10_000), np.deg2rad(rotation)
    u, v = 0.2 * width * np.cos(angles), 0.05 * height * np.sin(angles)
    x, y = u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)
    assert (region.width * width / 100, region.height * height / 100) == pytest.approx((np.ptp(x), np.ptp(y)), rel=1e-4)
    assert region.rotation == 0


MASKED = 'model_mask_background="true"'


def test_what_lies_outside_a_region_is_masked_where_the_control_asks_for_it() -> None:
    assert region_of("polygon", extra=MASKED).mask == PolygonMask(kind="polygon", points=((25, 25), (75, 25), (75, 75)))
    turned = region_of("ellipse", {**VALUES["ellipse"], "rotation": 30}, MASKED)
    assert turned.mask == EllipseMask(kind="ellipse", x=50, y=50, radius_x=25, radius_y=25, rotation=30)


@pytest.mark.parametrize("shape", ["ellipse", "brush", "bitmask"])
def test_a_masked_disc_is_a_disc_on_grey(shape: str) -> None:
    red = Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0))
    part = np.array(crop(red, region_of(shape, extra=MASKED)))
    assert part.shape[:2] == (240, 320)
    left = (part == (255, 0, 0)).all(axis=2)
    assert (left | (part == OUTSIDE).all(axis=2)).all()
    true = painted(160, 120, 479, 359)[120:360, 160:480] > 0
    assert np.count_nonzero(left != true) < 0.03 * true.size


@pytest.mark.parametrize("shape", ["rectangle", "keypoint", "vector"])
def test_what_has_no_outline_is_not_masked(shape: str) -> None:
    assert region_of(shape, extra=MASKED) == region_of(shape)


def test_of_a_polygon_of_many_points_some_make_the_mask() -> None:
    circle = [[50 + 25 * np.cos(a), 50 + 25 * np.sin(a)] for a in np.linspace(0, 2 * np.pi, 2_001)]
    region = region_of("polygon", {"points": circle}, MASKED)
    assert isinstance(region.mask, PolygonMask)
    assert 400 < len(region.mask.points) <= 500
    assert corners(region) == pytest.approx((25, 25, 75, 75))


def test_a_control_that_masks_and_one_that_does_not_ask_about_images_of_their_own() -> None:
    more = '<Taxonomy name="tax" toName="img" perRegion="true"><Choice value="A"/></Taxonomy></View>'
    config = LabelConfig.parse(config_of("polygon", MASKED).replace("</View>", more))
    task = {"id": 7, "data": {"image": "https://e.org/1.jpg"}, "annotations": [{"id": 1, "result": [entry("polygon")]}]}
    item = item_from_task(task, config, None)
    of_each = [item.images_of(control.image_name) for control in config.controls]
    assert [[image.region.mask is not None for image in images if image.region] for images in of_each] == [
        [True],
        [False],
    ]


PROBLEMS = {
    "ellipse": [({"radiusX": 0}, "it has no area"), ({"radiusY": None}, "its radiusY is no number"),
                ({"x": 200}, "it has no area")],
    "polygon": [({"points": [[1, 1], [2, 2]]}, "fewer than three points"), ({"points": [[1, 1]] * 3}, "it has no area"),
                ({"points": "1,1"}, "its points are no list"), ({"points": [[1, 1], [2, 2], [3]]}, "one of its points"),
                ({"points": [[1, 1]] * 20_001}, "it has 20,001 points, at most 20,000 are read")],
    "keypoint": [({"x": 101}, "it lies outside the image"), ({"width": "3"}, "its width is no number")],
    "vector": [({"vertices": []}, "it has no points"), ({"vertices": [{"x": 1}]}, "its y is no number")],
    "brush": [({"rle": []}, "has no pixels of it until the annotation is submitted"),
              ({"rle": mask2rle(np.zeros((HEIGHT, WIDTH), np.uint8))}, "nothing is painted"),
              ({"rle": [1, 2, 300]}, "its RLE ends in the middle"),
              ({"rle": mask2rle(np.ones((4, 4), np.uint8))}, "its RLE is no mask of 640 x 480 pixels")],
    "bitmask": [({"imageDataURL": None}, "its bitmask is no PNG"),
                ({"imageDataURL": bitmask_url(np.zeros((HEIGHT, WIDTH), np.uint8))}, "nothing is painted")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "change", "reason"),
    [(shape, change, reason) for shape, cases in PROBLEMS.items() for change, reason in cases],
)
def test_a_region_that_cannot_be_cut_out_says_why(shape: str, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ItemError) as refused:
        item_of(shape, entry(shape, {**VALUES[shape], **change}))
    assert f"the region r1 ({shape}labels) cannot be cut out: " in str(refused.value)
    assert reason in str(refused.value)


def test_a_rotated_ellipse_needs_to_know_the_images_sides() -> None:
    result = entry("ellipse", {**VALUES["ellipse"], "rotation": 30})
    del result["original_width"]
    with pytest.raises(ItemError, match="original_width"):
        item_of("ellipse", result)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y", "controlPoint1"]), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(TAGS)), st.data())
def test_whatever_a_region_holds_it_is_a_region_inside_the_image_or_said(shape: str, data: st.DataObject) -> None:
    value = {name: data.draw(JUNK | st.just(known), name) for name, known in VALUES[shape].items()}
    size = {name: data.draw(JUNK | st.just(WIDTH), name) for name in ("original_width", "original_height")}
    try:
        region = region_of(shape, value, MASKED, **size)
    except ItemError:
        return
    left, top, right, bottom = corners(region)
    assert -1e-9 <= left < right <= 100 + 1e-6 or region.rotation
    assert -1e-9 <= top < bottom <= 100 + 1e-6 or region.rotation
    assert Region.model_validate_json(region.model_dump_json(exclude_defaults=True)) == region


@pytest.mark.parametrize("shape", [shape for shape in TAGS if shape not in ("brush", "bitmask")])
def test_a_prediction_carries_a_copy_that_label_studio_takes(shape: str) -> None:
    config = LabelConfig.parse(config_of(shape))
    item = item_of(shape, entry(shape))
    assert item.images[0].origin is not None
    assert json.loads(item.images[0].origin.stored)
    answer = Answer(control="cls", index=0, rule="softmax", paths=(("New",),), confidence=0.9)
    made = prediction_to_label_studio(Prediction(item=item, model_version="m@1", answers=(answer,)), config)
    assert made is not None
    copied = {name: value for name, value in entry(shape).items() if name != "origin"}
    assert made["result"][0] == copied
    assert LabelInterface(config_of(shape)).validate_prediction(made, return_errors=True) == []
