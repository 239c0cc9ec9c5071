"""Bad input is normal: each bad item ends as its own clear error, the job completes, the counts add up."""

from __future__ import annotations

import base64
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prelabel.integrations import Client
from prelabel.schemas import JobState, Taxonomy
from prelabel.worker.demo.shapes import SHAPES, draw, sample_scene
from prelabel.worker.demo.story import TEMPLATE

TAXONOMY = Taxonomy.flat(SHAPES, template=TEMPLATE)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A picture without symmetries: turned, it would score otherwise."""
    return draw(sample_scene(np.random.default_rng(5)))


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few kB that says it is 20,000 x 20,000."""

    def block(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501) * 20_000, 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", rows) + block(b"IEND", b""))
    return path


def text_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def good(pictures_dir: Path, picture: Image.Image) -> dict[str, str]:
    """Odd but right images, all of the same picture (or of one that any answer is right for)."""
    d = pictures_dir
    exif = {}
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transposition that it undoes
    for orientation in range(1, 9):
        turned = picture if orientation == 1 else picture.transpose(Image.Transpose(undo[orientation]))
        data = Image.Exif()
        data[0x0112] = orientation
        exif[f"exif {orientation}"] = saved(turned, d / f"exif{orientation}.jpg", quality=95, exif=data)
    palette = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    blank = Image.new("RGB", picture.size)
    inline = io.BytesIO()
    picture.save(inline, "PNG")
    made: dict[str, Path | str] = {
        "plain": saved(picture, d / "plain.png"),
        **exif,
        "cmyk": saved(picture.convert("CMYK"), d / "cmyk.jpg", quality=95),
        "palette": saved(palette, d / "palette.png", transparency=0),
        "webp": saved(picture, d / "one.webp", quality=95),
        "animated gif": saved(picture, d / "a.gif", save_all=True, append_images=[blank] * 3, duration=10),
        "animated webp": saved(picture, d / "a.webp", save_all=True, append_images=[blank] * 3, quality=95),
        "data uri": "data:image/png;base64," + base64.b64encode(inline.getvalue()).decode(),
        "file uri": (d / "plain.png").as_uri(),
    }
    return {name: str(reference) for name, reference in made.items()}


def test_odd_but_right_images_score_like_the_plain_one(live: Client, good: dict[str, str]) -> None:
    names = list(good)
    predictions = sorted(live.submit(good.values(), TAXONOMY).results(timeout=60), key=lambda p: p.ordinal)
    found = dict(zip(names, predictions, strict=True))
    assert {name: p.error for name, p in found.items() if p.error} == {}
    plain = {score.label: score.logit for score in found["plain"].scores}
    for name, prediction in found.items():
        # Lossy formats and palettes move a logit a little; a wrong turn or wrong colours move it a lot.
        worst = max(abs(score.logit - plain[score.label]) for score in prediction.scores)
        assert worst < 1.5, (name, worst)


def test_16_bit_and_one_pixel_images_score(live: Client, pictures_dir: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)
    deep = saved(Image.fromarray(ramp), pictures_dir / "deep.png")
    shallow = saved(Image.fromarray((ramp // 257).astype(np.uint8)), pictures_dir / "shallow.png")
    dot = saved(Image.new("RGB", (1, 1), (9, 9, 9)), pictures_dir / "dot.png")
    found = sorted(live.submit(map(str, (deep, shallow, dot)), TAXONOMY).results(timeout=30), key=lambda p: p.ordinal)
    assert all(p.ok for p in found)
    by_label = {score.label: score.logit for score in found[1].scores}
    assert all(score.logit == pytest.approx(by_label[score.label], abs=0.2) for score in found[0].scores)


class Handler(BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_GET(self) -> None:
        kind = self.path.strip("/")
        if kind in ("404", "500"):
            self.send_error(int(kind))
        elif kind == "slow":
            self.server.released.wait(20)  # type: ignore[attr-defined]
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while not self.server.released.is_set():  # type: ignore[attr-defined]
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.released = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{made.server_port}"
    made.released.set()  # type: ignore[attr-defined]
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def bad(pictures_dir: Path, picture: Image.Image) -> dict[str, tuple[str, str]]:
    """What is wrong -> the reference, and what its error must say."""
    d = pictures_dir
    whole = io.BytesIO()
    picture.save(whole, "JPEG")
    return {
        "missing": (str(d / "none.jpg"), "no such file"),
        "empty": (str(text_file(d / "empty.jpg", b"")), "empty"),
        "text": (str(text_file(d / "text.jpg", b"hello world, I am no image")), "not an image"),
        "truncated": (str(text_file(d / "cut.jpg", whole.getvalue()[: len(whole.getvalue()) // 2])), "truncated"),
        "bomb": (str(bomb(d / "bomb.png")), "PRELABEL_MAX_IMAGE_PIXELS"),
        "directory": (str(d), "not a"),
        "escape": (str(d / ".." / ".." / "etc" / "passwd"), "PRELABEL_IMAGE_ROOTS"),
        "absolute": ("/etc/passwd", "PRELABEL_IMAGE_ROOTS"),
        "metadata": ("http://169.254.169.254/latest/meta-data", "PRELABEL_ALLOW_HOSTS"),
        "loopback": ("http://127.0.0.1:1/a.jpg", "PRELABEL_ALLOW_HOSTS"),
        "decimal loopback": ("http://2130706433/a.jpg", "PRELABEL_ALLOW_HOSTS"),
        "private": ("http://10.0.0.1/a.jpg", "PRELABEL_ALLOW_HOSTS"),
        "scheme": ("ftp://host/a.jpg", "ftp"),
        "bad data": ("data:image/png;base64,@@@", "data:"),
    }


def test_each_bad_item_has_its_own_error_and_the_good_ones_their_scores(
    live: Client, bad: dict[str, tuple[str, str]], good: dict[str, str]
) -> None:
    mixed = [good["plain"]]
    for reference, _ in bad.values():
        mixed += [reference, good["plain"]]
    job = live.submit(mixed, TAXONOMY)
    found = sorted(job.results(timeout=120), key=lambda p: p.ordinal)
    assert len(found) == len(mixed)
    for prediction, (name, (_, says)) in zip(found[1::2], bad.items(), strict=True):
        assert prediction.error, name
        assert prediction.error.kind == "ItemError", (name, prediction.error)
        assert says in prediction.error.message, (name, prediction.error.message)
        assert "\n" not in prediction.error.message
    assert all(p.ok for p in found[::2])
    progress = job.progress()
    assert (progress.state, progress.total) == (JobState.DONE, len(mixed))
    assert (progress.done, progress.failed, progress.pending) == (len(bad) + 1, len(bad), 0)


def test_trouble_on_the_web_ends_per_item_too(stack_that_may_fetch: Client, server: str, good: dict[str, str]) -> None:
    kinds = {"404": "404", "500": "500", "slow": "s", "endless": "larger than"}
    job = stack_that_may_fetch.submit([*(f"http://{server}/{kind}" for kind in kinds), good["plain"]], TAXONOMY)
    found = sorted(job.results(timeout=120), key=lambda p: p.ordinal)
    assert [p.error.kind if p.error else None for p in found] == [
        "ItemError", "TransientError", "TransientError", "ItemError", None,
    ]  # fmt: skip
    for prediction, says in zip(found, kinds.values(), strict=False):
        assert says in prediction.error.message


@pytest.fixture(scope="module")
def stack_that_may_fetch(tmp_path_factory, pictures_dir: Path, server: str) -> Iterator[Client]:
    """A worker that may fetch from the test's own web server."""
    from prelabel.schemas.settings import load_settings
    from prelabel.worker.demo.story import CHECKPOINT
    from prelabel.worker.running.stack import local_stack

    settings = load_settings(
        model=str(CHECKPOINT),
        image_roots=(pictures_dir,),
        allow_hosts=(server,),
        fetch_timeout_s=3,
        fetch_attempts=2,
        item_retries=1,
        max_image_bytes=2**20,
        port=0,
    )
    directory = tmp_path_factory.mktemp("web")
    with local_stack(settings, directory, adapter=False, embedded=True, broker_port=0) as stack:
        stack.wait_until_ready(timeout_s=120)
        yield stack.client()
