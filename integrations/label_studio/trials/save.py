"""Saving a label config in Label Studio, and what Label Studio says against it, in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing

import httpx

from ....schemas import ConfigError, Settings
from ..api.connection import LabelStudioAPI


def digest_of(label_config: str) -> str:
    """32 hex digits that tell this label config from any other."""
    return hashlib.blake2b(label_config.encode(), digest_size=16).hexdigest()


def refusal_of(api: LabelStudioAPI, project: int, label_config: str) -> str:
    """What Label Studio's settings page would refuse this label config for; empty where it would save it.

    It asks more of a label config than a PATCH does: that no annotation has a label which is not there any more.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"project {project}"):
        response = api.http.post(f"api/projects/{project}/validate/", json={"label_config": label_config})
        if response.status_code == httpx.codes.BAD_REQUEST:
            return _in_words(response)
        response.raise_for_status()
    return ""


def save_label_config(settings: Settings, project: int, label_config: str, *, instead_of: str) -> None:
    """Have a project labelled by another label config from now on.

    Args:
        settings: LABEL_STUDIO_URL and its API key.
        project: the project's number.
        label_config: the new one, XML.
        instead_of: `digest_of` the one that it was tried against.

    Raises:
        ConfigError: Label Studio refuses it, the message is its own; or somebody has changed the present one since.
        TransientError: Label Studio does not answer.
    """
    with closing(LabelStudioAPI(settings)) as api, api.errors(f"project {project}"):
        present = api.project(project).get("label_config") or ""
        if digest_of(present) != instead_of:
            raise ConfigError(
                f"the label config of project {project} has been changed since: nothing is saved, try yours again"
            )
        if refusal := refusal_of(api, project, label_config):
            raise ConfigError(f"Label Studio does not take the label config: {refusal}")
        response = api.http.patch(f"api/projects/{project}/", json={"label_config": label_config})
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise ConfigError(f"Label Studio does not take the label config: {_in_words(response)}")
        response.raise_for_status()


def _in_words(response: httpx.Response) -> str:
    """What Label Studio says against it, in one line; its answer names fields and lists texts."""
    try:
        body = response.json()
    except ValueError:
        return "it does not say why"
    said = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else body
    lines = dict.fromkeys(" ".join(text.split()) for text in _texts(said))
    return ("; ".join(filter(None, lines)) or "it does not say why")[:1000]


def _texts(said: object) -> Iterator[str]:
    if isinstance(said, dict):
        said = list(said.values())
    if isinstance(said, list):
        for one in said:
            yield from _texts(one)
    elif isinstance(said, str):
        yield said
