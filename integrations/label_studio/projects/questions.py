"""What a project asks, and which model it is asked of: its own choice, or else the adapter's."""

from __future__ import annotations

from ....schemas import PrelabelError
from ..convert.questions import LabelConfigReader, Questions, Unusable
from .register import Projects


class ProjectReader:
    """Reads projects' label configs, each for the model of its project. Thread-safe.

    Args:
        projects: which of them have chosen a model.
        model: `schemas.model_id` of the adapter's own, for those that have not.
    """

    def __init__(self, projects: Projects, model: str) -> None:
        self._projects = projects
        self._own = model
        self._reader = LabelConfigReader(model)
        self._chosen: dict[int, str] = {}

    def read(self, project: int | None, label_config: str) -> Questions | Unusable:
        """What a project's label config (XML) asks; of no project in particular, with the adapter's model.

        Raises:
            BrokerUnavailable: Redis, where the project's choice stands, does not answer.
        """
        return self._reader.read(label_config, self._model_of(project, wait_s=None))

    def read_at_once(self, project: int | None, label_config: str) -> Questions | Unusable:
        """The same without waiting for Redis; where that is away with the model it named last. Never raises."""
        try:
            model = self._model_of(project, wait_s=0)
        except PrelabelError:
            model = self._own if project is None else self._chosen.get(project, self._own)
        return self._reader.read(label_config, model)

    def _model_of(self, project: int | None, wait_s: float | None) -> str:
        if project is None:
            return self._own
        model = self._projects.model_of(project, self._own, wait_s=wait_s)
        self._chosen[project] = model
        return model
