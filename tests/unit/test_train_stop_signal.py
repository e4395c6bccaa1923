"""A request to leave: obeyed at once before the first step, noted from then on."""

import os
import signal

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.stop_signal import SIGNALS, StopSignal


@pytest.mark.parametrize("number", SIGNALS)
def test_before_the_first_step_it_is_obeyed_at_once(number: signal.Signals) -> None:
    with StopSignal(), pytest.raises(StageError) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.reason is Reason.PREEMPTED


@pytest.mark.parametrize("number", SIGNALS)
def test_from_then_on_it_is_noted(number: signal.Signals) -> None:
    with StopSignal() as stop:
        stop.defer()
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested


def test_a_request_that_a_library_swallowed_is_obeyed_at_the_first_step() -> None:
    with StopSignal() as stop:
        with pytest.raises(StageError):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StageError, match="before its first step"):
            stop.defer()


def test_afterwards_the_signals_are_as_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignal():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
