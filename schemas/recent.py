"""The last predictions as people look at them: a thumbnail, the answer and its confidence."""

from __future__ import annotations

from .taxonomy import LabelPath
from .wire import WireModel


class Recent(WireModel):
    """One of the last predictions. Workers write a sample, at most one a second each; `names.RECENT` holds the newest.

    Attributes:
        job_id: the job it was made for.
        item_id: the item; in Label Studio the task's number.
        image: the image's reference as it may be shown, without credentials.
        project: the Label Studio project it was made for, if any.
        paths: the first control's chosen labels; empty when nothing was chosen.
        confidence: of that answer, 0..1.
        made_at: Unix seconds.
        thumbnail: a small JPEG, base64; empty when the image was not read (its vector was stored).
    """

    job_id: str
    item_id: str
    image: str
    project: int | None = None
    paths: tuple[LabelPath, ...] = ()
    confidence: float
    made_at: float
    thumbnail: str = ""
