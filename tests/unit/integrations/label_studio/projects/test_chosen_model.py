"""A project that has chosen its model: what it is scored with, what it shows, and what a change of mind comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from prelabel.integrations.client.workers import served_model
from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.convert.questions import LabelConfigReader
from prelabel.integrations.label_studio.deliver.push import Pusher
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.adoption import Adoption
from prelabel.integrations.label_studio.projects.chosen import chosen_model
from prelabel.integrations.label_studio.projects.cleaner import Cleaner
from prelabel.integrations.label_studio.projects.connect import connect
from prelabel.integrations.label_studio.projects.overview import overview
from prelabel.integrations.label_studio.projects.questions import ProjectReader
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.registration import Step
from prelabel.integrations.label_studio.projects.scan import Scanner
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.schemas import (
    Answer,
    BrokerUnavailable,
    ConfigError,
    ImageRef,
    Item,
    Prediction,
    PushTarget,
    WorkerInfo,
    model_version,
)
from prelabel.worker.model.colour import colour_card

OWN, CHOSEN = "siglip@12345678", "org/fine@abcdef12"
URL = "http://prelabel:9090"
XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
CONTROLS = LabelConfig.parse(XML).to_controls()
BY_OWN, BY_CHOSEN = model_version(OWN, CONTROLS), model_version(CHOSEN, CONTROLS)


@pytest.fixture
def projects(client) -> Projects:
    return Projects(client)


@pytest.fixture
def run(label_studio, settings, client) -> Callable[..., dict[str, Step]]:
    """Connects project 1; the steps by name."""

    def run(chosen: str | None = None, **options: bool) -> dict[str, Step]:
        steps = connect(settings(), project=1, backend_url=URL, model=OWN, client=client, chosen=chosen, **options)
        return {step.name: step for step in steps}

    return run


@pytest.fixture
def scanner(settings, client, projects) -> Iterator[Scanner]:
    with closing(LabelStudioAPI(settings())) as api:
        yield Scanner(api, client, projects, OWN)


def stored(task: int, version: str) -> dict:
    return {"task": task, "result": [], "score": 0.5, "model_version": version}


def asked(client) -> list[tuple[str | None, list[int]]]:
    """The model and the tasks of each job, the oldest first."""
    jobs = [client.job(progress.job_id) for progress in reversed(client.jobs())]
    items = client.connection.store.items
    return [(job.spec().model, [int(item.id) for item in items(job.id, range(job.progress().total))]) for job in jobs]


def finish(client, projects) -> None:
    """As if all jobs had ended and pushed."""
    for job_id in projects.working(1):
        client.job(job_id).cancel()
        client.connection.redis.srem("prelabel:push_pending", job_id)


class TestConnect:
    def test_a_project_is_scored_with_the_model_it_was_given(self, label_studio, run, client, projects) -> None:
        label_studio.add_project(1, XML, tasks=[1, 2])
        steps = run(CHOSEN, pre_label_all=True)
        assert steps["model"].detail == f"scored with {CHOSEN} from now on, and again where {OWN} has"
        assert f"no worker serves {CHOSEN}" in steps["image"].detail
        assert [backend["title"] for backend in label_studio.backends] == [BY_CHOSEN]
        assert asked(client) == [(CHOSEN, [2, 1])]
        assert projects.state(1).model == CHOSEN

    def test_it_keeps_it_until_it_is_given_another_or_the_adapter_s(self, label_studio, run, projects) -> None:
        label_studio.add_project(1, XML)
        assert "model" not in run(), "nothing is said where there was never a choice"
        run(CHOSEN)
        assert run()["model"] == Step("model", "ok", f"scored with {CHOSEN}")
        assert projects.state(1).model == CHOSEN
        assert run("")["model"].status == "changed"
        assert (projects.state(1).model, projects.model_of(1, OWN)) == ("", OWN)
        assert [backend["title"] for backend in label_studio.backends] == [BY_OWN]

    def test_what_was_chosen_is_there_when_label_studio_asks_for_the_version_of_its_new_backend(
        self, label_studio, run, client
    ) -> None:
        label_studio.add_project(1, XML)
        seen = []

        def look(method: str, path: str) -> None:
            if method == "POST" and path.startswith("/api/ml"):
                seen.append(chosen_model(client.connection.redis, 1))

        label_studio.trouble = look
        run(CHOSEN)
        assert seen == [CHOSEN]

    def test_a_backend_that_cannot_be_made_leaves_the_choice_as_it_was(self, label_studio, run, projects) -> None:
        label_studio.add_project(1, XML)
        label_studio.trouble = lambda method, path: 503 if method == "POST" and path.startswith("/api/ml") else None
        assert run(CHOSEN)["backend"].status == "failed"
        assert projects.model_of(1, OWN) == OWN


class TestAnotherModel:
    @pytest.fixture
    def scored(self, label_studio, run, scanner, client, projects) -> None:
        """All three tasks have the own model's predictions, and one of them an annotation."""
        label_studio.add_project(1, XML, tasks=[1, 2, 3])
        run(pre_label_all=True)
        finish(client, projects)
        label_studio.predictions += [stored(task, BY_OWN) for task in (1, 2, 3)]
        label_studio.tasks[2]["total_annotations"] = 1
        scanner.look(1)

    @pytest.mark.usefixtures("scored")
    def test_all_that_was_scored_is_scored_again_and_once(self, run, scanner, client, projects) -> None:
        run(CHOSEN)
        assert scanner.look(1).queued == 3
        assert asked(client)[-1] == (CHOSEN, [3, 1, 2])
        assert scanner.look(1).queued == 0

    @pytest.mark.usefixtures("scored")
    def test_what_is_labelled_is_left_alone_where_the_project_says_so(self, run, scanner, client) -> None:
        run(CHOSEN, unlabelled_only=True)
        scanner.look(1)
        assert asked(client)[-1] == (CHOSEN, [3, 1])

    @pytest.mark.usefixtures("scored")
    def test_the_project_shows_what_it_has_until_the_new_is_there_and_then_loses_the_old(
        self, label_studio, run, scanner, client, projects, settings
    ) -> None:
        run(CHOSEN)
        scanner.look(1)
        assert label_studio.projects[1]["model_version"] == BY_OWN
        finish(client, projects)
        label_studio.predictions += [stored(task, BY_CHOSEN) for task in (1, 2, 3)]
        scanner.look(1)
        assert label_studio.projects[1]["model_version"] == BY_CHOSEN
        cleaner = Cleaner(settings(), client, projects, OWN, lambda _: False)
        while cleaner.turn():
            pass
        cleaner.stop()
        assert {one["model_version"] for one in label_studio.predictions} == {BY_CHOSEN}

    @pytest.mark.usefixtures("scored")
    def test_a_late_prediction_of_the_model_before_does_not_bring_that_back(
        self, label_studio, run, settings, client
    ) -> None:
        run(CHOSEN)
        label_studio.projects[1]["model_version"] = BY_CHOSEN
        answers = (Answer(control="cls", rule="softmax", paths=(("Cat",),), confidence=0.9),)
        item = Item(id="1", images=(ImageRef(uri="https://e.org/1.jpg"),))
        late = Prediction(item=item, ordinal=0, model_version=BY_OWN, answers=answers)
        with Pusher(settings(), chosen=lambda one: chosen_model(client.connection.redis, one)) as pusher:
            assert pusher.push(PushTarget(project=1, label_config=XML), [late]).pushed == (0,)
        assert label_studio.projects[1]["model_version"] == BY_CHOSEN

    @pytest.mark.usefixtures("scored")
    def test_its_figures_are_those_of_its_model(self, run, client, projects) -> None:
        (before,) = overview(client, projects, [1], OWN)
        run(CHOSEN)
        (after,) = overview(client, projects, [1], OWN)
        assert (before.figures.version, after.figures.version) == (BY_OWN, BY_CHOSEN)


@pytest.mark.parametrize(("version", "mine"), [(BY_OWN, True), (BY_CHOSEN, True), ("other@1+tax.abcdef", False)])
def test_a_backend_of_either_model_is_ours(label_studio, settings, client, projects, version, mine) -> None:
    label_studio.add_project(1, XML)
    label_studio.backends.append(
        {"id": 1, "project": 1, "url": "http://moved", "title": version, "model_version": version, "state": "CO"}
    )
    projects.add(1, model=CHOSEN, backend_url=URL)
    with closing(LabelStudioAPI(settings())) as api:
        assert Adoption(api, settings(reconcile_s=0.001), client, projects, OWN).follows(1) is mine


class TestReading:
    def test_each_project_is_read_with_its_own_model(self, projects) -> None:
        projects.add(1, model=CHOSEN)
        reader = ProjectReader(projects, OWN)
        for _ in range(2):  # what is remembered of a label config is of one model
            assert [reader.read(one, XML).version for one in (1, 2, None)] == [BY_CHOSEN, BY_OWN, BY_OWN]
            assert [reader.read(one, "").version.partition("+")[0] for one in (1, 2)] == [CHOSEN, OWN]

    def test_what_is_asked_names_its_model(self) -> None:
        reader = LabelConfigReader(OWN)
        assert [reader.read(XML).model, reader.read(XML, CHOSEN).model] == [OWN, CHOSEN]

    def test_while_redis_is_away_the_model_it_named_last_counts_where_somebody_waits_for_an_answer(
        self, client, projects, monkeypatch
    ) -> None:
        projects.add(1, model=CHOSEN)
        reader = ProjectReader(projects, OWN)
        reader.read(1, XML)

        def away(*_: object, **__: object) -> str:
            raise BrokerUnavailable("Redis does not answer")

        monkeypatch.setattr(Projects, "model_of", away)
        assert [reader.read_at_once(one, XML).version for one in (1, 2)] == [BY_CHOSEN, BY_OWN]
        with pytest.raises(BrokerUnavailable):
            reader.read(1, XML)


class TestName:
    """The name on the command line."""

    @pytest.fixture
    def serve(self, client) -> Callable[..., None]:
        def serve(*models: str) -> None:
            for model in models:
                info = WorkerInfo(
                    name=f"of {model}", model=model, device="cpu", dtype="float32", card=colour_card(model)
                )
                Fleet(client.connection.redis).beat(info)

        return serve

    @pytest.mark.parametrize("name", [CHOSEN, "org/fine"])
    def test_an_id_or_a_name_that_one_model_has(self, client, serve, name) -> None:
        serve(OWN, CHOSEN)
        assert served_model(client.connection, name) == CHOSEN

    def test_two_revisions_have_to_be_told_apart(self, client, serve) -> None:
        serve(CHOSEN, "org/fine@00000000")
        with pytest.raises(ConfigError, match="several revisions of org/fine: say which, org/fine@00000000 or org"):
            served_model(client.connection, "org/fine")

    def test_one_nobody_serves_is_told_with_those_that_are(self, client, serve) -> None:
        with pytest.raises(ConfigError, match=r"no worker serves 'fine' \(none is running\): start one with it first"):
            served_model(client.connection, "fine")
        serve(OWN, CHOSEN)
        with pytest.raises(ConfigError, match=f"those running serve {CHOSEN}, {OWN}"):
            served_model(client.connection, "fine")
