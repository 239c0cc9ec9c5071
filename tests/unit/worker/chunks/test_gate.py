"""The gate: together or alone, urgent ones not held up by who waits to be alone."""

from __future__ import annotations

import threading

from prelabel.worker.chunks.gate import Gate


def inside(manager) -> tuple[threading.Thread, threading.Event, threading.Event]:
    """A thread in the block: (thread, it is in, let it out)."""
    entered, leave = threading.Event(), threading.Event()

    def run() -> None:
        with manager:
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, entered, leave


def test_one_alone_waits_for_all_and_all_wait_for_one_alone() -> None:
    gate = Gate()
    first, first_in, first_out = inside(gate.together())
    second, second_in, second_out = inside(gate.together())
    assert first_in.wait(5)
    assert second_in.wait(5)
    alone, alone_in, alone_out = inside(gate.alone())
    assert not alone_in.wait(0.1)
    later, later_in, later_out = inside(gate.together())
    assert not later_in.wait(0.1)  # else the one who waits could wait for ever
    urgent, urgent_in, urgent_out = inside(gate.together(urgent=True))
    assert urgent_in.wait(5)
    for out in (first_out, second_out, urgent_out):
        out.set()
    assert alone_in.wait(5)
    assert not later_in.wait(0.1)
    alone_out.set()
    assert later_in.wait(5)
    later_out.set()
    for thread in (first, second, alone, later, urgent):
        thread.join(5)


def test_a_stream_of_urgent_ones_does_not_keep_a_suspect_out_for_ever() -> None:
    now = 0.0
    gate = Gate(clock=lambda: now)
    first, first_in, first_out = inside(gate.together(urgent=True))
    assert first_in.wait(5)
    alone, alone_in, alone_out = inside(gate.alone())
    assert not alone_in.wait(0.1)
    now = 10.0
    later, later_in, later_out = inside(gate.together(urgent=True))
    assert not later_in.wait(0.1)
    first_out.set()
    assert alone_in.wait(5)
    alone_out.set()
    assert later_in.wait(5)
    later_out.set()
    for thread in (first, alone, later):
        thread.join(5)
