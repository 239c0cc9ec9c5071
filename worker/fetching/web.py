"""Images behind http and https, from servers that may be slow, lying or hostile."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import httpx

from ...schemas.errors import ConfigError, ItemError, TransientError
from ...schemas.retrying import retry_after_s
from ...schemas.settings import Settings
from .addresses import AddressPolicy
from .deadline import Deadline
from .guard import GuardedTransport
from .packing import unpacked
from .reader import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, Fetched, IsKnown, too_large, too_slow

Authorize = Callable[[str], Mapping[str, str]]
"""Gives the headers that identify us to Label Studio for a URL there; none where the URL is not media."""

Refused = Callable[[Mapping[str, str]], bool]
"""Told the headers that Label Studio answered 401 to; says whether there are others by now."""

_Origin = tuple[str, str, int]

_HEADERS = {
    "user-agent": "prelabel",
    "accept": "image/*, */*;q=0.1",
    # Images do not compress; a server that packs them all the same is unpacked within the byte cap.
    "accept-encoding": "identity",
}
_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429}
_BROKEN_OFF = ("peer closed connection", "Server disconnected")
"""How h11 and httpcore begin to say that an answer did not come to its end. What else they find wrong with one would be
wrong again."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION")
"""OpenSSL's reasons when the other side speaks something else."""

_MEANING = {
    400: "the server cannot make sense of the link",
    401: "a login is needed; use a pre-signed link, or LABEL_STUDIO_API_KEY if this is your Label Studio",
    403: "access refused; a signed link may have expired, or the account may not see this image",
    404: "not found",
    410: "no longer there",
    451: "withheld for legal reasons",
}


class WebReader:
    """Reads http and https URLs through the address guard.

    Args:
        settings: limits, allowed hosts, and the Label Studio origin, which is allowed though it may be private.
        authorize: headers for the Label Studio origin and for nothing else.
        refused: asked once a fetch, when Label Studio does not take them (any more).

    Raises:
        ConfigError: the Label Studio URL or the allow-list cannot be used.
    """

    def __init__(self, settings: Settings, authorize: Authorize | None = None, refused: Refused | None = None) -> None:
        self._refused = refused
        self._limit = settings.max_image_bytes
        self._max_redirects = settings.max_redirects
        self._authorize = authorize
        self._label_studio: _Origin | None = None
        allow = list(settings.allow_hosts)
        if settings.label_studio_url is not None:
            try:
                self._label_studio = _origin(_parse(settings.label_studio_url))
            except ItemError as error:
                raise ConfigError(f"LABEL_STUDIO_URL cannot be used: {error}") from None
            _, host, port = self._label_studio
            allow.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        self._transport = GuardedTransport(AddressPolicy(allow), keepalive=settings.fetch_threads)

    def read(self, uri: str, deadline: Deadline, is_known: IsKnown) -> Fetched:
        """The body behind `uri`, redirects followed. Its mark is made of ETag (or time of change) and size.

        Raises:
            ItemError: malformed, forbidden, missing, too large, or too many redirects.
            TransientError: the server is unreachable, overloaded, or too slow.
        """
        first = url = _parse(uri)
        redirects = 0
        renewable = self._refused is not None
        with deadline.in_force():
            while redirects <= self._max_redirects:
                headers = self._headers(url, first)
                request = httpx.Request(
                    "GET",
                    url,
                    headers=headers,
                    extensions={
                        "timeout": {"connect": CONNECT_TIMEOUT_S, "read": READ_TIMEOUT_S, "write": READ_TIMEOUT_S}
                    },
                )
                try:
                    with closing(self._transport.handle_request(request)) as response:
                        if response.status_code in _REDIRECTS:
                            url = _redirected(url, response)
                            redirects += 1
                            continue
                        if renewable and response.status_code == httpx.codes.UNAUTHORIZED:
                            renewable = False
                            if self._renewed(url, headers):
                                continue
                        _check_status(response, url)
                        mark = _mark(response)
                        if mark and is_known(mark):
                            return Fetched(mark, None)
                        return Fetched(mark, self._body(response))
                except httpx.TransportError as error:
                    raise _explain(error, url, deadline) from None
        raise ItemError(f"more than {self._max_redirects} redirects (PRELABEL_MAX_REDIRECTS)")

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def _headers(self, url: httpx.URL, first: httpx.URL) -> dict[str, str]:
        headers = dict(_HEADERS)
        if self._authorize is not None and _origin(url) == self._label_studio:
            headers.update(self._authorize(str(url)))
        elif first.userinfo and _origin(url) == _origin(first):
            pair = f"{first.username}:{first.password}".encode()
            headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def _renewed(self, url: httpx.URL, headers: Mapping[str, str]) -> bool:
        """Whether Label Studio, which refused these headers, is worth asking again."""
        return self._refused is not None and _origin(url) == self._label_studio and self._refused(headers)

    def _body(self, response: httpx.Response) -> bytes:
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit:
            raise too_large(self._limit)
        return unpacked(response.iter_raw(), response.headers.get("content-encoding", ""), self._limit)


def _mark(response: httpx.Response) -> str | None:
    """What changes when the content does, as far as the server says: ETag, else time of change, with the size."""
    size = response.headers.get("content-length", "")
    version = response.headers.get("etag") or (size and response.headers.get("last-modified"))
    return f"{version}:{size}" if version else None


def _parse(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        if _is_web(url):
            return url
    except (httpx.InvalidURL, ValueError):
        raise ItemError("not a valid URL") from None
    raise ItemError("not a valid http or https URL")


def _is_web(url: httpx.URL) -> bool:
    """Whether it can be fetched.

    Raises:
        ValueError: its host is in a punycode that stands for nothing; httpx decodes that only when asked for the host.
    """
    # httpx keeps what cannot stand in a host name as a percent escape, and ports that do not exist.
    return (
        url.scheme in ("http", "https")
        and bool(url.host)
        and "%" not in url.host
        and (url.port is None or 0 < url.port < 65536)
    )


def _origin(url: httpx.URL) -> _Origin:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}[url.scheme]


def _redirected(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    location = response.headers.get("location")
    if not location:
        raise ItemError(f"HTTP {response.status_code} without a place to go to")
    try:
        target = url.join(location)
        if _is_web(target):
            return target
    except (httpx.InvalidURL, ValueError):
        raise ItemError("redirected to something that is not a URL") from None
    raise ItemError(f"redirected to a {target.scheme}: URL that is not followed; only valid http and https ones are")


def _check_status(response: httpx.Response, url: httpx.URL) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if status >= 500 or status in _PASSING:
        asked_s = retry_after_s(response.headers.get("retry-after", ""))
        raise TransientError(f"HTTP {status} from {url.host}", retry_after_s=asked_s)
    meaning = _MEANING.get(status)
    raise ItemError(f"HTTP {status} from {url.host}" + (f": {meaning}" if meaning else ""))


def _explain(error: httpx.TransportError, url: httpx.URL, deadline: Deadline) -> ItemError | TransientError:
    if isinstance(error, httpx.TimeoutException):
        return too_slow(deadline) if deadline.passed else TransientError(f"{url.host} does not answer in time")
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return ItemError("not a URL that can be sent to a server")
    if isinstance(error, httpx.ConnectError) and _is_certificate_error(error):
        return ItemError(f"{url.host} shows a certificate that cannot be trusted (SSL_CERT_FILE adds your own CA)")
    if isinstance(error, httpx.ConnectError) and _speaks_no_tls(error):
        return ItemError(f"{url.host} does not speak https here, or in a version long out of use")
    if isinstance(error, httpx.RemoteProtocolError) and not str(error).startswith(_BROKEN_OFF):
        return ItemError(f"{url.host} does not speak HTTP as it should ({str(error)[:100]})")
    return TransientError(f"no connection to {url.host}: {error or type(error).__name__}")


def _is_certificate_error(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _speaks_no_tls(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
