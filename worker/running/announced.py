"""The embedded Redis that runs on this machine, so that other commands find it: a file each in the state folder.

A file tells the port and what that Redis calls itself (`run_id`, new at each start). It counts while a Redis answers on
that port and says the same: one that was left behind by a crash, or another Redis on its port, is never taken for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import redis
from pydantic import Field, ValidationError

from ...schemas.wire import Model

log = logging.getLogger(__name__)

Starter = Literal["prelabel up", "prelabel demo"]
"""What started a Redis; of several that run, that of `prelabel up` is found."""

_FOLDER: Final = "running"
_ANSWER_S: Final = 1.0


class Announced(Model):
    """An embedded Redis.

    Attributes:
        by: the command that started it.
        port: where it listens on 127.0.0.1.
        run_id: what it calls itself.
    """

    by: Starter
    port: int = Field(ge=1, le=65535)
    run_id: str = Field(min_length=1)

    @property
    def url(self) -> str:
        """Its redis URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        """Whether it still runs."""
        return _run_id(self.port) == self.run_id


@contextmanager
def announced(state_dir: Path, port: int, by: Starter) -> Iterator[None]:
    """Let other commands find the Redis while the block runs. Where nothing can be written, they do not.

    Args:
        state_dir: the state folder of who is to find it.
        port: where it listens on 127.0.0.1.
        by: the command that started it.
    """
    run_id = _run_id(port)
    file = state_dir / _FOLDER / f"{run_id}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, left in _read(state_dir):
            if not left.answers():
                path.unlink(missing_ok=True)
        if run_id:
            file.write_text(Announced(by=by, port=port, run_id=run_id).model_dump_json(), encoding="utf-8")
    except OSError as error:
        log.debug("other commands do not find this Redis: %s", error)
    try:
        yield
    finally:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s is left behind: %s", file, error)


def find_announced(state_dir: Path) -> Announced | None:
    """The embedded Redis that runs with this state folder; the newest one, that of `prelabel up` before a demo's."""
    files = sorted(_read(state_dir), key=lambda one: (one[1].by == "prelabel up", _changed(one[0])), reverse=True)
    return next((one for _, one in files if one.answers()), None)


def _read(state_dir: Path) -> list[tuple[Path, Announced]]:
    """The files that can be read, whether or not what they tell still runs."""
    found = []
    for path in (state_dir / _FOLDER).glob("*.json"):
        try:
            found.append((path, Announced.model_validate_json(path.read_bytes())))
        except (OSError, ValidationError) as error:
            log.debug("%s is passed over: %s", path, type(error).__name__)
    return found


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _run_id(port: int) -> str:
    """What the Redis on that port calls itself; empty where none answers."""
    try:
        with redis.Redis(
            host="127.0.0.1", port=port, socket_timeout=_ANSWER_S, socket_connect_timeout=_ANSWER_S
        ) as one:
            return str(one.info("server").get("run_id", ""))
    except (redis.RedisError, OSError):
        return ""
