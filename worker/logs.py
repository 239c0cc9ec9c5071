"""Logging of every prelabel process: one line an event on stderr."""

from __future__ import annotations

import logging

_QUIET = ("httpx", "httpcore", "botocore", "boto3", "urllib3", "s3transfer", "kombu", "amqp", "PIL", "transformers")


def configure_logging(level: str) -> None:
    """Log to stderr from `level` on; libraries only from WARNING on, for their INFO lines hold URLs."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
