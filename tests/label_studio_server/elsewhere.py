"""A job of a project that another worker has in hand for as long as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.label_studio.convert.questions import LabelConfigReader, Unusable
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger.leases import ChunkRef, Lease, Ledger
from prelabel.schemas import ImageRef, Item, JobSpec, PushTarget
from prelabel.schemas.chunks import Chunk


@contextmanager
def at_work_elsewhere(client: Client, project: int, label_config: str, tasks: Sequence[int]) -> Iterator[str]:
    """A job that has these tasks, all of them leased to another worker until the block ends; yields its id."""
    model = settings_model_id(client.settings)
    questions = LabelConfigReader(model).read(label_config)
    assert not isinstance(questions, Unusable)
    job_id = f"elsewhere{project}"
    push = PushTarget(project=project, label_config=label_config)
    store = client.connection.store
    store.create(job_id, JobSpec(controls=questions.controls, model=model, push=push, name="another worker's"))
    items = tuple(Item(id=str(task), images=(ImageRef(uri="https://e.org/slow.jpg"),)) for task in tasks)
    assert store.add_chunks(job_id, 0, [Chunk(items=items)])
    another = Ledger(client.connection.redis, owner="another worker", lease_s=15, ttl_s=600)
    lease = another.claim(ChunkRef(job_id=job_id, chunk=0))
    assert isinstance(lease, Lease)
    store.seal(job_id)
    Projects(client).add_job(project, job_id)
    over = threading.Event()

    def work() -> None:
        while not over.wait(1):
            another.renew(lease)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield job_id
    finally:
        over.set()
        thread.join()
        store.cancel(job_id)
