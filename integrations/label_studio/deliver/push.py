"""Finished predictions to Label Studio.

What Label Studio 1.23 does, and what follows:

- Its bulk endpoint takes 600 predictions in about a second, a single POST takes 0.2 s: bulk it is. But it validates
  and drops what it does not like without a word, so what it says it created is compared with what was sent.
- Its validator refuses every answer to nested `<Choices>`, in the only shape its editor shows. Those go to the
  single endpoint, which validates nothing.
- One task that is gone makes it refuse the whole request. So it is asked which tasks are there, and the others go in
  one request again, for after each import it counts all tasks of the project. What is refused for another reason is
  halved until it stands alone.
- With a feature flag of its own (`fflag_fix_back_4620_…`) it stores some 500 at a time and then refuses the rest. So it
  is also asked what it has stored of a refused request.
- Storing a prediction twice makes two. After a `TransientError` nobody knows what was stored: call again with
  `check_existing=True`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from ....schemas import ItemError, ModelVersion, Prediction, PrelabelError, PushTarget, Settings, TransientError
from ...platforms import PushReport
from ..api.connection import LabelStudioAPI, NotThere, summary
from ..api.tasks import among, with_prediction
from ..convert.copies import Entries, bulk_takes
from ..convert.results import prediction_to_label_studio
from ..label_config.config import LabelConfig
from ..projects.claims import Claims, Delivery
from ..projects.shown import is_ours_to_change, show
from ..projects.unanswered import Reason, Unanswered, Why
from .copies import groups, read_copies

log = logging.getLogger(__name__)

IMPORT_S = 300.0
"""Seconds a bulk import may take. After it Label Studio counts all tasks of the project, 0.6 ms each on two cores."""

CLAIM_S = IMPORT_S + 60.0
"""Seconds a push may take before others may deliver the same predictions: an import, and what is asked before it."""

SINGLES_PER_CLAIM = 50
"""Predictions sent one by one before their claims are renewed: some 10 s on an idle Label Studio."""

AFTERGLOW_S = 30.0
"""Seconds after a push during which /predict still leaves its tasks alone: Label Studio may have asked before it."""

VERIFY_AFTER_S = 120.0
"""Seconds after which a prediction that somebody else delivers must have arrived."""


@dataclass
class _Run:
    """One push on its way."""

    target: PushTarget
    payloads: dict[int, dict[str, Any]] = field(default_factory=dict)
    pushed: set[int] = field(default_factory=set)
    rejected: dict[int, str] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    interface: Any = None
    renew: Callable[[], None] = lambda: None

    def report(self) -> PushReport:
        return PushReport(tuple(sorted(self.pushed)), tuple(sorted(self.rejected.items())), tuple(sorted(self.skipped)))


class Pusher:
    """Pushes predictions into projects of one Label Studio. Thread-safe; close it after use, or use it with `with`.

    Args:
        settings: where Label Studio is, and the key.
        claims: who else delivers; None when nobody does.
        unanswered: where it is written which tasks get no prediction; None where nobody asks.
        moved: called with a project that shows another version from now on.
        chosen: the `schemas.model_id` a project has chosen; empty where it takes the adapter's, whichever that is.

    Raises:
        ConfigError: LABEL_STUDIO_URL or LABEL_STUDIO_API_KEY is not set.
    """

    def __init__(
        self,
        settings: Settings,
        claims: Claims | None = None,
        unanswered: Unanswered | None = None,
        moved: Callable[[int], object] = lambda _: None,
        chosen: Callable[[int], str] = lambda _: "",
    ) -> None:
        self._api = LabelStudioAPI(settings)
        self._claims = claims
        self._unanswered = unanswered
        self._moved = moved
        self._chosen = chosen
        self._shown: set[tuple[int, str]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def push(
        self, target: PushTarget, predictions: Sequence[Prediction], *, check_existing: bool = False, who: str = ""
    ) -> PushReport:
        """Push predictions of one job.

        Args:
            target: the project, and the label config its tasks were scored with.
            predictions: their ordinals must differ. What needs no request of its own goes in one: a few thousand.
            check_existing: ask first, and leave out tasks that already have a prediction of the same version.
            who: name for the claims; the same for every try of one job.

        Raises:
            ConfigError: the key or the label config is wrong; pushing again will not help.
            TransientError: Label Studio is down or slow; some may have been stored.
        """
        config = LabelConfig.parse(target.label_config)
        all_of_it = _Run(target)
        for some in groups(predictions, config):
            done = self._push(target, some, config, check_existing=check_existing, who=who)
            self._record(done, some)
            all_of_it.pushed |= done.pushed
            all_of_it.rejected |= done.rejected
            all_of_it.skipped |= done.skipped
        return all_of_it.report()

    def _push(
        self,
        target: PushTarget,
        predictions: Sequence[Prediction],
        config: LabelConfig,
        *,
        check_existing: bool,
        who: str,
    ) -> _Run:
        run = _Run(target)
        copies = read_copies(self._api, target.project, predictions, config)
        for prediction in predictions:
            self._prepare(run, prediction, config, copies.get(prediction.item.id, {}))
        if not run.payloads:
            return run
        mine = self._claim(run, who)
        run.renew = lambda: self._renew(run, mine, who)
        try:
            self._deliver(run, config, check_existing=check_existing)
        except TransientError:
            if self._claims is not None:  # what it stored, or still stores, is seen later
                self._claims.verify_later(target.project, mine, VERIFY_AFTER_S)
            raise
        except NotThere:
            if self._project_is_there(target.project):
                raise
            for ordinal in set(run.payloads) - run.pushed - run.skipped:
                run.rejected[ordinal] = f"Label Studio has no project {target.project} any more"
        # After any other failure the claims stay: what was stored is unknown until we, or whoever goes on, have looked.
        self._let_go(target.project, mine, who)
        return run

    def failed(self, target: PushTarget, predictions: Sequence[Prediction]) -> None:
        """Write that tasks could not be scored, and why.

        Args:
            target: the project.
            predictions: those with an error.
        """
        reasons = {one.item.id: Reason(Why.FAILED, _without_name(one)) for one in predictions}
        self._write(target.project, reasons)

    def _record(self, run: _Run, predictions: Sequence[Prediction]) -> None:
        became: dict[str, Reason | None] = {}
        for one in predictions:
            if one.ordinal in run.rejected:
                became[one.item.id] = Reason(Why.DROPPED, run.rejected[one.ordinal])
            elif one.ordinal in run.payloads:
                became[one.item.id] = None
            elif one.ok:
                became[one.item.id] = Reason(Why.NOTHING_CHOSEN, "no label reached its threshold")
        self._write(run.target.project, became)

    def _write(self, project: int, became: Mapping[str, Reason | None]) -> None:
        if self._unanswered is not None:
            self._unanswered.record(project, {int(task): one for task, one in became.items() if task.isdigit()})

    def _claim(self, run: _Run, who: str) -> list[Delivery]:
        """Claim the deliveries; what another delivers is left to it, and looked after later."""
        deliveries = {ordinal: (int(one["task"]), str(one["model_version"])) for ordinal, one in run.payloads.items()}
        if self._claims is None:
            return []
        taken = self._claims.take(run.target.project, list(deliveries.values()), who, CLAIM_S, to_push=True)
        theirs = [ordinal for ordinal, is_ours in zip(deliveries, taken, strict=True) if not is_ours]
        run.skipped.update(theirs)
        self._claims.verify_later(run.target.project, [deliveries[ordinal] for ordinal in theirs], VERIFY_AFTER_S)
        return [deliveries[ordinal] for ordinal in deliveries if ordinal not in run.skipped]

    def _let_go(self, project: int, mine: Sequence[Delivery], who: str) -> None:
        if self._claims is not None:
            self._claims.let_go(project, mine, who, AFTERGLOW_S, pushed=True)

    def _renew(self, run: _Run, mine: Sequence[Delivery], who: str) -> None:
        if self._claims is not None:
            self._claims.take(run.target.project, mine, who, CLAIM_S, to_push=True)

    def _deliver(self, run: _Run, config: LabelConfig, *, check_existing: bool) -> None:
        open_ones = [ordinal for ordinal in run.payloads if ordinal not in run.skipped]
        if check_existing:
            run.skipped.update(self._delivered(run, open_ones))
        bulk = [ordinal for ordinal in open_ones if ordinal not in run.skipped]
        refused = {control.from_name for control in config.controls if not control.bulk}
        single = [
            ordinal
            for ordinal in bulk
            if any(entry["from_name"] in refused or not bulk_takes(entry) for entry in run.payloads[ordinal]["result"])
        ]
        if single:
            bulk = [ordinal for ordinal in bulk if ordinal not in set(single)]
        self._import(run, bulk)
        for number, ordinal in enumerate(self._of_the_project(run, single)):
            if number % SINGLES_PER_CLAIM == 0:
                run.renew()
            self._create(run, ordinal)
        for version in {run.payloads[ordinal]["model_version"] for ordinal in run.pushed}:
            self._show(run.target.project, version)

    def _of_the_project(self, run: _Run, ordinals: Sequence[int]) -> list[int]:
        """Those whose task is one of the project: the single endpoint takes any there is, a bulk import none else."""
        if not ordinals:
            return []
        there = among(self._api, run.target.project, sorted(run.payloads[ordinal]["task"] for ordinal in ordinals))
        for ordinal in ordinals:
            if run.payloads[ordinal]["task"] not in there:
                run.rejected[ordinal] = f"project {run.target.project} has no task {run.payloads[ordinal]['task']}"
        return [ordinal for ordinal in ordinals if ordinal not in run.rejected]

    def _project_is_there(self, project: int) -> bool:
        try:
            self._api.project(project)
        except NotThere:
            return False
        return True

    def _prepare(self, run: _Run, prediction: Prediction, config: LabelConfig, copies: Mapping[str, Entries]) -> None:
        if not prediction.item.id.isdigit():
            run.rejected[prediction.ordinal] = f"{prediction.item.id!r} is not the number of a Label Studio task"
            return
        try:
            payload = prediction_to_label_studio(prediction, config, copies)
        except ItemError as error:
            run.rejected[prediction.ordinal] = str(error)
            return
        if payload is None:
            run.skipped.add(prediction.ordinal)
        else:
            run.payloads[prediction.ordinal] = payload

    def _delivered(self, run: _Run, ordinals: Sequence[int]) -> set[int]:
        """Which of these have a prediction of their version in Label Studio."""
        wanted: dict[str, dict[int, int]] = {}
        for ordinal in ordinals:
            payload = run.payloads[ordinal]
            wanted.setdefault(payload["model_version"], {})[payload["task"]] = ordinal
        delivered: set[int] = set()
        for version, by_task in wanted.items():
            answered = with_prediction(self._api, run.target.project, sorted(by_task), version)
            delivered.update(by_task[task] for task in answered if task in by_task)
        return delivered

    def _import(self, run: _Run, ordinals: Sequence[int]) -> None:
        from label_studio_sdk.core.api_error import ApiError

        if not ordinals:
            return
        project = run.target.project
        with self._api.errors(f"project {project}"):
            try:
                answer = self._api.sdk.projects.import_predictions(
                    id=project,
                    request=[run.payloads[ordinal] for ordinal in ordinals],
                    request_options={"timeout_in_seconds": int(IMPORT_S)},
                )
            except ApiError as error:
                if error.status_code != httpx.codes.BAD_REQUEST:
                    raise
                if len(ordinals) == 1:
                    run.rejected[ordinals[0]] = f"Label Studio refuses it: {summary(error.body)}"
                    return
                answer = None
        if answer is None:
            self._import_acceptable(run, ordinals)
            return
        if answer.created == len(ordinals):
            run.pushed.update(ordinals)
            return
        delivered = self._delivered(run, ordinals)
        run.pushed.update(delivered)
        for ordinal in ordinals:
            if ordinal not in delivered:
                run.rejected[ordinal] = self._reason(run, run.payloads[ordinal])

    def _import_acceptable(self, run: _Run, ordinals: Sequence[int]) -> None:
        """Import what can be of a request that was refused, for one of them at least is bad."""
        run.renew()  # a claim is for one import
        run.pushed.update(self._delivered(run, ordinals))
        left = self._of_the_project(run, [ordinal for ordinal in ordinals if ordinal not in run.pushed])
        if len(left) < len(ordinals):
            self._import(run, left)
            return
        middle = len(left) // 2
        self._import(run, left[:middle])
        self._import(run, left[middle:])

    def _create(self, run: _Run, ordinal: int) -> None:
        from label_studio_sdk.core.api_error import ApiError

        payload = run.payloads[ordinal]
        with self._api.errors(f"project {run.target.project}"):
            try:
                self._api.sdk.predictions.create(**payload)
            except ApiError as error:
                if error.status_code not in (httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND):
                    raise
                run.rejected[ordinal] = f"Label Studio refuses it: {summary(error.body)}"
                return
        run.pushed.add(ordinal)

    def _reason(self, run: _Run, payload: dict[str, Any]) -> str:
        """Why the bulk endpoint dropped it: the server does not say, the same code run here may."""
        from label_studio_sdk.label_interface import LabelInterface

        if run.interface is None:
            run.interface = LabelInterface(run.target.label_config)
        problems = run.interface.validate_prediction(payload, return_errors=True)
        if problems:
            return f"Label Studio dropped it: {summary(problems[0])}"
        return "Label Studio dropped it: the project's label config has changed since it was scored"

    def _show(self, project: int, version: str) -> None:
        """Let the project show this version, once per version.

        Label Studio's labeling screen and its score column use only predictions of the project's own
        `model_version`. It is moved from another version of ours, or from none, when `version` is what the
        project's label config asks for now, of the model it has chosen; what people chose otherwise stays. Best
        effort: the predictions are stored.
        """
        ours = ModelVersion.parse(version)
        if ours is None or (project, version) in self._shown:
            return
        try:
            with self._api.errors(f"project {project}"):
                state = self._api.sdk.projects.get(id=project)
                shown = state.model_version or ""
                current = ModelVersion.of(ours.model, LabelConfig.parse(state.label_config or "").to_controls())
            if current != ours.uncalibrated or self._chosen(project) not in ("", ours.model):
                return
            if shown != version and is_ours_to_change(shown):
                show(self._api, project, version)
                self._moved(project)
        except PrelabelError as error:
            log.warning("project %s may not show %s yet: %s", project, version, error)
        else:
            self._shown.add((project, version))


def _without_name(prediction: Prediction) -> str:
    """Why it failed, without the image's name: so the same reason is one, whatever the images are called."""
    message = prediction.error.message if prediction.error else ""
    for image in prediction.item.images:
        message = message.removeprefix(f"{image.display}: ")
    return message
