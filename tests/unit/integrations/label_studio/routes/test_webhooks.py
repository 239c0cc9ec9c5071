"""POST /webhook, /setup and /check: hints, and who may give them."""

import time

import pytest

from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.registration import ACTIONS, SECRET_HEADER
from prelabel.schemas import BrokerUnavailable
from prelabel.schemas.settings import load_settings

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


@pytest.mark.parametrize("name", WEBHOOKS)
def test_recorded_webhooks_are_hints_for_connected_projects(http, client, projects, capture, name):
    body = capture(f"webhook_{name}")["body"]
    is_used = body["action"] in ACTIONS
    for is_served in (False, True):
        if is_served:
            projects.add(body["project"]["id"])
        response = http.post("/webhook", json=body, headers={SECRET_HEADER: projects.secret()})
        assert (response.status_code, response.json()["status"]) == (200, "accepted" if is_used else "ignored")
        turn = projects.take_turn(time.time())
        assert (turn is not None) == (is_served and is_used)
        if turn:
            assert turn.project == body["project"]["id"]
            projects.end_turn(turn)
    assert client.jobs == [], "nothing it says is believed"


def test_an_event_without_the_secret_is_looked_into_later(http, projects, capture):
    body = capture("webhook_TASKS_CREATED_import")["body"]
    projects.add(body["project"]["id"])
    for header in ({}, {SECRET_HEADER: "guessed"}):
        assert http.post("/webhook", json=body, headers=header).json() == {"status": "accepted"}
    assert projects.take_turn(time.time()) is None


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
