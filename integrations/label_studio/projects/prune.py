"""Removing predictions of our earlier versions, where there is one of the present."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from ....schemas import ModelVersion
from ..api import tasks
from ..api.connection import LabelStudioAPI
from . import registration

log = logging.getLogger(__name__)

ALL_OF_A_VERSION = 1000
"""Predictions of an old version up to which Label Studio is asked to remove all in one transaction, some 10 s long."""

REMOVED_PER_LOOK = 2000
"""Old predictions removed one by one (0.1 s each) in one look; the next goes on."""


def prune(api: LabelStudioAPI, project: int, current: str, renew: Callable[[], object]) -> bool:
    """Remove predictions of our earlier versions where there is one of the present.

    Args:
        api: Label Studio.
        project: the project's number.
        current: the present version.
        renew: called now and then: this may take minutes.

    Returns:
        Whether some may be left.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    with api.errors(f"model versions of project {project}"):
        known = api.json("GET", f"api/projects/{project}/model-versions", params={"extended": "true"}).get("static", [])
    # Label Studio looks for a part of a text: where ours is part of another, its count of tasks without is wrong.
    is_part = any(current in str(old["model_version"]) != current for old in known)
    removed = 0
    for old in known:
        version, count = str(old["model_version"]), int(old["count"])
        if version == current or not ModelVersion.is_ours(version):
            continue
        lacks = [tasks.with_version(version), tasks.without_version(current)]
        lacking = tasks.page(api, project, lacks, size=1, fields="id").total
        if not lacking and not is_part and count <= ALL_OF_A_VERSION:
            _remove_all(api, project, version, current)
            log.info("project %s: %d predictions of %s are replaced", project, count, version)
            continue
        for prediction in _replaced(api, project, version, current):
            if removed >= REMOVED_PER_LOOK:
                return True
            with api.errors(f"prediction {prediction}"):
                api.json("DELETE", f"api/predictions/{prediction}/")
            removed += 1
            if removed % 50 == 0:
                renew()
    return False


def _remove_all(api: LabelStudioAPI, project: int, version: str, current: str) -> None:
    is_shown = registration.shown_version(api, project) == current
    with api.errors(f"predictions of {version}"):
        path = f"api/projects/{project}/model-versions"
        api.json("DELETE", path, json={"model_version": version}, timeout=300)
    if is_shown:  # Label Studio forgets it with any removal where it is a backend's title
        registration.show(api, project, current)


def _replaced(api: LabelStudioAPI, project: int, version: str, current: str) -> Iterator[int]:
    """Ids of a version's predictions of tasks that have one of the present."""
    both = [tasks.with_version(version), tasks.with_version(current)]
    for page in tasks.pages(api, project, both, fields="id,predictions"):
        for task in page.tasks:
            if any(prediction["model_version"] == current for prediction in task["predictions"]):
                yield from (one["id"] for one in task["predictions"] if one["model_version"] == version)
