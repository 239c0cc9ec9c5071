"""Regions too large to travel with their images, read from Label Studio when a prediction is delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ....schemas import Prediction
from ..api.connection import LabelStudioAPI
from ..api.tasks import REGION_FIELDS, numbered, page
from ..convert.copies import Entries
from ..convert.regions import copies_of
from ..convert.results import copies_left_out
from ..label_config.config import LabelConfig

LARGE_AT_ONCE = 8
"""Predictions with such regions that are delivered at once: each may hold megabytes."""


def groups(predictions: Sequence[Prediction], config: LabelConfig) -> Iterator[list[Prediction]]:
    """What is delivered together: all whose regions travelled with them, then a few of the others at a time."""
    large = [one for one in predictions if copies_left_out(one, config)]
    ordinals = {one.ordinal for one in large}
    yield [one for one in predictions if one.ordinal not in ordinals]
    for start in range(0, len(large), LARGE_AT_ONCE):
        yield large[start : start + LARGE_AT_ONCE]


def read_copies(
    api: LabelStudioAPI, project: int, predictions: Sequence[Prediction], config: LabelConfig
) -> Mapping[str, Mapping[str, Entries]]:
    """By item, the results by digest of those of its regions that did not travel, as far as they are still the same.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    wanted = {one.item.id: digests for one in predictions if (digests := copies_left_out(one, config))}
    numbers = [int(number) for number in wanted if number.isdigit()]
    if not numbers:
        return {}
    tasks = page(api, project, [numbered(numbers)], fields=REGION_FIELDS, size=len(numbers)).tasks
    return {str(task["id"]): copies_of(task, wanted[str(task["id"])]) for task in tasks if str(task["id"]) in wanted}
