"""Searching a project or a job: what is asked, and what is found."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from .errors import ConfigError
from .items import ImageRef, Region
from .predictions import ItemFailure
from .taxonomy import LabelPath, Probability
from .wire import Model, WireModel

MOST_HITS: Final = 10_000
"""Hits one search gives at most: whoever wants more wants a filter, or an export."""

MOST_CHARACTERS: Final = 2_000
"""Characters of a text; a model reads its first 64 or 77 tokens, some 300 of them."""

MOST_TEXTS: Final = 64
"""Phrasings of one query."""

MOST_RANKED: Final = 10_000
"""Texts that are ranked for a picture at once."""

NEAR_DUPLICATES: Final = 0.97
"""Cosine from which two images are near duplicates where nobody says."""

MOST_EXAMPLES: Final = 256
"""Tasks that a search may be like."""

PAGE_HITS: Final = 200
"""Hits of one page at most."""

Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]


class SearchFilter(Model):
    """What a hit must be. What is left out does not matter.

    Attributes:
        label: names of a label that was predicted, from the root down, or the last of them alone.
        labeled: whether the task has an annotation; for projects.
        at_least: confidence of the prediction, 0..1.
        at_most: the same, from above.
        tasks: it is one of these.
        without: it is none of these.
        since: Unix second; the task was made after it; for projects.
    """

    label: LabelPath | None = None
    labeled: bool | None = None
    at_least: Probability | None = None
    at_most: Probability | None = None
    tasks: tuple[int, ...] | None = None
    without: tuple[int, ...] = ()
    since: float | None = None


class SearchQuery(WireModel):
    """What is looked for, and where.

    Attributes:
        project: number of the Label Studio project that is searched; or
        job: id of the job.
        texts: phrasings of what an image shows; the mean of their vectors is looked for.
        less: what it shall not look like; the mean of these, `less_weight` times, is taken off.
        less_weight: how much.
        template: what a phrasing is put into, at `{label}`; None is the model's own.
        image: a picture it shall look like.
        like: tasks (of a job: ordinals of items) whose images it shall look like: the mean of their vectors.
        filter: what a hit must be.
        after: `SearchPage.next` of the page before; 0 is the first page.
        count: hits of this page.
    """

    project: int | None = None
    job: str | None = None
    texts: Annotated[tuple[Text, ...], Field(max_length=MOST_TEXTS)] = ()
    less: Annotated[tuple[Text, ...], Field(max_length=MOST_TEXTS)] = ()
    less_weight: Annotated[float, Field(gt=0, le=2)] = 0.5
    template: str | None = None
    image: ImageRef | None = None
    like: Annotated[tuple[int, ...], Field(max_length=MOST_EXAMPLES)] = ()
    filter: SearchFilter = SearchFilter()
    after: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1, le=PAGE_HITS)] = 50

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.project is None) == (self.job is None):
            raise ConfigError("a search is of a project or of a job: name one of them")
        asked = [name for name in ("texts", "image", "like") if getattr(self, name)]
        if len(asked) != 1:
            raise ConfigError(
                "search for one of these: words, a picture, or what tasks look like"
                + (f" (not {' and '.join(asked)} at once)" if asked else "")
            )
        if self.job is not None and (self.filter.labeled is not None or self.filter.since is not None):
            raise ConfigError("whether a task is annotated, and when it was made, is known of projects, not of jobs")
        if self.less and not self.texts:
            raise ConfigError("what a search leaves out (less) is words, and goes with words")
        _refuse_odd((*self.texts, *self.less), self.template)
        return self


class Hit(Model):
    """One image that was found.

    Attributes:
        task: number of its task; of a job the item's ordinal.
        item: the item's id.
        image: where it is. Where the task holds the image itself, and it is large, only what it is called
            (`ImageRef.problem` says so).
        mark: what tells the whole image from others of its task, hexadecimal (`catalogue.image_mark`).
        slot: its slot in the item (`Item.slots`).
        cosine: between its vector and the query's, -1..1.
        logit: `scale * cosine + bias`, as scoring with that one text makes it; None where the query is no text.
        probability: sigmoid of the logit; None where there is none, or where it means nothing (CLIP).
        label: the predicted label, as far as it can be told; None where nothing was chosen.
        confidence: the prediction's, 0..1.
        labeled: whether the task has an annotation; None where that is not known.
        made_at: Unix second the task was made at; None where that is not known.
    """

    task: int
    item: str
    image: ImageRef
    mark: str = ""
    slot: str = ""
    cosine: float
    logit: float | None = None
    probability: float | None = None
    label: LabelPath | None = None
    confidence: float | None = None
    labeled: bool | None = None
    made_at: float | None = None

    @property
    def reference(self) -> str:
        """The image as it may be shown; see `ImageRef.display`."""
        return self.image.display

    @property
    def region(self) -> Region | None:
        """The part of the image; None is all of it."""
        return self.image.region


class SearchPage(WireModel):
    """Some hits, the best first.

    Attributes:
        hits: the page.
        next: where the next page begins (`SearchQuery.after`); None after the last one.
        searched: images that were looked at.
        missing: images of the collection without a stored vector.
        others: images whose vectors another model has made.
        gone: tasks that were found and are not there any more, or were changed since.
        model: `<model>@<revision8>` whose vectors were searched.
        note: what else is to be said, in words.
    """

    hits: tuple[Hit, ...] = ()
    next: int | None = None
    searched: int = 0
    missing: int = 0
    others: int = 0
    gone: int = 0
    model: str = ""
    note: str = ""


class RankQuery(WireModel):
    """Texts that are ranked for one picture.

    Attributes:
        image: the picture.
        texts: what it may show.
        template: what each text is put into, at `{label}`; None is the model's own.
    """

    image: ImageRef
    texts: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_RANKED)]
    template: str | None = None

    @model_validator(mode="after")
    def _texts_say_something(self) -> Self:
        _refuse_odd(self.texts, self.template)
        return self


class RankedText(Model):
    """A text and how well it fits a picture.

    Attributes:
        place: the text's among those that were given, from 0.
        text: as given.
        cosine: between the picture's vector and its own, -1..1.
        logit: as scoring makes it with that one text.
        probability: sigmoid of the logit; None where that means nothing (CLIP).
    """

    place: int
    text: str
    cosine: float
    logit: float
    probability: float | None = None


class MissingQuery(WireModel):
    """Which tasks of a project have no stored vector.

    Attributes:
        project: its number.
    """

    project: int


class DuplicatesQuery(WireModel):
    """Which images of a collection are nearly the same.

    Attributes:
        project: number of the Label Studio project that is looked through; or
        job: id of the job.
        threshold: cosine from which two images are near duplicates.
        count: groups that are told, the largest ones.
        members: images that are told of each group at most.
    """

    project: int | None = None
    job: str | None = None
    threshold: Annotated[float, Field(gt=0, le=1)] = NEAR_DUPLICATES
    count: Annotated[int, Field(ge=1, le=1_000)] = 100
    members: Annotated[int, Field(ge=2, le=1_000)] = 50

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.project is None) == (self.job is None):
            raise ConfigError("duplicates are looked for in a project or in a job: name one of them")
        return self


class DuplicateGroup(Model):
    """Images that are near duplicates of one of them.

    Attributes:
        hits: the image that stands for the group first, then those nearest to it; `Hit.cosine` is with the first.
        size: images of the group in all.
    """

    hits: tuple[Hit, ...]
    size: int


class Duplicates(Model):
    """Near duplicates of a collection.

    Attributes:
        groups: the largest first; no image is in two.
        total_groups: groups there are in all.
        total_images: images in them in all.
        searched: images that were looked at.
        missing: images of the collection without a stored vector.
        threshold: cosine from which two images are near duplicates.
        model: `<model>@<revision8>` whose vectors were compared.
    """

    groups: tuple[DuplicateGroup, ...] = ()
    total_groups: int = 0
    total_images: int = 0
    searched: int = 0
    missing: int = 0
    threshold: float
    model: str = ""


class SearchReply(WireModel):
    """What comes back: one of these.

    Attributes:
        page: of a search.
        ranked: texts, the best first.
        duplicates: near duplicates.
        missing: numbers of tasks.
        progress: how much is done, and of how much; the answer itself is still to come.
        error: why there is no answer.
    """

    page: SearchPage | None = None
    ranked: tuple[RankedText, ...] | None = None
    duplicates: Duplicates | None = None
    missing: tuple[int, ...] | None = None
    progress: tuple[int, int] | None = None
    error: ItemFailure | None = None


def _refuse_odd(texts: tuple[str, ...], template: str | None) -> None:
    if any(not text.strip() for text in texts):
        raise ConfigError("the text to search for is empty: say what the image shows")
    if template is not None and "{label}" not in template:
        raise ConfigError("a template must contain {label}")
