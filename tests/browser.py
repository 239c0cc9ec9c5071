"""A headless Chromium of this machine, for tests of what people see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PICTURES = Path(__file__).parent.parent / "docs" / "images"

DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
"""Sizes of windows, in CSS pixels."""

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A playwright browser. Without one installed the test is skipped, in CI it fails."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        message = "no Chromium on this machine: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(_FLAGS))
        yield browser
        browser.close()


@contextmanager
def looking(browser: Any, url: str, **context: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages below an address; whatever the browser complains about meanwhile fails the test.

    Args:
        browser: of `chromium`.
        url: the address.
        context: options of every page's context, such as `http_credentials`.

    Yields:
        `open_page(path="/", viewport=DESKTOP, scheme="light", **options)`, which returns a playwright page.
    """
    complaints: list[str] = []
    opened: list[Any] = []

    def open_page(path: str = "/", viewport: dict[str, int] = DESKTOP, scheme: str = "light", **options: Any) -> Any:
        made = browser.new_context(viewport=viewport, color_scheme=scheme, **context, **options)
        page = made.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{url.rstrip('/')}{path}")
        opened.append(made)
        return page

    yield open_page
    for made in opened:
        made.close()
    assert not complaints, complaints  # pytest explains asserts of test files alone


def fits(page: Any) -> bool:
    """Whether nothing of a page is beyond the window's right edge."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def keep(page: Any, name: str, folder: Path, **options: Any) -> None:
    """A picture of the page; with UPDATE_IMAGES=1 the one the documentation shows."""
    page.screenshot(path=(PICTURES if os.environ.get("UPDATE_IMAGES") else folder) / name, **options)
