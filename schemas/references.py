"""References to images as they may be shown: no password, no signature, no payload, and still one name an image."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_SERVERS = ("redis", "rediss")
"""Of no image: what stands behind the path are options."""

_LITERAL = ("s3", "file")
"""Their `?` and `#` are part of a name."""

_PLAIN = re.compile(r"(?:https?|s3|file)://[^@?#;\s\[\]]*")
"""Nothing to hide; most references of a large job."""

_DATA_URI = re.compile(r"data:[^,]{0,100}", re.IGNORECASE)

_SIGNATURES = tuple(
    re.compile(names, re.IGNORECASE)
    for names in (
        "x-amz-.*|x-id",  # AWS, version 4
        "x-goog-.*",  # Google Cloud Storage, version 4
        "awsaccesskeyid|googleaccessid|key-pair-id|policy|signature|expires",  # both before it, and CloudFront
        "s[eprstv]|sig|sip|spr|srt|sdd|saoid|scid|suoid|sk(?:e|oid|s|t|tid|v)",  # Azure
    )
)
"""The parameters of each way to sign a link. They change each time it is signed, and say nothing of the image."""

_SIGNED = re.compile(r"[?&](?:x-amz-signature|x-goog-signature|signature|sig)=", re.IGNORECASE)

_SECRET = re.compile(
    r"auth|code|cred|hash|jwt|key|mac|nonce|otp|pass|pin|pwd|secret|session|sig|token|user", re.IGNORECASE
)
_HARMLESS_NAME = re.compile(r"[\w.\[\]-]{1,40}", re.ASCII)
_HARMLESS_VALUE = re.compile(r"\d{1,12}|[\w.,/%+ -]{1,200}\.(?:avif|bmp|gif|ico|jpe?g|png|tiff?|webp)", re.IGNORECASE)

_STORAGE_LINK = re.compile(
    r"/(?:data/local-files|storage-data/(?:uploaded|presign)|(?:tasks|projects)/\d+/(?:resolve|presign))/?"
)
"""How a path of Label Studio 1.23 ends that says in a parameter which file of a storage is meant."""

_STORED_FILE = ("d", "fileuri", "filepath")
"""Those parameters: below a folder, in a bucket (in base64), among the uploads."""


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
    """`uri` as it may be shown, with another name for another image.

    User and password are left out, and so is what signs a link. Parameters are shown where they are a number or a
    picture's name and not called like a secret; the others, and an inline payload, are a digest of 12 hexadecimal
    digits. A link of Label Studio's to a file of a storage shows that file. What stands behind a `#` is left out where
    it is never sent to a server, and shown where it is a name's.
    """
    if uri[:5].lower() == "data:":
        head = _DATA_URI.match(uri)
        return f"{head.group(0) if head else 'data:'},… ({len(uri)} characters, {_digest(uri)})"
    if "://" not in uri or _PLAIN.fullmatch(uri):
        return uri
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    if scheme in _LITERAL and not _SIGNED.search(rest):
        place, slash, name = rest.partition("/")
        return f"{scheme}://{place.rpartition('@')[2]}{slash}{name}"
    if scheme in _SERVERS:
        rest = rest.rpartition("@")[2]  # a password may hold any character, "/" and "#" among them
    try:
        parts = urlsplit(f"{scheme}://{rest}")
    except ValueError:
        return f"{scheme}://…"
    query = "" if scheme in _SERVERS else _shown_query(parts.query, bool(_STORAGE_LINK.search(parts.path)))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _shown_query(query: str, stored: bool) -> str:
    """A query's parameters as they may be shown, in their order; those that may not as one digest behind them.

    Args:
        query: what stands behind the `?`.
        stored: whether the path is a `_STORAGE_LINK`.
    """
    parameters = [parameter for parameter in query.split("&") if parameter]
    if _SIGNED.search(f"?{query}"):
        names = [parameter.partition("=")[0] for parameter in parameters]
        ways = [way for way in _SIGNATURES if any(_SIGNED.match(f"?{name}=") and way.fullmatch(name) for name in names)]
        parameters = [
            parameter
            for parameter, name in zip(parameters, names, strict=True)
            if not any(way.fullmatch(name) for way in ways)
        ]
    hidden: list[str] = []
    shown: list[str] = []
    for parameter in parameters:
        if (file := _stored_file(parameter) if stored else None) is not None:
            shown.append(file)
        else:
            (shown if _is_harmless(parameter) else hidden).append(parameter)
    return "&".join([*shown, *([f"…{_digest('&'.join(hidden))}"] if hidden else [])])


def _stored_file(parameter: str) -> str | None:
    """A parameter that says which file of a storage is meant, in letters a person reads; None for another one."""
    name, _, value = parameter.partition("=")
    if name not in _STORED_FILE or not value:
        return None
    if name != "fileuri":
        return parameter
    try:
        uri = base64.b64decode(unquote(value), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):  # Label Studio takes one that is only percent-encoded, too
        uri = unquote(value)
    return f"{name}={display_uri(uri)}" if "://" in uri else None


def _is_harmless(parameter: str) -> bool:
    name, _, value = parameter.rpartition("=")
    named = not name or (_HARMLESS_NAME.fullmatch(name) and not _SECRET.search(name))
    return bool(named and _HARMLESS_VALUE.fullmatch(value))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
