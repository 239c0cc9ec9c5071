"""http and https: answers, redirects, and who is told which credentials."""

import base64
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from prelabel.schemas import ImageRef
from prelabel.schemas.errors import ConfigError, ItemError, TransientError
from prelabel.schemas.settings import Settings
from prelabel.worker.fetching.fetcher import Fetcher
from tests.unit.worker.fetching.helpers import TOKEN, fetch, marks

# --- http: answers ----------------------------------------------------------------------------------------------


def test_a_picture_is_fetched(fetcher, server):
    server.serve("/a.jpg", b"picture")
    assert fetch(fetcher(), server.url("/a.jpg?x=1")) == b"picture"
    assert server.requests[0].path == "/a.jpg?x=1"


def test_connections_are_reused(fetcher, server):
    peers = []
    server.serve("/", lambda handler: (peers.append(handler.client_address), server.answer(handler, b"x")))
    one = fetcher()
    for _ in range(3):
        fetch(one, server.url("/"))
    assert len(set(peers)) == 1


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, ""), (401, "login"), (403, "expired"), (404, "not found"), (410, "no longer"), (418, ""), (304, "")],
)
def test_a_refusal_is_final_and_explained(fetcher, server, status, hint):
    server.serve("/a.jpg", status)
    with pytest.raises(ItemError, match=rf"HTTP {status} from 127\.0\.0\.1.*{hint}"):
        fetch(fetcher(fetch_attempts=3), server.url("/a.jpg"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again(fetcher, server, status):
    server.serve("/a.jpg", [status, b"picture"])
    assert fetch(fetcher(fetch_attempts=2), server.url("/a.jpg")) == b"picture"
    assert len(server.requests) == 2


def test_after_the_last_try_the_trouble_goes_up(fetcher, server):
    server.serve("/a.jpg", 500)
    with pytest.raises(TransientError, match=r"/a\.jpg: HTTP 500 from 127\.0\.0\.1 \(gave up after 3 tries\)"):
        fetch(fetcher(fetch_attempts=3), server.url("/a.jpg"))
    assert len(server.requests) == 3


def test_tries_are_spread_at_random_over_a_doubling_time(fetcher, server, monkeypatch):
    longest = []
    monkeypatch.setattr("random.uniform", lambda low, high: longest.append((low, high)) or 0.0)
    server.serve("/a.jpg", 500)
    with pytest.raises(TransientError):
        fetch(fetcher(fetch_attempts=4), server.url("/a.jpg"))
    assert longest[:3] == [(0, 0.25), (0, 0.5), (0, 1.0)]


def test_retry_after_is_honoured(fetcher, server):
    busy = lambda handler: server.answer(handler, 503, {"Retry-After": "1"})  # noqa: E731
    server.serve("/a.jpg", [busy, b"picture"])
    began = time.monotonic()
    assert fetch(fetcher(fetch_attempts=2), server.url("/a.jpg")) == b"picture"
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("after", ["3600", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)])
def test_a_retry_after_beyond_the_deadline_is_not_waited_for(fetcher, server, after):
    server.serve("/a.jpg", lambda handler: server.answer(handler, 429, {"Retry-After": after}))
    began = time.monotonic()
    with pytest.raises(TransientError, match="gave up after 1 try"):
        fetch(fetcher(fetch_attempts=5), server.url("/a.jpg"))
    assert time.monotonic() - began < 3
    assert len(server.requests) == 1


@pytest.mark.parametrize("after", ["soon", "-1", "Mon, 99 Foo 2020", "", "9" * 400])
def test_a_retry_after_of_no_meaning_is_ignored(fetcher, server, after):
    server.serve("/a.jpg", [lambda handler: server.answer(handler, 503, {"Retry-After": after}), b"picture"])
    assert fetch(fetcher(fetch_attempts=2), server.url("/a.jpg")) == b"picture"


def test_a_server_that_is_down_is_passing_trouble(fetcher, free_port):
    with pytest.raises(TransientError, match="no connection to 127"):
        fetch(fetcher(), f"http://127.0.0.1:{free_port}/a.jpg")


def test_a_connection_that_breaks_is_passing_trouble(fetcher, server):
    def broken(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"only this")
        handler.close_connection = True

    server.serve("/a.jpg", [broken, b"picture"])
    with pytest.raises(TransientError, match="no connection"):
        fetch(fetcher(), server.url("/a.jpg"))
    assert fetch(fetcher(), server.url("/a.jpg")) == b"picture"


def endless_header(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:  # until the client has had enough
        handler.wfile.write(b"x" * 65536)


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 7\r\n\r\npicture",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
        endless_header,
    ],
    ids=["not HTTP", "no number", "two lengths", "no header", "no chunk", "endless header"],
)
def test_an_answer_that_is_no_http_is_final(fetcher, server, answer):
    def serve(handler):
        handler.close_connection = True
        answer(handler) if callable(answer) else handler.wfile.write(answer)

    server.serve("/a.jpg", serve)
    with pytest.raises(ItemError, match=r"/a\.jpg: 127\.0\.0\.1 does not speak HTTP as it should"):
        fetch(fetcher(fetch_attempts=3), server.url("/a.jpg"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX-More"], ids=["nothing", "half a header"])
def test_a_server_that_hangs_up_before_its_answer_is_passing_trouble(fetcher, server, start):
    def hang_up(handler):
        handler.close_connection = True
        handler.wfile.write(start)

    server.serve("/a.jpg", [hang_up, b"picture"])
    assert fetch(fetcher(fetch_attempts=2), server.url("/a.jpg")) == b"picture"


def test_https_where_there_is_none_is_final(fetcher, server):
    with pytest.raises(ItemError, match="does not speak https"):
        fetch(fetcher(fetch_attempts=3), server.url("/a.jpg").replace("http:", "https:"))


@pytest.mark.parametrize(
    "uri",
    [
        "http://",
        "http:///a.jpg",
        "http://h:99999999/",
        "http://a b/",
        "https:x",
        "http://[::1",
        "http://xn--/",
        "http://xn--a/",
    ],
)
def test_a_malformed_url_is_an_item_error(fetcher, uri):
    with pytest.raises(ItemError, match="not a valid"):
        fetch(fetcher(), uri)


def test_a_private_address_is_refused(fetcher, server):
    with pytest.raises(ItemError, match="PRELABEL_ALLOW_HOSTS"):
        fetch(fetcher(allow_hosts=()), server.url("/"))
    assert server.requests == []


def test_an_untrusted_certificate_is_final(fetcher, tls_server, names):
    names["impostor.example"] = ["127.0.0.1"]
    with pytest.raises(ItemError, match="certificate that cannot be trusted"):
        fetch(fetcher(fetch_attempts=3), f"https://impostor.example:{tls_server.port}/")


def test_https_is_fetched(fetcher, tls_server, names):
    names["pictures.example"] = ["127.0.0.1"]
    tls_server.serve("/", b"picture")
    assert fetch(fetcher(), f"https://pictures.example:{tls_server.port}/") == b"picture"


def test_no_cookie_is_kept(fetcher, server):
    server.serve("/", lambda handler: server.answer(handler, b"x", {"Set-Cookie": "session=1"}))
    one = fetcher()
    for _ in range(2):
        fetch(one, server.url("/"))
    assert "Cookie" not in server.requests[1].headers


# --- http: redirects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(fetcher, server, status):
    server.redirect("/a", "/b/../b", status)
    server.serve("/b", b"picture")
    assert fetch(fetcher(), server.url("/a")) == b"picture"


def test_only_so_many_redirects_are_followed(fetcher, server):
    server.redirect("/a", "/b")
    server.redirect("/b", "/c")
    server.serve("/c", b"picture")
    assert fetch(fetcher(max_redirects=2), server.url("/a")) == b"picture"
    with pytest.raises(ItemError, match="more than 1 redirects"):
        fetch(fetcher(max_redirects=1), server.url("/a"))
    with pytest.raises(ItemError, match="more than 0 redirects"):
        fetch(fetcher(max_redirects=0), server.url("/a"))


def test_a_redirect_loop_ends(fetcher, server):
    server.redirect("/a", "/a")
    with pytest.raises(ItemError, match="more than 3 redirects"):
        fetch(fetcher(), server.url("/a"))
    assert len(server.requests) == 4


def test_a_redirect_to_a_private_address_is_refused(fetcher, server, other_server):
    server.redirect("/a", other_server.url("/secret"))
    other_server.serve("/secret", b"secret")
    with pytest.raises(ItemError, match="PRELABEL_ALLOW_HOSTS"):
        fetch(fetcher(allow_hosts=(f"127.0.0.1:{server.port}",)), server.url("/a"))
    assert other_server.requests == []


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://x/", "s3://bucket/key", "data:,x", "http://[x", "http://h:99999/", "http://xn--/"],
)
def test_a_redirect_leads_to_http_or_nowhere(fetcher, server, target):
    server.redirect("/a", target)
    with pytest.raises(ItemError, match="redirected to"):
        fetch(fetcher(), server.url("/a"))


def test_a_redirect_without_a_target_is_refused(fetcher, server):
    server.serve("/a", 302)
    with pytest.raises(ItemError, match="without a place to go to"):
        fetch(fetcher(), server.url("/a"))


# --- http: identity ----------------------------------------------------------------------------------------------


def test_label_studio_is_allowed_and_gets_the_token(fetcher, server):
    server.serve("/data/upload/1/a.jpg", b"picture")
    one = fetcher(lambda _url: TOKEN, label_studio_url=server.origin + "/sub", allow_hosts=())
    assert fetch(one, server.url("/data/upload/1/a.jpg")) == b"picture"
    assert server.requests[0].headers["Authorization"] == TOKEN["Authorization"]


def test_another_port_of_label_studios_host_is_neither_allowed_nor_told_the_token(fetcher, server, other_server):
    other_server.serve("/", b"x")
    with pytest.raises(ItemError):
        fetch(fetcher(lambda _url: TOKEN, label_studio_url=server.origin, allow_hosts=()), other_server.url("/"))
    assert fetch(fetcher(lambda _url: TOKEN, label_studio_url=server.origin), other_server.url("/")) == b"x"
    assert ["Authorization" in request.headers for request in other_server.requests] == [False]


def test_the_token_does_not_follow_a_redirect_elsewhere(fetcher, server, other_server):
    server.redirect("/a", other_server.url("/b"))
    other_server.serve("/b", b"picture")
    one = fetcher(lambda _url: TOKEN, label_studio_url=server.origin)
    assert fetch(one, server.url("/a")) == b"picture"
    assert "Authorization" in server.requests[0].headers
    assert "Authorization" not in other_server.requests[0].headers


def test_the_token_is_bound_to_the_scheme_and_the_name_too(fetcher, server, names):
    names["ls.example"] = names["alias.example"] = ["127.0.0.1"]
    server.serve("/", b"x")
    one = fetcher(lambda _url: TOKEN, label_studio_url=f"http://ls.example:{server.port}")
    for host in ("alias.example", "127.0.0.1", "ls.example", "LS.example"):
        fetch(one, f"http://{host}:{server.port}/")
    assert ["Authorization" in request.headers for request in server.requests] == [False, False, True, True]
    over_tls = fetcher(lambda _url: TOKEN, label_studio_url=f"https://ls.example:{server.port}")
    fetch(over_tls, f"http://ls.example:{server.port}/")
    assert "Authorization" not in server.requests[-1].headers


def test_the_token_is_asked_for_each_time_so_it_may_be_renewed(fetcher, server):
    tokens = iter(["one", "two"])
    server.serve("/", b"x")
    one = fetcher(lambda _url: {"Authorization": next(tokens)}, label_studio_url=server.origin)
    for _ in range(2):
        fetch(one, server.url("/"))
    assert [request.headers["Authorization"] for request in server.requests] == ["one", "two"]


def test_a_user_and_password_in_the_url_are_for_its_origin_alone(fetcher, server, other_server):
    server.redirect("/a", "/b")
    server.redirect("/b", other_server.url("/c"))
    other_server.serve("/c", b"picture")
    assert fetch(fetcher(), f"http://me:p%2540ss@127.0.0.1:{server.port}/a") == b"picture"
    basic = "Basic " + base64.b64encode(b"me:p%40ss").decode()
    assert [request.headers.get("Authorization") for request in server.requests] == [basic, basic]
    assert "Authorization" not in other_server.requests[0].headers


@pytest.mark.parametrize("url", ["ftp://ls", "http://"])
def test_a_label_studio_url_of_no_use_is_a_config_error(url):
    with pytest.raises(ConfigError, match="LABEL_STUDIO_URL"):
        Fetcher(Settings(label_studio_url=url))


# --- marks -----------------------------------------------------------------------------------------------------------


def test_an_etag_is_the_mark_and_a_known_body_is_not_read(fetcher, server):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("etag", '"abc"')
        handler.send_header("content-length", "5")
        handler.end_headers()
        handler.wfile.write(b"image")

    server.serve("/a.jpg", answer)
    reader, uri = fetcher(), server.url("/a.jpg")
    assert marks(reader, uri) == ['"abc":5']
    assert reader.fetch(ImageRef(uri=uri), lambda mark: mark == '"abc":5') == ('"abc":5', None)
    assert fetch(reader, uri) == b"image"  # the connection left half-read is not used again


def test_without_etag_or_time_of_change_there_is_no_mark(fetcher, server):
    server.serve("/a.jpg", b"image")
    assert marks(fetcher(), server.url("/a.jpg")) == []
