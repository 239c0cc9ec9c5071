"""Whose vectors an answered item's are."""

from __future__ import annotations

import pytest

from prelabel.integrations.ledger.sources import with_vectors
from prelabel.schemas import Answer, ImageRef, Item, Prediction
from prelabel.schemas.model_version import model_of

ITEM = Item(id="1", images=(ImageRef(uri="s3://b/1.jpg"),))


def answered(version: str) -> Prediction:
    answer = Answer(control="label", rule="softmax", confidence=0.9)
    return Prediction(item=ITEM, model_version=version, vectors={"": "ab" * 16}, answers=(answer,))


@pytest.mark.parametrize("version", ["a+b@1+tax.abcdef", "a+b@1+tax.abcdef+cal.abcdef"])
def test_a_model_with_a_plus_in_its_name_keeps_its_vectors(version: str) -> None:
    assert model_of(answered(version)) == "a+b@1"
    item = with_vectors(answered(version), "a+b@1")
    assert item.images[0].vector == "ab" * 16


def test_an_answer_of_another_make_brings_no_vector() -> None:
    assert model_of(answered("yolo-v8")) is None
    item = with_vectors(answered("yolo-v8"), "yolo-v8")
    assert item.images[0].vector is None
