"""Pauses double up to a cap and are spread at random; a server's Retry-After is read whatever it holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas.retrying import Backoff, retry_after_s

BACKOFF = Backoff(base_s=0.5, cap_s=30.0)


def test_the_longest_pause_doubles_up_to_the_cap() -> None:
    assert [BACKOFF.longest_s(failures) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert BACKOFF.longest_s(100_000) == 30
    assert Backoff(base_s=4.0, cap_s=1.0).longest_s(1) == 1


@given(st.integers(1, 10_000))
def test_a_pause_is_some_part_of_the_longest(failures: int) -> None:
    assert 0 <= BACKOFF.pause_s(failures) <= BACKOFF.longest_s(failures)


def test_pauses_after_the_same_failure_are_spread() -> None:
    pauses = sorted(BACKOFF.pause_s(4) for _ in range(1000))
    assert pauses[100] < 1 < 3 < pauses[-100]


@pytest.mark.parametrize(
    ("header", "seconds"), [("0", 0), ("120", 120), (" 7 ", 7), ("1.5", 1.5), ("999999999", 999_999_999)]
)
def test_retry_after_in_seconds(header: str, seconds: float) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_as_a_date() -> None:
    later, earlier = (format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True) for hours in (1, -1))
    assert retry_after_s(later) == pytest.approx(3600, abs=600)
    assert retry_after_s(earlier) == 0


@pytest.mark.parametrize("header", ["", "soon", "-1", "1e3", "Mon, 99 Foo 2020", "9" * 400, "nan", "\u0663"])
def test_a_retry_after_of_no_meaning_is_none(header: str) -> None:
    assert retry_after_s(header) is None
