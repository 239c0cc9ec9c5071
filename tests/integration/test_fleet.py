"""Workers with different models on one Redis: each job is answered by the model it names, and none starves."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from prelabel.integrations import Client, Job
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.schemas import JobState, Settings, Taxonomy
from prelabel.schemas.model_version import model_of
from prelabel.worker.demo.story import CHECKPOINT, Picture
from tests.checkpoints import make_clip
from tests.conftest import eventually
from tests.integration.redis_server import TAXONOMY, Server, cli
from tests.integration.redis_worker import worker, worker_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that this module's workers have to themselves."""
    made = Server(tmp_path_factory.mktemp("fleet") / "server")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def one(redis_server: Server, pictures_dir: Path) -> Settings:
    """Settings of workers with the demo's model."""
    return worker_settings(redis_server.url(), pictures_dir)


@pytest.fixture(scope="module")
def other(one: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of workers with another checkpoint: a copy whose name and files differ, and so its id."""
    folder = tmp_path_factory.mktemp("checkpoints") / "siglip-other"
    shutil.copytree(CHECKPOINT, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "initializer_factor": 2.0}))
    return one.model_copy(update={"model": str(folder)})


@pytest.fixture(scope="module")
def log_of_one(one: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The log of a worker with the demo's model that runs all the time."""
    log = tmp_path_factory.mktemp("logs") / "one.log"
    with worker(one, log):
        yield log


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """Ends what a test has started."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def client(one: Settings, log_of_one: Path) -> Iterator[Client]:
    """Of a Redis that holds nothing but the worker's heartbeat."""
    with Client(one) as made:
        made.connection.redis.flushall()
        serves(made, one)
        yield made


def serves(client: Client, settings: Settings) -> None:
    """Wait until a worker with the settings' model is there."""
    eventually(lambda: settings_model_id(settings) in {one.model for one in client.workers()}, 120)


def start(running: ExitStack, client: Client, settings: Settings, log: Path) -> None:
    """Start a worker and wait until it serves its model."""
    running.enter_context(worker(settings, log))
    serves(client, settings)


def submit(client: Client, pictures: Sequence[Picture], times: int = 1, **options) -> Job:
    return client.submit([str(picture.path) for picture in pictures] * times, TAXONOMY, **options)


def models_of(job: Job) -> set[str | None]:
    """The models a job was answered by, once it is done and nothing has failed."""
    predictions = list(job.results(timeout=120))
    assert not [prediction.error for prediction in predictions if prediction.error]
    assert len(predictions) == job.progress().total
    return {model_of(prediction) for prediction in predictions}


def test_two_models_and_three_jobs_each_answered_by_the_right_one(
    client, one, other, running, pictures, tmp_path, log_of_one
) -> None:
    a, b = settings_model_id(one), settings_model_id(other)
    assert a != b
    start(running, client, other, tmp_path / "other.log")
    backlog = submit(client, pictures, 100, model=a)
    jobs = [
        submit(client, pictures, model=b),
        submit(client, pictures),
        submit(client, pictures[:5], model=a, priority="interactive"),
        submit(client, pictures[:5], model=b, priority="interactive"),
    ]
    assert models_of(jobs[0]) == {b}
    assert models_of(jobs[1]) <= {a, b}
    assert models_of(jobs[2]) == {a}
    assert models_of(jobs[3]) == {b}
    assert backlog.progress().state is JobState.RUNNING, "none of them had to wait for its end"
    backlog.cancel()
    assert {model_of(prediction) for prediction in backlog.results_so_far()} == {a}
    eventually(lambda: not any(client.queues().values()))
    assert b"Traceback" not in log_of_one.read_bytes() + (tmp_path / "other.log").read_bytes()


@pytest.mark.parametrize("names_one", [False, True])
def test_one_worker_takes_the_jobs_that_name_its_model_and_the_others_in_turn(client, one, pictures, names_one) -> None:
    model = settings_model_id(one)
    backlog = submit(client, pictures, 100, model=model if names_one else None)
    job = submit(client, pictures, model=None if names_one else model)
    assert models_of(job) == {model}
    assert backlog.progress().state is JobState.RUNNING
    backlog.cancel()


def test_a_job_for_a_model_nobody_serves_waits_untouched_says_so_and_is_answered_when_somebody_does(
    client, one, other, running, pictures, tmp_path
) -> None:
    model = settings_model_id(other)
    job = submit(client, pictures, model=model)
    time.sleep(6)  # longer than a lease, and three sweeps
    redis = client.connection.redis
    assert redis.llen(f"bulk:{model}") == 4
    assert redis.hget(JobKeys(job.id).meta, "leased") is None, "nobody has looked at it"
    says = f"no worker serves {model} (those running serve {settings_model_id(one)})"
    for arguments in (["status", job.id], ["jobs"]):
        assert says in " ".join(cli(one, *arguments).stdout.split())
    (failed,) = (check for check in json.loads(cli(one, "doctor", "--json").stdout) if check["status"] == "fail")
    assert (failed["name"], failed["detail"]) == ("waiting", f"200 images of 1 job: {says}")
    assert submit(client, pictures[:5]).wait(60).done == 5, "the others go on"
    start(running, client, other, tmp_path / "other.log")
    assert models_of(job) == {model}
    assert cli(one, "doctor").returncode == 0


def test_messages_of_an_earlier_release_go_over_to_the_right_worker(
    client, other, running, pictures, tmp_path, log_of_one
) -> None:
    model, redis = settings_model_id(other), client.connection.redis
    job = submit(client, pictures, model=model)
    redis.rename(f"bulk:{model}", "bulk")  # as that release left it
    redis.hset(JobKeys(job.id).meta, "queue", "bulk")
    eventually(lambda: redis.llen(f"bulk:{model}") == 4 and not redis.llen("bulk"))
    time.sleep(5)
    assert int(redis.hget(JobKeys(job.id).meta, "leased")) == 4, "each came by once"
    assert job.progress().state is JobState.QUEUED
    start(running, client, other, tmp_path / "other.log")
    assert models_of(job) == {model}
    assert b"is left to the workers of queue" in log_of_one.read_bytes()


def test_a_clip_that_joins_spoils_no_job_that_it_cannot_answer(
    client, one, running, pictures, tmp_path, tmp_path_factory
) -> None:
    clip = one.model_copy(update={"model": str(make_clip(tmp_path_factory.mktemp("clip")))})
    several = Taxonomy.flat(["circle", "star"], "multiple")
    job = client.submit([str(picture.path) for picture in pictures] * 100, several)
    assert job.spec().model is None
    start(running, client, clip, tmp_path / "clip.log")
    eventually(lambda: b"is left to the workers of queue" in (tmp_path / "clip.log").read_bytes(), 60)
    assert client.submit([str(pictures[0].path)], several).spec().model == settings_model_id(one)
    job.cancel()
    assert job.progress().failed == 0
    assert {model_of(prediction) for prediction in job.results_so_far()} == {settings_model_id(one)}
