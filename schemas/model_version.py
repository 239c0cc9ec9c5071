"""Version strings: a prediction's `model_version` must change whenever the answer could."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from .jobs import Control
from .predictions import Prediction


def model_id(model: str, revision: str | None) -> str:
    """`<model>@<revision8>`: the checkpoint's name (a directory's last part) and 8 characters of its revision.

    An unpinned hub checkpoint is `@main`: nobody can tell from the name which weights answered.
    """
    is_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    name = model.rstrip("/").rpartition("/")[2] if is_path else model
    return f"{name}@{(revision or 'main')[:8]}"


def model_version(model: str, controls: Sequence[Control]) -> str:
    """`<model>@<revision8>+tax.<fingerprint6>`, the string Label Studio tells predictions apart by.

    The fingerprint is the taxonomy's; where a platform has named the controls, it covers their names, their images and
    the form of their answers too, for the stored answer holds them. What an item brings is no part of it, neither its
    pixels nor labels of its own: both are what is scored, not how.

    Args:
        model: a `model_id`.
        controls: every control of the job.
    """
    if len(controls) == 1 and controls[0] == Control(taxonomy=controls[0].taxonomy):
        fingerprint = controls[0].taxonomy.fingerprint
    else:
        parts = sorted(
            f"{one.name}\0{one.image or ''}\0{one.taxonomy.fingerprint}\0{one.over}\0{one.form}" for one in controls
        )
        fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{model}+tax.{fingerprint[:6]}"


OURS: Final = re.compile(r"(?P<model>.+)\+tax\.[0-9a-f]{6}")
"""Model versions prelabel makes."""


def model_of(prediction: Prediction) -> str:
    """`<model>@<revision8>` of the model that answered."""
    return prediction.model_version.partition("+")[0]
