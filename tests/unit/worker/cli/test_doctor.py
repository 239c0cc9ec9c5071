"""`prelabel doctor`: what it finds, how it judges it, and what it says to do."""

from __future__ import annotations

import io
import json
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger.pushes import Pushes
from prelabel.schemas import ConfigError, ModelLoadError, PushTarget, Settings, Taxonomy, get_settings, model_version
from prelabel.schemas.settings import load_settings
from prelabel.worker.cli import app
from prelabel.worker.cli.checks import Check
from prelabel.worker.cli.checks.disk import check_disk
from prelabel.worker.cli.checks.images import check_image, check_project_image
from prelabel.worker.cli.checks.label_studio import check_label_studio
from prelabel.worker.cli.checks.model import check_model
from prelabel.worker.cli.checks.pushes import check_pushes
from tests.label_studio import LEGACY, LabelStudio, running
from tests.unit.worker.cli.checks import by_name

XML = (
    '<View><Image name="i" value="$image"/><Choices name="c" toName="i">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


# ---- model


def test_the_model_is_looked_for_and_on_request_loaded(settings, tmp_path) -> None:
    assert by_name(check_model(settings, False))["model"].status == "ok"
    loaded = by_name(check_model(settings, True, tmp_path))
    assert "loads on cpu" in loaded["model"].detail
    assert loaded["model's image"].detail == "64x64, squashed"
    assert "each pair by itself" in loaded["model's scores"].detail
    gone = load_settings(model=str(tmp_path / "gone"))
    assert by_name(check_model(gone, False))["model"].status == "fail"
    with pytest.raises(ModelLoadError):
        list(check_model(gone, True))


def test_a_folder_in_openclips_format_is_a_model_too(settings, tmp_path) -> None:
    def told(**changed: str) -> Check:
        changed_settings = settings.model_copy(update={"model": str(tmp_path), **changed})
        return by_name(check_model(changed_settings, load=False))["model"]

    assert told().detail == f"{tmp_path} is a directory without config.json"
    (tmp_path / "open_clip_config.json").touch()
    assert told().status == told(format="openclip").status == "ok"
    assert told(format="transformers").status == "fail"
    (tmp_path / "config.json").touch()
    (tmp_path / "open_clip_config.json").unlink()
    assert told(format="openclip").detail == f"{tmp_path} is a directory without open_clip_config.json"


def test_a_gpu_that_torch_cannot_use_is_told(settings, tmp_path) -> None:
    (tmp_path / "nvidia0").touch()
    check = by_name(check_model(settings, True, tmp_path))["device"]
    assert check.status == "warn"
    assert "GPU" in check.detail


# ---- Label Studio


@pytest.fixture
def site():
    with running() as state:
        yield state


@pytest.fixture
def connected(site, settings) -> Settings:
    return settings.model_copy(
        update=load_settings(label_studio_url=site.url, label_studio_api_key=LEGACY).model_dump(
            include={"label_studio_url", "label_studio_api_key"}
        )
    )


def register(site: LabelStudio, settings: Settings, **change: Any) -> str:
    version = model_version(settings_model_id(settings), LabelConfig.parse(XML).to_controls())
    site.add_project(7, XML, [1, 2], model_version=version)
    backend = {"id": 3, "url": "http://127.0.0.1:1", "title": version, "project": 7, "state": "CO", **change}
    site.backends.append(backend)
    site.webhooks.append({"id": 1, "url": "http://127.0.0.1:1/webhook", "project": 7, "headers": {}})
    return version


def test_without_an_address_it_is_only_said(settings) -> None:
    (check,) = check_label_studio(settings, None)
    assert (check.status, "LABEL_STUDIO_URL" in check.detail) == ("warn", True)


def test_both_directions_are_right(site, connected) -> None:
    version = register(site, connected)
    checks = by_name(check_label_studio(connected, 7))
    assert {check.status for check in checks.values()} == {"ok"}
    assert "(1.23.2) takes the key of lead@example.org" in checks["label studio"].detail
    assert checks["project"].detail == f"project 7 shows predictions of {version}"
    assert checks["backend"].detail == "project 7: Label Studio reaches http://127.0.0.1:1"
    assert LEGACY not in str(checks)


def test_a_backend_that_answers_with_a_calibrated_version_is_ours(site, connected) -> None:
    version = f"{register(site, connected)}+cal.abcdef"
    site.projects[7]["model_version"] = site.backends[0]["title"] = version
    checks = by_name(check_label_studio(connected, 7))
    assert {check.status for check in checks.values()} == {"ok"}
    assert checks["project"].detail == f"project 7 shows predictions of {version}"


def test_without_a_project_those_that_use_prelabel_are_looked_for(site, connected) -> None:
    site.add_project(6, XML)
    (_, none) = check_label_studio(connected, None)
    assert (none.status, none.fix) == ("warn", "prelabel connect --project N")
    register(site, connected)
    (_, found) = check_label_studio(connected, None)
    assert (found.name, found.status, "project 7" in found.detail) == ("backend", "ok", True)


@pytest.mark.parametrize(
    ("change", "says", "fix"),
    [
        ({"state": "DI", "readable_state": "Disconnected"}, "nor does this machine", "start prelabel serve there"),
        (
            {"state": "ER", "error_message": "authentication parameters were not provided"},
            "authentication",
            "BASIC_AUTH",
        ),
        (
            {"state": "DI", "error_message": "URL resolves to a reserved network address (block: 127.0.0.0/8)"},
            "reserved network address",
            "USER_ADDITIONAL_BANNED_SUBNETS",
        ),
    ],
)
def test_label_studio_that_does_not_reach_the_adapter_is_told_what_to_do(site, connected, change, says, fix) -> None:
    register(site, connected, **change)
    check = by_name(check_label_studio(connected, 7))["backend"]
    assert (check.status, says in check.detail, fix in check.fix) == ("fail", True, True), check


def test_an_adapter_that_answers_here_and_not_there_has_an_address_that_works_only_here(site, connected) -> None:
    register(site, connected, state="DI", url=site.url)  # something answers there
    check = by_name(check_label_studio(connected, 7))["backend"]
    assert "though it answers from here" in check.detail
    assert "localhost" in check.fix


def test_what_keeps_predictions_out_of_sight_is_told(site, connected) -> None:
    register(site, connected, id=9)
    site.projects[7]["model_version"] = "yolo"
    site.backends.append({"id": 2, "url": "http://yolo:9090", "title": "yolo", "project": 7, "state": "CO"})
    site.webhooks.clear()
    checks = list(check_label_studio(connected, 7))
    warned = {check.name: check.detail for check in checks if check.status == "warn"}
    assert set(warned) == {"project", "backend", "webhook"}
    assert "asks http://yolo:9090" in warned["backend"]


def test_a_project_that_is_not_connected_and_one_that_cannot_be(site, connected) -> None:
    site.add_project(7, XML)
    assert by_name(check_label_studio(connected, 7))["backend"].fix == "prelabel connect --project 7"
    site.add_project(8, "<View/>")
    assert by_name(check_label_studio(connected, 8))["project"].status == "fail"


def test_a_wrong_key_says_how_to_make_another(site, connected) -> None:
    site.keys = {"Token other"}
    with pytest.raises(ConfigError, match="LABEL_STUDIO_API_KEY"):
        list(check_label_studio(connected, None))


# ---- pushes


def push_to(client, project: int, *, rejected=(), problem: str = "") -> str:
    """A job of this project of which some items were refused; its id."""
    push = PushTarget(project=project, label_config=XML)
    job = client.submit([f"s3://b/{i}.jpg" for i in range(5)], Taxonomy.flat(["cat", "dog"]), push=push)
    pushes = Pushes(client.connection.redis, ttl_s=100)
    pushes.mark(job.id, pushed=(), rejected=rejected)
    if problem:
        pushes.record_problem(job.id, problem)
    return job.id


def test_what_a_connected_project_does_not_take_is_told_with_count_reasons_and_the_fix(settings, client) -> None:
    Projects(client).add(7)
    push_to(client, 7, rejected=[(0, "task is gone"), (1, "task is gone"), (2, "unknown choice")])
    newest = push_to(client, 7, rejected=[(3, "task is gone")])
    push_to(client, 8, rejected=[(0, "not connected, not told")])
    (check,) = check_pushes(settings, None)
    assert check.status == "warn"
    assert check.detail == (
        "project 7 does not take 4 predictions: 3 of them: task is gone (such as s3://b/3.jpg, s3://b/0.jpg, "
        "s3://b/1.jpg); 1 of them: unknown choice (such as s3://b/2.jpg)"
    )
    assert "prelabel connect --project 7 --all" in check.fix
    assert f"prelabel status {newest}" in check.fix


def test_what_keeps_all_predictions_from_a_project_is_a_failure(settings, client) -> None:
    Projects(client).add(7)
    push_to(client, 7, problem="Label Studio refuses the API key")
    (check,) = check_pushes(settings, None)
    assert (check.status, "Label Studio refuses the API key" in check.detail) == ("fail", True)


def test_projects_that_take_everything_are_one_line_and_without_a_project_there_is_none(settings, client) -> None:
    assert list(check_pushes(settings, None)) == []
    for project in (7, 8):
        Projects(client).add(project)
        push_to(client, project)
    assert list(check_pushes(settings, None)) == [Check("pushes", "ok", "projects 7, 8: nothing is refused")]


def test_a_project_that_is_named_is_looked_at_though_it_is_not_connected(settings, client) -> None:
    push_to(client, 9, rejected=[(0, "task is gone")])
    (check,) = check_pushes(settings, 9)
    assert "project 9 does not take 1 predictions" in check.detail


# ---- images


def test_an_image_of_the_project_is_fetched_as_a_worker_would(site, connected, server) -> None:
    register(site, connected)
    photo = io.BytesIO()
    Image.new("RGB", (64, 48)).save(photo, "JPEG")
    server.serve("/photo.jpg", photo.getvalue())
    site.tasks[1]["data"]["image"] = server.url("/photo.jpg?signature=s3cret")
    allowed = connected.model_copy(update={"allow_hosts": (f"127.0.0.1:{server.port}",)})
    (check,) = check_project_image(allowed, 7)
    assert check.status == "ok", check
    assert "64 x 48" in check.detail
    (refused,) = check_project_image(connected, 7)
    assert (refused.status, "PRELABEL_ALLOW_HOSTS" in refused.detail + refused.fix) == ("fail", True)
    assert "s3cret" not in check.detail + refused.detail


def test_a_task_whose_image_cannot_be_had_is_told(site, connected) -> None:
    register(site, connected)
    site.tasks[1]["data"]["image"] = "/etc/passwd"
    (check,) = check_project_image(connected, 7)
    assert (check.status, "task 1" in check.detail) == ("fail", True)


def test_a_project_without_tasks_has_nothing_to_try(site, connected) -> None:
    register(site, connected)
    site.tasks.clear()
    (check,) = check_project_image(connected, 7)
    assert check.status == "warn"


def test_an_image_of_ones_own(tmp_path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    settings = load_settings(image_roots=(tmp_path,))
    assert [check.status for check in check_image(settings, str(tmp_path / "a.png"))] == ["ok"]
    assert list(check_image(settings, None)) == []


# ---- disk


def test_disk_is_enough_or_not(tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    settings = load_settings(state_dir=tmp_path / "state")

    def found(free: float) -> dict[str, str]:
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, free))
        return {check.name: check.status for check in check_disk(settings)}

    assert found(100 * 2**30) == {"disk": "ok", "vectors": "ok"}
    assert found(3 * 2**30) == {"disk": "ok", "vectors": "warn"}  # the store may take 4 GiB
    assert found(2**30) == {"disk": "warn", "vectors": "warn"}
    assert found(2**20) == {"disk": "fail", "vectors": "fail"}


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert {check.status for check in check_disk(load_settings(state_dir=tmp_path))} == {"fail"}


# ---- the report


def run(monkeypatch, *arguments: str, **variables: str):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    try:
        return CliRunner().invoke(app, ["doctor", *arguments])
    finally:
        get_settings.cache_clear()


def test_the_report_goes_on_after_a_failure_and_says_so_with_its_status(monkeypatch, tmp_path: Path) -> None:
    away = {"PRELABEL_REDIS_URL": "redis://:s3cret@127.0.0.1:1/0", "PRELABEL_STATE_DIR": str(tmp_path)}
    done = run(monkeypatch, "--json", **away)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert (checks["redis"]["status"], checks["disk"]["status"]) == ("fail", "ok")
    assert "workers" not in checks
    shown = run(monkeypatch, **away)
    assert shown.exit_code == 1
    assert "2 failed" in shown.stdout  # the default model is not here either, and no hub may be asked
    assert "s3cret" not in shown.stdout + done.stdout


def test_warnings_alone_are_no_failure(monkeypatch, settings, client) -> None:
    done = run(monkeypatch, PRELABEL_REDIS_URL=settings.redis_url.get_secret_value(), PRELABEL_MODEL=settings.model)
    assert done.exit_code == 0, done.stdout
    assert "none is running" in done.stdout
    assert "fix: prelabel worker" in done.stdout
