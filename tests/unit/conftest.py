"""What tests of producers and of workers share."""

import pytest

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.leases import Ledger


@pytest.fixture
def ledger(client, settings):
    """Makes ledgers of workers by name, on a Redis that holds nothing."""

    with connect_redis(settings) as redis:

        def make(owner: str = "a", lease_s: float = 30.0) -> Ledger:
            return Ledger(redis, owner=owner, lease_s=lease_s, ttl_s=100)

        yield make
