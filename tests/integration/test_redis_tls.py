"""A Redis that speaks TLS, and TLS that does not fit: producers, and a worker."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from prelabel.integrations import Client
from prelabel.schemas import ConfigError
from prelabel.schemas.settings import load_settings
from tests.integration.redis_server import PASSWORD, TAXONOMY, Server, cli, references
from tests.integration.redis_tls import certificate, tls
from tests.integration.redis_worker import assert_complete, worker, worker_settings


def submits_over(url: str) -> bool:
    """Whether ledger and queue are both reached."""
    client = Client(load_settings(redis_url=url))
    job = client.submit(references(70), TAXONOMY)
    return job.progress().total == 70 and client.queues()["bulk"] == 2


def test_a_producer_over_tls_with_a_ca_of_ones_own(server: Server, ours: Path) -> None:
    with tls(server, ours) as url:
        assert submits_over(f"{url}ssl_ca_certs={ours}")


@pytest.mark.parametrize("unchecked", ["ssl_cert_reqs=none", "ssl_ca_certs={ca}&ssl_check_hostname=False"])
def test_a_producer_over_tls_that_is_told_to_check_less(server: Server, tmp_path: Path, unchecked: str) -> None:
    elsewhere = certificate(tmp_path / "elsewhere.pem", "redis.example")
    with tls(server, elsewhere) as url:
        assert submits_over(url + unchecked.format(ca=elsewhere))


def test_a_producer_over_tls_with_a_client_certificate(server: Server, ours: Path, tmp_path: Path) -> None:
    known = certificate(tmp_path / "known.pem", "client")
    with tls(server, ours, client_ca=known) as url:
        assert submits_over(f"{url}ssl_ca_certs={ours}&ssl_certfile={known}&ssl_keyfile={known}")


def unknown_ca(server: Server, ours: Path, stack: ExitStack) -> str:
    return stack.enter_context(tls(server, ours))


def another_name(server: Server, ours: Path, stack: ExitStack) -> str:
    elsewhere = certificate(ours.with_name("elsewhere.pem"), "redis.example")
    return f"{stack.enter_context(tls(server, elsewhere))}ssl_ca_certs={elsewhere}"


def no_client_certificate(server: Server, ours: Path, stack: ExitStack) -> str:
    return f"{stack.enter_context(tls(server, ours, client_ca=ours))}ssl_ca_certs={ours}"


def no_such_file(server: Server, ours: Path, stack: ExitStack) -> str:
    return f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs=/no/such/ca.pem"


def no_tls_there(server: Server, ours: Path, stack: ExitStack) -> str:
    return f"redis://127.0.0.1:{server.port}/0?ssl_ca_certs={ours}"


TLS_TROUBLE = {
    unknown_ca: "ssl_ca_certs=/path/to/ca.pem",
    another_name: "put the right host name",
    no_client_certificate: "ssl_certfile=/path/to/client.pem",
    no_such_file: "no file /no/such/ca.pem (ssl_ca_certs)",
    no_tls_there: "need rediss://",
}


@pytest.mark.parametrize(("trouble", "fix"), TLS_TROUBLE.items(), ids=lambda given: getattr(given, "__name__", ""))
def test_tls_that_does_not_fit_names_the_fix(server: Server, ours: Path, trouble, fix: str) -> None:
    with ExitStack() as stack:
        url = trouble(server, ours, stack).replace("rediss://", f"rediss://:{PASSWORD}@")
        settings = load_settings(redis_url=url, broker_wait_s=3600)
        with pytest.raises(ConfigError) as refused:
            Client(settings).ping()
        assert fix in str(refused.value)
        assert "prelabel up" not in str(refused.value)
        assert PASSWORD not in str(refused.value)
        assert cli(settings, "jobs").returncode == 2


@pytest.mark.slow
def test_a_worker_over_tls(server, ours, pictures, pictures_dir, tmp_path) -> None:
    server.require(PASSWORD)
    log = tmp_path / "worker.log"
    with tls(server, ours, client_ca=ours) as address:
        url = address.replace("//", f"//:{PASSWORD}@") + "&".join(
            f"{name}={ours}" for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
        )
        settings = worker_settings(url, pictures_dir)
        with worker(settings, log):
            job = Client(settings).submit([str(picture.path) for picture in pictures], TAXONOMY)
            assert_complete(job, len(pictures))
            urgent = Client(settings).submit([str(pictures[0].path)], TAXONOMY, priority="interactive")
            assert_complete(urgent, 1)
    assert b"Traceback" not in log.read_bytes()
