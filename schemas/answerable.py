"""What a model can answer, told by its card before anybody is asked to."""

from __future__ import annotations

from collections.abc import Sequence

from .jobs import Control
from .models import ModelCard


def unanswerable(card: ModelCard, controls: Sequence[Control]) -> str:
    """Why a model cannot answer some of these questions, and what to do; empty where it can answer all.

    A multiple choice asks of each label whether it holds by itself. A model that was trained with a softmax over
    candidates (CLIP, https://arxiv.org/abs/2103.00020, section 2.3) has learned no bias for that: the sigmoid of its
    logits is near 1 for any text.
    """
    if card.head == "sigmoid":
        return ""
    asked = [control.name for control in controls if control.taxonomy.choice == "multiple"]
    if not asked:
        return ""
    return (
        f"{asked[0]} may have several labels, and the scores of {card.id} ({card.family}) mean something only against "
        "each other: make it a choice of one label, or take a SigLIP model (PRELABEL_MODEL)"
    )
