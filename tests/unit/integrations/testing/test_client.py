"""A client in memory: what a program under test sees of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from prelabel.integrations.testing import MemoryClient
from prelabel.schemas import (
    ConfigError,
    Control,
    ImageRef,
    Item,
    ItemError,
    JobState,
    Label,
    ModelVersion,
    Options,
    PushTarget,
    Taxonomy,
    TransientError,
)

TAXONOMY = Taxonomy.flat(["cat", "dog"])
THREE = [f"s3://b/{i}.jpg" for i in range(3)]
PUSH = PushTarget(project=7, label_config="<View/>")


def test_a_job_is_scored_when_its_results_are_read() -> None:
    client = MemoryClient()
    job = client.submit(THREE, TAXONOMY, name="night run")
    assert (job.progress().state, job.progress().pending) == (JobState.QUEUED, 3)
    assert [(prediction.item.id, prediction.label) for prediction in job.results()] == [(uri, "cat") for uri in THREE]
    assert job.wait().state is JobState.DONE
    assert client.job(job.id).progress().done == 3


def test_work_scores_what_is_queued_and_as_much_as_asked() -> None:
    client = MemoryClient()
    job = client.submit(THREE, TAXONOMY)
    assert client.work(limit=2) == 2
    assert (job.progress().state, job.progress().done) == (JobState.RUNNING, 2)
    assert len(list(job.results_so_far())) == 2
    assert client.work() == 1
    assert (client.work(), job.progress().state) == (0, JobState.DONE)


def test_a_program_that_stops_a_job_after_its_first_result_leaves_the_others_undone() -> None:
    job = MemoryClient().submit(THREE, TAXONOMY)
    for _ in job.results():
        job.cancel()
    assert (job.progress().state, job.progress().done) == (JobState.CANCELLED, 1)
    with pytest.raises(ConfigError, match="was cancelled"):
        job.retry_failed()


def test_a_job_that_ends_while_those_before_it_are_scored_has_no_more_of_them_scored() -> None:
    def answer(item: Item, control: Control) -> str:
        second.cancel()
        return "cat"

    client = MemoryClient(answer)
    first, second = client.submit(THREE, TAXONOMY), client.submit(THREE, TAXONOMY)
    assert list(second.results()) == []
    assert (first.progress().done, second.progress().state) == (1, JobState.CANCELLED)


def test_many_images_are_many_chunks_and_all_are_scored() -> None:
    client = MemoryClient()
    job = client.submit((f"s3://b/{i}.jpg" for i in range(200)), TAXONOMY)
    assert client.queues() == {"interactive": 0, "bulk": 4, "push": 0}
    assert [prediction.ordinal for prediction in job.results()] == list(range(200))
    assert client.queue_states()["bulk"] == (0, 0.0)


def test_interactive_work_comes_first() -> None:
    client = MemoryClient()
    bulk = client.submit(THREE, TAXONOMY)
    interactive = client.submit(THREE, TAXONOMY, priority="interactive")
    client.work(limit=3)
    assert (bulk.progress().done, interactive.progress().done) == (0, 3)


def test_without_automatic_work_a_job_waits_as_without_a_worker() -> None:
    client = MemoryClient(automatic=False)
    job = client.submit(THREE, TAXONOMY)
    with pytest.raises(TimeoutError, match="has not ended"):
        job.wait(timeout=0.01)
    client.work()
    assert job.wait(timeout=60).done == 3


@pytest.mark.parametrize(
    "error", [ItemError("no such file"), TransientError("the store is busy"), ConfigError("odd labels")]
)
def test_what_the_answer_raises_of_ours_is_the_items_failure_and_is_retried_when_asked(error: Exception) -> None:
    failing = True

    def answer(item: Item, control: Control) -> str:
        if failing and item.id == THREE[1]:
            raise error
        return "dog"

    job = MemoryClient(answer).submit(THREE, TAXONOMY)
    assert (job.wait().done, job.progress().failed) == (2, 1)
    (failed,) = job.failures()
    assert (failed.item.id, failed.error.kind, failed.error.message) == (THREE[1], type(error).__name__, str(error))
    failing = False
    assert job.retry_failed() == 1
    assert (job.wait().done, job.progress().failed) == (3, 0)


def test_any_other_error_is_the_tests_own_and_its_item_stays_queued() -> None:
    answers = iter(["cat", ZeroDivisionError("a mistake"), "mouse", "dog", "dog"])

    def answer(item: Item, control: Control) -> str:
        following = next(answers)
        if isinstance(following, Exception):
            raise following
        return following

    client = MemoryClient(answer)
    job = client.submit(THREE, TAXONOMY)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        client.work()
    assert job.progress().done == 1
    with pytest.raises(ConfigError, match="has no label 'mouse'"):
        list(job.results())
    assert [prediction.label for prediction in job.results()] == ["cat", "dog", "dog"]


def test_predictions_are_as_a_workers() -> None:
    prediction = next(iter(MemoryClient().submit(THREE, TAXONOMY).results()))
    version = ModelVersion.parse(prediction.model_version)
    assert (version.model, version.taxonomy) == ("memory@00000000", TAXONOMY.fingerprint[:6])
    assert type(prediction).from_json(prediction.to_json()) == prediction
    assert (prediction.path, prediction.confidence) == (("cat",), 0.9)
    assert [(score.label, round(score.probability, 6)) for score in prediction.scores] == [("cat", 0.9), ("dog", 0.1)]


def test_a_job_that_asks_for_a_model_is_answered_by_it() -> None:
    (prediction,) = MemoryClient(model="ours@1").submit("s3://b/1.jpg", TAXONOMY, model="siglip@12345678").results()
    assert prediction.model_version.startswith("siglip@12345678+tax.")


def test_answers_are_scored_again_with_another_taxonomy() -> None:
    client = MemoryClient()
    job = client.submit(THREE, TAXONOMY)
    with pytest.raises(ConfigError, match="has no answers yet"):
        client.rescore(job, Taxonomy.flat(["indoors"]))
    job.wait()
    again = client.rescore(job, Taxonomy.flat(["indoors", "outdoors"]))
    assert again.spec().stored_only
    assert [prediction.label for prediction in again.results()] == ["indoors"] * 3


def test_every_control_is_asked_and_labels_that_come_with_items_are_among_its_own() -> None:
    def answer(item: Item, control: Control) -> str:
        return control.taxonomy.leaves()[-1][0][-1]

    options = {"brand": Options(labels=(Label(name="Ours"), Label(name="Theirs")))}
    item = Item(id="1", images=(ImageRef(uri="s3://b/1.jpg"),), options=options)
    brand = Control(name="brand", taxonomy=Taxonomy(labels=(), is_open=True))
    bare = Item.of("s3://b/2.jpg")
    prediction, part = MemoryClient(answer).submit([item, bare], [Control(taxonomy=TAXONOMY), brand]).results()
    assert [(answer.control, answer.paths) for answer in prediction.answers] == [
        ("label", (("dog",),)),
        ("brand", (("Theirs",),)),
    ]
    assert [answer.control for answer in part.answers] == ["label"]
    assert [(one.control, one.message) for one in part.unanswered] == [
        ("brand", "the item brings no labels for 'brand'")
    ]
    (failed,) = MemoryClient(answer).submit([bare], [brand]).results()
    assert failed.error.message == "the item brings no labels for 'brand'"


def test_each_image_of_a_list_is_asked_about_on_its_own() -> None:
    def answer(item: Item, control: Control) -> str:
        (image,) = item.images
        if image.uri == "s3://b/1.jpg":
            raise ItemError("not an image")
        return "dog" if image.uri == "s3://b/2.jpg" else "cat"

    first, second, third = (ImageRef(uri=uri, name="list") for uri in THREE)
    items = [
        Item(id="some", images=(first, second, third)),
        Item(id="bad", images=(second,)),
        Item(id="other", images=(first.model_copy(update={"name": "elsewhere"}),)),
    ]
    job = MemoryClient(answer).submit(items, [Control(taxonomy=TAXONOMY, image="list", over="each")])
    some, bad, other = job.results()
    assert [(answer.index, answer.paths) for answer in some.answers] == [(0, (("cat",),)), (2, (("dog",),))]
    assert (bad.error.message, other.error.message) == ("not an image", "the item has no image that is asked about")


def test_an_item_without_the_image_that_is_asked_about_fails() -> None:
    item = Item(images=(ImageRef(uri="s3://b/1.jpg", name="back"),))
    (prediction,) = MemoryClient().submit([item], [Control(taxonomy=TAXONOMY, image="front")]).results()
    assert prediction.error.message == "the item has no image named 'front'"


def test_an_only_image_needs_no_name_whatever_it_is_called() -> None:
    (prediction,) = MemoryClient().submit("s3://b/1.jpg", [Control(taxonomy=TAXONOMY, image="front")]).results()
    assert prediction.ok


def test_what_is_to_be_pushed_waits_on_the_push_queue() -> None:
    client = MemoryClient()
    job = client.submit(THREE, TAXONOMY, push=PUSH)
    held = client.submit(THREE, TAXONOMY, push=PUSH.model_copy(update={"hold": True}))
    client.work()
    assert client.queues()["push"] == 1
    held.release_push(delivered=[0])
    assert client.queues()["push"] == 2
    assert (job.progress().pushed, held.progress().pushed) == (0, 1)
    assert [found.id for found in client.project_jobs(7)] == [held.id, job.id]


def test_a_model_without_a_revision_is_refused() -> None:
    with pytest.raises(ConfigError, match="the model 'siglip' names no revision: write <model>@<revision>"):
        MemoryClient().submit(THREE, TAXONOMY, model="siglip")


def test_the_last_predictions_the_workers_and_the_jobs_are_listed() -> None:
    client = MemoryClient()
    client.ping()
    first, second = (client.submit([uri], TAXONOMY) for uri in THREE[:2])
    client.work()
    assert [recent.item_id for recent in client.recent()] == [THREE[1], THREE[0]]
    assert [progress.job_id for progress in client.jobs()] == [second.id, first.id]
    assert [worker.model for worker in client.workers()] == ["memory@00000000"]


def test_deadlines_and_expiry_run_by_the_clock_given() -> None:
    now = 1e9
    client = MemoryClient(clock=lambda: now)
    late = client.submit(THREE, TAXONOMY, deadline_s=60)
    done = client.submit(THREE, TAXONOMY, priority="interactive")
    client.work(limit=3)
    now += 61
    assert list(late.results()) == []
    assert late.progress().cancelled == "its deadline passed"
    now += client.settings.job_ttl_s
    with pytest.raises(ConfigError, match="has expired"):
        done.progress()


def test_threads_may_share_a_client() -> None:
    client = MemoryClient()

    def use(number: int) -> list[int]:
        job = client.submit((f"s3://{number}/{i}.jpg" for i in range(100)), TAXONOMY)
        return sorted(prediction.ordinal for prediction in job.results())

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(use, range(8))) == [list(range(100))] * 8


def test_who_waits_is_served_by_the_work_of_another_thread() -> None:
    client = MemoryClient(automatic=False)
    job = client.submit(THREE, TAXONOMY)
    worker = threading.Thread(target=client.work)
    worker.start()
    assert len(list(job.results())) == 3
    worker.join()


def test_a_closed_client_keeps_its_jobs() -> None:
    with MemoryClient() as client:
        job = client.submit(THREE, TAXONOMY)
    assert job.wait().done == 3


def test_no_socket_is_opened_and_no_setting_of_the_environment_read(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("PRELABEL_REDIS_URL", "http://not-a-redis")
    monkeypatch.setenv("PRELABEL_JOB_TTL_S", "not a number")
    with MemoryClient() as client:
        client.ping()
        job = client.submit(THREE, TAXONOMY)
        assert job.wait(timeout=60).done == 3
        client.rescore(job, Taxonomy.flat(["indoors"])).wait()
        assert (len(client.jobs()), client.queue_states()["bulk"].depth) == (2, 0)


def test_what_is_kept_beside_jobs_needs_a_real_client() -> None:
    with pytest.raises(ConfigError, match="have no Redis"):
        _ = MemoryClient().connection.redis


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, prelabel.integrations.testing; "
        "heavy = {'torch', 'transformers', 'pandas', 'PIL', 'numpy', 'boto3', 'prelabel.worker'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path("/"))
    assert done.returncode == 0, done.stderr


def test_a_user_without_a_home_can_test_programs_too(monkeypatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    assert MemoryClient().submit(THREE, TAXONOMY).wait().done == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"answer": "cat"}, "answer must be a function, not str"),
        ({"answer": np.zeros((2, 2))}, "answer must be a function, not ndarray"),
        ({"automatic": np.zeros((2, 2))}, "automatic must be True or False, not ndarray"),
        ({"clock": 7}, "clock must be a function, not int"),
    ],
)
def test_what_it_is_made_of_is_looked_at(options, said) -> None:
    with pytest.raises(ConfigError, match=said):
        MemoryClient(**options)


def test_jobs_of_several_models_take_turns_and_none_waits_for_a_worker() -> None:
    client = MemoryClient()
    named = [client.submit(["s3://b/1.jpg"] * 3, ["cat"], model=model) for model in ("a@1", "b@2")]
    assert [job.progress().waiting_for for job in named] == ["", ""]
    assert client.queues() == {"interactive": 0, "bulk": 0, "push": 0, "bulk:a@1": 1, "bulk:b@2": 1}
    assert client.work(1) + client.work(1) == 2
    assert [job.progress().done for job in named] == [1, 1]
    assert [next(job.results()).model_version.partition("+")[0] for job in named] == ["a@1", "b@2"]
