import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.api.tasks import PAGE_SIZE
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.connect import connect, disconnect
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.registration import own_url
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.keys import PUSH_PENDING
from prelabel.schemas import Priority, model_version
from prelabel.schemas.progress import WorkerInfo
from prelabel.worker.model.colour import colour_card

MODEL = "siglip@12345678"
URL = "http://prelabel:9090"
XML = (
    '<View><Image name="img" value="$image"/><Text name="t" value="$t"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices><Choices name="mood" toName="t"><Choice value="x"/></Choices>'
    "</View>"
)
VERSION = model_version(MODEL, LabelConfig.parse(XML).to_controls())


@pytest.fixture
def run(label_studio, settings, client):
    def run(project=1, url=URL, all_tasks=False, unlabelled_only=None, priority=None, **overrides):
        return connect(
            settings(**overrides),
            project=project,
            backend_url=url,
            model=MODEL,
            client=client,
            pre_label_all=all_tasks,
            unlabelled_only=unlabelled_only,
            priority=priority,
        )

    return run


def statuses(steps):
    return [(step.name, step.status) for step in steps]


def test_connect_and_again(label_studio, run):
    label_studio.add_project(1, XML)
    steps = run()
    assert statuses(steps) == [
        ("token", "ok"),
        ("project", "ok"),
        ("adapter", "warning"),  # there is none at this URL
        ("backend", "changed"),
        ("webhook", "changed"),
        ("model version", "ok"),
        ("image", "ok"),
    ]
    assert "left to people: mood (it is about <Text>" in steps[1].detail
    (backend,) = label_studio.backends
    assert (backend["url"], backend["title"], backend["auto_update"]) == (URL, VERSION, True)
    assert label_studio.projects[1]["model_version"] == VERSION

    again = dict(statuses(run(url=URL + "/")))
    assert again.pop("adapter") == "warning"
    assert set(again.values()) == {"ok"}
    assert len(label_studio.backends) == len(label_studio.webhooks) == 1


def test_a_changed_config_refreshes_title_and_shown_version(label_studio, run):
    label_studio.add_project(1, XML)
    run()
    label_studio.projects[1]["label_config"] = XML.replace("Dog", "Fox")
    assert statuses(run())[3:] == [
        ("backend", "changed"),  # and Label Studio shows what the backend that it showed is called now
        ("webhook", "ok"),
        ("model version", "ok"),
        ("image", "ok"),
    ]
    assert label_studio.backends[0]["title"] == label_studio.projects[1]["model_version"] != VERSION


def test_a_changed_config_leaves_title_and_shown_version_while_only_the_earlier_one_has_predictions(label_studio, run):
    label_studio.add_project(1, XML, tasks=[1])
    run()
    label_studio.predictions.append({"task": 1, "result": [], "score": 0.5, "model_version": VERSION})
    label_studio.projects[1]["label_config"] = XML.replace("Dog", "Fox")
    assert ("model version", "ok") in statuses(run())
    assert label_studio.backends[0]["title"] == label_studio.projects[1]["model_version"] == VERSION


def test_basic_auth_is_handed_over(label_studio, run):
    label_studio.add_project(1, XML)
    steps = run(basic_auth_user="u", basic_auth_pass="p")
    backend = label_studio.backends[0]
    assert (backend["auth_method"], backend["basic_auth_user"], backend["basic_auth_pass"]) == ("BASIC_AUTH", "u", "p")
    assert statuses(steps)[3] == ("backend", "changed")
    assert statuses(run(basic_auth_user="u", basic_auth_pass="p"))[3] == ("backend", "ok")


@pytest.mark.parametrize("half_made", [False, True])
def test_private_addresses_refused(label_studio, run, half_made):
    label_studio.add_project(1, XML)
    label_studio.refuse_private, label_studio.leave_half_made = True, half_made
    steps = run()
    assert statuses(steps)[-1] == ("backend", "failed")
    fix = steps[-1].detail
    assert fix.index("USE_DEFAULT_BANNED_SUBNETS=false") < fix.index("ML_BLOCK_LOCAL_IP=false")
    assert label_studio.backends == [], "the half-made backend is removed"


def test_duplicates_left_by_earlier_tries_are_removed(label_studio, run):
    label_studio.add_project(1, XML)
    run()
    label_studio.backends.append({**label_studio.backends[0], "id": 7})
    assert statuses(run())[3] == ("backend", "changed")
    assert [backend["id"] for backend in label_studio.backends] == [1]


def test_another_backend_comes_first(label_studio, run):
    label_studio.add_project(1, XML)
    label_studio.backends.append({"id": 1, "project": 1, "url": "http://yolo:9090", "title": "yolo", "state": "CO"})
    steps = run()
    assert steps[3].status == "warning"
    assert "http://yolo:9090" in steps[3].detail


@pytest.mark.parametrize(
    ("overrides", "name", "message"),
    [
        ({"label_studio_api_key": None}, "token", "LABEL_STUDIO_API_KEY is not set"),
        ({"label_studio_api_key": "wrong"}, "token", r"refuses LABEL_STUDIO_API_KEY (401)"),
        ({"project": 9}, "project", "has no project 9"),
        ({"project": 2}, "project", "project 2: the label config has no <Choices>"),
        ({"url": "ftp://prelabel:9090"}, "backend", "must look like http://host:9090"),
    ],
)
def test_failures_stop_with_the_fix(label_studio, run, overrides, name, message):
    label_studio.add_project(1, XML)
    label_studio.add_project(2, "<View></View>")
    steps = run(**overrides)
    assert statuses(steps)[-1] == (name, "failed")
    assert message in steps[-1].detail


def test_label_studio_cannot_reach_the_backend(label_studio, run):
    label_studio.add_project(1, XML)
    run()
    label_studio.backends[0].update(state="DI", readable_state="Disconnected")
    steps = run()
    assert statuses(steps)[-1] == ("backend", "failed")
    assert "Disconnected" in steps[-1].detail


def test_pre_label_all_queues_what_lacks_the_version(label_studio, run, client):
    count = PAGE_SIZE + 5
    label_studio.add_project(1, XML, tasks=range(1, count + 1))
    label_studio.tasks[4]["data"] = {}
    label_studio.predictions += [
        {"task": 1, "result": [], "model_version": VERSION},
        {"task": 2, "result": [], "model_version": "other"},
    ]
    steps = run(all_tasks=True)
    assert statuses(steps)[-1] == ("tasks", "warning")
    assert "task 4" in steps[-1].detail
    (progress,) = client.jobs()
    job = client.job(progress.job_id)
    assert (progress.total, progress.priority) == (count - 2, "bulk")
    assert (job.spec().model, job.spec().push.project) == (MODEL, 1)
    run(all_tasks=True)
    assert len(client.jobs()) == 1, "the job has them still"
    job.cancel()
    client.connection.redis.srem(PUSH_PENDING, job.id)
    run(all_tasks=True)
    assert [progress.total for progress in client.jobs()] == [count - 2] * 2, "who asks for all gets all that lack it"


def test_which_tasks_and_which_queue_stay_as_they_were_asked_for(label_studio, run, client):
    label_studio.add_project(1, XML, tasks=[1, 2])
    label_studio.tasks[2]["total_annotations"] = 1
    run(all_tasks=True, unlabelled_only=True, priority=Priority.INTERACTIVE)
    (job,) = client.jobs()
    assert (job.total, job.priority) == (1, Priority.INTERACTIVE)
    label_studio.predictions.append({"task": 1, "result": [], "score": 0.5, "model_version": VERSION})
    assert run(all_tasks=True)[-1].detail == f"every unlabelled task has a prediction of {VERSION}"
    run(all_tasks=True, unlabelled_only=False, priority=Priority.BULK)
    assert (client.jobs()[0].total, client.jobs()[0].priority) == (1, Priority.BULK)


def test_nothing_is_queued_unless_asked(label_studio, run, client):
    label_studio.add_project(1, XML, tasks=[1])
    assert statuses(run())[-1] == ("image", "warning")
    assert client.jobs() == []


def refusing(method, path):
    return lambda asked, of: 503 if (asked, of.startswith(path)) == (method, True) else None


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/api/current-user/whoami", "token"),
        ("GET", "/api/projects/1/", "project"),
        ("GET", "/api/webhooks/", "webhook"),
        ("POST", "/api/webhooks/", "webhook"),
        ("GET", "/api/ml", "backend"),
        ("POST", "/api/ml", "backend"),
        ("GET", "/api/tasks", "tasks"),
    ],
)
def test_a_failure_is_told_of_the_step_that_failed(label_studio, run, method, path, name):
    label_studio.add_project(1, XML)
    label_studio.trouble = refusing(method, path)
    assert statuses(run())[-1] == (name, "failed")


def test_redis_that_is_away_is_told_of_the_step_that_wanted_it(label_studio, settings):
    label_studio.add_project(1, XML)
    with Client(settings(redis_url="redis://127.0.0.1:1/0")) as away:
        steps = connect(settings(), project=1, backend_url=URL, model=MODEL, client=away)
    assert statuses(steps)[-1] == ("adapter", "failed")
    assert "no Redis at" in steps[-1].detail


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/api/ml", "backend"),
        ("DELETE", "/api/ml/", "backend"),
        ("GET", "/api/webhooks/", "webhook"),
        ("DELETE", "/api/webhooks/", "webhook"),
    ],
)
def test_a_failure_to_disconnect_is_told_of_the_step_that_failed(
    label_studio, run, settings, client, method, path, name
):
    label_studio.add_project(1, XML)
    run()
    label_studio.trouble = refusing(method, path)
    steps = disconnect(settings(), project=1, backend_url=URL, client=client)
    assert statuses(steps)[-1] == (name, "failed")
    assert "503" in steps[-1].detail


def test_a_control_whose_answers_label_studio_would_drop_is_told_before_anything_is_made(label_studio, run):
    dropped = '<Choices name="kind" toname="img"><Choice value="a"/></Choices>'
    label_studio.add_project(1, XML.replace("</View>", f"{dropped}</View>"))
    (step,) = (step for step in run() if step.name == "answers")
    assert step.status == "warning"
    assert "kind: " in step.detail

    label_studio.add_project(2, f'<View><Image name="img" value="$image"/>{dropped}</View>')
    failed = run(2, all_tasks=True)[-1]
    assert (failed.name, failed.status) == ("answers", "failed")
    assert "Label Studio would drop every prediction: kind: " in failed.detail
    assert not [backend for backend in label_studio.backends if backend["project"] == 2]


def test_several_images_are_tried_the_first_the_last_and_some_between(label_studio, run, client):
    label_studio.add_project(1, XML, tasks=range(11, 51))
    for task in (11, 50):
        label_studio.tasks[task]["data"] = {}
    (image,) = (step for step in run() if step.name == "image")
    assert image.status == "warning"
    assert "no worker serves" in image.detail, "the others could be tried"
    Fleet(client.connection.redis).beat(
        WorkerInfo(name="w", model="other@1", device="cpu", dtype="float32", card=colour_card("other@1"))
    )
    (image,) = (step for step in run() if step.name == "image")
    assert f"no worker serves {MODEL} (those running serve other@1): start one" in image.detail
    for task in label_studio.tasks.values():
        task["data"] = {}
    (image,) = (step for step in run() if step.name == "image")
    assert image.detail.startswith("5 of 5 tasks tried: task 11: the task's data has no 'image'")


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ({}, "http://127.0.0.1:9090"),
        ({"host": "0.0.0.0", "port": 9191}, "http://127.0.0.1:9191"),
        ({"host": "10.0.0.7"}, "http://10.0.0.7:9090"),
        ({"host": "0.0.0.0", "adapter_url": "http://adapter:9090/"}, "http://adapter:9090"),
        ({"adapter_url": "adapter:9090"}, "http://adapter:9090"),
    ],
)
def test_the_adapter_s_own_address_is_what_the_settings_tell(settings, said, url):
    assert own_url(settings(**said)) == url


def test_a_paused_project_is_said_to_be_and_nothing_is_claimed_of_its_tasks(label_studio, run, client):
    label_studio.add_project(1, XML, tasks=range(11, 14))
    run()
    Projects(client).update(1, paused=True)
    last = run(all_tasks=True)[-1]
    assert (last.name, last.status) == ("tasks", "warning")
    assert "paused" in last.detail
    assert "prelabel resume --project 1" in last.detail
