import base64
import copy
import threading

import pytest
from fastapi.testclient import TestClient

from prelabel.integrations.broker import connect_redis
from prelabel.integrations.label_studio.app import create_app
from prelabel.integrations.label_studio.projects import Projects
from prelabel.integrations.label_studio.registration import ACTIONS, SECRET_HEADER
from prelabel.integrations.queue_state import QueueState
from prelabel.schemas import (
    Answer,
    BrokerUnavailable,
    ConfigError,
    ItemFailure,
    JobState,
    Prediction,
    Priority,
    Progress,
    model_version,
)
from prelabel.schemas.label_config import LabelConfig
from prelabel.schemas.settings import load_settings

MODEL = "siglip@12345678"
XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img" choice="single">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
VERSION = model_version(MODEL, LabelConfig.parse(XML).to_controls())
RESULT = [{"from_name": "cls", "to_name": "img", "type": "choices", "value": {"choices": ["Cat"]}, "score": 0.9}]
READY = [{"result": RESULT, "score": 0.9, "model_version": VERSION}]
WEBHOOKS = [
    "ANNOTATIONS_DELETED",
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "PROJECT_UPDATED_label_config",
    "START_TRAINING",
    "TASKS_CREATED_300",
    "TASKS_CREATED_import",
    "TASKS_CREATED_single_api",
    "TASKS_CREATED_storage_sync",
    "TASKS_DELETED_single",
    "custom_project_hook_with_header",
]


class FakeJob:
    def __init__(self, client, call):
        self.client, self.call, self.delivered = client, call, None
        self.id = f"job{len(client.jobs) + 1}"

    def results(self, timeout=None):
        if self.client.gate:
            self.client.entered.set()
            self.client.gate.wait(5)
        for ordinal, item in enumerate(self.call["items"]):
            made = self.client.answer(ordinal, item)
            if made is not None:
                yield Prediction(item=item, ordinal=ordinal, model_version=VERSION, **made)
            else:
                raise TimeoutError

    def release_push(self, delivered):
        self.delivered = list(delivered)

    def progress(self):
        return Progress(job_id=self.id, state=JobState.RUNNING, total=len(self.call["items"]), done=0, failed=0)


class FakeClient:
    """Jobs in memory, answered "Cat" to everything unless told otherwise; what else is in Redis is in a real one."""

    def __init__(self, settings):
        self.settings = settings
        self.jobs = []
        self.error = None
        self.gate = None
        self.entered = threading.Event()

    @staticmethod
    def answer(ordinal, item):
        return {"answers": (Answer(control="cls", rule="softmax", paths=(("Cat",),), confidence=0.9),)}

    def submit(self, items, controls, **options):
        if self.error:
            raise self.error
        job = FakeJob(self, {"items": list(items), "controls": controls, **options})
        self.jobs.append(job)
        return job

    def queues(self):
        return self.patiently(lambda: {"interactive": 1, "bulk": 7})

    def patiently(self, call, **_):
        if self.error:
            raise self.error
        return call()

    def job(self, job_id):
        return next(job for job in self.jobs if job.id == job_id)

    def queue_states(self):
        return {queue: QueueState(depth, 2.5 * depth) for queue, depth in self.queues().items()}

    def workers(self):
        return ["one"]


@pytest.fixture
def client(broker_url):
    settings = load_settings(redis_url=broker_url)
    connect_redis(settings).flushall()
    yield FakeClient(settings)
    connect_redis(settings).flushall()


@pytest.fixture
def projects(client):
    return Projects(client)


@pytest.fixture
def make(client):
    opened = []

    def build(**overrides):
        values = {"label_studio_url": "http://ls:8080", "label_studio_api_key": "k", **overrides}
        http = TestClient(create_app(load_settings(**values), client, model=MODEL))
        opened.append(http)
        return http

    yield build
    for http in opened:
        http.close()


@pytest.fixture
def http(make):
    return make()


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", ["/health", "/"])
def test_health_asks_nobody(http, client, path):
    client.error = BrokerUnavailable("down")
    response = http.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "UP", "model_class": "prelabel"})


def test_setup(http, capture):
    response = http.post("/setup", json=capture("setup_with_extra_params")["body"])
    assert (response.status_code, response.json()) == (200, {"model_version": VERSION})


def test_setup_survives_a_project_without_config(http, capture):
    response = http.post("/setup", json=capture("setup_empty_config")["body"])
    assert response.json() == {
        "model_version": f"{MODEL}+unusable-label-config",
        "problem": "the label config has no <Choices> or <Taxonomy> tag: there is nothing to pre-label",
    }


@pytest.mark.parametrize("body", [{}, {"schema": "<View>"}, {"schema": "", "project": None}, {"project": 3}])
def test_setup_never_fails(http, body, caplog):
    answer = http.post("/setup", json=body).json()
    assert answer["model_version"] == f"{MODEL}+unusable-label-config"
    assert answer["problem"].startswith("the label config ")
    assert "cannot be pre-labelled" in caplog.text


@pytest.mark.parametrize("name", ["predict_on_task_open", "predict_s3_uri", "predict_basic_auth"])
def test_predict_answers_one_task_inline(http, client, capture, name):
    body = capture(name)["body"]
    response = http.post("/predict", json=body)
    assert (response.status_code, response.json()) == (200, {"results": [READY]})
    (job,) = client.jobs
    assert job.call["priority"] is Priority.INTERACTIVE
    assert job.call["model"] == MODEL
    assert job.call["push"].project == int(body["project"].split(".")[0])
    assert job.call["push"].hold
    assert job.call["push"].label_config == body["label_config"]
    assert job.delivered == [0]


def test_predict_of_a_large_batch_is_queued_and_not_waited_for(http, client, capture):
    body = capture("predict_batch298")["body"]
    response = http.post("/predict", json=body)
    assert response.json() == {"results": [[]] * len(body["tasks"])}
    (job,) = client.jobs
    assert job.call["priority"] is Priority.BULK
    assert not job.call["push"].hold
    assert len(job.call["items"]) == len(body["tasks"]) == 20
    assert job.delivered is None


def test_predict_of_tasks_with_other_versions_scores_them(http, client, capture):
    body = capture("predict_retrieve_action_batch")["body"]
    assert http.post("/predict", json=body).json() == {"results": [READY] * len(body["tasks"])}


def test_predict_skips_tasks_that_have_our_version(http, client, capture):
    body = copy.deepcopy(capture("predict_on_task_open")["body"])
    known = copy.deepcopy(body["tasks"][0])
    known["id"], known["predictions"] = 2, [{"model_version": VERSION}]
    body["tasks"].insert(0, known)
    assert http.post("/predict", json=body).json() == {"results": [[], READY]}
    assert [item.id for item in client.jobs[0].call["items"]] == ["1"]


def tasks(*ids):
    return [{"id": number, "data": {"image": f"https://e.org/{number}.jpg"}} for number in ids]


def ask(http, found, xml=XML, project="1.2"):
    response = http.post("/predict", json={"tasks": found, "project": project, "label_config": xml})
    assert response.status_code == 200
    return response.json()["results"]


def test_what_is_not_ready_is_left_to_the_push(http, client):
    client.answer = lambda ordinal, item: None if item.id == "3" else FakeClient.answer(ordinal, item)
    assert ask(http, tasks(1, 2, 3, 4)) == [READY, READY, [], []]
    assert client.jobs[0].delivered == [0, 1]


def test_failed_and_undecided_items_answer_an_empty_list(http, client):
    def answer(ordinal, item):
        if item.id == "1":
            return {"error": ItemFailure(kind="ItemError", message="gone")}
        return {"answers": (Answer(control="cls", rule="softmax", confidence=0.2),)}

    client.answer = answer
    assert ask(http, tasks(1, 2)) == [[], []]
    assert client.jobs[0].delivered == []


def test_bad_tasks_do_not_harm_the_others(http, client):
    bad = [None, 7, {"id": "x"}, {"id": 5, "data": {}}, {"id": 6, "data": {"image": "file:///etc/passwd"}}]
    assert ask(http, [*bad, *tasks(9)]) == [[], [], [], [], [], READY]


def test_no_tasks(http, client):
    assert ask(http, []) == []
    assert client.jobs == []


@pytest.mark.parametrize("xml", ["", "<View></View>", "<View"])
def test_predict_with_an_unusable_config(http, client, xml):
    assert ask(http, tasks(1, 2), xml=xml) == [[], []]
    assert client.jobs == []


def test_predict_with_the_broker_down(http, client, caplog):
    client.error = BrokerUnavailable("Redis does not answer")
    assert ask(http, tasks(1, 2)) == [[], []]
    assert [record.levelname for record in caplog.records if "Redis" in record.message] == ["WARNING"]
    client.error = None
    assert ask(http, tasks(1)) == [READY], "it is asked again as soon as the broker is back"


def test_predict_survives_what_nobody_thought_of(http, client, caplog):
    client.error = RuntimeError("bug")
    assert ask(http, tasks(1)) == [[]]
    assert "RuntimeError: bug" in caplog.text


def test_without_an_api_key_nothing_is_pushed(make, client):
    http = make(label_studio_api_key=None)
    assert ask(http, tasks(1)) == [READY]
    assert client.jobs[0].call["push"] is None
    assert client.jobs[0].delivered is None


def test_no_wait_when_told_so(make, client):
    assert ask(make(predict_wait_s=0), tasks(1)) == [[]]
    assert client.jobs[0].call["priority"] is Priority.BULK


def test_a_task_opened_again_while_it_is_answered_is_not_queued_twice(http, client):
    client.gate = threading.Event()
    first = []
    thread = threading.Thread(target=lambda: first.extend(ask(http, tasks(1))))
    thread.start()
    assert client.entered.wait(5)
    assert ask(http, tasks(1)) == [[]]
    client.gate.set()
    thread.join()
    assert first == [READY]
    assert len(client.jobs) == 1
    assert ask(http, tasks(1)) == [[]], "Label Studio is storing the answer"


def test_a_bulk_promise_does_not_keep_a_person_waiting(make, client):
    http = make(predict_wait_tasks=1)
    assert ask(http, tasks(1, 2)) == [[], []]
    assert ask(http, tasks(1, 2)) == [[], []]
    assert len(client.jobs) == 1
    assert ask(http, tasks(1)) == [READY]


@pytest.mark.parametrize("name", WEBHOOKS)
def test_recorded_webhooks_are_hints_for_connected_projects(http, client, projects, capture, name):
    body = capture(f"webhook_{name}")["body"]
    is_used = body["action"] in ACTIONS
    for is_served in (False, True):
        if is_served:
            projects.add(body["project"]["id"])
        response = http.post("/webhook", json=body, headers={SECRET_HEADER: projects.secret()})
        assert (response.status_code, response.json()["status"]) == (200, "accepted" if is_used else "ignored")
        assert projects.take_hints() == ([body["project"]["id"]] if is_served and is_used else [])
    assert client.jobs == [], "nothing it says is believed"


def test_an_event_without_the_secret_is_looked_into_later(http, projects, capture):
    body = capture("webhook_TASKS_CREATED_import")["body"]
    projects.add(body["project"]["id"])
    for header in ({}, {SECRET_HEADER: "guessed"}):
        assert http.post("/webhook", json=body, headers=header).json() == {"status": "accepted"}
    assert projects.take_hints() == []


def test_a_webhook_with_no_broker_is_answered(http, client, capture):
    client.error = BrokerUnavailable("Redis does not answer")
    assert http.post("/webhook", json=capture("webhook_TASKS_CREATED_single_api")["body"]).status_code == 200


def test_the_webhooks_secret_may_be_set(client, projects):
    client.settings = load_settings(webhook_secret="set")
    assert Projects(client).secret() == "set"
    assert projects.secret() != "set"


def test_setup_announces_a_project_that_is_not_served(http, projects, capture):
    body = capture("setup_with_extra_params")["body"]
    http.post("/setup", json=body)
    assert projects._redis.zrange("prelabel:label_studio:hints", 0, -1) == [body["project"].split(".")[0].encode()]


def test_check_wants_the_secret(http, projects):
    assert http.post("/check").status_code == 403
    answer = http.post("/check", headers={SECRET_HEADER: projects.secret()})
    assert "http://ls:8080 does not answer" in answer.json()["problem"]


@pytest.fixture
def guarded(make):
    return make(basic_auth_user="u", basic_auth_pass="p")


def test_basic_auth_as_recorded(guarded, capture):
    recorded = capture("predict_basic_auth")
    header = {"Authorization": recorded["headers"]["Authorization"]}
    assert guarded.post("/predict", json=recorded["body"], headers=header).json() == {"results": [READY]}


@pytest.mark.parametrize(
    ("method", "path", "bare"),
    [
        ("GET", "/health", 200),
        ("GET", "/", 401),
        ("POST", "/webhook", 200),
        ("POST", "/setup", 401),
        ("POST", "/predict", 401),
        ("GET", "/metrics", 401),
        ("GET", "/docs", 401),
        ("GET", "/nowhere", 401),
    ],
)
def test_basic_auth(guarded, method, path, bare):
    body = {} if method == "POST" else None
    assert guarded.request(method, path, json=body).status_code == bare
    for wrong in (basic("u", "x"), basic("x", "p"), {"Authorization": "Basic !"}, {"Authorization": "Bearer p"}):
        assert guarded.request(method, path, json=body, headers=wrong).status_code == 401
    assert guarded.request(method, path, json=body, headers=basic("u", "p")).status_code in (200, 404, 422)


def test_half_a_basic_auth_is_refused(client):
    with pytest.raises(ConfigError, match="set both BASIC_AUTH_USER and BASIC_AUTH_PASS"):
        create_app(load_settings(basic_auth_user="u"), client, model=MODEL)


def test_body_cap(make):
    http = make(max_body_bytes=2000)
    big = {"tasks": [], "label_config": "x" * 3000}
    assert http.post("/predict", json=big).status_code == 413

    def chunks():
        for _ in range(300):
            yield b" " * 100

    response = http.post("/predict", content=chunks(), headers={"content-type": "application/json"})
    assert (response.status_code, "PRELABEL_MAX_BODY_BYTES" in response.text) == (413, True)
    assert http.post("/predict", json={"tasks": []}).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 400), (b"\xff", 400), (b"[]", 422), (b"7", 422), (b"{}", 422), (b'{"tasks": 7}', 422), (b"", 422)],
)
def test_malformed_bodies(http, content, status):
    response = http.post("/predict", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, list(response.json())) == (status, ["detail"])


def test_metrics(http, client):
    client.answer = lambda ordinal, item: None if item.id == "2" else FakeClient.answer(ordinal, item)
    ask(http, tasks(1, 2))
    http.get("/nowhere")
    text = http.get("/metrics").text
    assert 'prelabel_http_requests_total{endpoint="/predict",status="200"} 1.0' in text
    assert 'prelabel_http_requests_total{endpoint="other",status="404"} 1.0' in text
    assert 'prelabel_predict_tasks_total{outcome="inline"} 1.0' in text
    assert 'prelabel_predict_tasks_total{outcome="deferred"} 1.0' in text
    assert "prelabel_predict_wait_seconds_count 1.0" in text
    assert 'prelabel_queue_depth{queue="bulk"} 7.0' in text
    assert 'prelabel_queue_oldest_seconds{queue="bulk"} 17.5' in text
    assert "prelabel_workers 1.0" in text
    assert "prelabel_broker_up 1.0" in text


def test_metrics_with_the_broker_down(http, client):
    client.error = BrokerUnavailable("down")
    response = http.get("/metrics")
    assert (response.status_code, "prelabel_broker_up 0.0" in response.text) == (200, True)


def test_versions_is_not_there_so_label_studio_falls_back(http):
    assert http.get("/versions").status_code == 404


def test_docs(http):
    assert http.get("/docs").status_code == 200
    assert "/predict" in http.get("/openapi.json").json()["paths"]


def test_without_a_push_the_same_task_is_answered_every_time(make, client):
    http = make(label_studio_api_key=None)
    assert ask(http, tasks(1)) == ask(http, tasks(1)) == [READY]
