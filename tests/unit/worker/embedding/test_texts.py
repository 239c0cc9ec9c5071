"""Text vectors: encoded once, whatever the taxonomies that share labels."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from prelabel.schemas import Label, OutOfMemory, Taxonomy
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.model.colour import ColourEncoder, ColourTexts, colour_card
from prelabel.worker.vectors.disk.store import DiskStore


class Counting(ColourTexts):
    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts):
        self.encoded += texts
        return super().encode(texts)


def test_rows_follow_the_leaves_and_have_length_one() -> None:
    vectors = TextVectors(ColourEncoder(), 10)
    one = vectors.matrix(Taxonomy.flat(["red", "green"]))
    other = vectors.matrix(Taxonomy.flat(["green", "red"]))
    assert np.array_equal(one, other[::-1])
    assert np.linalg.norm(one, axis=1) == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_second_job_encodes_nothing_and_an_edit_only_the_new_label() -> None:
    texts = Counting()
    vectors = TextVectors(ColourEncoder(texts=texts), 10)
    vectors.matrix(Taxonomy.flat(["red", "green"], template="{label}"))
    vectors.matrix(Taxonomy.flat(["green", "red"], template="{label}", threshold=0.3))
    vectors.matrix(Taxonomy.flat(["green", "red", "blue"], template="{label}"))
    assert texts.encoded == ["red", "green", "blue"]


def test_prompts_of_one_label_are_averaged() -> None:
    both = TextVectors(ColourEncoder(), 10).matrix(Taxonomy.flat([Label(name="x", prompts=("red", "green"))]))
    single = TextVectors(ColourEncoder(), 10).matrix(Taxonomy.flat(["red", "green"]))
    mean = single.mean(axis=0)
    assert both[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_the_cache_is_bounded_and_a_taxonomy_larger_than_it_still_works() -> None:
    texts = Counting()
    vectors = TextVectors(ColourEncoder(texts=texts), 3)
    labels = [f"label {i}" for i in range(10)]
    assert vectors.matrix(Taxonomy.flat(labels)).shape == (10, 4)
    assert len(vectors._vectors) == 3
    vectors.matrix(Taxonomy.flat(labels[-3:]))
    assert len(texts.encoded) == 10


class Tight(Counting):
    """Runs out of memory with more than three texts."""

    def encode(self, texts):
        if len(texts) > 3:
            raise OutOfMemory("no memory")
        return super().encode(texts)


def test_out_of_memory_halves_the_texts() -> None:
    labels = [f"label {i}" for i in range(10)]
    tight, roomy = TextVectors(ColourEncoder(texts=Tight()), 100), TextVectors(ColourEncoder(), 100)
    assert np.array_equal(tight.matrix(Taxonomy.flat(labels)), roomy.matrix(Taxonomy.flat(labels)))


def test_a_taxonomy_that_is_known_does_not_wait_for_another_ones_encoding() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow(ColourTexts):
        def encode(self, texts):
            if "slow" in texts[0]:
                started.set()
                assert go_on.wait(10)
            return super().encode(texts)

    vectors = TextVectors(ColourEncoder(texts=Slow()), 100)
    vectors.matrix(Taxonomy.flat(["red"]))
    thread = threading.Thread(target=vectors.matrix, args=(Taxonomy.flat(["slow"]),))
    thread.start()
    assert started.wait(10)
    assert vectors.matrix(Taxonomy.flat(["red"])).shape == (1, 4)  # would hang
    go_on.set()
    thread.join(10)


def test_jobs_with_the_same_labels_share_a_matrix_and_nobody_keeps_it_for_ever() -> None:
    vectors = TextVectors(ColourEncoder(), 100)
    one = vectors.matrix(Taxonomy.flat(["red", "green"]))
    assert vectors.matrix(Taxonomy.flat(["red", "green"], threshold=0.9)) is one
    assert vectors.matrix(Taxonomy.flat(["green", "red"])) is not one
    with pytest.raises(ValueError, match="read-only"):
        one[0, 0] = 2.0
    del one
    assert not vectors._matrices


def test_a_text_is_encoded_once_for_all_workers_of_a_store_unless_it_is_tokenised_otherwise(tmp_path) -> None:
    labels = Taxonomy.flat([f"label {i}" for i in range(200)])
    store = DiskStore(tmp_path, 2**26)
    first = TextVectors(ColourEncoder(), 10, store).matrix(labels)
    store.flush()
    later = Counting()
    assert np.allclose(TextVectors(ColourEncoder(texts=later), 10, store).matrix(labels), first, atol=1e-3)  # fp16
    assert later.encoded == []
    other = Counting()
    card = colour_card().model_copy(update={"tokenisation": "another"})
    TextVectors(ColourEncoder(card=card, texts=other), 10, store).matrix(labels)
    assert len(other.encoded) == 200
    store.close()


def test_ten_thousand_labels_are_encoded_in_batches() -> None:
    class Batches(Counting):
        largest = 0

        def encode(self, texts):
            self.largest = max(self.largest, len(texts))
            return super().encode(texts)

    texts = Batches()
    matrix = TextVectors(ColourEncoder(texts=texts), 20_000).matrix(
        Taxonomy.flat([f"label {i}" for i in range(10_000)])
    )
    assert matrix.shape == (10_000, 4)
    assert texts.largest <= 64
