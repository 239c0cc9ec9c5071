"""`prelabel connect` and `prelabel disconnect`. Connecting again repairs and refreshes; it makes nothing twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import httpx

from ....schemas import ConfigError, ModelVersion, PrelabelError, Priority, Settings
from ...broker.errors import shown_url
from ...client.capable import refuse_unanswerable
from ...client.client import Client
from ..api import tasks
from ..api.connection import LabelStudioAPI
from ..convert.questions import LabelConfigReader, Unusable
from . import registration
from .look import LookReport
from .register import Projects
from .registration import SECRET_HEADER, Step, StepFailed, step
from .rehearsal import dropped_answers
from .sample import try_images
from .scan import Scanner
from .shown import show, shown_version, version_to_show

CHECK_S = 10.0
"""Seconds the adapter gets to say whether it reaches Label Studio."""


def connect(
    settings: Settings,
    *,
    project: int,
    backend_url: str,
    model: str,
    client: Client,
    chosen: str | None = None,
    pre_label_all: bool = False,
    unlabelled_only: bool | None = None,
    priority: Priority | None = None,
) -> list[Step]:
    """Make `project` use the adapter at `backend_url`.

    Args:
        settings: LABEL_STUDIO_URL and API key; BASIC_AUTH_* are given to Label Studio where set.
        project: the project's number.
        backend_url: the adapter as Label Studio reaches it.
        model: `schemas.model_id` of the adapter's model.
        client: the adapter's and the workers' Redis.
        chosen: `schemas.model_id` of the model that scores the project from now on; empty for the adapter's, and None
            leaves it as it was. Where that is another than before, the project is scored again.
        pre_label_all: also queue every task that has no prediction of the current version yet.
        unlabelled_only: leave tasks alone that somebody has labelled; None leaves it as it was.
        priority: the queue the project's tasks go to from now on; None leaves it as it was.

    Returns:
        The steps in order; the last has failed, or none has.
    """
    steps: list[Step] = []
    try:
        with closing(_api(settings)) as api:
            asked = _asked(unlabelled_only, priority, chosen)
            for done in _steps(api, settings, project, _with_scheme(backend_url), model, client, pre_label_all, asked):
                steps.append(done)  # what was done before a failure is told too
    except StepFailed as failure:
        steps.append(Step(failure.step, "failed", str(failure.__cause__)))
    return steps


def disconnect(settings: Settings, *, project: int, backend_url: str, client: Client) -> list[Step]:
    """Undo `connect`: ML backend, webhook and jobs under way; predictions stay.

    Returns:
        The steps in order; the last has failed, or none has.
    """
    steps: list[Step] = []
    try:
        with closing(_api(settings)) as api:
            projects = Projects(client)
            with step("project"):
                known = _known_url(projects, project)
            shown = _shown_version(api, project)
            for url in dict.fromkeys((_with_scheme(backend_url), known)):
                if url:
                    steps += registration.unregister(api, project, url)
            with step("jobs"):
                stopped = [job_id for job_id in projects.working(project) if client.job(job_id).cancel()]
            steps.append(Step("jobs", "changed" if stopped else "ok", f"{len(stopped)} cancelled"))
            with step("project"):
                projects.remove(project)
            with step("model version"):
                if _has_predictions(api, project, shown):
                    show(api, project, shown)  # Label Studio forgets it with the backend of that title
    except StepFailed as failure:
        failed = Step(failure.step, "failed", str(failure.__cause__))
        return [*(one for one in _merged(steps) if one.name != failed.name), failed]
    return _merged(steps)


def _asked(unlabelled_only: bool | None, priority: Priority | None, chosen: str | None) -> dict[str, Any]:
    """The fields of `ProjectState` that somebody wants changed."""
    fields = {"unlabelled_only": unlabelled_only, "priority": priority and priority.value, "model": chosen}
    return {name: value for name, value in fields.items() if value is not None}


def _with_scheme(url: str) -> str:
    """`http://localhost:9090` for `localhost:9090`, as people write it."""
    return (url if "://" in url else f"http://{url}").rstrip("/")


def _api(settings: Settings) -> LabelStudioAPI:
    with step("token"):
        return LabelStudioAPI(settings)


def _shown_version(api: LabelStudioAPI, project: int) -> str:
    """What the project shows; nothing where it is gone, or cannot be asked: the next step says so."""
    try:
        return shown_version(api, project)
    except PrelabelError:
        return ""


def _has_predictions(api: LabelStudioAPI, project: int, version: str) -> bool:
    """Whether it is a version of ours of which the project has predictions: they stay, and stay shown."""
    if not ModelVersion.is_ours(version):
        return False
    with_some = tasks.page(api, project, [tasks.with_version(version)], size=1, fields="id,predictions_model_versions")
    return bool(with_some.total)


def _known_url(projects: Projects, project: int) -> str:
    """The adapter's address the project was connected with; empty when it was not, or that cannot be read."""
    try:
        return projects.state(project).backend_url if projects.serves(project) else ""
    except ConfigError:
        return ""


def _steps(
    api: LabelStudioAPI,
    settings: Settings,
    project: int,
    backend_url: str,
    model: str,
    client: Client,
    pre_label_all: bool,
    asked: Mapping[str, Any],
) -> Iterator[Step]:
    with step("token"), api.errors("the user of the API key"):
        user = api.json("GET", "api/current-user/whoami")
    yield Step("token", "ok", f"Label Studio knows the API key as {user.get('email')}")

    projects = Projects(client)
    with step("adapter"):
        was_chosen = projects.model_of(project, "")
        chosen = asked.get("model", was_chosen)
    with step("project"):
        record = api.project(project)
        questions = LabelConfigReader(chosen or model).read(record.get("label_config") or "")
        if isinstance(questions, Unusable):
            raise ConfigError(f"project {project}: {questions.problem}")
        refuse_unanswerable(client.connection, questions.model, questions.controls)
    names = ", ".join(control.from_name for control in questions.config.controls)
    skipped = "".join(f"; left to people: {name} ({reason})" for name, reason in questions.config.skipped)
    yield Step("project", "ok", f"{record.get('title')!r}: pre-labels {names}{skipped}")

    with step("answers"):
        dropped = dropped_answers(record.get("label_config") or "", questions.config)
    if dropped:
        yield Step("answers", "warning", dropped)

    with step("adapter"):
        secret = projects.secret()
        adapter = _adapter(api, settings, backend_url, secret)
        was_served = projects.serves(project)
    yield adapter
    # Before the backend: Label Studio makes a webhook of its own for a backend that has none.
    with step("webhook"):
        hooks_before = registration.webhooks(api, project, backend_url)
        announced = registration.announce(api, project, backend_url, secret)
    with step("backend"):
        if chosen != was_chosen:  # now: while Label Studio makes the backend it asks the adapter for the version
            projects.update(project, model=chosen)
        try:
            title = version_to_show(api, project, questions.version)
            registered = registration.register(api, settings, project, backend_url, title)
        except PrelabelError:
            if chosen != was_chosen:
                projects.update(project, model=was_chosen)
            if not hooks_before:
                registration.unregister(api, project, backend_url)
            raise
    if "model" in asked or chosen:
        yield _scored_with(questions.model, was_chosen or model)
    yield registered
    yield announced
    before = _known_url(projects, project)
    if before and before != backend_url:
        with step("old address"):
            gone = [old for old in registration.unregister(api, project, before) if old.status == "changed"]
        if gone:
            yield Step("old address", "changed", f"{before}: {' and '.join(old.name for old in gone)} removed")
    with step("model version"):
        shown = show(api, project, title)
    yield shown
    with step("tasks"):
        state = projects.state(project)
        floor = state.floor if was_served else tasks.newest(api, project)
        projects.add(
            project,
            backend_url=backend_url,
            title=title,
            floor=0 if pre_label_all else floor,
            prune=state.prune or not was_served,
            stopped=False,
            problem="",
            backend_seen=time.time(),
            **asked,
        )
    with step("image"):
        tried = try_images(api, settings, client, project, questions)
    yield tried
    with step("tasks"):
        if not pre_label_all:
            projects.hint(project)
            return
        if projects.state(project).paused:
            again = f"prelabel resume --project {project}, then connect --all again"
            yield Step("tasks", "warning", f"the project is paused, so nothing is queued: {again}")
            return
        report = Scanner(api, client, projects, model).look(project, everything=True)
    yield _queued(report, projects.state(project).unlabelled_only)


def _adapter(api: LabelStudioAPI, settings: Settings, backend_url: str, secret: str) -> Step:
    """Ask the adapter whether it reaches Label Studio: its network and its key may not be ours."""
    auth = None
    if settings.basic_auth_user and settings.basic_auth_pass:
        auth = httpx.BasicAuth(settings.basic_auth_user, settings.basic_auth_pass.get_secret_value())
    try:
        with httpx.Client(timeout=CHECK_S + 5, trust_env=False, auth=auth) as http:
            answer = http.post(f"{backend_url}/check", headers={SECRET_HEADER: secret})
            body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Step(
            "adapter",
            "warning",
            f"{backend_url} cannot be asked from here ({type(error).__name__}); Label Studio tries next",
        )
    if answer.status_code == httpx.codes.FORBIDDEN and str(body.get("detail", "")).startswith("wrong secret"):
        # The adapter would serve none of what is written here, and the webhook's right secret would be overwritten.
        raise ConfigError(
            f"the adapter at {backend_url} does not use the Redis of this command, {shown_url(settings)}, or does "
            "not reach its own: set PRELABEL_REDIS_URL to the adapter's"
        )
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise ConfigError(
            f"the adapter at {backend_url} refuses the user or the password: set BASIC_AUTH_USER and BASIC_AUTH_PASS "
            "to the adapter's"
        )
    if not answer.is_success:
        return Step("adapter", "warning", f"{backend_url} answers {answer.status_code}: {body.get('detail', '')}")
    if "problem" in body:
        raise ConfigError(f"the adapter at {backend_url} does not reach Label Studio: {body['problem']}")
    elsewhere = "" if body["label_studio"] == api.url else f" at {body['label_studio']}"
    return Step("adapter", "ok", f"{backend_url} reaches Label Studio{elsewhere} as {body['user']}")


def _scored_with(model: str, before: str) -> Step:
    if model == before:
        return Step("model", "ok", f"scored with {model}")
    return Step("model", "changed", f"scored with {model} from now on, and again where {before} has")


def _queued(report: LookReport, unlabelled_only: bool) -> Step:
    """What Label Studio lacked when it was asked, and what becomes of it."""
    left = f"; {report.refused} cannot be scored ({report.refusal})" if report.refused else ""
    if report.partial:
        left += f"; {report.partial} can be scored in part only ({report.gap})"
    kind = " unlabelled" if unlabelled_only else ""
    on_their_way = f"{report.under_way} tasks are on their way already" if report.under_way else ""
    if report.queued:
        told = f"job {report.job_id}: {report.queued} tasks queued" + (f"; {on_their_way}" if on_their_way else "")
    elif on_their_way:
        told = f"{on_their_way}; every other{kind} task has a prediction of {report.version}"
    else:
        told = f"every{' other' if report.refused else ''}{kind} task has a prediction of {report.version}"
    return Step("tasks", "warning" if left else "changed" if report.queued else "ok", told + left)


def _merged(steps: list[Step]) -> list[Step]:
    """One step a name: the one that changed something, where there is one."""
    best: dict[str, Step] = {}
    for one in steps:
        if one.name not in best or one.status != "ok":
            best[one.name] = one
    return list(best.values())
