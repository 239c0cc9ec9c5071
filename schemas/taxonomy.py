"""Taxonomy: the labels one control may answer with, and everything that decides how they are scored."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .errors import ConfigError
from .wire import Model, WireModel, brief, kind_of

LabelPath = tuple[str, ...]
"""A label's names from the root down; a flat label has a path of length one."""

Choice = Literal["single", "multiple"]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]

DEFAULT_TEMPLATE = "This is a photo of {label}."
"""The prompt the SigLIP paper and model card use (https://huggingface.co/google/siglip-base-patch16-512)."""

DEFAULT_MULTIPLE_THRESHOLD = 0.1
"""Sigmoid from which a label is set in a multiple choice. Released SigLIP checkpoints often give right labels
0.05-0.3, because the learned bias encodes the rarity of positives in training, so 0.5 would drop most of them."""

MAX_LEVELS = 64
"""Levels of a tree. The deepest taxonomies in use, of species, have some thirty; far more is a slip of whoever made the
file, and JSON cannot hold any number."""

DEFAULT_TREE_THRESHOLD = 0.5
"""A node of a tree is answered when at least this much probability lies below it."""


class Label(Model):
    """One label, and for a tree everything below it.

    `prompts` replaces the prompts otherwise made from the name, the synonyms (each through the template) and
    the description (verbatim). `threshold` overrides the taxonomy's for this label. `answer` is what a platform
    stores in place of the name (an alias); scoring does not read it.
    """

    name: Annotated[str, Field(min_length=1)]
    synonyms: tuple[str, ...] = ()
    description: str | None = None
    prompts: tuple[str, ...] = ()
    threshold: Probability | None = None
    answer: str | None = None
    children: tuple[Label, ...] = ()


class Taxonomy(WireModel):
    """What one question may be answered with.

    Attributes:
        labels: roots of the tree; for a flat taxonomy all of the labels.
        choice: "single" when exactly one label is right (softmax over the leaves), "multiple" when each label
            is right or wrong on its own (sigmoid).
        template: prompt for a name; `{label}` is replaced.
        threshold: probability (0..1) a label must reach to be answered. None: no threshold for a flat single
            choice (the best label is always answered), 0.1 for multiple, 0.5 for a tree.
        temperature: logits are divided by it before softmax or sigmoid; > 1 softens.
        logit_shift: added to every logit before a sigmoid, in log-odds: moves the checkpoint's training prior
            to yours. Raw logits in a prediction are never shifted.
        max_answers: labels answered at most in a multiple choice, the likeliest; None is no bound.
        is_open: every item brings labels of its own (`Item.options`), in addition to these, of which there may be
            none then.
    """

    labels: tuple[Label, ...]
    choice: Choice = "single"
    template: str = DEFAULT_TEMPLATE
    threshold: Probability | None = None
    temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    logit_shift: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    max_answers: Annotated[int, Field(ge=1)] | None = None
    is_open: bool = False

    @classmethod
    def flat(cls, labels: Iterable[str | Label], choice: Choice = "single", **options: Any) -> Self:
        """A taxonomy without levels.

        Args:
            labels: names, or `Label` objects where a label carries synonyms, a description or a threshold.
            choice: "single" or "multiple".
            options: any other field of `Taxonomy`.

        Raises:
            ConfigError: no label, an empty or a duplicate name, a bad option.
        """
        if isinstance(labels, str):
            text = brief(labels)
            raise ConfigError(f"labels must be a list of names, not the string {text}: did you mean [{text}]?")
        if isinstance(labels, Mapping):
            raise ConfigError("labels must be a list of names, not a mapping: did you mean Taxonomy.tree?")
        if isinstance(labels, bytes) or not isinstance(labels, Iterable):
            raise ConfigError(f"labels must be a list of names, not {kind_of(labels)}")
        return cls(labels=tuple(_as_label(label) for label in labels), choice=choice, **options)

    @classmethod
    def tree(cls, labels: Mapping[str, Any], choice: Choice = "single", **options: Any) -> Self:
        """A taxonomy with levels: `{"animal": ["cat", "dog"], "vehicle": {"car": ["taxi", "van"]}}`.

        Args:
            labels: name -> children; children are a mapping, a list of names or `Label`s, or None for a leaf.
            choice: "single" answers one path, "multiple" answers every leaf that clears its threshold.
            options: any other field of `Taxonomy`.

        Raises:
            ConfigError: as for `flat`; or more than 64 levels.
        """
        if not isinstance(labels, Mapping):
            raise ConfigError(
                f"a tree must be a mapping from names to what is below them, not {kind_of(labels)}: a list of names is "
                "Taxonomy.flat([...])"
            )
        roots = tuple(_as_branch(name, below, 1) for name, below in labels.items())
        return cls(labels=roots, choice=choice, **options)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.labels and not self.is_open:
            raise ConfigError("a taxonomy needs at least one label")
        if any(len(path) > MAX_LEVELS for path, _ in self.walk()):
            raise _too_deep()
        _refuse_duplicates(self.labels, ())
        if "{label}" not in self.template:
            raise ConfigError(f"template {brief(self.template)} must contain {{label}}")
        return self

    def closed(self, labels: tuple[Label, ...]) -> Self:
        """The taxonomy of one item: an open one's rules and labels, and the labels the item brings.

        Raises:
            ConfigError: no label at all, a name twice, or something that is no label.
        """
        if not isinstance(labels, Iterable):
            raise ConfigError(f"labels must be a list, not {kind_of(labels)}")
        return type(self)(labels=(*self.labels, *map(_as_label, labels)), **{**self._rules(), "is_open": False})

    def _rules(self) -> dict[str, Any]:
        """Every field but the labels."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ("labels", "wire_version")}

    @cached_property
    def is_tree(self) -> bool:
        """Whether any label has children."""
        return any(label.children for label in self.labels)

    def leaves(self) -> list[tuple[LabelPath, Label]]:
        """The labels that are scored, in the order given; rows of every score matrix follow it."""
        return [(path, label) for path, label in self.walk() if not label.children]

    def walk(self) -> Iterator[tuple[LabelPath, Label]]:
        """Every node with its path, parents before children."""
        stack: list[tuple[LabelPath, Label]] = [((label.name,), label) for label in reversed(self.labels)]
        while stack:
            path, label = stack.pop()
            yield path, label
            stack.extend(((*path, child.name), child) for child in reversed(label.children))

    def prompts(self) -> list[tuple[str, ...]]:
        """The prompts of every leaf, in the order of `leaves()`; at least one each.

        A leaf name that occurs under several parents ("red > circle", "blue > circle") says nothing on its own,
        so there the whole path is put into the template ("red circle").
        """
        leaves = self.leaves()
        occurrences = Counter(path[-1] for path, _ in leaves)
        return [
            _prompts(label, " ".join(path) if occurrences[path[-1]] > 1 else label.name, self.template)
            for path, label in leaves
        ]

    def node_threshold(self, label: Label) -> float | None:
        """The probability `label` must reach to be answered; None means it need not reach any.

        Raises:
            ConfigError: it is no `Label`.
        """
        if not isinstance(label, Label):
            raise ConfigError(f"a label must be a Label, not {kind_of(label)}")
        if label.threshold is not None:
            return label.threshold
        if self.threshold is not None:
            return self.threshold
        if self.choice == "multiple":
            return DEFAULT_MULTIPLE_THRESHOLD
        return DEFAULT_TREE_THRESHOLD if self.is_tree else None

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits that change when, and only when, an answer could: sha256 over what scoring reads.

        The order of labels and of a label's prompts does not matter, nor how the prompts were arrived at.
        """
        prompts = {path: texts for (path, _), texts in zip(self.leaves(), self.prompts(), strict=True)}
        nodes = sorted(
            (list(path), sorted(prompts.get(path, ())), self.node_threshold(label))
            for path, label in self.walk()
            # In a multiple choice leaves alone are answered: a parent's threshold is never read.
            if not label.children or self.choice == "single"
        )
        content: list[Any] = [
            self.choice,
            self.temperature,
            self.logit_shift if self.choice == "multiple" else 0.0,
            nodes,
        ]
        # Left out where they are not used, so that they changed no fingerprint when they came.
        if self.max_answers is not None and self.choice == "multiple":
            content.append(["at most", self.max_answers])
        if self.is_open:
            content.append(["open", self.template, self.threshold])
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _prompts(label: Label, text: str, template: str) -> tuple[str, ...]:
    if label.prompts:
        return label.prompts
    made = [template.replace("{label}", _as_words(name)) for name in (text, *label.synonyms)]
    if label.description:
        made.append(label.description)
    return tuple(dict.fromkeys(made))


def _as_words(name: str) -> str:
    """A name as it is read: composed characters (NFC), single spaces. The name itself stays as its owner wrote it."""
    return unicodedata.normalize("NFC", " ".join(name.split()))


def _as_label(label: str | Label) -> Label:
    if isinstance(label, Label):
        return label
    if not isinstance(label, str) or not label.strip():
        raise ConfigError(f"a label must be a non-empty name, got {brief(label)}")
    return Label(name=label)


def _as_branch(name: str, below: Any, level: int) -> Label:
    if level > MAX_LEVELS:
        raise _too_deep()
    if below is None:
        return _as_label(name)
    if isinstance(below, Mapping):
        return Label(name=name, children=tuple(_as_branch(child, deeper, level + 1) for child, deeper in below.items()))
    if isinstance(below, Sequence) and not isinstance(below, str):
        return Label(name=name, children=tuple(_as_label(child) for child in below))
    raise ConfigError(f"children of {brief(name)} must be a mapping, a list or None, got {kind_of(below)}")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


_LONGEST_NAME = 40
"""Characters of a name in a message."""


def _too_deep() -> ConfigError:
    return ConfigError(f"a taxonomy of more than {MAX_LEVELS} levels cannot be used: is the file as you meant it?")


def _refuse_duplicates(labels: tuple[Label, ...], parent: LabelPath) -> None:
    names = Counter(label.name for label in labels)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        where = f" under {_short(' > '.join(parent))}" if parent else ""
        shown = ", ".join(_short(name) for name in repeated[:5])
        raise ConfigError(f"duplicate label{'s' if len(repeated) > 1 else ''}{where}: {shown}")
    for label in labels:
        _refuse_duplicates(label.children, (*parent, label.name))
