"""A checkpoint before it is loaded: where it lies and what its config says. Nothing here reads a weight."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...schemas.errors import ModelLoadError, ModelUnreachable
from ...schemas.settings import Format
from .files import first_line, weights_problem_in

CONFIG: Final = "config.json"
_PROCESSOR: Final = "processor_config.json"
_IMAGE_PROCESSOR: Final = "preprocessor_config.json"
_TOKENIZER: Final = "tokenizer_config.json"
OPEN_CLIP_CONFIG: Final = "open_clip_config.json"
OPEN_CLIP: Final = "open_clip"
"""The `model_type` of all checkpoints in OpenCLIP's format, whose config has no such thing."""

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
    """A checkpoint in transformers' format, or in OpenCLIP's.

    Attributes:
        model: its name as it was given: hub id or local directory.
        revision: hub commit; None is the repository's main branch.
        folder: the local directory; None for one on the hub.
        config: what its config holds.
        config_file: the config's name, which tells the format.
    """

    model: str
    revision: str | None
    folder: Path | None
    config: Mapping[str, Any]
    config_file: str = CONFIG

    @property
    def source(self) -> str:
        """What transformers' `from_pretrained` takes."""
        return str(self.folder or self.model)

    @property
    def model_type(self) -> str:
        """What the config calls the kind of model."""
        return OPEN_CLIP if self.config_file == OPEN_CLIP_CONFIG else str(self.config["model_type"])

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
        self.require_tokenizer("save the checkpoint's processor there too, processor.save_pretrained(folder)")
        if not _has_weights(self.folder):
            if self.pickles():
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

    def require_tokenizer(self, fix: str) -> None:
        """That a local directory holds a tokenizer's vocabulary.

        Args:
            fix: what to do where it holds none.

        Raises:
            ModelLoadError: it holds none.
        """
        if self.folder and not any(True for pattern in _VOCABULARIES for _ in self.folder.glob(pattern)):
            raise self.refused(f"it holds no tokenizer file (tokenizer.json, spiece.model, …): {fix}")

    def pickles(self) -> list[str]:
        """Names of files in a local directory that may be pickled weights."""
        return sorted(path.name for pattern in _PICKLES for path in self.folder.glob(pattern)) if self.folder else []

    def require_whole_weights(self) -> None:
        """That every weights file of a local directory is as long as it says, and that none is missing.

        Of a checkpoint on the hub its own client makes sure.

        Raises:
            ModelLoadError: one is damaged, cut short or missing.
        """
        if not self.folder:
            return
        if problem := weights_problem_in(self.folder, but=_ADAPTER_WEIGHTS):
            raise self.refused(problem)

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
        with contextlib.suppress(Exception):  # it is for people alone
            return _cached_file(self.model, name, self.revision)
        return None

    def first_of(self, names: Sequence[str]) -> Path | None:
        """The first of some files that it has; of one on the hub from the cache or the hub. None where it has none.

        Raises:
            ModelLoadError: the hub does not say whether it has one.
        """
        if self.folder:
            return next((self.folder / name for name in names if (self.folder / name).is_file()), None)
        failed = None
        for name in names:
            try:
                if path := _cached_file(self.model, name, self.revision, local_files_only=failed is not None):
                    return path
            except Exception as error:  # the hub's client raises a dozen unrelated types
                failed = failed or error
        if failed:
            raise _unreachable(self.model, first_line(failed), answered=_answered(failed)) from failed
        return None

    def load_error(self, error: Exception, what: str = "what is in it") -> ModelLoadError:
        """What a loader raised, in one line; where the hub may be to blame, with what helps there.

        Args:
            error: what it raised.
            what: the files it read.
        """
        reason = first_line(error)
        if not self.folder and "safetensors" in reason and isinstance(error, OSError):
            return self.refused(_converted(self.source))
        if self.folder:
            return self.refused(f"{what} cannot be used, copy the checkpoint again: {reason}")
        return _unreachable(self.model, reason)


def read_checkpoint(model: str, revision: str | None, wanted: Format = "auto") -> Checkpoint:
    """Look at a checkpoint; one on the hub comes from transformers' cache, or is asked for its config.

    Args:
        model: hub id or local directory.
        revision: hub commit; None is the repository's main branch.
        wanted: its format. "auto" takes that of a local directory whose weights are there, and on the hub that of
            transformers where there is one.

    Raises:
        ModelLoadError: there is no such checkpoint, its config does not say what kind of model it is, or a local
            directory holds weights of both formats.
    """
    folder: Path | None = Path(model).expanduser()
    if folder and folder.is_dir():
        path = _local_config(model, folder, wanted)
    else:
        require_folder(model)
        folder, path = None, _hub_config(model, revision, wanted)
    return Checkpoint(model, revision, folder, _read_config(model, folder, path), path.name)


def require_folder(model: str) -> None:
    """Refuse what is written as a local directory and is none, without asking anybody; let a hub id pass.

    Raises:
        ModelLoadError: there is no such directory.
    """
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise ModelLoadError(f"PRELABEL_MODEL={model}: no such directory")


def _local_config(model: str, folder: Path, wanted: Format) -> Path:
    if (folder / _ADAPTER).is_file() and not _has_weights(folder):
        raise _refused(model, folder, _ONLY_AN_ADAPTER)
    path = folder / (_format_there(model, folder) if wanted == "auto" else _CONFIGS[wanted])
    if not path.is_file():
        asked = "" if wanted == "auto" else f", which PRELABEL_FORMAT={wanted} asks for"
        raise _refused(model, folder, f"it holds no {path.name}{asked}: set PRELABEL_MODEL to a checkpoint's folder")
    return path


_CONFIGS: Final[Mapping[Format, str]] = {"transformers": CONFIG, "openclip": OPEN_CLIP_CONFIG}


def _format_there(model: str, folder: Path) -> str:
    """The config of the format whose weights are there, where a folder holds both configs."""
    if not (folder / OPEN_CLIP_CONFIG).is_file():
        return CONFIG
    if not _names_a_kind(folder / CONFIG):  # timm writes a config.json of its own beside OpenCLIP's
        return OPEN_CLIP_CONFIG
    ours, theirs = (sorted(folder.glob(name)) for name in ("model*.safetensors", "open_clip_*.safetensors"))
    if ours and theirs and importlib.util.find_spec("open_clip"):
        raise _refused(
            model,
            folder,
            f"it holds weights in two formats, {ours[0].name} and {theirs[0].name}: set PRELABEL_FORMAT to "
            "transformers or openclip to say which to load",
        )
    return OPEN_CLIP_CONFIG if theirs and not ours else CONFIG


def _names_a_kind(path: Path) -> bool:
    """Whether there is a config.json that says what kind of model it is, as transformers' do."""
    with contextlib.suppress(OSError, ValueError):
        config = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(config, dict) and isinstance(config.get("model_type"), str)
    return False


_ONLY_AN_ADAPTER = (
    "adapter_config.json says that it is an adapter (LoRA) without its base model: merge the two with peft's "
    "merge_and_unload(), save the result with its processor, and set PRELABEL_MODEL to it"
)


def _hub_config(model: str, revision: str | None, wanted: Format) -> Path:
    config = OPEN_CLIP_CONFIG if wanted == "openclip" else CONFIG
    failed, path = None, None
    for name in (config, OPEN_CLIP_CONFIG, _ADAPTER) if wanted == "auto" else (config, _ADAPTER):
        try:
            # Where the hub did not answer it is not asked again: that would take as long.
            path = _cached_file(model, name, revision, local_files_only=failed is not None)
        except Exception as error:  # the hub's client raises a dozen unrelated types
            failed = failed or error
        if path:
            break
    if path and path.name == _ADAPTER:
        raise _refused(model, None, _ONLY_AN_ADAPTER) from failed
    if path and path.name == CONFIG and wanted == "auto" and not _names_a_kind(path):
        with contextlib.suppress(Exception):  # without one, what is wrong with config.json is said
            return _cached_file(model, OPEN_CLIP_CONFIG, revision) or path
    if path:
        return path
    if failed:
        raise _unreachable(model, first_line(failed), answered=_answered(failed)) from failed
    raise _refused(model, None, f"it holds no {config}: set PRELABEL_MODEL to a checkpoint")


def _cached_file(model: str, name: str, revision: str | None, *, local_files_only: bool = False) -> Path | None:
    """One file of a checkpoint on the hub, from the cache or from there; None where it has no such file.

    Raises:
        OSError: it is not in the cache and the hub did not give it; and more of the hub client's types.
    """
    from transformers.utils import cached_file

    with quiet_transformers():
        try:
            found = cached_file(model, name, revision=revision, local_files_only=local_files_only)
        except OSError as error:
            if error.__cause__ or error.errno is not None:
                raise
            found = None  # raised from nothing else where the repository has no such file
    return Path(found) if found else None


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
            model, folder, f"{path.name} cannot be read, copy the checkpoint again: {first_line(error)}"
        ) from error
    if path.name == OPEN_CLIP_CONFIG:
        return config if isinstance(config, dict) else {}
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise _refused(
            model,
            folder,
            "config.json names no model_type: set PRELABEL_MODEL to a checkpoint in transformers' format or OpenCLIP's",
        )
    return config


def _converted(source: str) -> str:
    """Why pickled weights are not opened, and what makes others of them."""
    # JSON's strings are Python's, and their double quotes need no escapes between the shell's single ones.
    name = json.dumps(source)
    code = f'from transformers import AutoModel; AutoModel.from_pretrained({name}).save_pretrained("converted")'
    return (
        "it holds pickled weights and no *.safetensors, and pickles are never opened, for they can run code: convert "
        f"them once where you trust them, python -c {shlex.quote(code)}, copy the other files beside them and set "
        "PRELABEL_MODEL to that folder"
    )


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
