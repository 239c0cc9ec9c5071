"""What every ledger says of its queues: how long they are, and how long their oldest work has waited."""

from __future__ import annotations

import pytest

from prelabel.integrations.client.workers import nobody_serves, unserved
from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import Answer, ConfigError, ItemFailure, Outcome, PushTarget, Taxonomy

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


def test_nothing_waits(client) -> None:
    assert {queue: tuple(state) for queue, state in client.queue_states().items()} == {
        "interactive": (0, 0.0),
        "bulk": (0, 0.0),
        "push": (0, 0.0),
    }


def test_the_oldest_waiting_chunk_counts_and_a_leased_one_no_more(client, ledger, kept) -> None:
    first = client.submit(["s3://b/1.jpg"], TAXONOMY)
    kept.pass_time(0.25)
    client.submit(["s3://b/2.jpg"], TAXONOMY)
    states = client.queue_states()
    assert states["bulk"].depth == 2
    assert 0.25 <= states["bulk"].oldest_s < 10
    assert states["interactive"].oldest_s == 0
    ledger().claim(ChunkRef(first.id, 0))
    assert client.queue_states()["bulk"].oldest_s < states["bulk"].oldest_s


def test_a_prediction_that_waits_for_its_push_has_an_age(client, ledger, kept) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, push=PushTarget(project=1, label_config="<View/>"))
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, GOOD)], close=True)
    kept.pass_time(0.25)
    assert 0.25 <= client.queue_states()["push"].oldest_s < 10


def test_a_model_that_a_job_names_has_queues_of_its_own(client, ledger) -> None:
    model = "google/siglip-base-patch16-224@7fd15f0a"
    job = client.submit([f"s3://b/{i}.jpg" for i in range(70)], TAXONOMY, model=model)
    client.submit(["s3://b/1.jpg"], TAXONOMY, model="b@2", priority="interactive")
    client.submit(["s3://b/1.jpg"], TAXONOMY)
    assert client.queues() == {"interactive": 0, "bulk": 1, "push": 0, f"bulk:{model}": 2, "interactive:b@2": 1}
    assert {queue: state.depth for queue, state in client.queue_states().items()} == client.queues()
    assert ledger().queue_of(job.id) == f"bulk:{model}"


def test_how_long_a_model_s_oldest_chunk_has_waited(client, kept) -> None:
    client.submit(["s3://b/1.jpg"], TAXONOMY, model="a@1")
    kept.pass_time(0.25)
    states = client.queue_states()
    assert 0.25 <= states["bulk:a@1"].oldest_s < 10
    assert states["bulk"].oldest_s == 0


def test_a_failed_item_that_is_tried_again_goes_to_its_model_s_queue(client, ledger, kept) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, model="a@1")
    kept.take_messages("bulk:a@1")
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, BAD)], close=True)
    assert job.retry_failed() == 1
    assert client.queues()["bulk:a@1"] == 1


def test_a_job_says_what_it_waits_for_until_somebody_serves_its_model(client, kept) -> None:
    named = client.submit(["s3://b/1.jpg"], TAXONOMY, model="google/siglip-base-patch16-224@0badcafe")
    plain = client.submit(["s3://b/1.jpg"], TAXONOMY)
    assert plain.progress().waiting_for.startswith("no worker is running: start one with `prelabel worker`")
    assert named.progress().waiting_for == (
        "no worker serves google/siglip-base-patch16-224@0badcafe: start one with "
        "PRELABEL_MODEL=google/siglip-base-patch16-224 PRELABEL_REVISION=0badcafe…"
    )
    kept.show_worker("demo@1")
    assert plain.progress().waiting_for == ""
    assert "0badcafe (those running serve demo@1): start one with" in named.progress().waiting_for
    assert {one.job_id: bool(one.waiting_for) for one in client.jobs()} == {named.id: True, plain.id: False}
    kept.show_worker("google/siglip-base-patch16-224@0badcafe")
    assert [one.waiting_for for one in client.jobs()] == ["", ""]


def test_a_model_without_its_revision_is_the_one_that_is_served(client, kept) -> None:
    def submit(model: str) -> str | None:
        return client.submit(["s3://b/1.jpg"], TAXONOMY, model=model).spec().model

    with pytest.raises(ConfigError, match=r"no worker serves 'org/name' \(none is running\): start one with it first"):
        submit("org/name")
    kept.show_worker("org/name@0badcafe")
    assert submit("org/name") == "org/name@0badcafe"
    assert submit("org/name@main") == "org/name@main", "who names a revision may wait for it"
    with pytest.raises(ConfigError, match=r"no worker serves 'name' \(those running serve org/name@0badcafe\)"):
        submit("name")
    kept.show_worker("org/name@main")
    with pytest.raises(ConfigError, match="several revisions of org/name: say which, org/name@0badcafe or org/name@m"):
        submit("org/name")
    assert client.queues() == {
        "interactive": 0,
        "bulk": 0,
        "push": 0,
        "bulk:org/name@0badcafe": 1,
        "bulk:org/name@main": 1,
    }


@pytest.mark.parametrize(("model", "variable"), [("org/name", "org/name"), ("folder", "…/folder"), ("a@b@1", "…/a@b")])
def test_a_hub_id_is_no_folder_with_or_without_a_revision(client, model, variable) -> None:
    fix = f"no worker serves {model}: start one with PRELABEL_MODEL={variable}"
    assert nobody_serves(client.connection, model) == fix


def test_a_worker_of_an_earlier_release_serves_no_job_that_names_its_model(client, kept) -> None:
    kept.show_worker("a@1", is_earlier=True)
    named = client.submit(["s3://b/1.jpg"], TAXONOMY, model="a@1")
    other = client.submit(["s3://b/1.jpg"], TAXONOMY, model="b@1")
    plain = client.submit(["s3://b/1.jpg"], TAXONOMY)
    update = "(those of an earlier release get no job that names it: update them): start one with"
    assert named.progress().waiting_for == f"no worker serves a@1 {update} PRELABEL_MODEL=…/a"
    assert "b@1 (those running serve a@1): start one with" in other.progress().waiting_for
    assert plain.progress().waiting_for == "", "a job that names none goes to whoever is free"
    with pytest.raises(ConfigError) as refused:
        client.submit(["s3://b/1.jpg"], TAXONOMY, model="a")
    assert str(refused.value) == f"no worker serves 'a' {update} it first"
    kept.show_worker("a@1")
    assert named.progress().waiting_for == ""


def test_a_job_that_has_ended_waits_for_nobody(client) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, model="a@1")
    job.cancel()
    assert job.progress().waiting_for == ""
    assert unserved(client.connection) == []


def test_what_nobody_serves_is_counted_by_model(client, kept) -> None:
    kept.show_worker("b@2")
    for count in (3, 70):
        client.submit([f"s3://b/{i}.jpg" for i in range(count)], TAXONOMY, model="local@1")
    client.submit(["s3://b/1.jpg"], TAXONOMY, model="b@2")
    client.submit(["s3://b/1.jpg"], TAXONOMY)
    (one,) = unserved(client.connection)
    assert (one.jobs, one.images) == (2, 73)
    assert one.lack.problem == "no worker serves local@1 (those running serve b@2)"
    assert one.lack.fix == "PRELABEL_MODEL=…/local", "a folder: where it is nobody can tell"
