"""A question that a served model cannot answer is refused, or given to one that can, before an image is queued."""

from __future__ import annotations

import pytest

from prelabel.integrations.ledger.fleet import Fleet
from prelabel.schemas import ConfigError, Taxonomy, WorkerInfo
from prelabel.worker.model.colour import colour_card

ONE = Taxonomy.flat(["cat", "dog"])
SEVERAL = Taxonomy.flat(["cat", "dog"], "multiple")


def beat(client, name: str, model: str, head: str | None) -> None:
    card = None if head is None else colour_card(model).model_copy(update={"head": head})
    Fleet(client.connection.redis).beat(WorkerInfo(name=name, model=model, device="cpu", dtype="float32", card=card))


def test_what_the_only_model_cannot_answer_is_refused_at_once(client) -> None:
    beat(client, "a", "clip@1", "softmax")
    with pytest.raises(ConfigError, match=r"label may have several labels, and the scores of clip@1"):
        client.submit(["a.jpg"], SEVERAL)
    assert client.jobs() == []
    assert client.submit(["a.jpg"], ONE).spec().model is None


def test_of_several_models_one_that_can_answer_is_taken(client) -> None:
    beat(client, "a", "clip@1", "softmax")
    beat(client, "b", "siglip@1", "sigmoid")
    for name in ("c", "d"):
        beat(client, name, "siglip2@1", "sigmoid")
    assert client.submit(["a.jpg"], SEVERAL).spec().model == "siglip2@1"
    assert client.submit(["a.jpg"], SEVERAL, model="siglip@1").spec().model == "siglip@1"
    with pytest.raises(ConfigError, match=r"the scores of clip@1"):
        client.submit(["a.jpg"], SEVERAL, model="clip@1")


def test_no_job_is_given_the_model_of_a_worker_of_an_earlier_release(client) -> None:
    beat(client, "a", "clip@1", "softmax")
    beat(client, "b", "earlier@1", None)
    with pytest.raises(ConfigError, match=r"the scores of clip@1"):
        client.submit(["a.jpg"], SEVERAL)
    beat(client, "c", "siglip@1", "sigmoid")
    assert client.submit(["a.jpg"], SEVERAL).spec().model == "siglip@1"


@pytest.mark.parametrize("head", ["sigmoid", None])
def test_where_every_model_can_answer_or_none_is_known_nothing_is_changed(client, head) -> None:
    assert client.submit(["a.jpg"], SEVERAL).spec().model is None  # nobody is there yet
    beat(client, "a", "some@1", head)
    assert client.submit(["a.jpg"], SEVERAL).spec().model is None
    assert client.submit(["a.jpg"], SEVERAL, model="away@1").spec().model == "away@1"
