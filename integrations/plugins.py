"""What other packages bring: found by name among the installed entry points, and imported when it is needed.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from ..schemas.errors import ConfigError, PrelabelError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Plugin:
    """Something that a package brings.

    Attributes:
        kind: what it is, for people: "model family".
        entry: its name, and the object that its package announced under that.
    """

    kind: str
    entry: EntryPoint

    def load(self) -> Any:
        """The object that was announced. Imports its module.

        Raises:
            ConfigError: it cannot be imported.
        """
        try:
            return self.entry.load()
        except Exception as error:  # whatever the module raises when it is imported
            raise self.broken(f"{self.entry.value} cannot be imported: {_one_line(error)}") from error

    def make(self, *arguments: object) -> Any:
        """What the announced object, a class or function, makes of the arguments.

        Raises:
            ConfigError: it cannot be imported or called, or fails.
            PrelabelError: it raises that itself.
        """
        factory = self.load()
        if not callable(factory):
            raise self.broken(f"{self.entry.value} cannot be called")
        return self.run(lambda: factory(*arguments), f"{self.entry.value} failed")

    def run(self, call: Callable[[], _T], failed: str, *passing: type[Exception]) -> _T:
        """What a call of the plugin's code returns.

        Args:
            call: calls it.
            failed: what did not work if that raises, for people.
            passing: errors that whoever calls knows what to do about; they are raised as they are.

        Raises:
            ConfigError: it raises something that is no error of ours.
            PrelabelError: it raises that itself.
        """
        try:
            return call()
        except (PrelabelError, *passing):  # type: ignore[misc]  # a tuple of exception classes all the same
            raise
        except Exception as error:
            raise self.broken(f"{failed}: {_one_line(error)}") from error

    def broken(self, what: str) -> ConfigError:
        """The error for a plugin that does not work: one line that names its package."""
        return ConfigError(
            f"the {self.kind} {self.entry.name!r} of {_package(self.entry)}: {what} (update or uninstall it)"
        )


class Plugins:
    """The plugins of one kind that are installed now.

    Args:
        group: of their entry points: "prelabel.models".
        kind: what each of them is, for people.
    """

    def __init__(self, group: str, kind: str) -> None:
        self._kind = kind
        self._entries = entry_points(group=group)

    @property
    def names(self) -> set[str]:
        """What they are found by."""
        return self._entries.names

    def find(self, name: str) -> Plugin | None:
        """The one of this name, not imported yet.

        Raises:
            ConfigError: several packages bring one.
        """
        named = [entry for entry in self._entries if entry.name == name]
        if len(named) > 1:
            packages = " and ".join(sorted(_package(entry) for entry in named))
            raise ConfigError(f"{packages} both bring the {self._kind} {name!r}: uninstall one of them")
        return Plugin(self._kind, named[0]) if named else None


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _one_line(error: Exception) -> str:
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())[:300]
