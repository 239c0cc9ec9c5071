"""Where an image named in a task's data really is.

Task data is written by whoever can import tasks, so nothing here trusts it: local paths and unknown schemes are
refused, and a path on Label Studio counts only when it is one of the media paths Label Studio serves. The
adapter's token is sent to those and to nothing else (`is_media_url`).
"""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote, urlsplit

from ....schemas import ItemError
from ....schemas.references import display_uri

_MEDIA = re.compile(
    r"(?:/[\w.~-]+)*?(?P<path>/(?:"
    r"data/upload/\d+/[^/]+"
    r"|data/local-files/?"
    r"|storage-data/(?:uploaded|presign)/?"
    r"|(?:tasks|projects)/\d+/(?:resolve|presign)/?"
    r"))"
)
"""Paths under which Label Studio 1.23 serves media, after an optional prefix for installs below a subpath."""

_CLOUD = ("s3", "gs", "azure-blob")
"""Storage schemes Label Studio resolves itself at /tasks/<id>/resolve/."""


_CONTROLS = "".join(map(chr, range(0x21)))


def image_uri(value: object, task_id: int, label_studio_url: str | None, *, s3_direct: bool = False) -> str:
    """The reference a worker can fetch, from a value of the task's data.

    - Media on Label Studio, relative or with any public host, becomes a URL on `label_studio_url`: the public host
      is often not reachable from where prelabel runs.
    - Cloud storage goes through Label Studio's resolver, which knows the bucket's credentials; without Label Studio,
      or with `s3_direct`, `s3:` is left to the worker's own credentials.
    - Other `http:`, `https:` and `data:` references stay as they are.

    Raises:
        ItemError: not such a reference, or one that needs Label Studio and it is not configured.
    """
    if not isinstance(value, str) or not value.strip():
        raise ItemError(f"an image reference must be a non-empty string, got {type(value).__name__}")
    # As the URL standard and urlsplit read it: no control characters before it, no tabs or line ends in it.
    uri = re.sub(r"[\t\r\n]", "", value).strip().lstrip(_CONTROLS)
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise ItemError(f"not a URL: {display_uri(uri)!r}") from None
    scheme = parts.scheme.lower()
    if scheme == "data":
        return uri
    if scheme == "s3" and s3_direct:
        return uri
    if scheme in _CLOUD:
        return _resolved(uri, scheme, task_id, label_studio_url)
    if scheme in ("http", "https"):
        if not parts.hostname:
            raise ItemError(f"not a URL: {display_uri(uri)!r}")
        path = _media_path(parts.path)
        if path is None or label_studio_url is None:
            return uri
        return _on(label_studio_url, path, parts.query)
    if scheme or parts.netloc or not uri.startswith("/"):
        raise ItemError(f"references such as {_kind(uri)} are not fetched for Label Studio tasks")
    path = _media_path(parts.path)
    if path is None:
        raise ItemError(f"{display_uri(parts.path)!r} is neither a URL nor media that Label Studio serves")
    if label_studio_url is None:
        raise ItemError("the image lies on Label Studio: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY")
    return _on(label_studio_url, path, parts.query)


def is_media_url(url: str, label_studio_url: str) -> bool:
    """Whether `url` is media on this Label Studio: same scheme, host and port, and a media path."""
    try:
        here, there = urlsplit(url), urlsplit(label_studio_url)
        same = _origin(here.scheme, here.hostname, here.port) == _origin(there.scheme, there.hostname, there.port)
    except ValueError:
        return False
    prefix = there.path.rstrip("/")
    path = here.path.removeprefix(prefix)
    return same and here.path.startswith(prefix) and _media_path(path) == path


def _media_path(path: str) -> str | None:
    """The media path inside `path`, without a subpath in front; None when it is not one."""
    if "\\" in path or any(unquote(part) in (".", "..") or "/" in unquote(part) for part in path.split("/")):
        return None
    match = _MEDIA.fullmatch(path)
    return match.group("path") if match else None


def _origin(scheme: str, host: str | None, port: int | None) -> tuple[str, str, int]:
    return scheme.lower(), (host or "").lower(), port or (443 if scheme.lower() == "https" else 80)


def _on(label_studio_url: str, path: str, query: str) -> str:
    return f"{label_studio_url.rstrip('/')}{path}{f'?{query}' if query else ''}"


def _resolved(uri: str, scheme: str, task_id: int, label_studio_url: str | None) -> str:
    if label_studio_url is not None:
        encoded = base64.urlsafe_b64encode(uri.encode()).decode()
        return _on(label_studio_url, f"/tasks/{task_id}/resolve/", f"fileuri={encoded}")
    if scheme == "s3":
        return uri
    raise ItemError(f"{scheme}: references are fetched through Label Studio: set LABEL_STUDIO_URL and its API key")


def _kind(uri: str) -> str:
    scheme, colon, _ = uri.partition(":")
    return f"{scheme[:20]}:" if colon else "local paths"
