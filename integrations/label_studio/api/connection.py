"""Label Studio's HTTP API: one authorized connection, and its failures as prelabel's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from json import JSONDecodeError, loads
from typing import Any

import httpx

from ....schemas import ConfigError, PrelabelError, Settings, TransientError
from ....schemas.retrying import retry_after_s
from .auth import LabelStudioAuth

LONGEST_RETRY_AFTER_S = 900.0
"""Seconds a Retry-After header is believed at most."""

TIMEOUT_S = 60.0
"""Seconds a call may take: Label Studio stores a few hundred predictions in about one second."""


class _HTTP(httpx.Client):
    """Follows redirects of GET only: a POST that is redirected arrives as a GET."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        return super().send(request, **{**options, "follow_redirects": request.method == "GET"})


class NotThere(ConfigError):
    """Label Studio has no such project, task or backend; or none that our user can see."""


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

    def json(self, method: str, path: str, **options: Any) -> Any:
        """One request to the API; what it answered, parsed. Use it inside `errors`.

        Args:
            method: of HTTP.
            path: relative to `url`.
            options: those of `httpx.Client.request`.
        """
        response = self.http.request(method, path, **options)
        response.raise_for_status()
        return response.json() if response.content else None

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
            raise self.explain(error.status_code or 0, error.body, what, error.headers) from None
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise self.explain(answer.status_code, answer.text, what, answer.headers) from None
        except httpx.HTTPError as error:
            raise TransientError(f"Label Studio at {self.url} does not answer ({type(error).__name__})") from None
        except JSONDecodeError:
            raise ConfigError(f"LABEL_STUDIO_URL={self.url} does not answer like Label Studio's API") from None

    def project(self, number: int) -> dict[str, Any]:
        """A project as Label Studio describes it.

        Raises:
            NotThere: there is none, or the key's user may not see it.
            PrelabelError: see `errors`.
        """
        with self.errors(f"project {number}"):
            there: dict[str, Any] = self.json("GET", f"api/projects/{number}/")
            return there

    def explain(self, status: int, body: object, what: str, headers: Mapping[str, str] | None = None) -> PrelabelError:
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
        if status == httpx.codes.NOT_FOUND and not _says_so_itself(body):
            return TransientError(
                f"{self.url} answers 404 for {what}, but not as Label Studio does: LABEL_STUDIO_URL is wrong, or a "
                "proxy has no Label Studio behind it at present"
            )
        if status == httpx.codes.NOT_FOUND:
            return NotThere(
                f"Label Studio at {self.url} has no {what} that the user of LABEL_STUDIO_API_KEY can see (404)"
            )
        if status >= 500 or status in (408, 409, 425, 429):
            return TransientError(
                f"Label Studio at {self.url} answers {status} for {what}", retry_after_s=_retry_after(headers or {})
            )
        if 200 <= status < 400:
            return ConfigError(
                f"LABEL_STUDIO_URL={self.url} does not answer like Label Studio's API (HTTP {status} for {what}): "
                "check the address, and http or https"
            )
        return ConfigError(f"Label Studio refuses {what} ({status}): {said}")

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks to be left alone for, as far as it is believed; None when it does not say."""
    header = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    asked_s = retry_after_s(header)
    return None if asked_s is None else min(asked_s, LONGEST_RETRY_AFTER_S)


def _says_so_itself(body: object) -> bool:
    """Whether an error is Label Studio's own: JSON with a `detail`. A proxy without one behind it answers otherwise."""
    if isinstance(body, str | bytes):
        try:
            body = loads(body)
        except ValueError:
            return False
    return isinstance(body, dict) and "detail" in body


def summary(body: object) -> str:
    """What Label Studio said, in one short line; nothing of an HTML page."""
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    text = " ".join(str(body).split())
    return "no reason given" if not text or text.startswith("<") else text[:300]
