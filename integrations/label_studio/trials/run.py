"""One trial: both label configs asked of the same tasks, through the ordinary queue, and nothing pushed.

The present label config is scored first; the new one then finds the vectors of images that had to be read for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ....schemas import ConfigError, Item, ItemError, Prediction, Priority, Settings, TransientError
from ...client.workers import nobody_serves
from ..api.connection import LabelStudioAPI
from ..convert.items import item_from_task
from ..convert.questions import LabelConfigReader, Questions, Unusable
from ..convert.results import shown_answers
from ..projects.register import Projects
from ..projects.sample import KEEP_S
from ..projects.stored import StoredVectors
from .result import Side, TaskTrial, Trial
from .sample import draw
from .save import refusal_of

if TYPE_CHECKING:
    from ...client.client import Client

MOST: Final = 1000
"""Tasks of a sample at most."""

_READING: Final = 0.5
"""Share of a trial's time after which stored vectors are looked for no longer: a project may have had millions."""

Tell = Callable[[str], None]


class Present(NamedTuple):
    """A project's title, and its label config, XML."""

    title: str
    label_config: str


def try_label_config(
    settings: Settings,
    client: Client,
    *,
    project: int,
    label_config: str,
    model: str,
    size: int,
    timeout_s: float,
    tell: Tell = lambda _: None,
) -> Trial:
    """Score a sample of a project's tasks under its present and under a new label config; nothing is changed anywhere.

    Args:
        settings: LABEL_STUDIO_URL and its API key.
        client: the queue of the workers.
        project: the project's number; it need not be connected.
        label_config: the new one, XML.
        model: `schemas.model_id` of the adapter's model, for a project that has chosen none.
        size: tasks in the sample, 1 to `MOST`.
        timeout_s: seconds it may take in all; each request to Label Studio that is under way is waited for.
        tell: told what is being done, in words.

    Raises:
        ConfigError: no such project, no tasks in it, a label config that cannot be pre-labelled, a size out of range.
        TransientError: no worker runs or none is done in time; Label Studio or Redis does not answer.
    """
    if not 1 <= size <= MOST:
        raise ConfigError(f"a sample has 1 to {MOST:,} tasks, not {size:,}")
    started = monotonic()
    model = Projects(client).model_of(project, model)
    reader = LabelConfigReader(model)
    new = reader.read(label_config)
    if isinstance(new, Unusable):
        raise ConfigError(f"the new label config cannot be pre-labelled: {new.problem}")
    with closing(LabelStudioAPI(settings)) as api:
        tell("reading the project")
        present = present_label_config(api, project)
        old = reader.read(present.label_config)
        about: dict[str, Any] = {
            "project": project,
            "title": present.title,
            "old_config": present.label_config,
            "new_config": label_config,
            "old_version": "" if isinstance(old, Unusable) else old.version,
            "old_problem": old.problem if isinstance(old, Unusable) else "",
            "new_version": new.version,
            "skipped": new.config.skipped,
            "refusal": refusal_of(api, project, label_config),
        }
        if not isinstance(old, Unusable) and old.version == new.version:
            return Trial(**about)
        if nobody := nobody_serves(client.connection, model):
            raise TransientError(f"{nobody}, and try again")
        asked = [one for one in (old, new) if isinstance(one, Questions)]
        reading_until = started + _READING * timeout_s
        with closing(StoredVectors(client, project, model, lambda: monotonic() < reading_until)) as vectors:
            tell("looking for stored vectors")
            known = vectors.tasks()
            tell("choosing tasks")
            tasks, total = draw(api, project, size, known, [one.config for one in asked])
            if not tasks:
                raise ConfigError(f"project {project} has no tasks to try a label config on: import some first")
            run = _Run(settings, client, vectors, project, model, started, timeout_s, tell)
            sides = {one.version: run.sides(tasks, one) for one in asked}
    old_sides: Mapping[int, Side] = sides.get(str(about["old_version"]), {})
    new_sides = sides[new.version]
    return Trial(
        **about,
        total=total,
        tasks=tuple(
            TaskTrial(
                task=number,
                stored=number not in run.read,
                old=old_sides.get(number, Side()),
                new=new_sides[number],
            )
            for number in new_sides
        ),
    )


def present_label_config(api: LabelStudioAPI, project: int) -> Present:
    """What a project is called, and how it is labelled now.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    there = api.project(project)
    return Present(str(there.get("title") or ""), str(there.get("label_config") or ""))


class _Run:
    """The scoring of one trial.

    Attributes:
        read: numbers of the tasks with an image of which no vector was stored before.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        vectors: StoredVectors,
        project: int,
        model: str,
        started: float,
        timeout_s: float,
        tell: Tell,
    ) -> None:
        self._settings = settings
        self._client = client
        self._vectors = vectors
        self._project = project
        self._model = model
        self._timeout_s = timeout_s
        self._deadline = started + timeout_s
        self._tell = tell
        self.read: set[int] = set()

    def sides(self, tasks: Sequence[Mapping[str, Any]], questions: Questions) -> dict[int, Side]:
        """What each of the tasks is answered with, by number.

        Raises:
            TransientError: not done in time.
        """
        sides: dict[int, Side] = {}
        items: dict[int, Item] = {}
        for task in tasks:
            number = int(task["id"])
            sides[number] = Side(problem="it was not scored: the trial's job was cancelled")
            try:
                items[number] = self._item(task, questions)
            except ItemError as error:
                sides[number] = Side(problem=str(error))
        for prediction in self._scored(list(items.values()), questions):
            self._vectors.remember((prediction,))
            sides[int(prediction.item.id)] = _side(prediction, questions)
        return sides

    def _item(self, task: Mapping[str, Any], questions: Questions) -> Item:
        item = item_from_task(
            task, questions.config, self._settings.label_studio_url, s3_direct=self._settings.s3_direct
        )
        item = self._vectors.add_to(item)
        if not all(image.vector or image.problem for image in item.images):
            self.read.add(int(item.id))
        return item

    def _scored(self, items: Sequence[Item], questions: Questions) -> Iterator[Prediction]:
        if not items:
            return
        left_s = self._deadline - monotonic()
        if left_s <= 0.0:
            raise self._late(0, len(items), questions)
        job = self._client.submit(
            items,
            questions.controls,
            priority=Priority.INTERACTIVE,
            name=f"trial for label studio project {self._project}",
            model=self._model,
            deadline_s=left_s + 1,  # should we die meanwhile, nobody works for us
            keep_s=KEEP_S,
        )
        done = 0
        try:
            for prediction in job.results(left_s):
                done += 1
                self._tell(f"scoring {questions.version}: {done} of {len(items)} tasks")
                yield prediction
        except TimeoutError:
            raise self._late(done, len(items), questions) from None
        finally:
            job.cancel()  # changes nothing where it has ended

    def _late(self, done: int, total: int, questions: Questions) -> TransientError:
        return TransientError(
            f"the trial was not done within {self._timeout_s:g} s: {done} of {total} tasks were scored under "
            f"{questions.version}. Give it more time, or fewer tasks; images nobody has scored yet take longest"
        )


def _side(prediction: Prediction, questions: Questions) -> Side:
    if prediction.error:
        return Side(problem=prediction.error.message)
    gaps = "; ".join(f"{one.control}: {one.message}" for one in prediction.unanswered)
    return Side(answers=shown_answers(prediction, questions.config), problem=gaps)
