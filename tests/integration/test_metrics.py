"""What real workers say on /metrics is what the job's ledger says."""

from __future__ import annotations

import json
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import ImageRef, Item, PushTarget
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT, Picture
from prelabel.worker.machine.children import spawn, stop
from prelabel.worker.running.stack import Stack, local_stack
from tests.conftest import eventually
from tests.label_studio import LEGACY, LabelStudio, running

XML = (
    '<View><Image name="i" value="$image"/><Choices name="c" toName="i">'
    '<Choice value="circle"/><Choice value="ring"/></Choices></View>'
)
GOOD, BAD = 40, 2


class Watched(NamedTuple):
    stack: Stack
    label_studio: LabelStudio
    port: int


class Scrape:
    """One answer of /metrics."""

    def __init__(self, port: int) -> None:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, (name, labels)
        return sum(found)


def workers(port: int) -> list[Scrape]:
    """What each worker answers: adapter and workers of one host share the setting, each has taken a free port."""
    found = []
    for candidate in range(port, port + 4):
        with suppress(OSError):
            found.append(Scrape(candidate))
    return [scrape for scrape in found if any(sample.name == "prelabel_worker_info" for sample in scrape.samples)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Iterator[Watched]:
    """A stack whose worker offers metrics and logs JSON, beside a Label Studio."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("watched")
    with running() as label_studio:
        settings = load_settings(
            model=str(CHECKPOINT),
            image_roots=(pictures_dir,),
            port=0,
            vector_store_dir=folder / "vectors",
            label_studio_url=label_studio.url,
            label_studio_api_key=LEGACY,
            metrics_port=port,
            log_format="json",
            batch_size=8,
        )
        with local_stack(settings, folder, adapter=True, embedded=True, broker_port=0) as stack:
            stack.wait_until_ready(timeout_s=120)
            yield Watched(stack, label_studio, port)


def test_a_jobs_counts_are_the_workers_counts(watched: Watched, pictures: list[Picture], pictures_dir: Path) -> None:
    broken = pictures_dir / "broken.jpg"
    broken.write_bytes(b"no image")
    watched.label_studio.add_project(7, XML, range(1, GOOD + BAD + 1), model_version="")
    paths = [picture.path for picture in pictures[:GOOD]] + [broken] * BAD
    items = [Item(id=str(i), images=(ImageRef(uri=str(path)),)) for i, path in enumerate(paths, 1)]
    controls = LabelConfig.parse(XML).to_controls()
    push = PushTarget(project=7, label_config=XML)
    client = watched.stack.client()

    job = client.submit(items, controls, push=push)
    job.wait(timeout=60)
    assert eventually(lambda: job.progress().pushed == GOOD)
    progress, (seen,) = job.progress(), workers(watched.port)
    assert (progress.done, progress.failed) == (GOOD, BAD)
    assert seen("prelabel_items_total", outcome="answered") == progress.done
    assert seen("prelabel_items_total", outcome="failed") == progress.failed
    assert seen("prelabel_item_errors_total", kind="ItemError") == progress.failed
    assert seen("prelabel_pushes_total", status="pushed") == progress.pushed == len(watched.label_studio.predictions)
    assert seen("prelabel_stage_seconds_count", stage="fetch") == GOOD + BAD
    assert seen("prelabel_stage_seconds_count", stage="decode") == GOOD
    assert seen("prelabel_stage_seconds_count", stage="wait") == GOOD
    assert seen("prelabel_batch_images_sum") == GOOD
    assert seen("prelabel_batch_images_count") == seen("prelabel_stage_seconds_count", stage="forward") >= GOOD / 8
    assert seen("prelabel_batch_limit_images") == 8
    assert seen("prelabel_stage_seconds_count", stage="score") >= 1
    assert seen("prelabel_stage_seconds_count", stage="push") >= 1
    assert seen("prelabel_vector_store_reads_total", of="images", result="miss") == GOOD + BAD
    assert seen("prelabel_worker_info", device="cpu") == 1

    again = client.submit(items[:GOOD], controls)
    again.wait(timeout=60)
    (seen,) = workers(watched.port)
    assert seen("prelabel_items_total", outcome="answered") == 2 * GOOD
    assert seen("prelabel_vector_store_reads_total", of="images", result="hit") == GOOD
    assert seen("prelabel_batch_images_sum") == GOOD  # nothing was embedded again
    assert seen("prelabel_queue_depth", queue="bulk") == 0
    assert seen("prelabel_queue_oldest_seconds", queue="bulk") == 0
    assert seen("prelabel_leases_expired_total") == 0


def test_the_adapter_tells_the_queues_and_the_workers(watched: Watched) -> None:
    adapter = Scrape(int(str(watched.stack.adapter_url).rpartition(":")[2]))
    assert adapter("prelabel_workers") == 1
    assert adapter("prelabel_broker_up") == 1
    assert {s.labels["queue"] for s in adapter.samples if s.name == "prelabel_queue_oldest_seconds"} == {
        "interactive", "bulk", "push",
    }  # fmt: skip


def test_no_label_takes_its_values_from_outside(watched: Watched, pictures: list[Picture]) -> None:
    client = watched.stack.client()
    shown = [str(v) for scrape in workers(watched.port) for sample in scrape.samples for v in sample.labels.values()]
    jobs = [progress.job_id for progress in client.jobs()]
    assert jobs
    assert not [v for v in shown if any(job in v for job in jobs) or pictures[0].path.name in v or "circle" in v]


def test_every_line_the_worker_and_the_adapter_log_is_json_and_items_have_fields(watched: Watched) -> None:
    lines = [
        line for log in ("worker", "adapter") for line in (watched.stack.logs / f"{log}.log").read_text().splitlines()
    ]
    events = [json.loads(line) for line in lines]
    assert all({"time", "level", "logger", "message"} <= event.keys() for event in events)
    failed = [event for event in events if "is not scored" in event["message"]]
    assert {event["item"] for event in failed} == {str(GOOD + i + 1) for i in range(BAD)}
    assert all(re.fullmatch(r"[0-9a-f]+", event["job"]) and event["chunk"] == 0 for event in failed)


def test_a_second_worker_of_the_host_takes_another_port(watched: Watched, tmp_path: Path) -> None:
    with ExitStack() as left, (tmp_path / "second.log").open("wb") as output:
        env = watched.stack.settings.environment()
        second = spawn([sys.executable, "-m", "prelabel.worker.cli", "worker"], env=env, output=output)
        left.callback(stop, second, 30)
        assert eventually(lambda: len(watched.stack.workers()) == 2, timeout_s=90)
        found = eventually(lambda: len(scrapes := workers(watched.port)) == 2 and scrapes)
        names = {s.labels["name"] for scrape in found for s in scrape.samples if s.name == "prelabel_worker_info"}
    assert len(names) == 2
