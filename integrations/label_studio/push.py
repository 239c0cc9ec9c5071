"""Finished predictions to Label Studio.

What Label Studio 1.23 does, and what follows:

- Its bulk endpoint takes 600 predictions in about a second, a single POST takes 0.2 s: bulk it is. But it validates
  and drops what it does not like without a word, so what it says it created is compared with what was sent.
- Its validator refuses every answer to nested `<Choices>`, in the only shape its editor shows. Those go to the
  single endpoint, which validates nothing.
- One task that is gone makes it refuse the whole request, so a refused request is halved until the task stands alone.
- Storing a prediction twice makes two. After a `TransientError` nobody knows what was stored: call again with
  `check_existing=True`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from ...schemas import Prediction, PrelabelError, PushTarget, Settings, model_version
from ...schemas.label_config import LabelConfig
from .api import LabelStudioAPI, summary
from .convert import prediction_to_label_studio
from .regions import OURS

log = logging.getLogger(__name__)

BULK_SIZE = 500
"""Predictions in one bulk request at most."""


@dataclass(frozen=True)
class PushReport:
    """What became of every prediction given to `Pusher.push`, by ordinal.

    Attributes:
        pushed: now in Label Studio.
        rejected: Label Studio does not want them and will not later; with the reason.
        skipped: nothing to push: already there, failed, or nothing chosen.
    """

    pushed: tuple[int, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    skipped: tuple[int, ...] = ()


@dataclass
class _Run:
    """One push on its way."""

    target: PushTarget
    payloads: dict[int, dict[str, Any]] = field(default_factory=dict)
    pushed: set[int] = field(default_factory=set)
    rejected: dict[int, str] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    interface: Any = None

    def report(self) -> PushReport:
        return PushReport(tuple(sorted(self.pushed)), tuple(sorted(self.rejected.items())), tuple(sorted(self.skipped)))


_ASKING = 4
"""Requests at once while Label Studio is asked what it has: it is a web server that people work on."""


class Pusher:
    """Pushes predictions into projects of one Label Studio. Thread-safe; close it after use, or use it with `with`.

    Raises:
        ConfigError: LABEL_STUDIO_URL or LABEL_STUDIO_API_KEY is not set.
    """

    def __init__(self, settings: Settings) -> None:
        self._api = LabelStudioAPI(settings)
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
        self, target: PushTarget, predictions: Sequence[Prediction], *, check_existing: bool = False
    ) -> PushReport:
        """Push predictions of one job.

        Args:
            target: the project, and the label config its tasks were scored with.
            predictions: their ordinals must differ.
            check_existing: ask first, and leave out tasks that already have a prediction of the same version.

        Raises:
            ConfigError: the key, the project or the label config is wrong; pushing again will not help.
            TransientError: Label Studio is down or slow; some may have been stored.
        """
        config = LabelConfig.parse(target.label_config)
        run = _Run(target)
        single: list[int] = []
        for prediction in predictions:
            self._prepare(run, prediction, config)
        if check_existing:
            run.skipped.update(self._stored(run, run.payloads))
        bulk = [ordinal for ordinal in run.payloads if ordinal not in run.skipped]
        refused = {control.from_name for control in config.controls if not control.bulk}
        if refused:
            single = [
                ordinal
                for ordinal in bulk
                if any(entry["from_name"] in refused for entry in run.payloads[ordinal]["result"])
            ]
            bulk = [ordinal for ordinal in bulk if ordinal not in set(single)]
        for start in range(0, len(bulk), BULK_SIZE):
            self._import(run, bulk[start : start + BULK_SIZE])
        for ordinal in single:
            self._create(run, ordinal)
        for version in {run.payloads[ordinal]["model_version"] for ordinal in run.pushed}:
            self._show(target.project, version)
        return run.report()

    def _prepare(self, run: _Run, prediction: Prediction, config: LabelConfig) -> None:
        if not prediction.item.id.isdigit():
            run.rejected[prediction.ordinal] = f"{prediction.item.id!r} is not the number of a Label Studio task"
            return
        payload = prediction_to_label_studio(prediction, config)
        if payload is None:
            run.skipped.add(prediction.ordinal)
        else:
            run.payloads[prediction.ordinal] = payload

    def _stored(self, run: _Run, ordinals: Sequence[int] | dict[int, Any]) -> set[int]:
        """Which of these have a prediction of their version in Label Studio."""

        def is_stored(ordinal: int) -> bool:
            payload = run.payloads[ordinal]
            with self._api.errors(f"predictions of task {payload['task']}"):
                known = self._api.sdk.predictions.list(task=payload["task"])
            return any(prediction.model_version == payload["model_version"] for prediction in known)

        # Label Studio has no way to ask for many tasks at once, so a few ask side by side.
        with ThreadPoolExecutor(_ASKING) as pool:
            return {ordinal for ordinal, known in zip(ordinals, pool.map(is_stored, ordinals), strict=True) if known}

    def _import(self, run: _Run, ordinals: Sequence[int]) -> None:
        from label_studio_sdk.core.api_error import ApiError

        if not ordinals:
            return
        project = run.target.project
        with self._api.errors(f"project {project}"):
            try:
                answer = self._api.sdk.projects.import_predictions(
                    id=project, request=[run.payloads[ordinal] for ordinal in ordinals]
                )
            except ApiError as error:
                if error.status_code != httpx.codes.BAD_REQUEST:
                    raise
                if len(ordinals) == 1:
                    run.rejected[ordinals[0]] = f"Label Studio refuses it: {summary(error.body)}"
                    return
                answer = None
        if answer is None:  # one of them is bad and nothing was stored
            middle = len(ordinals) // 2
            self._import(run, ordinals[:middle])
            self._import(run, ordinals[middle:])
            return
        if answer.created == len(ordinals):
            run.pushed.update(ordinals)
            return
        stored = self._stored(run, ordinals)
        run.pushed.update(stored)
        for ordinal in ordinals:
            if ordinal not in stored:
                run.rejected[ordinal] = self._reason(run, run.payloads[ordinal])

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
        project's label config asks for now; what people chose otherwise stays. Best effort: the predictions are stored.
        """
        ours = OURS.fullmatch(version)
        if ours is None or (project, version) in self._shown:
            return
        try:
            with self._api.errors(f"project {project}"):
                state = self._api.sdk.projects.get(id=project)
                shown = state.model_version or ""
                current = model_version(ours.group("model"), LabelConfig.parse(state.label_config or "").to_controls())
                if current != version:
                    return
                if shown != version and (not shown or OURS.fullmatch(shown)):
                    self._api.sdk.projects.update(id=project, model_version=version)
        except PrelabelError as error:
            log.warning("project %s may not show %s yet: %s", project, version, error)
        else:
            self._shown.add((project, version))
