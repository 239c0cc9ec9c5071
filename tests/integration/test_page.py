"""The adapter's page as people see it: a real adapter and worker, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prelabel.integrations import Client
from prelabel.schemas import JobState, Taxonomy
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.browser import DESKTOP, PHONE, chromium, fits, keep, looking
from tests.conftest import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture
def look(browser: Any, stack: Stack) -> Iterator[Any]:
    """Opens the page at a size and in a colour scheme; whatever the browser complains about fails the test."""
    with looking(browser, str(stack.adapter_url)) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def scored(stack: Stack, pictures: list[Picture]) -> Client:
    """Jobs worth looking at: one done with a few failures, one cancelled."""
    client = stack.client()
    paths = [str(picture.path) for picture in pictures[:60]]
    job = client.submit(
        [*paths, "/no/such/image.jpg", "http://169.254.169.254/latest.jpg"], Taxonomy.flat(SHAPES), name="shapes"
    )
    job.wait(120)
    stopped = client.submit(paths * 200, Taxonomy.flat(SHAPES), name="a mistake")
    stopped.cancel()
    return client


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_shows_jobs_failures_and_pictures(
    scored: Client, look: Any, viewport: dict[str, int], scheme: str, tmp_path: Path
) -> None:
    page = look("/", viewport, scheme)
    text = page.inner_text("main")
    assert "shapes" in text
    assert "62 of 62 images" in text
    assert "2 failed" in text
    assert "1 worker" in page.inner_text("header")
    assert fits(page), "it scrolls sideways"
    shots = page.locator(".shot img")
    assert shots.count() > 0
    assert page.evaluate("[...document.querySelectorAll('.shot img')].every((one) => one.naturalWidth > 0)")
    assert any(shape in page.inner_text(".sheet") for shape in SHAPES)
    page.click("summary >> nth=0")
    assert "169.254.169.254" in page.inner_text(".failures >> nth=0")
    assert fits(page), "it scrolls sideways with the failures open"
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (brightness(ink) > brightness(paper)) == (scheme == "dark")
    name = f"page-{'phone' if viewport is PHONE else 'desktop'}-{scheme}.png"
    keep(page, name, tmp_path)


def brightness(colour: str) -> float:
    """Of `rgb(1, 2, 3)`."""
    return sum(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])


def test_a_job_is_cancelled_by_its_button_and_moves_on_by_itself(scored: Client, look: Any, pictures) -> None:
    page = look()
    job = scored.submit([str(picture.path) for picture in pictures] * 150, Taxonomy.flat(SHAPES), name="press me")
    row = page.locator(".job", has_text="press me")
    row.wait_for()  # without a reload
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("status").wait_for()
    assert "cancelled" in page.inner_text("[role=status]")
    assert job.progress().state is JobState.CANCELLED


def test_failed_images_are_sent_again_by_their_button(scored: Client, look: Any, pictures_dir: Path, pictures) -> None:
    late = pictures_dir / "late.jpg"
    late.unlink(missing_ok=True)
    job = scored.submit([str(late)], Taxonomy.flat(SHAPES), name="comes late")
    job.wait(60)
    late.write_bytes(pictures[0].path.read_bytes())
    page = look()
    page.locator(".job", has_text="comes late").get_by_role("button", name="again").click()
    page.get_by_role("status").wait_for()
    eventually(lambda: job.progress().state is JobState.DONE)
    assert (job.progress().done, job.progress().failed) == (1, 0)


def test_without_javascript_the_page_works_and_reloads_itself(scored: Client, look: Any) -> None:
    page = look(java_script_enabled=False)
    assert "shapes" in page.inner_text("main")
    assert page.locator("noscript meta[http-equiv=refresh]").count() == 1 or 'http-equiv="refresh"' in page.content()
    job = scored.submit(["/no/such/image.jpg"] * 20_000, Taxonomy.flat(SHAPES), name="stop without script")
    page.reload()
    page.locator(".job", has_text="stop without script").get_by_role("button", name="Cancel").click()
    page.get_by_role("status").wait_for()
    assert job.progress().state.ended
