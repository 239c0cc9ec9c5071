"""A chunk from its lease to its outcomes: a real pipeline on a real Redis, with an encoder that sees colours only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prelabel.integrations import Client, Job
from prelabel.schemas import Control, ImageRef, Item, JobState, Label, Options, Settings, Taxonomy
from prelabel.schemas.errors import ScorerError
from prelabel.worker.model.colour import colour_card
from prelabel.worker.vectors.keys import image_space, space_tag
from tests.unit.worker.chunks.workplace import Workplace, workplace

COLOURS = Taxonomy.flat(["red", "green", "blue"])


@pytest.fixture
def work(client: Client, settings: Settings, tmp_path: Path, disk) -> Iterator[Workplace]:
    with workplace(client, settings, tmp_path, disk()) as made:
        yield made


def picture(directory: Path, colour: str) -> str:
    path = directory / f"{colour}.png"
    Image.new("RGB", (8, 8), colour).save(path)
    return str(path)


class TestChunksThatCannotBeRead:
    SECRET = "https://h/a.jpg?X-Amz-Signature=hunter2"

    def test_their_items_fail_and_the_jobs_others_are_scored(self, work, tmp_path, caplog) -> None:
        caplog.set_level("DEBUG")
        job = work.client.submit([picture(tmp_path, "red")] * 66, COLOURS)
        written = work.client.connection.redis.hget(f"prelabel:{{{job.id}}}:chunks", "0").decode()
        work.replace_chunk(job, written.replace('"uri"', f'"url": "{self.SECRET}", "uri"', 1))
        work.run(job)
        found = {prediction.ordinal: prediction for prediction in job.results_so_far()}
        assert sorted(found) == list(range(66))
        assert {found[ordinal].error.kind for ordinal in range(64)} == {"ConfigError"}
        assert [found[ordinal].label for ordinal in (64, 65)] == ["red", "red"]
        assert "items.0.images.0" in found[0].error.message
        assert "hunter2" not in caplog.text + "".join(str(prediction.error) for prediction in found.values())

    @pytest.mark.parametrize("text", ['{"items": [{"im', "[]", '{"items": [{}], "ordinals": [-1]}'])
    def test_one_whose_items_cannot_be_told_is_closed_and_they_count_as_failed(self, work, tmp_path, text) -> None:
        job = work.client.submit([picture(tmp_path, "red")] * 66, COLOURS)
        work.replace_chunk(job, text)
        work.run(job)
        progress = job.wait(timeout=30)
        assert (progress.state, progress.done, progress.failed, progress.pending) == (JobState.DONE, 2, 64, 0)

    def test_one_that_is_not_there_any_more_is_closed_too(self, work, tmp_path) -> None:
        job = work.client.submit([picture(tmp_path, "red")], COLOURS)
        work.client.connection.redis.hdel(f"prelabel:{{{job.id}}}:chunks", "0")
        work.run(job)
        assert job.wait(timeout=30).failed == 1

    def test_they_count_no_death(self, work, tmp_path) -> None:
        job = work.client.submit([picture(tmp_path, "red")], COLOURS)
        work.replace_chunk(job, '{"items": [7]}')
        work.run(job)
        assert job.progress().quarantined == 0
        assert job.retry_failed() == 1  # as a chunk that names what is known of them
        work.run(job)
        assert [failure.error.kind for failure in job.failures()] == ["ItemError"]


class TestPostponing:
    def pause_s(self, work: Workplace, job: Job) -> float:
        """Seconds until the job's one waiting chunk is sent again."""
        redis = work.client.connection.redis
        ((_, due),) = redis.zrange(f"prelabel:{{{job.id}}}:open", 0, -1, withscores=True)
        return -due / 1000 - redis.time()[0]

    def test_a_store_that_asks_for_patience_gets_it_and_the_others_of_its_chunk_their_answers(
        self, work, tmp_path, server
    ) -> None:
        server.serve("/busy.png", lambda handler: server.answer(handler, 503, {"Retry-After": "120"}))
        job = work.client.submit([picture(tmp_path, "red"), server.url("/busy.png")], COLOURS)
        work.run(job)
        assert [prediction.label for prediction in job.results_so_far()] == ["red"]
        assert self.pause_s(work, job) >= 119

    def test_after_so_many_times_the_item_fails(self, work, server) -> None:
        server.serve("/gone.png", 503)
        job = work.client.submit([server.url("/gone.png")], COLOURS)
        assert work.run_until_done(job) == work.pipeline.tools.item_retries + 1
        assert [failure.error.kind for failure in job.failures()] == ["TransientError"]

    def test_what_a_person_waits_for_is_not_postponed(self, work, server) -> None:
        server.serve("/gone.png", 503)
        job = work.client.submit([server.url("/gone.png")], COLOURS, priority="interactive")
        work.run(job)
        assert job.wait(timeout=30).failed == 1


class TestMemory:
    OPEN = (Control(name="c", taxonomy=Taxonomy(labels=(), is_open=True)),)

    def item(self, uri: str, *labels: str) -> Item:
        options = {"c": Options(labels=tuple(Label(name=name) for name in labels))}
        return Item(id=f"{uri} {labels}", images=(ImageRef(uri=uri),), options=options)

    def test_labels_that_do_not_fit_postpone_the_items_that_bring_them_and_fail_them_in_the_end(
        self, work, tmp_path
    ) -> None:
        work.trouble.no_memory_for = {"novel"}
        red = picture(tmp_path, "red")
        job = work.client.submit([self.item(red, "red", "blue"), self.item(red, "red", "novel")], self.OPEN)
        work.run(job)
        assert [(one.ordinal, one.label) for one in job.results_so_far()] == [(0, "red")]
        assert work.waits(job) == 1
        assert work.run_until_done(job) == work.pipeline.tools.item_retries
        assert [(one.ordinal, one.error.kind) for one in job.failures()] == [(1, "OutOfMemory")]
        assert not work.stopped

    def test_labels_of_the_job_that_do_not_fit_postpone_its_chunks(self, work, tmp_path) -> None:
        work.trouble.no_memory_for = {"green"}
        job = work.client.submit([picture(tmp_path, "red")], COLOURS)
        work.run(job)
        assert list(job.results_so_far()) == []
        work.trouble.no_memory_for = set()
        assert work.run_until_done(job) == 1
        assert [one.label for one in job.results_so_far()] == ["red"]

    def test_labels_of_the_job_that_never_fit_fail_its_items_in_the_end(self, work, tmp_path) -> None:
        work.trouble.no_memory_for = {"green"}
        job = work.client.submit([picture(tmp_path, "red")], COLOURS)
        assert work.run_until_done(job) == work.pipeline.tools.item_retries + 1
        assert [one.error.kind for one in job.failures()] == ["OutOfMemory"]

    def test_an_image_that_does_not_fit_alone_is_postponed_alone(self, work, tmp_path) -> None:
        work.trouble.too_large = {"blue"}
        job = work.client.submit([picture(tmp_path, colour) for colour in ("red", "blue")], COLOURS)
        work.run(job)
        work.trouble.too_large = set()
        assert work.run_until_done(job) == 1
        assert sorted((one.ordinal, one.label) for one in job.results_so_far()) == [(0, "red"), (1, "blue")]

    def test_scoring_from_stored_vectors_postpones_as_well(self, work, tmp_path) -> None:
        red = picture(tmp_path, "red")
        fits, too_large = self.item(red, "red", "blue"), self.item(red, "red", "novel")
        first = work.client.submit([fits, too_large], self.OPEN)
        work.run_until_done(first)
        work.store.flush()
        work.trouble.no_memory_for = {"novel"}
        other_prompts = Taxonomy(labels=(), is_open=True, template="a drawing of {label}")
        job = work.client.rescore(first, [Control(name="c", taxonomy=other_prompts)])
        work.run(job)
        assert [(one.item.id, one.label) for one in job.results_so_far()] == [(fits.id, "red")]
        work.trouble.no_memory_for = set()
        assert work.run_until_done(job) == 1
        assert job.progress().done == 2


class TestTextsTheModelHasNothingFor:
    """Whose labels they are is told so; the worker goes on."""

    def test_in_the_jobs_own_labels_they_fail_its_items(self, work, tmp_path) -> None:
        work.trouble.unknown = {"<mask>"}
        red = picture(tmp_path, "red")
        job = work.client.submit([red, red], Taxonomy.flat(["red", "<mask>"]))
        work.run(job)
        kind, message = "ConfigError", "the text 'This is a photo of <mask>.' holds a special token"
        assert [(one.ordinal, one.error.kind, one.error.message) for one in job.failures()] == [
            (0, kind, message),
            (1, kind, message),
        ]
        self.goes_on(work, red)

    def test_in_the_labels_an_item_brings_they_fail_that_item(self, work, tmp_path) -> None:
        work.trouble.unknown = {"<mask>"}
        red = picture(tmp_path, "red")
        items = [
            Item(images=(ImageRef(uri=red),), options={"c": Options(labels=tuple(Label(name=name) for name in names))})
            for names in (("red", "<mask>"), ("red", "blue"))
        ]
        job = work.client.submit(items, [Control(name="c", taxonomy=Taxonomy(labels=(), is_open=True))])
        work.run(job)
        assert [(one.ordinal, one.error.kind) for one in job.failures()] == [(0, "ConfigError")]
        assert [(one.ordinal, one.label) for one in job.results_so_far() if not one.error] == [(1, "red")]
        self.goes_on(work, red)

    def goes_on(self, work: Workplace, image: str) -> None:
        assert not work.stopped
        other = work.client.submit([image], COLOURS)
        work.run(other)
        assert [one.label for one in other.results_so_far()] == ["red"]


class TestImagesAnItemCanDoWithout:
    """Each image of a list is answered by itself: one that can never be scored has no answer, and the others theirs."""

    EACH = (Control(name="c", taxonomy=COLOURS, image="list", over="each"),)

    def submit(self, work: Workplace, *uris: str) -> Job:
        images = tuple(ImageRef(uri=uri, name="list") for uri in uris)
        return work.client.submit([Item(id="1", images=images)], self.EACH)

    def answers(self, job: Job) -> dict[int, tuple[str, ...]]:
        (prediction,) = job.results_so_far()
        assert prediction.error is None, prediction.error
        return {answer.index: answer.paths[0] for answer in prediction.answers}

    def test_one_that_cannot_be_decoded(self, work, tmp_path) -> None:
        (tmp_path / "text.png").write_text("no image")
        job = self.submit(work, picture(tmp_path, "red"), str(tmp_path / "text.png"))
        work.run(job)
        assert self.answers(job) == {0: ("red",)}

    def test_one_that_fails_on_the_device(self, work, tmp_path) -> None:
        work.trouble.no_number_for = {"blue"}
        job = self.submit(work, picture(tmp_path, "blue"), picture(tmp_path, "red"))
        work.run(job)
        assert self.answers(job) == {1: ("red",)}

    def test_one_the_device_has_no_memory_for_is_waited_for_first(self, work, tmp_path) -> None:
        work.trouble.too_large = {"blue"}
        job = self.submit(work, picture(tmp_path, "red"), picture(tmp_path, "blue"))
        assert work.run_until_done(job) == work.pipeline.tools.item_retries + 1
        assert self.answers(job) == {0: ("red",)}

    def test_one_whose_store_does_not_deliver_fails_the_item_which_can_be_sent_again(
        self, work, tmp_path, server
    ) -> None:
        server.serve("/busy.png", 503)
        job = self.submit(work, picture(tmp_path, "red"), server.url("/busy.png"))
        assert work.run_until_done(job) == work.pipeline.tools.item_retries + 1
        assert [failure.error.kind for failure in job.failures()] == ["TransientError"]

    def test_when_none_is_left_the_item_fails(self, work, tmp_path) -> None:
        (tmp_path / "text.png").write_text("no image")
        work.trouble.no_number_for = {"blue"}
        job = self.submit(work, picture(tmp_path, "blue"), str(tmp_path / "text.png"))
        work.run(job)
        assert [failure.error.kind for failure in job.failures()] == ["ItemError"]

    def test_one_that_the_item_needs_fails_it(self, work, tmp_path) -> None:
        work.trouble.no_number_for = {"blue"}
        images = tuple(ImageRef(uri=picture(tmp_path, colour), name="list") for colour in ("red", "blue"))
        together = Control(name="c", taxonomy=COLOURS, image="list", over="all")
        job = work.client.submit([Item(id="1", images=images)], [together])
        work.run(job)
        assert ["no number" in failure.error.message for failure in job.failures()] == [True]

    def test_a_broken_device_is_no_fault_of_the_image(self, work, tmp_path) -> None:
        work.trouble.broken = True
        job = self.submit(work, picture(tmp_path, "red"), picture(tmp_path, "blue"))
        with pytest.raises(ScorerError, match="illegal memory access"):
            work.run(job)
        assert list(job.results_so_far()) == []
        assert len(work.stopped) == 1


def key(letter: str) -> bytes:
    """Of a vector made as this file's encoder makes them."""
    return letter.encode() * 12 + space_tag(image_space(colour_card(), "float32"))


class TestVectorsThatAreKnown:
    """An item all of whose vectors are stored under known keys passes no image thread."""

    def test_such_items_are_answered_and_the_others_of_their_chunk_read(self, work, tmp_path) -> None:
        red, gone = np.array([1, -1, -1, 0.1], dtype=np.float32), np.array([-1, -1, 1, 0.1], dtype=np.float32)
        work.store.put({key("r"): red, key("b"): gone})
        work.store.flush()
        items = [
            ImageRef(uri=str(tmp_path / "not there.png"), vector=key("r").hex()),
            ImageRef(uri=picture(tmp_path, "green")),
            ImageRef(uri=str(tmp_path / "not there either.png"), vector=key("b").hex()),
            ImageRef(uri=picture(tmp_path, "blue"), vector=key("?").hex()),
            ImageRef(uri=str(tmp_path / "nor this.png"), vector=key("!").hex()),
        ]
        job = work.client.submit(items, COLOURS)
        work.run(job)
        labels = {one.ordinal: one.label or (one.error and one.error.kind) for one in job.results(5)}
        assert labels == {0: "red", 1: "green", 2: "blue", 3: "blue", 4: "ItemError"}
        assert not work.waits(job)

    def test_a_vector_made_in_another_way_does_not_answer_for_an_image(self, work, tmp_path) -> None:
        there = np.array([1, -1, -1, 0.1], dtype=np.float32)
        other = b"r" * 12 + space_tag(image_space(colour_card(), "bfloat16"))
        work.store.put({other: there})
        work.store.flush()
        job = work.client.submit([ImageRef(uri=picture(tmp_path, "blue"), vector=other.hex())], COLOURS)
        work.run(job)
        (result,) = job.results(5)
        assert result.label == "blue"

    def test_one_of_whose_images_the_vector_is_gone_is_read_with_it(self, work, tmp_path) -> None:
        red = np.array([1, -1, -1, 0.1], dtype=np.float32)
        work.store.put({key("r"): red})
        work.store.flush()
        images = (
            ImageRef(uri="s3://nobody/reads-this.png", name="a", vector=key("r").hex()),
            ImageRef(uri=picture(tmp_path, "blue"), name="b", vector=key("?").hex()),
        )
        controls = [Control(name=name, taxonomy=COLOURS, image=name) for name in "ab"]
        job = work.client.submit([Item(images=images)], controls)
        work.run(job)
        (result,) = job.results(5)
        assert [answer.paths for answer in result.answers] == [(("red",),), (("blue",),)]
