"""What is known of a model, as data: read by workers, adapter and clients alike, without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .taxonomy import DEFAULT_MULTIPLE_THRESHOLD, DEFAULT_TEMPLATE, Probability
from .wire import Model

Head = Literal["sigmoid", "softmax"]
"""What the logits were trained for. "sigmoid": each pair is right or wrong on its own (SigLIP). "softmax": one text of
several is right, and a pair's sigmoid means nothing (CLIP)."""

Resize = Literal["squash", "crop", "patches"]
"""How an image gets the input size: "squash" changes its proportions; "crop" scales its shorter edge and cuts off what
stands over; "patches" keeps its proportions, and an image is as many patches as fit below a limit."""

PaddingSide = Literal["right", "left"]
"""Where texts are filled up."""

Side = Annotated[int, Field(ge=1)]
Channels = tuple[float, float, float]


class ModelCard(Model):
    """One model's facts; those that depend on the machine it runs on are the `Encoder`'s.

    Attributes:
        id: `<model>@<revision8>`, put on predictions.
        revision: what tells its weights from others of that name: a hub commit, or the beginning of a digest of a
            directory's files; None where that is not known.
        family: how it is loaded and run: "siglip", "clip", …, or what a package that brings another family calls it.
        dim: length of an embedding.
        logit_scale: exp(t) in `logit = logit_scale * cos(image, text) + logit_bias`.
        logit_bias: b in the same formula (SigLIP, https://arxiv.org/abs/2303.15343, section 3.2); None for a model
            that has none: nothing is added.
        head: what the logits were trained for.
        input_size: height and width of a prepared image, pixels; where the number of patches is what is limited, those
            of a square image.
        resize: how an image gets that size.
        mean: taken off each channel (R, G, B) of 0..1 before the model; None where it is not known.
        std: each channel is divided by it after that; None where it is not known.
        text_length: tokens a text is cut to; None where it is not cut.
        lower_case: texts are lower-cased before they reach the tokenizer, which does not do so itself.
        padded: every text is filled up to `text_length`.
        padding_side: where.
        mask: a mask tells the text from what it is filled up with.
        ends_with_eos: every text must end with the tokenizer's end-of-sequence token; looked at when it is loaded.
        tokenisation: names all that happens to a text before the model; another name, another vector.
        preprocessing: names all that happens to pixels before the model, the decoder's part included; another name,
            another vector.
        template: the prompt the model was made for; `{label}` is replaced.
        threshold: probability a label must reach in a multiple choice that names none.
        licence: of the weights, as the checkpoint's README names it, mostly an SPDX identifier; None where it does not.
        gflop: 10^9 floating-point operations of one image's forward pass, a multiplication and its addition counted as
            two; None where it is not known.
    """

    id: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    family: Annotated[str, Field(min_length=1)]
    dim: Annotated[int, Field(ge=1)]
    logit_scale: float
    logit_bias: float | None
    head: Head
    input_size: tuple[Side, Side]
    resize: Resize
    mean: Channels | None = None
    std: Channels | None = None
    text_length: Annotated[int, Field(ge=1)] | None
    lower_case: bool
    padded: bool
    padding_side: PaddingSide = "right"
    mask: bool = False
    ends_with_eos: bool = False
    tokenisation: str
    preprocessing: str
    template: str = DEFAULT_TEMPLATE
    threshold: Probability = DEFAULT_MULTIPLE_THRESHOLD
    licence: str | None = None
    gflop: Annotated[float, Field(gt=0)] | None = None
