"""Version strings: a prediction's `model_version` must change whenever the answer could."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from .errors import ConfigError
from .jobs import Control
from .predictions import Prediction
from .wire import brief, kind_of

_MODEL: Final = r"(?P<model>.+@.+)"
_HASH: Final = "[0-9a-f]{6}"
_TAXONOMY_MARK: Final = "+tax."
_CALIBRATION_MARK: Final = "+cal."
_TEXT: Final = re.compile(
    rf"{_MODEL}{re.escape(_TAXONOMY_MARK)}(?P<taxonomy>{_HASH})"
    rf"(?:{re.escape(_CALIBRATION_MARK)}(?P<calibration>{_HASH}))?",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """`<model>@<revision8>+tax.<fingerprint6>[+cal.<hash6>]`, the string platforms tell predictions apart by.

    Attributes:
        model: the checkpoint, as `model_id` names it.
        taxonomy: six hexadecimal digits of what was asked.
        calibration: six hexadecimal digits of what the probabilities were corrected with; empty when with nothing.

    Raises:
        ConfigError: a part that could not be read back from the text.
    """

    model: str
    taxonomy: str
    calibration: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(part, str) for part in (self.model, self.taxonomy, self.calibration)):
            raise ConfigError("the model, the taxonomy and the calibration of a model version are texts")
        parts = _TEXT.fullmatch(str(self))
        if parts is None or parts["model"] != self.model:
            raise ConfigError(
                f"{brief(str(self))} is no model version, <model>@<revision>+tax.<hash>, each hash six hexadecimal "
                "digits"
            )

    def __str__(self) -> str:
        calibration = f"{_CALIBRATION_MARK}{self.calibration}" if self.calibration else ""
        return f"{self.model}{_TAXONOMY_MARK}{self.taxonomy}{calibration}"

    @classmethod
    def of(cls, model: str, controls: Sequence[Control], *, calibration: str = "") -> Self:
        """The version of a job's predictions.

        The fingerprint is the taxonomy's; where a platform has named the controls, it covers their names, their images
        and the form of their answers too, for the stored answer holds them. What an item brings is no part of it,
        neither its pixels nor labels of its own: both are what is scored, not how.

        Args:
            model: a `model_id`.
            controls: every control of the job.
            calibration: six hexadecimal digits, or empty.

        Raises:
            ConfigError: the model is no `model_id`, or what should be controls is something else.
        """
        if not isinstance(controls, Sequence) or not all(isinstance(control, Control) for control in controls):
            raise ConfigError(f"controls must be a list of Controls, not {kind_of(controls)}")
        return cls(model=model, taxonomy=_fingerprint(controls)[:6], calibration=calibration)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What a version's text says; None when prelabel did not make it."""
        parts = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if parts is None:
            return None
        return cls(model=parts["model"], taxonomy=parts["taxonomy"], calibration=parts["calibration"] or "")

    @staticmethod
    def is_ours(text: str) -> bool:
        """Whether prelabel made this text."""
        return isinstance(text, str) and _TEXT.fullmatch(text) is not None

    @property
    def uncalibrated(self) -> Self:
        """The same model and question, without a calibration."""
        return replace(self, calibration="")

    @property
    def calibrated_start(self) -> str:
        """What the text of every calibrated version of this model and question begins with."""
        return f"{self.uncalibrated}{_CALIBRATION_MARK}"


OURS_CONTAIN: Final = _TAXONOMY_MARK
"""Stands in every version of ours: for a platform that can look for a part of a text and for no pattern."""


def model_id(model: str, revision: str | None) -> str:
    """`<model>@<revision8>`: the checkpoint's name (a directory's last part) and 8 characters of its revision.

    An unpinned hub checkpoint is `@main`: nobody can tell from the name which weights answered.

    Raises:
        ConfigError: a model or a revision that is no text.
    """
    if not isinstance(model, str) or not isinstance(revision, str | None):
        raise ConfigError(f"a model and its revision are texts, not {kind_of(model)} and {kind_of(revision)}")
    is_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    name = model.rstrip("/").rpartition("/")[2] if is_path else model
    return f"{name}@{(revision or 'main')[:8]}"


def model_version(model: str, controls: Sequence[Control]) -> str:
    """The text of a job's `ModelVersion`.

    Args:
        model: a `model_id`.
        controls: every control of the job.

    Raises:
        ConfigError: the model is no `model_id`, or what should be controls is something else.
    """
    return str(ModelVersion.of(model, controls))


def _fingerprint(controls: Sequence[Control]) -> str:
    if len(controls) == 1 and controls[0] == Control(taxonomy=controls[0].taxonomy):
        return controls[0].taxonomy.fingerprint
    parts = sorted(
        f"{one.name}\0{one.image or ''}\0{one.taxonomy.fingerprint}\0{one.over}\0{one.form}" for one in controls
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def model_of(prediction: Prediction) -> str | None:
    """`<model>@<revision8>` of the model that answered; None when the answer is of another make."""
    version = ModelVersion.parse(prediction.model_version)
    return None if version is None else version.model
