"""Every image address Label Studio uses: a prediction arrives for each.

`gs://` and `azure-blob://` are missing here, for want of a store that speaks their protocols: they go to the same
resolver under the same kind of URL as `s3://`, which tests/unit/integrations/label_studio/convert/test_items.py checks.
"""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.running.stack import Stack, local_stack
from tests.cookbook import inline, picture
from tests.label_studio_server.below_a_path import PREFIX, Proxy, below_a_path
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project

NAME = "red-circle.jpg"
BUCKET = "pictures"
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 endpoint with a bucket that holds the picture."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
        region_name=AWS["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=f"in/{NAME}", Body=picture(NAME))
    client.close()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server with the picture."""
    folder = tmp_path_factory.mktemp("web")
    (folder / NAME).write_bytes(picture(NAME))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(label_studio: LabelStudio) -> int:
    return label_studio.make_project(SHAPES_CONFIG)


def upload(label_studio: LabelStudio, project: int, tmp_path: Path) -> str:
    """The picture's address after it was dropped into a project's import dialog."""
    file = tmp_path / NAME
    file.write_bytes(picture(NAME))
    (address,) = label_studio.upload(project, [file])
    return address


def serve_files(label_studio: LabelStudio, project: int, server: LabelStudioServer) -> None:
    """Put the picture into a folder that the project serves as local files."""
    folder = server.files / "photos"
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(picture(NAME))
    body = {"project": project, "path": str(folder), "regex_filter": ".*jpg", "use_blob_urls": True}
    storage = label_studio.call("POST", "/api/storages/localfiles", json=body)
    label_studio.call("POST", f"/api/storages/localfiles/{storage['id']}/sync")


def add_bucket(label_studio: LabelStudio, project: int, s3: str, *, presign: bool) -> None:
    """Make the bucket a project's source storage, and sync it."""
    body = {
        "project": project,
        "bucket": BUCKET,
        "prefix": "in",
        "regex_filter": ".*jpg",
        "use_blob_urls": True,
        "aws_access_key_id": AWS["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": AWS["AWS_SECRET_ACCESS_KEY"],
        "region_name": AWS["AWS_DEFAULT_REGION"],
        "s3_endpoint": s3,
        "presign": presign,
    }
    storage = label_studio.call("POST", "/api/storages/s3", json=body)
    label_studio.call("POST", f"/api/storages/s3/{storage['id']}/sync")


def addresses(label_studio: LabelStudio, project: int) -> list[str]:
    """What the project's tasks name as their image, as it is stored."""
    fields = {"project": project, "fields": "all", "resolve_uri": "false"}
    return [task["data"]["image"] for task in label_studio.call("GET", "/api/tasks", params=fields)["tasks"]]


def assert_answered(label_studio: LabelStudio, backend: Stack, project: int, count: int = 1) -> None:
    """Connect the project and see that every task gets the right answer."""
    steps = connect_project(backend, project, pre_label_all=True)
    assert not [step for step in steps if step.status == "failed"], steps
    stored = label_studio.wait_for(project, count)
    assert len(label_studio.task_ids(project)) == len(stored) == count
    assert {one["result"][0]["value"]["choices"][0] for one in stored} == {"circle"}


def test_an_uploaded_file(label_studio: LabelStudio, backend: Stack, project: int, tmp_path: Path) -> None:
    address = upload(label_studio, project, tmp_path)
    assert address.startswith(f"/data/upload/{project}/")
    assert_answered(label_studio, backend, project)


def test_an_uploaded_file_by_its_public_address(
    label_studio: LabelStudio, backend: Stack, project: int, tmp_path: Path
) -> None:
    other = label_studio.make_project(SHAPES_CONFIG)
    address = upload(label_studio, other, tmp_path)
    label_studio.import_tasks(project, [{"image": f"https://labels.example.com{address}"}])
    assert_answered(label_studio, backend, project)


def test_local_files(label_studio: LabelStudio, backend: Stack, project: int, server: LabelStudioServer) -> None:
    """As the storage's sync makes them (absolute, on Label Studio's own host), relative, and with a public host."""
    serve_files(label_studio, project, server)
    (synced,) = addresses(label_studio, project)
    assert synced.startswith(f"{server.url}/data/local-files/?d=")
    relative = synced.removeprefix(server.url)
    label_studio.import_tasks(project, [{"image": relative}, {"image": f"https://labels.example.com{relative}"}])
    assert_answered(label_studio, backend, project, 3)


def test_the_web(label_studio: LabelStudio, backend: Stack, project: int, web: str) -> None:
    label_studio.import_tasks(project, [{"image": f"{web}/{NAME}"}])
    assert_answered(label_studio, backend, project)


def test_data_in_the_task_itself(label_studio: LabelStudio, backend: Stack, project: int) -> None:
    label_studio.import_tasks(project, [{"image": inline(NAME)}])
    assert_answered(label_studio, backend, project)


@pytest.mark.parametrize("presign", [True, False], ids=["by a signed URL", "through Label Studio"])
def test_s3_through_label_studio(
    label_studio: LabelStudio, backend: Stack, project: int, s3: str, presign: bool
) -> None:
    add_bucket(label_studio, project, s3, presign=presign)
    assert addresses(label_studio, project) == [f"s3://{BUCKET}/in/{NAME}"]
    assert_answered(label_studio, backend, project)


@pytest.fixture(scope="module")
def proxy(server: LabelStudioServer) -> Iterator[Proxy]:
    """The same Label Studio below a path."""
    with below_a_path(server.url) as running:
        yield running


@pytest.fixture(scope="module")
def second(
    server: LabelStudioServer, proxy: Proxy, s3: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A backend that knows Label Studio below a path, with a personal access token and AWS credentials of its own."""
    settings = load_settings(
        model=str(CHECKPOINT),
        label_studio_url=proxy.url,
        label_studio_api_key=server.personal_token,
        s3_direct=True,
        port=0,
        fetch_timeout_s=10,
        item_retries=0,
        vector_store="off",
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**AWS, "AWS_ENDPOINT_URL": s3}.items():
            patch.setenv(name, value)
        stack = local_stack(settings, tmp_path_factory.mktemp("second"), adapter=True, embedded=True, broker_port=0)
        with stack as running:
            running.wait_until_ready(timeout_s=120)
            yield running


def test_a_label_studio_below_a_path(
    label_studio: LabelStudio, second: Stack, proxy: Proxy, project: int, tmp_path: Path
) -> None:
    other = label_studio.make_project(SHAPES_CONFIG)
    address = upload(label_studio, other, tmp_path)
    here = f"{PREFIX}{address}"
    label_studio.import_tasks(project, [{"image": address}, {"image": here}, {"image": f"https://example.com{here}"}])
    assert_answered(label_studio, second, project, 3)
    fetched = [one for one in proxy.passed if one.path == here]
    assert len(fetched) >= 3  # `connect` has tried one besides
    assert {one.authorization.partition(" ")[0] for one in fetched} == {"Bearer"}


def test_an_access_token_that_ends_in_the_middle_of_a_job(
    label_studio: LabelStudio, second: Stack, proxy: Proxy, project: int, tmp_path: Path
) -> None:
    address = upload(label_studio, project, tmp_path)
    assert_answered(label_studio, second, project)
    used = {one.authorization for one in proxy.passed if one.path == f"{PREFIX}{address}"}
    proxy.ended |= {one.authorization for one in proxy.passed if one.authorization.startswith("Bearer ")}
    again = label_studio.make_project(SHAPES_CONFIG)
    label_studio.import_tasks(again, [{"image": address}])
    assert_answered(label_studio, second, again)
    fetched = [one for one in proxy.passed if one.path == f"{PREFIX}{address}"]
    assert 401 in {one.status for one in fetched}
    assert {one.authorization for one in fetched if one.status == 200} - used


def test_s3_directly_where_the_workers_have_credentials(
    label_studio: LabelStudio, second: Stack, proxy: Proxy, project: int
) -> None:
    label_studio.import_tasks(project, [{"image": f"s3://{BUCKET}/in/{NAME}"}])
    assert_answered(label_studio, second, project)
    assert not any("/resolve/" in one.path for one in proxy.passed)
