"""Which reader reads a reference: told by its scheme.

A reader of another package is an entry point of the group `prelabel.readers`, named as the scheme it reads, in lower
case: a class or function that makes a `Reader` of the settings. It is imported when a reference of that scheme is first
fetched. Ours come first.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Final, Protocol, runtime_checkable

from ...integrations.plugins import Plugin, Plugins
from ...schemas.errors import ConfigError
from ...schemas.settings import Settings
from .deadline import Deadline
from .reader import Fetched, IsKnown, Reader

log = logging.getLogger(__name__)

GROUP: Final = "prelabel.readers"

# Two characters at least, so that a Windows drive is no scheme.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)


def scheme_of(uri: str) -> str:
    """The scheme of a reference, in lower case; empty for a path."""
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else ""


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


class Readers:
    """Readers by scheme: ours, and those that packages bring, each made once. Thread-safe.

    Args:
        settings: what a package's reader is made of.
        ours: are there from the start, and never replaced.
    """

    def __init__(self, settings: Settings, ours: Mapping[str, Reader]) -> None:
        self._settings = settings
        self._readers = dict(ours)
        self._broken: dict[str, str] = {}
        self._lock = threading.Lock()

    @cached_property
    def _plugins(self) -> Plugins:
        return Plugins(GROUP, "image reader")

    def get(self, scheme: str) -> Reader | None:
        """The scheme's reader; None where there is none.

        Raises:
            ConfigError: the package that brings it is broken.
        """
        with self._lock:
            if scheme not in self._readers:
                if scheme in self._broken:  # as often as it is asked for, without another import
                    raise ConfigError(self._broken[scheme])
                try:
                    reader = self._make(scheme)
                except ConfigError as error:
                    self._broken[scheme] = str(error)
                    raise
                if reader is None:
                    return None
                self._readers[scheme] = reader
            return self._readers[scheme]

    def schemes(self) -> list[str]:
        """All schemes somebody reads, ours first, as far as can be told without an import."""
        with self._lock:
            return [scheme for scheme in dict.fromkeys([*self._readers, *sorted(self._plugins.names)]) if scheme]

    def close(self) -> None:
        """Close those readers that can be closed, each once."""
        with self._lock:
            for reader in {id(reader): reader for reader in self._readers.values()}.values():
                if isinstance(reader, _Closable):
                    try:
                        reader.close()
                    except Exception:  # of a package; the others are to be closed all the same
                        log.exception("a reader of images could not be closed")

    def _make(self, scheme: str) -> Reader | None:
        plugin = self._plugins.find(scheme)
        if plugin is None:
            return None
        reader = plugin.make(self._settings)
        if not isinstance(reader, Reader):
            raise plugin.broken(
                f"{plugin.entry.value} made {type(reader).__name__}, which has no read(uri, deadline, is_known)"
            )
        return _Brought(plugin, reader)


class _Brought:
    """A reader of another package: whatever goes wrong in there is one line that names the package."""

    def __init__(self, plugin: Plugin, reader: Reader) -> None:
        self._plugin = plugin
        self._reader = reader

    def read(self, uri: str, deadline: Deadline, is_known: IsKnown) -> Fetched:
        return self._plugin.run(lambda: self._reader.read(uri, deadline, is_known), "its read() failed")

    def close(self) -> None:
        if isinstance(self._reader, _Closable):
            self._reader.close()
