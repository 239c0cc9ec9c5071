"""`prelabel connect` and `disconnect` against a real Label Studio."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.projects.connect import connect, disconnect
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.registration import ACTIONS, SECRET_HEADER
from prelabel.integrations.label_studio.projects.sample import KEEP_S, SAMPLE_S
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer, label_studio_server
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.integration.redis_server import Server
from tests.label_studio_server.site import LabelStudio, connect_project, inline, prelabel, until


def settings_for(backend: Stack, **changes: object):
    return load_settings(**{**backend.settings.model_dump(), **changes})


def run(backend: Stack, project: int, **changes: object):
    return connect(
        settings_for(backend, **changes),
        project=project,
        backend_url=backend.adapter_url or "",
        model=settings_model_id(backend.settings),
        client=backend.client(),
    )


@pytest.mark.parametrize("kind", ["token", "personal_token"])
def test_connect_registers_and_again_changes_nothing_and_disconnect_undoes_it(
    label_studio: LabelStudio, server: LabelStudioServer, backend: Stack, pictures: list[Picture], kind: str
) -> None:
    project = label_studio.make_project()
    label_studio.import_tasks(project, [{"image": inline(pictures[0].path)}])
    key = {"label_studio_api_key": getattr(server, kind)}

    steps = {step.name: step for step in run(backend, project, **key)}
    assert {name: step.status for name, step in steps.items()} == {
        "token": "ok",
        "project": "ok",
        "adapter": "ok",
        "backend": "changed",
        "webhook": "changed",
        "model version": "ok",  # registering has set it
        "image": "ok",
    }
    (ml,) = label_studio.backends(project)
    version = ml["model_version"]
    assert "+tax." in version
    assert (ml["title"], ml["url"], ml["state"], ml["auto_update"]) == (version, backend.adapter_url, "CO", True)
    (hook,) = label_studio.webhooks(project)
    assert hook["url"] == f"{backend.adapter_url}/webhook"
    assert not hook["send_for_all_actions"]
    assert set(hook["actions"]) == set(ACTIONS)
    assert hook["headers"] == {SECRET_HEADER: Projects(backend.client()).secret()}
    assert label_studio.project(project)["model_version"] == version

    before = label_studio.backends(project), label_studio.webhooks(project)
    again = run(backend, project, **key)
    assert {step.status for step in again} == {"ok"}
    untouched = [{**one, "updated_at": ""} for found in before for one in found]
    found = label_studio.backends(project), label_studio.webhooks(project)
    assert [{**one, "updated_at": ""} for rows in found for one in rows] == untouched

    undo = {"project": project, "backend_url": backend.adapter_url or "", "client": backend.client()}
    undone = disconnect(settings_for(backend, **key), **undo)
    assert {step.name: step.status for step in undone} == {"backend": "changed", "webhook": "changed", "jobs": "ok"}
    assert label_studio.backends(project) == label_studio.webhooks(project) == []
    assert project not in Projects(backend.client()).numbers()
    assert {step.status for step in disconnect(settings_for(backend, **key), **undo)} == {"ok"}


def test_what_is_pre_labelled_stays_shown_after_disconnect(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    connect_project(backend, project)
    label_studio.import_tasks(project, [{"image": inline(pictures[0].path)}])
    (prediction,) = label_studio.wait_for(project, 1)
    version = prediction["model_version"]
    until(lambda: not Projects(backend.client()).working(project), 30, "the job has ended")

    disconnect(settings_for(backend), project=project, backend_url=backend.adapter_url or "", client=backend.client())
    assert label_studio.backends(project) == []
    assert label_studio.project(project)["model_version"] == version
    (shown,) = label_studio.call("GET", f"/api/projects/{project}/next")["predictions"]
    assert shown["model_version"] == version


def test_connect_with_another_redis_than_the_adapters_stops_before_it_changes_anything(
    label_studio: LabelStudio, backend: Stack, tmp_path: Path
) -> None:
    project = label_studio.make_project()
    run(backend, project)
    before = label_studio.webhooks(project)
    other = Server(tmp_path / "other")
    other.start()
    try:
        settings = settings_for(backend, redis_url=other.url())
        with Client(settings) as client:
            last = connect(
                settings,
                project=project,
                backend_url=backend.adapter_url or "",
                model=settings_model_id(settings),
                client=client,
            )[-1]
            assert Projects(client).numbers() == []
    finally:
        other.stop()
    assert (last.name, last.status) == ("adapter", "failed")
    assert f"does not use the Redis of this command, {other.url()}" in last.detail
    assert label_studio.webhooks(project) == before


def test_an_adapter_that_moves_leaves_no_backend_and_no_webhook_at_its_old_address(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    run(backend, project)
    moved = (backend.adapter_url or "").replace("127.0.0.1", "localhost")
    settings = settings_for(backend)
    steps = connect(
        settings, project=project, backend_url=moved, model=settings_model_id(settings), client=backend.client()
    )
    told = {step.name: step for step in steps}
    assert told["old address"].detail == f"{backend.adapter_url}: backend and webhook removed"
    assert [one["url"] for one in label_studio.backends(project)] == [moved]
    assert [one["url"] for one in label_studio.webhooks(project)] == [f"{moved}/webhook"]
    assert label_studio.project(project)["model_version"] == label_studio.backends(project)[0]["title"]
    label_studio.import_tasks(project, [{"image": inline(pictures[0].path)}])
    label_studio.wait_for(project, 1)


def test_an_address_without_a_scheme_and_a_wrong_password_are_understood(
    label_studio: LabelStudio, backend: Stack
) -> None:
    project = label_studio.make_project()
    address = (backend.adapter_url or "").removeprefix("http://")
    settings = settings_for(backend)
    named = {"project": project, "backend_url": address, "client": backend.client()}
    steps = connect(settings, model=settings_model_id(settings), **named)
    assert "failed" not in {step.status for step in steps}
    assert label_studio.backends(project)[0]["url"] == backend.adapter_url

    last = connect(settings_for(backend, basic_auth_pass="wrong"), model=settings_model_id(settings), **named)[-1]
    assert (last.name, last.status) == ("adapter", "failed")
    assert "BASIC_AUTH_USER and BASIC_AUTH_PASS" in last.detail


def test_a_backend_added_in_label_studios_dialog_is_taken_over(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    old = label_studio.import_tasks(project, [{"image": inline(pictures[0].path)}])
    label_studio.call(
        "POST",
        "/api/ml",
        json={
            "project": project,
            "url": backend.adapter_url,
            "title": "my model",
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": backend.settings.basic_auth_user,
            "basic_auth_pass": backend.settings.basic_auth_pass.get_secret_value(),
        },
    )
    (hook,) = label_studio.webhooks(project)
    assert hook["send_for_all_actions"]
    assert hook["headers"] == {}

    until(lambda: SECRET_HEADER in label_studio.webhooks(project)[0]["headers"], 30, "the webhook is replaced by ours")
    (hook,) = label_studio.webhooks(project)
    assert set(hook["actions"]) == set(ACTIONS)
    until(lambda: label_studio.backends(project)[0]["title"] != "my model", 10, "the backend's title is its version")
    (ml,) = label_studio.backends(project)
    assert ml["title"] == ml["model_version"]
    until(lambda: label_studio.project(project)["model_version"] == ml["title"], 10, "the project shows our version")
    until(lambda: Projects(backend.client()).serves(project), 10, "the project is served")

    new = label_studio.import_tasks(project, [{"image": inline(pictures[1].path)}])
    assert [one["task"] for one in label_studio.wait_for(project, 1)] == new
    label_studio.open_task(old[0])  # what was there before is pre-labelled when it is opened
    assert {one["task"] for one in label_studio.wait_for(project, 2)} == {*old, *new}


def test_connect_explains_a_project_it_cannot_serve_and_leaves_nothing(
    label_studio: LabelStudio, backend: Stack
) -> None:
    project = label_studio.make_project(
        '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'
    )
    last = run(backend, project)[-1]
    assert (last.name, last.status) == ("project", "failed")
    assert label_studio.backends(project) == label_studio.webhooks(project) == []


@pytest.mark.parametrize(
    "protection",
    [
        {"USE_DEFAULT_BANNED_SUBNETS": "true", "USER_ADDITIONAL_BANNED_SUBNETS": ""},
        {"USE_DEFAULT_BANNED_SUBNETS": "true", "ML_BLOCK_LOCAL_IP": "false"},
        {"USE_DEFAULT_BANNED_SUBNETS": "true", "SSRF_PROTECTION_ENABLED": "false"},
    ],
    ids=["as shipped", "webhooks are protected", "backends are protected"],
)
def test_a_protected_label_studio_is_explained_and_left_as_it_was(
    backend: Stack, tmp_path: Path, protection: dict[str, str]
) -> None:
    with label_studio_server(tmp_path, settings=protection) as strict, LabelStudio(strict) as site:
        project = site.make_project()
        for _ in range(2):
            steps = run(backend, project, label_studio_url=strict.url, label_studio_api_key=strict.token)
            assert steps[-1].status == "failed"
            advice = steps[-1].detail
            pair = "USE_DEFAULT_BANNED_SUBNETS=false and USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16"
            assert pair in advice
            assert advice.index(pair) < advice.index("ML_BLOCK_LOCAL_IP=false")
            assert site.backends(project) == site.webhooks(project) == []
        assert project not in Projects(backend.client()).numbers() or site.url != backend.settings.label_studio_url


def test_the_command_prints_a_table(label_studio: LabelStudio, backend: Stack) -> None:
    project = label_studio.make_project()

    def command(*arguments: str) -> CompletedProcess[str]:
        return prelabel(backend, *arguments, "--project", project, COLUMNS="200")

    done = command("connect", "--url", label_studio.url, "--backend-url", str(backend.adapter_url), "--all")
    assert done.returncode == 0, done.stderr
    for expected in ("token", "reaches Label Studio", "registered", "announces new tasks", "no tasks yet"):
        assert expected in done.stdout
    undone = command("disconnect", "--backend-url", str(backend.adapter_url))
    assert undone.returncode == 0, undone.stderr
    assert label_studio.backends(project) == []


def test_trying_some_images_leaves_no_trace_among_the_work_that_is_done(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[20:25]])
    (image,) = (step for step in connect_project(backend, project) if step.name == "image")
    assert image.status == "ok", image.detail
    name = f"label studio project {project}: some images to try"
    (tried,) = (client.job(one.job_id) for one in client.jobs(1000) if one.name == name)
    assert 0 < client.connection.redis.ttl(JobKeys(tried.id).results) <= KEEP_S
    assert [one for one in client.recent(1000) if one.job_id == tried.id] == [], "its pictures are nobody's predictions"
    assert tried.spec().deadline_s == SAMPLE_S + 1, "should `prelabel connect` die meanwhile, nobody works for it"


def test_one_bad_image_among_several_that_are_tried_is_told(
    label_studio: LabelStudio, backend: Stack, pictures: list[Picture]
) -> None:
    project = label_studio.make_project()
    images = [inline(picture.path) for picture in pictures[:9]]
    images[4] = "data:image/png;base64,AAAA"
    tasks = label_studio.import_tasks(project, [{"image": image} for image in images])
    (image,) = (step for step in connect_project(backend, project) if step.name == "image")
    assert image.status == "warning"
    assert image.detail.startswith(f"1 of 5 tasks tried: task {tasks[4]}: ")
    label_studio.update_task(tasks[4], {"image": images[0]})
    (image,) = (step for step in connect_project(backend, project) if step.name == "image")
    numbers = ", ".join(str(tasks[place]) for place in (0, 2, 4, 6, 8))
    assert (image.status, image.detail) == ("ok", f"workers fetched and scored the images of tasks {numbers}")
