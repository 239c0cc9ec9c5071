"""Which version's predictions a project shows, and when that changes.

The labeling screen and the score column use predictions whose version is the project's `model_version`. Label Studio
1.23 moves that itself: with the title of an ML backend, if the project shows that title. So where a taxonomy or the
model has changed, both stay for as long as the project has predictions of the version it shows and none of the present
one: there is no moment at which a project that has predictions shows none. Whoever stores the first of the present
version lets the project show it, and the adapter then renames its backend.
"""

from __future__ import annotations

from ....schemas import ModelVersion
from ..api import counts
from ..api.connection import LabelStudioAPI
from .registration import Step


def shown_version(api: LabelStudioAPI, project: int) -> str:
    """The version whose predictions the project shows; empty when it shows none.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    return str(api.project(project).get("model_version") or "")


def is_ours_to_change(shown: str) -> bool:
    """Whether another version may be shown instead: nothing is, or one of ours. What people chose otherwise stays."""
    return not shown or ModelVersion.is_ours(shown)


def version_to_show(api: LabelStudioAPI, project: int, present: str) -> str:
    """The present version; or our earlier one that is shown, while the project has predictions of that alone.

    Args:
        api: Label Studio.
        project: the project's number.
        present: the version its label config asks for.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    shown = shown_version(api, project)
    if shown == present or not ModelVersion.is_ours(shown):
        return present
    held = counts.predictions(api, project)
    return shown if shown in held and present not in held else present


def show(api: LabelStudioAPI, project: int, version: str) -> Step:
    """Let the project show predictions of this version, whatever it showed before; see `is_ours_to_change`.

    Args:
        api: Label Studio.
        project: the project's number.
        version: one that a backend has as its title, or that has predictions; Label Studio refuses others.

    Raises:
        PrelabelError: see `LabelStudioAPI.errors`.
    """
    shown = shown_version(api, project)
    if shown == version:
        return Step("model version", "ok", f"project {project} shows predictions of {version}")
    with api.errors(f"project {project}"):
        api.json("PATCH", f"api/projects/{project}/", json={"model_version": version})
    return Step("model version", "changed", f"project {project} shows {version} instead of {shown or 'none'}")
