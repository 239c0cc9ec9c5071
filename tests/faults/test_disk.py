"""The disk under the vector store."""

from __future__ import annotations

import resource

from pydantic import SecretStr

from tests.faults.conftest import World
from tests.faults.report import Report

ROOM = 32 * 1024
"""Bytes a file may grow to while the disk is full: enough for a worker's log."""


def test_the_disk_under_the_vector_store_is_full_for_a_while(world: World, report: Report) -> None:
    site = world.site(
        "vectors", 3, vector_store=SecretStr("disk"), vector_store_dir=world.directory / "vectors", bulk_chunks=2
    )
    try:
        site.ready()
        children = [worker.worker() for worker in site.workers]
        for child in children:
            assert child is not None
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
            report.faults += 1
        job, work = site.submit()
        site.finish(job, work, report)
        logs = b"".join(worker.log.read_bytes() for worker in site.workers)
        assert b"cannot write to the vector store" in logs
        assert b"Traceback" not in logs
        for child in children:
            assert child is not None
            assert child.is_running(), "a worker died of its full disk"
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        job, work = site.submit()
        site.finish(job, work, report)
    finally:
        site.close()
    report.assert_clean()
