"""Who delivers: one at a time, and one after another."""

from prelabel.integrations.label_studio.projects.keys import TO_VERIFY

VERSION = "siglip@12345678+tax.000000"


def test_one_claim_a_task_and_version(claims):
    assert claims.take(1, [(1, VERSION), (2, VERSION)], "a", for_s=60) == [True, True]
    assert claims.take(1, [(2, VERSION), (3, VERSION)], "b", for_s=60) == [False, True]
    assert claims.take(1, [(2, "other")], "b", for_s=60) == [True]
    assert claims.take(2, [(2, VERSION)], "b", for_s=60) == [True]
    assert claims.take(1, [(1, VERSION)], "a", for_s=60) == [True], "it may take again what it has"


def test_what_is_let_go_is_free_and_only_its_own(claims):
    claims.take(1, [(1, VERSION), (2, VERSION)], "a", for_s=60)
    claims.let_go(1, [(1, VERSION)], "b")
    claims.let_go(1, [(2, VERSION)], "a")
    assert claims.take(1, [(1, VERSION), (2, VERSION)], "b", for_s=60) == [False, True]


def test_after_a_push_another_push_may_follow_and_no_reply_to_predict(claims):
    claims.take(1, [(1, VERSION)], "job", for_s=60, to_push=True)
    claims.let_go(1, [(1, VERSION)], "job", after_s=60, pushed=True)
    assert claims.take(1, [(1, VERSION)], "adapter", for_s=60) == [False]
    assert claims.take(1, [(1, VERSION)], "other job", for_s=60, to_push=True) == [True]


def test_while_label_studio_stores_a_reply_nobody_pushes(claims):
    claims.take(1, [(1, VERSION)], "adapter", for_s=60)
    claims.let_go(1, [(1, VERSION)], "adapter", after_s=60)
    assert claims.take(1, [(1, VERSION)], "job", for_s=60, to_push=True) == [False]


def test_promises_are_checked_when_they_are_due(claims):
    claims.verify_later(1, [(1, VERSION)], after_s=-1)
    claims.verify_later(2, [(7, VERSION), (8, VERSION)], after_s=-1)
    claims.verify_later(2, [(9, VERSION)], after_s=60)
    assert claims.to_verify() == {1: [(1, VERSION)], 2: [(7, VERSION), (8, VERSION)]}
    claims.verified(2, [(7, VERSION), (8, VERSION)])
    assert claims.to_verify() == {1: [(1, VERSION)]}


def test_an_entry_that_is_none_does_not_keep_the_others_from_being_checked(claims, client):
    client.connection.redis.zadd(TO_VERIFY, {"nonsense": 1.0, "1/x/v": 1.0})
    claims.verify_later(1, [(1, VERSION)], after_s=-1)
    assert claims.to_verify() == {1: [(1, VERSION)]}
    assert client.connection.redis.zcard(TO_VERIFY) == 1, "it would come first again and again"
