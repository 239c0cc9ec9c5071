"""From what a test chooses to an answer: the same rules as a worker's, and clear words where they do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.testing.answers import Choice, answer_of
from prelabel.schemas import Answer, ConfigError, Control, Label, Taxonomy
from tests.answering import Answers
from tests.answers_oracle import leaf_probabilities

SINGLE = Taxonomy.flat(["cat", "dog", "cow"])
MULTIPLE = Taxonomy.flat(["cat", "dog", Label(name="cow", threshold=0.6)], choice="multiple")
TREE = Taxonomy.tree({"animal": ["cat", "dog"], "vehicle": {"car": ["taxi", "van"], "bus": None}})
TREES = Taxonomy.tree({"red": ["circle", "square"], "blue": ["circle"]}, choice="multiple")
TWO_AT_MOST = MULTIPLE.model_copy(update={"max_answers": 2, "threshold": 0.3})


def answer(choice: Choice, taxonomy: Taxonomy, top_k: int | None = 20) -> Answer:
    return answer_of(choice, Control(name="kind", taxonomy=taxonomy), top_k=top_k)


@pytest.mark.parametrize(
    ("choice", "taxonomy", "paths"),
    [
        ("dog", SINGLE, [("dog",)]),
        (("dog",), SINGLE, [("dog",)]),
        (["dog"], SINGLE, [("dog",)]),
        (None, SINGLE, []),
        (["cow", "cat"], MULTIPLE, [("cat",), ("cow",)]),
        ({"cow", "cat"}, MULTIPLE, [("cat",), ("cow",)]),
        ([], MULTIPLE, []),
        (None, MULTIPLE, []),
        ("taxi", TREE, [("vehicle", "car", "taxi")]),
        (("vehicle", "car"), TREE, [("vehicle", "car")]),
        ([("red", "circle"), "square"], TREES, [("red", "circle"), ("red", "square")]),
    ],
)
def test_what_is_chosen_by_name_is_answered_and_likeliest(choice, taxonomy, paths) -> None:
    made = answer(choice, taxonomy)
    assert list(made.paths) == paths
    assert 0 <= made.confidence <= 1
    probabilities = [score.probability for score in made.scores]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(made.scores) == len(list(taxonomy.walk()))
    if paths:
        assert made.confidence == pytest.approx(0.9)


def test_scores_have_the_logits_their_sigmoids_tell() -> None:
    made = answer("van", TREE)
    of = {score.path: score for score in made.scores}
    assert of[("vehicle",)].logit is None
    leaf = of[("vehicle", "car", "van")]
    assert (leaf.probability, leaf.sigmoid) == (pytest.approx(0.9), pytest.approx(0.9))


def test_the_scores_kept_hold_the_chosen_labels() -> None:
    assert {score.label for score in answer(["cat", "cow"], MULTIPLE, top_k=1).scores} == {"cat", "cow"}


@pytest.mark.parametrize("taxonomy", [SINGLE, MULTIPLE, TREE, TREES, TWO_AT_MOST])
@given(data=st.data())
def test_probabilities_are_judged_as_a_worker_judges_them(taxonomy: Taxonomy, data) -> None:
    leaves = [path for path, _ in taxonomy.leaves()]
    logits = np.asarray(data.draw(st.lists(st.floats(-8, 8), min_size=len(leaves), max_size=len(leaves))))
    probabilities = leaf_probabilities(logits, taxonomy).tolist()
    made = answer(dict(zip(leaves, probabilities, strict=True)), taxonomy)
    theirs = Answers(taxonomy, control="kind")(logits)
    assert (made.paths, made.rule, made.control) == (theirs.paths, theirs.rule, theirs.control)
    assert made.confidence == pytest.approx(theirs.confidence)
    ours = {score.path: score.probability for score in made.scores}
    assert ours == pytest.approx({score.path: score.probability for score in theirs.scores})


def test_a_leaf_left_out_of_the_probabilities_has_none() -> None:
    made = answer({"cat": 0.7}, SINGLE)
    assert (made.paths, made.confidence) == ((("cat",),), 0.7)
    assert [score.probability for score in made.scores] == [0.7, 0.0, 0.0]


@pytest.mark.parametrize(
    ("choice", "taxonomy", "message"),
    [
        ("mouse", SINGLE, "no label 'mouse'"),
        (("cat", "dog"), MULTIPLE, "several are a list"),
        (["cat", "dog"], SINGLE, "is a single choice"),
        ("circle", TREES, "several labels 'circle'"),
        ("red", TREES, "answers leaves alone"),
        (["cat", "dog", "cow"], TWO_AT_MOST, "takes 2 labels, not 3"),
        ({"animal": 0.5}, TREE, "made of theirs"),
        ({"cat": 1.5}, SINGLE, "0 to 1"),
    ],
)
def test_a_choice_that_does_not_fit_says_how(choice, taxonomy, message) -> None:
    with pytest.raises(ConfigError, match=message):
        answer(choice, taxonomy)
