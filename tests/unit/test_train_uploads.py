"""What is sent beside a training: in order, and nothing after a failure."""

import threading

import pytest

from lorafinetune_stages.train.uploads import Uploads

BOUND_SECONDS = 60


def test_things_are_sent_in_order_and_nobody_waits_for_them() -> None:
    uploads, allowed, sent = Uploads(), threading.Event(), list[int]()

    def first() -> None:
        assert allowed.wait(BOUND_SECONDS)
        sent.append(1)

    uploads.send(first)
    uploads.send(lambda: sent.append(2))
    assert sent == []
    allowed.set()
    uploads.wait()
    assert sent == [1, 2]


def test_after_a_failure_nothing_is_sent_and_all_say_why() -> None:
    uploads, allowed, sent = Uploads(), threading.Event(), list[int]()

    def fail() -> None:
        assert allowed.wait(BOUND_SECONDS)
        raise OSError("the store is away")

    uploads.send(fail)
    later = uploads.send(lambda: sent.append(2))
    uploads.check()
    allowed.set()
    for asked in (later.result, uploads.wait, uploads.check, lambda: uploads.send(lambda: None)):
        with pytest.raises(OSError, match="the store is away"):
            asked()
    assert sent == []


@pytest.mark.parametrize("fails", [False, True], ids=["a training that ends", "a training that fails"])
def test_what_is_on_its_way_is_waited_for_by(fails: bool) -> None:
    uploads, sent = Uploads(), list[int]()
    problem = ValueError("the training") if fails else None

    def train() -> None:
        with uploads.awaited():
            uploads.send(lambda: sent.append(1))
            if problem:
                raise problem

    if problem:
        with pytest.raises(ValueError, match="the training"):
            train()
    else:
        train()
    assert sent == [1]


def fail() -> None:
    raise OSError("the store is away")


def test_a_training_that_ends_well_fails_where_its_last_upload_did() -> None:
    uploads = Uploads()

    def train() -> None:
        with uploads.awaited():
            uploads.send(fail)

    with pytest.raises(OSError, match="the store is away"):
        train()


def test_why_a_training_failed_counts_for_more_than_why_its_upload_did() -> None:
    uploads = Uploads()

    def train() -> None:
        with uploads.awaited():
            uploads.send(fail)
            raise ValueError("the training")

    with pytest.raises(ValueError, match="the training"):
        train()
