"""A Redis that refuses, is full, is away or speaks TLS: what producers are told, and how workers come back."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from prelabel.integrations import Client, Job
from prelabel.integrations.broker import connect_redis
from prelabel.schemas import BrokerUnavailable, ConfigError, JobState, Settings, Taxonomy
from prelabel.schemas.predictions import ItemFailure, Outcome
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.embedded import server_binary
from prelabel.worker.ledger import ChunkRef, Ledger
from prelabel.worker.processes import spawn, stop

TAXONOMY = Taxonomy.flat(["red", "blue"])
PASSWORD = "s3cret"
SECURITY = Path(__file__).parent.parent.parent / "docs" / "security.md"


class Server:
    """A Redis-compatible server process; can be killed and started again with its data."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [
            server_binary(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        ]
        self._log = directory / "server.log"
        self._unix = redis.Redis(port=self.port)
        self.password: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            # Not `spawn`: its child ends with the thread that started it, here a timer's.
            self.process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)
        wait_for(self._answers, 10)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def url(self, user: str = "", password: str | None = None) -> str:
        given = self.password if password is None else password
        return f"redis://{user}{':' + given if given else ''}{'@' if user or given else ''}127.0.0.1:{self.port}/0"

    @property
    def admin(self) -> redis.Redis:
        return redis.Redis.from_url(self.url())

    def require(self, password: str) -> None:
        """Want a password from now on, from those that are connected too."""
        admin = self.admin
        admin.config_set("requirepass", password)
        self.password = password
        self.admin.client_kill_filter(_type="normal", skipme=True)

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.RedisError:
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.stop()


def wait_for(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@contextmanager
def soon(action: Callable[[], object], after_s: float = 1.0) -> Iterator[None]:
    """Do something while the block runs."""
    timer = threading.Timer(after_s, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def references(count: int) -> list[str]:
    return [f"s3://b/{i}.jpg" for i in range(count)]


def cli(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", *arguments],
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )


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
    assert left.job_id in str(client.store.expired(0.01))  # what a worker looks for, with an hour


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


# TLS: the packaged server has none, so a proxy in front of it ends it.


class TlsProxy:
    """Takes TLS connections and passes what comes through to a server."""

    def __init__(self, context: ssl.SSLContext, target: int) -> None:
        self._context = context
        self._target = target
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[raw], daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        self._open.append(raw)
        try:
            near = self._context.wrap_socket(raw, server_side=True)
        except OSError:  # the client does not like the certificate, or speaks no TLS
            raw.close()
            return
        far = socket.create_connection(("127.0.0.1", self._target))
        self._open += [near, far]
        back = threading.Thread(target=self._pump, args=[far, near], daemon=True)
        back.start()
        self._pump(near, far)
        back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def certificate(path: Path, *names: str) -> Path:
    """A self-signed certificate with its key, as one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, path.stem)])
    now = datetime.datetime.now(datetime.UTC)
    addresses = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def tls(server: Server, certificate: Path, client_ca: Path | None = None) -> Iterator[str]:
    """`rediss://…/0?` of a proxy in front of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    proxy = TlsProxy(context, server.port)
    try:
        yield f"rediss://127.0.0.1:{proxy.port}/0?"
    finally:
        proxy.close()


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return certificate(tmp_path / "ours.pem", "127.0.0.1", "localhost")


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


# Workers.


@contextmanager
def worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A supervised worker process; whether it is ready is the test's business."""
    with log.open("ab") as output:
        child = spawn(
            [sys.executable, "-m", "prelabel.worker.cli", "worker"], env=settings.environment(), output=output
        )
        try:
            yield child
        finally:
            stop(child, 15)


def is_ready(log: Path) -> bool:
    return b"is ready" in log.read_bytes()


def worker_settings(url: str, pictures_dir: Path) -> Settings:
    return load_settings(
        redis_url=url, model=str(CHECKPOINT), image_roots=(pictures_dir,), lease_s=3, grace_s=3, bulk_chunks=2
    )


def assert_complete(job: Job, count: int) -> None:
    ordinals = [prediction.ordinal for prediction in job.results(90)]
    assert sorted(ordinals) == list(range(count))
    assert job.progress().failed == 0


@pytest.mark.slow
def test_a_user_with_the_rights_the_documentation_lists_can_do_everything(
    server, pictures, pictures_dir, tmp_path
) -> None:
    rights = re.search(r"ACL SETUSER prelabel on >\S+ (.*)", SECURITY.read_text()).group(1).split()
    server.admin.execute_command("ACL", "SETUSER", "prelabel", "on", f">{PASSWORD}", *rights)
    settings = worker_settings(server.url("prelabel", PASSWORD), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log):
        job = Client(settings).submit([str(picture.path) for picture in pictures], TAXONOMY)
        assert_complete(job, len(pictures))
        urgent = Client(settings).submit([str(pictures_dir / "none.jpg")], TAXONOMY, priority="interactive")
        assert urgent.wait(60).failed == 1
        assert urgent.retry_failed() == 1
        assert urgent.wait(60).failed == 1
        urgent.release_push([])
        for arguments in (["jobs"], ["doctor"], ["status", job.id], ["cancel", job.id]):
            assert cli(settings, *arguments).returncode == 0
        ping = [sys.executable, "-m", "celery", "-A", "prelabel.worker.app", "inspect", "ping", "--timeout", "10"]
        assert subprocess.run(ping, env={**os.environ, **settings.environment()}, timeout=60).returncode == 0
    # Doctor would like to know how often the file is written; the answer is an administrator's, and it does without.
    assert {entry[b"object"] for entry in server.admin.execute_command("ACL", "LOG")} <= {b"config|get"}
    assert b"Traceback" not in log.read_bytes()


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


@pytest.mark.slow
def test_a_worker_started_before_redis(server, pictures, pictures_dir, tmp_path) -> None:
    server.stop()
    settings = worker_settings(server.url(), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log):
        wait_for(lambda: b"Cannot connect to" in log.read_bytes())
        server.start()
        job = Client(settings).submit([str(picture.path) for picture in pictures], TAXONOMY)
        assert_complete(job, len(pictures))
    assert b"Traceback" not in log.read_bytes()


@pytest.mark.slow
def test_a_worker_whose_password_is_accepted_only_later(server, pictures, pictures_dir, tmp_path) -> None:
    server.require("another")
    settings = worker_settings(server.url(password=PASSWORD), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log):
        wait_for(lambda: b"Cannot connect to" in log.read_bytes())
        server.require(PASSWORD)
        job = Client(settings).submit([str(picture.path) for picture in pictures], TAXONOMY)
        assert_complete(job, len(pictures))
    assert b"Traceback" not in log.read_bytes()
    assert PASSWORD.encode() not in log.read_bytes()


@pytest.mark.slow
def test_a_password_that_changes_under_a_worker_and_is_put_right_again(
    server, pictures, pictures_dir, tmp_path
) -> None:
    server.require(PASSWORD)
    settings = worker_settings(server.url(), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log) as supervisor:
        job = Client(settings).submit([str(picture.path) for picture in pictures] * 6, TAXONOMY)
        next(job.results(60))
        server.require("another")
        time.sleep(5)  # longer than a lease
        server.require(PASSWORD)
        assert_complete(job, 6 * len(pictures))
        urgent = Client(settings).submit([str(pictures[0].path)], TAXONOMY, priority="interactive")
        assert_complete(urgent, 1)
        assert supervisor.poll() is None
    assert PASSWORD.encode() not in log.read_bytes()


@pytest.mark.slow
def test_a_worker_at_the_memory_limit_goes_on_when_it_is_lifted(server, pictures, pictures_dir, tmp_path) -> None:
    settings = worker_settings(server.url(), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log) as supervisor:
        job = Client(settings).submit([str(picture.path) for picture in pictures] * 6, TAXONOMY)
        next(job.results(60))
        server.admin.config_set("maxmemory", "1mb")
        time.sleep(5)  # longer than a lease
        server.admin.config_set("maxmemory", 0)
        assert_complete(job, 6 * len(pictures))
        assert supervisor.poll() is None
