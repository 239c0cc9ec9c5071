"""A Redis that dies, falls silent, drops connections, runs out of disk or memory, or whose clock jumps."""

from __future__ import annotations

import time

import pytest
import redis

from prelabel.integrations.ledger.keys import SWEEPER, WATERMARKS, JobKeys
from tests.faults.conftest import World
from tests.faults.report import Report
from tests.faults.site import Site, wait_for


def test_redis_killed_and_started_again_with_its_file(world: World, site: Site, report: Report) -> None:
    job, work = site.submit(lasts_s=5)
    site.wait_started(job)
    for _ in range(site.rounds(1, 4000)):
        site.wait_point(0, 1)
        if site.ended(job):
            break
        world.proxy.refuse()
        world.server.kill()
        report.faults += 1
        site.wait_point(0.5, 3 if site.long else 1.5)
        world.server.start()
        world.proxy.accept()
        site.resumed(job, report)
    site.finish(job, work, report)
    site.lanes_work()
    report.assert_clean()


def test_redis_silent_for_longer_than_a_lease(world: World, site: Site, report: Report) -> None:
    for silence_s in (20, 60) if site.long else (site.settings.lease_s + 2,):
        job, work = site.submit(lasts_s=3)
        site.wait_started(job)
        site.wait_point(0, 1)
        world.server.freeze()
        try:
            report.faults += 1
            time.sleep(silence_s)
        finally:
            world.server.thaw()
        site.resumed(job, report)
        site.finish(job, work, report)
        site.lanes_work()
    report.assert_clean()


def test_connections_reset_again_and_again(world: World, site: Site, report: Report) -> None:
    job, work = site.submit(lasts_s=4)
    site.wait_started(job)
    for number in range(site.rounds(4, 2000)):
        site.wait_point(0, 0.6)
        if site.ended(job):
            break
        if number % 2:
            site.redis.client_kill_filter(_type="normal", skipme=True)
        else:
            assert world.proxy.reset()
        report.faults += 1
        site.resumed(job, report)
    site.finish(job, work, report)
    site.lanes_work()
    report.assert_clean()


def test_the_disk_under_redis_is_full_for_a_while(world: World, site: Site, report: Report) -> None:
    job, work = site.submit(lasts_s=5)
    site.wait_started(job)
    site.wait_point(0, 1)
    world.server.fill_disk()
    try:
        report.faults += 1
        wait_for(lambda: not takes_writes(site), 20)
        site.wait_point(1, 20 if site.long else 2)
        assert not takes_writes(site)
    finally:
        world.server.empty_disk()
    wait_for(lambda: takes_writes(site), 20)
    site.resumed(job, report)
    site.finish(job, work, report)
    site.lanes_work()
    report.assert_clean()


def test_redis_has_no_memory_left_for_a_while(site: Site, report: Report) -> None:
    job, work = site.submit(lasts_s=5)
    site.wait_started(job)
    site.wait_point(0, 1)
    site.redis.config_set("maxmemory", "1mb")
    try:
        report.faults += 1
        assert not takes_writes(site)
        site.wait_point(2, 20 if site.long else 4)
    finally:
        site.redis.config_set("maxmemory", "0")
    site.resumed(job, report)
    site.finish(job, work, report)
    site.lanes_work()
    report.assert_clean()


def takes_writes(site: Site) -> bool:
    try:
        site.redis.set("prelabel:test", "x" * 100, px=10_000)
    except redis.ResponseError:
        return False
    return True


# Redis's clock jumping one way is every stored time jumping the other way: lease deadlines (positive scores of
# `open`), times of sending (negative ones), watermarks, and keys that expire.
# KEYS: open watermarks. ARGV: ms that the clock jumps ahead by.
JUMP = """
local ahead = tonumber(ARGV[1])
local members = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local score = tonumber(members[i + 1])
  redis.call('ZADD', KEYS[1], score > 0 and score - ahead or score + ahead, members[i])
end
local marks = redis.call('HGETALL', KEYS[2])
for i = 1, #marks, 2 do redis.call('HSET', KEYS[2], marks[i], string.format('%d', tonumber(marks[i + 1]) - ahead)) end
for _, key in ipairs(redis.call('KEYS', 'prelabel:*')) do
  local left = redis.call('PTTL', key)
  if left > 0 then redis.call('PEXPIRE', key, left - ahead) end
end
return #members / 2
"""


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clock_of_redis_jumps_while_a_host_dies(site: Site, report: Report, hours: int) -> None:
    job, work = site.submit(lasts_s=4)
    site.wait_started(job)
    for _ in range(site.rounds(1, 10_000)):
        site.wait_point(0, 1)
        if site.ended(job):
            break
        victim = site.someone_busy()
        wait_for(lambda: site.redis.exists(SWEEPER), 10)  # nearly always there: a key whose expiry jumps too
        site.redis.eval(JUMP, 2, JobKeys(job.id).open, WATERMARKS, hours * 3_600_000)
        report.faults += 1
        site.kill_holder(victim, report, victim.kill_with_parent)
        victim.start()
    site.finish(job, work, report)
    report.assert_clean()
