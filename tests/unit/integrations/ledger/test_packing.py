"""Outcomes packed for the ledger come back as they were, and cost a fraction of their JSON."""

from __future__ import annotations

import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.ledger import packing
from prelabel.integrations.ledger.packing import pack, unpack
from prelabel.schemas import Answer, ConfigError, ItemFailure, Outcome, Taxonomy, WireVersionError
from prelabel.schemas.jobs import Control, JobSpec
from prelabel.schemas.predictions import LabelScore

LABELS = [f"kind of animal {i}" for i in range(200)]


def spec_of(count: int = 200) -> bytes:
    return JobSpec(controls=(Control(taxonomy=Taxonomy.flat(LABELS[:count])),)).to_json().encode()


def outcome_of(count: int = 20) -> Outcome:
    rng = random.Random(7)
    scores = tuple(
        LabelScore(path=(label,), logit=round(rng.uniform(-20, 5), 5), probability=round(rng.random(), 7))
        for label in rng.sample(LABELS, count)
    )
    answer = Answer(control="label", rule="softmax", paths=(scores[0].path,), confidence=0.25, scores=scores)
    return Outcome(model_version="m@12345678+tax.abcdef", vectors={"": "0" * 32}, answers=(answer,))


def test_twenty_scores_take_a_quarter_of_their_json_at_most() -> None:
    outcome = outcome_of()
    packed = pack(outcome, spec_of())
    assert unpack(packed, spec_of()) == outcome
    assert len(packed) < len(outcome.to_json()) / 4


@given(kind=st.text(max_size=50), message=st.text(max_size=500))
def test_whatever_an_error_says_comes_back(kind, message) -> None:
    outcome = Outcome(error=ItemFailure(kind=kind, message=message))
    assert unpack(pack(outcome, spec_of()), spec_of()) == outcome


def test_against_another_spec_it_is_an_error_and_not_another_outcome() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        unpack(pack(outcome_of(), spec_of()), spec_of(199))


@pytest.mark.parametrize("packed", [b"", b"{}", b"\x00" * 40])
def test_what_is_no_packed_outcome_is_an_error(packed) -> None:
    with pytest.raises(ConfigError):
        unpack(packed, spec_of())


def test_a_taxonomy_larger_than_the_window_is_packed_too() -> None:
    labels = [f"a rather long name of a label, number {i}" for i in range(3000)]
    spec = JobSpec(controls=(Control(taxonomy=Taxonomy.flat(labels)),)).to_json().encode()
    outcome = Outcome(
        model_version="m", answers=(Answer(control="label", rule="softmax", paths=((labels[0],),), confidence=0.5),)
    )
    assert unpack(pack(outcome, spec), spec) == outcome


class TestFormat:
    """What one release writes every later one reads: the bytes themselves, as they stand in a ledger."""

    SPEC = (
        '{"wire_version":1,"controls":[{"name":"kind","taxonomy":{"labels":[{"name":"animal","children":[{"name":"cat"},'
        '{"name":"käfer \\"x\\"\\n/"}]}]},"image":"left"},{"taxonomy":{"labels":[{"name":"red"}]}}],'
        '"model":"m@12345678"}'
    ).encode()

    DICTIONARY = (
        '{"path":["animal"],"logit":-0.0,"probability":0.0},{"path":["animal","cat"],"logit":-0.0,"probability":0.0},'
        '{"path":["animal","käfer \\"x\\"\\n/"],"logit":-0.0,"probability":0.0},'
        '{"path":["red"],"logit":-0.0,"probability":0.0},"paths":[["'
        '{"wire_version":1,"model_version":"m@12345678+tax.","vectors":{"left":""},'
        '"answers":[{"control":"kind","rule":"softmax","confidence":0.0}]}'
        '{"wire_version":1,"model_version":"m@12345678+tax.","vectors":{"":""},'
        '"answers":[{"control":"label","rule":"softmax","confidence":0.0}]}'
    ).encode()

    OUTCOME = Outcome(
        model_version="m@12345678+tax.abcdef",
        vectors={"left": "0f"},
        answers=(
            Answer(
                control="kind",
                rule="tree-softmax",
                paths=(("animal", "cat"),),
                confidence=0.75,
                scores=(
                    LabelScore(path=("animal", "cat"), logit=-2.5, probability=0.75),
                    LabelScore(path=("animal", 'käfer "x"\n/'), logit=-9.0, probability=0.25),
                ),
            ),
        ),
    )

    TEXT = (
        '{"wire_version":1,"model_version":"m@12345678+tax.abcdef","vectors":{"left":"0f"},"answers":[{"control":"kind",'
        '"rule":"tree-softmax","paths":[["animal","cat"]],"confidence":0.75,"scores":[{"path":["animal","cat"],'
        '"logit":-2.5,"probability":0.75},{"path":["animal","käfer \\"x\\"\\n/"],"logit":-9.0,"probability":0.25}]}]}'
    ).encode()

    STORED = bytes.fromhex(
        "0178bb8783a4d923dd1d8949c929a9695803c6208dd8a029294a4dd545b80b1145a8292a16ddc9e6a63a4ac5c9f945a9"
        "10e309a543233d538c24616e4a6a42b4c492b08c4c8181175b0b00755867b4"
    )

    @staticmethod
    def store(text: bytes, version: int = 1) -> bytes:
        packer = zlib.compressobj(zdict=TestFormat.DICTIONARY)
        return bytes([version]) + packer.compress(text) + packer.flush()

    def test_stored_bytes_are_read(self) -> None:
        assert unpack(self.STORED, self.SPEC) == self.OUTCOME

    def test_what_is_written_is_a_version_byte_and_the_outcomes_json_deflated_against_the_jobs_own_words(self) -> None:
        """Not byte for byte: how well two zlibs deflate may differ, what they inflate may not."""
        packed = pack(self.OUTCOME, self.SPEC)
        assert packed[:1] == b"\x01"
        assert zlib.decompressobj(zdict=self.DICTIONARY).decompress(packed[1:]) == self.TEXT

    @pytest.mark.parametrize("name", ["LabelScore", "Answer", "Outcome", "JobSpec"])
    def test_a_field_that_a_model_gains_changes_nothing_that_is_stored(self, name: str, monkeypatch) -> None:
        model = getattr(packing, name, None)
        if model is not None:  # else nothing is made of it
            grown = type(name, (model,), {"__annotations__": {"gained": float}, "gained": 0.5})
            monkeypatch.setattr(packing, name, grown)
        packing._dictionary.cache_clear()
        assert unpack(self.STORED, self.SPEC).model_dump(exclude={"gained"}) == self.OUTCOME.model_dump()

    def test_a_spec_with_a_field_of_a_newer_release_has_the_same_words(self) -> None:
        newer = json.loads(self.SPEC) | {"a_field_of_tomorrow": 1}
        assert unpack(self.STORED, json.dumps(newer).encode()) == self.OUTCOME

    @pytest.mark.parametrize("version", [0, 2, 0x78])
    def test_another_version_is_refused_in_words(self, version: int) -> None:
        with pytest.raises(WireVersionError, match=rf"wire version {version}, this prelabel speaks 1.*same prelabel"):
            unpack(self.store(self.TEXT, version), self.SPEC)

    def test_a_field_of_a_newer_release_is_refused_by_name_like_in_every_message(self) -> None:
        """Left out, it would be lost for whoever reads the outcome here and writes it elsewhere."""
        newer = self.TEXT.replace(b'"confidence"', b'"margin":1,"confidence"')
        with pytest.raises(ConfigError, match="margin"):
            unpack(self.store(newer), self.SPEC)

    @pytest.mark.parametrize("spec", [b"", b"[]", b"{}", b'{"controls":[{}]}', b'{"controls":[{"taxonomy":7}]}'])
    def test_a_spec_that_names_no_labels_is_an_error_in_words(self, spec: bytes) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            unpack(self.STORED, spec)
