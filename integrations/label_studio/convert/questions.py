"""What a label config asks and under which version it is answered, remembered for configs seen lately."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ....schemas import ConfigError, Control, model_version
from ..label_config.config import LabelConfig

UNUSABLE = "+unusable-label-config"
"""Stands in the version /setup answers for a config that cannot be pre-labelled; no prediction ever has it."""

REMEMBERED_CHARS = 2**20
"""Label configs longer than this are parsed every time, so that nobody can fill the memory with them."""


@dataclass(frozen=True)
class Questions:
    """A label config made ready.

    Attributes:
        config: None when nothing in it can be pre-labelled; then `problem` says why.
        version: the model version of its predictions.
    """

    version: str
    config: LabelConfig | None = None
    controls: tuple[Control, ...] = ()
    problem: str = ""


def reader(model: str) -> Callable[[str], Questions]:
    """A function from label config to `Questions`; it never raises. `model` is a `schemas.model_id`."""

    def parse(label_config: str) -> Questions:
        try:
            config = LabelConfig.parse(label_config)
            controls = config.to_controls()
        except ConfigError as error:
            return Questions(version=model + UNUSABLE, problem=str(error))
        return Questions(model_version(model, controls), config, controls)

    remembered = lru_cache(maxsize=64)(parse)
    return lambda label_config: (remembered if len(label_config) <= REMEMBERED_CHARS else parse)(label_config)
