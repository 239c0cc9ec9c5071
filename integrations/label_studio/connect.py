"""Registering prelabel with a Label Studio project. Running it again repairs and refreshes; it makes nothing twice.

Label Studio 1.23 facts it relies on:

- The labeling screen and the score column use predictions whose version is the project's `model_version`, and
  tasks are only sent while that equals the backend's title. So the backend's title is our model version.
- A default Label Studio refuses backends on private addresses with 403; with some of its protection off it refuses
  and still makes the backend, once more with every try.
- Only the first backend of a project is asked for predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from ...schemas import ConfigError, Item, ItemError, PrelabelError, Priority, PushTarget, Settings
from .api import LabelStudioAPI
from .convert import has_version, item_from_task
from .questions import Questions, reader

if TYPE_CHECKING:
    from ..client import Client

PAGE_SIZE = 200
"""Tasks listed per request."""

PRIVATE_ADDRESS = (
    "Label Studio refuses ML backends on private addresses. Where Label Studio runs, set "
    "USE_DEFAULT_BANNED_SUBNETS=false and USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16, which keeps cloud metadata "
    "addresses banned (or, with no protection left, ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false), "
    "restart it and connect again"
)


class Step(NamedTuple):
    """One thing `connect` looked at. "changed" is ok, and was not before."""

    name: str
    status: Literal["ok", "changed", "warning", "failed"]
    detail: str


def connect(
    settings: Settings,
    *,
    project: int,
    backend_url: str,
    model: str,
    client: Client | None = None,
    pre_label_all: bool = False,
) -> list[Step]:
    """Make `project` use the backend at `backend_url`.

    Args:
        settings: LABEL_STUDIO_URL and API key; BASIC_AUTH_* are given to Label Studio where set.
        project: the project's number.
        backend_url: the adapter as Label Studio reaches it.
        model: `schemas.model_id` of the checkpoint the workers serve.
        client: where `pre_label_all` queues.
        pre_label_all: also queue every task that has no prediction of the current version yet.

    Returns:
        The steps in order; the last has failed, or none has.
    """
    steps: list[Step] = []
    try:
        api = LabelStudioAPI(settings)
        try:
            for step in _steps(
                api, settings, project, backend_url.rstrip("/"), model, client if pre_label_all else None
            ):
                steps.append(step)
        finally:
            api.close()
    except PrelabelError as error:
        steps.append(Step(_NEXT[len(steps)] if len(steps) < len(_NEXT) else "tasks", "failed", str(error)))
    return steps


_NEXT = ("token", "project", "backend", "webhook", "model version", "tasks")


def _steps(
    api: LabelStudioAPI, settings: Settings, project: int, backend_url: str, model: str, client: Client | None
) -> Iterator[Step]:
    with api.errors("the user of the API key"):
        user = api.sdk.users.whoami()
    yield Step("token", "ok", f"Label Studio knows the API key as {user.email}")

    with api.errors(f"project {project}"):
        state = api.sdk.projects.get(id=project)
    label_config = state.label_config or ""
    questions = reader(model)(label_config)
    if questions.config is None:
        raise ConfigError(f"project {project}: {questions.problem}")
    names = ", ".join(control.from_name for control in questions.config.controls)
    skipped = "".join(f"; left to people: {name} ({reason})" for name, reason in questions.config.skipped)
    yield Step("project", "ok", f"{state.title!r}: pre-labels {names}{skipped}")

    yield _register(api, settings, project, backend_url, questions.version)
    yield _webhook(api, settings, project, backend_url)
    yield _show(api, project, questions.version)
    if client is not None:
        yield _pre_label_all(api, settings, client, project, label_config, model, questions)


def _register(api: LabelStudioAPI, settings: Settings, project: int, backend_url: str, version: str) -> Step:
    from label_studio_sdk.core.api_error import ApiError

    parts = urlsplit(backend_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"the backend URL must look like http://host:9090, got {backend_url!r}")
    fields: dict[str, Any] = {"project": project, "url": backend_url, "title": version, "auto_update": True}
    if settings.basic_auth_user and settings.basic_auth_pass:
        fields["auth_method"] = "BASIC_AUTH"
        fields["basic_auth_user"] = settings.basic_auth_user
        fields["basic_auth_pass"] = settings.basic_auth_pass.get_secret_value()
    before = _backends(api, project)
    mine = [backend for backend in before if backend.url.rstrip("/") == backend_url]
    try:
        with api.errors(f"ML backends of project {project}"):
            try:
                backend = api.sdk.ml.update(mine[0].id, **fields) if mine else api.sdk.ml.create(**fields)
            except ApiError as error:
                if error.status_code == 403 and "reserved network address" in str(error.body):
                    raise ConfigError(PRIVATE_ADDRESS) from None
                raise
    except PrelabelError:
        if not mine:
            _delete(api, [new for new in _backends(api, project) if new.url.rstrip("/") == backend_url])
        raise
    _delete(api, mine[1:])
    if str(backend.state) in ("DI", "ER"):
        said = f": {backend.error_message}" if backend.error_message else ""
        raise ConfigError(
            f"Label Studio cannot reach {backend_url} ({backend.readable_state or backend.state}{said}); "
            "the address must work from where Label Studio runs, and `prelabel serve` must be up"
        )
    others = [other for other in before if other.url.rstrip("/") != backend_url and (not mine or other.id < mine[0].id)]
    if others:
        return Step(
            "backend",
            "warning",
            f"project {project} has another ML backend first ({others[0].url}), and Label Studio asks only the first: "
            "remove it under Settings > Model",
        )
    if not mine:
        return Step("backend", "changed", f"registered {backend_url} as {version}")
    if mine[0].title != version or mine[1:]:
        return Step("backend", "changed", f"{backend_url} now has the title {version}")
    return Step("backend", "ok", f"{backend_url} is registered as {version}")


def _backends(api: LabelStudioAPI, project: int) -> list[Any]:
    with api.errors(f"ML backends of project {project}"):
        return sorted(api.sdk.ml.list(project=project), key=lambda backend: int(backend.id))


def _delete(api: LabelStudioAPI, backends: list[Any]) -> None:
    for backend in backends:
        with api.errors(f"ML backend {backend.id}"):
            api.sdk.ml.delete(backend.id)


def _webhook(api: LabelStudioAPI, settings: Settings, project: int, backend_url: str) -> Step:
    url = f"{backend_url}/webhook"
    with api.errors(f"webhooks of project {project}"):
        hooks = [hook for hook in api.sdk.webhooks.list(project=str(project)) if hook.url.rstrip("/") == url]
    if not hooks:
        return Step("webhook", "warning", f"project {project} has no webhook to {url}: new tasks wait until opened")
    if settings.basic_auth_user and not any("Authorization" in (hook.headers or {}) for hook in hooks):
        return Step(
            "webhook",
            "warning",
            f"the webhook to {url} carries no credentials, so prelabel ignores it: give it the header "
            "Authorization: Basic … under Settings > Webhooks",
        )
    return Step("webhook", "ok", f"new tasks are announced to {url}")


def _show(api: LabelStudioAPI, project: int, version: str) -> Step:
    with api.errors(f"project {project}"):
        shown = api.sdk.projects.get(id=project).model_version or ""
        if shown == version:
            return Step("model version", "ok", f"project {project} shows predictions of {version}")
        api.sdk.projects.update(id=project, model_version=version)
    return Step("model version", "changed", f"project {project} shows {version} instead of {shown or 'none'}")


def _pre_label_all(
    api: LabelStudioAPI,
    settings: Settings,
    client: Client,
    project: int,
    label_config: str,
    model: str,
    questions: Questions,
) -> Step:
    missing: list[str] = []
    queued = 0

    def items() -> Iterator[Item]:
        nonlocal queued
        assert questions.config is not None  # noqa: S101 - _steps has looked
        for task in tasks(api, project):
            if has_version(task, questions.version):
                continue
            try:
                item = item_from_task(task, questions.config, settings.label_studio_url, s3_direct=settings.s3_direct)
            except ItemError as error:
                missing.append(f"task {task.get('id')}: {error}")
            else:
                queued += 1
                yield item

    push = PushTarget(project=project, label_config=label_config)
    name = f"label studio project {project}: all tasks"
    job = client.submit(items(), questions.controls, priority=Priority.BULK, name=name, model=model, push=push)
    if missing:
        return Step("tasks", "warning", f"job {job.id}: {queued} tasks queued, {len(missing)} not ({missing[0]})")
    return Step(
        "tasks", "changed" if queued else "ok", f"job {job.id}: {queued} tasks without {questions.version} queued"
    )


def tasks(api: LabelStudioAPI, project: int) -> Iterator[dict[str, Any]]:
    """Every task of a project with its data and predictions, a page at a time."""
    page = seen = 0
    while True:
        page += 1
        with api.errors(f"tasks of project {project}"):
            response = api.http.get(
                "api/tasks/", params={"project": project, "page": page, "page_size": PAGE_SIZE, "fields": "all"}
            )
            response.raise_for_status()
            body = response.json()
        found = body.get("tasks", []) if isinstance(body, dict) else []
        seen += len(found)
        yield from found
        if not found or seen >= body.get("total", 0):
            return
