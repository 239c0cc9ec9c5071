"""References to images as they may be shown: no password, no signature, no payload."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

_WITH_PASSWORDS = ("redis", "rediss")
_PLAIN = re.compile(r"(?:https?|s3|file)://[^@?#;\s\[\]]*")
"""Nothing to hide; most references of a large job."""

_DATA_URI = re.compile(r"data:[^,]{0,100}", re.IGNORECASE)


SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""How a URI begins. One letter is a drive of Windows."""

_NOT_UTF8 = re.compile("[\ud800-\udfff]")


def travelling(reference: str) -> str:
    """The reference as it can be written in JSON.

    A file name need not be UTF-8; Python has a surrogate for each byte of it that is not. Such a path becomes a `file:`
    URI, where any byte can be percent-encoded; in any other URI those bytes alone are.
    """
    if not _NOT_UTF8.search(reference):
        return reference
    if SCHEME.match(reference):
        return _NOT_UTF8.sub(lambda byte: quote(_bytes(byte[0])), reference)
    return f"file:{quote(_bytes(reference))}"


def _bytes(text: str) -> bytes:
    """The bytes that were read as this text; a replacement character for what no byte is read as."""
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text).encode(errors="surrogateescape")


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
