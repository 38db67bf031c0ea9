"""The pipeline with an engine that takes two frames at a time: order, errors, time stamps, and the source's end."""

import time
from threading import Event

import numpy as np
import pytest
from fakes import FakeSource, FlyingEngine, loop_threads
from waits import HANGS_S

from rtseg.core.errors import EngineError
from rtseg.live.loop import Loop
from rtseg.live.pipeline import Pipeline
from rtseg.live.segmenter import Segmenter
from rtseg.sinks.base import NullSink

HW = (64, 96)


@pytest.fixture
def flying():
    made = []

    def make(**arguments):
        made.append(FlyingEngine(**arguments))
        return made[-1]

    yield make
    for engine in made:
        engine.close()
    assert not loop_threads()


class Tells(Event):
    """A gate of a source that is always open, and is set once the source reaches it."""

    def wait(self, timeout=None):
        self.set()
        return True


def waiting_source(count, engine, at=3):
    """A source, and an engine that computes nothing until frames wait: by then all before `at` have been read."""
    read = Tells()
    if count > at:
        engine.starts = lambda: Event.wait(read, HANGS_S)
    return FakeSource(count, gates={at: read})


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_nothing_is_lost_and_the_order_is_kept(flying, count, in_flight):
    engine = flying(in_flight=in_flight)
    with Pipeline(waiting_source(count, engine), Segmenter(engine)) as pipeline:
        results = list(pipeline)
    assert [result.frame.index for result in results] == list(range(count))
    assert [int(result.labels[5, 5]) for result in results] == [index % 11 for index in range(count)]
    assert len({id(result.labels) for result in results}) == count
    assert engine.most <= in_flight
    assert engine.most > 1 or in_flight == 1 or count < 20


def test_a_slow_source_does_not_hold_labels_back(flying):
    """A frame's labels arrive when they are ready, not when the next frame pushes them out."""
    source = FakeSource(block_at=3)
    with Pipeline(source, Segmenter(flying())) as pipeline:
        got = [pipeline.take(HANGS_S).frame.index for _ in range(3)]
    assert got == [0, 1, 2]


@pytest.mark.parametrize("fail_at", [0, 1, 5])
def test_an_error_surfaces_as_it_was_raised(flying, fail_at):
    error = EngineError("the GPU fell off the bus")
    engine = flying(fail_at=fail_at, error=error)
    with Pipeline(FakeSource(20), Segmenter(engine)) as pipeline, pytest.raises(EngineError) as caught:
        list(pipeline)
    assert caught.value is error
    assert not engine._pending


def test_an_error_of_the_source_surfaces_after_the_frames_before_it(flying):
    error = RuntimeError("the cable is out")
    pipeline = Pipeline(FakeSource(20, fail_at=4, error=error), Segmenter(flying(delay_s=0.001)))
    with pipeline, pytest.raises(RuntimeError, match="cable"):
        list(pipeline)


def test_leaving_in_the_middle_leaves_the_segmenter_fit_for_use(flying):
    engine = flying(delay_s=0.01)
    segmenter = Segmenter(engine)
    with Pipeline(FakeSource(None), segmenter) as pipeline:
        pipeline.take(HANGS_S)
    assert not engine._pending
    image = np.full((*HW, 3), 7, np.uint8)
    assert (segmenter(image) == 7).all()
    with Pipeline(FakeSource(3), segmenter) as pipeline:
        assert [int(result.labels[0, 0]) for result in pipeline] == [0, 1, 2]


def test_a_change_of_network_lets_the_old_one_finish(flying):
    old, new = flying(delay_s=0.002), flying(in_flight=3)
    with Pipeline(FakeSource(30), Segmenter(old)) as pipeline:
        results = [pipeline.take(HANGS_S)]
        pipeline.change_labeller(lambda: Segmenter(new))
        results += list(pipeline)
    assert [result.frame.index for result in results] == list(range(30))
    assert [int(result.labels[0, 0]) for result in results] == [index % 11 for index in range(30)]
    flights = [result.info.in_flight for result in results]
    assert flights == sorted(flights)
    assert set(flights) == {2, 3}
    assert old.released


def test_stamps_are_those_of_the_frame(flying):
    delay = 0.02
    with Pipeline(FakeSource(8), Segmenter(flying(delay_s=delay))) as pipeline:
        for result in pipeline:
            now = time.perf_counter()
            assert result.stages_s["engine"] >= delay
            assert set(result.stages_s) == {"capture", "resize", "engine"}
            assert now - result.frame.captured_at >= result.stages_s["engine"]


def test_a_live_source_is_labelled_newest_first_and_drops_are_counted(flying):
    source = FakeSource(60, live=True, delay_s=0.001)
    with Pipeline(source, Segmenter(flying(delay_s=0.01))) as pipeline:
        indices = [result.frame.index for result in pipeline]
    assert indices == sorted(set(indices))
    assert indices[-1] == 59
    assert len(indices) + pipeline.drops == 60


def test_copies_and_compute_overlap(flying):
    """While one frame computes, the next that waits is already in flight."""
    engine = flying()
    report = Loop(waiting_source(30, engine), Segmenter(engine), sinks=[NullSink()]).run()
    assert report.frames == 30
    assert engine.most == 2
    assert report.stages_ms["engine"]["n"] == 30


def test_a_segmenter_alone_submits_and_collects(flying):
    segmenter = Segmenter(flying())
    assert segmenter.info.in_flight == 2
    for value in (1, 2):
        segmenter.submit(np.full((100, 120, 3), value, np.uint8))
    assert [int(segmenter.collect().labels[0, 0]) for _ in range(2)] == [1, 2]
    segmenter.discard()
