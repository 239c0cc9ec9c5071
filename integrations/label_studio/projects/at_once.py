"""Removing all predictions of an earlier version in one request, where every task has one of the present.

It takes Label Studio 1.23 a sixteenth of the time of removing them singly, see `prune`. But whenever it removes a
version that way, a project that shows the title of an ML backend shows nothing afterwards. So for these seconds our
backend has another title. As the shown version goes with a title that is changed, the project shows the earlier
version for the moment of the change: that still has its predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ....schemas import ModelVersion, Settings
from ..api import counts, tasks
from ..api.connection import LabelStudioAPI
from . import registration
from .shown import show, shown_version

MOST = 500
"""Predictions of a version up to which it is removed so: while Label Studio is at it, some 2 s, nobody else writes."""


def whole_versions(api: LabelStudioAPI, project: int, current: str) -> list[str]:
    """Our earlier versions that can go as a whole.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    known = counts.predictions(api, project)
    if any(current in version != current for version in known):
        return []  # Label Studio looks for a part of a text: its count of tasks without ours would be wrong
    return [
        version
        for version, count in known.items()
        if version != current
        and ModelVersion.is_ours(version)
        and count <= MOST
        and not tasks.page(
            api, project, [tasks.with_version(version), tasks.without_version(current)], size=1, fields="id"
        ).total
    ]


def remove(
    api: LabelStudioAPI, settings: Settings, project: int, versions: list[str], current: str, backend_url: str
) -> None:
    """Remove all predictions of versions, if the project goes on showing what it shows; else nothing is done.

    Nobody else may change the backend's title meanwhile; after an error it may be another than `current`.

    Args:
        api: Label Studio.
        settings: what is handed to Label Studio for the backend.
        project: the project's number.
        versions: those of `whole_versions`.
        current: the present version.
        backend_url: our backend's address; empty when there is none.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    shown = shown_version(api, project)
    titled = [one for one in registration.backends(api, project) if shown and one["title"] == shown]
    if not titled:
        _remove(api, project, versions)
    elif shown == current and all(registration.is_at(one, backend_url) for one in titled):
        with _another_title(api, settings, project, current, backend_url, meanwhile=versions[0]):
            _remove(api, project, versions)


@contextmanager
def _another_title(
    api: LabelStudioAPI, settings: Settings, project: int, current: str, backend_url: str, *, meanwhile: str
) -> Iterator[None]:
    try:
        show(api, project, meanwhile)
        registration.register(api, settings, project, backend_url, f"{current} (removing earlier predictions)")
    finally:
        show(api, project, current)
    try:
        yield
    finally:
        registration.register(api, settings, project, backend_url, current)


def _remove(api: LabelStudioAPI, project: int, versions: list[str]) -> None:
    for version in versions:
        with api.errors(f"predictions of {version}"):
            path = f"api/projects/{project}/model-versions"
            api.json("DELETE", path, json={"model_version": version}, timeout=300)
