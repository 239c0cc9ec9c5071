"""Whether Label Studio would take our predictions of a label config, before one is made.

Its bulk import validates each prediction with `LabelInterface.validate_prediction` of its SDK, and drops what does not
pass without a word. The same code is run here on one made-up prediction of each control.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ....schemas import Answer, ConfigError, ImageRef, Item, Origin, Prediction
from ..api.connection import summary
from ..convert.results import prediction_to_label_studio
from ..label_config.config import ControlTag, LabelConfig

_TASK: Final = "1"
_REGION: Final = Origin(id="region", stored="[]")


def refused(label_config: str, config: LabelConfig) -> list[tuple[str, str]]:
    """Controls whose predictions Label Studio would drop, each with the reason it gives.

    Left out are controls whose answers go to the endpoint that validates nothing, and those whose labels come with
    each task.

    Args:
        label_config: XML, as Label Studio holds it.
        config: the same, read.

    Raises:
        ModuleNotFoundError: label-studio-sdk is not installed.
    """
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(label_config)
    found = []
    for control in config.controls:
        if not control.bulk or not control.answers:
            continue
        payload = prediction_to_label_studio(_prediction(control), _alone(config, control))
        if payload is None:
            continue
        problems = interface.validate_prediction(payload, return_errors=True)
        if problems:
            found.append((control.from_name, summary(problems[0])))
    return found


def dropped_answers(label_config: str, config: LabelConfig) -> str:
    """Which answers of ours Label Studio would drop, and why; empty when it takes one to each control.

    Raises:
        ConfigError: it takes none.
    """
    dropped = refused(label_config, config)
    told = "; ".join(f"{name}: {reason}" for name, reason in dropped)
    if len(dropped) == len(config.controls):
        raise ConfigError(f"Label Studio would drop every prediction: {told}. Correct the label config")
    return f"Label Studio would drop every prediction that answers {told}" if dropped else ""


def _alone(config: LabelConfig, control: ControlTag) -> LabelConfig:
    """The label config as if it had this control alone, and always showed it."""
    return replace(config, controls=(replace(control, conditions=()),))


def _prediction(control: ControlTag) -> Prediction:
    """A prediction that answers the control with the first of its labels that may be answered."""
    parents = control.parents if control.leafs_only else frozenset()
    path = next((path for path in control.answers if path not in parents), next(iter(control.answers)))
    origin = _REGION if control.per == "region" else None
    image = ImageRef(uri="data:,", name=control.image_name, origin=origin)
    answer = Answer(
        control=control.from_name,
        index=None if control.per == "task" else 0,
        rule="softmax",
        paths=(path,),
        confidence=0.5,
    )
    return Prediction(item=Item(id=_TASK, images=(image,)), ordinal=0, model_version="rehearsal", answers=(answer,))
