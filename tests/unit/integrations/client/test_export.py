"""Exports: the same predictions in three formats, and clear errors."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prelabel.integrations.client.export import COLUMNS, export
from prelabel.schemas import Answer, ConfigError, Item, ItemFailure, Prediction

PREDICTIONS = [
    Prediction(
        item=Item.of("s3://b/1.jpg"),
        ordinal=0,
        model_version="m@1+tax.2",
        answers=(Answer(control="c", rule="sigmoid", paths=(("pet", "cat"), ("pet", "dog")), confidence=0.75),),
    ),
    Prediction(item=Item.of("a,b.jpg"), ordinal=1, error=ItemFailure(kind="ItemError", message='no "such" file')),
]


def test_json_lines_hold_everything(tmp_path: Path) -> None:
    assert export(PREDICTIONS, tmp_path / "out.jsonl") == 2
    assert [Prediction.from_json(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == PREDICTIONS


def test_csv_has_one_row_an_item(tmp_path: Path) -> None:
    assert export(PREDICTIONS, tmp_path / "out.csv") == 2
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["label"], rows[0]["path"], rows[0]["labels"]) == ("cat", "pet > cat", "cat, dog")
    assert (rows[0]["confidence"], rows[0]["error"]) == ("0.75", "")
    assert (rows[1]["item"], rows[1]["label"], rows[1]["error"]) == ("a,b.jpg", "", 'no "such" file')


def test_parquet_keeps_types_and_nulls(tmp_path: Path) -> None:
    assert export(iter(PREDICTIONS * 3000), tmp_path / "out.parquet") == 6000
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(rows) == 6000
    assert (rows[0]["path"], rows[0]["labels"], rows[0]["confidence"]) == (["pet", "cat"], ["cat", "dog"], 0.75)
    assert (rows[1]["confidence"], rows[1]["error_kind"]) == (None, "ItemError")


def test_an_unknown_format_or_an_unwritable_place_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.jsonl, \.csv, \.parquet"):
        export(PREDICTIONS, tmp_path / "out.xlsx")
    with pytest.raises(ConfigError, match="cannot write"):
        export(PREDICTIONS, tmp_path / "none" / "out.csv")
