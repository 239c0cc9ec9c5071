"""Small pictures of tasks on the adapter's page: of connected projects' own tasks, and of nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.images import CountingWeb
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project, inline


@pytest.fixture
def page(backend: Stack) -> Iterator[httpx.Client]:
    """Who may see the adapter's page."""
    password = backend.settings.basic_auth_pass
    auth = (backend.settings.basic_auth_user or "", password.get_secret_value() if password else "")
    with httpx.Client(base_url=backend.adapter_url or "", auth=auth, timeout=60, trust_env=False) as made:
        yield made


def test_a_task_of_a_connected_project_has_a_small_picture_of_each_of_its_images(
    label_studio: LabelStudio,
    backend: Stack,
    page: httpx.Client,
    web: CountingWeb,
    pictures: list[Picture],
    tmp_path: Path,
) -> None:
    large = tmp_path / "large.jpg"
    Image.new("RGB", (1600, 800), "blue").save(large)
    gallery = SHAPES_CONFIG.replace('value="$image"', 'valueList="$images"')
    project = label_studio.make_project(gallery)
    (upload,) = label_studio.upload(label_studio.make_project(), [large])
    urls = [web.url(f"flaky/{pictures[0].path.name}"), upload, inline(pictures[1].path)]
    (task,) = label_studio.import_tasks(project, [{"images": urls}])
    connect_project(backend, project)
    asked = len(web.asked)
    sizes = []
    for image in range(3):
        answer = page.get(f"/projects/{project}/tasks/{task}/thumbnail", params={"image": image})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        sizes.append(Image.open(io.BytesIO(answer.content)).size)
    assert sizes[1] == (160, 80), "Label Studio's own media, fetched with the key"
    assert all(max(size) == 160 for size in sizes)
    assert len(web.asked) == asked + 1
    page.get(f"/projects/{project}/tasks/{task}/thumbnail")
    assert len(web.asked) == asked + 1, "a picture that was made is kept"
    missing = page.get(f"/projects/{project}/tasks/{task}/thumbnail", params={"image": 3})
    assert (missing.status_code, missing.json()["detail"].startswith(f"task {task} ")) == (404, True)


def test_nobody_can_have_anything_else_fetched(
    label_studio: LabelStudio, backend: Stack, page: httpx.Client, web: CountingWeb, pictures: list[Picture]
) -> None:
    image = {"image": web.url(f"flaky/{pictures[2].path.name}")}
    connected, other = label_studio.make_project(), label_studio.make_project()
    (mine,) = label_studio.import_tasks(connected, [{"image": "http://169.254.169.254/latest/meta-data.jpg"}])
    (theirs,) = label_studio.import_tasks(other, [image])
    connect_project(backend, connected)
    for path, status, said in (
        (f"/projects/{other}/tasks/{theirs}/thumbnail", 404, "not connected"),
        (f"/projects/{connected}/tasks/{theirs}/thumbnail", 404, f"has no task {theirs}"),
        (f"/projects/{connected}/tasks/{mine}/thumbnail", 404, "169.254.169.254"),
        (f"/projects/{connected}/tasks/0/thumbnail", 422, "task"),
        (f"/projects/{connected}/tasks/{mine}/thumbnail?image=-1", 422, "image"),
    ):
        answer = page.get(path)
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert web.asked == []
    stranger = httpx.get(f"{backend.adapter_url}/projects/{connected}/tasks/{mine}/thumbnail", trust_env=False)
    assert stranger.status_code == 401
