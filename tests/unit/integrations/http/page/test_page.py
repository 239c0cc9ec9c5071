"""The adapter's page over a real ledger: what it says, and who may press its buttons."""

import base64
import re
import time

import pytest
from fastapi.testclient import TestClient

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.http.app import create_app
from prelabel.integrations.http.page import job_view, project_routes
from prelabel.integrations.label_studio.projects.keys import ProjectKeys
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger import recent
from prelabel.integrations.ledger.keys import RECENT, JobKeys
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.integrations.ledger.pushes import Pushes
from prelabel.schemas import Answer, ItemFailure, JobState, Outcome, PushTarget, Taxonomy
from prelabel.schemas.progress import Recent
from prelabel.schemas.settings import load_settings

HTML = {"accept": "text/html,application/xhtml+xml"}
TAXONOMY = Taxonomy.flat(["cat", "dog"])
CONFIG = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/></Choices></View>'


@pytest.fixture
def page(client, settings):
    with TestClient(create_app(settings, client, model="m@1"), base_url="http://prelabel.test") as made:
        yield made


def read(page: TestClient) -> str:
    response = page.get("/", headers=HTML)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    return response.text


def finish(settings, job, *outcomes: Outcome) -> None:
    """What a worker would write for the job's only chunk."""
    ledger = Ledger(connect_redis(settings), owner="test", lease_s=60, ttl_s=100)
    lease = ledger.claim(ChunkRef(job.id, 0))
    time.sleep(0.01)  # without a millisecond of work there is no rate
    ledger.complete(lease, list(enumerate(outcomes)), close=len(outcomes) == len(lease.pairs))


def answered() -> Outcome:
    return Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", confidence=0.5),))


def failed(message: str = "no such file") -> Outcome:
    return Outcome(error=ItemFailure(kind="ItemError", message=message))


def shot(number: int = 1, **changes) -> Recent:
    fields = {
        "job_id": "j",
        "item_id": str(number),
        "image": f"https://e.org/{number}.jpg",
        "paths": (("animal", "cat"),),
        "confidence": 0.874,
        "made_at": time.time(),
        "thumbnail": base64.b64encode(b"jpeg").decode(),
        **changes,
    }
    return Recent(**fields)


@pytest.mark.parametrize(("answers", "share", "marked"), [(2, "100.0", False), (1, "50.0", True), (0, "0.0", True)])
def test_the_bar_of_a_job_is_as_long_as_what_was_answered(page, client, settings, answers, share, marked) -> None:
    job = client.submit(["s3://b/1", "s3://b/2"], ["cat"])
    finish(settings, job, *[answered()] * answers, *[failed()] * (2 - answers))
    html = read(page)
    assert f'<progress max="100" value="{share}"' in html
    assert ('class="job done troubled"' in html) == marked


def test_an_empty_page_says_what_to_do_first(page) -> None:
    html = read(page)
    assert "no worker is running" in html
    assert "prelabel worker" in html
    assert "prelabel connect --project 7 --all" in html


def test_a_job_whose_model_nobody_serves_says_so_on_the_page_and_its_project_s(page, client) -> None:
    push = PushTarget(project=7, label_config="<View/>")
    client.submit(["s3://b/1.jpg"], TAXONOMY, model="org/name@main", push=push)
    says = "aiting: no worker serves org/name@main: start one with PRELABEL_MODEL=org/name"
    assert read(page).count(says) == 2, "at the job, and at the project"
    assert page.get("/projects/7", headers=HTML).text.count(says) == 2


def test_programs_get_the_health_answer(page) -> None:
    assert page.get("/").json() == {"status": "UP", "model_class": "prelabel"}


def test_a_failure_of_another_release_hides_nothing_else(page, client, settings) -> None:
    other, mine = client.submit(["1.jpg"], TAXONOMY, name="theirs"), client.submit(["2.jpg"], TAXONOMY, name="ours")
    finish(settings, other, failed("what they say"))
    finish(settings, mine, failed("no such file"))
    redis = client.connection.redis
    entry = redis.xadd(JobKeys(other.id).results, {"o": 0, "c": 0, "r": b"\x02of tomorrow"})
    redis.hset(JobKeys(other.id).failed, "0", entry)
    html = read(page)
    assert "theirs" in html
    assert "no such file" in html


def test_a_running_job_shows_how_far_it_is(page, client, settings) -> None:
    job = client.submit([f"{i}.jpg" for i in range(4)], TAXONOMY, name="holiday photos")
    finish(settings, job, answered(), answered())
    html = read(page)
    assert "holiday photos" in html
    assert "<b>2</b> of 4 images" in html
    assert 'value="50.0"' in html
    assert re.search(r"[\d.]+ images/s", html)
    assert f'action="jobs/{job.id}/cancel"' in html
    assert f'action="jobs/{job.id}/retry"' not in html


def test_projects_are_summed_up_over_their_jobs(page, client, settings) -> None:
    push = PushTarget(project=7, label_config=CONFIG)
    first = client.submit(["1.jpg", "2.jpg"], TAXONOMY, push=push)
    finish(settings, first, answered(), failed())
    client.submit(["3.jpg"], TAXONOMY, push=push)
    html = " ".join(read(page).split())
    assert "Project 7" in html
    for name, count in (("done", 1), ("pending", 1)):
        assert f"<span><b>{count}</b> {name}</span>" in html
    assert '<span class="bad"><b>1</b> failed</span>' in html


def test_a_connected_project_is_there_without_a_job_and_says_why_it_is_stopped(page, client) -> None:
    projects = Projects(client)
    projects.add(7)
    projects.add(8)
    projects.update(8, problem="the label config has no <Choices> or <Taxonomy> tag")
    html = read(page)
    assert "Project 7" in html
    assert "connected" in html
    assert "the label config has no &lt;Choices&gt; or &lt;Taxonomy&gt; tag" in html


def test_failures_come_with_their_reason_and_can_be_tried_again(page, client, settings) -> None:
    job = client.submit(["https://u:s3cret@e.org/a.jpg?key=s3cret"], TAXONOMY)
    finish(settings, job, failed("it is <b>no</b> image"))
    html = read(page)
    assert "1 failed" in html
    assert "https://e.org/a.jpg" in html
    assert "s3cret" not in html
    assert "it is &lt;b&gt;no&lt;/b&gt; image" in html
    said = press(page, f"jobs/{job.id}/retry")
    assert "on their way again" in said
    assert job.progress().pending == 1


def refuse(client, job, *reasons: str) -> None:
    """What a pusher would write of the job's first items."""
    Pushes(client.connection.redis, ttl_s=100).mark(job.id, pushed=(), rejected=list(enumerate(reasons)))


def test_what_the_platform_refused_is_told_at_its_job_with_count_reason_and_examples(page, client, settings) -> None:
    job = client.submit(["1.jpg", "2.jpg", "3.jpg"], TAXONOMY, push=PushTarget(project=7, label_config=CONFIG))
    finish(settings, job, answered(), answered(), answered())
    refuse(client, job, "no <b>such</b> choice", "task is gone", "no <b>such</b> choice")
    html = " ".join(read(page).split())
    assert "3 refused by the platform" in html
    assert "<b>2</b> no &lt;b&gt;such&lt;/b&gt; choice" in html
    assert "<b>1</b> task is gone" in html
    assert "1.jpg, " in html
    assert "3.jpg" in html


def test_what_the_platform_refused_is_summed_up_at_its_project(page, client, settings) -> None:
    push = PushTarget(project=7, label_config=CONFIG)
    for reasons in (("task is gone", "task is gone"), ("task is gone", "no such choice")):
        job = client.submit(["1.jpg", "2.jpg"], TAXONOMY, push=push)
        finish(settings, job, answered(), answered())
        refuse(client, job, *reasons)
    html = " ".join(read(page).split())
    card = html[html.index("Project 7") : html.index("Queued and running")]
    assert '<span class="bad"><b>4</b> refused</span>' in card
    assert "<b>3</b> task is gone" in card


def test_where_nothing_was_refused_nothing_is_said_of_it(page, client, settings) -> None:
    job = client.submit(["1.jpg"], TAXONOMY, push=PushTarget(project=7, label_config=CONFIG))
    finish(settings, job, answered())
    assert "refused" not in read(page)


def test_what_stands_in_the_way_of_pushes_is_told_at_job_and_project(page, client, settings) -> None:
    job = client.submit(["1.jpg"], TAXONOMY, push=PushTarget(project=7, label_config=CONFIG))
    finish(settings, job, answered())
    Pushes(client.connection.redis, ttl_s=100).record_problem(job.id, "Label Studio refuses the API key")
    assert read(page).count("not pushed at present: Label Studio refuses the API key") == 2


def test_many_refusals_are_looked_at_in_part_and_counted_in_full(page, client, settings, monkeypatch) -> None:
    monkeypatch.setattr(job_view, "REFUSED", 1)
    job = client.submit(["1.jpg"], TAXONOMY, push=PushTarget(project=7, label_config=CONFIG))
    refuse(client, job, *["task is gone"] * 2000)
    html = " ".join(read(page).split())
    assert "2,000 refused by the platform" in html
    assert "and more" in html


def press(page: TestClient, action: str) -> str:
    """Press the page's button, as a browser does; returns the page that comes then."""
    (token,) = set(re.findall(r'name="csrf" value="([^"]+)"', read(page)))
    response = page.post(
        f"/{action}",
        data={"csrf": token},
        headers={**HTML, "origin": "http://prelabel.test", "sec-fetch-site": "same-origin"},
    )
    assert response.status_code == 200
    return response.text


def test_a_project_s_failed_items_are_sent_again_though_a_job_of_it_is_being_submitted(page, client, settings) -> None:
    push = PushTarget(project=7, label_config=CONFIG)
    old = client.submit(["1.jpg"], TAXONOMY, push=push)
    finish(settings, old, failed())
    submitted = client.submit(["2.jpg"], TAXONOMY, push=push)
    finish(settings, submitted, failed())
    client.connection.redis.hdel(JobKeys(submitted.id).meta, "sealed")  # more of it is on its way
    press(page, "projects/7/retry")
    assert old.progress().pending == 1


def test_one_project_that_cannot_be_read_does_not_hide_the_adapter_s_address(client, settings) -> None:
    projects = Projects(client)
    projects.add(7, backend_url="http://adapter:9090")
    projects.add(8, backend_url="http://adapter:9090")
    client.connection.redis.hset(ProjectKeys(7).state, "floor", "of another release")
    desk = project_routes._Desk(settings, client, projects, "m@1")
    assert desk.own_url(7) == desk.own_url(9) == "http://adapter:9090"


def test_a_paused_project_is_not_said_to_be_looked_through(page, client) -> None:
    Projects(client).add(7, paused=True)
    (token,) = set(re.findall(r'name="csrf" value="([^"]+)"', read(page)) or {""})
    headers = {**HTML, "origin": "http://prelabel.test", "sec-fetch-site": "same-origin"}
    answer = page.post("/projects/7/all", data={"csrf": token or page.cookies["prelabel_csrf"]}, headers=headers)
    assert (answer.status_code, "paused" in answer.text) == (409, True)


@pytest.mark.parametrize("maker", [None, lambda image: b"jpeg"], ids=["none", "one"])
def test_pictures_of_tasks_are_asked_for_where_something_makes_them(client, settings, maker) -> None:
    Projects(client).add(7)
    recent.add(client.connection.redis, [shot(12, project=7, thumbnail="")])
    app = create_app(settings, client, model="m@1", thumbnail=maker)
    with TestClient(app, base_url="http://prelabel.test") as page:
        for path, root in (("/", ""), ("/projects/7", "../")):
            html = page.get(path, headers=HTML).text
            assert (f'src="{root}projects/7/tasks/12/thumbnail"' in html) == (maker is not None)


def test_cancel_stops_the_job_and_says_so(page, client) -> None:
    job = client.submit(["a.jpg"], TAXONOMY)
    assert "The job is cancelled" in press(page, f"jobs/{job.id}/cancel")
    assert job.progress().state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("right", {"origin": "https://evil.example"}),
        ("right", {"sec-fetch-site": "cross-site"}),
        ("wrong", {}),
        ("", {}),
    ],
)
def test_another_sites_page_presses_nothing(page, client, token: str, headers: dict) -> None:
    job = client.submit(["a.jpg"], TAXONOMY)
    right = re.search(r'name="csrf" value="([^"]+)"', read(page))[1]
    data = {"csrf": right if token == "right" else token}
    assert page.post(f"/jobs/{job.id}/cancel", data=data, headers=headers).status_code == 403
    assert not job.progress().state.ended


def test_without_the_cookie_a_known_token_is_worth_nothing(page, client) -> None:
    job = client.submit(["a.jpg"], TAXONOMY)
    right = re.search(r'name="csrf" value="([^"]+)"', read(page))[1]
    page.cookies.clear()
    assert page.post(f"/jobs/{job.id}/cancel", data={"csrf": right}).status_code == 403


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(page) -> None:
    cookie = page.get("/", headers=HTML).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_an_unknown_job_is_one_clear_answer(page, client) -> None:
    client.submit(["a.jpg"], TAXONOMY)
    token = re.search(r'name="csrf" value="([^"]+)"', read(page))[1]
    response = page.post("/jobs/nope/cancel", data={"csrf": token})
    assert response.status_code == 409
    assert "no job 'nope'" in response.json()["detail"]


def test_the_page_needs_the_password_where_one_is_set(client, settings) -> None:
    guarded = settings.model_copy(update={"basic_auth_user": "u", "basic_auth_pass": settings.redis_url})
    with TestClient(create_app(guarded, client, model="m@1")) as page:
        assert page.get("/", headers=HTML).status_code == 401
        assert page.post("/jobs/x/cancel").status_code == 401
        right = ("u", settings.redis_url.get_secret_value())
        assert page.get("/", headers=HTML, auth=right).status_code == 200


def test_the_last_predictions_are_shown_with_picture_and_confidence(page, client) -> None:
    recent.add(client.connection.redis, [shot(1, project=7), shot(2, paths=(), thumbnail="")])
    html = " ".join(read(page).split())
    assert "data:image/jpeg;base64,anBlZw==" in html
    assert "animal &gt; cat" in html
    assert "87 %" in html
    assert "project 7, task 1" in html
    assert "none" in html


def test_only_the_newest_are_kept(client) -> None:
    recent.add(client.connection.redis, [shot(number) for number in range(recent.KEPT + 10)])
    found = client.recent(1000)
    assert len(found) == recent.KEPT
    assert found[0].item_id == str(recent.KEPT + 9)
    client.connection.redis.lpush(RECENT, b"not ours")
    assert [one.item_id for one in client.recent(2)] == [found[0].item_id]


def test_no_redis_is_what_the_page_says() -> None:
    away = load_settings(redis_url="redis://:s3cret@127.0.0.1:1/0")
    with TestClient(create_app(away, Client(away), model="m@1")) as page:
        html = read(page)
    assert "Redis is away" in html
    assert "no Redis at redis://127.0.0.1:1/0" in html
    assert "s3cret" not in html


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs_inline(page) -> None:
    response = page.get("/", headers=HTML)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert not re.search(r'(?:src|href)="(?:https?:)?//', response.text)
    for asset, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("page.svg", "image/svg+xml")):
        served = page.get(f"/{asset}")
        assert served.status_code == 200
        assert served.headers["content-type"].startswith(kind)


class Expiring(Client):
    """A client whose job expires as soon as its progress has been read."""

    def __init__(self, settings, expires: str) -> None:
        super().__init__(settings)
        self._expires = expires

    def jobs(self, limit: int = 50):
        found = super().jobs(limit)
        for key in self.connection.redis.scan_iter(f"prelabel:{{{self._expires}}}:*"):
            self.connection.redis.delete(key)
        return found


def test_a_job_that_expires_while_the_page_is_read_is_left_out(client, settings) -> None:
    kept = client.submit(["1.jpg"], TAXONOMY, name="still there")
    gone = client.submit(["2.jpg"], TAXONOMY, name="gone meanwhile")
    finish(settings, gone, failed())
    with (
        Expiring(settings, gone.id) as expiring,
        TestClient(create_app(settings, expiring, model="m@1")) as page,
    ):
        html = read(page)
    assert "still there" in html
    assert f"jobs/{kept.id}/cancel" in html
    assert "gone meanwhile" not in html


def test_a_job_whose_failures_cannot_be_read_is_shown_without_them(page, client, settings) -> None:
    other = client.submit(["1.jpg"], TAXONOMY, name="another job")
    job = client.submit(["2.jpg"], TAXONOMY, name="of another release")
    finish(settings, job, failed())
    client.connection.redis.delete(f"prelabel:{{{job.id}}}:chunks")
    html = read(page)
    assert "another job" in html
    assert "of another release" in html
    assert "1 failed" in html
    assert f"jobs/{other.id}/cancel" in html
