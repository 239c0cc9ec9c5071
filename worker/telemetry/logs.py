"""Logging of every prelabel process on stderr: a line an event for people, or a JSON object an event for machines."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from .libtiff import log_libtiff

_QUIET = ("httpx", "httpcore", "botocore", "boto3", "urllib3", "s3transfer", "kombu", "amqp", "transformers")

_about: ContextVar[dict[str, Any]] = ContextVar("prelabel_log_about", default={})  # noqa: B039  # never changed


@contextmanager
def log_about(**fields: Any) -> Iterator[None]:
    """What this thread logs inside the block is about these: fields `job`, `chunk`, `item`, … of JSON logs."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def quiet_pillow() -> None:
    """Show nothing of what Pillow warns of, in the whole process: for who runs it, not for who imports us.

    On broken files it warns in the file's own words, a different text each time. What matters becomes an error of
    `decode`, and sizes are checked there too (`DecompressionBombWarning`). A filter for one call would not do:
    `warnings.catch_warnings` is not safe in threads.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # it logs as errors what it raises as well
    log_libtiff()


def configure_logging(level: str, form: Literal["text", "json"] = "text") -> None:
    """Log to stderr from `level` on; libraries only from WARNING on, for their INFO lines hold URLs, Pillow nothing.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        form: text, or json: objects with `time` (ISO 8601, UTC), `level`, `logger`, `message`, where there was one the
            traceback as `exc_info`, and what the line is about (`job`, `chunk`, `item`).
    """
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(_json_formatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(form == "json")
    quiet_pillow()
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    class Formatter(JsonFormatter):
        def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
            log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            log_data["level"] = record.levelname
            log_data["logger"] = record.name
            super().add_fields(log_data, record, message_dict)
            log_data.update(_about.get())

    return Formatter("%(message)s", json_ensure_ascii=False)
