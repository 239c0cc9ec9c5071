"""Label Studio: the key, and whether each of the two reaches the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ....integrations.client.checkpoint import settings_model_id
from ....schemas.errors import PrelabelError
from ....schemas.model_version import ModelVersion
from ....schemas.settings import Settings
from ..console import needs
from . import Check, Checks

if TYPE_CHECKING:
    from ....integrations.label_studio.api.connection import LabelStudioAPI
    from ....integrations.label_studio.convert.questions import Questions, Unusable

_PROJECTS = 20
"""Projects looked through for ours when none is named: Label Studio asks each one's backend how it is."""

_TIMEOUT_S = 20.0


@contextmanager
def connected(settings: Settings) -> Iterator[LabelStudioAPI]:
    """A connection to Label Studio, for one check.

    Raises:
        ConfigError: the adapter's packages are not installed, or the key is not set.
    """
    with needs("label-studio"):
        from ....integrations.label_studio.api.connection import LabelStudioAPI
    api = LabelStudioAPI(settings, timeout_s=_TIMEOUT_S)
    try:
        yield api
    finally:
        api.close()


def questions_of(settings: Settings, project: int, label_config: str) -> Questions | Unusable:
    """What a project's label config asks, of the model that scores the project; the settings' own where Redis is away.

    Args:
        settings: where Redis is.
        project: its number.
        label_config: XML.
    """
    from ....integrations.client.client import Client
    from ....integrations.label_studio.projects.questions import ProjectReader
    from ....integrations.label_studio.projects.register import Projects

    with Client(settings) as client:
        return ProjectReader(Projects(client), settings_model_id(settings)).read_at_once(project, label_config)


def get(api: LabelStudioAPI, path: str, what: str, **params: Any) -> Any:
    """A JSON answer of Label Studio.

    Raises:
        PrelabelError: there is none; says why.
    """
    with api.errors(what):
        return api.http.get(path, params=params).raise_for_status().json()


def check_label_studio(settings: Settings, project: int | None) -> Checks:
    """From here to Label Studio, then from Label Studio to the adapter, as it says itself.

    Args:
        settings: LABEL_STUDIO_URL and its key.
        project: look at this one; else at those that use prelabel.
    """
    if not settings.label_studio_url:
        yield Check("label studio", "warn", "LABEL_STUDIO_URL is not set", "only needed to push predictions")
        return
    with connected(settings) as api:
        user = get(api, "api/current-user/whoami", "the user of the API key")
        yield Check("label studio", "ok", f"{api.url}{_version(api)} takes the key of {user.get('email', 'a user')}")
        if project is None:
            yield from _search(api)
            return
        state = get(api, f"api/projects/{project}/", f"project {project}")
        yield from _config(settings, state, project)
        yield from _backends(api, project)


def _version(api: LabelStudioAPI) -> str:
    try:
        return f" ({get(api, 'api/version', 'its version')['release']})"
    except (PrelabelError, KeyError, TypeError):
        return ""


def _search(api: LabelStudioAPI) -> Checks:
    answer = get(api, "api/projects/", "the projects", page_size=_PROJECTS)
    projects = answer.get("results", []) if isinstance(answer, dict) else answer
    lines = [
        _backend(project["id"], backend)
        for project in projects
        for backend in _list(api, project["id"])
        if ModelVersion.is_ours(backend.get("title") or "")
    ]
    yield from lines
    if not lines:
        yield Check(
            "backend", "warn", f"none of the {len(projects)} projects looked at uses prelabel",
            "prelabel connect --project N",
        )  # fmt: skip


def _config(settings: Settings, state: dict[str, Any], project: int) -> Checks:
    from ....integrations.label_studio.convert.questions import Unusable

    questions = questions_of(settings, project, state.get("label_config") or "")
    if isinstance(questions, Unusable):
        yield Check("project", "fail", f"project {project}: {questions.problem}", "Settings > Labeling Interface")
        return
    shown = state.get("model_version") or ""
    version = ModelVersion.parse(shown)
    if shown == questions.version or (version is not None and str(version.uncalibrated) == questions.version):
        yield Check("project", "ok", f"project {project} shows predictions of {shown}")
    else:
        yield Check(
            "project", "warn",
            f"project {project} shows predictions of {shown or 'nothing'}, the settings here make {questions.version}",
            f"prelabel connect --project {project}",
        )  # fmt: skip


def _list(api: LabelStudioAPI, project: int) -> list[dict[str, Any]]:
    """The project's ML backends; to answer, Label Studio 1.23 asks each of them for its /health."""
    backends: list[dict[str, Any]] = get(api, "api/ml", f"ML backends of project {project}", project=project)
    return sorted(backends, key=lambda backend: int(backend["id"]))


def _backends(api: LabelStudioAPI, project: int) -> Checks:
    backends = _list(api, project)
    ours = [backend for backend in backends if ModelVersion.is_ours(backend.get("title") or "")]
    if not ours:
        yield Check(
            "backend", "fail", f"project {project} does not use prelabel", f"prelabel connect --project {project}"
        )
        return
    if backends[0] not in ours:
        yield Check(
            "backend", "warn", f"project {project} asks {backends[0]['url']}, its first backend, and no other",
            "remove it under Settings > Model",
        )  # fmt: skip
    for backend in ours:
        yield _backend(project, backend)
    url = f"{ours[0]['url'].rstrip('/')}/webhook"
    hooks = get(api, "api/webhooks/", f"webhooks of project {project}", project=project)
    if not any(hook.get("url", "").rstrip("/") == url for hook in hooks):
        yield Check(
            "webhook", "warn", f"project {project} does not announce new tasks to {url}: they wait until opened",
            f"prelabel connect --project {project}",
        )  # fmt: skip


def _backend(project: int, backend: dict[str, Any]) -> Check:
    where = f"project {project}: Label Studio"
    if backend.get("state") == "CO":
        return Check("backend", "ok", f"{where} reaches {backend['url']}")
    import httpx

    said = " ".join(str(backend.get("error_message") or backend.get("readable_state") or backend.get("state")).split())
    detail = f"{where} does not reach {backend['url']} ({said[:200]})"
    if "reserved network address" in said:
        from ....integrations.label_studio.projects.registration import PRIVATE_ADDRESS

        return Check("backend", "fail", detail, PRIVATE_ADDRESS)
    if "uthentication" in said or "401" in said:
        return Check(
            "backend",
            "fail",
            detail,
            f"prelabel connect --project {project} with the adapter's BASIC_AUTH_USER, _PASS",
        )
    try:
        httpx.get(f"{backend['url'].rstrip('/')}/health", timeout=3)
    except httpx.HTTPError:
        return Check("backend", "fail", f"{detail}; nor does this machine", "start prelabel serve there")
    return Check(
        "backend", "fail", f"{detail}, though it answers from here",
        "prelabel connect with an address that works where Label Studio runs (in a container localhost is itself)",
    )  # fmt: skip
