"""The Python API against a real Redis-compatible server, without a worker."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import kombu.exceptions
import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations import Client
from prelabel.integrations.broker.celery import celery_config
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.broker.patience import Patience
from prelabel.integrations.client.cutting import make_chunks
from prelabel.integrations.ledger.keys import WORKERS
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.integrations.ledger.sources import with_vectors
from prelabel.schemas import (
    Answer,
    BrokerUnavailable,
    ConfigError,
    ImageRef,
    Item,
    Label,
    Options,
    Outcome,
    Prediction,
    Region,
    Taxonomy,
    WorkerInfo,
)
from prelabel.schemas.predictions import ItemFailure
from prelabel.schemas.settings import load_settings

TAXONOMY = Taxonomy.flat(["cat", "dog"])


def stored_items(client: Client, job_id: str) -> list[Item]:
    from prelabel.schemas import Chunk

    raw = client.connection.redis.hgetall(f"prelabel:{{{job_id}}}:chunks")
    chunks = [Chunk.model_validate_json(raw[key]) for key in sorted(raw, key=int)]
    return [item for chunk in chunks for item in chunk.items]


def test_relative_paths_are_made_absolute_and_other_references_left_alone(client, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    job = client.submit(["a.jpg", "https://h/b.jpg", Item(id="x", images=(ImageRef(uri="sub/c.jpg"),))], TAXONOMY)
    uris = [item.images[0].uri for item in stored_items(client, job.id)]
    assert uris == [str(tmp_path / "a.jpg"), "https://h/b.jpg", str(tmp_path / "sub/c.jpg")]


def test_a_worker_of_another_release_is_left_out_of_the_list(client) -> None:
    now = client.connection.redis.time()[0]
    ours = WorkerInfo(name="ours", model="m", device="cpu", dtype="float32")
    odd = ['{"name": "newer", "model": "m", "device": "cpu", "dtype": "float32", "lanes": 3}', "not JSON"]
    client.connection.redis.zadd(WORKERS, dict.fromkeys([ours.model_dump_json(exclude={"beat"}), *odd], now))
    assert [worker.name for worker in client.connection.store.workers()] == ["ours"]


def test_a_damaged_outcome_is_its_items_failure_and_the_others_are_read(client, settings) -> None:
    job = client.submit(["s3://b/1", "s3://b/2"], TAXONOMY)
    ledger = Ledger(connect_redis(settings), owner="a", lease_s=30, ttl_s=100)
    whole = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", confidence=0.9),))
    client.connection.redis.xadd(f"prelabel:{{{job.id}}}:results", {"o": 0, "c": 0, "r": b"\x01damaged"})
    ledger.complete(ledger.claim(ChunkRef(job.id, 0)), [(1, whole)], close=False)
    damaged, other = job.results_so_far()
    assert "an outcome that cannot be read" in damaged.error.message
    assert (other.ordinal, other.ok) == (1, True)


def test_a_job_whose_counts_are_damaged_is_left_out_of_the_list(client) -> None:
    odd = client.submit(["s3://b/1"], TAXONOMY)
    job = client.submit(["s3://b/1"], TAXONOMY)
    client.connection.redis.hset(f"prelabel:{{{odd.id}}}:meta", "submitted", "many")
    assert [progress.job_id for progress in client.jobs()] == [job.id]


@pytest.mark.parametrize("options", [{"top_k": 0}, {"taxonomy": []}])
def test_bad_options_are_config_errors(client, options) -> None:
    with pytest.raises(ConfigError):
        client.submit(["s3://b/1.jpg"], **{"taxonomy": TAXONOMY, **options})


def test_a_full_redis_is_a_clear_error(client) -> None:
    redis = client.connection.redis
    redis.config_set("min-replicas-to-write", 1)  # as a full disk or memory: reads work, writes do not
    try:
        with pytest.raises(BrokerUnavailable, match="takes no writes for now"):
            client.submit(["s3://b/1.jpg"], TAXONOMY)
    finally:
        redis.config_set("min-replicas-to-write", 0)


PENDING_BYTES = 200
"""What a pending reference of 62 characters may take in Redis, queue and ledger together."""


def test_memory_stays_flat_while_a_long_stream_is_submitted(client) -> None:
    count = 30_000
    references = (f"s3://company-photos/2026/incoming/batch-0042/img-{i:09d}.jpg" for i in range(count))
    client.submit(["s3://b/1.jpg"], TAXONOMY)  # connections and caches
    redis_before = client.connection.redis.info("memory")["used_memory"]
    tracemalloc.start()
    try:
        client.submit(references, TAXONOMY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20  # one trip of 16 chunks; all items would be 30 MiB
    assert (client.connection.redis.info("memory")["used_memory"] - redis_before) / count < PENDING_BYTES


def test_every_key_of_a_finished_job_expires(client, settings) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(100)], TAXONOMY)
    ledger = Ledger(connect_redis(settings), owner="a", lease_s=30, ttl_s=100)
    failed = Outcome(error=ItemFailure(kind="ItemError", message="no such file"))
    for chunk in (0, 1):
        lease = ledger.claim(ChunkRef(job.id, chunk))
        ledger.complete(lease, [(ordinal, failed) for ordinal, _ in lease.pairs], close=True)
    keys = client.connection.redis.keys(f"prelabel:{{{job.id}}}:*")
    assert len(keys) >= 4
    assert {key: client.connection.redis.ttl(key) for key in keys if client.connection.redis.ttl(key) < 1} == {}


def fails(*errors: BaseException):
    """Raises these in turn, then returns how often it was called."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls <= len(errors):
            raise errors[calls - 1]
        return calls

    return call


def wrapped(error: kombu.exceptions.KombuError, cause: Exception) -> BaseException:
    error.__cause__ = cause
    return error


PASSING = (
    redis.exceptions.ConnectionError("Connection refused"),
    redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
    redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    kombu.exceptions.OperationalError("Connection refused"),
    wrapped(kombu.exceptions.OperationalError("x"), redis.exceptions.TimeoutError("Timeout reading from socket")),
    wrapped(kombu.exceptions.BatchPublishError("x"), redis.exceptions.OutOfMemoryError("used memory > 'maxmemory'.")),
)


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes_is_an_error_at_once_or_waited_for_as_the_setting_says(error: BaseException) -> None:
    with pytest.raises(BrokerUnavailable, match="PRELABEL_BROKER_WAIT_S"):
        Patience(load_settings())(fails(error))
    patient = Patience(load_settings(broker_wait_s=60))
    assert patient(fails(error, error)) == 3
    with pytest.raises(BrokerUnavailable):
        patient(fails(error), wait_s=0)


REFUSED = (
    redis.exceptions.AuthenticationError("invalid username-password pair or user is disabled."),
    redis.exceptions.NoPermissionError("User clerk has no permissions to run the 'hset' command"),
    redis.exceptions.ConnectionError("Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate …"),
    wrapped(kombu.exceptions.OperationalError("x"), redis.exceptions.AuthenticationError("invalid …")),
    wrapped(kombu.exceptions.BatchPublishError("x"), redis.exceptions.NoPermissionError("no permissions …")),
)


@pytest.mark.parametrize("error", REFUSED, ids=repr)
def test_a_refusal_is_never_waited_for(error: BaseException) -> None:
    with pytest.raises(ConfigError):
        Patience(load_settings(broker_wait_s=3600))(fails(error))


def test_an_error_that_is_no_trouble_with_redis_is_left_as_it_is() -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        Patience(load_settings(broker_wait_s=3600))(fails(redis.exceptions.ResponseError("WRONGTYPE …")))


def test_waiting_can_last_for_days() -> None:
    patient = Patience(load_settings(broker_wait_s=86_400))
    assert max(patient._retry._backoff.compute(failures) for failures in (1, 10, 100_000)) <= 2


@pytest.mark.parametrize(
    ("url", "broker", "tls"),
    [
        ("redis://h", "redis://h/0", None),
        ("redis://u:p%40w@h:7/3?socket_timeout=5&max_connections=9", "redis://u:p%40w@h:7/3", None),
        ("redis://h/1?db=4", "redis://h/4", None),
        ("rediss://h:7", "rediss://h:7/0", {"ssl_cert_reqs": "required"}),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=no&socket_timeout=5",
            "rediss://h/0",
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
    ],
)
def test_celery_gets_the_url_as_redis_py_reads_it(url: str, broker: str, tls) -> None:
    settings = load_settings(redis_url=url)
    connect_redis(settings)
    config = celery_config(settings)
    assert (config["broker_url"], config.get("broker_use_ssl")) == (broker, tls)


def test_the_broker_of_another_celery_application_is_left_alone(client, settings, monkeypatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.setenv(name, "redis://127.0.0.1:1/0")
    Client(settings).submit(["s3://b/1.jpg"], TAXONOMY)
    assert client.queues()["bulk"] == 1


@pytest.mark.parametrize("url", ["redis://h?ssl_ca_certs=ca.pem", "redis://h?colour=red", "rediss://h?ssl_cert_reqs=x"])
def test_a_parameter_that_redis_py_does_not_take_is_a_config_error(url: str, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ca.pem").touch()
    with pytest.raises(ConfigError, match="has a parameter that redis-py does not take"):
        Client(load_settings(redis_url=url))


def test_no_redis_is_one_line_that_names_address_and_fix_and_hides_the_password() -> None:
    client = Client(load_settings(redis_url="redis://user:s3cret@127.0.0.1:1/0"))
    with pytest.raises(BrokerUnavailable) as unavailable:
        client.submit(["s3://b/1.jpg"], TAXONOMY)
    message = str(unavailable.value)
    assert "127.0.0.1:1" in message
    assert "prelabel up" in message
    assert "PRELABEL_BROKER_WAIT_S" in message
    assert "\n" not in message
    assert "s3cret" not in message


def test_a_wrong_redis_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="PRELABEL_REDIS_URL"):
        Client(load_settings(redis_url="http://localhost"))


@given(st.lists(st.integers(1, 90_000), max_size=150))
def test_chunks_keep_order_and_limits(sizes: list[int]) -> None:
    items = [Item(id=str(i), images=(ImageRef(uri="x" * size),)) for i, size in enumerate(sizes)]
    chunks = list(make_chunks(items))
    assert [item for chunk in chunks for _, item in chunk.pairs()] == items
    assert [ordinal for chunk in chunks for ordinal, _ in chunk.pairs()] == list(range(len(items)))
    for chunk in chunks:
        assert 1 <= len(chunk.items) <= 64
        assert len(chunk.items) == 1 or len(chunk.model_dump_json()) <= 64 * 1024 + 100 * len(chunk.items)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3000)), max_size=80))
def test_chunks_stay_small_whatever_labels_items_bring_and_hold_each_set_of_labels_once(brought) -> None:
    sets = [Options(labels=tuple(Label(name=f"label {n} of {i}") for n in range(900))) for i in range(4)]
    items = [
        Item(id=str(i), images=(ImageRef(uri="x" * size),), options={"cls": sets[which]})
        for i, (which, size) in enumerate(brought)
    ]
    chunks = list(make_chunks(items))
    assert [item for chunk in chunks for _, item in chunk.pairs()] == items
    for chunk in chunks:
        text = chunk.to_json()
        assert len(chunk.items) == 1 or len(text) <= 64 * 1024 + 100 * len(chunk.items)
        assert text.count('"label 0 of ') == len({item.options["cls"].digest for item in chunk.items})


def test_items_scored_again_keep_the_vector_of_each_of_their_images() -> None:
    region = Region(x=0, y=0, width=10, height=10)
    images = (
        ImageRef(uri="a", name="img"),
        ImageRef(uri="b", name="img"),
        ImageRef(uri="a", name="regions of img", region=region),
    )
    item = Item(id="1", images=images)
    keys = {slot: f"{place:032x}" for place, slot in enumerate(item.slots())}
    answer = Answer(control="c", rule="softmax", confidence=0.5)
    prediction = Prediction(item=item, model_version="m@1+tax.abc123", vectors=keys, answers=(answer,))
    again = with_vectors(prediction, "m@1")
    assert [image.vector for image in again.images] == [f"{place:032x}" for place in range(3)]
    bare = with_vectors(prediction.model_copy(update={"vectors": {"": "f" * 32}}), "m@1")
    assert [image.vector for image in bare.images] == ["f" * 32, None, None]


@pytest.mark.parametrize("module", ["prelabel.integrations", "prelabel.schemas", "prelabel.worker.cli"])
def test_importing_the_client_side_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "heavy = {'torch', 'transformers', 'pandas', 'PIL', 'numpy', 'label_studio_sdk', 'boto3'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path("/"))
    assert done.returncode == 0, done.stderr


def test_a_deadline_in_the_past_is_refused(client) -> None:
    with pytest.raises(ConfigError, match="deadline_s"):
        client.submit(["s3://b/1.jpg"], TAXONOMY, deadline_s=-1)
