"""Scoring maths: properties that hold for any logits, and the rules by which labels are chosen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prelabel.schemas import Label, Taxonomy
from prelabel.worker.model.similarity import average_prompts, normalise, pair_logits
from prelabel.worker.scoring.answers import best_first
from tests.answering import Answers
from tests.answers_oracle import SlowAnswerer

logit_rows = hnp.arrays(np.float32, st.integers(2, 12), elements=st.floats(-40, 20, width=32))
vectors = hnp.arrays(np.float32, (5, 8), elements=st.floats(-3, 3, width=32))


def flat(count: int, choice: str = "single", **options) -> Taxonomy:
    return Taxonomy.flat([f"l{i}" for i in range(count)], choice, **options)


@given(vectors)
def test_normalised_rows_have_length_one_or_stay_zero(rows) -> None:
    lengths = np.linalg.norm(normalise(rows), axis=1)
    for length, row in zip(lengths, rows, strict=True):
        assert length == pytest.approx(1.0, abs=1e-5) or np.linalg.norm(row) < 1e-10


@given(vectors)
def test_a_pairs_logit_does_not_depend_on_other_labels_or_batch_mates(rows) -> None:
    texts = normalise(np.flip(rows, axis=0).copy())
    together = pair_logits(rows, texts, 10.0, -5.0)
    for i in range(len(rows)):
        for j in range(len(texts)):
            alone = pair_logits(rows[i : i + 1], texts[j : j + 1], 10.0, -5.0)[0, 0]
            assert together[i, j] == pytest.approx(alone, abs=1e-4)


def test_the_logit_is_scale_times_cosine_plus_bias() -> None:
    image = np.array([[3.0, 4.0]], dtype=np.float32)
    text = np.array([[1.0, 0.0]], dtype=np.float32)
    assert pair_logits(image, text, 100.0, -10.0)[0, 0] == pytest.approx(100 * 0.6 - 10)


def test_prompts_are_averaged_after_normalising_and_normalised_again() -> None:
    prompts = np.array([[10.0, 0.0], [0.0, 1.0], [0.0, 5.0]], dtype=np.float32)
    averaged = average_prompts(prompts, [2, 1])
    assert averaged == pytest.approx(np.array([[math.sqrt(0.5), math.sqrt(0.5)], [0.0, 1.0]]), abs=1e-6)


@given(logit_rows)
def test_single_choice_is_a_distribution_over_labels(logits) -> None:
    answer = Answers(flat(len(logits)), top_k=None)(logits)
    assert answer.rule == "softmax"
    assert sum(score.probability for score in answer.scores) == pytest.approx(1.0)
    assert len(answer.paths) == 1
    assert answer.confidence == max(score.probability for score in answer.scores)


@given(logit_rows)
def test_multiple_choice_is_each_labels_own_sigmoid(logits) -> None:
    answer = Answers(flat(len(logits), "multiple", threshold=0.3), top_k=None)(logits)
    for score in answer.scores:
        assert score.probability == pytest.approx(score.sigmoid, rel=1e-7)
        if abs(score.probability - 0.3) > 1e-8:
            assert (score.path in answer.paths) == (score.probability >= 0.3)


@given(logit_rows, st.data())
def test_a_sigmoid_does_not_change_when_other_labels_are_taken_away(logits, data) -> None:
    kept = data.draw(st.integers(0, len(logits) - 1))
    everyone = Answers(flat(len(logits), "multiple"), top_k=None)(logits)
    alone = Answers(Taxonomy.flat([f"l{kept}"], "multiple"), top_k=None)(logits[kept : kept + 1])
    assert next(s for s in everyone.scores if s.label == f"l{kept}").probability == alone.scores[0].probability


@given(logit_rows, st.floats(0.1, 10))
def test_temperature_never_changes_which_label_is_best(logits, temperature) -> None:
    plain = Answers(flat(len(logits)))(logits)
    soft = Answers(flat(len(logits), temperature=temperature))(logits)
    best = max(logits)
    if sum(logit == best for logit in logits) == 1:
        assert soft.scores[0].probability >= soft.scores[-1].probability
        assert [plain.scores[0].logit, soft.scores[0].logit] == pytest.approx([best, best]) or (
            soft.confidence == pytest.approx(soft.scores[1].probability)
        )


@given(logit_rows, st.integers(1, 4))
def test_a_cap_keeps_the_likeliest_of_what_would_be_answered(logits, most) -> None:
    free = Answers(flat(len(logits), "multiple", threshold=0.3), top_k=None)(logits)
    capped = Answers(flat(len(logits), "multiple", threshold=0.3, max_answers=most), top_k=None)(logits)
    probability = {score.path: score.probability for score in free.scores}
    assert set(capped.paths) <= set(free.paths)
    assert len(capped.paths) == min(most, len(free.paths))
    assert list(capped.paths) == [path for path in free.paths if path in capped.paths], "in the taxonomy's order"
    left_out = [probability[path] for path in free.paths if path not in capped.paths]
    assert all(probability[path] >= max(left_out) for path in capped.paths) if left_out else capped == free


def test_the_shift_moves_probabilities_and_leaves_raw_logits_alone() -> None:
    logits = np.array([-2.0, -6.0], dtype=np.float32)
    answer = Answers(flat(2, "multiple", logit_shift=3.0, threshold=0.5))(logits)
    assert answer.paths == (("l0",),)
    assert answer.scores[0].probability == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert answer.scores[0].logit == -2.0
    assert answer.scores[0].sigmoid == pytest.approx(1 / (1 + math.exp(2.0)))


def test_multiple_choice_takes_low_sigmoids_by_default_and_a_labels_own_threshold_first() -> None:
    taxonomy = Taxonomy.flat([Label(name="a"), Label(name="b", threshold=0.5), Label(name="c")], "multiple")
    logits = np.log(np.array([0.2, 0.4, 0.05]) / (1 - np.array([0.2, 0.4, 0.05])))
    answer = Answers(taxonomy)(logits)
    assert answer.paths == (("a",),)
    assert answer.confidence == pytest.approx(0.2)


def test_multiple_choice_is_confident_of_nothing_when_nothing_comes_close() -> None:
    answer = Answers(flat(2, "multiple"))(np.array([-9.0, -9.0]))
    assert answer.paths == ()
    assert answer.confidence == pytest.approx(1.0, abs=1e-3)


def test_single_choice_abstains_below_its_threshold_and_says_how_sure_the_best_was() -> None:
    answer = Answers(flat(2, threshold=0.9))(np.array([0.0, 0.0]))
    assert answer.paths == ()
    assert answer.confidence == pytest.approx(0.5)


TREE = {"animal": ["cat", "dog"], "vehicle": {"car": ["taxi", "van"], "bike": None}}


@given(hnp.arrays(np.float32, 5, elements=st.floats(-20, 20, width=32)), st.sampled_from(["single", "multiple"]))
def test_a_parent_is_never_less_likely_than_its_child(logits, choice) -> None:
    taxonomy = Taxonomy.tree(TREE, choice)
    answer = Answers(taxonomy, top_k=None)(logits)
    by_path = {score.path: score.probability for score in answer.scores}
    assert len(by_path) == len(list(taxonomy.walk()))
    for path, probability in by_path.items():
        if len(path) > 1:
            assert by_path[path[:-1]] >= probability - 1e-12
    if choice == "single":
        roots = sum(probability for path, probability in by_path.items() if len(path) == 1)
        assert roots == pytest.approx(1.0)


def test_a_tree_answers_the_deepest_node_that_clears_its_threshold() -> None:
    sure_of_animal = np.array([5.0, 5.0, 0.0, 0.0, 0.0])  # cat and dog alike
    answer = Answers(Taxonomy.tree(TREE))(sure_of_animal)
    assert answer.rule == "tree-softmax"
    assert answer.paths == (("animal",),)
    assert answer.confidence > 0.95
    sure_of_cat = np.array([9.0, 5.0, 0.0, 0.0, 0.0])
    assert Answers(Taxonomy.tree(TREE))(sure_of_cat).paths == (("animal", "cat"),)
    assert Answers(Taxonomy.tree(TREE, threshold=0.0))(sure_of_animal).paths[0][0] == "animal"
    assert len(Answers(Taxonomy.tree(TREE, threshold=0.0))(sure_of_animal).paths[0]) == 2


def test_a_tree_answers_nothing_when_no_root_clears_its_threshold() -> None:
    answer = Answers(Taxonomy.tree(TREE, threshold=0.9))(np.zeros(5))
    assert answer.paths == ()
    assert answer.confidence == pytest.approx(0.6)


def test_top_k_keeps_the_best_and_always_the_chosen() -> None:
    logits = np.linspace(3, -3, 40)
    answer = Answers(flat(40, "multiple", threshold=0.4), top_k=5)(logits)
    assert len(answer.paths) > 5
    assert {score.path for score in answer.scores} == set(answer.paths)
    assert [s.probability for s in answer.scores] == sorted((s.probability for s in answer.scores), reverse=True)


@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_logits_do_not_overflow(extreme: float) -> None:
    for choice in ("single", "multiple"):
        answer = Answers(flat(3, choice))(np.array([extreme, 0.0, -extreme]))
        assert 0.0 <= answer.confidence <= 1.0


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(7)), elements=st.floats(-40, 20, width=32)),
    st.sampled_from(["single", "multiple"]),
    st.sampled_from([1, 3, None]),
    st.booleans(),
)
def test_many_images_are_answered_as_each_of_them_alone(logits, choice, top_k, tree) -> None:
    taxonomy = flat(7, choice)
    if tree:
        taxonomy = Taxonomy.tree({"a": ["b", "c"], "d": {"e": ["f", "g", "h"], "i": ["j", "k"]}}, choice)
    answers = Answers(taxonomy, top_k=top_k)
    assert answers.many(logits) == [answers(row) for row in logits]


def trees(depth: int = 3) -> st.SearchStrategy[dict]:
    names = st.sampled_from("abcdef")
    below = st.one_of(st.none(), st.lists(names, min_size=1, max_size=4, unique=True))
    for _ in range(depth - 1):
        below = st.one_of(st.none(), st.dictionaries(names, below, min_size=1, max_size=4))
    return st.dictionaries(names, below, min_size=1, max_size=4)


thresholds = st.sampled_from([None, 0.0, 0.2, 0.5, 0.97])


@st.composite
def taxonomies(draw) -> Taxonomy:
    options = {
        "choice": draw(st.sampled_from(["single", "multiple"])),
        "threshold": draw(thresholds),
        "temperature": draw(st.sampled_from([0.5, 1.0, 3.0])),
        "logit_shift": draw(st.sampled_from([0.0, 4.0])),
        "max_answers": draw(st.sampled_from([None, 1, 2])),
    }
    if draw(st.booleans()):
        return Taxonomy.tree(draw(trees()), **options)
    names = [f"l{i}" for i in range(draw(st.sampled_from([1, 2, 7, 70, 300])))]
    return Taxonomy.flat(
        [Label(name=name, threshold=draw(thresholds) if len(names) < 8 else None) for name in names], **options
    )


@given(taxonomies(), st.sampled_from([None, 1, 2, 5, 20]), st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_answers_in_arrays_are_those_of_one_label_after_the_other(taxonomy, top_k, images, seed, coarse) -> None:
    """Logits on a coarse grid have ties everywhere: then the order of equals must be the same, too."""
    logits = np.random.default_rng(seed).normal(-2, 4, (images, len(taxonomy.leaves()))).astype(np.float32)
    if coarse:
        logits = np.round(logits / 4) * 4
    slow = SlowAnswerer(taxonomy, top_k=top_k)
    for got, expected in zip(Answers(taxonomy, top_k).many(logits), map(slow, logits), strict=True):
        assert (got.control, got.index, got.rule, got.paths) == (
            expected.control,
            expected.index,
            expected.rule,
            expected.paths,
        )
        assert got.confidence == pytest.approx(expected.confidence, rel=2e-9)
        logit = {score.path: score.logit for score in expected.scores}
        probability = {score.path: score.probability for score in expected.scores}
        assert {score.path: score.logit for score in got.scores} == logit
        # A label that has others below it has its probability in single precision, rounded up.
        assert {score.path: score.probability for score in got.scores} == pytest.approx(probability, rel=1.3e-7)
        in_order = [score.path for score in got.scores]
        if top_k is None or len(in_order) <= top_k:
            assert in_order == [score.path for score in expected.scores]
        # Chosen labels beyond these are sorted by their probability, in the slow way by its nine digits.
        assert [probability[path] for path in in_order] == sorted(probability.values(), reverse=True)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(65, 90)), elements=st.integers(0, 9)),
    st.integers(1, 70),
)
def test_the_best_come_first_and_of_equals_the_first(values, count) -> None:
    expected = [sorted(range(len(row)), key=lambda at, row=row: -row[at])[:count] for row in values]
    assert best_first(values, count).tolist() == expected


@given(hnp.arrays(np.float32, (4, 8), elements=st.floats(-1e3, 1e3, width=32)))
def test_vectors_are_brought_to_length_whatever_theirs_is(rows) -> None:
    texts = normalise(np.flip(rows, axis=1).copy())
    expected = 112 * (normalise(rows).astype(np.float64) @ texts.T.astype(np.float64)) - 16
    assert pair_logits(rows, texts, 112.0, -16.0) == pytest.approx(expected, abs=1e-3)
