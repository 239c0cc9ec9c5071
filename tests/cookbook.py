"""The examples of docs/label-configs.md, and pictures for the names that stand in them."""

from __future__ import annotations

import base64
import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from prelabel.worker.demo.shapes import draw, sample_scene

COOKBOOK = Path(__file__).parent.parent / "docs" / "label-configs.md"
_PICTURE = re.compile(r"[a-z]+-[a-z]+(\+[a-z]+-[a-z]+)*\.jpg")


class Example(NamedTuple):
    """One example.

    Attributes:
        name: after `example:` in the comment before it.
        config: the label config.
        data: the task's data, pictures by name.
        annotation: regions a person has drawn; empty where there are none.
        result: what Label Studio holds in the end, without scores.
    """

    name: str
    config: str
    data: dict[str, Any]
    annotation: list[dict[str, Any]]
    result: list[dict[str, Any]]


def examples() -> list[Example]:
    """Every example, in order."""
    found = []
    for part in re.split(r"^<!-- example: ", COOKBOOK.read_text(), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition(" -->")
        blocks = dict(re.findall(r"^```(xml|json \w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
        found.append(
            Example(
                name=name,
                config=blocks["xml"],
                data=json.loads(blocks["json task"]),
                annotation=json.loads(blocks.get("json annotation", "[]")),
                result=json.loads(blocks["json result"]),
            )
        )
    return found


@cache
def picture(name: str) -> bytes:
    """The JPEG that a name such as `red-circle.jpg` stands for; `red-circle+blue-cross.jpg` shows them side by side."""
    halves = []
    for pair in name.removesuffix(".jpg").split("+"):
        colour, _, shape = pair.partition("-")
        halves.append(draw(sample_scene(np.random.default_rng(3), pairs=[(colour, shape)])))
    whole = Image.new("RGB", (sum(half.width for half in halves), halves[0].height))
    for place, half in enumerate(halves):
        whole.paste(half, (place * half.width, 0))
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=92)
    return file.getvalue()


def inline(name: str) -> str:
    """A picture as a `data:` URI."""
    return "data:image/jpeg;base64," + base64.b64encode(picture(name)).decode()


def with_pictures(data: Any) -> Any:
    """Task data with every picture's name replaced by the picture."""
    if isinstance(data, dict):
        return {key: with_pictures(value) for key, value in data.items()}
    if isinstance(data, list):
        return [with_pictures(value) for value in data]
    return inline(data) if isinstance(data, str) and _PICTURE.fullmatch(data) else data


def without_scores(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A result without its scores."""
    return [{key: value for key, value in entry.items() if key != "score"} for entry in result]
