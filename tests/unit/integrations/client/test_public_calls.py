"""Every public call, found among what is exported: whatever it is given, it raises our errors, in a short line."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from prelabel import schemas
from prelabel.integrations import Client, Job
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.testing import MemoryClient
from prelabel.schemas import Chunk, Control, ImageRef, Item, JobSpec, ModelVersion, PrelabelError, Taxonomy
from tests.unit.integrations.client.test_arguments import is_one_short_line, junk

LABELS = Taxonomy.flat(["cat", "dog"])
ITEM = Item(images=(ImageRef(uri="s3://b/1.jpg", name="left"),))
XML = '<View><Image name="i" value="$i"/><Choices name="c" toName="i"><Choice value="cat"/></Choices></View>'

MODULES = ("schemas", "integrations", "integrations.testing", "integrations.label_studio.label_config")
NO_ERRORS_OF_OURS = {"JobState", "Priority"}
"""Enumerations: Python's own error names the value and what there is."""

INSTANCES: dict[str, Callable[[], Any]] = {
    "Chunk": lambda: Chunk(first=0, items=(ITEM,)),
    "Item": lambda: ITEM,
    "Taxonomy": lambda: LABELS,
    "ModelVersion": lambda: ModelVersion(model="m@1", taxonomy="abcdef"),
    "JobSpec": lambda: JobSpec(controls=(Control(taxonomy=LABELS),)),
    "Client": MemoryClient,
    "MemoryClient": MemoryClient,
    "Job": lambda: MemoryClient().submit(["s3://b/1.jpg"], LABELS),
    "LabelConfig": lambda: LabelConfig.parse(XML),
}
"""What methods are called on."""

GOOD: dict[str, Any] = {
    "items": ["s3://b/1.jpg"],
    "source": "a.jpg",
    "uri": "a.jpg",
    "images": (ImageRef(uri="a"),),
    "item": ITEM,
    "taxonomy": LABELS,
    "controls": (Control(taxonomy=LABELS),),
    "labels": ["cat"],
    "choice": "single",
    "model": "m@1",
    "text": "{}",
    "name": "x",
    "limit": 1,
    "timeout": 0.0,
    "ordinal": 0,
    "index": 0,
    "project": 7,
    "x": 1.0,
    "y": 1.0,
    "width": 1.0,
    "height": 1.0,
    "path": ("cat",),
    "control": "c",
    "rule": "softmax",
    "confidence": 0.5,
    "probability": 0.5,
    "total": 1,
    "done": 1,
    "failed": 0,
    "state": "done",
    "job_id": "a",
    "first": 0,
    "kind": "k",
    "message": "m",
    "xml": XML,
    "problem": "p",
    "id": "i",
    "delivered": [0],
}
"""What a parameter of that name is content with, so that the others are looked at, too."""


def public_calls() -> dict[str, tuple[Callable[[], Callable[..., Any]], list[str], bool]]:
    """Name -> what gives the callable, its parameters, and whether it takes any others."""
    calls = {}
    for module in MODULES:
        exported = importlib.import_module(f"prelabel.{module}")
        for name in exported.__all__:
            thing = getattr(exported, name)
            if inspect.isfunction(thing):
                calls[name] = (lambda thing=thing: thing, *_parameters(thing))
            if not inspect.isclass(thing) or issubclass(thing, BaseException) or name in NO_ERRORS_OF_OURS:
                continue
            if issubclass(thing, BaseModel):
                calls[name] = (lambda thing=thing: thing, [*thing.model_fields, "unknown"], False)
            elif thing not in (Job, LabelConfig):  # of which others make objects
                calls[name] = (lambda thing=thing: thing, *_parameters(thing))
            for method in _methods(thing):
                owner = INSTANCES.get(name, lambda thing=thing: thing)
                calls[f"{name}.{method}"] = (
                    lambda owner=owner, method=method: getattr(owner(), method),
                    *_parameters(getattr(thing, method)),
                )
    return calls


def _methods(thing: type) -> list[str]:
    own = {name for base in thing.__mro__ if base.__module__.startswith("prelabel") for name in vars(base)}
    return [name for name, _ in inspect.getmembers(thing, callable) if name in own and not name.startswith("_")]


def _parameters(thing: Callable[..., Any]) -> tuple[list[str], bool]:
    parameters = inspect.signature(thing).parameters
    named = [name for name, one in parameters.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    return [name for name in named if name != "self"], any(one.kind is one.VAR_KEYWORD for one in parameters.values())


CALLS = public_calls()


def test_the_exports_are_looked_at() -> None:
    assert {"Taxonomy", "Taxonomy.tree", "Client.submit", "Job.wait", "Region", "model_id", "LabelConfig.parse"} <= set(
        CALLS
    )
    assert set(schemas.__all__) - {name.partition(".")[0] for name in CALLS} - NO_ERRORS_OF_OURS == {
        "LabelPath", "get_settings", *(name for name in schemas.__all__ if name.endswith("Error")),
        "BrokerUnavailable", "OutOfMemory",
    }  # fmt: skip


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("call", CALLS)
def test_whatever_a_public_call_is_given_what_it_raises_is_ours(call: str, number: int) -> None:
    make, parameters, takes_more = CALLS[call]

    @seed(number)
    @property_settings(
        max_examples=15, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        given_ = {}
        for name in [*parameters, *(["unknown"] if takes_more else [])]:
            values = [junk, *([st.just(GOOD[name])] * 2 if name in GOOD else [])]
            if name not in GOOD and data.draw(st.booleans(), f"leave out {name}"):
                continue
            value = data.draw(st.one_of(values), name)
            # What can be called is called, and what it raises is its owner's.
            given_[name] = None if callable(value) else value
        call_it(make(), given_)

    check()


def call_it(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError:
        return  # no such call: Python itself says so, where it is written
    except ValueError:
        pass
    try:
        with contextlib.suppress(TimeoutError):  # a job may well not have ended within no time
            result = function(**arguments)
            if inspect.isgenerator(result):
                list(result)
            if isinstance(result, Client) and not isinstance(result, MemoryClient):
                result.close()
    except PrelabelError as error:
        if not is_one_short_line(error):
            raise AssertionError(f"{len(str(error))} characters: {str(error)[:400]!r}") from error
