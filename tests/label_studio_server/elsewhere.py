"""A job of a project that another worker has in hand for as long as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.convert.questions import LabelConfigReader, Unusable
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger.leases import ChunkRef, Lease, Ledger
from prelabel.schemas import ImageRef, Item, JobSpec, PushTarget
from prelabel.schemas.chunks import Chunk


def at_work_elsewhere(client: Client, project: int, label_config: str, tasks: Sequence[int]) -> str:
    """A job that has these tasks, all of them leased to a worker that says nothing for two minutes; returns its id."""
    model = settings_model_id(client.settings)
    questions = LabelConfigReader(model).read(label_config)
    assert not isinstance(questions, Unusable)
    job_id = f"elsewhere{project}"
    push = PushTarget(project=project, label_config=label_config)
    store = client.connection.store
    store.create(job_id, JobSpec(controls=questions.controls, model=model, push=push, name="another worker's"))
    items = tuple(Item(id=str(task), images=(ImageRef(uri="https://e.org/slow.jpg"),)) for task in tasks)
    assert store.add_chunks(job_id, 0, [Chunk(items=items)])
    another = Ledger(client.connection.redis, owner="another worker", lease_s=120, ttl_s=600)
    assert isinstance(another.claim(ChunkRef(job_id=job_id, chunk=0)), Lease)
    store.seal(job_id)
    Projects(client).add_job(project, job_id)
    return job_id
