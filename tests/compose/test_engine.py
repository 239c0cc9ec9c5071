"""`docker compose up` on a real container engine: built, started, and the demo's jobs run through it.

`make compose-test` runs it, on the engine that DOCKER_HOST names (else the default one). From the environment it takes:

- COMPOSE_TEST_OVERRIDE: a compose file more, for what the machine's builds need (a build network, a proxy);
- every variable of .env.example, so PYTHON_IMAGE, REDIS_IMAGE, TORCH_INDEX, PROMETHEUS_IMAGE, … where registries are
  mirrored or cannot be reached;
- COMPOSE_TEST_SERVICES: more services whose images can be had, comma-separated ("prometheus").
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prelabel.integrations import Client
from prelabel.schemas import JobState, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import TEMPLATE, accuracies, chapters, draw_pictures
from tests.compose.test_meaning import example
from tests.conftest import eventually

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = "/opt/prelabel/lib/python3.11/site-packages/prelabel/worker/demo/siglip-shapes"
MORE = [service for service in os.environ.get("COMPOSE_TEST_SERVICES", "").split(",") if service]
SECRETS = {
    name: secrets.token_hex(16)
    for name in ("REDIS_PASSWORD", "LABEL_STUDIO_API_KEY", "GRAFANA_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN")
}

pytestmark = [
    pytest.mark.skipif("COMPOSE_TEST" not in os.environ, reason="needs a container engine: make compose-test"),
    pytest.mark.timeout(3600),
]


class Project:
    """One compose project, with its own ports, volumes and secrets."""

    def __init__(self, folder: Path) -> None:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        self._compose = ["docker", "compose"] if plugin else ["docker-compose"]
        self._project = f"prelabel-test-{secrets.token_hex(3)}"
        override = os.environ.get("COMPOSE_TEST_OVERRIDE")
        self._files = ["-f", str(ROOT / "docker-compose.yml"), *(["-f", override] if override else [])]
        self.images = folder / "images"
        self.ports = {name: _free_port() for name in example() if name.endswith("_PORT")}
        self.environment = {
            **example(),
            **os.environ,
            **SECRETS,
            **{name: str(port) for name, port in self.ports.items()},
            "IMAGES_DIR": str(self.images),
            "PRELABEL_MODEL": CHECKPOINT,
            "PRELABEL_TAG": "compose-test",
        }

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_s: float = 600) -> str:
        """Run a compose command; its standard output."""
        done = subprocess.run(
            [*self._compose, "--project-name", self._project, *self._files, *arguments],
            cwd=ROOT, env=self.environment, input=stdin, stdout=subprocess.PIPE, text=True, timeout=timeout_s,
        )  # fmt: skip
        assert done.returncode == 0, (arguments, done.stdout[-3000:])
        return done.stdout

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine says of a service's containers."""
        ids = self("ps", "-q", service).split()
        shown = subprocess.run(["docker", "inspect", *ids], stdout=subprocess.PIPE, text=True, check=True).stdout
        found: list[dict[str, Any]] = json.loads(shown)
        return found

    def healthy(self, service: str) -> bool:
        """Whether every container of a service passes its health check."""
        return all(container["State"]["Health"]["Status"] == "healthy" for container in self.containers(service))

    def client(self) -> Client:
        """A Python program on the host."""
        url = f"redis://:{SECRETS['REDIS_PASSWORD']}@127.0.0.1:{self.ports['REDIS_PORT']}/0"
        return Client(load_settings(redis_url=url))

    def scrape(self, service: str) -> str:
        """A container's metrics, read inside it."""
        code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9091/metrics').read().decode())"
        return self("exec", "-T", service, "python", "-c", code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """`up --build`, everything healthy; `down` and no volume left at the end."""
    assert shutil.which("docker"), "no docker command"
    project = Project(tmp_path_factory.mktemp("compose"))
    project.images.mkdir()
    project.images.chmod(0o755)
    for parent in project.images.parents:  # the containers' user is another one
        if parent.stat().st_mode & 0o077 == 0:
            parent.chmod(0o711)
    try:
        project("build", timeout_s=3000)
        project("up", "--detach", "redis", "adapter", "worker", *MORE, timeout_s=300)
        for service in ("redis", "adapter", "worker"):
            assert eventually(lambda service=service: project.healthy(service), timeout_s=300), project("logs", service)
        yield project
    finally:
        print(project("logs", "--no-color", "--tail", "15"))
        project("down", "--volumes", "--remove-orphans")


def test_the_demos_jobs_come_back_right(up: Project) -> None:
    drawn = draw_pictures(up.images, seed=11)
    for picture in drawn:
        picture.path.chmod(0o644)
    seen_by_workers = [replace(picture, path=Path("/images") / picture.path.name) for picture in drawn]
    client = up.client()
    for chapter in chapters(seen_by_workers):
        job = client.submit([str(picture.path) for picture in chapter.pictures], chapter.taxonomy)
        predictions = sorted(job.results(timeout=180), key=lambda prediction: prediction.ordinal)
        progress = job.progress()
        assert (progress.state, progress.failed) == (JobState.DONE, 0)
        for accuracy in accuracies(chapter, predictions):
            print(f"{chapter.name}: {accuracy}")
            assert accuracy.overall > 0.5


def test_the_workers_metrics_count_those_items(up: Project) -> None:
    done = sum(progress.done for progress in up.client().jobs())
    assert f'prelabel_items_total{{outcome="answered"}} {float(done)}' in up.scrape("worker")
    assert "prelabel_workers 1.0" in up.scrape("adapter")


def test_the_command_line_of_a_container_submits_and_the_doctor_is_content(up: Project) -> None:
    names = [path.name for path in sorted(up.images.iterdir())[:5]]
    said = up(
        "exec", "-T", "adapter", "prelabel", "submit", *(f"/images/{name}" for name in names),
        "--labels", ",".join(SHAPES), "--template", TEMPLATE, "--wait", "--json",
    )  # fmt: skip
    progress = json.loads(said)
    assert (progress["state"], progress["done"]) == ("done", len(names))
    checks = json.loads(up("exec", "-T", "worker", "prelabel", "doctor", "--load-model", "--json"))
    assert [check for check in checks if check["status"] == "fail"] == []


def test_the_adapter_answers_on_its_port(up: Project) -> None:
    url = f"http://127.0.0.1:{up.ports['ADAPTER_PORT']}/health"
    assert json.load(urllib.request.urlopen(url, timeout=5))["status"] == "UP"


def test_queued_work_outlives_a_restart_of_redis_and_workers_can_be_scaled(up: Project) -> None:
    up("stop", "worker")
    job = up.client().submit(
        [f"/images/{path.name}" for path in sorted(up.images.iterdir())], Taxonomy.flat(["a", "b"])
    )
    up("restart", "redis")
    assert eventually(lambda: up.healthy("redis"), timeout_s=60)
    up("up", "--detach", "--no-recreate", "--scale", "worker=2", "worker")
    assert eventually(lambda: len(up.client().workers()) == 2, timeout_s=180)
    progress = job.wait(timeout=180)
    assert (progress.state, progress.failed) == (JobState.DONE, 0)


def test_containers_run_without_root_and_cannot_write_to_their_image(up: Project) -> None:
    for service in ("adapter", "worker"):
        assert up("exec", "-T", service, "id", "-u").strip() == "10001"
        code = "import pathlib; pathlib.Path('/opt/prelabel/x').touch()"
        with pytest.raises(AssertionError):
            up("exec", "-T", service, "python", "-c", code)
    for service in ("redis", "adapter", "worker"):
        host = up.containers(service)[0]["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    assert up("exec", "-T", "redis", "id", "-un").strip() == "redis"


def test_images_hold_what_they_should_and_no_secret(up: Project) -> None:
    found = "import importlib.util as u; print(bool(u.find_spec('torch')))"
    assert up("exec", "-T", "adapter", "python", "-c", found).strip() == "False"
    assert up("exec", "-T", "worker", "python", "-c", found).strip() == "True"
    for service in ("adapter", "worker"):
        image = up.containers(service)[0]["Image"]
        for command in (["history", "--no-trunc"], ["image", "inspect"]):
            told = subprocess.run(["docker", *command, image], stdout=subprocess.PIPE, text=True, check=True).stdout
            assert not [name for name, secret in SECRETS.items() if secret in told]


def test_nothing_that_is_logged_is_a_secret_and_everything_is_json(up: Project) -> None:
    logs = up("logs", "--no-color", "adapter", "worker")
    assert not [name for name, secret in SECRETS.items() if secret in logs]
    lines = [line.partition("| ")[2] for line in logs.splitlines() if "| " in line]
    assert lines
    # Celery itself writes one line when a worker stops, past every logger.
    plain = [line for line in lines if line and not line.startswith("{") and "shutdown (MainProcess)" not in line]
    assert plain == []


@pytest.mark.skipif("prometheus" not in MORE, reason="COMPOSE_TEST_SERVICES has no prometheus")
def test_prometheus_finds_every_worker_and_the_adapter(up: Project) -> None:
    def healthy() -> set[str]:
        url = f"http://127.0.0.1:{up.ports['PROMETHEUS_PORT']}/api/v1/targets"
        targets = json.load(urllib.request.urlopen(url, timeout=5))["data"]["activeTargets"]
        return {(t["labels"]["job"], t["scrapeUrl"]) for t in targets if t["health"] == "up"}

    wanted = len(up.containers("worker")) + 1
    assert len(eventually(lambda: len(found := healthy()) == wanted and found, timeout_s=90)) == wanted
    query = urllib.parse.urlencode({"query": "sum(prelabel_items_total)"})
    url = f"http://127.0.0.1:{up.ports['PROMETHEUS_PORT']}/api/v1/query?{query}"
    (sample,) = json.load(urllib.request.urlopen(url, timeout=5))["data"]["result"]
    assert float(sample["value"][1]) > 0
