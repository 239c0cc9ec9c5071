"""A checkpoint before it is loaded: where it lies and what its config.json says. Nothing here reads a weight."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...schemas.errors import ModelLoadError, ModelUnreachable

CONFIG: Final = "config.json"
_PROCESSOR: Final = "processor_config.json"
_IMAGE_PROCESSOR: Final = "preprocessor_config.json"
_TOKENIZER: Final = "tokenizer_config.json"
_ADAPTER: Final = "adapter_config.json"
_ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_README: Final = "README.md"
_README_HEAD: Final = 4096
_LICENCE: Final = re.compile(r"\A---\s*$.*?^licen[sc]e:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*$.*?^---", re.M | re.S)
"""In a model card's metadata (https://huggingface.co/docs/hub/model-cards)."""

_VOCABULARIES: Final = ("tokenizer.json", "*.model", "vocab*", "*.spm", "*.tiktoken")
"""Where the tokenizers of transformers keep their vocabularies."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in transformers' format.

    Attributes:
        model: its name as it was given: hub id or local directory.
        revision: hub commit; None is the repository's main branch.
        folder: the local directory; None for one on the hub.
        config: what its config.json holds.
    """

    model: str
    revision: str | None
    folder: Path | None
    config: Mapping[str, Any]

    @property
    def source(self) -> str:
        """What transformers' `from_pretrained` takes."""
        return str(self.folder or self.model)

    @property
    def model_type(self) -> str:
        """What the config calls the kind of model."""
        return str(self.config["model_type"])

    @property
    def image_processor_file(self) -> str:
        """Which of its files says what is done to images: transformers 5 writes another one than 4 did."""
        try:
            processor = (self.folder / _PROCESSOR).read_text(encoding="utf-8") if self.folder else ""
        except (OSError, ValueError):
            processor = ""
        alone = self.folder is not None and not (self.folder / _IMAGE_PROCESSOR).is_file()
        return _PROCESSOR if '"image_processor"' in processor or (processor and alone) else _IMAGE_PROCESSOR

    @property
    def tokenizer_class(self) -> str:
        """What a local directory calls its tokenizer, which transformers may pass over; empty where it does not say."""
        try:
            told = json.loads((self.folder / _TOKENIZER).read_text(encoding="utf-8")) if self.folder else {}
        except (OSError, ValueError):
            return ""
        return str(told.get("tokenizer_class") or "") if isinstance(told, dict) else ""

    def refused(self, reason: str) -> ModelLoadError:
        """The error that says in one line why it cannot be loaded; the reason names the file and the fix."""
        return _refused(self.model, self.folder, reason)

    def require_files(self) -> None:
        """What transformers needs of a local directory: a tokenizer, and weights that are no pickle.

        Of a checkpoint on the hub it says so itself.

        Raises:
            ModelLoadError: a file is missing.
        """
        if not self.folder:
            return
        if not any(True for pattern in _VOCABULARIES for _ in self.folder.glob(pattern)):
            raise self.refused(
                "it holds no tokenizer file (tokenizer.json, spiece.model, …): "
                "save the checkpoint's processor there too, processor.save_pretrained(folder)"
            )
        if not _has_weights(self.folder):
            if any(True for pattern in _PICKLES for _ in self.folder.glob(pattern)):
                raise self.refused(_converted(self.source))
            raise self.refused("it holds no *.safetensors: save the model there, model.save_pretrained(folder)")

    def require_image_processor(self) -> None:
        """That a local directory says what is done to images.

        Raises:
            ModelLoadError: it does not.
        """
        file = self.image_processor_file
        if self.folder and not (self.folder / file).is_file():
            raise self.refused(
                f"it holds no {file}: save the checkpoint's processor there, processor.save_pretrained(folder)"
            )

    def require_whole_weights(self) -> None:
        """That every weights file of a local directory is as long as it says, and that none is missing.

        Of a checkpoint on the hub its own client makes sure.

        Raises:
            ModelLoadError: one is damaged, cut short or missing.
        """
        if not self.folder:
            return
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name != _ADAPTER_WEIGHTS and (problem := weights_problem(path)):
                raise self.refused(f"{path.name} is damaged or cut short, copy it again: {problem}")
        for path in sorted(self.folder.glob("*.safetensors.index.json")):
            try:
                wanted = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise self.refused(f"{path.name} cannot be read, copy it again: {_first_line(error)}") from error
            missing = [name for name in wanted if not (self.folder / str(name)).is_file()]
            if missing:
                raise self.refused(f"{path.name} names {missing[0]}, which is not there: copy it")

    def licence(self) -> str | None:
        """What the head of its README names as the weights' licence; None where it names none."""
        path = self.folder / _README if self.folder else self._cached(_README)
        try:
            text = path.read_text(encoding="utf-8", errors="replace")[:_README_HEAD] if path else ""
        except OSError:
            return None
        found = _LICENCE.search(text)
        return found[1] if found else None

    def _cached(self, name: str) -> Path | None:
        from transformers.utils import cached_file

        with quiet_transformers(), contextlib.suppress(Exception):  # it is for people alone
            return Path(str(cached_file(self.model, name, revision=self.revision)))
        return None

    def load_error(self, error: Exception, what: str = "what is in it") -> ModelLoadError:
        """What a loader raised, in one line; where the hub may be to blame, with what helps there.

        Args:
            error: what it raised.
            what: the files it read.
        """
        reason = _first_line(error)
        if not self.folder and "safetensors" in reason and isinstance(error, OSError):
            return self.refused(_converted(self.source))
        if self.folder:
            return self.refused(f"{what} cannot be used, copy the checkpoint again: {reason}")
        return _unreachable(self.model, reason)


def read_checkpoint(model: str, revision: str | None) -> Checkpoint:
    """Look at a checkpoint; one on the hub comes from transformers' cache, or is asked for its config.json.

    Args:
        model: hub id or local directory.
        revision: hub commit; None is the repository's main branch.

    Raises:
        ModelLoadError: there is no such checkpoint, or its config.json does not say what kind of model it is.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Checkpoint(model, revision, folder, _local_config(model, folder))
    require_folder(model)
    return Checkpoint(model, revision, None, _read_config(model, None, _hub_config(model, revision)))


def require_folder(model: str) -> None:
    """Refuse what is written as a local directory and is none, without asking anybody; let a hub id pass.

    Raises:
        ModelLoadError: there is no such directory.
    """
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise ModelLoadError(f"PRELABEL_MODEL={model}: no such directory")


def _local_config(model: str, folder: Path) -> Mapping[str, Any]:
    if (folder / _ADAPTER).is_file() and not _has_weights(folder):
        raise _refused(model, folder, _ONLY_AN_ADAPTER)
    if not (folder / CONFIG).is_file():
        raise _refused(model, folder, "it holds no config.json: set PRELABEL_MODEL to a checkpoint's folder")
    return _read_config(model, folder, folder / CONFIG)


_ONLY_AN_ADAPTER = (
    "adapter_config.json says that it is an adapter (LoRA) without its base model: merge the two with peft's "
    "merge_and_unload(), save the result with its processor, and set PRELABEL_MODEL to it"
)


def _hub_config(model: str, revision: str | None) -> Path:
    from transformers.utils import cached_file

    with quiet_transformers():
        try:
            return Path(str(cached_file(model, CONFIG, revision=revision)))
        except Exception as error:  # the hub's client raises a dozen unrelated types
            adapter = None
            with contextlib.suppress(Exception):
                # Where the hub did not answer it is not asked again: that would take as long.
                adapter = cached_file(model, _ADAPTER, revision=revision, local_files_only=not _answered(error))
            if adapter:
                raise _refused(model, None, _ONLY_AN_ADAPTER) from error
            raise _unreachable(model, _first_line(error), answered=_answered(error)) from error


def _answered(error: Exception) -> bool:
    """Whether the hub said that there is no such thing, or was not asked for a name that cannot be one."""
    from huggingface_hub import errors

    theirs = (errors.EntryNotFoundError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
    cause = error.__cause__
    return isinstance(cause, (*theirs, errors.HFValidationError)) and not isinstance(
        cause, errors.LocalEntryNotFoundError
    )


def _read_config(model: str, folder: Path | None, path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(
            model, folder, f"config.json cannot be read, copy the checkpoint again: {_first_line(error)}"
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise _refused(
            model, folder, "config.json names no model_type: set PRELABEL_MODEL to a checkpoint in transformers' format"
        )
    return config


def _converted(source: str) -> str:
    """Why pickled weights are not opened, and what makes others of them."""
    return (
        "it holds pickled weights and no *.safetensors, and pickles are never opened, for they can run code: convert "
        'them once where you trust them, python -c "from transformers import AutoModel; '
        f"AutoModel.from_pretrained('{source}').save_pretrained('converted')\", copy the other files beside them and "
        "set PRELABEL_MODEL to that folder"
    )


def weights_problem(path: Path) -> str:
    """What is wrong with a weights file, by its head and its length alone; empty where nothing is.

    A file is the length of its head (u64, little-endian), that head (JSON), and tensors at places that it names
    (https://huggingface.co/docs/safetensors).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                return "its head is longer than the file"
            head = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return _first_line(error)
    return "" if size == whole else f"it has {size:,} bytes and says {whole:,}"


def _has_weights(folder: Path) -> bool:
    return any(path.name != _ADAPTER_WEIGHTS for path in folder.glob("*.safetensors"))


def _refused(model: str, folder: Path | None, reason: str) -> ModelLoadError:
    return ModelLoadError(_refusal(model, folder, reason))


def _refusal(model: str, folder: Path | None, reason: str) -> str:
    return f"cannot load {'the checkpoint in ' if folder else ''}{model}: {reason}"


def _unreachable(model: str, reason: str, *, answered: bool = False) -> ModelLoadError:
    """The error for a checkpoint that did not come from the hub, which may or may not have answered."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    fix = (
        "HF_HUB_OFFLINE is set and it is not in the cache (HF_HOME): copy it there"
        if offline
        else "is the hub reachable from here? Otherwise download it elsewhere"
    )
    kind = ModelLoadError if offline or answered else ModelUnreachable
    return kind(_refusal(model, None, f"{reason} ({fix}, or set PRELABEL_MODEL to a local directory)"))


def _first_line(error: Exception) -> str:
    """Of what an error says; with the next one where it only leads up to that."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Warnings and bars of its loaders do not reach the terminal."""
    from transformers.utils import logging as theirs

    verbosity = theirs.get_verbosity()
    bars = theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()
