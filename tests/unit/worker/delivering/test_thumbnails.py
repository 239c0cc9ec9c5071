"""Small pictures of images, made on demand: how large, how often, and of what not."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from prelabel.schemas import ImageRef, ItemError, TransientError
from prelabel.schemas.settings import load_settings
from prelabel.worker.delivering import thumbnails
from prelabel.worker.delivering.thumbnails import SIDE_PX, ThumbnailMaker


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[ThumbnailMaker]:
    made = ThumbnailMaker(load_settings(image_roots=(tmp_path,), max_image_pixels=4_000_000, fetch_attempts=1))
    yield made
    made.close()


def saved(path: Path, size: tuple[int, int], colour: str = "red", **options: object) -> ImageRef:
    Image.new("RGB", size, colour).save(path, **options)
    return ImageRef(uri=str(path))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("size", [(1600, 900), (900, 1600), (1999, 1999), (40, 30), (1000, 1)])
def test_it_is_a_small_jpeg_of_the_same_shape(maker: ThumbnailMaker, tmp_path: Path, size: tuple[int, int]) -> None:
    small = opened(maker(saved(tmp_path / "a.jpg", size)))
    assert small.format == "JPEG"
    assert max(small.size) == min(SIDE_PX, max(size))
    assert (small.width > small.height) == (size[0] > size[1])
    red, green, _ = small.convert("RGB").getpixel((0, 0))
    assert red > 200 > 60 > green


def test_it_is_upright(maker: ThumbnailMaker, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert opened(maker(saved(tmp_path / "turned.jpg", (800, 400), exif=exif))).size == (80, 160)


def test_one_that_was_made_is_kept_and_another_image_is_another(maker: ThumbnailMaker, tmp_path: Path) -> None:
    first, other = saved(tmp_path / "1.png", (64, 64)), saved(tmp_path / "2.png", (64, 64), "blue")
    made = maker(first)
    assert maker(other) != made
    (tmp_path / "1.png").unlink()
    assert maker(first) == made


def test_one_that_cannot_be_made_is_not_tried_again_at_once(maker: ThumbnailMaker, tmp_path: Path) -> None:
    broken, gone = tmp_path / "broken.png", ImageRef(uri=str(tmp_path / "gone.png"))
    broken.write_bytes(b"no image")
    said = refusals(maker, ImageRef(uri=str(broken)), gone)
    saved(broken, (9, 9))
    saved(tmp_path / "gone.png", (9, 9))
    assert refusals(maker, ImageRef(uri=str(broken)), gone) == said


def test_it_is_tried_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "REFUSED_S", 0.0)
    made = ThumbnailMaker(load_settings(image_roots=(tmp_path,)))
    refusals(made, ImageRef(uri=str(tmp_path / "late.png")))
    assert made(saved(tmp_path / "late.png", (9, 9)))
    made.close()


def test_of_those_that_cannot_be_made_the_last_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "REFUSED_KEPT", 2)
    made = ThumbnailMaker(load_settings(image_roots=(tmp_path,)))
    late = [tmp_path / f"{number}.png" for number in range(3)]
    refusals(made, *(ImageRef(uri=str(path)) for path in late))
    first, _, last = (saved(path, (9, 9)) for path in late)
    refusals(made, last)
    assert made(first)
    made.close()


def refusals(maker: ThumbnailMaker, *images: ImageRef) -> list[str]:
    """Why each of the images has no picture."""
    said = []
    for image in images:
        with pytest.raises(ItemError) as refused:
            maker(image)
        said.append(str(refused.value))
    return said


def test_an_image_in_its_reference_needs_no_server(maker: ThumbnailMaker) -> None:
    buffer = io.BytesIO()
    Image.new("L", (300, 300), 128).save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert opened(maker(ImageRef(uri=uri))).size == (160, 160)


def test_the_guards_of_workers_hold(maker: ThumbnailMaker, tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<svg onload='alert(1)'/>")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    for ref, message in (
        (ImageRef(uri=str(tmp_path / "page.jpg")), "an SVG drawing"),
        (saved(tmp_path / "huge.png", (2001, 2000)), "pixels"),
        (saved(outside, (9, 9)), "outside"),
        (ImageRef(uri="http://169.254.169.254/latest.jpg"), "169.254.169.254"),
        (ImageRef(uri="http://127.0.0.1:9/a.jpg"), "127.0.0.1"),
    ):
        with pytest.raises(ItemError, match=message):
            maker(ref)


def test_a_store_that_is_away_is_told_apart_and_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    maker = ThumbnailMaker(load_settings(allow_hosts=("127.0.0.1",), fetch_attempts=1))
    image = ImageRef(uri=f"http://127.0.0.1:{port}/a.png")
    with pytest.raises(TransientError, match="gave up"):
        maker(image)
    with serving(port):
        assert opened(maker(image)).size == (30, 20)
    maker.close()


@contextmanager
def serving(port: int) -> Iterator[None]:
    """A web server that answers everything with a picture of 30 x 20 pixels."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            Image.new("RGB", (30, 20)).save(self.wfile, "PNG")

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
