"""http and https: no server sends more, or takes longer, than it may."""

import gzip
import os
import time
import zlib

import pytest

from prelabel.schemas.errors import ItemError, TransientError
from tests.unit.worker.fetching.helpers import fetch


def chunked(handler, chunks, **headers):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    for chunk in chunks:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    handler.wfile.write(b"0\r\n\r\n")


def endless(stopping):
    while not stopping.is_set():
        yield b"x" * 10_000


@pytest.mark.timeout(10)
def test_a_body_without_end_is_cut_off_at_the_byte_limit(fetcher, server):
    server.serve("/", lambda handler: chunked(handler, endless(server.stopping)))
    with pytest.raises(ItemError, match=r"larger than 1,000,000 bytes \(PRELABEL_MAX_IMAGE_BYTES\)"):
        fetch(fetcher(max_image_bytes=1_000_000), server.url("/"))


def test_a_body_of_exactly_the_limit_fits(fetcher, server):
    server.serve("/", lambda handler: chunked(handler, [b"x" * 60, b"x" * 40]))
    assert len(fetch(fetcher(max_image_bytes=100), server.url("/"))) == 100
    with pytest.raises(ItemError):
        fetch(fetcher(max_image_bytes=99), server.url("/"))


def test_an_announced_size_over_the_limit_is_not_even_read(fetcher, server):
    def announce(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        server.stopping.wait(5)
        handler.close_connection = True

    server.serve("/", announce)
    with pytest.raises(ItemError, match="larger than"):
        fetch(fetcher(max_image_bytes=1000), server.url("/"))


@pytest.mark.parametrize(
    ("name", "pack"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
def test_a_packed_body_is_unpacked(fetcher, server, name, pack):
    data = os.urandom(100_000) + bytes(100_000)
    server.serve("/", lambda handler: server.answer(handler, pack(data), {"Content-Encoding": name}))
    assert fetch(fetcher(), server.url("/")) == data


@pytest.mark.parametrize("name", ["aws-chunked", "identity", "AWS-Chunked, identity", ""])
def test_how_a_body_was_once_sent_to_its_store_is_no_packing(fetcher, server, name):
    server.serve("/", lambda handler: server.answer(handler, b"picture", {"Content-Encoding": name}))
    assert fetch(fetcher(), server.url("/")) == b"picture"


def test_a_packed_body_that_was_sent_to_its_store_in_chunks_is_unpacked(fetcher, server):
    packed = gzip.compress(b"picture")
    server.serve("/", lambda handler: server.answer(handler, packed, {"Content-Encoding": "gzip,aws-chunked"}))
    assert fetch(fetcher(), server.url("/")) == b"picture"


def test_a_gzip_bomb_counts_as_what_it_unpacks_to(fetcher, server):
    bomb = gzip.compress(bytes(50_000_000))
    server.serve("/", lambda handler: server.answer(handler, bomb, {"Content-Encoding": "gzip"}))
    assert len(bomb) < 100_000
    with pytest.raises(ItemError, match="larger than 100,000 bytes"):
        fetch(fetcher(max_image_bytes=100_000), server.url("/"))


def test_a_packing_inside_a_packing_is_refused(fetcher, server):
    bomb = gzip.compress(gzip.compress(bytes(1_000_000)))
    server.serve("/", lambda handler: server.answer(handler, bomb, {"Content-Encoding": "gzip, gzip"}))
    with pytest.raises(ItemError, match="Content-Encoding"):
        fetch(fetcher(), server.url("/"))


@pytest.mark.timeout(10)
def test_a_packing_that_never_unpacks_to_anything_is_counted_as_sent(fetcher, server):
    def hollow():
        yield b"\x78\x9c"
        while not server.stopping.is_set():
            yield b"\x00\x00\x00\xff\xff" * 1000  # empty stored blocks

    server.serve("/", lambda handler: chunked(handler, hollow(), Content_Encoding="deflate"))
    with pytest.raises(ItemError, match="larger than"):
        fetch(fetcher(max_image_bytes=100_000), server.url("/"))


def test_a_damaged_packing_is_final_and_a_cut_one_is_not(fetcher, server):
    server.serve("/damaged", lambda handler: server.answer(handler, b"no gzip", {"Content-Encoding": "gzip"}))
    cut = gzip.compress(os.urandom(1000))[:-100]
    server.serve("/cut", lambda handler: server.answer(handler, cut, {"Content-Encoding": "gzip"}))
    with pytest.raises(ItemError, match="damaged"):
        fetch(fetcher(), server.url("/damaged"))
    with pytest.raises(TransientError, match="before the image was complete"):
        fetch(fetcher(), server.url("/cut"))


def drip(server, handler, piece, start=b""):
    handler.close_connection = True
    handler.wfile.write(start)
    while not server.stopping.wait(0.02):
        handler.wfile.write(piece)


SLOW = {
    "body": (b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    "headers": (b"X-More: x\r\n", b"HTTP/1.1 200 OK\r\n"),
    "one header": (b"x", b"HTTP/1.1 200 OK\r\nX-Long: "),
    "chunk size": (b"0", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0"),
    "silence": (b"", b""),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", SLOW)
def test_a_server_that_drips_holds_a_thread_no_longer_than_the_deadline(fetcher, server, part):
    server.serve("/", lambda handler: drip(server, handler, *SLOW[part]))
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"not fetched within 0\.4 s \(PRELABEL_FETCH_TIMEOUT_S\)"):
        fetch(fetcher(fetch_timeout_s=0.4, fetch_attempts=5), server.url("/"))
    assert 0.35 < time.monotonic() - began < 3.0


@pytest.mark.timeout(10)
def test_the_deadline_holds_on_a_reused_connection(fetcher, server):
    server.serve("/", [b"picture", lambda handler: drip(server, handler, *SLOW["headers"])])
    one = fetcher(fetch_timeout_s=0.4)
    fetch(one, server.url("/"))
    began = time.monotonic()
    with pytest.raises(TransientError):
        fetch(one, server.url("/"))
    assert time.monotonic() - began < 3.0


@pytest.mark.timeout(10)
def test_the_deadline_covers_all_redirects_together(fetcher, server):
    def slow(handler):
        server.stopping.wait(0.15)
        server.answer(handler, 302, {"Location": "/"})

    server.serve("/", slow)
    began = time.monotonic()
    with pytest.raises(TransientError, match="not fetched within"):
        fetch(fetcher(fetch_timeout_s=0.4, max_redirects=20), server.url("/"))
    assert time.monotonic() - began < 3.0
