"""What stands before every route: basic authentication, a cap on request bodies, and the request counter.

Label Studio 1.23 sends basic authentication with /health, /setup and /predict when the backend was registered with
it, and never with its webhooks. So /health may be asked without (container health checks do), but wrong credentials
get 401 there too, which Label Studio reports as such when the backend is registered; and a webhook without
credentials reaches its route, which believes nothing of what it says.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from ...schemas import ConfigError, Settings
from .metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

_OPEN = ("/health", "/webhook")

OPEN_BODY_BYTES = 2**20
"""A request that may come without credentials, and does, has no larger body. An event of 5,000 tasks has 0.3 MiB."""


class BasicAuth:
    """The adapter's own user and password; none configured lets everybody in.

    Raises:
        ConfigError: only one of BASIC_AUTH_USER and BASIC_AUTH_PASS is set.
    """

    def __init__(self, settings: Settings) -> None:
        user, password = settings.basic_auth_user, settings.basic_auth_pass
        if bool(user) != bool(password and password.get_secret_value()):
            raise ConfigError("set both BASIC_AUTH_USER and BASIC_AUTH_PASS, or neither")
        self._expected = f"{user}:{password.get_secret_value()}".encode() if user and password else None

    @property
    def required(self) -> bool:
        """Whether requests need credentials."""
        return self._expected is not None

    def accepts(self, header: bytes) -> bool:
        """Whether an `Authorization` header is right, compared in constant time."""
        if self._expected is None:
            return True
        scheme, _, encoded = header.partition(b" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except ValueError:
            given = b""
        return secrets.compare_digest(given, self._expected) and scheme.lower() == b"basic"


class Guard:
    """ASGI middleware."""

    def __init__(self, app: App, *, auth: BasicAuth, max_body_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._auth = auth
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        headers: dict[bytes, bytes] = dict(scope["headers"])

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.request(path, message["status"])
            await send(message)

        given = headers.get(b"authorization")
        authorized = self._auth.accepts(given or b"")
        if not authorized and (given is not None or path not in _OPEN):
            await _refuse(counted, 401, "wrong user or password", [(b"www-authenticate", b'Basic realm="prelabel"')])
            return
        most, too_large = self._max_body_bytes, "PRELABEL_MAX_BODY_BYTES"
        if path in _OPEN and given is None and most > OPEN_BODY_BYTES:
            most, too_large = OPEN_BODY_BYTES, "more needs credentials"
        too_large = f"the body is larger than {most} bytes ({too_large})"
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > most:
            await _refuse(counted, 413, too_large)
            return
        await self._app(scope, _capped(receive, most, too_large), counted)


def _capped(receive: Receive, most: int, too_large: str) -> Receive:
    """`receive` for bodies of undeclared length."""
    read = 0

    async def capped() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise HTTPException(413, too_large)
        return message

    return capped


async def _refuse(send: Send, status: int, detail: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"detail": detail}).encode()
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the body is not read
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
