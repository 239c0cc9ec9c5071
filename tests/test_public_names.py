"""What users import, pinned: a name that goes or comes is a decision, and a line in the changelog."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "prelabel.schemas": """
        Answer BrokerUnavailable Chunk ConfigError Control ImageRef Item ItemError ItemFailure JobSpec JobState Label
        LabelPath LabelScore ModelCard ModelLoadError ModelVersion Options Origin OutOfMemory Outcome Prediction
        PrelabelError Priority Progress PushTarget Region ScorerError Settings Taxonomy TransientError Unanswered
        WireVersionError WorkerInfo get_settings model_id model_version
    """,
    "prelabel.integrations": "Client Job",
    "prelabel.integrations.label_studio.label_config": "LabelConfig",
    "prelabel.integrations.testing": "Answering Choice MemoryClient",
}

FOR_EXTENSIONS = {
    "prelabel.integrations.platforms": "Platform PushReport",
    "prelabel.worker.fetching.reader": "Fetched IsKnown Reader",
    "prelabel.worker.vectors.store": "EmbeddingStore",
    "prelabel.worker.model.encoder": "Encoder ImageTower TextTower",
    "prelabel.worker.model.registry": "Family",
}
"""What packages that extend prelabel import, see docs/extending.md."""


@pytest.mark.parametrize("module", FOR_EXTENSIONS)
def test_what_extensions_import_is_there(module: str) -> None:
    offered = importlib.import_module(module)
    assert [name for name in FOR_EXTENSIONS[module].split() if not hasattr(offered, name)] == []


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_exported_is_what_was_decided(module: str) -> None:
    exported = importlib.import_module(module)
    assert sorted(exported.__all__) == PUBLIC[module].split()
    assert all(hasattr(exported, name) for name in exported.__all__)
