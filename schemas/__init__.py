"""What travels between producers, workers and platforms. Pydantic only: no I/O, nothing heavy to import."""

from .errors import (
    BrokerUnavailable,
    ConfigError,
    ItemError,
    ModelLoadError,
    OutOfMemory,
    PrelabelError,
    ScorerError,
    TransientError,
    WireVersionError,
)
from .items import Chunk, ImageRef, Item, Options, Origin, Region
from .jobs import Control, JobSpec, JobState, Priority, Progress, PushTarget, WorkerInfo
from .predictions import Answer, ItemFailure, LabelScore, Outcome, Prediction
from .settings import Settings, get_settings
from .taxonomy import Label, LabelPath, Taxonomy
from .versions import model_id, model_version

__all__ = [
    "Answer",
    "BrokerUnavailable",
    "Chunk",
    "ConfigError",
    "Control",
    "ImageRef",
    "Item",
    "ItemError",
    "ItemFailure",
    "JobSpec",
    "JobState",
    "Label",
    "LabelPath",
    "LabelScore",
    "ModelLoadError",
    "Options",
    "Origin",
    "OutOfMemory",
    "Outcome",
    "Prediction",
    "PrelabelError",
    "Priority",
    "Progress",
    "PushTarget",
    "Region",
    "ScorerError",
    "Settings",
    "Taxonomy",
    "TransientError",
    "WireVersionError",
    "WorkerInfo",
    "get_settings",
    "model_id",
    "model_version",
]
