"""The adapter's other endpoints, its guards, and what it survives."""

import base64
import codecs
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from prelabel.integrations.http.app import create_app
from prelabel.integrations.label_studio import bodies
from prelabel.integrations.label_studio.convert.questions import LabelConfigReader
from prelabel.schemas import BrokerUnavailable, ConfigError
from prelabel.schemas.settings import load_settings
from tests.unit.integrations.label_studio.routes.fakes import MODEL, READY, VERSION, XML, FakeClient, ask, tasks


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", ["/health", "/"])
def test_health_asks_nobody(http, client, path):
    client.error = BrokerUnavailable("down")
    response = http.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "UP", "model_class": "prelabel"})


def test_health_answers_a_probe_that_wants_no_body(http):
    response = http.head("/health")
    assert (response.status_code, response.content) == (200, b"")


def test_setup(http, capture):
    response = http.post("/setup", json=capture("setup_with_extra_params")["body"])
    assert (response.status_code, response.json()) == (200, {"model_version": VERSION})


def test_setup_answers_with_the_version_of_the_model_the_project_has_chosen(http, client, projects, capture):
    body = capture("setup_with_extra_params")["body"]
    own = http.post("/setup", json=body).json()["model_version"]
    projects.add(int(body["project"].split(".")[0]), model="org/fine@abcdef12")
    chosen = http.post("/setup", json=body).json()["model_version"]
    assert chosen == own.replace(MODEL, "org/fine@abcdef12")
    client.error = BrokerUnavailable("down")
    assert http.post("/setup", json=body).json()["model_version"] == chosen, "as it was last"


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
    [
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b"7", 422),
        (b"{}", 422),
        (b'{"tasks": 7}', 422),
        (b"", 422),
        (b"[" * 10**5, 400),
        (b'{"tasks": [NaN]}', 400),
    ],
)
def test_malformed_bodies(http, content, status):
    response = http.post("/predict", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, list(response.json())) == (status, ["detail"])


def test_a_byte_order_mark_is_no_part_of_the_body(http):
    body = codecs.BOM_UTF8 + json.dumps({"tasks": []}).encode()
    assert http.post("/predict", content=body, headers={"content-type": "application/json"}).json() == {"results": []}


@pytest.mark.parametrize("headers", [{}, basic("u", "p")])
def test_without_credentials_a_webhooks_body_is_small(guarded, headers):
    event = {"action": "TASKS_CREATED", "project": {"id": 1}, "tasks": [{"id": number} for number in range(100_000)]}
    assert guarded.post("/webhook", json=event, headers=headers).status_code == (200 if headers else 413)
    event["tasks"] = event["tasks"][:5_000]
    assert guarded.post("/webhook", json=event, headers=headers).status_code == 200


HEAVY = {
    "/webhook": {"action": "X", "tasks": [[[]] * 10] * 20_000},
    "/predict": {"tasks": [{"id": "x", "data": [[]] * 10}] * 100_000, "label_config": XML},
    "/setup": {"schema": "<View>" + "<Choice/>" * 100_000 + "</View>"},
}


@pytest.mark.parametrize("path", HEAVY)
def test_health_is_answered_while_the_heaviest_body_is_read(make, path, monkeypatch):
    """Held at its reading, which must not be where everybody else is answered."""
    reading, asked = threading.Event(), threading.Event()
    parse, read = bodies.from_json, LabelConfigReader.read

    def held(work):
        def run(*args, **options):
            reading.set()
            assert asked.wait(20)
            return work(*args, **options)

        return run

    if path == "/setup":
        monkeypatch.setattr(LabelConfigReader, "read", held(read))
    else:
        monkeypatch.setattr(bodies, "from_json", held(parse))
    body = json.dumps(HEAVY[path]).encode()
    with make() as http, ThreadPoolExecutor(1) as someone:
        answer = someone.submit(http.post, path, content=body, headers={"content-type": "application/json"})
        assert reading.wait(20)
        assert http.get("/health").status_code == 200
        assert not answer.done()
        asked.set()
        assert answer.result(60).status_code == 200


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
