"""A task as a person has it before them: opened in a browser, in Label Studio's data manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prelabel.worker.demo.label_studio.server import LabelStudioServer
from tests.browser import chromium

CHECKED = """values => {
  const checked = [...document.querySelectorAll('.ant-checkbox-input:checked')].map(input => input.name).sort()
  return JSON.stringify(checked) === JSON.stringify(values.sort())
}"""
"""JavaScript: whether exactly these choices are selected."""


def sign_in(page: Any, server: LabelStudioServer) -> None:
    """Have a playwright page be that of the server's user."""
    page.goto(f"{server.url}/user/login/")
    page.fill("input[name=email]", server.username)
    page.fill("input[name=password]", server.password)
    page.click("button[type=submit]")
    page.wait_for_load_state()


@contextmanager
def opened(server: LabelStudioServer, project: int, task: int) -> Iterator[Any]:
    """A playwright page that shows the task to the server's user."""
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        sign_in(page, server)
        page.goto(f"{server.url}/projects/{project}/data?task={task}")
        yield page
