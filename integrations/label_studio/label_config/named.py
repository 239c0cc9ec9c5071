"""Finding the label a person names in the taxonomy of a control."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ....schemas.errors import ConfigError
from ....schemas.taxonomy import LabelPath
from ....schemas.wire import brief
from .controls import ControlTag

_TOLD = 10
"""Labels a message lists at most."""


def label_named(control: ControlTag, label: str | Sequence[str]) -> LabelPath:
    """The label that is meant, among those the control can be answered with.

    Args:
        control: whose labels stand in the label config.
        label: its name or alias; or its names, or aliases, from the root down, as a list or as "animal > cat".

    Raises:
        ConfigError: there is none; or several, where the name alone is given.
    """
    wanted = label if isinstance(label, str) else written(label)
    by_name: dict[str, list[LabelPath]] = {}
    groups: dict[str, LabelPath] = {}
    in_order = [path for path, _ in control.taxonomy.walk()]
    for path in in_order:
        stored = control.answers[path]
        is_group = control.leafs_only and path in control.parents
        for name in dict.fromkeys((path[-1], stored[-1], written(path), written(stored))):
            if is_group:
                groups.setdefault(name, path)
            else:
                by_name.setdefault(name, []).append(path)
    found = by_name.get(wanted, [])
    if len(found) == 1:
        return found[0]
    where = f"control {control.from_name!r}"
    if found:
        raise ConfigError(f"{where} has several labels {brief(wanted)}, name one of: {_told(found)}")
    if wanted in groups:
        group = groups[wanted]
        below = [path for path in in_order if path[: len(group)] == group and path not in control.parents]
        raise ConfigError(f"{where} is not answered with {brief(wanted)} but with what is below it: {_told(below)}")
    close = difflib.get_close_matches(wanted, by_name, n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has: {_told(in_order)}"
    raise ConfigError(f"{where} has no label {brief(wanted)}, {hint}")


def written(path: Sequence[str]) -> str:
    """A label's names from the root down, as people read and write them."""
    return " > ".join(path)


def _told(paths: Sequence[LabelPath]) -> str:
    more = f", and {len(paths) - _TOLD} more" if len(paths) > _TOLD else ""
    return ", ".join(map(written, paths[:_TOLD])) + more
