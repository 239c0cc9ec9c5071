"""A Redis that refuses, is full or is away: what producers are told, and how they go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.schemas import BrokerUnavailable, ConfigError, JobState, Settings, Taxonomy
from prelabel.schemas.predictions import ItemFailure, Outcome
from prelabel.schemas.settings import load_settings
from tests.integration.redis_server import PASSWORD, TAXONOMY, Server, cli, references, soon

# Redis refuses us.


def no_password(server: Server) -> str:
    server.require(PASSWORD)
    return server.url(password="")


def wrong_password(server: Server) -> str:
    server.require("another")
    return server.url(password=PASSWORD)


def unknown_user(server: Server) -> str:
    return server.url("nobody", PASSWORD)


def no_rights(server: Server) -> str:
    server.admin.execute_command("ACL", "SETUSER", "clerk", "on", f">{PASSWORD}", "~*", "&*", "+ping")
    return server.url("clerk", PASSWORD)


REFUSALS = {
    no_password: "wants a password: put it into PRELABEL_REDIS_URL",
    wrong_password: "check user and password in PRELABEL_REDIS_URL",
    unknown_user: "check user and password in PRELABEL_REDIS_URL",
    no_rights: "give it the ACL rights that the documentation lists",
}


@pytest.mark.parametrize(("refusing", "fix"), REFUSALS.items(), ids=lambda given: getattr(given, "__name__", ""))
def test_a_refusal_is_one_line_with_the_fix_and_is_never_waited_for(server: Server, refusing, fix: str) -> None:
    client = Client(load_settings(redis_url=refusing(server), broker_wait_s=3600))
    for call in (client.ping, client.jobs, lambda: client.submit(references(1), TAXONOMY), client.workers):
        with pytest.raises(ConfigError) as refused:
            call()
        message = str(refused.value)
        assert fix in message
        assert "\n" not in message
        assert PASSWORD not in message
    done = cli(client.settings, "submit", "s3://b/1.jpg", "--labels", "a,b")
    assert done.returncode == 2
    assert fix in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_a_user_who_may_write_the_ledger_but_no_queue_leaves_no_half_job(server: Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", "clerk", "on", f">{PASSWORD}", "~prelabel:*", "&*", "+@all")
    client = Client(load_settings(redis_url=server.url("clerk", PASSWORD)))
    with pytest.raises(ConfigError, match="ACL rights"):
        client.submit(references(1), TAXONOMY)
    (left,) = client.jobs()
    assert left.state is JobState.CANCELLED


# Redis is full.


def test_a_full_redis_is_named_and_a_patient_producer_waits_until_it_is_not(server: Server) -> None:
    server.admin.config_set("maxmemory", "1mb")
    with pytest.raises(BrokerUnavailable, match=r"at its memory limit.*PRELABEL_BROKER_WAIT_S"):
        Client(load_settings(redis_url=server.url())).submit(references(1), TAXONOMY)
    patient = Client(load_settings(redis_url=server.url(), broker_wait_s=60))
    with soon(lambda: server.admin.config_set("maxmemory", 0)):
        assert patient.submit(references(100), TAXONOMY).progress().total == 100


def test_redis_full_in_the_middle_of_a_submission(server: Server) -> None:
    client = Client(load_settings(redis_url=server.url(), broker_wait_s=60))
    with ExitStack() as stack:

        def items() -> Iterator[str]:
            for i, reference in enumerate(references(3000)):
                if i == 1500:
                    server.admin.config_set("maxmemory", "1mb")
                    stack.enter_context(soon(lambda: server.admin.config_set("maxmemory", 0)))
                yield reference

        job = client.submit(items(), TAXONOMY)
    assert finish(client.settings, job.id) == 3000
    assert sorted(prediction.item.id for prediction in job.results(30)) == sorted(references(3000))


def test_a_message_about_a_full_redis_holds_nothing_of_the_job(server: Server) -> None:
    server.admin.config_set("maxmemory", "1mb")
    with pytest.raises(BrokerUnavailable) as unavailable:
        Client(load_settings(redis_url=server.url())).submit(references(1), Taxonomy.flat(["a private label"]))
    assert "private" not in str(unavailable.value)


# Redis is away.


def test_a_submission_goes_on_when_redis_was_away_meanwhile(server: Server) -> None:
    client = Client(load_settings(redis_url=server.url(), broker_wait_s=60))
    with ExitStack() as stack:

        def items() -> Iterator[str]:
            for i, reference in enumerate(references(3000)):
                if i in (100, 1500, 2900):
                    server.stop()
                    stack.enter_context(soon(server.start, 0.5))
                yield reference

        job = client.submit(items(), TAXONOMY)
    assert client.queues()["bulk"] >= 47  # a message may come twice, none may be missing
    assert finish(client.settings, job.id) == 3000
    assert sorted(prediction.item.id for prediction in job.results(30)) == sorted(references(3000))


def test_a_restart_between_two_calls_is_not_noticed_even_without_patience(server: Server) -> None:
    client = Client(load_settings(redis_url=server.url()))
    for count in (1, 2, 3):
        client.submit(references(100), TAXONOMY)
        assert len(client.jobs()) == count
        server.stop()
        server.start()


def test_a_submission_whose_patience_ends_is_cancelled_once_its_silence_is_noticed(server: Server) -> None:
    client = Client(load_settings(redis_url=server.url()))

    def items() -> Iterator[str]:
        yield from references(1100)
        server.stop()
        yield "s3://b/last.jpg"

    with pytest.raises(BrokerUnavailable, match="PRELABEL_BROKER_WAIT_S"):
        client.submit(items(), TAXONOMY)
    server.start()
    (left,) = client.jobs()
    assert left.state is JobState.SUBMITTING
    time.sleep(0.1)
    assert left.job_id in str(client.connection.store.expired(0.01))  # what a worker looks for, with an hour


@pytest.mark.parametrize("read", ["results", "failures"])
def test_a_reader_goes_on_when_redis_was_away_meanwhile(server: Server, read: str) -> None:
    settings = load_settings(redis_url=server.url(), broker_wait_s=60)
    job = Client(settings).submit(references(1000), TAXONOMY)
    finish(settings, job.id, error=read == "failures")
    found = []
    for prediction in getattr(job, read)():
        found.append(prediction.ordinal)
        if len(found) in (1, 300, 600):
            server.stop()
            threading.Timer(0.3, server.start).start()
    assert sorted(found) == list(range(1000))


def test_an_outcome_that_redis_lost_and_a_worker_wrote_again_is_read_once(server: Server) -> None:
    settings = load_settings(redis_url=server.url())
    job = Client(settings).submit(references(3), TAXONOMY)
    stream = job.results(30)
    ledger, lease = claimed(settings, job.id)
    ledger.complete(lease, [(0, outcome())], close=False)
    first = next(stream)
    keys = f"prelabel:{{{job.id}}}"  # the last second of an append-only file
    server.admin.delete(f"{keys}:results")
    server.admin.setbit(f"{keys}:finished", 0, 0)
    ledger.complete(lease, [(i, outcome()) for i in range(3)], close=True)
    assert [first.ordinal, *(prediction.ordinal for prediction in stream)] == [0, 1, 2]


def test_a_reader_who_is_there_when_a_failed_item_is_sent_again_gets_its_answer(server: Server) -> None:
    settings = load_settings(redis_url=server.url())
    job = Client(settings).submit(references(1), TAXONOMY)
    finish(settings, job.id, error=True)
    stream = job.results(30)
    assert next(stream).error
    assert job.retry_failed() == 1
    finish(settings, job.id)
    (again,) = stream
    assert again.ok


def outcome(*, error: bool = False) -> Outcome:
    from prelabel.schemas.predictions import Answer

    if error:
        return Outcome(error=ItemFailure(kind="ItemError", message="no such file"))
    return Outcome(model_version="m", answers=(Answer(control="c", rule="softmax", confidence=0.5),))


def claimed(settings: Settings, job_id: str, chunk: int = 0):
    ledger = Ledger(connect_redis(settings), owner="test", lease_s=60, ttl_s=100)
    return ledger, ledger.claim(ChunkRef(job_id, chunk))


def finish(settings: Settings, job_id: str, *, error: bool = False) -> int:
    """What a worker would write, for every chunk there is; returns how many items that were."""
    count = 0
    for raw in connect_redis(settings).zrange(f"prelabel:{{{job_id}}}:open", 0, -1):
        ledger, lease = claimed(settings, job_id, int(raw))
        written = [(ordinal, outcome(error=error)) for ordinal, _ in lease.pairs]
        ledger.complete(lease, written, close=True)
        count += len(written)
    return count
