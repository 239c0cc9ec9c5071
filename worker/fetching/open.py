"""Chooses the fetcher: one that Label Studio knows, where there is one."""

from __future__ import annotations

from ...schemas.settings import Settings
from .fetcher import Fetcher


def make_fetcher(settings: Settings) -> Fetcher:
    """A fetcher that identifies itself to Label Studio where that is set up."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return Fetcher(settings)
    from ...integrations.label_studio.api.auth import LabelStudioAuth

    auth = LabelStudioAuth.from_settings(settings)
    return Fetcher(settings, auth.media_headers, auth.refused)
