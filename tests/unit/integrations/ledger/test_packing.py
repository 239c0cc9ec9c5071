"""Outcomes packed for the ledger come back as they were, and cost a fraction of their JSON."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.ledger.packing import pack, unpack
from prelabel.schemas import Answer, ConfigError, ItemFailure, Outcome, Taxonomy
from prelabel.schemas.jobs import Control, JobSpec
from prelabel.schemas.predictions import LabelScore

LABELS = [f"kind of animal {i}" for i in range(200)]


def spec_of(count: int = 200) -> bytes:
    return JobSpec(controls=(Control(taxonomy=Taxonomy.flat(LABELS[:count])),)).to_json().encode()


def outcome_of(count: int = 20) -> Outcome:
    rng = random.Random(7)
    scores = tuple(
        LabelScore(path=(label,), logit=round(rng.uniform(-20, 5), 5), probability=round(rng.random(), 7))
        for label in rng.sample(LABELS, count)
    )
    answer = Answer(control="label", rule="softmax", paths=(scores[0].path,), confidence=0.25, scores=scores)
    return Outcome(model_version="m@12345678+tax.abcdef", vectors={"": "0" * 32}, answers=(answer,))


def test_twenty_scores_take_a_quarter_of_their_json_at_most() -> None:
    outcome = outcome_of()
    packed = pack(outcome, spec_of())
    assert unpack(packed, spec_of()) == outcome
    assert len(packed) < len(outcome.to_json()) / 4


@given(kind=st.text(max_size=50), message=st.text(max_size=500))
def test_whatever_an_error_says_comes_back(kind, message) -> None:
    outcome = Outcome(error=ItemFailure(kind=kind, message=message))
    assert unpack(pack(outcome, spec_of()), spec_of()) == outcome


def test_against_another_spec_it_is_an_error_and_not_another_outcome() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        unpack(pack(outcome_of(), spec_of()), spec_of(199))


@pytest.mark.parametrize("packed", [b"", b"{}", b"\x00" * 40])
def test_what_is_no_packed_outcome_is_an_error(packed) -> None:
    with pytest.raises(ConfigError):
        unpack(packed, spec_of())


def test_a_taxonomy_larger_than_the_window_is_packed_too() -> None:
    labels = [f"a rather long name of a label, number {i}" for i in range(3000)]
    spec = JobSpec(controls=(Control(taxonomy=Taxonomy.flat(labels)),)).to_json().encode()
    outcome = Outcome(
        model_version="m", answers=(Answer(control="label", rule="softmax", paths=((labels[0],),), confidence=0.5),)
    )
    assert unpack(pack(outcome, spec), spec) == outcome
