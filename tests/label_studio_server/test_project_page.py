"""A project's own page, in a real browser: where its tasks stand, and its buttons, on a real Label Studio."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.figures import ProjectFigures, WhyNot
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.unanswered import Why
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.browser import DESKTOP, PHONE, chromium, fits, keep, looking
from tests.label_studio_server.opened import sign_in
from tests.label_studio_server.site import LabelStudio, connect_project, inline, until

CREDENTIALS = {"username": "label-studio", "password": "between us"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture
def look(browser: Any, backend: Stack) -> Iterator[Any]:
    """Opens a page of the adapter; whatever the browser complains about fails the test."""
    with looking(browser, str(backend.adapter_url), http_credentials=CREDENTIALS) as open_page:
        yield open_page


def test_a_project_is_connected_watched_paused_and_let_go_on_its_page(
    label_studio: LabelStudio,
    server: LabelStudioServer,
    backend: Stack,
    client: Client,
    pictures: list[Picture],
    look: Any,
    browser: Any,
    tmp_path: Path,
) -> None:
    project = label_studio.make_project(title="figures & <shapes>")
    old = label_studio.import_tasks(project, [{"image": inline(picture.path)} for picture in pictures[:3]])
    projects = Projects(client)

    page = look("/")
    page.fill("input[name=number]", str(project))
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("heading", name=f"Connect project {project}").wait_for()
    assert "failed" not in page.inner_text(".failures")
    assert projects.serves(project)

    label_studio.import_tasks(
        project,
        [*({"image": inline(picture.path)} for picture in pictures[3:8]), {"image": "http://127.0.0.1:9/a.jpg"}],
    )
    label_studio.wait_for(project, 5)
    page = look(f"/projects/{project}")
    page.get_by_text("1 failed").first.wait_for()
    page.get_by_text("5 pre-labelled").first.wait_for()
    page.get_by_text("3 not queued").first.wait_for()
    assert page.locator("header").get_by_text("figures & <shapes>").count() == 1
    text = page.inner_text("main")
    assert "9 tasks" in text
    assert "127.0.0.1" in page.inner_text(".failures >> nth=0")
    page.locator(".shot").first.wait_for()
    link = page.locator(".shot a").first.get_attribute("href")  # a sample: which tasks are in it depends on the others
    assert link.startswith(f"{label_studio.url}/projects/{project}/data?task=")
    for viewport, scheme in ((DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")):
        shown = look(f"/projects/{project}", viewport, scheme)
        assert fits(shown), "it scrolls sideways"
        keep(shown, f"project-{'phone' if viewport is PHONE else 'desktop'}-{scheme}.png", tmp_path, full_page=True)

    page.get_by_role("button", name="Pause").click()
    page.get_by_text("held back until you resume").wait_for()
    page.locator("header").get_by_text("paused").wait_for()
    late = label_studio.import_tasks(project, [{"image": inline(pictures[9].path)}])
    assert page.get_by_role("button", name="Pre-label all").count() == 0, "nothing is queued while it is paused"
    time.sleep(4)  # two looks
    assert label_studio.predictions(task=late[0]) == []
    page.get_by_role("button", name="Resume").click()
    until(lambda: label_studio.predictions(task=late[0]), 30, "the task that came while it was paused is answered")

    page.get_by_role("button", name="Pre-label all").click()
    until(lambda: all(label_studio.predictions(task=task) for task in old), 30, "the old tasks are answered")

    signed_in = browser.new_context(
        http_credentials=CREDENTIALS
    ).new_page()  # Label Studio's own complaints are its own
    sign_in(signed_in, server)
    signed_in.goto(f"{backend.adapter_url}/projects/{project}")
    signed_in.get_by_role("button", name="1 failed").click()
    signed_in.wait_for_url(f"{label_studio.url}/projects/{project}/data?tab=*", wait_until="commit")
    signed_in.wait_for_selector("text=prelabel: failed")
    signed_in.context.close()

    page.goto(f"{backend.adapter_url}/projects/{project}")
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_role("heading", name=f"Disconnect project {project}").wait_for()
    assert not projects.serves(project)
    assert label_studio.backends(project) == []
    assert len(label_studio.predictions(project=project)) == 9


def test_the_front_page_holds_none_one_and_36_projects_of_100_000_tasks(
    client: Client, look: Any, tmp_path: Path
) -> None:
    projects = Projects(client)
    before = projects.numbers()
    numbers = range(9001, 9037)
    try:
        for number in numbers:
            projects.add(number, backend_url="http://127.0.0.1:9", paused=True)
            counted = ProjectFigures(
                project=number,
                title=f"A quite long title of the shelf-image project number {number} in the Rotterdam warehouse",
                tasks=100_000,
                prelabelled=81_337,
                waiting_worker=12_000,
                failed=2_663,
                not_queued=4_000,
                annotated=23_456,
                reasons=(WhyNot(why=Why.FAILED, text="HTTP 404 of https://images.example.org/….jpg", tasks=2_663),),
                counted_at=time.time() - (600 if number % 2 else 0),
            )
            projects.keep_figures(number, counted.model_dump_json())
        for viewport, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            page = look("/", viewport, scheme)
            assert page.locator(".card progress").count() >= 36
            assert fits(page), "it scrolls sideways"
            text = page.inner_text("main")
            assert "81,337 of 100,000 tasks pre-labelled" in text
            assert "2,663 failed" in text
            assert "as of 10 min ago" in text
            keep(page, f"projects-{'phone' if viewport is PHONE else 'desktop'}-{scheme}.png", tmp_path)
        assert "paused" in look("/projects/9001").inner_text("header")
        page = look("/")
        page.fill("input[name=number]", "7")
        page.check("input[name=everything]")
        page.click("h1")  # nothing has the focus
        page.wait_for_timeout(4000)  # the page is fetched every 3 s
        assert page.input_value("input[name=number]") == "7", "what was typed is gone"
        assert page.is_checked("input[name=everything]")
    finally:
        for number in numbers:
            projects.remove(number)
    assert projects.numbers() == before


def test_a_form_of_another_site_and_a_visitor_without_the_password_change_nothing(
    backend: Stack, client: Client, label_studio: LabelStudio
) -> None:
    project = label_studio.make_project()
    connect_project(backend, project)
    paths = [
        "connect",
        "disconnect",
        *(f"projects/{project}/{what}" for what in ("pause", "resume", "retry", "all", "tab/failed")),
    ]
    with httpx.Client(base_url=str(backend.adapter_url), trust_env=False) as visitor:
        for path in paths:
            body = {"csrf": "x" * 40, "number": str(project)}
            assert visitor.post(f"/{path}", data=body).status_code == 401
            forged = visitor.post(
                f"/{path}",
                data=body,
                auth=tuple(CREDENTIALS.values()),
                headers={"Origin": "http://elsewhere.example", "Cookie": "prelabel_csrf=" + "x" * 40},
            )
            assert forged.status_code == 403, path
    state = Projects(client).state(project)
    assert Projects(client).serves(project)
    assert not state.paused
