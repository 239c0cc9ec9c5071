"""Specs of jobs as they stand in the ledger, read once: every chunk and every page of results needs its job's."""

from __future__ import annotations

from functools import lru_cache

from ...schemas.jobs import JobSpec


@lru_cache(maxsize=64)
def parsed_spec(raw: bytes) -> JobSpec:
    """The spec in this JSON.

    Raises:
        ConfigError: another release wrote it.
    """
    return JobSpec.from_json(raw)
