"""Which prelabel this is; the number stands in pyproject.toml alone."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The installed version, "0" where prelabel runs from files that were never installed."""
    try:
        return version("prelabel")
    except PackageNotFoundError:
        return "0"
