"""What Redis says, as our errors: the texts of servers that no test can start."""

from __future__ import annotations

import pytest
import redis.exceptions

from prelabel.integrations.broker.errors import broker_errors
from prelabel.schemas import BrokerUnavailable, ConfigError
from prelabel.schemas.settings import load_settings


def told(error: redis.exceptions.RedisError) -> str:
    settings = load_settings(redis_url="redis://:s3cret@redis.example:6379/0")
    with pytest.raises(ConfigError) as raised, broker_errors(settings):
        raise error
    return str(raised.value)


def test_a_server_without_hello_gives_the_password_back_and_it_is_not_passed_on() -> None:
    text = "unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `s3cret`, "
    message = told(redis.exceptions.ResponseError(text))
    assert message == (
        "Redis at redis://redis.example:6379/0 does not know HELLO: it is too old, or the command was taken from it; "
        "run Redis 6.2 or newer, or Valkey"
    )


def test_a_key_that_has_moved_is_a_cluster_s() -> None:
    assert "is a Redis Cluster" in told(redis.exceptions.MovedError("15495 10.0.0.2:6379"))


def test_a_replica_that_lost_its_primary_may_find_it_again() -> None:
    error = redis.exceptions.MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
    with pytest.raises(BrokerUnavailable, match="takes no writes for now"), broker_errors(load_settings()):
        raise error
