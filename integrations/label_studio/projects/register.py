"""The Label Studio projects that are served, and what was submitted for each of their tasks.

It stands in Redis, for all adapters and `prelabel connect` alike.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

from ....schemas import ConfigError, Item, Settings, TransientError
from ...broker.locks import TimedLock, free_lock
from ...client.client import Client
from ...ledger.catalogue import Catalogue
from ...ledger.jobs import NoSuchJob
from ...ledger.pushes import is_pending
from .chosen import chosen_model
from .claims import Claims
from .hints import hint
from .keys import PROJECT_HINTS, PROJECTS, WEBHOOK_SECRET, ProjectKeys
from .state import ProjectState
from .unanswered import Unanswered

TAKEN_S = 120.0
"""Seconds after which a turn that was taken and not ended is another's: whoever took it has died."""

_LOOKED_S = 86_400
_NOTES_PER_TRIP = 1000
_SCAN_LOCK_S = 120
_SCAN_WAIT_S = 60.0

# KEYS: hints. ARGV: what is due until when, until when it is taken. Moves the first that is due forward; returns it and
# its new time.
_TAKE_TURN = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if not due[1] then return false end
redis.call('ZADD', KEYS[1], ARGV[2], due[1])
return {due[1], redis.call('ZSCORE', KEYS[1], due[1])}
"""

# KEYS: hints. ARGV: project, the time it was moved to, its next time or nothing. Leaves it where a hint has come since.
_END_TURN = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
if ARGV[3] == '' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
"""


class Turn(NamedTuple):
    """A project that is being looked at.

    Attributes:
        project: its number.
        until: when another may look at it, Unix seconds as Redis writes them.
    """

    project: int
    until: str


class Submitted(NamedTuple):
    """With what a task was last submitted: digests of the model version (4 bytes) and of its images (8 bytes)."""

    version: bytes
    images: bytes

    @classmethod
    def of(cls, version: str, item: Item) -> Self:
        """The digests of a version and an item."""
        images = item.model_copy(
            update={"images": tuple(image.model_copy(update={"vector": None}) for image in item.images)}
        )
        return cls(
            hashlib.blake2b(version.encode(), digest_size=4).digest(),
            hashlib.blake2b(images.model_dump_json(exclude_defaults=True).encode(), digest_size=8).digest(),
        )


class Projects:
    """The register of projects. Thread-safe.

    Args:
        client: whose Redis it is in, and whose connections it uses. Every method raises `BrokerUnavailable` as the
            client's do.
    """

    def __init__(self, client: Client) -> None:
        self._settings: Settings = client.settings
        self._store = client.connection.store
        self._patiently = client.connection.patiently
        raw = client.connection.redis
        self._redis: Any = raw
        self._take_turn: Any = raw.register_script(_TAKE_TURN)
        self._end_turn: Any = raw.register_script(_END_TURN)
        self.claims = Claims(raw, self._patiently)
        self.unanswered = Unanswered(raw, self._patiently)
        self._catalogue = Catalogue(raw)

    def secret(self) -> str:
        """What our webhooks carry: PRELABEL_WEBHOOK_SECRET, else one made once and kept in Redis."""
        given = self._settings.webhook_secret
        if given is not None and given.get_secret_value():
            return given.get_secret_value()

        def kept() -> str:
            self._redis.set(WEBHOOK_SECRET, secrets.token_urlsafe(24), nx=True)
            return str(self._redis.get(WEBHOOK_SECRET).decode())

        return self._patiently(kept)

    def numbers(self) -> list[int]:
        """The projects that are served, ascending."""
        return sorted(_numbers(self._patiently(lambda: self._redis.smembers(PROJECTS))))

    def serves(self, project: int) -> bool:
        """Whether the project is served."""
        return bool(self._patiently(lambda: self._redis.sismember(PROJECTS, project)))

    def add(self, project: int, **fields: Any) -> None:
        """Serve a project from now on; `fields` are those of `ProjectState`."""
        self.update(project, **fields)
        self._patiently(lambda: self._redis.sadd(PROJECTS, project))

    def remove(self, project: int) -> None:
        """Serve it no more and forget what was submitted."""
        keys = ProjectKeys(project)

        def forget() -> None:
            self._redis.srem(PROJECTS, project)
            self._redis.zrem(PROJECT_HINTS, project)
            self._redis.delete(keys.state, keys.jobs, keys.looked, keys.figures, keys.held_back, keys.catalogue)
            for key in self._redis.scan_iter(match=keys.all_submitted, count=1000):
                self._redis.unlink(key)

        self._patiently(forget)
        self.unanswered.forget(project)

    def state(self, project: int) -> ProjectState:
        """What is known of a project.

        Raises:
            ConfigError: it cannot be read; nothing is taken for its place, lest tasks are labelled nobody asked for.
        """
        raw = self._patiently(lambda: self._redis.hgetall(ProjectKeys(project).state))
        try:
            return ProjectState.of(raw)
        except ValueError:
            raise ConfigError(
                f"what is kept of project {project} cannot be read: `prelabel disconnect` it, then connect it again"
            ) from None

    def rests(self, project: int) -> bool:
        """Whether nothing of the project is queued; also where the rest of what is known of it cannot be read."""
        return b"1" in self._patiently(lambda: self._redis.hmget(ProjectKeys(project).state, "paused", "stopped"))

    def model_of(self, project: int, own: str, *, wait_s: float | None = None) -> str:
        """The `schemas.model_id` of the model that scores the project; also where the rest of it cannot be read.

        Args:
            project: its number; it need not be served.
            own: the adapter's model, of a project that has chosen none.
            wait_s: seconds a Redis that is away is waited for; None is as long as usual.
        """
        chosen = self._patiently(lambda: chosen_model(self._redis, project), wait_s=wait_s)
        return chosen or own

    def update(self, project: int, **fields: Any) -> None:
        """Change fields of `ProjectState`."""
        values = {name: int(value) if isinstance(value, bool) else value for name, value in fields.items()}
        if values:
            self._patiently(lambda: self._redis.hset(ProjectKeys(project).state, mapping=values))

    def shorten_catalogue(self, project: int) -> None:
        """Leave out of the project's catalogue what counts no more, where that may be much."""
        self._patiently(lambda: self._catalogue.shorten(project))

    def keep_figures(self, project: int, figures: str) -> None:
        """Keep the figures of a project, as JSON."""
        self._patiently(lambda: self._redis.set(ProjectKeys(project).figures, figures))

    def kept_figures(self, projects: Sequence[int]) -> dict[int, bytes]:
        """The figures kept last, of those projects that have some."""
        if not projects:
            return {}
        raw = self._patiently(lambda: self._redis.mget([ProjectKeys(one).figures for one in projects]))
        return {one: kept for one, kept in zip(projects, raw, strict=True) if kept}

    def hint(self, project: int, after_s: float = 0.0) -> None:
        """Have the project looked at soon, whether it is served yet or not."""
        self._patiently(lambda: hint(self._redis, project, after_s))

    def take_turn(self, due_at: float) -> Turn | None:
        """One project that wants to be looked at; None when none does.

        It stays on the list, for later, until `end_turn`: should we die meanwhile, another looks at it.

        Args:
            due_at: Unix second; what wants to be looked at after it is left.
        """
        taken = self._patiently(
            lambda: self._take_turn(keys=[PROJECT_HINTS], args=[due_at, max(due_at, time.time()) + TAKEN_S])
        )
        if taken is None:
            return None
        if not _numbers(taken[:1]):  # nobody's entry
            self._patiently(lambda: self._redis.zrem(PROJECT_HINTS, taken[0]))
            return self.take_turn(due_at)
        return Turn(int(taken[0]), taken[1].decode())

    def end_turn(self, turn: Turn, next_at: float | None = None) -> None:
        """Say that a project has been looked at; a hint that came meanwhile still counts.

        Args:
            turn: from `take_turn`.
            next_at: Unix second of its next turn; None when it needs a hint first.
        """
        args = [turn.project, turn.until, "" if next_at is None else next_at]
        self._patiently(lambda: self._end_turn(keys=[PROJECT_HINTS], args=args))

    def add_job(self, project: int, job_id: str) -> None:
        """Remember a job that works for the project."""
        self._patiently(lambda: self._redis.sadd(ProjectKeys(project).jobs, job_id))

    def working(self, project: int) -> list[str]:
        """Jobs that still score or push for the project."""
        keys = ProjectKeys(project)
        job_ids = []
        for raw in self._patiently(lambda: self._redis.smembers(keys.jobs)):
            job_id = raw.decode()
            try:
                ended = self._patiently(partial(self._store.state, job_id)).ended
            except NoSuchJob:
                ended = True
            if not ended or self._patiently(partial(is_pending, self._redis, job_id)):
                job_ids.append(job_id)
            else:
                self._patiently(partial(self._redis.srem, keys.jobs, job_id))
        return job_ids

    def submitted(self, project: int, tasks: Sequence[int]) -> list[Submitted | None]:
        """With what each task was last submitted; None when it was not."""
        keys = ProjectKeys(project)

        def read() -> list[bytes | None]:
            with self._redis.pipeline(transaction=False) as pipe:
                for task in tasks:
                    pipe.hget(*keys.submitted(task))
                return list(pipe.execute())

        return [None if raw is None else Submitted(raw[:4], raw[4:]) for raw in self._patiently(read)]

    def record(self, project: int, submitted: Mapping[int, Submitted]) -> None:
        """Remember with what tasks were submitted."""
        keys = ProjectKeys(project)

        def write() -> None:
            with self._redis.pipeline(transaction=False) as pipe:
                for task, one in submitted.items():
                    pipe.hset(*keys.submitted(task), one.version + one.images)
                pipe.execute()

        if submitted:
            self._patiently(write)

    def note(self, project: int, tasks: Mapping[int, Submitted | None]) -> None:
        """Remember tasks of the look under way: with what each is about to be submitted; None when it cannot be."""
        key = ProjectKeys(project).looked

        def write() -> None:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.hset(key, mapping={task: b"" if one is None else b"".join(one) for task, one in tasks.items()})
                pipe.expire(key, _LOOKED_S)
                pipe.execute()

        if tasks:
            self._patiently(write)

    def noted(self, project: int, tasks: Sequence[int]) -> list[bool]:
        """Which tasks the look under way has had already."""
        key = ProjectKeys(project).looked
        return [one is not None for one in self._patiently(lambda: self._redis.hmget(key, tasks))]

    def forget_notes(self, project: int) -> None:
        """Begin a look: what an earlier one had noted when it was ended was not submitted."""
        self._patiently(lambda: self._redis.unlink(ProjectKeys(project).looked))

    def record_notes(self, project: int, renew: Callable[[], object]) -> None:
        """Remember what was noted as submitted; calls `renew` now and then."""
        key, cursor = ProjectKeys(project).looked, 0
        while True:
            cursor, notes = self._patiently(partial(self._redis.hscan, key, cursor, count=_NOTES_PER_TRIP))
            self.record(project, {int(task): Submitted(raw[:4], raw[4:]) for task, raw in notes.items() if raw})
            renew()
            if not cursor:
                break
        self.forget_notes(project)

    def free_locks(self, is_gone: Callable[[str], bool]) -> None:
        """Let others look through, and clean, what those had locked who are gone.

        Args:
            is_gone: whether who is named so has ended.
        """
        for project in self.numbers():
            keys = ProjectKeys(project)
            for lock in (keys.scan, keys.clean):
                self._patiently(partial(free_lock, self._redis, lock, is_gone))

    @contextmanager
    def scanning(self, project: int, *, wait_s: float = _SCAN_WAIT_S) -> Iterator[Callable[[], object]]:
        """Be the only one who submits the project's tasks.

        Yields:
            What to call at every page, to go on being the only one.

        Raises:
            TransientError: somebody else is at it for longer than `wait_s`. What is yielded raises it too, once another
                has taken over.
        """
        lock = TimedLock(self._redis, ProjectKeys(project).scan, _SCAN_LOCK_S)
        deadline = time.monotonic() + wait_s
        while not self._patiently(lock.take):
            if time.monotonic() >= deadline:
                raise TransientError(f"project {project} is being looked through already")
            time.sleep(0.2)
        try:
            yield lambda: self._patiently(lock.keep)
        finally:
            self._patiently(lock.give_back)


def _numbers(raw: Iterable[bytes]) -> list[int]:
    """Project numbers; an entry that is none is nobody's, and must not keep the others from being read."""
    return [int(one) for one in raw if one.isdigit()]
