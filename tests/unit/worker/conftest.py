"""Real servers on loopback, names that resolve as a test says, and an environment without our settings."""

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from prelabel.schemas import Settings
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.vectors.disk.store import DiskStore


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PRELABEL_", "LABEL_STUDIO_", "AWS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Received(NamedTuple):
    path: str
    headers: Message  # looks names up in any case


class Server:
    """An HTTP server whose paths answer with bytes, a status, or whatever a function does with the handler."""

    def __init__(self, context=None):
        self.requests = []
        self.stopping = threading.Event()
        self._routes = {}
        self._open = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self):
                outer.requests.append(Received(self.path, self.headers))
                route = outer._routes.get(self.path.partition("?")[0], 404)
                try:
                    route(self) if callable(route) else outer.answer(self, route)
                except OSError:  # the client has had enough
                    self.close_connection = True

            def setup(self):
                super().setup()
                outer._open.append(self.connection)

            def log_message(self, *args):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, request, address):  # a TLS handshake refused by the client
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        if context is not None:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_address[1]
        self.origin = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path):
        return self.origin + path

    def serve(self, path, answer):
        """Answer `path` with bytes, a status, both (status first), or a function of the handler.

        Or with a list of these in turn; its last one stays.
        """
        if isinstance(answer, list):
            turns = iter(answer)
            last = answer[-1]
            self._routes[path] = lambda handler: self._take(handler, next(turns, last))
        else:
            self._routes[path] = answer

    def redirect(self, path, target, status=302):
        self._routes[path] = lambda handler: self.answer(handler, status, headers={"Location": target})

    def _take(self, handler, answer):
        answer(handler) if callable(answer) else self.answer(handler, answer)

    def answer(self, handler, answer, headers=None):
        if isinstance(answer, bytes):
            answer = 200, answer
        status, body = answer if isinstance(answer, tuple) else (answer, b"")
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def close(self):
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        for connection in self._open:  # ends threads that wait on an idle connection
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def other_server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def stop():
    """Set when the test is over: lets whatever a test made wait for ever go."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def names(monkeypatch):
    """What names resolve to: name -> addresses, or an iterator of answers. Other names do not exist."""
    table = {}
    real = socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return real(host, port, *args, **kwargs)
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answer = table[host]
        addresses = answer if isinstance(answer, list) else next(answer)
        return [entry for address in addresses for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for pictures.example, as a PEM file with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pictures.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pictures.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls_server(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server(context)
    yield server
    server.close()


@pytest.fixture
def fetcher(tmp_path):
    """Makes fetchers with the settings a test gives; one try unless it says otherwise."""
    made = []

    def make(authorize=None, **settings):
        settings = {"fetch_attempts": 1, "image_roots": (tmp_path,), "allow_hosts": ("127.0.0.1",)} | settings
        made.append(Fetcher(Settings(**settings), authorize))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a test's store on disk is."""
    return tmp_path / "vectors"


@pytest.fixture
def disk(root):
    """Makes disk stores in one folder."""
    made = []

    def make(max_bytes: int = 2**40, **options) -> DiskStore:
        made.append(DiskStore(root, max_bytes, **{"pause_s": 0.2, **options}))
        return made[-1]

    yield make
    for store in made:
        store.close()
