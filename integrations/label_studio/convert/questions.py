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
        model: a `schemas.model_id`: of whom it is asked.
        version: the model version of its predictions.
        config: what it asks.
        controls: the same, as a job asks it.
    """

    model: str
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
        model: the `schemas.model_id` that is asked where `read` is given none; model versions are made from it.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._remembered = lru_cache(maxsize=64)(self._parse)

    def read(self, label_config: str, model: str | None = None) -> Questions | Unusable:
        """What a label config (XML) asks. Never raises."""
        parse = self._parse if len(label_config) > REMEMBERED_CHARS else self._remembered
        return parse(label_config, model or self._model)

    @staticmethod
    def _parse(label_config: str, model: str) -> Questions | Unusable:
        try:
            config = LabelConfig.parse(label_config)
            controls = config.to_controls()
        except ConfigError as error:
            return Unusable(model + UNUSABLE, str(error))
        return Questions(model, model_version(model, controls), config, controls)
