"""What makes a Label Studio project use the adapter: an ML backend and a webhook.

Label Studio 1.23 facts it relies on:

- Tasks are only sent while the project's `model_version` equals the backend's title. So that is our model version;
  see `shown`.
- Only the first backend of a project is asked for predictions.
- With a backend it makes a webhook for all actions, without a header, unless the project has one with that URL; it
  stays when the backend goes.
- A default Label Studio refuses backends and webhooks on private addresses with 403; with some of its protection
  off it refuses and still makes the backend, once more with every try.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from ....schemas import ConfigError, PrelabelError, Settings
from ..api.connection import LabelStudioAPI, NotThere

SECRET_HEADER: Final = "X-Prelabel-Secret"  # noqa: S105  # a name
"""Header our webhooks carry the secret in."""

ACTIONS: Final = ("TASKS_CREATED", "TASKS_DELETED", "PROJECT_UPDATED")
"""What our webhooks announce."""

_ANY_HOST: Final = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound

PRIVATE_ADDRESS: Final = (
    "Label Studio refuses ML backends and webhooks on private addresses. Where Label Studio runs, set "
    "USE_DEFAULT_BANNED_SUBNETS=false and USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16, which keeps cloud metadata "
    "addresses banned (or, with no protection left, ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false), "
    "restart it and connect again"
)


def own_url(settings: Settings) -> str:
    """The adapter as Label Studio reaches it, as the settings have it: PRELABEL_ADAPTER_URL, else where it listens."""
    if settings.adapter_url:
        return settings.adapter_url
    host = "127.0.0.1" if settings.host in _ANY_HOST else settings.host
    return f"http://{host}:{settings.port}"


class Step(NamedTuple):
    """One thing that was looked at. "changed" is ok, and was not before."""

    name: str
    status: Literal["ok", "changed", "warning", "failed"]
    detail: str


class StepFailed(Exception):
    """A step that could not be done; its cause is the `PrelabelError` that says why.

    Attributes:
        step: the step's name.
    """

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


@contextmanager
def step(name: str) -> Iterator[None]:
    """Have what goes wrong in the block told of this step.

    Raises:
        StepFailed: something did.
    """
    try:
        yield
    except PrelabelError as error:
        raise StepFailed(name) from error


def backends(api: LabelStudioAPI, project: int) -> list[dict[str, Any]]:
    """The project's ML backends, the one Label Studio asks first.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"ML backends of project {project}"):
        return sorted(api.json("GET", "api/ml", params={"project": project}), key=lambda one: int(one["id"]))


def is_at(backend: dict[str, Any], url: str) -> bool:
    """Whether an ML backend has this address."""
    return _same(str(backend["url"]), url)


def register(api: LabelStudioAPI, settings: Settings, project: int, backend_url: str, version: str) -> Step:
    """Have one ML backend with our URL and the version as its title.

    Raises:
        ConfigError: Label Studio refuses the address or cannot reach it; what it half made is removed.
    """
    parts = urlsplit(backend_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"the backend URL must look like http://host:9090, got {backend_url!r}")
    fields: dict[str, Any] = {"project": project, "url": backend_url, "title": version, "auto_update": True}
    if settings.basic_auth_user and settings.basic_auth_pass:
        fields["auth_method"] = "BASIC_AUTH"
        fields["basic_auth_user"] = settings.basic_auth_user
        fields["basic_auth_pass"] = settings.basic_auth_pass.get_secret_value()
    before = backends(api, project)
    mine = [backend for backend in before if _same(backend["url"], backend_url)]
    right = len(mine) == 1 and _is_right(mine[0], fields)
    if right:
        backend = mine[0]
    else:
        try:
            with api.errors(f"ML backends of project {project}"):
                path = f"api/ml/{mine[0]['id']}" if mine else "api/ml"
                backend = api.json("PATCH" if mine else "POST", path, json=fields)
        except PrelabelError as error:
            known = {one["id"] for one in before}
            half_made = [one for one in backends(api, project) if one["id"] not in known]
            _delete(api, [one for one in half_made if _same(one["url"], backend_url)])
            raise _explained(error, backend_url) from None
        _delete(api, mine[1:])
    if str(backend.get("state")) in ("DI", "ER"):
        said = f": {backend['error_message']}" if backend.get("error_message") else ""
        raise ConfigError(
            f"Label Studio cannot reach {backend_url} ({backend.get('readable_state') or backend['state']}{said}); "
            "the address must work from where Label Studio runs, and `prelabel serve` must be up"
        )
    first = before[0] if before else None
    if first is not None and not _same(first["url"], backend_url):
        return Step(
            "backend",
            "warning",
            f"project {project} has another ML backend first ({first['url']}), and Label Studio asks only the first: "
            "remove it under Settings > Model",
        )
    if not mine:
        return Step("backend", "changed", f"registered {backend_url} as {version}")
    if not right:
        return Step("backend", "changed", f"{backend_url} now has the title {version}")
    return Step("backend", "ok", f"{backend_url} is registered as {version}")


def announce(api: LabelStudioAPI, project: int, backend_url: str, secret: str) -> Step:
    """Have one webhook to the adapter, with the secret and only the actions it uses.

    Raises:
        ConfigError: Label Studio refuses the address.
    """
    url = f"{backend_url}/webhook"
    fields: dict[str, Any] = {
        "url": url,
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": sorted(ACTIONS),
        "headers": {SECRET_HEADER: secret},
        "is_active": True,
    }
    hooks = webhooks(api, project, backend_url)
    right = next((hook for hook in hooks if _is_right(hook, fields)), None)
    if right is not None:
        _delete_webhooks(api, [hook for hook in hooks if hook is not right])
        return Step("webhook", "changed" if hooks[1:] else "ok", f"Label Studio announces new tasks to {url}")
    try:
        with api.errors(f"webhooks of project {project}"):
            if hooks:
                api.json("PATCH", f"api/webhooks/{hooks[0]['id']}/", json=fields)
            else:
                api.json("POST", "api/webhooks/", json={**fields, "project": project})
    except PrelabelError as error:
        raise _explained(error, backend_url) from None
    _delete_webhooks(api, hooks[1:])
    was = "instead of Label Studio's own for all actions" if hooks else "new"
    return Step("webhook", "changed", f"Label Studio announces new tasks to {url} with a secret ({was})")


def webhooks(api: LabelStudioAPI, project: int, backend_url: str) -> list[dict[str, Any]]:
    """The project's webhooks to the adapter.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"webhooks of project {project}"):
        hooks = api.json("GET", "api/webhooks/", params={"project": project})
    return [hook for hook in hooks if _same(hook["url"], f"{backend_url}/webhook") and hook["project"] == project]


def unregister(api: LabelStudioAPI, project: int, backend_url: str) -> list[Step]:
    """Remove our ML backend and webhook.

    Raises:
        StepFailed: Label Studio did not do one of them.
    """
    with step("webhook"):  # looked for before the backend goes: it may be Label Studio's own for that backend
        hooks = webhooks(api, project, backend_url)
    with step("backend"):
        rows = [backend for backend in backends(api, project) if _same(backend["url"], backend_url)]
        _delete(api, rows)
    with step("webhook"):
        _delete_webhooks(api, hooks)
    return [
        Step(name, "changed" if removed else "ok", f"{len(removed)} removed" if removed else "there is none")
        for name, removed in (("backend", rows), ("webhook", hooks))
    ]


def _is_right(there: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether what Label Studio has is what we want; a password cannot be read back and is taken for right."""
    for name, value in fields.items():
        if name == "basic_auth_pass":
            if not there.get("basic_auth_pass_is_set"):
                return False
        elif name == "url":
            if not _same(there["url"], value):
                return False
        elif name == "actions":
            if sorted(there.get(name) or []) != value:
                return False
        elif there.get(name) != value:
            return False
    return True


def _same(url: str, other: str) -> bool:
    return url.rstrip("/") == other.rstrip("/")


def _explained(error: PrelabelError, backend_url: str) -> PrelabelError:
    said = str(error)
    if "reserved network address" in said:
        return ConfigError(PRIVATE_ADDRESS)
    if "health check failed" in said or "resolve hostname" in said:
        return ConfigError(
            f"Label Studio cannot reach {backend_url}: the address must work from where Label Studio runs "
            "(--backend-url), and `prelabel serve` must be up"
        )
    return error


def _delete(api: LabelStudioAPI, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        with api.errors(f"ML backend {row['id']}"):
            api.json("DELETE", f"api/ml/{row['id']}")


def _delete_webhooks(api: LabelStudioAPI, hooks: list[dict[str, Any]]) -> None:
    for hook in hooks:
        try:
            with api.errors(f"webhook {hook['id']}"):
                api.json("DELETE", f"api/webhooks/{hook['id']}/")
        except NotThere:
            continue
