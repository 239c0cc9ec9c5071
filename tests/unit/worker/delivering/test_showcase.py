"""The sample of predictions that people see."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from prelabel.integrations.broker.connection import connect_redis
from prelabel.schemas import Answer, Item, JobSpec, Outcome, PushTarget, Taxonomy
from prelabel.schemas.jobs import Control
from prelabel.schemas.settings import load_settings
from prelabel.worker.delivering.showcase import BURST, SIZE_PX, Exhibit, Showcase

SPEC = JobSpec(controls=(Control(taxonomy=Taxonomy.flat(["cat"])),), push=PushTarget(project=7, label_config="<View/>"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def showcase(client, settings, clock):
    return Showcase(connect_redis(settings), clock)


def scored(number: int = 1, thumbnail: str = "", **changes) -> Exhibit:
    answer = Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.75)
    outcome = Outcome(**{"model_version": "m", "answers": (answer,), **changes})
    item = Item.of(f"https://u:s3cret@e.org/{number}.jpg").model_copy(update={"id": str(number)})
    return Exhibit(item, lambda: outcome, thumbnail)


@pytest.mark.parametrize("shape", [(1080, 1920, 3), (512, 512, 3), (3, 2000, 3), (1, 1, 3)])
def test_a_thumbnail_is_a_small_jpeg_of_the_image(showcase, shape) -> None:
    pixels = np.zeros(shape, np.uint8)
    pixels[:, :, 0] = 200
    with Image.open(io.BytesIO(base64.b64decode(showcase.thumbnail(pixels)))) as image:
        assert image.format == "JPEG"
        assert image.width <= SIZE_PX[0]
        assert image.height <= SIZE_PX[1]
        red, green, _ = image.getpixel((0, 0))
        assert red > 150
        assert green < 60


def test_a_dozen_at_once_then_one_a_second(showcase, clock) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    assert sum(bool(showcase.thumbnail(pixels)) for _ in range(50)) == BURST
    clock.now += 1.0
    assert [bool(showcase.thumbnail(pixels)) for _ in range(2)] == [True, False]
    clock.now += 3600.0
    assert sum(bool(showcase.thumbnail(pixels)) for _ in range(50)) == BURST


def test_what_is_shown_says_what_was_answered_and_holds_no_secret(showcase, client) -> None:
    showcase.show("job1", SPEC, [scored(1), scored(2, "anBlZw==")])
    (shown,) = client.recent()
    assert (shown.job_id, shown.item_id, shown.project) == ("job1", "2", 7)
    assert (shown.paths, shown.confidence, shown.thumbnail) == ((("cat",),), 0.75, "anBlZw==")
    assert shown.image == "https://e.org/2.jpg"


def test_images_that_were_not_read_are_shown_without_a_picture_but_seldom(showcase, client, clock) -> None:
    for number in range(5):
        showcase.show("job1", SPEC, [scored(number)])
    assert [one.item_id for one in client.recent()] == ["0"]
    clock.now += 1.0
    showcase.show("job1", SPEC, [scored(9)])
    assert [one.item_id for one in client.recent()] == ["9", "0"]


def test_what_only_its_submitter_looks_at_is_not_shown(showcase, client) -> None:
    showcase.show("job1", SPEC.model_copy(update={"keep_s": 60}), [scored(1, "anBlZw==")])
    assert client.recent() == []
    showcase.show("job1", SPEC, [scored(1, "anBlZw==")])
    assert len(client.recent()) == 1


def test_a_redis_that_is_away_harms_nobody(caplog) -> None:
    caplog.set_level("DEBUG", "prelabel.worker.delivering.showcase")
    away = Showcase(connect_redis(load_settings(redis_url="redis://127.0.0.1:1/0")))
    away.show("job1", SPEC, [scored(1, "anBlZw==")])
    assert "nothing shown" in caplog.text, "it was not even tried"
