"""What a prediction copies of a region: the region's own results, as they stand in Label Studio.

A prediction is shown on its own, so it carries the regions it is about. A box is a few numbers, and travels with its
image; the pixels of a brush are up to megabytes, and are read again when the prediction is delivered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ....schemas import Origin
from ..label_config.region_tags import LABELS, shape_of
from .shapes import GEOMETRY

LARGEST = 2_000
"""Characters of a region's results that travel with its image: an ordinary polygon has some hundred."""

_KEPT = (
    *("id", "from_name", "to_name", "type", "original_width", "original_height", "image_rotation", "item_index"),
    "is_positive",
)

Entries = Sequence[Mapping[str, Any]]


def origin_of(entries: Entries) -> Origin:
    """A region by its results, with its copy where that is small."""
    stored = as_json(entries)
    number = str(entries[0]["id"])
    if len(stored) <= LARGEST:
        return Origin(id=number, stored=stored)
    return Origin(id=number, stored="", digest=digest(stored))


def digest(stored: str) -> str:
    """See `Origin.digest`."""
    return hashlib.blake2b(stored.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def as_json(entries: Entries) -> str:
    """The region's own results as JSON, without what people or models have said about it besides."""
    geometry = [name for entry in entries if (shape := shape_of(entry["type"])) for name in GEOMETRY[shape]]
    kept = []
    for entry in entries:
        names = dict.fromkeys((*geometry, entry["type"], LABELS))
        value = {name: entry["value"][name] for name in names if name in entry["value"]}
        kept.append({**{name: entry[name] for name in _KEPT if name in entry}, "value": value})
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


_MOST = {"x": 100.0, "y": 100.0, "width": 100.0, "height": 100.0, "radiusX": 50.0, "radiusY": 50.0, "rotation": 360.0}


def bulk_takes(entry: Mapping[str, Any]) -> bool:
    """Whether Label Studio's bulk import takes a region's copy: it refuses percentages that its own editor stores."""
    value = entry["value"]
    points = value.get("points", [])
    if not isinstance(points, list) or not all(isinstance(point, list) for point in points):
        return False
    numbers = [(value[name], most) for name, most in _MOST.items() if name in value]
    numbers += [(number, 100.0) for point in points for number in point]
    return all(isinstance(number, int | float) and number <= most for number, most in numbers)
