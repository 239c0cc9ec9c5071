"""Jobs through a real broker and a real Celery worker process with a real SigLIP checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from prelabel.integrations import Client
from prelabel.schemas import ConfigError, Control, ImageRef, Item, JobState, Label, Taxonomy
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import TEMPLATE, Picture, accuracies, chapters
from prelabel.worker.running.stack import Stack
from tests.conftest import eventually


def test_the_demos_three_jobs_come_back_right_more_often_than_not(live: Client, pictures: list[Picture]) -> None:
    for chapter in chapters(pictures):
        job = live.submit([str(picture.path) for picture in chapter.pictures], chapter.taxonomy)
        predictions = sorted(job.results(timeout=60), key=lambda prediction: prediction.ordinal)
        assert [p.item.id for p in predictions] == [str(picture.path) for picture in chapter.pictures]
        assert job.progress().state is JobState.DONE
        assert job.progress().failed == 0
        for accuracy in accuracies(chapter, predictions):
            assert accuracy.overall > 0.5, accuracy


def test_a_prediction_says_what_answered_and_how(live: Client, photo: Path) -> None:
    (prediction,) = live.submit([str(photo)], Taxonomy.flat(SHAPES, template=TEMPLATE)).results(timeout=30)
    assert prediction.model_version.startswith(live.workers()[0].model + "+tax.")
    assert prediction.answer.rule == "softmax"
    assert len(prediction.scores) == len(SHAPES)
    assert sum(score.probability for score in prediction.scores) == pytest.approx(1.0)
    assert all(score.logit is not None and 0 <= score.sigmoid <= 1 for score in prediction.scores)


def test_results_stream_while_the_job_runs(live: Client, pictures: list[Picture]) -> None:
    job = live.submit([str(picture.path) for picture in pictures] * 5, Taxonomy.flat(["red", "blue"]))
    stream = job.results(timeout=60)
    next(stream)
    assert job.progress().pending > 0
    assert 1 + sum(1 for _ in stream) == len(pictures) * 5


def test_several_controls_ask_about_several_images_of_one_item(live: Client, pictures: list[Picture]) -> None:
    left, right = pictures[0], pictures[1]
    item = Item(
        id="pair",
        images=(ImageRef(uri=str(left.path), name="left"), ImageRef(uri=str(right.path), name="right")),
    )
    shapes = Taxonomy.flat(SHAPES, template=TEMPLATE)
    controls = [
        Control(name="left-shape", taxonomy=shapes, image="left"),
        Control(name="right-shape", taxonomy=shapes, image="right"),
        Control(name="left-colour", taxonomy=Taxonomy.flat(["red", "green"], "multiple"), image="left"),
    ]
    (both,) = live.submit([item], controls).results(timeout=30)
    assert [answer.control for answer in both.answers] == ["left-shape", "right-shape", "left-colour"]
    for answer, picture in zip(both.answers[:2], (left, right), strict=True):
        (alone,) = live.submit([str(picture.path)], shapes).results(timeout=30)
        for ours, theirs in zip(answer.scores, alone.scores, strict=True):
            assert ours.logit == pytest.approx(theirs.logit, abs=1e-3)


def test_an_item_without_the_image_a_control_asks_about_fails_alone(live: Client, photo: Path) -> None:
    good = Item(id="good", images=(ImageRef(uri=str(photo), name="left"), ImageRef(uri=str(photo), name="right")))
    bad = Item(id="bad", images=(ImageRef(uri=str(photo), name="left"),))
    control = Control(taxonomy=Taxonomy.flat(["a", "b"]), image="right")
    found = {p.item.id: p for p in live.submit([good, bad], [control]).results(timeout=30)}
    assert found["good"].ok
    assert found["bad"].error.message == "the item has no image named 'right'"


def test_interactive_work_overtakes_a_bulk_backlog(live: Client, pictures: list[Picture], photo: Path) -> None:
    bulk = live.submit([str(picture.path) for picture in pictures] * 20, Taxonomy.flat(["red", "blue"]))
    # Labels nobody has asked for yet: their encoding must not queue behind bulk work either.
    urgent = live.submit([str(photo)], Taxonomy.flat(["never", "seen", "before"]), priority="interactive")
    urgent.wait(timeout=10)
    assert bulk.progress().pending > 0
    bulk.cancel()


def test_cancel_stops_a_running_job_and_keeps_what_is_done(live: Client, pictures: list[Picture]) -> None:
    job = live.submit([str(picture.path) for picture in pictures] * 30, Taxonomy.flat(["red", "blue"]))
    next(job.results(timeout=30))
    assert job.cancel()
    kept = list(job.results(timeout=30))
    assert 0 < len(kept) < len(pictures) * 30
    assert job.progress().state is JobState.CANCELLED
    time.sleep(0.5)
    assert len(list(job.results_so_far())) == len(kept)


def test_five_thousand_labels_get_a_right_answer(live: Client, pictures: list[Picture]) -> None:
    picture = next(picture for picture in pictures if picture.pairs == (("red", "ring"),))
    labels = [f"word{i}" for i in range(4998)]
    taxonomy = Taxonomy.flat([*labels, Label(name="ring", prompts=("a photo of a red ring",))], template="{label}")
    (prediction,) = live.submit([str(picture.path)], taxonomy).results(timeout=240)
    assert prediction.ok
    assert len(prediction.scores) == 20
    assert prediction.scores[0].logit == max(score.logit for score in prediction.scores)


def test_celery_inspect_ping_answers(stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "prelabel.worker.app", "inspect", "ping", "--timeout", "10"],
        env={**os.environ, **stack.settings.environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "pong" in done.stdout


def test_a_killed_worker_is_started_again_and_its_chunks_finish_without_a_doubled_item(
    stack: Stack, live: Client, pictures: list[Picture]
) -> None:
    job = live.submit([str(picture.path) for picture in pictures] * 20, Taxonomy.flat(["red", "blue"]))
    next(job.results(timeout=30))
    supervisor = psutil.Process(stack.children["worker"].pid)
    (worker,) = supervisor.children()
    worker.send_signal(signal.SIGKILL)
    ordinals = [prediction.ordinal for prediction in job.results(timeout=120)]
    assert sorted(ordinals) == list(range(len(pictures) * 20))
    (again,) = supervisor.children()
    assert again.pid != worker.pid


def test_a_job_is_scored_again_from_stored_vectors_though_its_images_are_gone(live, pictures_dir) -> None:
    paths = []
    for index, colour in enumerate([(220, 30, 30), (30, 30, 220)]):
        paths.append(pictures_dir / f"gone-{index}.png")
        Image.new("RGB", (64, 64), colour).save(paths[-1])
    first = live.submit([str(path) for path in paths], Taxonomy.flat(["circle", "star"]))
    first.wait(30)
    for path in paths:
        path.unlink()
    eventually(lambda: live.rescore(first, Taxonomy.flat(["red", "blue"])).wait(30).done == 2)  # stored soon
    again = live.rescore(first.id, Taxonomy.flat(["red", "blue"]))
    found = {prediction.item.id: prediction for prediction in again.results(30)}
    assert set(found) == {str(path) for path in paths}
    assert [found[str(path)].label for path in paths] == ["red", "blue"]
    assert again.spec().stored_only


def test_what_is_not_stored_fails_alone_when_scored_again(live, photo) -> None:
    first = live.submit([str(photo)], Taxonomy.flat(["circle", "star"]))
    (prediction,) = first.results(30)
    lost = prediction.item.model_copy(
        update={"images": (prediction.item.images[0].model_copy(update={"vector": "0" * 32}),)}
    )
    job = live._submit([lost], first.spec().model_copy(update={"stored_only": True}), None)
    (again,) = job.results(30)
    assert again.error.kind == "ItemError"
    assert "not stored" in again.error.message


def test_nothing_answered_is_nothing_to_score_again(live) -> None:
    job = live.submit(["no-such-file.jpg"], Taxonomy.flat(["circle", "star"]))
    job.wait(30)
    with pytest.raises(ConfigError, match="has no answers"):
        live.rescore(job, Taxonomy.flat(["red", "blue"]))


def test_an_unchanged_image_is_not_embedded_again_and_scores_the_same(live, pictures_dir) -> None:
    path = pictures_dir / "twice.png"
    Image.new("RGB", (64, 64), (30, 200, 30)).save(path)
    taxonomy = Taxonomy.flat(["red", "green"])
    (first,) = live.submit([str(path)], taxonomy).results(30)
    (second,) = live.submit([str(path)], taxonomy).results(30)
    assert second.vectors == first.vectors
    assert second.scores[0].logit == pytest.approx(first.scores[0].logit, abs=0.05)
    Image.new("RGB", (64, 64), (200, 30, 30)).save(path)
    (third,) = live.submit([str(path)], taxonomy).results(30)
    assert third.vectors != first.vectors
    assert (first.label, third.label) == ("green", "red")
