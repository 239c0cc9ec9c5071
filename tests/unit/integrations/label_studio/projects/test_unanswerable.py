"""A project that asks what its model cannot answer: nothing is written and no prediction is removed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from prelabel.integrations.label_studio.api.connection import LabelStudioAPI
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.connect import connect
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.registration import Step
from prelabel.integrations.label_studio.projects.scan import Scanner
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.schemas import ConfigError, WorkerInfo, model_version
from prelabel.worker.model.colour import colour_card

OWN, CLIP = "siglip@12345678", "clip@12345678"
SINGLE = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
MULTIPLE = SINGLE.replace("<Choices", '<Choices choice="multiple"')
REFUSED = f"cls may have several labels, and the scores of {CLIP}"


@pytest.fixture(autouse=True)
def _served(client) -> None:
    fleet = Fleet(client.connection.redis)
    for model, head in ((OWN, "sigmoid"), (CLIP, "softmax")):
        card = colour_card(model).model_copy(update={"head": head})
        fleet.beat(WorkerInfo(name=f"of {model}", model=model, device="cpu", dtype="float32", card=card))


@pytest.fixture
def run(label_studio, settings, client) -> Callable[..., list[Step]]:
    def run(model: str, chosen: str | None = None) -> list[Step]:
        url = "http://prelabel:9090"
        return connect(settings(), project=1, backend_url=url, model=model, client=client, chosen=chosen)

    return run


@pytest.fixture
def scanner(settings, client) -> Iterator[Scanner]:
    """Its adapter's model cannot answer a multiple choice."""
    Projects(client).add(1)
    with closing(LabelStudioAPI(settings())) as api:
        yield Scanner(api, client, Projects(client), CLIP)


class TestConnect:
    @pytest.mark.parametrize(("model", "chosen"), [(OWN, CLIP), (CLIP, None), (CLIP, "")])
    def test_it_is_refused_before_anything_is_written(self, label_studio, run, client, model, chosen) -> None:
        label_studio.add_project(1, MULTIPLE, tasks=[1])
        last = run(model, chosen)[-1]
        assert (last.name, last.status) == ("project", "failed")
        assert REFUSED in last.detail
        assert (label_studio.backends, label_studio.webhooks, client.jobs()) == ([], [], [])
        assert Projects(client).model_of(1, "none") == "none"

    def test_what_the_model_that_is_to_score_can_answer_is_not(self, label_studio, run) -> None:
        label_studio.add_project(1, SINGLE)
        assert "failed" not in {step.status for step in run(OWN, CLIP)}
        label_studio.projects[1]["label_config"] = MULTIPLE
        assert "failed" not in {step.status for step in run(CLIP, OWN)}

    def test_of_a_model_that_nobody_serves_nothing_is_known(self, label_studio, run) -> None:
        label_studio.add_project(1, MULTIPLE)
        assert "failed" not in {step.status for step in run("other-clip@1")}


class TestPredictions:
    @pytest.fixture
    def version(self, label_studio) -> str:
        """Task 1 has our prediction of a multiple choice."""
        label_studio.add_project(1, MULTIPLE, tasks=[1])
        version = model_version(CLIP, LabelConfig.parse(MULTIPLE).to_controls())
        label_studio.predictions.append({"task": 1, "result": [], "score": 0.5, "model_version": version})
        return version

    def test_they_stay_where_they_could_not_be_made_again(self, label_studio, scanner, client, version) -> None:
        with pytest.raises(ConfigError, match=REFUSED):
            scanner.replace(1, [1])
        assert [one["model_version"] for one in label_studio.predictions] == [version]
        assert client.jobs() == []

    @pytest.mark.usefixtures("version")
    def test_so_they_do_where_a_task_shows_another_image(self, label_studio, scanner, client) -> None:
        scanner.again(1, [1])  # remembers what image it is of
        label_studio.tasks[1]["data"] = {"image": "https://e.org/other.jpg"}
        with pytest.raises(ConfigError, match=REFUSED):
            scanner.again(1, [1])
        assert not [request for request in label_studio.calls if request[0] == "DELETE"]
        assert client.jobs() == []
