"""S3: a real endpoint on loopback, and stores that refuse or are in trouble."""

import gzip

import boto3
import pytest

from prelabel.schemas import ImageRef
from prelabel.schemas.errors import ItemError, TransientError
from tests.unit.worker.fetching.helpers import fetch, marks


@pytest.fixture(scope="module")
def s3_endpoint():
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(s3_endpoint, aws):
    aws(s3_endpoint)
    client = boto3.session.Session().client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    client.close()


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """The standard AWS environment, pointing at an endpoint."""

    def point(endpoint, key="test"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        if key:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)

    return point


def s3_error(status, code):
    return status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


@pytest.mark.parametrize("key", ["a.jpg", "deep/er/a b.jpg", "odd?#%20&+.jpg", "ü.jpg"])
def test_an_object_is_fetched_by_the_key_as_written(fetcher, bucket, key):
    bucket.put_object(Bucket="photos", Key=key, Body=b"picture")
    assert fetch(fetcher(), f"s3://photos/{key}") == b"picture"


@pytest.mark.parametrize(
    ("uri", "message"),
    [("s3://photos/none.jpg", "no such object.*NoSuchKey"), ("s3://no-such-bucket/a.jpg", "no such bucket")],
)
def test_a_missing_object_is_final(fetcher, bucket, uri, message):
    with pytest.raises(ItemError, match=message):
        fetch(fetcher(fetch_attempts=3), uri)


@pytest.mark.parametrize(
    "uri", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key", "s3:bucket/key", "s3://arn:aws:s3:x/k"]
)
def test_a_malformed_s3_reference_is_an_item_error(fetcher, uri):
    with pytest.raises(ItemError, match="s3://bucket/key"):
        fetch(fetcher(), uri)


@pytest.mark.parametrize(("encoding", "body"), [("gzip", gzip.compress(b"picture")), ("aws-chunked", b"picture")])
def test_an_object_is_unpacked_as_its_content_encoding_says(fetcher, bucket, encoding, body):
    bucket.put_object(Bucket="photos", Key="a.jpg", Body=body, ContentEncoding=encoding)
    assert fetch(fetcher(), "s3://photos/a.jpg") == b"picture"


def test_a_packed_object_counts_as_what_it_unpacks_to(fetcher, bucket):
    bomb = gzip.compress(bytes(10_000_000))
    bucket.put_object(Bucket="photos", Key="a.jpg", Body=bomb, ContentEncoding="gzip")
    with pytest.raises(ItemError, match="larger than 100,000 bytes"):
        fetch(fetcher(max_image_bytes=100_000), "s3://photos/a.jpg")


def test_an_object_is_held_to_the_byte_limit(fetcher, bucket):
    bucket.put_object(Bucket="photos", Key="big", Body=b"x" * 101)
    assert len(fetch(fetcher(max_image_bytes=101), "s3://photos/big")) == 101
    with pytest.raises(ItemError, match="PRELABEL_MAX_IMAGE_BYTES"):
        fetch(fetcher(max_image_bytes=100), "s3://photos/big")


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "AccessDenied", "may not read it"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "expired"),
        (403, "InvalidObjectState", "archived"),
    ],
)
def test_a_refusal_of_the_store_is_final_and_explained(fetcher, server, aws, status, code, hint):
    aws(server.origin)
    server.serve("/photos/a.jpg", s3_error(status, code))
    with pytest.raises(ItemError, match=f"{hint}.*{status} {code}"):
        fetch(fetcher(fetch_attempts=3), "s3://photos/a.jpg")
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout")])
def test_a_store_in_trouble_is_asked_again_as_often_as_set_and_no_oftener(fetcher, server, aws, status, code):
    aws(server.origin)
    server.serve("/photos/a.jpg", s3_error(status, code))
    with pytest.raises(TransientError, match=f"{status} {code}.*gave up after 2 tries"):
        fetch(fetcher(fetch_attempts=2), "s3://photos/a.jpg")
    assert len(server.requests) == 2


def test_what_a_store_in_trouble_asks_for_is_told(fetcher, server, aws):
    aws(server.origin)
    busy = s3_error(503, "SlowDown")
    server.serve("/photos/a.jpg", lambda handler: server.answer(handler, busy, {"Retry-After": "30"}))
    with pytest.raises(TransientError) as error:
        fetch(fetcher(), "s3://photos/a.jpg")
    assert error.value.retry_after_s == 30


def test_a_store_that_is_down_is_passing_trouble(fetcher, aws, free_port):
    aws(f"http://127.0.0.1:{free_port}")
    with pytest.raises(TransientError, match="cannot be reached"):
        fetch(fetcher(), "s3://photos/a.jpg")


def test_missing_credentials_are_named(fetcher, aws, server):
    aws(server.origin, key=None)
    with pytest.raises(ItemError, match="AWS_ACCESS_KEY_ID"):
        fetch(fetcher(), "s3://photos/a.jpg")


@pytest.mark.parametrize("setting", [("AWS_ENDPOINT_URL", "nonsense"), ("AWS_PROFILE", "none")])
def test_aws_settings_of_no_use_are_an_item_error(fetcher, aws, server, monkeypatch, setting):
    aws(server.origin)
    monkeypatch.setenv(*setting)
    with pytest.raises(ItemError, match="AWS settings do not work"):
        fetch(fetcher(), "s3://photos/a.jpg")


def test_an_object_has_the_same_mark_until_it_is_put_again(fetcher, bucket):
    reader, uri = fetcher(), "s3://photos/a.jpg"
    bucket.put_object(Bucket="photos", Key="a.jpg", Body=b"one")
    first = marks(reader, uri)
    assert first == marks(reader, uri)
    assert reader.fetch(ImageRef(uri=uri), lambda mark: mark == first[0]) == (first[0], None)
    bucket.put_object(Bucket="photos", Key="a.jpg", Body=b"two")
    assert first != marks(reader, uri)
