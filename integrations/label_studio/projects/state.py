"""What is known of a project, and what people have asked for it; kept in Redis as a hash of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ....schemas import Priority


@dataclass(frozen=True, kw_only=True)
class ProjectState:
    """What is known of a project.

    Attributes:
        backend_url: the adapter as this Label Studio reaches it; empty when it was added in Label Studio's dialog.
        title: the ML backend's title as it was last given; empty when it is not known.
        version: model version its tasks were last looked through for; empty before the first time.
        floor: tasks with numbers up to this one are pre-labelled only when asked for.
        since: Label Studio's time (Unix seconds) up to which changed tasks have been looked at.
        looked: when all tasks were last looked through, Unix seconds.
        prune: whether predictions of earlier versions may still be there.
        problem: why nothing is pre-labelled at present; empty when all is well.
        unlabelled_only: tasks that somebody has labelled are left alone.
        priority: the queue its tasks go to, but for those a person waits for.
        model: `schemas.model_id` of the model it has chosen; empty for the adapter's own.
        paused: somebody wants nothing of it to be queued for a while.
        stopped: its ML backend was deleted in Label Studio's dialog, and nothing is queued until there is one again.
        backend_seen: when the backend was last seen there, Unix seconds.
    """

    backend_url: str = ""
    title: str = ""
    version: str = ""
    floor: int = 0
    since: float = 0.0
    looked: float = 0.0
    prune: bool = False
    problem: str = ""
    unlabelled_only: bool = False
    priority: Priority = Priority.BULK
    model: str = ""
    paused: bool = False
    stopped: bool = False
    backend_seen: float = 0.0

    @property
    def rests(self) -> bool:
        """Whether nothing of it is queued."""
        return self.paused or self.stopped

    @classmethod
    def of(cls, raw: Mapping[bytes, bytes]) -> Self:
        """What a hash holds; what it lacks is as above.

        Raises:
            ValueError: a field cannot be read.
        """
        fields = {key.decode(): value.decode() for key, value in raw.items()}
        return cls(
            backend_url=fields.get("backend_url", ""),
            title=fields.get("title", ""),
            version=fields.get("version", ""),
            floor=int(fields.get("floor", 0)),
            since=float(fields.get("since", 0)),
            looked=float(fields.get("looked", 0)),
            prune=fields.get("prune") == "1",
            problem=fields.get("problem", ""),
            unlabelled_only=fields.get("unlabelled_only") == "1",
            priority=Priority(fields.get("priority", Priority.BULK)),
            model=fields.get("model", ""),
            paused=fields.get("paused") == "1",
            stopped=fields.get("stopped") == "1",
            backend_seen=float(fields.get("backend_seen", 0)),
        )
