"""The Redis keys of Label Studio projects."""

from __future__ import annotations

from typing import Final

from ...ledger.catalogue import CONNECTED, catalogue_key

PROJECTS: Final = CONNECTED
"""See there."""

PROJECT_HINTS: Final = "prelabel:label_studio:hints"
"""Sorted set: Label Studio project by the Unix second at which it is to be looked at next."""

TO_VERIFY: Final = "prelabel:label_studio:verify"
"""Sorted set: `<project>/<task>/<model version>` by the Unix second from which Label Studio must have that prediction:
somebody else promised to deliver it."""

WEBHOOK_SECRET: Final = "prelabel:label_studio:secret"  # noqa: S105  # a name
"""String: what our webhooks carry, where PRELABEL_WEBHOOK_SECRET is not set."""


class ProjectKeys:
    """The Redis keys of one Label Studio project.

    Attributes:
        state: hash, see `prelabel.integrations.label_studio.projects.state.ProjectState`.
        jobs: set: ids of jobs that may still work for it.
        scan: string with an expiry: who submits its tasks at present.
        held_back: set: numbers of the tasks that its jobs were cancelled before, to be queued when it goes on.
        clean: string with an expiry: who removes its outdated predictions at present.
        looked: hash with an expiry: task number -> what `submitted` will hold for it when the look under way has
            submitted its tasks, or nothing for one that cannot be scored.
        unanswered: hash: task number -> a letter for what became of it and the digest of the reason.
        unanswered_counts: hash: such an entry -> how many tasks have it.
        reasons: hash: digest -> the reason in words.
        figures: string: JSON of `prelabel.integrations.label_studio.projects.figures.ProjectFigures`.
        catalogue: string: which vectors its tasks' images have; see `prelabel.integrations.ledger.catalogue`.
    """

    def __init__(self, project: int) -> None:
        self._prefix = f"prelabel:label_studio:{{{project}}}"
        self.state = f"{self._prefix}:state"
        self.jobs = f"{self._prefix}:jobs"
        self.scan = f"{self._prefix}:scan"
        self.held_back = f"{self._prefix}:held_back"
        self.clean = f"{self._prefix}:clean"
        self.looked = f"{self._prefix}:looked"
        self.unanswered = f"{self._prefix}:unanswered"
        self.unanswered_counts = f"{self._prefix}:unanswered_counts"
        self.reasons = f"{self._prefix}:reasons"
        self.figures = f"{self._prefix}:figures"
        self.catalogue = catalogue_key(project)

    def submitted(self, task: int) -> tuple[str, str]:
        """Hash and field that hold 12 bytes: which version and which images the task was last submitted with.

        128 tasks share a hash, which Redis then stores in some 20 bytes a task.
        """
        return f"{self._prefix}:submitted:{task // 128}", str(task % 128)

    @property
    def all_submitted(self) -> str:
        """Pattern of the keys of `submitted`."""
        return f"{self._prefix}:submitted:*".replace("{", "[{]").replace("}", "[}]")

    def claim(self, task: int, version: str) -> str:
        """String with an expiry: who delivers this version's prediction for the task at present."""
        return f"{self._prefix}:claim:{task}:{version}"
