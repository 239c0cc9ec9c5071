"""A label config is tried on a project's own tasks, changes nothing there, and is saved from there."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from prelabel.integrations import Client, Job
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.sample import KEEP_S
from prelabel.integrations.label_studio.trials import run
from prelabel.integrations.label_studio.trials.result import Trial
from prelabel.integrations.label_studio.trials.run import try_label_config
from prelabel.integrations.label_studio.trials.save import digest_of, save_label_config
from prelabel.schemas import ConfigError, TransientError
from prelabel.worker.demo.shapes import COLOURS, SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.images import CountingWeb
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project, pre_labelled_project, until

SOME_SHAPES = SHAPES_CONFIG.replace(f'<Choice value="{SHAPES[0]}"/>', "")
"""One shape fewer: pictures of that one change, others do not."""

COLOURS_CONFIG = SHAPES_CONFIG.split("<Choice ")[0] + "".join(f'<Choice value="{one}"/>' for one in COLOURS)
COLOURS_CONFIG += "</Choices></View>"


def trial(backend: Stack, client: Client, project: int, label_config: str, *, model: str = "", **options: Any) -> Trial:
    """A trial of 50 tasks that may take a minute, where the test does not say otherwise."""
    return try_label_config(
        backend.settings,
        client,
        project=project,
        label_config=label_config,
        model=model or settings_model_id(backend.settings),
        **{"size": 50, "timeout_s": 60.0, **options},
    )


def singles(pictures: list[Picture], count: int) -> list[Picture]:
    return [picture for picture in pictures if len(picture.pairs) == 1][:count]


def test_a_wording_is_tried_changes_nothing_and_is_saved(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    project = label_studio.make_project(title="shapes to try on")
    chosen = singles(pictures, 24)
    urls = [web.url(f"flaky/{picture.path.name}") for picture in chosen]
    tasks = label_studio.import_tasks(project, [{"image": url} for url in urls])
    connect_project(backend, project, pre_label_all=True)
    label_studio.wait_for(project, len(tasks))
    until(lambda: not Projects(client).working(project), 30, "the job has ended")
    before = label_studio.predictions(project=project)
    jobs_before = [job.id for job in client.project_jobs(project)]
    fetched = len(web.asked)

    tried = trial(backend, client, project, SOME_SHAPES)
    assert (tried.title, tried.total, len(tried.tasks)) == ("shapes to try on", 24, 24)
    assert (tried.read, len(web.asked)) == (0, fetched), "every vector was stored: no image is read"
    assert tried.refusal == ""
    stored = {one["task"]: one["result"][0]["value"]["choices"] for one in before}
    for task in tried.tasks:
        (line,) = task.lines
        assert line.old is not None
        assert line.new is not None
        assert [path[-1] for path in line.old.paths] == stored[task.task], "the present config gives what is stored"
        assert task.changed == (stored[task.task] == [SHAPES[0]])
        assert line.new.paths != ((SHAPES[0],),)
    (control,) = tried.controls
    lost = sum(one == [SHAPES[0]] for one in stored.values())
    assert lost, "some picture shows the shape that is left out, else this proves nothing"
    assert (control.changed, control.lost) == (lost, {SHAPES[0]: lost})
    assert sum(control.gained.values()) == lost

    # It leaves no trace: not in Label Studio, not among the project's jobs, and not for long in Redis.
    assert label_studio.predictions(project=project) == before
    assert label_studio.project(project)["label_config"] == SHAPES_CONFIG
    assert [job.id for job in client.project_jobs(project)] == jobs_before
    assert Projects(client).working(project) == []
    trials = [one for one in client.jobs() if one.name == f"trial for label studio project {project}"]
    assert len(trials) == 2
    assert all(0 < client.connection.redis.ttl(f"prelabel:{{{one.job_id}}}:results") <= KEEP_S for one in trials)

    save_label_config(backend.settings, project, SOME_SHAPES, instead_of=digest_of(tried.old_config))
    assert label_studio.project(project)["label_config"] == SOME_SHAPES
    scored = label_studio.wait_for(project, len(tasks), version=tried.new_version)
    answers = {one["task"]: one["result"][0]["value"]["choices"] for one in scored}
    assert answers == {
        task.task: [path[-1] for path in line.new.paths]
        for task in tried.tasks
        for line in task.lines
        if line.new is not None
    }, "what the trial promised is what came"


def test_a_sample_is_taken_from_what_is_stored_and_filled_up_with_what_must_be_read(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    project = label_studio.make_project()
    chosen = [picture for picture in pictures if len(picture.pairs) > 1][:14]  # of no other test
    early = [{"image": web.url(f"flaky/{one.path.name}")} for one in chosen[:4]]
    late = [{"image": web.url(f"flaky/{one.path.name}")} for one in chosen[4:]]
    first = label_studio.import_tasks(project, early)
    connect_project(backend, project, pre_label_all=True)
    label_studio.wait_for(project, len(first))
    until(lambda: not Projects(client).working(project), 30, "the job has ended")
    for one in label_studio.webhooks(project):  # nobody tells of what comes now
        label_studio.call("DELETE", f"/api/webhooks/{one['id']}/")
    Projects(client).remove(project)
    later = label_studio.import_tasks(project, late)
    fetched = len(web.asked)

    few = trial(backend, client, project, COLOURS_CONFIG, size=4)
    assert [task.task for task in few.tasks] == first
    assert (few.read, len(web.asked)) == (0, fetched)

    more = trial(backend, client, project, COLOURS_CONFIG, size=8)
    assert {task.task for task in more.tasks} > set(first)
    assert (len(more.tasks), more.total, more.read) == (8, 14, 4)
    assert {task.task for task in more.tasks if not task.stored} <= set(later)
    assert len(web.asked) == fetched + 4, "each image that had to be read was read once, for both label configs"
    assert all(task.changed for task in more.tasks), "colours are no shapes"
    assert label_studio.predictions(project=project, task=later[-1]) == []


def test_lists_and_labels_of_tasks_are_tried_as_they_are_answered(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    present = (
        '<View><Image name="image" valueList="$images"/>'
        '<Choices name="shape" toName="image" perItem="true" value="$shapes"/></View>'
    )
    project = label_studio.make_project(present)
    a, b, c = singles(pictures, 3)
    addresses = [web.url(f"flaky/{one.path.name}") for one in (a, b)]
    shapes = [{"value": shape} for shape in SHAPES]
    tasks = label_studio.import_tasks(
        project,
        [
            {"images": addresses, "shapes": shapes},
            {"images": [web.url(f"flaky/{c.path.name}")], "shapes": shapes},
            {"images": addresses, "shapes": []},
        ],
    )
    colour = "".join(f'<Choice value="{one}"/>' for one in COLOURS)
    wanted = present.replace(
        "</View>", f'<Choices name="colour" toName="image" perItem="true">{colour}</Choices></View>'
    )
    tried = trial(backend, client, project, wanted)
    assert tried.read == 3
    two, one, without = tried.tasks
    assert [task.task for task in tried.tasks] == tasks
    assert [(line.place.control, line.place.image) for line in two.lines] == [
        ("shape", 0),
        ("shape", 1),
        ("colour", 0),
        ("colour", 1),
    ]
    assert [line.changed for line in two.lines] == [False, False, True, True]
    assert [(line.place.control, line.place.image) for line in one.lines] == [("shape", 0), ("colour", 0)]
    assert "'shapes'" in without.old.problem
    assert {line.place.control for line in without.lines} == {"colour"}
    assert (tried.unanswered("old"), tried.unanswered("new"), tried.in_part("new")) == (1, 0, 1)
    assert {one.control: one.standing for one in tried.controls} == {"shape": "both", "colour": "only new"}


def test_each_region_that_is_drawn_is_tried(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    def asking(labels: Iterable[str]) -> str:
        choices = "".join(f'<Choice value="{one}"/>' for one in labels)
        return (
            '<View><Image name="image" value="$image"/>'
            '<RectangleLabels name="box" toName="image"><Label value="figure"/></RectangleLabels>'
            f'<Choices name="what" toName="image" perRegion="true">{choices}</Choices></View>'
        )

    project = label_studio.make_project(asking(SHAPES))
    url = web.url(f"flaky/{singles(pictures, 1)[0].path.name}")
    drawn, without = label_studio.import_tasks(project, [{"image": url}, {"image": url}])
    boxes = [
        {
            "id": region,
            "from_name": "box",
            "to_name": "image",
            "type": "rectanglelabels",
            "value": {"x": 0, "y": 0, "width": width, "height": width, "rotation": 0, "rectanglelabels": ["figure"]},
        }
        for region, width in (("whole", 100), ("half", 50))
    ]
    label_studio.call("POST", f"/api/tasks/{drawn}/annotations/", json={"result": boxes})
    tried = trial(backend, client, project, asking(COLOURS))
    first, second = tried.tasks
    assert (first.task, second.task) == (drawn, without)
    assert [(line.place.control, line.place.region, line.changed) for line in first.lines] == [
        ("what", "whole", True),
        ("what", "half", True),
    ]
    assert "no region yet" in second.old.problem
    assert "no region yet" in second.new.problem
    assert (tried.unanswered("old"), tried.unanswered("new"), tried.changed) == (1, 1, 1)


def test_what_cannot_be_tried_says_why(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    project = label_studio.make_project()
    with pytest.raises(ConfigError, match=r"project 99999999 .*404"):
        trial(backend, client, 99999999, COLOURS_CONFIG)
    with pytest.raises(ConfigError, match=r"new label config cannot be pre-labelled: .*no <Choices>"):
        trial(backend, client, project, '<View><Image name="image" value="$image"/></View>')
    with pytest.raises(ConfigError, match="has no tasks"):
        trial(backend, client, project, COLOURS_CONFIG)
    same = trial(backend, client, project, SHAPES_CONFIG.replace("<View>", '<View className="wide">'))
    assert same.same
    assert same.tasks == ()
    label_studio.import_tasks(project, [{"image": web.url(f"flaky/{pictures[0].path.name}")}])
    with pytest.raises(TransientError, match="no worker serves other@12345678"):
        trial(backend, client, project, COLOURS_CONFIG, model="other@12345678")
    with pytest.raises(TransientError, match=r"not done within 0 s: 0 of 1 tasks"):
        trial(backend, client, project, COLOURS_CONFIG, timeout_s=0.0)


def test_what_a_trial_may_take_counts_from_its_start_and_ends_the_reading_of_stored_vectors(
    label_studio: LabelStudio,
    backend: Stack,
    client: Client,
    pictures: list[Picture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = pre_labelled_project(label_studio, backend, pictures, "of a long history")
    (job,) = client.project_jobs(project)
    now, asked, submitted = 0.0, 0, []

    def a_long_history(_: int) -> Iterator[Job]:
        nonlocal now, asked
        for _ in range(1000):
            now += each_s
            asked += 1
            yield job

    def submit(*items: Any, **options: Any) -> Job:
        submitted.append(options["deadline_s"])
        return submit_as_ever(*items, **options)

    submit_as_ever = client.submit
    monkeypatch.setattr(client, "project_jobs", a_long_history)
    monkeypatch.setattr(client, "submit", submit)
    monkeypatch.setattr(run, "monotonic", lambda: now)
    each_s = 200.0
    tried = trial(backend, client, project, COLOURS_CONFIG, timeout_s=600.0)
    assert (asked, tried.read, len(tried.tasks)) == (2, 0, 12), "half of the time, and what was found by then is used"
    assert submitted == [201.0, 201.0]

    each_s = 700.0
    with pytest.raises(TransientError, match=r"not done within 600 s: 0 of 12 tasks"):
        trial(backend, client, project, COLOURS_CONFIG, timeout_s=600.0)
    assert len(submitted) == 2, "nothing is queued that nobody would wait for"


def test_label_studio_says_in_words_what_it_would_not_save(
    label_studio: LabelStudio, backend: Stack, client: Client, pictures: list[Picture], web: CountingWeb
) -> None:
    project = label_studio.make_project()
    (task,) = label_studio.import_tasks(project, [{"image": web.url(f"flaky/{pictures[0].path.name}")}])
    label_studio.call(
        "POST",
        f"/api/tasks/{task}/annotations/",
        json={
            "result": [
                {
                    "from_name": "shape",
                    "to_name": "image",
                    "type": "choices",
                    "value": {"choices": [SHAPES[0]]},
                }
            ]
        },
    )
    tried = trial(backend, client, project, SOME_SHAPES)
    assert tried.refusal
    assert "{" not in tried.refusal
    assert SHAPES[0] in tried.refusal, "it names the label that an annotation has"
    with pytest.raises(ConfigError, match="Label Studio does not take the label config: ") as refused:
        save_label_config(backend.settings, project, SOME_SHAPES, instead_of=digest_of(SHAPES_CONFIG))
    assert tried.refusal in str(refused.value)
    assert label_studio.project(project)["label_config"] == SHAPES_CONFIG


def test_two_people_who_save_do_not_overwrite_each_other(
    label_studio: LabelStudio, backend: Stack, client: Client
) -> None:
    project = label_studio.make_project()
    outcomes: list[str] = []

    def save(label_config: str) -> None:
        try:
            save_label_config(backend.settings, project, label_config, instead_of=digest_of(SHAPES_CONFIG))
            outcomes.append("saved")
        except ConfigError as error:
            outcomes.append(str(error))

    for label_config in (COLOURS_CONFIG, SOME_SHAPES):
        thread = threading.Thread(target=save, args=(label_config,))
        thread.start()
        thread.join()
    assert outcomes[0] == "saved"
    assert "has been changed since" in outcomes[1]
    assert label_studio.project(project)["label_config"] == COLOURS_CONFIG
