"""What users import, pinned: a name that goes or comes is a decision, and a line in the changelog."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "prelabel.schemas": """
        Answer BrokerUnavailable Chunk ConfigError Control ImageRef Item ItemError ItemFailure JobSpec JobState Label
        LabelPath LabelScore ModelCard ModelLoadError ModelVersion Options Origin OutOfMemory Outcome Prediction
        PrelabelError Priority Progress PushTarget Region ScorerError Settings Taxonomy TransientError WireVersionError
        WorkerInfo get_settings model_id model_version
    """,
    "prelabel.integrations": "Client Job",
    "prelabel.integrations.label_studio.label_config": "LabelConfig",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_exported_is_what_was_decided(module: str) -> None:
    exported = importlib.import_module(module)
    assert sorted(exported.__all__) == PUBLIC[module].split()
    assert all(hasattr(exported, name) for name in exported.__all__)
