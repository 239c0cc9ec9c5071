"""References to images as they may be shown: no password, no signature, no payload."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_WITH_PASSWORDS = ("redis", "rediss")
_PLAIN = re.compile(r"(?:https?|s3|file)://[^@?#;\s\[\]]*")
"""Nothing to hide; most references of a large job."""

_DATA_URI = re.compile(r"data:[^,]{0,100}", re.IGNORECASE)


def display_uri(uri: str) -> str:
    """`uri` without user, password, query, fragment or inline payload."""
    if uri[:5].lower() == "data:":
        head = _DATA_URI.match(uri)
        return f"{head.group(0) if head else 'data:'},… ({len(uri)} characters)"
    if "://" not in uri or _PLAIN.fullmatch(uri):
        return uri
    scheme, _, rest = uri.partition("://")
    if scheme.lower() in _WITH_PASSWORDS:
        rest = rest.rpartition("@")[2]  # a password may hold any character, "/" and "#" among them
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return f"{scheme}://…"
