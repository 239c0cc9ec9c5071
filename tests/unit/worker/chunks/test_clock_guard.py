"""When leases may be judged: live workers get time to renew theirs after a silence or a jump of Redis's clock."""

from __future__ import annotations

from prelabel.worker.chunks.clock_guard import ClockGuard


def test_leases_are_judged_at_once_by_a_sweeper_that_has_just_begun() -> None:
    assert ClockGuard(gap_s=5, settle_s=3).contact(1000.0, 10.0)


def test_after_a_silence_live_workers_get_time_to_renew() -> None:
    guard = ClockGuard(gap_s=5, settle_s=3)
    guard.contact(1000.0, 10.0)
    assert not guard.contact(1020.0, 30.0)
    assert not guard.contact(1022.0, 32.0)
    assert guard.contact(1023.5, 33.5)


def test_a_clock_that_leaps_ahead_is_a_silence() -> None:
    guard = ClockGuard(gap_s=5, settle_s=3)
    guard.contact(1000.0, 10.0)
    assert not guard.contact(4602.0, 12.0)
    assert guard.contact(4605.5, 15.5)


def test_a_clock_that_jumps_back_makes_no_lease_look_dead() -> None:
    guard = ClockGuard(gap_s=5, settle_s=3)
    guard.contact(4600.0, 10.0)
    assert guard.contact(1002.0, 12.0)
