"""How many messages wait to be pushed while Label Studio is away: few, however much is scored meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prelabel.integrations import Client, Job
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import ImageRef, Item, PushTarget
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.running.stack import Stack, local_stack
from tests.conftest import eventually
from tests.label_studio import LEGACY, LabelStudio, running

XML = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="red"/></Choices></View>'
IMAGES = 10_000
JOBS = 4
"""More than a worker pushes at a time: two of them wait on their queue all the while."""


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    """A Label Studio that is down."""
    with running() as state:
        state.add_project(1, XML)
        state.trouble = lambda method, path: 503
        yield state


@pytest.fixture
def stack(tmp_path: Path, label_studio: LabelStudio, pictures_dir: Path) -> Iterator[Stack]:
    """A broker and a worker that pushes to that Label Studio."""
    settings = load_settings(
        model=str(CHECKPOINT),
        image_roots=(pictures_dir,),
        label_studio_url=label_studio.url,
        label_studio_api_key=LEGACY,
        vector_store_dir=tmp_path / "vectors",
        grace_s=5,
    )
    with local_stack(settings, tmp_path, adapter=False, embedded=True, broker_port=0) as made:
        made.wait_until_ready(timeout_s=120)
        yield made


@pytest.mark.slow
def test_ten_thousand_images_scored_while_label_studio_is_down_leave_a_message_or_two_a_job(
    stack: Stack, label_studio: LabelStudio, photo: Path
) -> None:
    client = stack.client()
    jobs = [submit(client, range(start, IMAGES, JOBS), photo) for start in range(JOBS)]
    waiting = []

    def scored() -> bool:
        stack.check()
        waiting.append(client.queues()["push"])
        return all(job.progress().state.ended for job in jobs)

    eventually(scored, timeout_s=300)
    assert sum(job.progress().done for job in jobs) == IMAGES
    assert label_studio.calls, "it was tried"
    assert max(waiting) <= 2 * JOBS


def submit(client: Client, numbers: range, photo: Path) -> Job:
    items = (Item(id=str(number), images=(ImageRef(uri=str(photo)),)) for number in numbers)
    return client.submit(items, LabelConfig.parse(XML).to_controls(), push=PushTarget(project=1, label_config=XML))
