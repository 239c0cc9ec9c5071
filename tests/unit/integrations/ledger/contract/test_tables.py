"""A job's table says what its predictions say, whatever the ledger is kept in and however its items were answered."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

import numpy as np
import pytest

from prelabel.integrations.ledger.columns import Columns, pack
from prelabel.integrations.ledger.leases import Answered, ChunkRef
from prelabel.schemas import (
    Answer,
    ConfigError,
    Control,
    ImageRef,
    Item,
    ItemFailure,
    Label,
    Options,
    Outcome,
    Prediction,
    Taxonomy,
    Unanswered,
)
from prelabel.worker.scoring.answers import Answerer

VERSION = "m@12345678+tax.abcdef"
FLAT = Taxonomy.flat(["cat", "dog", "fox"], threshold=0.5)
MANY = Taxonomy.flat([f"l{i}" for i in range(30)], "multiple", threshold=0.4, logit_shift=1.0, temperature=2.0)
TREE = Taxonomy.tree({"animal": ["cat", "dog"], "vehicle": {"car": ["taxi", "van"], "bike": None}}, temperature=0.5)
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


def columns_of(controls: list[Control], count: int, seed: int, top_k: int | None = 5) -> Columns:
    """Random answers of so many items with one image each."""
    random = np.random.default_rng(seed)
    tables = [
        Answerer(one.taxonomy, place=place, top_k=top_k).columns(
            random.normal(0, 3, (count, len(one.taxonomy.leaves())))
        )
        for place, one in enumerate(controls)
    ]
    keys = random.bytes(16 * count)
    return Columns(model_version=VERSION, count=count, images=None, places=array("H"), keys=keys, answers=tuple(tables))


def assert_says_the_same(table, predictions: list[Prediction]) -> None:
    rows = [
        (one, answer)
        for one in sorted(predictions, key=lambda one: one.ordinal)
        for answer in ([a for a in one.answers if a.control == table.control] or [None])
    ]
    assert len(table) == len(rows)
    starts = np.cumsum(table.chosen_counts) - table.chosen_counts
    for at, (one, answer) in enumerate(rows):
        assert table.ordinals[at] == one.ordinal
        assert bytes(table.keys[at]).hex() == next(iter(one.vectors.values()), "00" * 16)
        if answer is None:
            assert not table.answered[at]
            assert math.isnan(table.confidences[at])
            assert table.chosen[at] == table.indices[at] == -1
            assert table.chosen_counts[at] == 0
            assert set(table.labels[at].tolist()) <= {-1}
            continue
        assert table.answered[at]
        assert table.indices[at] == (-1 if answer.index is None else answer.index)
        assert table.confidences[at] == pytest.approx(answer.confidence, rel=2e-9)
        chosen = table.all_chosen[starts[at] : starts[at] + table.chosen_counts[at]]
        assert [table.paths[place] for place in chosen] == list(answer.paths)
        assert (None if table.chosen[at] < 0 else table.paths[table.chosen[at]]) == next(iter(answer.paths), None)
        kept = [place for place in table.labels[at].tolist() if place >= 0]
        assert [table.paths[place] for place in kept] == [score.path for score in answer.scores]
        logits = [None if math.isnan(value) else value for value in table.logits[at, : len(kept)].tolist()]
        assert logits == pytest.approx([score.logit for score in answer.scores])
        assert table.probabilities[at, : len(kept)].tolist() == pytest.approx(
            [score.probability for score in answer.scores], rel=1e-6, abs=1e-12
        )
        assert np.isnan(table.probabilities[at, len(kept) :]).all()


@pytest.mark.parametrize("top_k", [1, 5, None])
@pytest.mark.parametrize("taxonomy", [FLAT, MANY, TREE], ids=["single", "multiple", "tree"])
def test_what_was_answered_together_stands_there_as_it_is_read_one_by_one(client, ledger, taxonomy, top_k) -> None:
    control = Control(taxonomy=taxonomy)
    job = client.submit([f"s3://b/{i}.jpg" for i in range(100)], [control])
    worker = ledger()
    for chunk, count in enumerate((64, 36)):
        lease = worker.claim(ChunkRef(job.id, chunk))
        ordinals = [ordinal for ordinal, _ in lease.pairs][::-1]
        record = pack(columns_of([control], count, chunk, top_k))
        worker.complete(lease, [], close=True, answered=[Answered(ordinals, record)])
    assert_says_the_same(job.table(), list(job.results(5)))
    assert job.item_ids() == [f"s3://b/{i}.jpg" for i in range(100)]


def test_every_control_has_a_table_of_its_own(client, ledger) -> None:
    controls = [Control(name="kind", taxonomy=FLAT), Control(name="seen", taxonomy=MANY)]
    job = client.submit([f"s3://b/{i}.jpg" for i in range(5)], controls)
    worker = ledger()
    lease = worker.claim(ChunkRef(job.id, 0))
    worker.complete(lease, [], close=True, answered=[Answered(range(5), pack(columns_of(controls, 5, 7)))])
    predictions = list(job.results(5))
    assert job.table().control == "kind"
    for name in ("kind", "seen"):
        assert_says_the_same(job.table(name), predictions)
    with pytest.raises(ConfigError, match="asks kind, seen"):
        job.table("colour")


def test_failures_and_what_stands_alone_have_their_rows(client, ledger) -> None:
    control = Control(taxonomy=FLAT)
    answer = Answer(control="label", rule="softmax", paths=(("dog",),), confidence=0.75)
    job = client.submit([f"s3://b/{i}.jpg" for i in range(5)], [control])
    worker = ledger()
    lease = worker.claim(ChunkRef(job.id, 0))
    alone = Outcome(model_version=VERSION, vectors={"": "ab" * 16}, answers=(answer,))
    answered = [Answered([3, 0], pack(columns_of([control], 2, 1)))]
    worker.complete(lease, [(4, BAD), (1, alone), (2, BAD)], close=True, answered=answered)
    table = job.table()
    assert_says_the_same(table, list(job.results(5)))
    assert table.names(table.chosen)[1] == "dog"
    assert {ordinal: failure.message for ordinal, failure in table.failures.items()} == {
        2: "empty file",
        4: "empty file",
    }


def test_a_control_that_an_item_has_no_answer_to_says_why(client, ledger) -> None:
    controls = [Control(name="kind", taxonomy=FLAT), Control(name="seen", taxonomy=MANY)]
    answer = Answer(control="kind", rule="softmax", paths=(("dog",),), confidence=0.75)
    missing = Unanswered(kind="ItemError", message="no such image", control="seen", place=1)
    job = client.submit(["s3://b/0.jpg"], controls)
    worker = ledger()
    outcome = Outcome(model_version=VERSION, answers=(answer,), unanswered=(missing,))
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, outcome)], close=True)
    predictions = list(job.results(5))
    for name, failures in (("kind", []), ("seen", [0])):
        assert_says_the_same(job.table(name), predictions)
        assert list(job.table(name).failures) == failures


def test_an_item_that_was_sent_again_has_its_answer_alone(client, ledger) -> None:
    control = Control(taxonomy=FLAT)
    job = client.submit(["s3://b/0.jpg", "s3://b/1.jpg"], [control])
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, BAD), (1, BAD)], close=True)
    assert job.retry_failed() == 2
    lease = worker.claim(ChunkRef(job.id, 1_000_000_000))
    worker.complete(lease, [(0, BAD)], close=True, answered=[Answered([1], pack(columns_of([control], 1, 1)))])
    table = job.table()
    assert_says_the_same(table, list(job.results(5)))
    assert list(table.failures) == [0]


def test_each_of_several_images_has_a_row(client, ledger) -> None:
    control = Control(taxonomy=FLAT, image="img", over="each")
    item = Item(id="1", images=tuple(ImageRef(uri=f"s3://b/{i}.jpg", name="img") for i in range(3)))
    job = client.submit([item, item.model_copy(update={"id": "2"})], [control])
    worker = ledger()
    answers = Answerer(FLAT).columns(
        np.random.default_rng(3).normal(0, 3, (6, 3)), items=[0, 0, 0, 1, 1, 1], indices=[0, 1, 2, 0, 1, 2]
    )
    keys = b"".join(bytes([1 + at]) * 16 for at in range(6))
    columns = Columns(
        model_version=VERSION,
        count=2,
        images=array("H", [3, 3]),
        places=array("H", [0, 1, 2] * 2),
        keys=keys,
        answers=(answers,),
    )
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [], close=True, answered=[Answered([0, 1], pack(columns))])
    table = job.table()
    assert_says_the_same(table, list(job.results(5)))
    assert table.ordinals.tolist() == [0, 0, 0, 1, 1, 1]


def test_labels_that_items_bring_have_no_table(client) -> None:
    control = Control(taxonomy=Taxonomy(labels=(), is_open=True))
    item = Item.of("s3://b/0.jpg").model_copy(update={"options": {"label": Options(labels=(Label(name="cat"),))}})
    with pytest.raises(ConfigError, match=r"its items bring.*job.results"):
        client.submit([item], [control]).table()


def test_a_job_without_results_has_an_empty_table(client) -> None:
    table = client.submit(["s3://b/0.jpg"], FLAT).table()
    assert len(table) == 0
    assert table.labels.shape == (0, 0)


def test_a_table_says_whose_logits_mean_nothing_by_themselves(client, ledger) -> None:
    job = client.submit([f"s3://b/{i}.jpg" for i in range(4)], FLAT)
    columns = columns_of(job.spec().controls, 3, 1)
    softmax = replace(columns, answers=tuple(replace(one, pairwise=False) for one in columns.answers))
    worker = ledger()
    answered = [Answered([0, 1, 3], pack(softmax))]
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(2, BAD)], close=True, answered=answered)
    assert job.table().pairwise.tolist() == [False, False, True, False]
    assert job.to_arrow()["pairwise"].to_pylist() == [False, False, True, False]
    assert {score.sigmoid for one in job.results(5) for score in one.scores} == {None}


def test_an_arrow_table_has_names_in_place_of_places(client, ledger) -> None:
    control = Control(taxonomy=TREE)
    job = client.submit([f"s3://b/{i}.jpg" for i in range(4)], [control])
    worker = ledger()
    record = pack(columns_of([control], 3, 1))
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(2, BAD)], close=True, answered=[Answered([0, 1, 3], record)])
    rows = job.to_arrow().to_pylist()
    predictions = sorted(job.results(5), key=lambda one: one.ordinal)
    for row, one in zip(rows, predictions, strict=True):
        assert (row["ordinal"], row["item"], row["label"]) == (one.ordinal, one.item.id, one.label)
        assert row["path"] == (" > ".join(one.path) if one.path else None)
        assert row["labels"] == [" > ".join(path) for path in (one.answer.paths if one.answer else ())]
        assert row["confidence"] == (pytest.approx(one.confidence, rel=1e-8) if one.ok else None)
        assert row["score_labels"] == [" > ".join(score.path) for score in one.scores]
        assert row["logits"] == [
            pytest.approx(score.logit) if score.logit is not None else None for score in one.scores
        ]
        assert row["pairwise"] == all(score.pairwise for score in one.scores)
        assert row["probabilities"] == pytest.approx([score.probability for score in one.scores], rel=1e-6)
        assert (row["error_kind"], row["error"]) == ((one.error.kind, one.error.message) if one.error else (None, None))
    assert [row["index"] for row in rows] == [None] * 4


def test_labels_of_the_same_name_are_one_in_an_arrow_table(client, ledger) -> None:
    control = Control(taxonomy=Taxonomy.tree({"red": ["circle", "star"], "blue": ["circle"]}))
    job = client.submit([f"s3://b/{i}.jpg" for i in range(8)], [control])
    worker = ledger()
    record = pack(columns_of([control], 8, 5))
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [], close=True, answered=[Answered(range(8), record)])
    arrow = job.to_arrow()
    for name in ("label", "path"):
        names = arrow[name].combine_chunks().dictionary.to_pylist()
        assert len(names) == len(set(names))
    assert arrow["label"].to_pylist() == [one.label for one in sorted(job.results(5), key=lambda one: one.ordinal)]


def test_rows_of_a_record_that_do_not_count_move_no_other_rows_scores(client, ledger) -> None:
    """Several labels are chosen of some images, so that their answers keep more scores than others'."""
    taxonomy = Taxonomy.flat(["a", "b", "c"], "multiple", threshold=0.5)
    logits = np.array([[9, -9, -9], [-9, 8, 7], [3, 2, 1]], dtype=np.float32)
    columns = Columns(
        model_version=VERSION,
        count=3,
        images=None,
        places=array("H"),
        keys=bytes(48),
        answers=(Answerer(taxonomy, top_k=1).columns(logits),),
    )
    job = client.submit([f"s3://b/{i}.jpg" for i in range(3)], taxonomy)
    worker = ledger()
    lease = worker.claim(ChunkRef(job.id, 0))
    worker.complete(lease, [(2, BAD)], close=False)
    worker.complete(lease, [], close=True, answered=[Answered([0, 1, 2], pack(columns))])
    assert_says_the_same(job.table(), list(job.results(5)))


def test_an_item_without_an_answer_to_a_control_has_a_row(client, ledger) -> None:
    kinds = Control(name="kind", taxonomy=FLAT, image="a")
    controls = [kinds, Control(name="each", taxonomy=FLAT, image="b", over="each")]
    images = tuple(ImageRef(uri=f"s3://b/{name}.jpg", name=name) for name in "ab")
    job = client.submit([Item(id=str(i), images=images[: 1 + i % 2]) for i in range(3)], controls)
    kind = Answerer(FLAT).columns(np.zeros((3, 3), dtype=np.float32))
    each = Answerer(FLAT, place=1).columns(np.zeros((1, 3), dtype=np.float32), items=[1], indices=[0])
    columns = Columns(
        model_version=VERSION, count=3, images=None, places=array("H"), keys=bytes(range(48)), answers=(kind, each)
    )
    worker = ledger()
    lease = worker.claim(ChunkRef(job.id, 0))
    worker.complete(lease, [], close=True, answered=[Answered([0, 1, 2], pack(columns))])
    table = job.table("each")
    assert_says_the_same(table, list(job.results(5)))
    assert table.answered.tolist() == [False, True, False]
