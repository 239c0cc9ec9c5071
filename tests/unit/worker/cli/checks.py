"""What the tests of `prelabel doctor` share."""

from __future__ import annotations

from prelabel.worker.cli.checks import Check, Checks


def by_name(checks: Checks) -> dict[str, Check]:
    return {check.name: check for check in checks}
