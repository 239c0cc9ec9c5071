"""Images in S3 or a store that speaks its protocol."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import boto3.session
import botocore.exceptions as aws
from botocore.config import Config

from ...schemas.errors import ItemError, TransientError
from ...schemas.retrying import retry_after_s
from ...schemas.settings import Settings
from .deadline import Deadline
from .packing import unpacked
from .reader import CHUNK, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, Fetched, IsKnown, too_large, too_slow

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# No ARNs: an access point's ARN would pick its own endpoint.
_URI = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,254})/(?P<key>.+)", re.IGNORECASE | re.DOTALL)

# Stores answer these with a 4xx although the same request may succeed later.
_PASSING_CODES = {"RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "Throttling", "ThrottlingException"}
_MEANING = {
    "NoSuchKey": "there is no such object in the bucket",
    "NoSuchBucket": "there is no such bucket",
    "InvalidObjectState": "the object is archived; restore it first",
    "ExpiredToken": "the worker's AWS credentials have expired",
    "InvalidAccessKeyId": "the store does not know the worker's AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the worker's AWS_SECRET_ACCESS_KEY is wrong",
}
_MEANING_BY_STATUS = {
    301: "the bucket is in another region (AWS_DEFAULT_REGION)",
    400: "the store cannot make sense of the request",
    403: "the worker's AWS credentials may not read it",
    404: "there is no such object in the bucket",
}


class S3Reader:
    """Reads `s3://bucket/key`, with credentials, region and endpoint from the standard AWS environment.

    The endpoint is the operator's choice, so it may be private and may be reached by proxy. `key` is taken as
    written, not percent-decoded, as the AWS command line does.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_image_bytes
        self._connections = settings.fetch_threads
        self._lock = threading.Lock()
        self._client: S3Client | None = None

    def read(self, uri: str, deadline: Deadline, is_known: IsKnown) -> Fetched:
        """The object's bytes, without their Content-Encoding. Its mark is made of ETag and size.

        Raises:
            ItemError: malformed, missing, forbidden, or too large.
            TransientError: throttled, unreachable, or too slow.
        """
        match = _URI.fullmatch(uri)
        if match is None:
            raise ItemError("not an S3 reference: write s3://bucket/key")
        try:
            return self._read(match["bucket"], match["key"], deadline, is_known)
        except aws.ClientError as error:
            raise _explain(error) from None
        except (aws.NoCredentialsError, aws.PartialCredentialsError):
            raise ItemError(
                "the worker has no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except (
            aws.ConnectionError,
            aws.HTTPClientError,
            aws.IncompleteReadError,
            aws.CredentialRetrievalError,
        ) as error:
            if deadline.passed:
                raise too_slow(deadline) from None
            raise TransientError(f"the S3 store cannot be reached ({type(error).__name__})") from None
        except (aws.BotoCoreError, ValueError) as error:
            # A profile, region or endpoint that makes no sense; such a message may hold the endpoint's password.
            raise ItemError(f"the worker's AWS settings do not work ({type(error).__name__})") from None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _read(self, bucket: str, key: str, deadline: Deadline, is_known: IsKnown) -> Fetched:
        answer = self._connected().get_object(Bucket=bucket, Key=key)
        body = answer["Body"]
        try:
            if answer.get("ContentLength", 0) > self._limit:
                raise too_large(self._limit)
            mark = f"{answer['ETag']}:{answer.get('ContentLength')}" if answer.get("ETag") else None
            if mark and is_known(mark):
                return Fetched(mark, None)
            chunks = _in_time(body.iter_chunks(CHUNK), deadline)
            return Fetched(mark, unpacked(chunks, answer.get("ContentEncoding", ""), self._limit))
        finally:
            body.close()

    def _connected(self) -> S3Client:
        with self._lock:
            if self._client is None:
                # Its own session: the default one is shared with whatever else uses boto3 in this process.
                self._client = boto3.session.Session().client(
                    "s3",
                    config=Config(
                        connect_timeout=CONNECT_TIMEOUT_S,
                        read_timeout=READ_TIMEOUT_S,
                        max_pool_connections=self._connections,
                        retries={"total_max_attempts": 1, "mode": "standard"},  # `Fetcher` does the retrying
                    ),
                )
            return self._client


def _in_time(chunks: Iterable[bytes], deadline: Deadline) -> Iterator[bytes]:
    for chunk in chunks:
        if deadline.passed:
            raise too_slow(deadline)
        yield chunk


def _explain(error: aws.ClientError) -> ItemError | TransientError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", "") or "error")
    if status >= 500 or status in (408, 425, 429) or code in _PASSING_CODES:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        asked_s = retry_after_s(headers.get("retry-after", ""))
        return TransientError(f"the S3 store answers {status} {code}", retry_after_s=asked_s)
    meaning = _MEANING.get(code) or _MEANING_BY_STATUS.get(status)
    return ItemError(f"{meaning} (S3: {status} {code})" if meaning else f"the S3 store refuses: {status} {code}")
