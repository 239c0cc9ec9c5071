import time

import pytest

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.deliver.push import Pusher
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import (
    Answer,
    ConfigError,
    ImageRef,
    Item,
    ItemFailure,
    Prediction,
    PushTarget,
    TransientError,
    model_version,
)

XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
NESTED = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img" allowNested="true">'
    '<Choice value="Animal"><Choice value="Cat"/><Choice value="Dog"/></Choice></Choices></View>'
)
VERSION = model_version("siglip@12345678", LabelConfig.parse(XML).to_controls())


def predicted(ordinal, task=None, path=("Cat",), error=None):
    item = Item(id=str(task or ordinal + 1), images=(ImageRef(uri="https://e.org/1.jpg"),))
    answers = () if error else (Answer(control="cls", rule="softmax", paths=(path,) if path else (), confidence=0.9),)
    return Prediction(item=item, ordinal=ordinal, model_version=VERSION, answers=answers, error=error)


@pytest.fixture
def push(label_studio, settings):
    with Pusher(settings()) as pusher:

        def run(predictions, *, check_existing=False, xml=XML, project=1):
            target = PushTarget(project=project, label_config=xml)
            return pusher.push(target, predictions, check_existing=check_existing)

        yield run


def test_bulk_in_one_request(label_studio, push):
    label_studio.add_project(1, XML, tasks=range(1, 11))
    report = push([predicted(ordinal) for ordinal in range(10)])
    assert report.pushed == tuple(range(10))
    assert report.rejected == report.skipped == ()
    assert len(label_studio.calls_to("POST", "/api/projects/1/import/predictions")) == 1
    assert label_studio.predictions[0] == {
        "task": 1,
        "result": [
            {"from_name": "cls", "to_name": "img", "type": "choices", "value": {"choices": ["Cat"]}, "score": 0.9}
        ],
        "score": 0.9,
        "model_version": VERSION,
    }


@pytest.mark.parametrize(
    ("shown", "told"),
    [("siglip@12345678+tax.000000", [1]), ("", [1]), (VERSION, []), ("what people chose", [])],
    ids=["an earlier one", "none", "this one", "another model"],
)
def test_whoever_asks_is_told_once_of_a_project_that_shows_another_version_now(label_studio, settings, shown, told):
    label_studio.add_project(1, XML, tasks=[1, 2], model_version=shown)
    moved: list[int] = []
    with Pusher(settings(), moved=moved.append) as pusher:
        for ordinal in range(2):
            pusher.push(PushTarget(project=1, label_config=XML), [predicted(ordinal)])
    assert moved == told


def test_personal_token(label_studio, settings):
    label_studio.add_project(1, XML, tasks=[1])
    with Pusher(settings(label_studio_api_key=label_studio.personal)) as pusher:
        report = pusher.push(PushTarget(project=1, label_config=XML), [predicted(0)], check_existing=True)
    assert report.pushed == (0,)
    assert label_studio.refreshes == 1


def test_nothing_to_push_is_skipped_without_a_request(label_studio, push):
    label_studio.add_project(1, XML, tasks=[1, 2])
    failed = predicted(0, error=ItemFailure(kind="ItemError", message="gone"))
    report = push([failed, predicted(1, path=())])
    assert report.skipped == (0, 1)
    assert label_studio.calls == []


def test_existing_predictions_of_the_version_are_skipped(label_studio, push):
    label_studio.add_project(1, XML, tasks=[1, 2, 3])
    label_studio.predictions += [
        {"task": 1, "result": [], "model_version": VERSION},
        {"task": 2, "result": [], "model_version": "other"},
    ]
    report = push([predicted(ordinal) for ordinal in range(3)], check_existing=True)
    assert (report.pushed, report.skipped) == ((1, 2), (0,))
    again = push([predicted(ordinal) for ordinal in range(3)], check_existing=True)
    assert (again.pushed, again.skipped) == ((), (0, 1, 2))
    assert len(label_studio.predictions) == 4


@pytest.mark.parametrize(("there", "questions"), [(0, 1), (300, 1), (1200, 11)])
def test_what_is_there_is_asked_at_once_where_it_is_little(label_studio, push, there, questions):
    label_studio.add_project(1, XML, tasks=range(1, 1401))
    label_studio.predictions += [{"task": task, "result": [], "model_version": VERSION} for task in range(1, there + 1)]
    report = push([predicted(ordinal) for ordinal in range(1400)], check_existing=True)
    assert report.skipped == tuple(range(there))
    assert report.pushed == tuple(range(there, 1400))
    assert len(label_studio.calls_to("GET", "/api/tasks")) == questions


def test_silently_dropped_predictions_are_found(label_studio, push):
    label_studio.add_project(1, XML.replace('<Choice value="Dog"/>', ""), tasks=[1, 2])
    report = push([predicted(0), predicted(1, path=("Dog",))])
    assert report.pushed == (0,)
    ((ordinal, reason),) = report.rejected
    assert ordinal == 1
    assert "label config has changed" in reason


def test_nested_choices_go_one_by_one(label_studio, push):
    label_studio.add_project(1, NESTED, tasks=[1, 2])
    report = push([predicted(0, path=("Animal", "Cat")), predicted(1, task=99, path=("Animal", "Dog"))], xml=NESTED)
    assert report.pushed == (0,)
    assert report.rejected == ((1, "project 1 has no task 99"),)
    assert label_studio.predictions[0]["result"][0]["value"] == {"choices": [["Animal", "Cat"]]}
    assert label_studio.calls_to("POST", "/api/projects/1/import/predictions") == []


def test_tasks_that_are_gone_cost_only_themselves_and_one_more_import(label_studio, push):
    label_studio.add_project(1, XML, tasks=[task for task in range(1, 65) if task not in (5, 40)])
    report = push([predicted(ordinal) for ordinal in range(64)])
    assert len(report.pushed) == len(label_studio.predictions) == 62
    assert report.rejected == ((4, "project 1 has no task 5"), (39, "project 1 has no task 40"))
    assert len(label_studio.calls_to("POST", "/api/projects/1/import/predictions")) == 2


def test_what_a_refused_import_has_stored_is_not_stored_again(label_studio, push):
    label_studio.add_project(1, XML, tasks=[task for task in range(1, 65) if task != 40])
    label_studio.stores_in_parts = 10
    report = push([predicted(ordinal) for ordinal in range(64)])
    assert report.rejected == ((39, "project 1 has no task 40"),)
    assert len(report.pushed) == 63
    assert sorted(one["task"] for one in label_studio.predictions) == [*range(1, 40), *range(41, 65)]


def test_what_is_refused_for_a_reason_of_its_own_is_found_by_halves(label_studio, push, monkeypatch):
    label_studio.add_project(1, XML, tasks=range(1, 65))
    import_all = label_studio.bulk

    def bulk(method, query, body, number):
        if any(one["task"] == 23 for one in body):
            return 400, {"validation_errors": ["the result of task 23 is odd"]}
        return import_all(method, query, body, number)

    monkeypatch.setattr(label_studio, "bulk", bulk)
    report = push([predicted(ordinal) for ordinal in range(64)])
    assert len(report.pushed) == len(label_studio.predictions) == 63
    assert report.rejected == ((22, "Label Studio refuses it: ['the result of task 23 is odd']"),)


def test_an_item_that_is_no_task_is_rejected(label_studio, push):
    label_studio.add_project(1, XML, tasks=[1])
    report = push([predicted(0), predicted(1, task="photo.jpg")])
    assert report.pushed == (0,)
    assert report.rejected == ((1, "'photo.jpg' is not the number of a Label Studio task"),)


def test_the_project_shows_the_current_version(label_studio, push):
    label_studio.add_project(1, XML, tasks=[1, 2], model_version="siglip@12345678+tax.000000")
    push([predicted(0)])
    assert label_studio.projects[1]["model_version"] == VERSION
    push([predicted(1)])
    assert len(label_studio.calls_to("PATCH", "/api/projects/1/")) == 1


def test_the_project_shows_a_calibrated_version_of_what_it_asks(label_studio, push):
    calibrated = f"{VERSION}+cal.abcdef"
    label_studio.add_project(1, XML, tasks=[1], model_version=VERSION)
    push([predicted(0).model_copy(update={"model_version": calibrated})])
    assert label_studio.projects[1]["model_version"] == calibrated


@pytest.mark.parametrize(("xml", "shown"), [(XML, "people chose this"), (XML.replace("Dog", "Fox"), "")])
def test_the_project_keeps_a_version_that_is_not_ours_or_newer(label_studio, push, xml, shown):
    label_studio.add_project(1, xml, tasks=[1], model_version=shown)
    assert push([predicted(0)]).pushed == (0,)
    assert label_studio.projects[1]["model_version"] == shown


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_label_studio_in_trouble_is_transient_and_never_retried_here(label_studio, push, status):
    label_studio.fail_with = status
    with pytest.raises(TransientError, match=str(status)):
        push([predicted(0)])
    assert len(label_studio.calls) == 1


def test_an_import_may_take_longer_than_other_requests(label_studio, settings, monkeypatch):
    label_studio.add_project(1, XML, tasks=[1])
    monkeypatch.setitem(LabelStudioAPI.__init__.__kwdefaults__, "timeout_s", 1.0)
    import_all = label_studio.bulk

    def bulk(*request):
        time.sleep(2.0)
        return import_all(*request)

    monkeypatch.setattr(label_studio, "bulk", bulk)
    with Pusher(settings()) as pusher:
        assert pusher.push(PushTarget(project=1, label_config=XML), [predicted(0)]).pushed == (0,)


def test_label_studio_down_is_transient(settings):
    with Pusher(settings(label_studio_url="http://127.0.0.1:1")) as pusher, pytest.raises(TransientError):
        pusher.push(PushTarget(project=1, label_config=XML), [predicted(0)], check_existing=False)


def test_a_wrong_key_is_a_config_error(label_studio, settings):
    refusal = pytest.raises(ConfigError, match=r"refuses LABEL_STUDIO_API_KEY \(401\)")
    with Pusher(settings(label_studio_api_key="wrong-key")) as pusher, refusal as refused:
        pusher.push(PushTarget(project=1, label_config=XML), [predicted(0)], check_existing=False)
    assert "wrong-key" not in str(refused.value)


def test_legacy_tokens_switched_off_says_so(label_studio, push):
    label_studio.keys.clear()
    label_studio.unauthorized = "Authentication token no longer valid: legacy token authentication has been disabled"
    with pytest.raises(ConfigError, match="legacy tokens switched off: set LABEL_STUDIO_API_KEY to a personal access"):
        push([predicted(0)])


def test_a_redirected_post_is_not_followed(label_studio, push):
    label_studio.add_project(1, XML, tasks=[1])
    label_studio.redirect_to = label_studio.url
    with pytest.raises(ConfigError, match=r"HTTP 301 for project 1\): check the address, and http or https"):
        push([predicted(0)])
    assert len(label_studio.calls) == 1


def test_a_project_that_is_gone_has_all_refused(push):
    report = push([predicted(0), predicted(1)], project=9)
    assert [ordinal for ordinal, _ in report.rejected] == [0, 1]
    assert "has no project 9 any more" in report.rejected[0][1]


def test_a_push_says_how_long_label_studio_wants_to_be_left_alone(label_studio, push):
    label_studio.add_project(1, XML, tasks=[1])
    label_studio.trouble = lambda method, path: 429
    with pytest.raises(TransientError) as raised:
        push([predicted(0)])
    assert raised.value.retry_after_s == 1


def test_what_another_delivers_is_left_to_it_and_checked_later(label_studio, settings, claims):
    label_studio.add_project(1, XML, tasks=[1, 2])
    claims.take(1, [(1, VERSION)], "an adapter", for_s=60)
    with Pusher(settings(), claims) as pusher:
        report = pusher.push(PushTarget(project=1, label_config=XML), [predicted(0), predicted(1)], who="job")
    assert (report.pushed, report.skipped) == ((1,), (0,))
    assert claims.to_verify() == {}, "it has time to arrive"


def test_a_job_goes_on_with_what_it_claimed_before(label_studio, settings, claims):
    label_studio.add_project(1, XML, tasks=[1])
    target = PushTarget(project=1, label_config=XML)
    with Pusher(settings(), claims) as pusher:
        label_studio.fail_with = 503
        with pytest.raises(TransientError):
            pusher.push(target, [predicted(0)], check_existing=True, who="job")
        assert claims.take(1, [(1, VERSION)], "an adapter", for_s=60) == [False], "what was stored is not known"
        label_studio.fail_with = None
        assert pusher.push(target, [predicted(0)], check_existing=True, who="job").pushed == (0,)


def test_a_claim_that_ran_out_during_one_import_is_taken_again_before_the_next(
    label_studio, settings, claims, monkeypatch
):
    label_studio.add_project(1, XML, tasks=range(1, 8))
    import_all, free = label_studio.bulk, []

    def bulk(method, query, body, number):
        free.append(claims.take(1, [(1, VERSION)], "an adapter", for_s=60))
        claims.let_go(1, [(task, VERSION) for task in range(1, 9)], "job")  # as if its time were over
        return import_all(method, query, body, number)

    monkeypatch.setattr(label_studio, "bulk", bulk)
    with Pusher(settings(), claims) as pusher:
        report = pusher.push(PushTarget(project=1, label_config=XML), [predicted(at) for at in range(8)], who="job")
    assert len(report.pushed) == 7
    assert free == [[False], [False]]


def test_something_else_at_the_address(label_studio, push):
    label_studio.html = True
    with pytest.raises(ConfigError, match="does not answer like Label Studio's API"):
        push([predicted(0)])


def test_all_that_is_given_at_once_goes_in_one_request(label_studio, push):
    label_studio.add_project(1, XML, tasks=range(1, 602))
    assert len(push([predicted(ordinal) for ordinal in range(601)]).pushed) == 601
    assert len(label_studio.calls_to("POST", "/api/projects/1/import/predictions")) == 1
