"""What a label config asks and under which version it is answered, remembered for configs seen lately."""

from __future__ import annotations

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
        version: the model version of its predictions.
        config: what it asks.
        controls: the same, as a job asks it.
    """

    version: str
    config: LabelConfig
    controls: tuple[Control, ...]


@dataclass(frozen=True)
class Unusable:
    """A label config in which nothing can be pre-labelled.

    Attributes:
        version: what /setup answers for it; no prediction ever has it.
        problem: why, for people.
    """

    version: str
    problem: str


class LabelConfigReader:
    """Reads label configs, and remembers those seen lately. Thread-safe.

    Args:
        model: a `schemas.model_id`; model versions are made from it.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._remembered = lru_cache(maxsize=64)(self._parse)

    def read(self, label_config: str) -> Questions | Unusable:
        """What a label config (XML) asks. Never raises."""
        if len(label_config) > REMEMBERED_CHARS:
            return self._parse(label_config)
        return self._remembered(label_config)

    def _parse(self, label_config: str) -> Questions | Unusable:
        try:
            config = LabelConfig.parse(label_config)
            controls = config.to_controls()
        except ConfigError as error:
            return Unusable(self._model + UNUSABLE, str(error))
        return Questions(model_version(self._model, controls), config, controls)
