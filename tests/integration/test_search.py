"""Searching what a real worker has scored, by words, by a picture and by likeness, through the real queue."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prelabel.integrations import Client, Job
from prelabel.integrations.broker.connection import connect_redis
from prelabel.schemas import ConfigError, ImageRef, ItemError, Taxonomy
from prelabel.schemas.search import Hit, SearchQuery
from prelabel.worker.demo.shapes import ALL_PAIRS
from prelabel.worker.demo.story import Picture
from prelabel.worker.retrieval.query import QueryVectors
from prelabel.worker.retrieval.searcher import Searcher
from prelabel.worker.vectors.store import NoStore

LABELS = [f"{colour} {shape}" for colour, shape in ALL_PAIRS]


@pytest.fixture(scope="session")
def singles(pictures: list[Picture]) -> list[Picture]:
    """Pictures of one figure each."""
    return [picture for picture in pictures if len(picture.pairs) == 1]


@pytest.fixture
def job(live: Client, singles: list[Picture]) -> Job:
    """A job that has answered them."""
    made = live.submit([picture.path for picture in singles], Taxonomy.flat(LABELS), top_k=None)
    assert all(prediction.ok for prediction in made.results(timeout=120))
    return made


def shown(hits: Iterable[Hit], singles: list[Picture]) -> list[str]:
    """What the pictures that were found really show."""
    return [" ".join(singles[hit.task].pairs[0]) for hit in hits]


def test_words_find_what_they_name_and_logits_are_those_of_scoring(live, job, singles) -> None:
    there = Counter(" ".join(picture.pairs[0]) for picture in singles)
    (wanted, count), *_ = there.most_common()
    found = live.search(job, wanted, k=count)
    assert shown(found, singles).count(wanted) >= 0.9 * count
    assert (found.searched, found.missing, found.others) == (len(singles), 0, 0)
    scored = {one.ordinal: one for one in job.results_so_far()}
    for hit in found:
        prediction = scored[hit.task]
        pair = next(score for score in prediction.scores if score.label == wanted)
        assert hit.logit == pytest.approx(pair.logit, abs=1e-5)
        assert hit.probability == pytest.approx(pair.sigmoid, abs=1e-5)
        assert (hit.image.uri, hit.label) == (prediction.item.images[0].uri, prediction.path)
        assert hit.confidence == pytest.approx(prediction.confidence, abs=1e-4)
    cosines = [hit.cosine for hit in found]
    assert cosines == sorted(cosines, reverse=True)


def test_pages_together_are_every_image_once(live, job, singles) -> None:
    everything = live.search(job, "a star", k=10_000)
    assert sorted(hit.task for hit in everything) == list(range(len(singles)))
    assert [hit.task for hit in live.search(job, "a star", k=7)] == [hit.task for hit in everything[:7]]


def test_a_picture_and_an_item_find_their_like_best_themselves_first(live, job, singles) -> None:
    picture = singles[5]
    for image in (picture.path, str(picture.path), ImageRef.from_bytes(picture.path.read_bytes())):
        found = live.search(job, image=image, k=10)
        assert found[0].task == 5
        assert found[0].cosine == pytest.approx(1.0, abs=1e-3)
        assert found[0].logit is None
        assert found[0].probability is None
    alike = live.search(job, like=5, k=3)
    assert 5 not in [hit.task for hit in alike]
    assert [hit.task for hit in alike] == [hit.task for hit in found[1:4]]
    assert {5, 9}.isdisjoint(hit.task for hit in live.search(job, like=[5, 9], k=10))


def test_filters_are_those_of_a_look_at_every_hit(live, job, singles) -> None:
    def tasks(**asked: Any) -> list[int]:
        return [hit.task for hit in live.search(job, "a red circle", k=500, **asked)]

    everything = list(live.search(job, "a red circle", k=500))
    label = everything[0].label
    assert tasks(label=label[0]) == [hit.task for hit in everything if hit.label == label]
    sure = [hit.task for hit in everything if 0.3 <= hit.confidence <= 0.9]
    assert 0 < len(sure) < len(everything)
    assert tasks(at_least=0.3, at_most=0.9) == sure
    few = [hit.task for hit in everything[10:20]]
    assert tasks(tasks=few) == few
    assert tasks(without=few) == [hit.task for hit in everything if hit.task not in few]


def test_phrasings_are_averaged_as_a_labels_prompts_are_and_less_is_taken_off(live, job) -> None:
    one = live.search(job, ["red star", "red star"], k=5)
    assert [hit.logit for hit in one] == [hit.logit for hit in live.search(job, "red star", k=5)]
    assert live.search(job, "red star", template="{label}", k=1)[0].logit != one[0].logit
    without = live.search(job, "star", less="red", k=40)
    assert without[0].logit is None
    red = [sum(hit.label[0].startswith("red") for hit in found) for found in (without, live.search(job, "star", k=40))]
    assert red[0] < red[1]


def test_what_is_answered_later_is_found_too(live, job, singles, photo) -> None:
    before = live.search(job, "red", k=1).searched
    more = live.submit([photo], Taxonomy.flat(["red", "blue"]))
    assert all(prediction.ok for prediction in more.results(timeout=60))
    assert live.search(more, "red")[0].label == ("red",)
    assert live.search(job, "red", k=1).searched == before


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"text": ""}, "text is an empty text"),
        ({"text": "  "}, "text is an empty text"),
        ({"text": "a" * 100_000}, "longer than 2,000 characters"),
        ({}, "search for one of these: words, a picture, or what tasks look like"),
        ({"text": "a", "like": 1}, "not texts and like at once"),
        ({"text": "a", "labeled": False}, "known of projects, not of jobs"),
        ({"text": "a", "since": 0.0}, "known of projects, not of jobs"),
        ({"text": "a", "k": 0}, "1 to 10,000 hits, not 0"),
        ({"text": "a", "k": 10**9}, "1 to 10,000 hits, not 1,000,000,000"),
        ({"text": "a", "label": "rde star"}, "did you mean 'red star'"),
        ({"text": "a", "less": "a", "less_weight": 1.0}, "nothing is left of the search"),
        ({"text": "a", "template": "photo"}, r"must contain \{label\}"),
        ({"like": 10**6}, "task 1000000: no stored vector here"),
        ({"image": "/nowhere/at/all.jpg"}, "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line(live, job, asked, message) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        live.search(job, **asked)
    assert "\n" not in str(refused.value)


def test_a_picture_that_is_none_is_refused_like_one_that_is_scored(live, job, tmp_path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"not an image")
    with pytest.raises(ItemError, match="image"):
        live.search(job, image=tmp_path / "no.jpg")
    for address in ("http://169.254.169.254/latest/meta-data", "data:image/png;base64,AAAA"):
        with pytest.raises(ItemError):
            live.search(job, image=address)


def test_filters_that_nothing_passes_find_nothing(live, job) -> None:
    assert list(live.search(job, "red star", at_least=1.0, at_most=0.0)) == []
    assert list(live.search(job, "red star", tasks=[])) == []


def test_texts_are_ranked_for_a_picture_as_scoring_ranks_labels(live, job, singles) -> None:
    prediction = next(job.results_so_far())
    ranked = live.rank(singles[prediction.ordinal].path, LABELS)
    assert sorted(one.place for one in ranked) == list(range(len(LABELS)))
    assert [one.text for one in ranked] == [LABELS[one.place] for one in ranked]
    logits = {score.label: score.logit for score in prediction.scores}
    for one in ranked:
        assert one.logit == pytest.approx(logits[one.text], abs=1e-4)
    assert ranked[0].text == prediction.label
    assert [one.cosine for one in ranked] == sorted((one.cosine for one in ranked), reverse=True)
    with pytest.raises(ConfigError, match="texts is an empty text"):
        live.rank(singles[0].path, ["a", " "])
    with pytest.raises(ConfigError, match="texts"):
        live.rank(singles[0].path, [])


def test_an_image_that_travels_in_its_reference_is_found_and_not_sent_along_where_it_is_large(live, singles) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    small = singles[0].path.read_bytes()
    job = live.submit([ImageRef.from_bytes(buffer.getvalue()), ImageRef.from_bytes(small)], Taxonomy.flat(["a", "b"]))
    assert all(prediction.ok for prediction in job.results(timeout=60))
    large, other = sorted(live.search(job, "a circle"), key=lambda hit: hit.task)
    assert len(large.image.uri) < 200 < len(small) < len(other.image.uri)
    assert "too large to be sent along" in large.image.problem
    assert large.mark != other.mark


def test_files_of_what_is_there_no_more_are_removed(stack, tmp_path) -> None:
    settings = stack.settings.model_copy(update={"state_dir": tmp_path})
    folders = [tmp_path / "search" / "0a0b0c0d" / name for name in ("job-0123456789ab", "project-99", "other")]
    for folder in folders:
        folder.mkdir(parents=True)
    with connect_redis(settings) as redis, Client(settings) as client:
        job = client.submit(["a.jpg"], Taxonomy.flat(["a", "b"]))
        folders.append(tmp_path / "search" / "0a0b0c0d" / f"job-{job.id}")
        folders[-1].mkdir()
        card = client.workers()[0].card
        queries = QueryVectors(card, None, None)
        searcher = Searcher(card, "space", NoStore(), queries, settings, redis)
        with pytest.raises(ConfigError, match="no stored vector"):
            searcher.search(SearchQuery(job=job.id, like=(1,)))
        job.cancel()
    assert [folder.exists() for folder in folders] == [False, False, True, True]


def test_near_duplicates_are_grouped_and_those_alone(live, singles, pictures_dir) -> None:
    copies = []
    for number, picture in enumerate(singles[:3]):
        for quality in (95, 90, 85)[: 3 - number]:
            copies.append(pictures_dir / f"copy-{number}-{quality}.jpg")
            Image.open(picture.path).save(copies[-1], quality=quality)
    paths = [picture.path for picture in singles[:20]] + copies
    job = live.submit(paths, Taxonomy.flat(["red", "blue"]))
    assert all(prediction.ok for prediction in job.results(timeout=60))
    told = []
    found = live.duplicates(job, threshold=0.995, on_progress=lambda *step: told.append(step))
    groups = {frozenset(hit.task for hit in group.hits) for group in found.groups}
    assert {frozenset({0, 20, 21, 22}), frozenset({1, 23, 24}), frozenset({2, 25})} <= groups
    assert (found.searched, found.missing) == (26, 0)
    assert found.total_images == sum(group.size for group in found.groups)
    assert [group.size for group in found.groups] == sorted((group.size for group in found.groups), reverse=True)
    for group in found.groups:
        assert all(hit.cosine >= 0.9949 for hit in group.hits)
    assert len(live.duplicates(job, threshold=0.995, count=1).groups) == 1
    assert live.duplicates(job, threshold=1.0).total_groups <= found.total_groups
    for threshold in (0, 1.5):
        with pytest.raises(ConfigError, match="threshold"):
            live.duplicates(job, threshold=threshold)


def test_the_command_writes_a_sheet_of_near_duplicates(stack, live, singles, pictures_dir, tmp_path) -> None:
    copy = pictures_dir / "copy.jpg"
    Image.open(singles[0].path).save(copy, quality=90)
    job = live.submit([picture.path for picture in singles[:40]] + [copy], Taxonomy.flat(["red", "blue"]))
    job.wait(60)
    environment = {**os.environ, **stack.settings.environment(), "COLUMNS": "80"}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "prelabel.worker.cli", "duplicates", job.id, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    done = run("--threshold", 0.99, "-o", tmp_path / "sheet.html")
    assert done.returncode == 0, done.stderr
    assert "groups of near duplicates" in done.stdout
    sheet = (tmp_path / "sheet.html").read_text()
    found = live.duplicates(job, threshold=0.99)
    assert sheet.count("<img ") == sum(min(len(group.hits), 12) for group in found.groups) > 0
    assert "http" not in sheet.replace("http-equiv", ""), "it holds all it shows"
    refused = run("-o", tmp_path / "nowhere" / "sheet.html")
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "is no folder" in " ".join(refused.stderr.split())


def test_no_such_place_is_said(live) -> None:
    with pytest.raises(ConfigError, match="no job"):
        live.search("0123456789ab", "red")
    with pytest.raises(ConfigError, match="project 99 is not connected: prelabel connect --project 99"):
        live.search(99, "red")


def test_nobody_to_search_is_said(client) -> None:
    job = client.submit(["a.jpg"], Taxonomy.flat(["a", "b"]))
    with pytest.raises(Exception, match="no worker is running") as said:
        client.search(job, "red")
    assert type(said.value).__name__ == "TransientError"
