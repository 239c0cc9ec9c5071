"""The names of queues."""

from __future__ import annotations

import pytest

from prelabel.schemas import Control, JobSpec, Priority, Taxonomy
from prelabel.schemas.queues import QUEUES, is_queue, queue_of

CONTROLS = (Control(taxonomy=Taxonomy.flat(["cat"])),)


def test_a_job_that_names_no_model_is_on_the_plain_queue_of_its_priority() -> None:
    assert [JobSpec(controls=CONTROLS, priority=one).queue for one in Priority] == ["interactive", "bulk"]


@pytest.mark.parametrize("model", ["google/siglip-base-patch16-224@7fd15f0a", "checkpoint@main", "a:b@c"])
def test_a_job_that_names_one_is_on_that_model_s(model) -> None:
    spec = JobSpec(controls=CONTROLS, priority=Priority.INTERACTIVE, model=model)
    assert spec.queue == queue_of("interactive", model) == f"interactive:{model}"
    assert is_queue(spec.queue)


def test_the_queues_celery_keeps_for_itself_are_not_ours() -> None:
    assert all(map(is_queue, QUEUES))
    assert not any(map(is_queue, ["celery@host.celery.pidbox", "bulky", "celeryev.1", "push:x"]))
