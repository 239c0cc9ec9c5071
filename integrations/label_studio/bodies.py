"""Request bodies as Label Studio 1.23 sends them, read leniently: unknown fields are ignored, odd tasks survive.

Secrets that Label Studio sends along (`access_token`, a project's `task_data_password`) are never read.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class SetupBody(_Body):
    """`POST /setup`, before every prediction; a new project's config is `<View></View>`."""

    project: str | int | None = None
    label_config: str = Field("", alias="schema")


class PredictBody(_Body):
    """`POST /predict`: all tasks without our version at once, several hundred in one request."""

    tasks: list[Any]
    project: str | int | None = None
    label_config: str = ""


class WebhookProject(_Body):
    """The one of a webhook project's 45 fields that is used."""

    id: int | None = None


class WebhookBody(_Body):
    """`POST /webhook`: an event; its tasks (at most 5,000 in `TASKS_CREATED`) are not read."""

    action: str = ""
    project: WebhookProject = WebhookProject()
