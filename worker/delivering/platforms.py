"""Which platform predictions are pushed to: ours, or one that another package brings.

A package announces a platform as an entry point of the group `prelabel.platforms`, under the name that a job's
`PushTarget.platform` gives (https://packaging.python.org/en/latest/specifications/entry-points/). Ours come first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, runtime_checkable

import redis

from ...integrations.broker.errors import broker_errors
from ...integrations.platforms import HearsOfFailures, Platform, PushReport
from ...integrations.plugins import Plugin, Plugins
from ...schemas.errors import ConfigError
from ...schemas.jobs import LABEL_STUDIO, PushTarget
from ...schemas.predictions import Prediction
from ...schemas.settings import Settings

log = logging.getLogger(__name__)

GROUP: Final = "prelabel.platforms"

MakePlatform = Callable[[Settings, redis.Redis], Platform]
"""What an entry point names: makes the platform, from the settings and the Redis that holds the jobs."""


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


class Platforms:
    """The platforms of a worker, each made when something is first pushed to it. Thread-safe.

    Args:
        settings: where the platforms are, and their keys.
        client: Redis.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._redis = client
        self._by_name: dict[str, Platform] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Platform:
        """The platform a job names.

        Raises:
            ConfigError: it is not installed, or the package that brings it is broken, or a setting it needs is missing.
        """
        with self._lock:
            if name not in self._by_name:
                self._by_name[name] = self._make(name)
            return self._by_name[name]

    def close(self) -> None:
        """Close those platforms that can be closed."""
        with self._lock:
            for name, platform in self._by_name.items():
                if isinstance(platform, _Closable):
                    try:
                        platform.close()
                    except Exception:  # of a package; the others are to be closed all the same
                        log.exception("the platform %r could not be closed", name)

    def _make(self, name: str) -> Platform:
        if name in _OURS:
            return _OURS[name](self._settings, self._redis)
        return _Brought(_plugin(name), self._settings, self._redis)


def _label_studio(settings: Settings, client: redis.Redis) -> Platform:
    # The SDK brings pandas: only when something is pushed.
    from ...integrations.label_studio.deliver.push import Pusher
    from ...integrations.label_studio.projects.chosen import chosen_model
    from ...integrations.label_studio.projects.claims import Claims
    from ...integrations.label_studio.projects.hints import hint
    from ...integrations.label_studio.projects.unanswered import Unanswered

    def moved(project: int) -> None:
        with suppress(redis.RedisError):  # the adapter looks now and then on its own
            hint(client, project)

    def chosen(project: int) -> str:
        with broker_errors(settings):
            return chosen_model(client, project)

    return Pusher(settings, Claims(client), Unanswered(client), moved, chosen)


_OURS: Final[dict[str, MakePlatform]] = {LABEL_STUDIO: _label_studio}


class _Brought:
    """A platform of another package: whatever goes wrong in there is one line that names the package.

    Raises:
        ConfigError: it cannot be made.
    """

    def __init__(self, plugin: Plugin, settings: Settings, client: redis.Redis) -> None:
        self._plugin = plugin
        platform = plugin.make(settings, client)
        if not isinstance(platform, Platform):
            raise plugin.broken(f"it made {type(platform).__name__}, which has no push()")
        self._platform = platform

    def close(self) -> None:
        if isinstance(self._platform, _Closable):
            self._platform.close()

    def failed(self, target: PushTarget, predictions: Sequence[Prediction]) -> None:
        if isinstance(self._platform, HearsOfFailures):
            heard = self._platform.failed
            self._plugin.run(lambda: heard(target, predictions), "its failed() failed", redis.RedisError)

    def push(
        self, target: PushTarget, predictions: Sequence[Prediction], *, check_existing: bool = False, who: str = ""
    ) -> PushReport:
        def call() -> PushReport:
            return self._platform.push(target, predictions, check_existing=check_existing, who=who)

        report = self._plugin.run(call, "its push() failed", redis.RedisError)
        if not isinstance(report, PushReport):
            raise self._plugin.broken(f"its push() returned {type(report).__name__}, not a PushReport")
        return report


def _plugin(name: str) -> Plugin:
    plugins = Plugins(GROUP, "platform")
    plugin = plugins.find(name)
    if plugin is None:
        known = ", ".join(sorted({*_OURS, *plugins.names}))
        raise ConfigError(
            f"the job's predictions go to the platform {name!r}, and this worker knows {known} alone: "
            "install the package that brings it beside prelabel, on every worker"
        )
    return plugin
