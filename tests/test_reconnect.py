"""Live sources that are lost and return, on the test's own clock."""

from collections.abc import Callable
from threading import Thread

import numpy as np
import pytest
from fakes import FakeSource, loop_threads
from waits import HANGS_S

from rtseg.core.errors import InputError
from rtseg.core.frame import Frame
from rtseg.sources.base import Source
from rtseg.sources.late import Lateness
from rtseg.sources.reconnect import ReconnectingSource


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds


class Live(Source):
    """Yields frames at the given seconds of its own clock, then fails with `error` or ends."""

    kind = "fake"

    def __init__(self, clock: Clock, times_s: list[float], error: Exception | None = None, size_hw=(64, 96)) -> None:
        super().__init__("rtsp://camera/live")
        self.live, self.size_hw, self.fps = True, size_hw, 10.0
        self.clock, self.times_s, self.error = clock, times_s, error
        self.given = self.closed = 0
        self.corrupt = 1

    def _frames(self):
        raise NotImplementedError

    def read(self) -> Frame | None:
        if self.given == len(self.times_s):
            if self.error is not None:
                raise self.error
            return None
        timestamp_s = self.times_s[self.given]
        self.given += 1
        self.clock.pass_by(0.1)
        return Frame(np.zeros((*self.size_hw, 3), np.uint8), self.given - 1, timestamp_s, self.clock())

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


def patient(clock: Clock, first: Source, again: Callable[[], Source], **settings) -> ReconnectingSource:
    """A source whose pauses pass on the test's clock; `pauses` lists them."""
    source = ReconnectingSource(first, again, clock=clock, **settings)
    source.pauses = []

    def wait(seconds: float) -> bool:
        source.pauses.append(seconds)
        clock.pass_by(seconds)
        return False

    source._stopped.wait = wait
    return source


GONE = InputError("rtsp://camera/live sent nothing for 10 s")


@pytest.mark.parametrize("error", [GONE, None], ids=["failed", "ended"])
def test_a_source_that_comes_back_goes_on_in_number_and_time(
    clock: Clock, error: InputError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[int] = []
    monkeypatch.setattr("rtseg.sources.reconnect.return_freed_memory", lambda: returned.append(first.closed))
    monkeypatch.setattr("rtseg.sources.reconnect._SETTLED", 2)
    first = Live(clock, [0.0, 0.1, 0.2], error)
    second = Live(clock, [7.0, 7.1], size_hw=(32, 48))
    attempts = iter([InputError("refused"), InputError("refused"), second])

    def again() -> Source:
        outcome = next(attempts)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    source = patient(clock, first, again)
    frames = [source.read() for _ in range(5)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert source.pauses == [0.1, 0.2, 0.4]
    # three pauses, and the 0.1 s that the first frame took
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.2 + 0.8, 0.2 + 0.9])
    assert [frame.size_hw for frame in frames] == [(64, 96)] * 3 + [(32, 48)] * 2
    assert (source.outages, source.lost_at, source.corrupt) == (1, None, 2)
    assert first.closed == 1
    assert returned == [1, 1]  # after the old one was closed, and when two frames of the new one have arrived
    source.close()
    assert second.closed == 1
    assert source.read() is None


def test_pauses_between_attempts_grow_to_two_seconds_and_no_further(clock: Clock) -> None:
    def again() -> Source:
        raise InputError("rtsp://camera/live: refused")

    source = patient(clock, Live(clock, [0.0], GONE), again, wait_s=20)
    source.read()
    with pytest.raises(InputError, match=r"live: refused; it did not come back within 20 s"):
        source.read()
    assert source.pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert set(source.pauses[5:]) == {2.0}
    assert 20 <= sum(source.pauses) < 22


def test_a_stream_that_ended_and_does_not_come_back_ends_the_run_without_an_error(clock: Clock) -> None:
    def again() -> Source:
        raise GONE

    source = patient(clock, Live(clock, [0.0]), again, wait_s=5)
    assert source.read() is not None
    assert source.read() is None
    assert sum(source.pauses) >= 5


@pytest.mark.parametrize("error", [GONE, None], ids=["failed", "ended"])
def test_without_patience_the_first_loss_ends_as_it_did_before(clock: Clock, error: InputError | None) -> None:
    source = patient(clock, Live(clock, [0.0], error), lambda: pytest.fail("opened again"), wait_s=0)
    assert source.read() is not None
    if error is None:
        assert source.read() is None
    else:
        with pytest.raises(InputError, match=r"sent nothing for 10 s$"):
            source.read()


def test_interrupt_ends_a_wait_for_a_source_that_is_lost() -> None:
    source = ReconnectingSource(FakeSource(0, live=True), lambda: FakeSource(0, live=True), wait_s=float("inf"))
    got: list[Frame | None] = []
    reader = Thread(target=lambda: got.append(source.read()))
    reader.start()
    source.interrupt()
    reader.join(HANGS_S)
    assert got == [None]
    source.close()
    assert loop_threads() == []


def test_frames_that_were_held_up_are_dropped_and_the_newest_is_given(clock: Clock) -> None:
    times_s = [0.1 * n for n in range(50)]
    stalled = Live(clock, times_s)
    source = patient(clock, stalled, lambda: stalled, most_late_s=1.0)
    assert [source.read().index for _ in range(10)] == list(range(10))
    clock.pass_by(3.0)  # nothing arrived; then everything that waited arrives at once
    read, pass_by = stalled.read, clock.pass_by

    def at_once() -> Frame | None:
        clock.pass_by = lambda seconds: pass_by(0.0)
        return read()

    stalled.read = at_once
    frame = source.read()
    assert 3.0 - 1.0 <= frame.timestamp_s - 0.9 <= 3.0
    assert source.late == frame.index - 10


def test_a_way_that_has_got_longer_is_not_late_for_ever() -> None:
    lateness = Lateness(1.0)
    delays_s = [0.05] * 100 + [5.0] * 100
    dropped = [lateness.is_late(0.1 * n, 0.1 * n + delay_s) for n, delay_s in enumerate(delays_s)]
    assert dropped == [False] * 100 + [True] * 20 + [False] * 80


@pytest.mark.parametrize("drift", [1e-4, -1e-4])
def test_two_clocks_that_drift_apart_make_no_frame_late(drift: float) -> None:
    lateness = Lateness(1.0)
    day = range(0, 86_400, 2)
    assert not any(lateness.is_late(second * (1 + drift), float(second)) for second in day)
