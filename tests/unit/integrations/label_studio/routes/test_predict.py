"""POST /predict: people get an answer at once, large batches a promise."""

import copy
import threading

import pytest

from prelabel.schemas import Answer, BrokerUnavailable, ItemFailure, Priority
from tests.unit.integrations.label_studio.routes.fakes import MODEL, READY, VERSION, FakeClient, ask, tasks


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
    assert len(client.jobs) == 1
    assert ask(http, tasks(1)) == [READY]


def test_without_a_push_the_same_task_is_answered_every_time(make, client):
    http = make(label_studio_api_key=None)
    assert ask(http, tasks(1)) == ask(http, tasks(1)) == [READY]


def test_a_project_that_has_chosen_a_model_is_answered_with_it(http, client, projects):
    projects.add(1, model="org/fine@abcdef12")
    ask(http, tasks(1))
    ask(http, tasks(1), project="2.3")
    assert [job.call["model"] for job in client.jobs] == ["org/fine@abcdef12", MODEL]
