"""Items that kill, hang, fail for now or are hostile: each has its own outcome, the others theirs."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from prelabel.schemas import JobState
from prelabel.schemas.predictions import QUARANTINED
from tests.faults.conftest import World
from tests.faults.report import Report
from tests.faults.site import Site
from tests.faults.truth import Work, compare, outcomes

ITEM, PASSING = frozenset({"ItemError"}), frozenset({"TransientError"})


def test_an_item_that_kills_its_worker_is_quarantined_alone(world: World, site: Site, report: Report) -> None:
    good = site.truth.pictures[0]
    poison = good.with_name("poison.jpg")
    poison.write_bytes(good.read_bytes())
    work = site.truth.work(min(site.items, 1000), site.rng)
    ordinal = site.rng.randrange(len(work.items))
    work.items[ordinal] = work.items[ordinal].of(str(poison))
    work.right[ordinal] = frozenset({QUARANTINED})
    site.switch("poison")
    job, _ = site.submit(work, lasts_s=1)
    report.faults += 1
    site.finish(job, work, report)
    (failure,) = job.failures()
    assert "killed its worker 3 times" in failure.error.message
    assert "SIGABRT" in failure.error.message
    site.switch("poison", on=False)
    work.right[ordinal] = site.truth.labels[good]
    assert job.retry_failed() == 1
    site.finish(job, work, report)
    report.assert_clean()


def test_an_item_that_is_never_delivered_fails_alone(world: World, site: Site, report: Report) -> None:
    work = site.truth.work(site.items, site.rng)
    for kind in ("silent/a.jpg", f"dripping/{site.truth.pictures[0].name}"):
        ordinal = site.rng.randrange(len(work.items))
        work.items[ordinal] = work.items[ordinal].of(world.web.url(kind))
        work.right[ordinal] = PASSING
        report.faults += 1
    job, _ = site.submit(work)
    site.finish(job, work, report)
    report.assert_clean()


def fetch_from_a_busy_server(world: World, site: Site, report: Report, count: int) -> None:
    before = world.web.refused
    job, work = site.submit(site.truth.work(count, site.rng, prefix=world.web.url("flaky/")))
    site.finish(job, work, report)
    report.faults += world.web.refused - before


def test_an_image_server_that_answers_503_to_a_third(world: World, site: Site, report: Report) -> None:
    fetch_from_a_busy_server(world, site, report, site.items)
    report.assert_clean()


def test_control_503(world: World, site: Site, control: Callable[[str], Report]) -> None:
    report = control("no retries")
    site.switch("no-retries")
    fetch_from_a_busy_server(world, site, report, 100)
    assert report.wrong > 0


def hostile(world: World, site: Site, directory: Path) -> dict[str, frozenset[str]]:
    """References that must fail, each with the kind of its error."""
    whole = io.BytesIO()
    picture = Image.open(site.truth.pictures[0])
    picture.save(whole, "PNG")
    picture.close()
    cut = whole.getvalue()[: len(whole.getvalue()) // 2]
    photo = site.truth.pictures[0].read_bytes()
    files = {
        "cut.png": cut,
        "cut.jpg": photo[: len(photo) // 3],
        "text.jpg": b"hello, I am no image",
        "empty.jpg": b"",
        "zeros.jpg": bytes(5000),
        "bomb.png": flat_png(20_000, 20_000),
        "wide.png": flat_png(2**31 - 1, 1),
        "page.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "large.jpg": photo + bytes(2 * 2**20),
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / "link.jpg").symlink_to("/etc/passwd")
    (directory / "folder.jpg").mkdir()
    bad = [
        *(str(directory / name) for name in (*files, "link.jpg", "folder.jpg", "missing.jpg")),
        "/etc/passwd",
        f"{directory}/../../../../etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "http://[64:ff9b::7f00:1]/a.jpg",
        "http://[::ffff:127.0.0.1]/a.jpg",
        "http://2130706433/a.jpg",
        f"http://127.0.0.1:{world.server.port}/",
        "http://user:password@10.0.0.1/a.jpg",
        "http://[::1/a.jpg",
        "ftp://example.org/a.jpg",
        "gopher://127.0.0.1/a.jpg",
        "data:image/png;base64,@@@",
        "data:image/png;base64," + base64.b64encode(cut).decode(),
        "data:,",
        *(world.web.url(path) for path in ("round/x", "inside/x", "to_file/x", "endless/x", "nothing/x")),
    ]
    return dict.fromkeys(bad, ITEM)


def test_hostile_items_between_good_ones(world: World, site: Site, report: Report) -> None:
    directory = site.truth.pictures[0].parent / "hostile"
    directory.mkdir(exist_ok=True)
    bad = list(hostile(world, site, directory).items())
    good = site.truth.work(site.items, site.rng)
    dot = directory / "dot.png"
    Image.new("RGB", (1, 1), (9, 9, 9)).save(dot)
    dot_label = site.truth.label_of(dot)
    mixed = Work()
    for number, (item, right) in enumerate(zip(good.items, good.right, strict=True)):
        mixed.add(item, right)
        if number < len(bad):
            mixed.add(*bad[number])
        elif site.rng.random() < 0.5:
            mixed.add(*site.rng.choice(bad))
        elif site.rng.random() < 0.05:
            mixed.add(str(dot), dot_label)
    report.faults += len(mixed.items) - len(good.items)
    job, _ = site.submit(mixed)
    site.finish(job, mixed, report)
    report.assert_clean()


def flat_png(width: int, height: int) -> bytes:
    """A small file that says it is this large."""

    def block(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(4_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", rows) + block(b"IEND", b"")


def test_a_job_cancelled_while_it_runs_keeps_what_is_done(site: Site, report: Report) -> None:
    job, work = site.submit(lasts_s=10)
    site.wait_started(job)
    site.wait_point(0, 1.5)
    before = dict(outcomes(site.redis, job.id))
    assert job.cancel()
    report.faults += 1
    assert job.progress().state is JobState.CANCELLED
    assert site.settle(job, 5)
    kept = [ordinal for ordinal, _ in outcomes(site.redis, job.id)]
    assert set(before) <= set(kept)
    after, more = site.submit(site.truth.work(32, site.rng))  # the workers have let go of it
    site.finish(after, more, report)
    assert [ordinal for ordinal, _ in outcomes(site.redis, job.id)] == kept
    compare(site.redis, job.id, work.right, report, partial=True)
    report.assert_clean()
