"""Which addresses images may be fetched from, and that nothing gets around it."""

import ipaddress
import socket
import ssl

import httpcore
import httpx
import pytest

from prelabel.schemas.errors import ConfigError, ItemError, TransientError
from prelabel.worker.fetching.addresses import AddressPolicy, is_public
from prelabel.worker.fetching.deadline import Deadline
from prelabel.worker.fetching.guard import GuardedTransport, _BoundedStream, _GuardedBackend
from prelabel.worker.fetching.reader import CONNECT_TIMEOUT_S, READ_TIMEOUT_S

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111"]
INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "fe80::1%lo",
    "fc00::1",
    "fd00:ec2::254", "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001::1",
    "2001:db8::1",
]  # fmt: skip


# Judged alone, never resolved or connected to: where they lead is another network's business.
ELSEWHERE = [
    "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1", "192.0.2.1", "198.51.100.1", "203.0.113.1",
    "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "::127.0.0.1", "100::1", "100:0:0:1::1", "64:ff9b::8.8.8.8", "200::1",
    "400::1", "1fff::1", "4000::1", "5f00::1", "8000::1", "e000::1", "fe00::1", "2001:0:7f00:1::", "2001:1::1",
    "2001:2::1", "2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1ff::1",
    "2002:808:808::", "2620:4f:8000::1", "3ffe::1", "3fff::1", "3fff:fff::1",
    "2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1",
    "2606:4700:4700::1111%eth0",
]  # fmt: skip
AT_LARGE = [
    "1.1.1.1", "192.0.1.1", "2001:200::1", "2001:4860:4860::8888", "2400:cb00::1", "2606:4700::5efe:8.8.8.8",
    "2a00:1450:4001:830::200e", "2c0f:fb50::1", "3fff:1000::1",
]  # fmt: skip


def get(url, *allow):
    transport = GuardedTransport(AddressPolicy(allow))
    try:
        with httpx.Client(transport=transport, trust_env=True) as client:
            return client.get(url)
    finally:
        transport.close()


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    assert is_public(ipaddress.ip_address(address))
    assert AddressPolicy().resolve(address, 80) == [address]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_special_uses_and_what_was_never_given_out_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", AT_LARGE)
def test_their_neighbours_are_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_may_lead_inside_are_refused(address):
    with pytest.raises(ItemError, match="PRELABEL_ALLOW_HOSTS"):
        AddressPolicy().resolve(address, 80)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost", "LOCALHOST"])
def test_other_spellings_of_loopback_are_refused(host):
    with pytest.raises(ItemError, match="private, local or reserved"):
        AddressPolicy().resolve(host, 80)


def test_the_refusal_names_the_host_and_the_setting_but_no_address(names):
    names["intern.example"] = ["10.7.7.7"]
    with pytest.raises(ItemError) as error:
        AddressPolicy().resolve("intern.example", 80)
    assert "add intern.example to PRELABEL_ALLOW_HOSTS" in str(error.value)
    assert "10.7.7.7" not in str(error.value)


def test_one_private_address_among_public_ones_refuses_the_name(names):
    names["mixed.example"] = ["93.184.216.34", "10.0.0.1"]
    with pytest.raises(ItemError):
        AddressPolicy().resolve("mixed.example", 80)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("minio", "minio", 9000),
        ("MinIO", "minio", 9000),
        ("minio:9000", "minio", 9000),
        ("10.0.0.0/8", "minio", 9000),
        ("10.0.0.5", "minio", 9000),
        ("10.0.0.5:9000", "minio", 9000),
        ("10.0.0.5", "10.0.0.5", 1),
        ("fd00::/8", "fd00::5", 1),
        ("fd00::5", "fd00::5", 1),
        ("[fd00::5]:80", "fd00::5", 80),
        ("minio", "minio.", 9000),
    ],
)
def test_what_the_operator_allows_is_allowed(names, entry, host, port):
    names["minio"] = names["minio."] = ["10.0.0.5"]
    assert AddressPolicy([entry]).resolve(host, port)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("minio:9000", "minio", 22),
        ("10.0.0.5:9000", "minio", 22),
        ("10.0.0.6", "minio", 9000),
        ("minio", "other", 9000),
        ("inio", "minio", 9000),
        ("[fd00::5]:80", "fd00::5", 443),
        ("10.0.0.0/8", "::ffff:10.0.0.5", 80),
    ],
)
def test_nothing_beyond_what_the_operator_allows(names, entry, host, port):
    names["minio"] = names["other"] = ["10.0.0.5"]
    with pytest.raises(ItemError):
        AddressPolicy([entry]).resolve(host, port)


@pytest.mark.parametrize("entry", ["http://minio", "10.0.0.0/99", "minio:port", "minio/path", "", ":80", "minio:0"])
def test_an_allow_list_entry_of_no_meaning_is_a_config_error(entry):
    with pytest.raises(ConfigError, match="PRELABEL_ALLOW_HOSTS"):
        AddressPolicy([entry])


# --- names --------------------------------------------------------------------------------------------------------


def test_a_name_that_does_not_exist_is_the_items_fault(names):
    with pytest.raises(ItemError, match=r"no host named 'typo\.example'"):
        AddressPolicy().resolve("typo.example", 80)


def test_a_missing_name_the_operator_vouches_for_may_come_back(names):
    with pytest.raises(TransientError, match="does not resolve"):
        AddressPolicy(["labelstudio:8080"]).resolve("labelstudio", 8080)


def test_a_resolver_in_trouble_is_worth_another_try(monkeypatch):
    def trouble(*args, **kwargs):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", trouble)
    with pytest.raises(TransientError):
        AddressPolicy().resolve("pictures.example", 80)


def test_a_resolver_that_never_answers_is_not_waited_for(monkeypatch, stop):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: stop.wait(10))
    with pytest.raises(TransientError, match="did not resolve within"):
        AddressPolicy().resolve("slow.example", 80, timeout_s=0.05)


@pytest.mark.parametrize("host", ["a" * 300 + ".example", ".."])
def test_an_impossible_name_is_the_items_fault(host):
    with pytest.raises(ItemError):
        AddressPolicy().resolve(host, 80)


# --- connections --------------------------------------------------------------------------------------------------


def test_a_forbidden_server_hears_nothing(server):
    server.serve("/", b"secret")
    with pytest.raises(ItemError):
        get(server.url("/"))
    assert server.requests == []


def test_an_allowed_server_is_reached_under_its_name(server, names):
    server.serve("/", b"picture")
    names["pictures.example"] = ["127.0.0.1"]
    assert get(f"http://pictures.example:{server.port}/", "pictures.example").content == b"picture"
    assert server.requests[0].headers["Host"] == f"pictures.example:{server.port}"


def test_a_name_that_changes_its_answer_wins_nothing(server, names):
    # Checked: 127.0.0.1, which is allowed here. A second look-up would say 127.0.0.2, where nothing may connect to.
    server.serve("/", b"picture")
    names["rebind.example"] = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    url = f"http://rebind.example:{server.port}/"
    assert get(url, "127.0.0.1").content == b"picture"
    with pytest.raises(ItemError):
        get(url, "127.0.0.1")
    assert len(server.requests) == 1


def test_a_proxy_in_the_environment_is_not_used(server, monkeypatch):
    server.serve("/", b"proxied")
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, server.url("/"))
    transport = GuardedTransport(AddressPolicy())
    with pytest.raises(ItemError):
        transport.handle_request(httpx.Request("GET", "http://10.255.255.1/"))
    transport.close()
    assert server.requests == []


def test_tls_is_verified_for_the_name_not_for_the_address(tls_server, names):
    names["pictures.example"] = names["impostor.example"] = ["127.0.0.1"]
    tls_server.serve("/", b"picture")
    allow = ["127.0.0.1"]
    assert get(f"https://pictures.example:{tls_server.port}/", *allow).content == b"picture"
    with pytest.raises(httpx.ConnectError, match="certificate"):
        get(f"https://impostor.example:{tls_server.port}/", *allow)


def test_a_connection_verified_for_one_name_is_not_used_for_another(tls_server, names):
    names["pictures.example"] = names["impostor.example"] = ["127.0.0.1"]
    tls_server.serve("/", b"picture")
    transport = GuardedTransport(AddressPolicy(["127.0.0.1"]))
    with httpx.Client(transport=transport) as client:
        client.get(f"https://pictures.example:{tls_server.port}/")
        with pytest.raises(httpx.ConnectError, match="certificate"):
            client.get(f"https://impostor.example:{tls_server.port}/")


def test_the_next_address_is_tried_when_one_does_not_answer(server, names):
    server.serve("/", b"picture")
    names["twins.example"] = ["127.0.0.3", "127.0.0.1"]  # nothing listens on the first
    assert get(f"http://twins.example:{server.port}/", "127.0.0.0/8").content == b"picture"


def test_a_server_that_is_down_is_a_connect_error(free_port):
    with pytest.raises(httpx.ConnectError):
        get(f"http://127.0.0.1:{free_port}/", "127.0.0.1")


class Waits(httpcore.NetworkStream):
    """A connection that answers how long it was told to wait."""

    def __init__(self) -> None:
        self.told: list[float | None] = []

    def read(self, max_bytes, timeout=None):
        self.told.append(timeout)
        return b""

    def write(self, buffer, timeout=None):
        self.told.append(timeout)

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        self.told.append(timeout)
        return self


@pytest.mark.parametrize(("asked", "told"), [(None, READ_TIMEOUT_S), (1.0, 1.0)])
def test_without_a_deadline_a_connection_is_waited_for_as_long_as_for_a_read(monkeypatch, asked, told):
    monkeypatch.setattr("prelabel.worker.fetching.guard.RESOLVE_TIMEOUT_S", 77.0)
    inner = Waits()
    stream = _BoundedStream(inner)
    stream.read(1, asked)
    stream.write(b"x", asked)
    stream.start_tls(ssl.create_default_context(), None, asked)
    assert inner.told == [told] * 3


def test_with_a_deadline_it_is_waited_for_no_longer():
    inner = Waits()
    with Deadline(0.5).in_force():
        _BoundedStream(inner).read(1, None)
        _BoundedStream(inner).read(1, 60.0)
    assert all(0 < timeout <= 0.5 for timeout in inner.told)


def test_without_a_deadline_a_connection_is_made_within_the_time_for_connections(monkeypatch):
    monkeypatch.setattr("prelabel.worker.fetching.guard.RESOLVE_TIMEOUT_S", 77.0)
    told = []

    def connect(self, host, port, timeout=None, local_address=None, socket_options=None):
        told.append(timeout)
        return Waits()

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    _GuardedBackend(AddressPolicy(["10.0.0.1"])).connect_tcp("10.0.0.1", 80)
    assert told == [CONNECT_TIMEOUT_S]
