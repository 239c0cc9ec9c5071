"""The Python API given what people give it: what is plain is taken, the rest is one short line of ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from PIL import Image

from prelabel.integrations import Client
from prelabel.integrations.testing import MemoryClient
from prelabel.schemas import ConfigError, Control, ImageRef, Item, Label, PrelabelError, Settings, Taxonomy
from prelabel.worker.fetching.inline import InlineReader

PIXEL = b"\x89PNG\r\n\x1a\n and the rest of it"
LABELS = Taxonomy.flat(["cat", "dog"])


def submitted(items: object, question: object = LABELS) -> list[Item]:
    return [prediction.item for prediction in MemoryClient().submit(items, question).results()]


class TestWhatIsTaken:
    def test_a_path_as_its_text(self, monkeypatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        assert submitted([Path("x.jpg"), "x.jpg"])[0].images == submitted(["x.jpg"])[0].images
        assert submitted([Path("x.jpg")])[0].images[0].uri == str(tmp_path / "x.jpg")

    @pytest.mark.parametrize(
        "alone",
        [Path("/x.jpg"), "/x.jpg", ImageRef(uri="/x.jpg"), Item.of("/x.jpg")],
        ids=lambda one: type(one).__name__,
    )
    def test_one_item_as_a_list_of_one(self, alone: object) -> None:
        assert submitted(alone) == [Item.of("/x.jpg")]

    @pytest.mark.parametrize("labels", [["cat", "dog"], ("cat", Label(name="dog"))])
    def test_a_list_of_labels_as_a_single_choice(self, labels: object) -> None:
        job = MemoryClient().submit(["s3://b/1.jpg"], labels)
        assert job.spec().controls == (Control(taxonomy=LABELS),)

    def test_a_control_alone_as_a_list_of_one(self) -> None:
        control = Control(name="kind", taxonomy=LABELS)
        assert MemoryClient().submit(["s3://b/1.jpg"], control).spec().controls == (control,)

    def test_labels_for_scoring_again(self) -> None:
        client = MemoryClient()
        job = client.submit(["s3://b/1.jpg"], ["cat"])
        job.wait()
        assert [prediction.label for prediction in client.rescore(job, ["fox", "hen"]).results()] == ["fox"]

    def test_the_bytes_of_an_image_in_a_reference_as_a_worker_reads_it(self) -> None:
        reference = ImageRef.from_bytes(PIXEL, name="left")
        assert InlineReader(Settings()).read(reference.uri, None, lambda _: False).content == PIXEL
        assert reference.name == "left"
        assert submitted([reference])[0].images == (reference,)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "item",
        [b"x" * 90_000, bytearray(9), Image.new("RGB", (9, 9)), np.zeros((900, 900)), None, 7, ["a.jpg"], {"a": 1}],
        ids=lambda one: type(one).__name__,
    )
    def test_no_reference_with_the_call_that_makes_one(self, item: object) -> None:
        with pytest.raises(ConfigError, match=r"ImageRef\.from_bytes\(\.\.\.\)") as refused:
            MemoryClient().submit([item], LABELS)
        assert is_one_short_line(refused.value)

    def test_an_image_that_is_too_large_for_a_reference(self) -> None:
        with pytest.raises(ConfigError, match="4 MiB at most"):
            ImageRef.from_bytes(bytes(5 * 2**20))

    def test_an_image_that_was_not_encoded(self) -> None:
        with pytest.raises(ConfigError, match=r"not Image.*io\.BytesIO"):
            ImageRef.from_bytes(Image.new("RGB", (9, 9)))

    @pytest.mark.parametrize("question", [None, "cat", {"animal": ["cat"]}, [1], ["cat", Control(taxonomy=LABELS)]])
    def test_no_question_with_the_calls_that_make_one(self, question: object) -> None:
        with pytest.raises(ConfigError, match=r"Taxonomy\.flat.*Taxonomy\.tree") as refused:
            MemoryClient().submit(["s3://b/1.jpg"], question)
        assert is_one_short_line(refused.value)

    def test_a_url_in_place_of_settings(self) -> None:
        with pytest.raises(ConfigError, match=r"Settings\(redis_url"):
            Client("redis://127.0.0.1:1/0")


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
class TestAFileNameThatIsNoUtf8:
    NAME = os.fsdecode(b"caf\xe9 1.jpg")

    def test_is_that_item_s_matter_and_not_the_job_s(self, tmp_path: Path) -> None:
        references = [str(tmp_path / f"{number}.jpg") for number in range(199)] + [str(tmp_path / self.NAME)]
        job = MemoryClient().submit(references, LABELS)
        assert (job.wait().total, job.progress().done) == (200, 200)

    def test_travels_as_a_uri_with_its_bytes(self, monkeypatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        (item,) = submitted([self.NAME])
        assert item.images[0].uri == f"file:{tmp_path}/caf%E9%201.jpg"

    def test_is_shown_as_one_can_type_it(self) -> None:
        assert Item.of(self.NAME).id == "file:caf%E9%201.jpg"
        assert Item.of("https://h/" + self.NAME).images[0].uri == "https://h/caf%E9 1.jpg"


def is_one_short_line(error: Exception) -> bool:
    return len(str(error)) < 300 and "\n" not in str(error)


class Rude:
    """Says nothing about itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),  # lone surrogates among them
    st.binary(max_size=20),
    st.builds(Rude),
    st.just("x" * 3_000),
    st.just(b"x" * 3_000),
    st.just(np.zeros((50, 50))),
    st.just(object),
    st.just(LABELS),
    st.builds(ImageRef, uri=st.just("s3://b/1.jpg")),
)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)

CALLS: dict[str, Callable[[MemoryClient, object], object]] = {
    "submit items": lambda client, value: client.submit(value, LABELS),
    "submit an item": lambda client, value: client.submit([value], LABELS),
    "submit taxonomy": lambda client, value: client.submit([], value),
    **{
        f"submit {name}": lambda client, value, name=name: client.submit(["s3://b/1.jpg"], LABELS, **{name: value})
        for name in ("priority", "name", "model", "top_k", "push", "deadline_s", "keep_s")
    },
    # What can be called is called, and what it raises is its owner's.
    "submit on_submitted": lambda client, value: client.submit(
        ["s3://b/1.jpg"], LABELS, on_submitted=None if callable(value) else value
    ),
    "rescore job": lambda client, value: client.rescore(value, LABELS),
    "rescore taxonomy": lambda client, value: client.rescore(client.submit(["s3://b/1.jpg"], LABELS), value),
    "job": lambda client, value: client.job(value),
    "jobs": lambda client, value: client.jobs(value),
    "recent": lambda client, value: client.recent(value),
    "project_jobs": lambda client, value: list(client.project_jobs(value)),
    "results": lambda client, value: list(client.submit(["s3://b/1.jpg"], LABELS).results(value)),
    "wait": lambda client, value: client.submit(["s3://b/1.jpg"], LABELS).wait(value),
    "release_push": lambda client, value: client.submit(["s3://b/1.jpg"], LABELS).release_push(value),
    "Item.of": lambda _, value: Item.of(value),
    "Item images": lambda _, value: Item(images=value),
    "Item id": lambda _, value: Item(id=value, images=(ImageRef(uri="a"),)),
    "Item options": lambda _, value: Item(images=(ImageRef(uri="a"),), options=value),
    "Item.from_json": lambda _, value: Item.from_json(value),
    **{
        f"ImageRef {name}": lambda _, value, name=name: ImageRef(**{"uri": "a", name: value})
        for name in ("uri", "region", "origin", "name", "vector", "colour")
    },
    "ImageRef.from_bytes": lambda _, value: ImageRef.from_bytes(value),
    "Taxonomy.flat": lambda _, value: Taxonomy.flat(value),
    "Taxonomy.flat, a label": lambda _, value: Taxonomy.flat([value]),
    "Taxonomy.tree": lambda _, value: Taxonomy.tree(value),
    "Taxonomy.tree, a branch": lambda _, value: Taxonomy.tree({"a": value}),
    "Taxonomy.closed": lambda _, value: LABELS.closed(value),
    "Taxonomy.from_json": lambda _, value: Taxonomy.from_json(value),
    **{
        f"Taxonomy {name}": lambda _, value, name=name: Taxonomy.flat(["a"], **{name: value}).fingerprint
        for name in ("choice", "template", "threshold", "temperature", "logit_shift", "max_answers", "is_open", "x")
    },
}


@pytest.mark.parametrize("call", CALLS)
@property_settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(value=junk)
def test_whatever_is_given_what_is_raised_is_ours_and_one_short_line(call: str, value: object) -> None:
    try:
        with contextlib.suppress(TimeoutError):  # a job may well not have ended within no time
            CALLS[call](MemoryClient(), value)
    except PrelabelError as error:
        if not is_one_short_line(error):
            raise AssertionError(f"{len(str(error))} characters: {str(error)[:400]!r}") from error


@pytest.mark.parametrize("field", ["logit_shift", "temperature", "threshold"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_rule_of_no_finite_number_is_refused(field: str, number: float) -> None:
    with pytest.raises(ConfigError, match=field):
        Taxonomy.flat(["a"], **{field: number})


def test_a_list_for_a_tree_names_the_call_for_lists() -> None:
    with pytest.raises(ConfigError, match=r"Taxonomy\.flat\(\[\.\.\.\]\)"):
        Taxonomy.tree(["cat", "dog"])


@pytest.mark.parametrize("levels", [65, 300, 100_000])
def test_a_tree_of_hundreds_of_levels_is_refused_in_words(levels: int) -> None:
    tree: dict[str, object] = {"leaf": None}
    for _ in range(levels - 1):
        tree = {"a": tree}
    with pytest.raises(ConfigError, match="more than 64 levels"):
        Taxonomy.tree(tree)
