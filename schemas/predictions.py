"""Predictions: what comes back for an item."""

from __future__ import annotations

import math
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from .items import Item
from .taxonomy import LabelPath
from .wire import Model, WireModel

Rule = Literal["softmax", "sigmoid", "tree-softmax", "tree-sigmoid"]
"""How a probability was made from logits: softmax over the leaves, a sigmoid per leaf, and for trees the same
for the leaves with parents derived from their children (sum under softmax, maximum under sigmoid)."""


class LabelScore(Model):
    """One label's score.

    Attributes:
        path: names from the root down.
        logit: raw `exp(logit_scale) * cos(image, text) + logit_bias`; None for a parent, which has no prompt.
        probability: 0..1 under the answer's rule.
        pairwise: the logit says by itself whether image and text belong together; False for a model that was trained
            with a softmax (CLIP), whose logits mean something only beside others.
    """

    path: LabelPath
    logit: float | None = None
    probability: float
    pairwise: bool = True

    @property
    def label(self) -> str:
        """The label's own name."""
        return self.path[-1]

    @property
    def sigmoid(self) -> float | None:
        """The pair's raw probability `1 / (1 + exp(-logit))`, no temperature, no shift; None where there is none."""
        if self.logit is None or not self.pairwise:
            return None
        if self.logit >= 0:
            return 1.0 / (1.0 + math.exp(-self.logit))
        odds = math.exp(self.logit)
        return odds / (1.0 + odds)


class Answer(Model):
    """The answer to one control.

    Attributes:
        control: the control's name.
        index: which of the images of the control's name it is about, from 0, where each is asked about on its own.
        rule: how the probabilities were made.
        paths: the chosen labels; empty when nothing cleared its threshold.
        confidence: 0..1. Single choice and trees: the chosen path's probability (the best one's where nothing
            was chosen). Multiple choice: the least certain chosen label's probability, or one minus the best
            label's when none was chosen.
        scores: best first, at most the job's `top_k`; always holds the chosen labels.
    """

    control: str
    index: int | None = None
    rule: Rule
    paths: tuple[LabelPath, ...] = ()
    confidence: float
    scores: tuple[LabelScore, ...] = ()


QUARANTINED: Final = "Quarantined"
"""The `kind` of an item that is scored no more until it is retried: it killed its worker again and again."""


class ItemFailure(Model):
    """Why an item has no answer. `kind` is the error's class name or `QUARANTINED`, `message` is for people."""

    kind: str
    message: str


class Unanswered(ItemFailure):
    """What has no answer in an item that has others: a control, or one of the images a control asks about.

    Attributes:
        control: the control's name.
        place: the control's place among the job's, from 0.
        index: as `Answer.index`; None is the control as a whole.
    """

    control: str
    place: int = Field(default=0, ge=0)
    index: int | None = None


class Outcome(WireModel):
    """What a worker writes for one item: answers, or the failure. The ledger joins it with the item.

    Attributes:
        vectors: image's slot (`Item.slots`) -> key of its stored vector, hexadecimal.
        answers: one for each control, and for each image where a control asks about each, that could be answered.
        unanswered: what could not, and why; empty when the answers are all that was asked for.
        error: why there is no answer at all.
    """

    model_version: str = ""
    vectors: dict[str, str] = Field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()
    error: ItemFailure | None = None

    @model_validator(mode="after")
    def _answers_or_error(self) -> Self:
        if bool(self.answers) == (self.error is not None):
            raise ValueError("an outcome has either answers or an error")
        if self.unanswered and not self.answers:
            raise ValueError("an outcome without answers has an error alone")
        return self


class Prediction(Outcome):
    """An item with its outcome.

    For the usual job with one control, `label`, `labels`, `path`, `confidence` and `scores` read that control's
    answer; with several controls they read the first, and `answers` holds all. `unanswered` says what is missing.
    """

    item: Item
    ordinal: int = Field(default=0, ge=0)

    @property
    def ok(self) -> bool:
        """Whether the item was scored, all of it or in part."""
        return self.error is None

    @property
    def complete(self) -> bool:
        """Whether everything that was asked has an answer."""
        return self.error is None and not self.unanswered

    @property
    def answer(self) -> Answer | None:
        """The first control's answer; None where it has none."""
        first = self.answers[0] if self.answers else None
        missing = {one.control for one in self.unanswered if one.place == 0}
        return first if first and (not missing or first.control in missing) else None

    @property
    def path(self) -> LabelPath | None:
        """The first chosen path; None when nothing was chosen."""
        return self.answer.paths[0] if self.answer and self.answer.paths else None

    @property
    def label(self) -> str | None:
        """The first chosen label's own name; None when nothing was chosen."""
        return self.path[-1] if self.path else None

    @property
    def labels(self) -> tuple[str, ...]:
        """All chosen labels' own names."""
        return tuple(path[-1] for path in self.answer.paths) if self.answer else ()

    @property
    def confidence(self) -> float | None:
        """The first control's confidence, 0..1; None where it has no answer."""
        return self.answer.confidence if self.answer else None

    @property
    def scores(self) -> tuple[LabelScore, ...]:
        """The first control's scores, best first."""
        return self.answer.scores if self.answer else ()
