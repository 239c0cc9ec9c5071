"""The base of every message: strict, frozen, versioned JSON."""

from __future__ import annotations

import reprlib
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from .errors import ConfigError, PrelabelError, WireVersionError


class Model(BaseModel):
    """A frozen pydantic model that refuses unknown fields.

    What programs get wrong that make one by hand is our error, not pydantic's. Errors hold no input: references may be
    signed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", hide_input_in_errors=True)

    def __init__(self, /, **fields: Any) -> None:
        """Make one in Python.

        Raises:
            ConfigError: a field has a value that cannot be used; names the field, never the value.
        """
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(f"{type(self).__name__}: {first_problem(error)}") from None
        except PrelabelError:
            raise
        except Exception as error:  # a value's own `repr` or `==` that fails while it is looked at
            raise ConfigError(f"{type(self).__name__}: a value cannot be used ({kind_of(error)})") from None

    # For pydantic: reading a message makes objects without the method above, as fast as without it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what was written as JSON.

        Raises:
            ConfigError: not such a message; one line, without what the message holds.
            WireVersionError: written by another wire version.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"not a valid {cls.__name__} message: {first_problem(error)}") from None


class WireModel(Model):
    """A model that travels between processes as JSON and says which wire version it speaks.

    The version is bumped when an older reader would misunderstand a message. A reader refuses versions
    it does not know (`WireVersionError`) before it looks at any other field, so that a newer producer gets
    a clear answer instead of a complaint about an unknown field.
    """

    WIRE_VERSION: ClassVar[int] = 1

    wire_version: int = 1

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_version(cls, data: Any) -> Any:
        if isinstance(data, dict):
            version = data.get("wire_version", cls.WIRE_VERSION)
            if not isinstance(version, int) or version != cls.WIRE_VERSION:
                raise WireVersionError(
                    f"{cls.__name__} has wire version {brief(version)}, this prelabel speaks {cls.WIRE_VERSION}: "
                    "run the same prelabel release on clients, adapter and workers"
                )
        return data

    def to_json(self) -> str:
        """Compact JSON: the version first, then every field that is not at its default."""
        fields = self.model_dump_json(exclude_defaults=True)[1:]
        return f'{{"wire_version":{self.WIRE_VERSION}{"" if fields == "}" else ","}{fields}'


def first_problem(error: ValidationError) -> str:
    """One line for people: where the first validation error is and what it says. Holds no input value."""
    problem = error.errors(include_input=False, include_url=False)[0]
    where = " ".join(".".join(str(part) for part in problem["loc"]).split())[:_LONGEST]
    said = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def brief(value: object) -> str:
    """A value as a message may show it: one short line, whatever it is."""
    try:
        text = reprlib.repr(value)
    except Exception:  # a repr of its own that fails
        text = type(value).__name__
    return " ".join(text.encode(errors="backslashreplace").decode().split())[:_LONGEST]


def kind_of(value: object) -> str:
    """What a value is, for a message that must not show it."""
    return "None" if value is None else type(value).__name__[:_LONGEST]


_LONGEST = 80
"""Characters of a value in a message."""
