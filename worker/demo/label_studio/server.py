"""A Label Studio server on loopback, with SQLite and a user of its own, for as long as a block runs.

It is the unchanged program from PyPI. What is set: no telemetry and no update check, a data folder, one user with a
random password and both kinds of API key, and ML backends on loopback allowed in the way `prelabel connect`
advises: only the ban of private addresses is lifted, cloud metadata addresses stay banned.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from ....schemas.errors import TransientError
from ...machine.children import kill, spawn, stop
from ...running.stack import free_port
from .install import Installation, install, locked

USERNAME: Final = "admin@example.com"
DATABASE: Final = "label_studio.sqlite3"

_START_S = 240.0
_STOP_S = 5.0

LOOPBACK_ALLOWED: Final = {
    "USE_DEFAULT_BANNED_SUBNETS": "false",
    "USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16",
}
"""The least that lets Label Studio call an ML backend and its webhook on a private address."""


@dataclass(frozen=True)
class LabelStudioServer:
    """What runs.

    Attributes:
        url: `http://127.0.0.1:<port>`.
        username: of the one user, who may do everything.
        password: for the login page.
        token: legacy API token.
        personal_token: personal access token.
        files: folder Label Studio may serve local files from (`/data/local-files/?d=…`).
        log: the server's output.
        process: the server.
    """

    url: str
    username: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    personal_token: str = field(repr=False)
    files: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)


@contextmanager
def label_studio_server(
    directory: Path,
    *,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[LabelStudioServer]:
    """Install Label Studio where it is not there yet, and run it while the block runs.

    Args:
        directory: where it keeps its data; new or empty.
        port: where it listens; 0 is any free port.
        settings: environment variables of Label Studio on top, such as `{"SSRF_PROTECTION_ENABLED": "true"}`.
        tell: told what is being done, in words.

    Raises:
        ConfigError: it cannot be installed.
        TransientError: it does not start; the message holds the end of its log.
    """
    installation = install(tell)
    _seed(installation, tell)
    files = directory / "files"
    files.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(installation.seed / DATABASE, directory / DATABASE)
    tell("starting Label Studio")
    password, token = secrets.token_urlsafe(12), secrets.token_hex(20)
    user = {
        "LABEL_STUDIO_USERNAME": USERNAME,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files),
    }
    with _running(installation, directory, port or free_port(), {**user, **LOOPBACK_ALLOWED, **(settings or {})}) as (
        url,
        process,
    ):
        yield LabelStudioServer(
            url=url,
            username=USERNAME,
            password=password,
            token=token,
            personal_token=_personal_token(url, token),
            files=files,
            log=directory / "server.log",
            process=process,
        )


def _seed(installation: Installation, tell: Callable[[str], None]) -> None:
    """Have a migrated database without a user in the cache: the migrations take most of a first start's minute."""
    database = installation.seed / DATABASE
    if database.exists():
        return
    with locked(installation.lock, lambda: tell("waiting for another process that prepares Label Studio")):
        if database.exists():
            return
        tell("preparing Label Studio's database (once; about a minute)")
        unfinished = installation.seed / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        log_path = installation.seed / "migrations.log"
        with log_path.open("wb") as log:
            # Any of its commands migrates first; this one does nothing else of weight.
            child = spawn([str(installation.program), "version"], env=_environment(unfinished), output=log)
        try:
            status: object = child.wait(_START_S)
        except subprocess.TimeoutExpired:
            status = f"not done within {_START_S:.0f} s"
        finally:
            kill(child)
        if status or not (unfinished / DATABASE).exists():
            raise TransientError(f"Label Studio's database cannot be prepared ({status}): {_last_line(log_path)}")
        (unfinished / DATABASE).rename(database)
        shutil.rmtree(unfinished)


@contextmanager
def _running(
    installation: Installation, directory: Path, port: int, variables: Mapping[str, str]
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(installation.program), "start", "--no-browser", "--internal-host", "127.0.0.1"),
        *("--port", str(port), "--log-level", "INFO", "--enable-legacy-api-token"),
    ]
    log_path = directory / "server.log"
    with log_path.open("ab") as log:
        child = spawn(command, env={**_environment(directory), "LABEL_STUDIO_HOST": url, **variables}, output=log)
    try:
        _wait_until_up(child, url, log_path)
        yield url, child
    finally:
        stop(child, _STOP_S)
        kill(child)  # and whatever else was in its group


def _environment(directory: Path) -> dict[str, str]:
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(directory),
        "DJANGO_DB": "sqlite",
        "DEBUG": "False",
        "COLLECT_ANALYTICS": "False",
        "LATEST_VERSION_CHECK": "False",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
    }


def _wait_until_up(child: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise TransientError(f"Label Studio did not start: {_last_line(log_path)}")


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return f"{lines[-1]} (log: {log_path})"


def _personal_token(url: str, token: str) -> str:
    """A new personal access token; Label Studio tells it once."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Token {token}"}, timeout=30, trust_env=False) as client:
        client.post(
            "/api/jwt/settings", json={"legacy_api_tokens_enabled": True, "api_tokens_enabled": True}
        ).raise_for_status()
        made = client.post("/api/token/")
        made.raise_for_status()
        return str(made.json()["token"])
