"""What is searched: a project in Label Studio or a job, and what its rows stand for there now."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

from ...integrations.label_studio.api import tasks as listing
from ...integrations.label_studio.api.connection import LabelStudioAPI
from ...integrations.label_studio.convert.items import item_from_task
from ...integrations.label_studio.label_config.config import LabelConfig
from ...integrations.label_studio.label_config.named import written
from ...integrations.ledger.catalogue import Catalogue, Tail, image_mark, job_tail, label_code
from ...integrations.ledger.jobs import JobStore, NoSuchJob
from ...schemas.errors import ConfigError, ItemError
from ...schemas.items import Item
from ...schemas.jobs import Control
from ...schemas.settings import Settings
from ...schemas.taxonomy import LabelPath
from .entries import Entries

AT_ONCE: Final = 150
"""Tasks asked for at once: the request's first line must stay below 4 KB."""


class Known(NamedTuple):
    """What a row stands for.

    Attributes:
        item: the item as it is now.
        place: the image's place in it.
        labeled: whether it has an annotation; None where that is not known.
        made_at: Unix second it was made at; None where that is not known.
    """

    item: Item
    place: int
    labeled: bool | None = None
    made_at: float | None = None


class Place(Protocol):
    """Where a collection comes from."""

    @property
    def name(self) -> str:
        """A folder's name."""
        ...

    def close(self) -> None:
        """Let go of connections it has made."""
        ...

    @property
    def controls(self) -> Sequence[Control]:
        """What is asked about its items; the first control's labels are those of its rows."""
        ...

    def tail(self, position: str) -> Tail:
        """See `Source`."""
        ...

    def replace(self, position: str, rows: bytes) -> str | None:
        """See `Source`."""
        ...

    def known(self, entries: Entries) -> list[Known | None]:
        """What each row stands for; None where that is not there any more, or has changed."""
        ...


class ProjectPlace:
    """A connected Label Studio project, for one search; close it after use.

    Args:
        project: its number.
        redis: the ledger's.
        settings: where Label Studio is.

    Raises:
        ConfigError: it is not connected.
    """

    def __init__(self, project: int, redis: Any, settings: Settings) -> None:
        self._catalogue = Catalogue(redis)
        if not self._catalogue.is_kept(project):
            raise ConfigError(f"project {project} is not connected: prelabel connect --project {project}")
        self._project = project
        self._settings = settings
        self.name = f"project-{project}"

    def tail(self, position: str) -> Tail:
        """See `Source`."""
        return self._catalogue.tail(self._project, position)

    def replace(self, position: str, rows: bytes) -> str | None:
        """See `Source`."""
        return self._catalogue.replace(self._project, position, rows)

    def close(self) -> None:
        """See `Place.close`."""
        if "_api" in vars(self):
            self._api.close()

    @cached_property
    def _api(self) -> LabelStudioAPI:
        return LabelStudioAPI(self._settings)

    @cached_property
    def _config(self) -> LabelConfig:
        return LabelConfig.parse(self._api.project(self._project).get("label_config") or "")

    @property
    def controls(self) -> Sequence[Control]:
        """See `Place`."""
        return self._config.to_controls()

    def known(self, entries: Entries) -> list[Known | None]:
        """What each row stands for.

        Tasks that Label Studio does not list any more are struck from the catalogue.

        Raises:
            PrelabelError: Label Studio is unavailable, or refuses us.
        """
        numbers = list(dict.fromkeys(entries["task"].tolist()))
        fields = f"{_fields(self._config)},total_annotations,created_at"
        listed: dict[int, dict[str, Any]] = {}
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            page = listing.page(self._api, self._project, [listing.numbered(some)], fields=fields)
            listed |= {int(task["id"]): task for task in page.tasks}
        self._catalogue.forget(self._project, [number for number in numbers if number not in listed])
        items = {number: self._item(task) for number, task in listed.items()}
        return [self._as_it_is(entry, items, listed) for entry in entries]

    def _item(self, task: Mapping[str, Any]) -> Item | None:
        url, s3_direct = self._settings.label_studio_url, self._settings.s3_direct
        try:
            return item_from_task(task, self._config, url, s3_direct=s3_direct)
        except ItemError:
            return None

    def _as_it_is(
        self, entry: Any, items: Mapping[int, Item | None], listed: Mapping[int, dict[str, Any]]
    ) -> Known | None:
        number, place = int(entry["task"]), int(entry["place"])
        item = items.get(number)
        if item is None or place >= len(item.images) or image_mark(item.images[place]) != int(entry["image"]):
            return None
        task = listed[number]
        return Known(item, place, bool(task.get("total_annotations")), _second(task.get("created_at")))


class JobPlace:
    """A job.

    Args:
        job_id: its id.
        redis: the ledger's.
        ttl_s: seconds a finished job is kept.

    Raises:
        NoSuchJob: there is none.
    """

    def __init__(self, job_id: str, redis: Any, ttl_s: int) -> None:
        self._job_id = job_id
        self._redis = redis
        self._store = JobStore(redis, ttl_s)
        self.controls: Sequence[Control] = self._store.spec(job_id).controls
        self.name = f"job-{job_id}"

    def close(self) -> None:
        """It has made none."""

    def tail(self, position: str) -> Tail:
        """See `Source`."""
        return job_tail(self._redis, self._job_id, position)

    def replace(self, position: str, rows: bytes) -> str | None:  # noqa: ARG002
        """A job's results stay as they are."""
        return None

    def known(self, entries: Entries) -> list[Known | None]:
        """What each row stands for."""
        ordinals = list(dict.fromkeys(entries["task"].tolist()))
        items = dict(zip(ordinals, self._store.items(self._job_id, ordinals), strict=True))
        known: list[Known | None] = []
        for ordinal, place in zip(entries["task"].tolist(), entries["place"].tolist(), strict=True):
            item = items[ordinal]
            known.append(Known(item, place) if place < len(item.images) else None)
        return known


def is_there(name: str, redis: Any) -> bool:
    """Whether the project or job of a folder's name is still there; True of any other name."""
    kind, _, which = name.partition("-")
    if kind == "project" and which.isdecimal():
        return Catalogue(redis).is_kept(int(which))
    if kind == "job":
        try:
            JobStore(redis, 0).spec(which)
        except NoSuchJob:
            return False
        except ConfigError:  # another release's, and there
            return True
    return True


class Labels:
    """The labels of a place's rows.

    Args:
        controls: see `Place.controls`.
    """

    def __init__(self, controls: Sequence[Control]) -> None:
        taxonomy = controls[0].taxonomy
        self._paths = {label_code(path): path for path, _ in taxonomy.walk()}
        self._is_open = taxonomy.is_open

    def path(self, code: int) -> LabelPath | None:
        """The label a row's code stands for; None for none, and for one that an item brought along."""
        return self._paths.get(code)

    def codes(self, wanted: LabelPath) -> list[int]:
        """Codes of the labels whose path has these names one after the other: the label itself, and those below it.

        Raises:
            ConfigError: there is none; names those that are written alike.
        """
        count = len(wanted)
        codes = [
            code
            for code, path in self._paths.items()
            if any(path[at : at + count] == wanted for at in range(len(path) - count + 1))
        ]
        if self._is_open:
            codes.append(label_code(wanted))
        if not codes:
            names = [written(path) for path in self._paths.values()]
            alike = difflib.get_close_matches(written(wanted), names, n=3)
            said = f"did you mean {' or '.join(map(repr, alike))}?" if alike else f"there are {', '.join(names[:10])}"
            raise ConfigError(f"no label is named {written(wanted)!r}: {said}")
        return codes


def _fields(config: LabelConfig) -> str:
    """What is listed of a task; its versions are left out: they make the server's answer slower."""
    fields = listing.fields_for(config).split(",")
    return ",".join(field for field in fields if field not in ("predictions_model_versions", "created_at"))


def _second(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
