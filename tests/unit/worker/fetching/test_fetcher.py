"""What `Fetcher` refuses whatever the store, and how it lives with many threads."""

import threading
import time

import pytest

from prelabel.schemas import ImageRef
from prelabel.schemas.errors import ItemError, TransientError
from tests.unit.worker.fetching.helpers import fetch

# --- schemes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["ftp://host/a.jpg", "gs://bucket/a.jpg", "javascript:alert(1)", "gopher://x/"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(fetcher, uri):
    with pytest.raises(ItemError, match="file:, http:, https:, s3:, data:"):
        fetch(fetcher(), uri)


def test_messages_hold_no_secret(fetcher, server):
    uri = f"http://user:hunter2@127.0.0.1:{server.port}/gone.jpg?X-Amz-Signature=abc#frag"
    with pytest.raises(ItemError) as error:
        fetch(fetcher(), uri)
    assert f"http://127.0.0.1:{server.port}/gone.jpg: HTTP 404" in str(error.value)
    assert not any(secret in str(error.value) for secret in ("hunter2", "abc", "frag"))
    assert error.value.__suppress_context__  # nor in a logged traceback


# --- life --------------------------------------------------------------------------------------------------------


def test_many_threads_share_one_fetcher(fetcher, server):
    for n in range(8):
        server.serve(f"/{n}", b"%d" % n)
    one = fetcher()
    wrong = []

    def work(n):
        wrong.extend(n for _ in range(10) if fetch(one, server.url(f"/{n}")) != b"%d" % n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_closing_wakes_whoever_waits_for_another_try(fetcher, server):
    server.serve("/", lambda handler: server.answer(handler, 503, {"Retry-After": "20"}))
    one = fetcher(fetch_attempts=2)
    threading.Timer(0.2, one.close).start()
    began = time.monotonic()
    with pytest.raises(TransientError, match="stopping"):
        fetch(one, server.url("/"))
    assert time.monotonic() - began < 5


def test_what_the_store_asked_for_is_told_to_whoever_tries_again_later(fetcher, server):
    server.serve("/", lambda handler: server.answer(handler, 503, {"Retry-After": "120"}))
    with pytest.raises(TransientError) as error:
        fetch(fetcher(fetch_attempts=2), server.url("/"))
    assert error.value.retry_after_s == 120


# --- a look beforehand -------------------------------------------------------------------------------------------


def test_a_check_refuses_what_can_never_be_fetched_and_asks_nobody_else(fetcher, server, tmp_path):
    (tmp_path / "there.jpg").write_bytes(b"bytes")
    one = fetcher()
    for uri in ("there.jpg", server.url("/gone.jpg"), "s3://bucket/a.jpg"):
        one.check(ImageRef(uri=uri))
    assert server.requests == []
    for uri in ("gone.jpg", "ftp://host/a.jpg", "/etc/passwd"):
        with pytest.raises(ItemError, match=uri):
            one.check(ImageRef(uri=uri))
