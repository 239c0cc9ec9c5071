"""What tells one model's answers and vectors from another's."""

from __future__ import annotations

import pytest

from prelabel.integrations.client.checkpoint import names_one_model, settings_model_id
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ({}, True),  # the default model's commit is pinned
        ({"model": str(CHECKPOINT)}, True),  # a directory is told by its files
        ({"model": "someone/siglip"}, False),
        ({"model": "someone/siglip", "revision": "main"}, False),
        ({"model": "someone/siglip", "revision": "753a949581523b60257d93e18391e8c27f72eb22"}, True),
    ],
)
def test_a_hub_model_without_a_commit_may_become_another(given, one) -> None:
    assert names_one_model(load_settings(**given)) is one


def test_other_weights_under_the_same_name_are_another_model(tmp_path) -> None:
    ids = set()
    for weights in (b"one", b"two"):
        directory = tmp_path / weights.decode() / "siglip"
        directory.mkdir(parents=True)
        (directory / "model.safetensors").write_bytes(weights)
        ids.add(settings_model_id(load_settings(model=str(directory))))
    assert len(ids) == 2
