import pytest
from fakes import FakeSink, FakeSource, fake_segmenter, loop_threads

from rtseg.core.errors import EngineError
from rtseg.live.labellers.rebuilding import Rebuilding
from rtseg.live.loop import Loop
from rtseg.pictures import upsample


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    upsample.warm_up()
    yield
    assert loop_threads() == []


def failing(*fail_at, threads=1):
    """A rebuilding labeller; the engines it builds fail in turn at these calls (None: never). `made` lists them."""
    made, left = [], iter(fail_at)

    def make():
        return fake_segmenter(made, threads=threads, fail_at=next(left), error=EngineError("out of memory"))

    return Rebuilding(make), made


@pytest.mark.parametrize("threads", [1, 3])
def test_an_engine_that_fails_is_loaded_again_and_no_frame_is_lost(threads, caplog):
    labeller, made = failing(9, None, threads=threads)
    sink = FakeSink()
    report = Loop(FakeSource(30), labeller, sinks=[sink]).run()
    assert report.frames == 30
    assert sink.indices == list(range(30))
    assert sink.labels == [index % 11 for index in range(30)]
    labeller.close()
    assert all(engine.released for engine in made)
    assert caplog.text.count("out of memory: reloading the network") == 1


def test_one_that_fails_again_ends_the_run_with_its_error():
    labeller, made = failing(9, 4)
    with pytest.raises(EngineError, match="out of memory"):
        Loop(FakeSource(30), labeller).run()
    labeller.close()
    assert [engine.released for engine in made] == [True, True]


def test_one_that_never_worked_is_not_loaded_again():
    labeller, made = failing(0)
    with pytest.raises(EngineError, match="out of memory"):
        labeller(FakeSource(1).read())
    labeller.close()
    assert len(made) == 1


def test_one_that_cannot_be_loaded_again_ends_the_run_with_that_error():
    made, errors = [], iter([None, EngineError("the device is gone")])

    def make():
        if error := next(errors):
            raise error
        return fake_segmenter(made, fail_at=9, error=EngineError("out of memory"))

    labeller = Rebuilding(make)
    with pytest.raises(EngineError, match="the device is gone"):
        Loop(FakeSource(30), labeller).run()
    assert [engine.released for engine in made] == [True]
    labeller.close()
