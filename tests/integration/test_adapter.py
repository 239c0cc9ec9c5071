"""The ML-backend adapter in front of a real broker and worker, spoken to as Label Studio does."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest

from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack

DATA = Path(__file__).parent.parent / "data" / "label_studio"
CONFIG = (
    '<View><Image name="img" value="$image"/><Choices name="shape" toName="img">'
    + "".join(f'<Choice value="{shape}"/>' for shape in SHAPES)
    + "</Choices></View>"
)


@pytest.fixture
def http(stack: Stack):
    with httpx.Client(base_url=stack.adapter_url, timeout=30, trust_env=False) as made:
        yield made


def predict_body(uris: list[str], first: int = 100) -> dict:
    """The recorded request with other tasks in it, numbered from `first`: one just answered is left alone."""
    body = json.loads((DATA / "predict_on_task_open.json").read_text())["body"]
    (task,) = body["tasks"]
    tasks = [{**task, "id": first + i, "data": {"image": uri}} for i, uri in enumerate(uris)]
    return {**body, "label_config": CONFIG, "tasks": tasks}


def inline(picture: Picture) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture.path.read_bytes()).decode()


def test_setup_names_the_version_that_predictions_then_carry(http, pictures: list[Picture]) -> None:
    setup = json.loads((DATA / "setup_with_extra_params.json").read_text())["body"]
    version = http.post("/setup", json={**setup, "schema": CONFIG}).json()["model_version"]
    body = predict_body([inline(picture) for picture in pictures[:5]])
    results = http.post("/predict", json=body).json()["results"]
    assert len(results) == 5
    for result in results:
        one = result[0] if isinstance(result, list) else result
        assert one["model_version"] == version
        assert 0 <= one["score"] <= 1
        (entry,) = one["result"]
        assert (entry["from_name"], entry["to_name"], entry["type"]) == ("shape", "img", "choices")
        assert entry["value"]["choices"][0] in SHAPES


def test_an_image_that_cannot_be_scored_is_an_empty_entry_in_its_place(http, pictures: list[Picture]) -> None:
    good = inline(pictures[0])
    results = http.post("/predict", json=predict_body([good, "data:image/png;base64,AAAA", good], 200)).json()[
        "results"
    ]
    assert [bool(result) for result in results] == [True, False, True]


def test_metrics_and_health_answer(http) -> None:
    assert http.get("/health").json()["status"] == "UP"
    assert "prelabel" in http.get("/metrics").text
