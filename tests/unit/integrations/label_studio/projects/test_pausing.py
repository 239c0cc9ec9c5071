"""A project that is paused loses no task, whatever happens meanwhile."""

from __future__ import annotations

import pytest

from prelabel.integrations import Client
from prelabel.integrations.client.job import Job
from prelabel.integrations.label_studio.projects.pausing import HeldBack, pause
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import BrokerUnavailable, Item, PushTarget, Taxonomy
from prelabel.schemas.items import ImageRef


def test_what_waits_is_remembered_before_its_job_is_cancelled(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Item(id=str(number), images=(ImageRef(uri="s3://b/a.jpg"),)) for number in (1, 2, 3)]
    job = client.submit(items, Taxonomy.flat(["cat"]), push=PushTarget(project=7, label_config="<View/>"))
    projects = Projects(client)
    projects.add(7)
    projects.add_job(7, job.id)
    cancel = Job.cancel

    def dies(self: Job) -> bool:
        cancel(self)
        raise BrokerUnavailable("Redis went away")

    monkeypatch.setattr(Job, "cancel", dies)
    with pytest.raises(BrokerUnavailable):
        pause(client, 7)
    assert HeldBack(client).numbers(7) == [3, 2, 1]
