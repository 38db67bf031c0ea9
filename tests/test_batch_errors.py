"""Failures in a batch are reported in one line."""

from pathlib import Path

from rtseg.apps._outputs import error_of
from rtseg.batch.jobs import Job
from rtseg.batch.outcome import Outcome
from rtseg.core.errors import InputError, OutputError, RtsegError


def failed(name: str, error: RtsegError) -> Outcome:
    return Outcome(Job(Path("in") / name, Path("out"), ("overlay",)), error=error)


def test_a_reason_that_inputs_share_is_said_once() -> None:
    full = OutputError("the disk is full: free some space")
    outcomes = [failed(f"{index}.mp4", full) for index in range(8)]
    outcomes.insert(1, failed("x.mp4", InputError("in/x.mp4 is empty (0 bytes): fetch it again")))
    error = error_of(outcomes, 12)
    assert isinstance(error, OutputError)  # of the same kind as the first
    assert str(error) == (
        "9 of 12 inputs failed: 0.mp4, 1.mp4, 2.mp4, 3.mp4, 4.mp4 and 3 more: the disk is full: free some space; "
        "in/x.mp4 is empty (0 bytes): fetch it again"
    )


def test_the_error_of_the_only_input_stays_as_it_is() -> None:
    error = InputError("in/x.mp4 is empty")
    assert error_of([failed("x.mp4", error)], 1) is error


def test_of_many_reasons_the_first_are_said() -> None:
    outcomes = [failed(f"{index}.mp4", InputError(f"in/{index}.mp4 is empty")) for index in range(40)]
    said = str(error_of(outcomes, 40))
    assert said.startswith("40 of 40 inputs failed: in/0.mp4 is empty; ")
    assert said.endswith("in/4.mp4 is empty; and 35 more reasons, in the table above")
