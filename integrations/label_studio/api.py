"""Label Studio's HTTP API: one authorized connection, and its failures as prelabel's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from json import JSONDecodeError
from typing import Any

import httpx

from ...schemas import ConfigError, PrelabelError, Settings, TransientError
from .auth import LabelStudioAuth

TIMEOUT_S = 60.0
"""Seconds a call may take: Label Studio stores a few hundred predictions in about one second."""


class _HTTP(httpx.Client):
    """Follows redirects of GET only: a POST that is redirected arrives as a GET."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        return super().send(request, **{**options, "follow_redirects": request.method == "GET"})


class LabelStudioAPI:
    """An authorized connection to the Label Studio of the settings. Thread-safe; close it after use.

    Attributes:
        url: Label Studio's URL, without a slash at the end.
        http: plain HTTP client for endpoints the SDK does not cover; paths are relative to `url`.

    Raises:
        ConfigError: LABEL_STUDIO_URL or LABEL_STUDIO_API_KEY is not set, or label-studio-sdk is not installed.
    """

    def __init__(self, settings: Settings, *, timeout_s: float = TIMEOUT_S) -> None:
        if find_spec("label_studio_sdk") is None:
            raise ConfigError("label-studio-sdk is not installed: pip install 'prelabel[label-studio]'")
        auth = LabelStudioAuth.from_settings(settings)
        self.url = settings.label_studio_url or ""
        self.http: httpx.Client = _HTTP(auth=auth, base_url=f"{self.url}/", timeout=timeout_s)
        self._sdk: Any = None

    @property
    def sdk(self) -> Any:
        """The `label_studio_sdk.LabelStudio` client; imported here because it brings pandas.

        It never retries on its own: storing a prediction twice makes two.
        """
        if self._sdk is None:
            from label_studio_sdk import LabelStudio

            # `http` puts the real key in place of this one.
            self._sdk = LabelStudio(
                base_url=f"{self.url}/",
                api_key="set-by-prelabel",
                httpx_client=self.http,
                timeout=self.http.timeout.read,
                max_retries=0,
            )
        return self._sdk

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn what the SDK and httpx raise inside into prelabel's errors.

        Args:
            what: the step in words ("project 3"), for the message.

        Raises:
            ConfigError: a setting or permission is wrong; names the fix.
            TransientError: Label Studio is down, busy or slow.
        """
        from label_studio_sdk.core.api_error import ApiError

        try:
            yield
        except ApiError as error:
            raise self.explain(error.status_code or 0, error.body, what) from None
        except httpx.HTTPStatusError as error:
            raise self.explain(error.response.status_code, error.response.text, what) from None
        except httpx.HTTPError as error:
            raise TransientError(f"Label Studio at {self.url} does not answer ({type(error).__name__})") from None
        except JSONDecodeError:
            raise ConfigError(f"LABEL_STUDIO_URL={self.url} does not answer like Label Studio's API") from None

    def explain(self, status: int, body: object, what: str) -> PrelabelError:
        """The error for an answer that is not a success."""
        said = summary(body)
        if status == httpx.codes.UNAUTHORIZED:
            if "legacy token" in said.lower():
                return ConfigError(
                    "Label Studio has legacy tokens switched off: set LABEL_STUDIO_API_KEY to a personal access token "
                    "(Account & Settings > Personal Access Token), or allow legacy tokens under Organization > API "
                    "Tokens Settings"
                )
            return ConfigError(
                f"Label Studio at {self.url} refuses LABEL_STUDIO_API_KEY (401): make a new token under "
                "Account & Settings and set it"
            )
        if status == httpx.codes.FORBIDDEN:
            return ConfigError(f"the user of LABEL_STUDIO_API_KEY may not access {what} (403): {said}")
        if status == httpx.codes.NOT_FOUND:
            return ConfigError(
                f"Label Studio at {self.url} has no {what} that the user of LABEL_STUDIO_API_KEY can see (404)"
            )
        if status >= 500 or status in (408, 409, 425, 429):
            return TransientError(f"Label Studio at {self.url} answers {status} for {what}")
        if 200 <= status < 400:
            return ConfigError(
                f"LABEL_STUDIO_URL={self.url} does not answer like Label Studio's API (HTTP {status} for {what}): "
                "check the address, and http or https"
            )
        return ConfigError(f"Label Studio refuses {what} ({status}): {said}")

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


def summary(body: object) -> str:
    """What Label Studio said, in one short line; nothing of an HTML page."""
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    text = " ".join(str(body).split())
    return "no reason given" if not text or text.startswith("<") else text[:300]
