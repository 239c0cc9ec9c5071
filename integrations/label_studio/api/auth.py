"""Authorization for Label Studio's HTTP API, from either kind of API key.

Label Studio 1.23 takes a legacy token (40 hex digits) as `Authorization: Token <token>`. A personal access token
is a JWT that must first be exchanged at `POST /api/token/refresh/` for an access token, which is good for 300 s
as `Authorization: Bearer <access>`; sent directly it gets 401.

label-studio-sdk exchanges tokens too, but trusts the local clock and refreshes only after the expiry. `LabelStudioAuth`
goes by the token's own lifetime, refreshes ahead of it and once more on a 401, and serves the SDK, plain HTTP
calls and image fetches alike.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Self

import httpx

from ....schemas import ConfigError, Settings, TransientError
from .media import is_media_url

LIFETIME_S = 300.0
"""Seconds an access token lives when it does not say so itself."""

MARGIN_S = 30.0
"""Seconds before its expiry from which an access token is not used any more."""


class LabelStudioAuth(httpx.Auth):
    """Makes the `Authorization` header. Thread-safe; also usable as `httpx.Client(auth=…)`.

    Args:
        url: Label Studio's URL.
        api_key: legacy token or personal access token; never appears in a message.
        transport: for the token exchange; None is a real connection.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._key = api_key.strip()
        self._is_personal = _claims(self._key) is not None
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._access = ""
        self._good_until = 0.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """From LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.

        Raises:
            ConfigError: one of them is not set.
        """
        url, key = settings.label_studio_url, settings.label_studio_api_key
        if not url or key is None or not key.get_secret_value().strip():
            missing, such = (
                ("LABEL_STUDIO_API_KEY", "a token from Account & Settings there")
                if url
                else ("LABEL_STUDIO_URL", "http://localhost:8080")
            )
            raise ConfigError(f"{missing} is not set: prelabel needs it to talk to Label Studio; {such}, for example")
        return cls(url, key.get_secret_value())

    def headers(self) -> dict[str, str]:
        """`{"Authorization": …}`, exchanging the token first where needed.

        Raises:
            ConfigError: Label Studio refuses the key; the message says what to do.
            TransientError: Label Studio does not answer.
        """
        if not self._is_personal:
            return {"Authorization": f"Token {self._key}"}
        with self._lock:
            if not self._access or self._clock() >= self._good_until:
                self._refresh()
            return {"Authorization": f"Bearer {self._access}"}

    def covers(self, url: str) -> bool:
        """Whether `url` is media on this Label Studio, so the only kind of image URL that may get the header."""
        return is_media_url(url, self._url)

    def media_headers(self, url: str) -> dict[str, str]:
        """`headers()` for media on this Label Studio; none for anything else: task data must not make us call its API.

        Raises:
            PrelabelError: see `headers`.
        """
        return self.headers() if self.covers(url) else {}

    def refused(self, headers: Mapping[str, str]) -> bool:
        """Label Studio answered 401 to a request with these headers.

        Returns:
            Whether it is worth asking again: the access token was given up, here or by another thread before.
        """
        sent = headers.get("Authorization")
        if not self._is_personal or sent is None:
            return False
        self._forget(sent)
        return True

    def _forget(self, sent: str) -> None:
        with self._lock:
            if sent == f"Bearer {self._access}":
                self._access = ""

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authorize a request; on a 401 exchange the token once more and try again."""
        sent = self.headers()["Authorization"]
        request.headers["Authorization"] = sent
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and self._is_personal:
            self._forget(sent)
            request.headers["Authorization"] = self.headers()["Authorization"]
            yield request

    def __repr__(self) -> str:
        return f"LabelStudioAuth({self._url!r})"

    def _refresh(self) -> None:
        try:
            with httpx.Client(timeout=10.0, transport=self._transport) as client:
                response = client.post(f"{self._url}/api/token/refresh/", json={"refresh": self._key})
        except httpx.HTTPError as error:
            raise TransientError(f"Label Studio at {self._url} does not answer: {type(error).__name__}") from None
        if response.status_code in (400, 401, 403):
            raise ConfigError(
                f"Label Studio at {self._url} refuses LABEL_STUDIO_API_KEY: the personal access token is expired, "
                "revoked or of another Label Studio. Make a new one under Account & Settings > Personal Access Token"
            )
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            raise TransientError(f"Label Studio at {self._url} answers {response.status_code} to the token exchange")
        try:
            access = response.json()["access"] if response.is_success else None
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not access:
            raise ConfigError(
                f"LABEL_STUDIO_URL={self._url} does not exchange tokens like Label Studio does "
                f"(HTTP {response.status_code}): check the address, scheme and path"
            )
        self._access = access
        self._good_until = self._clock() + max(_lifetime(access) - MARGIN_S, 1.0)


def _claims(token: str) -> dict[str, Any] | None:
    """What a JWT says, unverified; None when it is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def _lifetime(access: str) -> float:
    claims = _claims(access) or {}
    try:
        return float(claims["exp"]) - float(claims["iat"])
    except (KeyError, TypeError, ValueError):
        return LIFETIME_S
