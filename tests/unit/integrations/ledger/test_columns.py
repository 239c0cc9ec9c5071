"""Columns of answers come back as they were packed, whatever they hold, and nothing else comes of damaged ones."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.ledger.answers import JobLabels, Outcomes
from prelabel.integrations.ledger.columns import (
    NO_INDEX,
    AnswerColumns,
    Columns,
    count_code,
    label_code,
    labels_crc,
    pack,
    unpack,
)
from prelabel.schemas import Answer, ConfigError, Control, ImageRef, Item, Label, Options, Taxonomy, WireVersionError
from prelabel.schemas.predictions import LabelScore

few = st.integers(0, 5)


def table_fields(table: AnswerColumns) -> dict:
    return {name: getattr(table, name) for name in AnswerColumns.__slots__}


def fields(columns: Columns) -> dict:
    made = {name: getattr(columns, name) for name in Columns.__slots__}
    return made | {"answers": [table_fields(table) for table in columns.answers]}


@st.composite
def tables(draw, count: int) -> AnswerColumns:
    rows = count if draw(st.booleans()) else draw(st.integers(0, 6))
    is_each = rows == count and draw(st.booleans())
    code = draw(st.sampled_from("BHI"))
    label = st.integers(0, {"B": 2**8, "H": 2**16, "I": 2**32}[code] - 1)
    counts = draw(st.lists(few, min_size=rows, max_size=rows))
    chosen = draw(st.lists(few, min_size=rows, max_size=rows))
    number = st.floats(width=32, allow_nan=False)

    def column(code_: str, values: st.SearchStrategy, length: int) -> array:
        return array(code_, draw(st.lists(values, min_size=length, max_size=length)))

    return AnswerColumns(
        place=draw(st.integers(0, 2**16 - 1)),
        labels_crc=draw(st.integers(0, 2**32 - 1)),
        brought=draw(st.booleans()),
        items=None if is_each else column("H", st.integers(0, max(0, count - 1)), rows),
        indices=column("H", st.integers(0, 2**16 - 1), rows) if draw(st.booleans()) else None,
        counts=array("I", counts),
        nodes=column(code, label, sum(counts)),
        values=column("f", number, sum(counts)),
        norms=column("d", number, rows) if draw(st.booleans()) else None,
        confidences=column("d", number, rows),
        chosen_counts=array(count_code(code), chosen),
        chosen=column(code, label, sum(chosen)),
    )


@st.composite
def some_columns(draw) -> Columns:
    count = draw(few)
    images = None if draw(st.booleans()) else array("H", draw(st.lists(few, min_size=count, max_size=count)))
    vectors = count if images is None else sum(images)
    places = array("H") if images is None else array("H", draw(st.lists(few, min_size=vectors, max_size=vectors)))
    return Columns(
        model_version=draw(st.text(max_size=20)),
        count=count,
        images=images,
        places=places,
        keys=draw(st.binary(min_size=16 * vectors, max_size=16 * vectors)),
        answers=tuple(draw(st.lists(tables(count), max_size=3))),
    )


@given(some_columns())
def test_whatever_they_hold_comes_back(columns) -> None:
    assert fields(unpack(pack(columns))) == fields(columns)


@given(some_columns(), st.data())
def test_a_damaged_record_is_an_error_and_no_other_answer(columns, data) -> None:
    record = bytearray(pack(columns))
    record[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ConfigError):  # of which WireVersionError is one
        unpack(bytes(record))


@given(some_columns(), st.data())
def test_a_record_that_was_cut_short_is_an_error(columns, data) -> None:
    record = pack(columns)
    with pytest.raises(ConfigError):
        unpack(record[: data.draw(st.integers(0, len(record) - 1))])


def test_labels_take_the_smallest_integer_that_holds_their_places() -> None:
    sizes = {count: array(label_code(count)).itemsize for count in (1, 256, 257, 65536, 65537)}
    assert sizes == {1: 1, 256: 1, 257: 2, 65536: 2, 65537: 4}


def test_as_many_labels_can_be_chosen_as_there_are() -> None:
    sizes = {count: array(count_code(label_code(count))).itemsize for count in (256, 257, 65536, 65537)}
    assert all(count < 1 << 8 * size for count, size in sizes.items())


class TestFormat:
    """What one release writes every later one reads: the bytes themselves, as they stand in a ledger."""

    TREE = Taxonomy.tree({"animal": ["cat", "dog"]})
    OPEN = Taxonomy(labels=(), choice="multiple", is_open=True)
    CONTROLS = (Control(name="kind", taxonomy=TREE), Control(name="seen", taxonomy=OPEN, image="b", over="each"))
    OPTIONS = Options(labels=(Label(name="fur"), Label(name="tail")))
    ITEMS = (
        Item(
            id="1",
            images=(ImageRef(uri="s3://1", name="a"), ImageRef(uri="s3://2", name="b")),
            options={"seen": OPTIONS},
        ),
        Item(id="2", images=(ImageRef(uri="s3://3", name="a"),), options={"seen": OPTIONS}),
    )
    COLUMNS = Columns(
        model_version="m@12345678+tax.abcdef",
        count=2,
        images=array("H", [2, 1]),
        places=array("H", [0, 1, 0]),
        keys=bytes(range(48)),
        answers=(
            AnswerColumns(
                place=0,
                labels_crc=labels_crc([("animal",), ("animal", "cat"), ("animal", "dog")]),
                brought=False,
                items=None,
                indices=None,
                counts=array("I", [2, 2]),
                nodes=array("B", [0, 1, 0, 2]),
                values=array("f", [1.0, -2.5, 1.0, 0.5]),
                norms=array("d", [-2.25, 0.75]),
                confidences=array("d", [0.75, 1.0]),
                chosen_counts=array("H", [1, 1]),
                chosen=array("B", [1, 0]),
            ),
            AnswerColumns(
                place=1,
                labels_crc=labels_crc([("fur",), ("tail",)]),
                brought=True,
                items=array("H", [0]),
                indices=array("H", [0]),
                counts=array("I", [1]),
                nodes=array("B", [1]),
                values=array("f", [0.0]),
                norms=None,
                confidences=array("d", [0.5]),
                chosen_counts=array("H", [0]),
                chosen=array("B"),
            ),
        ),
    )
    STORED = bytes.fromhex(
        "02067ea281000200150002006d4031323334353637382b7461782e616263646566020001000000010000000001020304"
        "05060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f00001a0102"
        "000000fc08728902000000000100020000803f000020c00000803f0000003f00000000000002c0000000000000e83f00"
        "0000000000e83f000000000000f03f01000100010001000d0101000000b167bf09000000000100000001000000000000"
        "00000000e03f0000"
    )

    def test_what_is_written_are_these_bytes(self) -> None:
        assert pack(self.COLUMNS).hex() == self.STORED.hex()

    def test_these_bytes_are_read(self) -> None:
        assert fields(unpack(self.STORED)) == fields(self.COLUMNS)

    def test_they_mean_these_outcomes(self) -> None:
        held = Outcomes(unpack(self.STORED), JobLabels(self.CONTROLS))
        first, second = (held.outcome(row, item) for row, item in enumerate(self.ITEMS))
        assert first.model_version == second.model_version == "m@12345678+tax.abcdef"
        assert first.vectors == {"a": bytes(range(16)).hex(), "b": bytes(range(16, 32)).hex()}
        assert second.vectors == {"a": bytes(range(32, 48)).hex()}
        kind, seen = first.answers
        assert kind == Answer(
            control="kind",
            rule="tree-softmax",
            paths=(("animal", "cat"),),
            confidence=0.75,
            scores=(
                LabelScore(path=("animal",), probability=1.0),
                LabelScore(path=("animal", "cat"), logit=-2.5, probability=0.778800783),  # exp(-2.5 + 2.25)
            ),
        )
        assert seen == Answer(
            control="seen",
            index=0,
            rule="sigmoid",
            paths=(),
            confidence=0.5,
            scores=(LabelScore(path=("tail",), logit=0.0, probability=0.5),),
        )
        assert [answer.paths for answer in second.answers] == [(("animal",),)]

    @pytest.mark.parametrize("version", [0, 1, 3, 0x78])
    def test_another_version_is_refused_in_words(self, version: int) -> None:
        with pytest.raises(WireVersionError, match=rf"wire version {version}, this prelabel speaks 2.*same prelabel"):
            unpack(bytes([version]) + self.STORED[1:])

    @pytest.mark.parametrize("record", [b"", b"\x02", b"\x02" * 40])
    def test_what_is_no_record_is_an_error(self, record: bytes) -> None:
        with pytest.raises(ConfigError):
            unpack(record)

    @pytest.mark.parametrize(
        ("controls", "items"),
        [
            ((Control(name="kind", taxonomy=Taxonomy.tree({"animal": ["cat", "fox"]})), CONTROLS[1]), ITEMS),
            ((CONTROLS[0],), ITEMS),
            (CONTROLS, (ITEMS[0].model_copy(update={"options": {}}), ITEMS[1])),
            (CONTROLS, (ITEMS[0].model_copy(update={"images": ITEMS[0].images[:1]}), ITEMS[1])),
        ],
        ids=["other labels", "fewer controls", "an item without its labels", "an item with fewer images"],
    )
    def test_answers_to_other_questions_are_an_error(self, controls, items) -> None:
        held = Outcomes(unpack(self.STORED), JobLabels(controls))
        with pytest.raises(ConfigError, match="cannot be read"):
            held.outcome(0, items[0])


def test_no_index_is_told_from_every_index() -> None:
    taxonomy = Taxonomy.flat(["a"])
    table = AnswerColumns(
        place=0,
        labels_crc=labels_crc([("a",)]),
        brought=False,
        items=array("H", [0, 0]),
        indices=array("H", [NO_INDEX, 3]),
        counts=array("I", [1, 1]),
        nodes=array("B", [0, 0]),
        values=array("f", [0.0, 0.0]),
        norms=array("d", [0.0, 0.0]),
        confidences=array("d", [1.0, 1.0]),
        chosen_counts=array("H", [1, 1]),
        chosen=array("B", [0, 0]),
    )
    columns = Columns(model_version="m", count=1, images=None, places=array("H"), keys=bytes(16), answers=(table,))
    held = Outcomes(unpack(pack(columns)), JobLabels([Control(taxonomy=taxonomy)]))
    assert [answer.index for answer in held.outcome(0, Item.of("s3://1")).answers] == [None, 3]
