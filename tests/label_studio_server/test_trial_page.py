"""The adapter's page to try a wording, in a real browser, before a real Label Studio."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.browser import chromium, keep, looking
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, pre_labelled_project, until

SOME_SHAPES = SHAPES_CONFIG.replace(f'<Choice value="{SHAPES[0]}"/>', "").replace("><", ">\n<")
"""One shape fewer, on many lines, as people write it."""


@pytest.fixture(scope="module")
def project(label_studio: LabelStudio, backend: Stack, pictures: list[Picture]) -> int:
    """A connected project of twelve single figures, all pre-labelled."""
    return pre_labelled_project(label_studio, backend, pictures, "shapes & <figures>")


@pytest.fixture(scope="module")
def credentials(backend: Stack) -> tuple[str, str]:
    """Of who may see the page."""
    password = backend.settings.basic_auth_pass
    return backend.settings.basic_auth_user or "", password.get_secret_value() if password else ""


@pytest.fixture
def page(backend: Stack, credentials: tuple[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=backend.adapter_url or "", auth=credentials, timeout=90, trust_env=False) as made:
        yield made


@pytest.fixture
def tab(backend: Stack, credentials: tuple[str, str]) -> Iterator[Any]:
    """A tab on the adapter's page; whatever the browser complains about fails the test."""
    user, password = credentials
    with (
        chromium() as browser,
        looking(
            browser, str(backend.adapter_url), http_credentials={"username": user, "password": password}
        ) as open_page,
    ):
        yield open_page()


def test_a_wording_is_tried_looked_at_and_saved_in_the_browser(
    tab: Any, label_studio: LabelStudio, project: int, tmp_path: Path
) -> None:
    before = label_studio.predictions(project=project)
    lost = sorted(one["task"] for one in before if one["result"][0]["value"]["choices"] == [SHAPES[0]])
    tab.goto(f"{tab.url}projects/{project}/try")
    assert tab.input_value("#label_config") == SHAPES_CONFIG, "it begins with the present one"
    tab.fill("#label_config", SOME_SHAPES)
    tab.fill("[name=size]", "12")
    tab.get_by_role("button", name="Try it").click()
    tab.locator("#found").wait_for()
    assert tab.inner_text("#found") == f"{len(lost)} of 12 tasks would change"
    assert "shapes & <figures>" in tab.inner_text("header")
    shown = tab.locator(".tried.changed h3 a").all_inner_texts()
    assert shown == [f"Task {number}" for number in lost]
    assert SHAPES[0] in tab.inner_text(".tried.changed >> nth=0")
    tab.click("summary")
    assert tab.locator(".tried").count() == 12
    for number in range(12):
        tab.locator(".tried img").nth(number).scroll_into_view_if_needed()
    loaded = "[...document.querySelectorAll('.tried img')].every((one) => one.naturalWidth > 0)"
    until(lambda: tab.evaluate(loaded), 30, "every picture is there")  # a page without eval cannot wait by itself
    keep(tab, "trial.png", tmp_path)
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    assert label_studio.predictions(project=project) == before
    assert label_studio.project(project)["label_config"] == SHAPES_CONFIG

    tab.get_by_role("button", name="Save to Label Studio").click()
    tab.get_by_role("status").wait_for()
    assert "Saved in Label Studio" in tab.inner_text("[role=status]")
    assert label_studio.project(project)["label_config"] == SOME_SHAPES
    assert tab.input_value("#label_config") == SOME_SHAPES


def token(page: httpx.Client, project: int) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.get(f"/projects/{project}/try").text)
    assert found is not None
    return found[1]


def test_only_the_page_itself_may_send_its_forms(
    page: httpx.Client, label_studio: LabelStudio, project: int, backend: Stack
) -> None:
    config = label_studio.project(project)["label_config"]
    right = token(page, project)
    for path in (f"/projects/{project}/try", f"/projects/{project}/try/save"):
        for headers, csrf in (({}, ""), ({}, "guessed"), ({"sec-fetch-site": "cross-site"}, right)):
            answer = page.post(path, data={"csrf": csrf, "label_config": "<View/>"}, headers=headers)
            assert (answer.status_code, "not from this page" in answer.text) == (403, True)
        assert httpx.post(f"{backend.adapter_url}{path}", data={"csrf": right}, trust_env=False).status_code == 401
    assert label_studio.project(project)["label_config"] == config


def test_what_is_wrong_is_said_on_the_page_and_what_was_typed_stays(
    page: httpx.Client, label_studio: LabelStudio, project: int
) -> None:
    typed = '<View><Header value="<script>alert(1)</script>"/>'
    answer = page.post(f"/projects/{project}/try", data={"csrf": token(page, project), "label_config": typed})
    assert answer.status_code == 409
    assert "the new label config cannot be pre-labelled" in answer.text
    assert "&lt;script&gt;" in answer.text
    assert "<script>" not in answer.text
    stale = {"csrf": token(page, project), "label_config": SHAPES_CONFIG, "instead_of": "0" * 32}
    refused = page.post(f"/projects/{project}/try/save", data=stale)
    assert (refused.status_code, "has been changed since" in refused.text) == (409, True)
    other = label_studio.make_project()
    unknown = page.get(f"/projects/{other}/try")
    assert (unknown.status_code, unknown.json()["detail"]) == (
        404,
        f"project {other} is not connected: prelabel connect --project {other}",
    )
    too_many = {"csrf": token(page, project), "label_config": SHAPES_CONFIG, "size": "100000"}
    assert page.post(f"/projects/{project}/try", data=too_many).status_code == 422
