"""A client that is closed holds nothing, and takes nothing from others."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator

import pytest
import redis

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import Settings, Taxonomy
from tests.conftest import eventually

TAXONOMY = Taxonomy.flat(["cat", "dog"])


@pytest.fixture
def server(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as admin:
        admin.flushall()
        yield admin
        admin.flushall()


def connections(server: redis.Redis) -> set[str]:
    return {one["id"] for one in server.client_list()}


def use(client: Client) -> None:
    client.submit(["s3://b/1.jpg"], TAXONOMY).progress()
    Projects(client).add(7)
    Projects(client).claims.take(7, [(1, "m@1+tax.abcdef")], "me", for_s=60)


def test_after_the_block_no_connection_is_left(server: redis.Redis, settings: Settings) -> None:
    before = connections(server)
    with Client(settings) as client:
        use(client)
        assert connections(server) > before
    eventually(lambda: connections(server) == before)


def test_a_client_may_be_closed_twice_and_before_it_was_used(server: redis.Redis, settings: Settings) -> None:
    before = connections(server)
    client = Client(settings)
    client.close()
    use(client)
    assert connections(server) > before
    client.close()
    client.close()
    eventually(lambda: connections(server) == before)


def test_an_error_in_the_block_closes_it_too(server: redis.Redis, settings: Settings) -> None:
    before = connections(server)

    def fail() -> None:
        with Client(settings) as client:
            use(client)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    eventually(lambda: connections(server) == before)


def test_another_client_of_the_same_redis_stays_open(server: redis.Redis, settings: Settings) -> None:
    with Client(settings) as other:
        use(other)
        its = connections(server)
        with Client(settings) as client:
            use(client)
        eventually(lambda: connections(server) == its)
        use(other)
        assert connections(server) == its


def _submit(client: Client) -> None:
    use(client)


def test_a_forked_process_has_connections_of_its_own(server: redis.Redis, settings: Settings) -> None:
    with Client(settings) as client:
        use(client)
        child = multiprocessing.get_context("fork").Process(target=_submit, args=(client,))
        child.start()
        child.join()
        assert child.exitcode == 0
        use(client)
        assert client.queues()["bulk"] == 3


def test_a_client_that_is_forgotten_is_closed(server: redis.Redis, settings: Settings) -> None:
    before = connections(server)
    client = Client(settings)
    use(client)
    assert connections(server) > before
    del client
    gc.collect()
    eventually(lambda: connections(server) == before)
