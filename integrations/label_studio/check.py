"""What `prelabel connect` has the adapter look at, and the secret by which it knows who asks."""

from __future__ import annotations

import logging
import secrets
from contextlib import closing

from ...schemas import PrelabelError, Settings
from .api.connection import LabelStudioAPI
from .projects.register import Projects

log = logging.getLogger(__name__)


def look_around(settings: Settings) -> dict[str, str]:
    """Whether this process reaches Label Studio: `{"label_studio": url, "user": …}` or `{"problem": …}`."""
    try:
        with closing(LabelStudioAPI(settings, timeout_s=10)) as api:
            with api.errors("the user of the API key"):
                user = api.json("GET", "api/current-user/whoami")
            return {"label_studio": api.url, "user": str(user.get("email", ""))}
    except PrelabelError as error:
        return {"problem": str(error)}


class SecretCheck:
    """The webhooks' secret, asked of Redis once."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        self._secret = ""

    def accepts(self, given: str) -> bool:
        """Whether this is the secret; False while Redis cannot say."""
        if not given:
            return False
        try:
            self._secret = self._secret or self._projects.secret()
        except PrelabelError as error:
            log.warning("a webhook's secret cannot be checked: %s", error)
            return False
        return secrets.compare_digest(given.encode(), self._secret.encode())
