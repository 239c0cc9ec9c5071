"""Which Redis a command speaks to: the one that is set, else the one that `prelabel up` runs on this machine."""

from __future__ import annotations

from ...schemas.settings import Settings, get_settings, load_settings
from ..running.announced import find_announced
from .console import err, plain


def settings_here() -> Settings:
    """The settings, pointed at the embedded Redis of a `prelabel up` or `demo` that runs here, which is then said.

    Raises:
        ConfigError: a setting cannot be used.
    """
    settings = get_settings()
    if "redis_url" in settings.model_fields_set:
        return settings
    found = find_announced(settings.state_dir)
    if found is None:
        return settings
    err.print(f"[dim]Redis of `{found.by}` on this machine: {plain(found.url)}[/]", soft_wrap=True)
    return load_settings(**{**settings.model_dump(), "redis_url": found.url})
