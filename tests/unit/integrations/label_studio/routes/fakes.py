"""A client whose jobs are in memory, and what the adapter asks and answers with it."""

import threading

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.ledger.jobs import JobStore
from prelabel.schemas import Answer, JobState, Prediction, model_version
from prelabel.schemas.progress import QueueState

MODEL = "siglip@12345678"
XML = (
    '<View><Image name="img" value="$image"/><Choices name="cls" toName="img" choice="single">'
    '<Choice value="Cat"/><Choice value="Dog"/></Choices></View>'
)
VERSION = model_version(MODEL, LabelConfig.parse(XML).to_controls())
RESULT = [{"from_name": "cls", "to_name": "img", "type": "choices", "value": {"choices": ["Cat"]}, "score": 0.9}]
READY = [{"result": RESULT, "score": 0.9, "model_version": VERSION}]


class FakeJob:
    def __init__(self, client, call):
        self.client, self.call, self.delivered = client, call, None
        self.id = f"job{len(client.jobs) + 1}"

    def results(self, timeout=None):
        if self.client.gate:
            self.client.entered.set()
            self.client.gate.wait(5)
        for ordinal, item in enumerate(self.call["items"]):
            made = self.client.answer(ordinal, item)
            if made is not None:
                yield Prediction(item=item, ordinal=ordinal, model_version=VERSION, **made)
            else:
                raise TimeoutError

    def release_push(self, delivered):
        self.delivered = list(delivered)


class Store(JobStore):
    """Jobs in memory never end."""

    def state(self, job_id):
        return JobState.RUNNING


class FakeClient:
    """Jobs in memory, answered "Cat" to everything unless told otherwise; what else is in Redis is in a real one."""

    def __init__(self, settings):
        self.settings = settings
        self.connection = self
        self.redis = connect_redis(settings)
        self.store = Store(self.redis, settings.job_ttl_s)
        self.jobs = []
        self.error = None
        self.gate = None
        self.entered = threading.Event()

    @staticmethod
    def answer(ordinal, item):
        return {"answers": (Answer(control="cls", rule="softmax", paths=(("Cat",),), confidence=0.9),)}

    def submit(self, items, controls, **options):
        if self.error:
            raise self.error
        job = FakeJob(self, {"items": list(items), "controls": controls, **options})
        self.jobs.append(job)
        return job

    def queues(self):
        return self.patiently(lambda: {"interactive": 1, "bulk": 7})

    def patiently(self, call, **_):
        if self.error:
            raise self.error
        return call()

    def queue_states(self):
        return {queue: QueueState(depth, 2.5 * depth) for queue, depth in self.queues().items()}

    def workers(self):
        return ["one"]


def tasks(*ids):
    return [{"id": number, "data": {"image": f"https://e.org/{number}.jpg"}} for number in ids]


def ask(http, found, xml=XML, project="1.2"):
    response = http.post("/predict", json={"tasks": found, "project": project, "label_config": xml})
    assert response.status_code == 200
    return response.json()["results"]
