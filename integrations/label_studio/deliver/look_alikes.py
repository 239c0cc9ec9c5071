"""Labelling look-alikes together: one label for what a search found, as predictions of a version of their own.

They are proposals. A person looks at them as a grid, and lets Label Studio make annotations of those of this version
("Create annotations from predictions"), or takes the version back. The version, `look-alike:<task>@<6 hex digits>`, is
none that a model answers with: whatever removes, replaces or shows predictions of ours leaves it alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from numbers import Integral, Real
from typing import Any, Final, NamedTuple

from ....schemas import Answer, ConfigError, ImageRef, Item, Prediction, PushTarget, Settings, TransientError
from ....schemas.taxonomy import LabelPath
from ....schemas.wire import brief
from ..api import tasks as listing
from ..api.connection import LabelStudioAPI, NotThere
from ..convert.results import shown_answers
from ..label_config.config import ControlTag, LabelConfig
from ..label_config.named import label_named
from ..projects.claims import Claims, Delivery
from .push import CLAIM_S, Pusher

WITHOUT_ASKING: Final = 200
"""Tasks that get a label without somebody saying yes to their number."""

ANNOTATED: Final = "annotated already"
SKIPPED: Final = "skipped by a person"
LABELLED: Final = "has this label as a look-alike already"
ELSEWHERE: Final = "no task of the project"
UNDER_WAY: Final = "being labelled by somebody else at this moment"

_VERSION: Final = re.compile(r"look-alike:[0-9]+@[0-9a-f]{6}")

_AT_ONCE: Final = 150
"""Tasks that are looked at, claimed and pushed together."""

_LISTED: Final = 40
"""Tasks listed at once with their predictions."""

_FIELDS: Final = "id,total_annotations,cancelled_annotations,predictions_model_versions"


class LookAlikes(NamedTuple):
    """What became of the tasks.

    Attributes:
        version: the model version of the predictions: what annotations are made of, and what is taken back.
        pushed: how many tasks have a new prediction.
        left_out: why others have none -> how many.
    """

    version: str
    pushed: int
    left_out: dict[str, int]


def label_look_alikes(
    settings: Settings,
    claims: Claims | None,
    project: int,
    like: int,
    tasks: Mapping[int, float],
    label: str | Sequence[str],
    control: str | None = None,
    *,
    yes: bool = False,
) -> LookAlikes:
    """Propose one label for tasks that look like another one.

    Left out are tasks that somebody has annotated or skipped, and those that have this very proposal. The same call
    again proposes nothing twice. What the project shows in its labeling screen stays what it is.

    Args:
        settings: LABEL_STUDIO_URL and its API key.
        claims: who else delivers; None when nobody does.
        project: the project's number.
        like: the task they look like.
        tasks: task number -> cosine of its image and that of `like`, -1..1; the prediction's score, at least 0.
        label: a label's name or alias, or its names from the root down, as a list or as "animal > cat".
        control: the question it answers; None for the project's only one.
        yes: more than 200 tasks are meant.

    Raises:
        ConfigError: no such label or control; a control that asks about regions or about single images of a list, or
            that is hidden without other answers; no tasks, or more than 200 without `yes`; what should be a number is
            something else.
        NotThere: there is no such project, or the API key's user may not see it.
        TransientError: Label Studio is down or slow; some predictions may have been stored.
        BrokerUnavailable: Redis is.
    """
    cosines = _checked(like, tasks, yes=yes)
    with closing(LabelStudioAPI(settings)) as api, Pusher(settings) as pusher:
        label_config = api.project(project).get("label_config") or ""
        config = LabelConfig.parse(label_config)
        asked = _askable(config.control(control))
        path = label_named(asked, label)
        version = version_of(like, asked.from_name, asked.answers[path])
        made = {task: _prediction(task, cosine, asked, path, version) for task, cosine in cosines.items()}
        if not any(one.paths for one in shown_answers(next(iter(made.values())), config).values()):
            raise ConfigError(
                f"control {asked.from_name!r} is hidden until other questions are answered: this label alone would be "
                "seen by nobody"
            )
        run = _Run(api, pusher, claims, PushTarget(project=project, label_config=label_config), version)
        for start in range(0, len(made), _AT_ONCE):
            run.propose(dict(list(made.items())[start : start + _AT_ONCE]))
        return LookAlikes(version, run.pushed, dict(run.left_out))


def undo_look_alikes(settings: Settings, project: int, version: str | None = None) -> int:
    """Take back look-alikes: remove the predictions of one version, and nothing else.

    Annotations that were made of them stay. Label Studio takes 0.1 s for each.

    Args:
        settings: LABEL_STUDIO_URL and its API key.
        project: the project's number.
        version: that of `LookAlikes`; None for the one that was added to last.

    Returns:
        How many predictions were removed.

    Raises:
        ConfigError: the version is none of look-alikes.
        NotThere: there is no such project, or the API key's user may not see it.
        TransientError: Label Studio is down or slow; the same call later removes the others.
    """
    if version is not None and not is_look_alike(version):
        raise ConfigError(f"{brief(version)} is no version of look-alikes, look-alike:<task>@<6 hexadecimal digits>")
    with closing(LabelStudioAPI(settings)) as api:
        api.project(project)
        version = version or _newest(api, project)
        if version is None:
            return 0
        removed = 0
        for page in listing.pages(api, project, [listing.with_version(version)], fields="id,predictions", size=_LISTED):
            numbers = [
                one["id"] for task in page.tasks for one in task["predictions"] if one["model_version"] == version
            ]
            removed += sum(_remove(api, int(number)) for number in numbers)
    return removed


def is_look_alike(version: str) -> bool:
    """Whether a model version is one of look-alikes."""
    return isinstance(version, str) and _VERSION.fullmatch(version) is not None


def version_of(like: int, control: str, stored: Sequence[str]) -> str:
    """The version of look-alikes: the same for the same label of the same control, so that nothing is proposed twice.

    Args:
        like: the task they look like.
        control: the control's name.
        stored: the label as Label Studio stores it, from the root down.
    """
    content = json.dumps([control, list(stored)])
    return f"look-alike:{like}@{hashlib.sha256(content.encode()).hexdigest()[:6]}"


class _Run:
    """Proposing a label for tasks, some at a time.

    Attributes:
        pushed: tasks that have it now.
        left_out: why others have not -> how many.
    """

    def __init__(
        self, api: LabelStudioAPI, pusher: Pusher, claims: Claims | None, target: PushTarget, version: str
    ) -> None:
        self._api = api
        self._pusher = pusher
        self._claims = claims
        self._target = target
        self._version = version
        self.pushed = 0
        self.left_out: Counter[str] = Counter()

    def propose(self, made: Mapping[int, Prediction]) -> None:
        """Push the predictions of these tasks, as far as nobody has labelled them."""
        why_not = self._why_not(list(made))
        with self._claimed([task for task in made if task not in why_not]) as mine:
            why_not |= dict.fromkeys(made.keys() - why_not.keys() - set(mine), UNDER_WAY)
            report = self._pusher.push(self._target, [made[task] for task in mine], check_existing=True)
            why_not |= dict.fromkeys(report.skipped, LABELLED) | dict(report.rejected)
            # Somebody may have annotated one of them meanwhile: a push of nested choices takes half a minute.
            why_not |= (late := self._annotated(report.pushed))
            for prediction in self._predictions(late):
                _remove(self._api, prediction)
        self.pushed += len(made) - len(why_not)
        self.left_out.update(why_not.values())

    def _why_not(self, numbers: Sequence[int]) -> dict[int, str]:
        """The tasks that are left out, with the reason."""
        there = {int(task["id"]): task for task in self._listed(numbers)}
        why_not = dict.fromkeys(set(numbers) - there.keys(), ELSEWHERE)
        for number, task in there.items():
            if self._version in listing.versions_of(task):
                why_not[number] = LABELLED
            if reason := _by_people(task):
                why_not[number] = reason
        return why_not

    def _annotated(self, numbers: Sequence[int]) -> dict[int, str]:
        return {int(task["id"]): reason for task in self._listed(numbers) if (reason := _by_people(task))}

    def _listed(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        if not numbers:
            return []
        return listing.page(
            self._api, self._target.project, [listing.numbered(numbers)], size=len(numbers), fields=_FIELDS
        ).tasks

    def _predictions(self, numbers: Mapping[int, str]) -> list[int]:
        found = listing.predictions(self._api, self._target.project, list(numbers), self._version)
        return [one for predictions in found.values() for one in predictions]

    @contextmanager
    def _claimed(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Those of the tasks that nobody else labels just now; nobody else does while the block runs."""
        if self._claims is None:
            yield list(numbers)
            return
        project, who = self._target.project, secrets.token_hex(8)
        deliveries: list[Delivery] = [(number, self._version) for number in numbers]
        taken = self._claims.take(project, deliveries, who, CLAIM_S)
        mine = [delivery for delivery, is_ours in zip(deliveries, taken, strict=True) if is_ours]
        try:
            yield [number for number, _ in mine]
        except TransientError as error:  # what it stores still, whoever comes next must not store again
            raise TransientError(
                f"{error}; some look-alikes may have been stored: take back {self._version}, or do the same after "
                f"{CLAIM_S / 60:.0f} minutes to add the others",
                retry_after_s=error.retry_after_s,
            ) from None
        except BaseException:
            self._claims.let_go(project, mine, who)
            raise
        self._claims.let_go(project, mine, who)


def _by_people(task: Mapping[str, Any]) -> str:
    """Why a listed task is people's business; empty when nobody has done anything to it."""
    if task.get("total_annotations"):
        return ANNOTATED
    return SKIPPED if task.get("cancelled_annotations") else ""


def _checked(like: int, tasks: Mapping[int, float], *, yes: bool) -> dict[int, float]:
    """The tasks as plain numbers: a search may have those of numpy."""
    if not tasks:
        raise ConfigError("there are no tasks to label: nothing looks like it")
    if len(tasks) > WITHOUT_ASKING and not yes:
        raise ConfigError(
            f"{len(tasks):,} tasks would get a label at once, more than {WITHOUT_ASKING}: ask for fewer, or say yes to "
            "all of them"
        )
    for number in (like, *tasks):
        if not isinstance(number, Integral) or isinstance(number, bool) or number < 1:
            raise ConfigError(f"{brief(number)} is not the number of a Label Studio task")
    for number, cosine in tasks.items():
        if not isinstance(cosine, Real) or not math.isfinite(cosine):
            raise ConfigError(f"the cosine of task {number} is no number: {brief(cosine)}")
    return {int(number): float(cosine) for number, cosine in tasks.items()}


def _askable(control: ControlTag) -> ControlTag:
    """The control, if one label answers it for a whole task."""
    name = f"control {control.from_name!r}"
    if control.per == "region":
        raise ConfigError(f"{name} asks about each region of an image: look-alikes are whole images")
    if control.per == "item":
        raise ConfigError(f"{name} asks about each image of a list: look-alikes are tasks as a whole")
    if control.taxonomy.is_open:
        raise ConfigError(f"the labels of {name} come with each task ({control.options}): no label is there for all")
    return control


def _prediction(task: int, cosine: float, control: ControlTag, path: LabelPath, version: str) -> Prediction:
    return Prediction(
        item=Item(id=str(task), images=(ImageRef.unusable("it is not looked at", name=control.image_name),)),
        ordinal=task,
        model_version=version,
        # An answer has to say how its probability was made. This is none, and goes nowhere but into the score.
        answers=(
            Answer(control=control.from_name, rule="softmax", paths=(path,), confidence=min(max(cosine, 0.0), 1.0)),
        ),
    )


def _newest(api: LabelStudioAPI, project: int) -> str | None:
    """The look-alikes' version whose newest prediction is the newest of all; None where there is none."""
    with api.errors(f"model versions of project {project}"):
        path = f"api/projects/{project}/model-versions"
        there = api.json("GET", path, params={"extended": "true"}).get("static", [])
    of_look_alikes = [one for one in there if is_look_alike(one["model_version"])]
    return max(of_look_alikes, key=lambda one: str(one.get("latest")), default={"model_version": None})["model_version"]


def _remove(api: LabelStudioAPI, prediction: int) -> bool:
    """Remove a prediction; whether it was there. Label Studio's removal of a whole version also makes it show none."""
    try:
        with api.errors(f"prediction {prediction}"):
            api.json("DELETE", f"api/predictions/{prediction}/")
    except NotThere:  # somebody was faster
        return False
    return True
