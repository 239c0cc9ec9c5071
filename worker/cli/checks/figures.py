"""Projects: where the tasks of the connected ones stand."""

from __future__ import annotations

from ....integrations.client.checkpoint import settings_model_id
from ....integrations.client.client import Client
from ....schemas.settings import Settings
from ..console import needs
from . import Check, Checks


def check_figures(settings: Settings, project: int | None) -> Checks:
    """A line for each connected project: a warning where tasks get no prediction.

    Args:
        settings: where Redis and Label Studio are.
        project: look at this one; else at all that are connected.

    Raises:
        ConfigError: the packages or settings of the Label Studio side are missing.
    """
    if not settings.label_studio_url:
        return
    with needs("label-studio"):
        from ....integrations.label_studio.projects.figures import TROUBLES
        from ....integrations.label_studio.projects.overview import overview
        from ....integrations.label_studio.projects.register import Projects
    with Client(settings.model_copy(update={"broker_wait_s": 0})) as client:
        register = Projects(client)
        numbers = [number for number in register.numbers() if project in (None, number)]
        for one in overview(client, register, numbers, settings_model_id(settings)):
            fix = f"prelabel projects --project {one.project}"
            counted = one.figures
            if counted is None:  # why, if not for this alone, is told of the project itself
                yield Check("tasks", "warn", f"project {one.project}: not counted yet. {one.problem}".strip(), fix)
                continue
            detail = (
                f"project {one.project}: {counted.prelabelled} of {counted.tasks} pre-labelled, {counted.waiting} "
                f"waiting, {counted.annotated} annotated"
            )
            told = ", ".join(f"{count} {words}" for name, words, count in counted.told() if count and name in TROUBLES)
            if told:
                why = next((one.text for one in counted.reasons if one.why in TROUBLES), "")
                yield Check("tasks", "warn", f"{detail}; {told}: {why}", fix)
            else:
                yield Check("tasks", "ok", detail)
