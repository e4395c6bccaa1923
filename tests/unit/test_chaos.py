"""Chaos, but for what it does: what a seed draws, and which end is wrong."""

from typing import Any

import pytest

from chaos.disturbances import DISTURBANCES
from chaos.judgement import End, Verdict, crowded, judge, tally
from chaos.lives import running
from chaos.schedule import (
    AT_FIRST,
    CLUSTER,
    EVERYTHING,
    EXPLAINS,
    MOST,
    RUN,
    Schedule,
    Strike,
    chosen,
    draw,
    drawn,
)
from chaos.ways import dropped
from lorafinetune.api.reasons import Reason, Retry
from lorafinetune.core.observed import STAGE_LABEL

TWIN = End(digests={"adapter": "a", "merged": "m"})
OTHER = End(digests={"adapter": "b", "merged": "m"})
STORE = "the store silent for a while"
POD = "a pod deleted"
ENDS: dict[str, tuple[End, list[str], list[str], Verdict]] = {
    "like the run that was left alone": (TWIN, [POD], [], "completed"),
    "with other artefacts": (OTHER, [POD], [], "wrong"),
    "failed for what was done to it": (
        End(reason="StorageUnavailable"),
        [STORE],
        [],
        "failed with the right reason",
    ),
    "failed for what struck all runs": (
        End(reason="StorageUnavailable"),
        [],
        [STORE],
        "failed with the right reason",
    ),
    "failed for what nobody did": (End(reason="StorageUnavailable"), [POD], [], "wrong"),
    "failed for another reason": (End(reason="Internal"), [STORE], [STORE], "wrong"),
    "never": (End(trouble="no end after 300 s"), [STORE], [], "wrong"),
    "well, but a stage ran twice at once": (
        End(digests=TWIN.digests, crowded=frozenset({"train"})),
        [],
        [],
        "wrong",
    ),
    "well, but with a broken file": (
        End(digests=TWIN.digests, broken=("x/model.safetensors",)),
        [],
        [],
        "wrong",
    ),
    "well, but something was left": (End(digests=TWIN.digests, left=("Job lft-train-1",)), [], [], "wrong"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_run_that_ended(how: str) -> None:
    end, struck, around, verdict = ENDS[how]
    judged = judge(Schedule(1, ()), struck, around, end, TWIN)
    assert judged.verdict == verdict
    assert bool(judged.complaints) == (verdict == "wrong")


def test_a_seed_draws_the_same_again_and_another_seed_something_else() -> None:
    assert draw(7, 20) == draw(7, 20) != draw(8, 20)
    assert draw(7, 50)[:20] == draw(7, 20)


def test_each_run_has_a_few_strikes_in_order_within_its_time() -> None:
    for schedule in draw(7, 200):
        moments = [strike.at for strike in schedule.strikes]
        assert 1 <= len(moments) <= MOST
        assert moments == sorted(moments)
        assert all(0 <= moment <= 1 for moment in moments)


@pytest.mark.parametrize(
    ("what", "at"),
    [
        *(pytest.param(what, 0, id=f"{what}: what a run needs at first") for what in sorted(AT_FIRST)),
        pytest.param("the scratch of a training full", 0.2, id="that of a training, as it begins"),
    ],
)
def test_what_a_run_has_for_a_part_of_its_time_is_struck_then(what: str, at: float) -> None:
    strikes = [strike for schedule in draw(7, 200) for strike in schedule.strikes]
    assert {strike.at for strike in strikes if strike.what == what} == {at}


def test_all_disturbances_come_up_equally_often() -> None:
    drawn = [strike.what for schedule in draw(7, 200) for strike in schedule.strikes]
    counts = [drawn.count(what) for what in EVERYTHING]
    assert max(counts) - min(counts) <= 1


def test_what_is_drawn_can_be_done() -> None:
    assert DISTURBANCES.keys() == {*RUN, *CLUSTER}
    assert EXPLAINS.keys() <= DISTURBANCES.keys()


def test_a_run_may_give_up_only_for_what_is_not_for_a_person_to_mend() -> None:
    reasons = {reason for given in EXPLAINS.values() for reason in given}
    assert {Reason(reason).facts.retry for reason in reasons} == {Retry.BACKOFF}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("5", 5, id="a run, by its number"),
        pytest.param("a pod deleted", ("a pod deleted",), id="a disturbance, by the whole of its name"),
        pytest.param(
            "evicted", ("a pod evicted", "a finished pod evicted"), id="some, by a part of their names"
        ),
    ],
)
def test_there_can_be_nothing_but(text: str, found: int | tuple[str, ...]) -> None:
    assert chosen(text) == found


def test_what_nobody_does_can_not_be_chosen() -> None:
    with pytest.raises(ValueError, match="no disturbance has 'earthquake' in its name"):
        chosen("earthquake")


def test_runs_of_one_disturbance_are_struck_by_it_once_each() -> None:
    schedules = drawn(7, 3, (STORE,))
    assert [[strike.what for strike in schedule.strikes] for schedule in schedules] == [[STORE]] * 3
    assert drawn(7, 3, (STORE,)) == schedules


def test_a_run_that_is_chosen_is_struck_as_it_is_among_all() -> None:
    (alone,) = drawn(7, 20, 5)
    assert alone == draw(7, 20)[4]
    assert drawn(7, 20, None) == draw(7, 20)


def test_packets_are_counted_where_the_rule_is_ours() -> None:
    listing = """Chain INPUT (policy ACCEPT 9 packets, 99 bytes)
    pkts      bytes target     prot opt in     out     source               destination
       3      180 DROP       6    --  *      *       0.0.0.0/0            127.0.0.2   /* chaos */ tcp dpt:6443
      70     4180 DROP       6    --  *      *       0.0.0.0/0            0.0.0.0/0   /* kubernetes */
"""
    assert dropped(listing) == 3


def test_a_pod_that_was_orphaned_by_hand_is_none_of_the_runs() -> None:
    status: dict[str, Any] = {"containerStatuses": [{"state": {"running": {}}}]}
    owned = {"labels": {STAGE_LABEL: "train"}, "ownerReferences": [{"kind": "Job"}]}
    orphan = {"labels": {STAGE_LABEL: "train"}}
    assert list(running({"metadata": each, "status": status} for each in (owned, orphan))) == ["train"]


def test_a_stage_is_crowded_where_two_of_its_pods_run() -> None:
    assert crowded(["train", "prepare", "train"]) == {"train"}
    assert crowded(["train", "prepare"]) == frozenset()


@pytest.mark.parametrize(
    ("struck", "missed"),
    [
        pytest.param([POD, POD, STORE], (), id="nothing, where all was done"),
        pytest.param([POD, STORE], (POD,), id="the second of the same, where it was done once"),
        pytest.param([], (POD, POD, STORE), id="all, where nothing was there to be struck"),
    ],
)
def test_of_a_schedule_was_missed(struck: list[str], missed: tuple[str, ...]) -> None:
    schedule = Schedule(1, (Strike(0.1, POD), Strike(0.2, POD), Strike(0.3, STORE)))
    assert judge(schedule, struck, [], TWIN, TWIN).missed == missed


def test_a_run_counts_in_the_row_of_each_disturbance_that_struck_it() -> None:
    schedule = Schedule(1, (Strike(0.1, POD), Strike(0.2, POD), Strike(0.3, STORE)))
    well = judge(schedule, [POD, POD], [], TWIN, TWIN)
    ill = judge(schedule, [POD, STORE], [], OTHER, TWIN)
    assert tally([well, ill], EVERYTHING) == [
        {"disturbance": POD, "drawn": 4, "missed": 1, "times": 3, **ends(1, 1)},
        {"disturbance": STORE, "drawn": 2, "missed": 1, "times": 1, **ends(0, 1)},
    ]


def test_what_was_drawn_and_struck_nobody_has_its_row() -> None:
    missed = judge(Schedule(1, (Strike(0.1, POD),)), [], [], TWIN, TWIN)
    assert tally([missed], EVERYTHING) == [
        {"disturbance": POD, "drawn": 1, "missed": 1, "times": 0, **ends(0, 0)}
    ]


def ends(completed: int, wrong: int) -> dict[str, int]:
    return {"completed": completed, "failed with the right reason": 0, "wrong": wrong}
