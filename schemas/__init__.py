"""What travels between producers, workers and platforms. Pydantic only: no I/O, nothing heavy to import."""

from .chunks import Chunk
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
from .items import ImageRef, Item, Options, Origin, Region
from .jobs import Control, JobSpec, Priority, PushTarget
from .model_version import ModelVersion, model_id, model_version
from .models import ModelCard
from .predictions import Answer, ItemFailure, LabelScore, Outcome, Prediction, Unanswered
from .progress import JobState, Progress, WorkerInfo
from .settings import Settings, get_settings
from .taxonomy import Label, LabelPath, Taxonomy

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
    "ModelCard",
    "ModelLoadError",
    "ModelVersion",
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
    "Unanswered",
    "WireVersionError",
    "WorkerInfo",
    "get_settings",
    "model_id",
    "model_version",
]
