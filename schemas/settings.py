"""Settings: one frozen object, the only place that reads the environment."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import ConfigError
from .wire import brief, first_problem

DEFAULT_MODEL = "google/siglip-base-patch16-512"
DEFAULT_REVISION = "753a949581523b60257d93e18391e8c27f72eb22"
"""The default model's commit on the hub: pinned, so an upload there never changes anyone's scores."""

DEFAULT_REDIS_URL = "redis://localhost:6379/0"

Format = Literal["auto", "transformers", "openclip"]
"""A checkpoint's format: transformers' (config.json) or OpenCLIP's (open_clip_config.json)."""

_STORE_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


def _at_home(path: Path) -> Path:
    """The path with its `~` or `~user` replaced."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path.parts[0]} is nobody's home folder here: give an absolute path") from None


def _state_dir() -> Path:
    """The folder for state, as the XDG base directory specification has it.

    Raises:
        ConfigError: this user has no home, as a container's often has none.
    """
    given = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".local" / "state") / "prelabel"
    except RuntimeError:
        raise ConfigError("this user has no home folder to keep state in: set PRELABEL_STATE_DIR") from None


class Settings(BaseSettings):
    """Every setting, from `PRELABEL_<NAME>` or, where given, the name Label Studio itself uses."""

    model_config = SettingsConfigDict(
        env_prefix="PRELABEL_", frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    def __init__(self, /, **fields: Any) -> None:
        """Read what is not given here from the environment.

        Raises:
            ConfigError: there is no such setting, or a value cannot be used; names the setting, never the value.
        """
        known = type(self).model_fields
        for name in fields:
            if name not in known and name not in _aliases(known) and not name.startswith("_"):  # pydantic's own
                close = difflib.get_close_matches(name, known, n=1)
                raise ConfigError(f"there is no setting {brief(name)}{f': {close[0]}?' if close else ''}")
        try:
            super().__init__(**fields)
        except ValidationError as error:
            name, _, problem = first_problem(error).partition(": ")
            named = f"{name} ({_variable(name)})" if name in type(self).model_fields else name
            raise ConfigError(f"setting {named}: {problem}") from None

    redis_url: SecretStr = Field(
        SecretStr(DEFAULT_REDIS_URL),
        description="Redis for queues and ledger; redis:// or rediss://, ACL user allowed",
    )
    broker_wait_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="Seconds a producer keeps trying while Redis is away or takes no writes; 0 is an error at once",
    )
    model: str = Field(
        DEFAULT_MODEL, description="Hub id or local directory of a checkpoint: SigLIP, SigLIP 2, CLIP, …"
    )
    revision: str | None = Field(None, description="Hub commit; the default model is pinned, pin yours too")
    format: Format = Field(
        "auto",
        description="Which format of a checkpoint to load where it holds both; auto takes the one with weights there",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes cuda, then mps, then cpu")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is bfloat16 on cuda, float32 elsewhere"
    )
    batch_size: int = Field(0, ge=0, le=4096, description="Images per forward pass; 0 finds the fastest at start")
    bulk_chunks: int = Field(4, ge=1, le=64, description="Bulk chunks a worker has in flight")
    interactive_chunks: int = Field(8, ge=1, le=64, description="Interactive chunks a worker has in flight")
    fetch_threads: int = Field(16, ge=1, le=256, description="Threads that fetch images")
    decode_threads: int = Field(0, ge=0, le=128, description="Threads that decode and resize; 0 is one per usable CPU")
    decode_bytes: int = Field(
        0,
        ge=0,
        description="Bytes that images may take while they are decoded, all threads of a worker together; one that "
        "needs more waits for the others and goes alone. 0 is a quarter of the memory free at start, 512 MiB at least",
    )
    cpu_threads: int = Field(0, ge=0, le=1024, description="CPU threads of a forward pass; 0 is one per usable core")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile for the image tower; auto tries it on cuda and keeps it where it is faster"
    )
    preprocessing: Literal["scaled", "fast", "exact"] = Field(
        "fast",
        description="fast is within 2 of 255 of the model's own image processor, exact equals it to the bit, scaled "
        "reads JPEGs of more than 2048 pixels a side at half the size or less, within 4 of 255",
    )
    trace: Path | None = Field(None, description="File a worker writes its stages to, in Chrome's trace format")
    text_cache: int = Field(20_000, ge=1, description="Labels whose text vectors a worker keeps in memory")
    vector_store: SecretStr = Field(
        SecretStr("disk"),
        description="Where image vectors are kept: disk, off, redis://… for a Redis of its own that machines share, or "
        "the URL of a store that a package of yours brings",
    )
    vector_store_dir: Path | None = Field(
        None,
        description="Folder of the vectors on disk, not on a network share; default is vectors in the state folder",
    )
    search: Literal["auto", "numpy", "faiss"] = Field(
        "auto",
        description="What looks at stored vectors in a search: faiss (the extra prelabel[search]) or numpy; auto is "
        "faiss where it is installed. Both find the same",
    )
    vector_store_bytes: int = Field(
        4 * 2**30, ge=2**26, description="Bytes the vectors on disk may take; the longest unused go first"
    )

    image_roots: Annotated[tuple[Path, ...], NoDecode] | None = Field(
        None,
        description="Folders local images may lie in, separated by ':'; default is the worker's current folder",
    )
    allow_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts, host:port or CIDR ranges that may be fetched from though they are private, comma-separated",
    )
    max_image_bytes: int = Field(25 * 2**20, ge=1, description="Largest image file, bytes")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest image, pixels")
    fetch_timeout_s: float = Field(
        30.0, gt=0, description="Seconds one image may take to fetch, all redirects included"
    )
    max_redirects: int = Field(3, ge=0, le=20, description="Redirects followed per image")
    fetch_attempts: int = Field(3, ge=1, le=20, description="Tries per image while the store answers 5xx or not at all")

    lease_s: float = Field(
        10.0, ge=1, description="Seconds a chunk stays with a silent worker before it is given out again"
    )
    item_retries: int = Field(
        5,
        ge=0,
        le=20,
        description="Times a bulk image is tried again later when its store does not deliver or memory is short",
    )
    grace_s: float = Field(30.0, ge=0, description="Seconds a stopping worker may take to finish what it has")
    job_ttl_s: int = Field(7 * 86400, ge=60, description="Seconds a finished job is kept")
    state_dir: Path = Field(
        default_factory=_state_dir,
        description="Where the embedded broker keeps its data, and each machine what spares it work at the next start",
    )

    label_studio_url: str | None = Field(
        None,
        validation_alias=AliasChoices("label_studio_url", "LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"),
        description="Label Studio as the adapter and the workers reach it",
    )
    label_studio_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("label_studio_api_key", "LABEL_STUDIO_API_KEY"),
        description="Personal access token or legacy token",
    )
    s3_direct: bool = Field(
        False,
        description="Fetch s3:// images of Label Studio tasks with the workers' own AWS credentials, not through it",
    )
    basic_auth_user: str | None = Field(
        None,
        validation_alias=AliasChoices("basic_auth_user", "BASIC_AUTH_USER"),
        description="User the adapter asks for; unset is no authentication",
    )
    basic_auth_pass: SecretStr | None = Field(
        None, validation_alias=AliasChoices("basic_auth_pass", "BASIC_AUTH_PASS"), description="Its password"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="What our Label Studio webhooks carry; unset is a random one, kept in Redis"
    )
    reconcile_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Seconds between looks at connected Label Studio projects for missed tasks; 0 is never",
    )
    old_predictions: Literal["replace", "keep"] = Field(
        "replace", description="What becomes of a task's predictions of our earlier versions when there is a new one"
    )
    host: str = Field("127.0.0.1", description="Address the adapter and the workers' metrics listen on")
    port: int = Field(9090, ge=0, le=65535, description="Port the adapter listens on; 0 picks a free one")
    adapter_url: str | None = Field(
        None,
        description="The adapter as Label Studio reaches it; default its host and port, right on one machine",
    )
    predict_wait_s: float = Field(
        3.0, ge=0, le=90, description="Seconds /predict waits for answers before it promises a push"
    )
    predict_wait_tasks: int = Field(16, ge=0, description="/predict with more tasks than this does not wait at all")
    max_body_bytes: int = Field(50 * 2**20, ge=1024, description="Largest request body the adapter reads")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        validation_alias=AliasChoices("log_level", "PRELABEL_LOG_LEVEL", "LOG_LEVEL"),
        description="Log level",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="text for people; json is one object a line, with the job and item as fields"
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of GET /metrics without authentication, of workers and adapter; 0 is none. Where it is "
        "taken, by another worker of the host, say, the next free one of 16",
    )
    claim_gpu: bool = Field(
        False, description="Take a GPU of this host that no other worker has claimed; for workers started alike"
    )

    @field_validator("image_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(_at_home(Path(part)) for part in value.split(os.pathsep) if part)
        return value

    @field_validator("state_dir", "vector_store_dir")
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        return value and _at_home(value)

    @field_validator("model")
    @classmethod
    def _checkpoint(cls, value: str) -> str:
        return str(_at_home(Path(value))) if value.startswith("~") else value

    @field_validator("allow_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @field_validator("vector_store")
    @classmethod
    def _known_store(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().strip()
        if text.lower() in ("disk", "off"):
            return SecretStr(text.lower())
        if not _STORE_URL.match(text):
            raise ValueError(
                "use disk, off, the redis:// (rediss:// for TLS) URL of a Redis for vectors alone, or the URL of a "
                "store that a package of yours brings"
            )
        return SecretStr(text)

    @field_validator("label_studio_url", "adapter_url")
    @classmethod
    def _bare_url(cls, value: str | None) -> str | None:
        """As people write it: `localhost:8080` is an address too."""
        if not value:
            return None
        return (value if "://" in value else f"http://{value}").rstrip("/")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    def environment(self) -> dict[str, str]:
        """Every setting as a variable for a child process, whatever this process's say. Holds secrets: never log it."""
        made = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            variable = _variable(name)
            if value is None:
                value = ""  # an empty variable counts as unset
            elif isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, tuple):
                value = (os.pathsep if name == "image_roots" else ",").join(map(str, value))
            made[variable] = str(value)
        return made

    @property
    def pinned_revision(self) -> str | None:
        """The revision to load: the one set, or the default model's pinned commit."""
        if self.revision is None and self.model == DEFAULT_MODEL:
            return DEFAULT_REVISION
        return self.revision


def _aliases(fields: Mapping[str, FieldInfo]) -> set[str]:
    """The other names that settings go by."""
    aliases = [field.validation_alias for field in fields.values()]
    return {str(name) for alias in aliases if isinstance(alias, AliasChoices) for name in alias.choices}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once.

    Raises:
        ConfigError: a variable has a value that cannot be used; names it.
    """
    return load_settings()


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with some given here instead.

    Raises:
        ConfigError: a value cannot be used; names the setting, never the value.
    """
    return Settings(**overrides)


def _variable(name: str) -> str:
    """The variable of the environment that a setting is read from."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[1]) if isinstance(alias, AliasChoices) else f"PRELABEL_{name.upper()}"
