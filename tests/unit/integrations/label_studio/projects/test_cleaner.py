"""What is outdated is removed, a slice at a time, when nobody waits for anything else."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects import at_once, prune
from prelabel.integrations.label_studio.projects import cleaner as module
from prelabel.integrations.label_studio.projects.cleaner import Cleaner
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.scan import Scanner
from prelabel.schemas import Taxonomy, model_version
from prelabel.schemas.jobs import PushTarget

MODEL = "siglip@12345678"
XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
VERSION = model_version(MODEL, LabelConfig.parse(XML).to_controls())
OLD = f"{MODEL}+tax.000000"


@pytest.fixture
def projects(client) -> Projects:
    made = Projects(client)
    made.add(1, version=VERSION, prune=True)
    return made


@pytest.fixture
def make(settings, client, projects):
    made = []

    def build(pause=lambda _: False) -> Cleaner:
        made.append(Cleaner(settings(), client, projects, MODEL, pause))
        return made[-1]

    yield build
    for one in made:
        one.stop()


def stored(task: int, version: str) -> dict:
    return {"task": task, "result": [], "score": 0.5, "model_version": version}


def clean(cleaner: Cleaner) -> int:
    """Until nothing is left; the slices it took."""
    slices = 1
    while cleaner.turn():
        slices += 1
    return slices


@pytest.fixture
def backend(label_studio, projects):
    """Adds an ML backend to the project, and says that it is ours."""

    def add(url: str = "http://a", title: str = VERSION) -> None:
        label_studio.backends.append({"id": 1, "project": 1, "url": url, "title": title, "state": "CO"})
        projects.update(1, backend_url="http://a", title=title)

    return add


AT_ONCE = pytest.mark.parametrize("most", [1000, 0], ids=["at once", "singly"])


@AT_ONCE
def test_old_predictions_go_where_there_is_a_new_one(
    label_studio, make, projects, backend, monkeypatch, most: int
) -> None:
    monkeypatch.setattr(at_once, "MOST", most)
    backend()
    label_studio.add_project(1, XML, tasks=range(1, 301), model_version=VERSION)
    label_studio.predictions += [stored(task, OLD) for task in range(1, 301)]
    label_studio.predictions += [stored(task, VERSION) for task in range(1, 301)]
    label_studio.predictions += [stored(task, "somebody else's") for task in range(1, 6)]
    clean(make())
    assert Counter(one["model_version"] for one in label_studio.predictions) == {VERSION: 300, "somebody else's": 5}
    assert not projects.state(1).prune
    assert len(label_studio.calls_to("DELETE", "/api/projects/1/model-versions")) == bool(most)
    assert label_studio.projects[1]["model_version"] == VERSION, "though Label Studio forgets what it shows"
    assert [one["title"] for one in label_studio.backends] == [VERSION]


def test_a_version_is_removed_singly_where_label_studio_would_forget_what_people_chose(
    label_studio, make, backend
) -> None:
    label_studio.add_project(1, XML, tasks=[1, 2], model_version="another model")
    label_studio.predictions += [stored(task, version) for task in (1, 2) for version in (OLD, VERSION)]
    backend(url="http://elsewhere", title="another model")
    clean(make())
    assert label_studio.projects[1]["model_version"] == "another model"
    assert {one["model_version"] for one in label_studio.predictions} == {VERSION}


def test_a_title_that_was_left_in_the_middle_is_put_right_by_the_next_look(
    label_studio, settings, client, make, projects, backend
) -> None:
    label_studio.add_project(1, XML, tasks=[1], model_version=VERSION)
    label_studio.predictions += [stored(1, OLD), stored(1, VERSION)]
    backend()
    label_studio.trouble = lambda method, path: 503 if method == "DELETE" else None
    make().turn()
    label_studio.trouble = lambda method, path: 503 if method == "PATCH" and path == "/api/ml/1" else None
    label_studio.backends[0]["title"] = f"{VERSION} (removing earlier predictions)"
    make().turn()
    label_studio.trouble = None
    with closing(LabelStudioAPI(settings())) as api:
        Scanner(api, client, projects, MODEL).look(1)
    assert [one["title"] for one in label_studio.backends] == [VERSION]
    assert label_studio.projects[1]["model_version"] == VERSION


def test_a_task_keeps_its_old_prediction_while_it_has_no_other(label_studio, make) -> None:
    label_studio.add_project(1, XML, tasks=[1, 2, 3])
    label_studio.predictions += [stored(1, OLD), stored(2, OLD), stored(1, VERSION), stored(3, VERSION)]
    clean(make())
    assert {(one["task"], one["model_version"]) for one in label_studio.predictions} == {
        (1, VERSION),
        (2, OLD),
        (3, VERSION),
    }


@AT_ONCE
def test_predictions_of_a_calibrated_version_are_ours_and_go_where_there_is_a_new_one(
    label_studio, settings, client, make, projects, monkeypatch, most: int
) -> None:
    monkeypatch.setattr(at_once, "MOST", most)
    label_studio.add_project(1, XML, tasks=[1, 2], model_version=f"{OLD}+cal.abcdef")
    label_studio.predictions += [stored(task, f"{OLD}+cal.abcdef") for task in (1, 2)]
    label_studio.predictions += [stored(task, VERSION) for task in (1, 2)]
    projects.update(1, backend_url="http://a")
    api = LabelStudioAPI(settings())
    Scanner(api, client, projects, MODEL).look(1)
    api.close()
    clean(make())
    assert {one["model_version"] for one in label_studio.predictions} == {VERSION}
    assert label_studio.projects[1]["model_version"] == VERSION


def test_a_prediction_of_a_calibrated_version_stays_where_there_is_none_of_the_version_its_text_begins_with(
    label_studio, make
) -> None:
    calibrated = f"{VERSION}+cal.abcdef"
    label_studio.add_project(1, XML, tasks=[1, 2], model_version=VERSION)
    label_studio.predictions += [stored(1, calibrated), stored(2, calibrated), stored(2, VERSION)]
    clean(make())
    assert {(one["task"], one["model_version"]) for one in label_studio.predictions} == {(1, calibrated), (2, VERSION)}


def test_a_slice_is_bounded_and_another_goes_on(label_studio, make, projects, monkeypatch) -> None:
    monkeypatch.setattr(at_once, "MOST", 0)
    monkeypatch.setattr(module, "prune", lambda *args, **kwargs: prune.prune(*args, for_s=0, **kwargs))
    label_studio.add_project(1, XML, tasks=range(1, 4), model_version=VERSION)
    label_studio.predictions += [stored(task, version) for task in range(1, 4) for version in (OLD, VERSION)]
    cleaner = make()
    assert cleaner.turn()
    assert Counter(one["model_version"] for one in label_studio.predictions) == {VERSION: 3, OLD: 2}
    assert projects.state(1).prune
    assert clean(cleaner) == 3
    assert Counter(one["model_version"] for one in label_studio.predictions) == {VERSION: 3}


@pytest.mark.parametrize("waits", ["a look", "a push"])
def test_what_others_wait_for_goes_first_and_not_for_ever(
    label_studio, client: Client, make, projects, waits: str
) -> None:
    label_studio.add_project(1, XML, tasks=[1], model_version=VERSION)
    label_studio.predictions += [stored(1, OLD), stored(1, VERSION)]
    if waits == "a look":
        projects.hint(2)
    else:
        client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat"]), push=PushTarget(project=2, label_config=XML))
    seen: list[int] = []
    cleaner = make(lambda _: bool(seen.append(len(label_studio.predictions))))
    cleaner.turn()
    assert seen == [2] * len(seen)
    assert len(seen) >= module.GIVE_WAY_S / 0.2, "as long as it waits"
    assert len(label_studio.predictions) == 1, "and then all the same"


def test_a_slice_ends_when_somebody_begins_to_wait(label_studio, make, projects, monkeypatch) -> None:
    def somebody_comes(*args, **kwargs):
        projects.hint(2)
        return prune.prune(*args, **kwargs)

    monkeypatch.setattr(at_once, "MOST", 0)
    monkeypatch.setattr(module, "prune", somebody_comes)
    label_studio.add_project(1, XML, tasks=range(1, 4), model_version=VERSION)
    label_studio.predictions += [stored(task, version) for task in range(1, 4) for version in (OLD, VERSION)]
    cleaner = make()
    assert cleaner.turn(), "some are left"
    assert Counter(one["model_version"] for one in label_studio.predictions) == {VERSION: 3, OLD: 2}
    assert not cleaner.turn()
    assert Counter(one["model_version"] for one in label_studio.predictions) == {VERSION: 3}, "who waits on, in vain"


def test_nothing_is_removed_while_the_projects_own_job_is_under_way(label_studio, client, make, projects) -> None:
    label_studio.add_project(1, XML, tasks=[1], model_version=VERSION)
    label_studio.predictions += [stored(1, OLD), stored(1, VERSION)]
    job = client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat"]))
    projects.add_job(1, job.id)
    assert not make().turn()
    assert len(label_studio.predictions) == 2


def test_nothing_is_removed_while_an_earlier_version_is_shown(label_studio, make, projects) -> None:
    label_studio.add_project(1, XML, tasks=[1, 2], model_version=OLD)
    label_studio.predictions += [stored(1, OLD), stored(2, OLD), stored(1, VERSION), stored(2, VERSION)]
    projects.update(1, backend_url="http://a")
    make().turn()
    assert len(label_studio.predictions) == 4, "for a moment the project would show nothing"
    label_studio.projects[1]["model_version"] = "somebody else's"
    make().turn()
    assert {one["model_version"] for one in label_studio.predictions} == {VERSION}


def test_what_a_label_config_that_came_back_asks_for_is_not_removed(label_studio, make) -> None:
    label_studio.add_project(1, XML.replace("Dog", "Wolf"), tasks=[1], model_version=VERSION)
    label_studio.predictions += [stored(1, OLD), stored(1, VERSION)]
    assert not make().turn()
    assert len(label_studio.predictions) == 2, "a look must see the config first"


def test_a_label_config_that_changes_in_the_middle_has_all_tasks_looked_through(
    label_studio, make, projects, monkeypatch
) -> None:
    label_studio.add_project(1, XML, tasks=[1], model_version=VERSION)
    projects.update(1, looked=1e12)

    def change(*_: object, **__: object) -> bool:
        label_studio.projects[1]["label_config"] = XML.replace("Dog", "Wolf")
        return False

    monkeypatch.setattr(module, "prune", change)
    make().turn()
    assert projects.state(1).looked == 0
    assert projects.state(1).prune, "what is outdated now is another question"
    assert projects.take_turn(1e12).project == 1


def test_one_projects_error_leaves_the_others_their_turns(label_studio, make, projects) -> None:
    for number in (1, 2):
        label_studio.add_project(number, XML, tasks=[number], model_version=VERSION)
        label_studio.predictions += [stored(number, OLD), stored(number, VERSION)]
    projects.add(2, version=VERSION, prune=True)
    label_studio.projects[1]["label_config"] = 7
    make().turn()
    assert Counter((one["task"], one["model_version"]) for one in label_studio.predictions)[2, OLD] == 0


def test_old_predictions_stay_when_told_so(label_studio, settings, client, projects) -> None:
    label_studio.add_project(1, XML, tasks=[1], model_version=VERSION)
    label_studio.predictions += [stored(1, OLD), stored(1, VERSION)]
    cleaner = Cleaner(settings(old_predictions="keep"), client, projects, MODEL)
    assert not cleaner.turn()
    cleaner.stop()
    assert len(label_studio.predictions) == 2
