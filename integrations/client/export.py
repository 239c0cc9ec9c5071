"""Predictions as a file: JSON lines, CSV or Parquet, chosen by the file's suffix, written as a stream."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ...schemas.errors import ConfigError
from ...schemas.predictions import Prediction, Unanswered

COLUMNS = ("ordinal", "item", "label", "path", "labels", "confidence", "model_version", "error_kind", "error")
"""One row per item in CSV and Parquet: the first control's answer. JSON lines hold everything."""

_ROWS = 4096


def export(predictions: Iterable[Prediction], path: Path) -> int:
    """Write predictions as they come; memory does not grow with them.

    Args:
        predictions: what to write.
        path: ends in `.jsonl`, `.csv` or `.parquet` (the last needs `pip install prelabel[parquet]`).

    Returns:
        How many were written.

    Raises:
        ConfigError: another suffix, a missing package, or a file that cannot be written.
    """
    writer = check_output(path)
    try:
        return writer(iter(predictions), path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def check_output(path: Path) -> Callable[[Iterator[Prediction], Path], int]:
    """What writes a file of this name; for whoever wants to know before there is anything to write.

    Raises:
        ConfigError: its suffix stands for no format, a package is missing, or there is no folder for it.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ConfigError(f"cannot tell the format of {path}: the name must end in {', '.join(_WRITERS)}")
    if writer is _parquet:
        _need_pyarrow()
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")
    return writer


def _jsonl(predictions: Iterator[Prediction], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for prediction in predictions:
            file.write(prediction.to_json() + "\n")
            count += 1
    return count


def _csv(predictions: Iterator[Prediction], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for prediction in predictions:
            row = _row(prediction)
            row.update(path=" > ".join(row["path"]), labels=", ".join(row["labels"]))
            writer.writerow(row.values())
            count += 1
    return count


def _need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401  # told here, not in the middle
    except ImportError:
        raise ConfigError("Parquet needs `pip install prelabel[parquet]`; .jsonl and .csv do not") from None


def _parquet(predictions: Iterator[Prediction], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    schema = pa.schema(
        [
            ("ordinal", pa.int64()),
            ("item", text),
            ("label", text),
            ("path", pa.list_(text)),
            ("labels", pa.list_(text)),
            ("confidence", pa.float64()),
            ("model_version", text),
            ("error_kind", text),
            ("error", text),
        ]
    )
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while rows := [_row(prediction) for prediction in islice(predictions, _ROWS)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _row(prediction: Prediction) -> dict[str, Any]:
    """One row. What is missing beside answers is told where errors are: nobody is to take the row for all of it."""
    error = prediction.error or next(iter(prediction.unanswered), None)
    message = error and error.message
    if isinstance(error, Unanswered):
        message = f"{error.control} is not answered: {message}"
    values = (
        prediction.ordinal,
        prediction.item.id,
        prediction.label,
        list(prediction.path or ()),
        list(prediction.labels),
        prediction.confidence,
        prediction.model_version,
        error.kind if error else None,
        message,
    )
    return dict(zip(COLUMNS, values, strict=True))


_WRITERS: dict[str, Callable[[Iterator[Prediction], Path], int]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
