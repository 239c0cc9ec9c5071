"""Jobs: what is asked of every item, where answers go, and how far it has come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from .errors import ConfigError
from .queues import queue_of
from .taxonomy import Taxonomy
from .wire import Model, WireModel


class Priority(StrEnum):
    """Which queues a job's chunks go to. Interactive work never waits behind bulk work."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Control(Model):
    """One question about the images of each item (Label Studio: a control tag).

    Attributes:
        name: the control's name.
        taxonomy: what may be answered.
        image: name of the item's images it is about; None is the first image.
        over: what several images of that name mean. "first" asks about the first of them alone. "each" asks about
            every one and gives an answer for each (`Answer.index`); one that can never be scored has none
            (`Outcome.unanswered`). "all" asks once about all of them together: a single choice by the mean of their
            logits (they show one thing), a multiple one by each label's highest (a label holds when it holds for any of
            them).
        form: says how the platform writes down an answer; another form is another `model_version`.
    """

    name: str = "label"
    taxonomy: Taxonomy
    image: str | None = None
    over: Literal["first", "each", "all"] = "first"
    form: str = ""


LABEL_STUDIO: Final = "label_studio"
"""The platform that is prelabel's own."""


class PushTarget(Model):
    """Where finished predictions are pushed to.

    Attributes:
        platform: Label Studio, or the name under which a package brings another one (entry points
            `prelabel.platforms`). Workers alone know which are installed.
        project: the place there: Label Studio's project, or whatever number the platform tells its places by.
        label_config: how the project is labelled; Label Studio's must be given.
        hold: keep predictions back until the job's submitter calls `Job.release_push`: it may answer some itself first.
    """

    platform: Annotated[str, Field(min_length=1)] = LABEL_STUDIO
    project: int
    label_config: str = ""
    hold: bool = False

    @model_validator(mode="after")
    def _label_studio_needs_its_config(self) -> Self:
        if self.platform == LABEL_STUDIO and not self.label_config:
            raise ConfigError("a push to Label Studio needs label_config: predictions are written by it")
        return self


class JobSpec(WireModel):
    """What a job asks. Written once at submission, never changed.

    Attributes:
        controls: questions asked of every item; their names differ.
        priority: whether it waits behind other bulk work or overtakes it.
        model: `<model>@<revision8>` the answers must come from; None takes whatever the worker serves.
        top_k: how many scores a prediction keeps per control; None keeps all.
        stored_only: score from stored vectors alone; no image is fetched, and one without a vector fails.
        deadline_s: seconds after submission began at which the job is cancelled; what is done stays. None is never.
        keep_s: seconds the job is kept after it has ended; None is PRELABEL_JOB_TTL_S. One that says so is looked at by
            its submitter alone: the page's last predictions leave it out.
        push: where predictions go as they are ready; None leaves them in the ledger.
        name: for people, in `prelabel jobs`.
    """

    controls: Annotated[tuple[Control, ...], Field(min_length=1)]
    priority: Priority = Priority.BULK
    model: str | None = None
    top_k: Annotated[int, Field(ge=1)] | None = 20
    stored_only: bool = False
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    keep_s: Annotated[int, Field(ge=1, le=10**9)] | None = None
    push: PushTarget | None = None
    name: str = ""

    @property
    def queue(self) -> str:
        """The queue its chunks are on."""
        return queue_of(self.priority.value, self.model)

    @property
    def label_studio_project(self) -> int | None:
        """The project of Label Studio that predictions go to; None when they go elsewhere or nowhere."""
        return self.push.project if self.push and self.push.platform == LABEL_STUDIO else None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [control.name for control in self.controls]
        if len(set(names)) < len(names):
            raise ConfigError(f"control names must differ: {', '.join(names)}")
        return self
