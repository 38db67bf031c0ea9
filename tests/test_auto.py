"""What 'auto' runs: decided by measurements, remembered, and reported."""

import json
from dataclasses import replace

import pytest
from fakes import fake_artifact, fake_card, make_network

from rtseg.core.card import CardFile
from rtseg.core.errors import UsageError
from rtseg.core.zoo import resolve
from rtseg.engines import EngineInfo, EngineOptions, select
from rtseg.engines.auto import rates_folder, remembered
from rtseg.engines.rate import Fps, Measured, Timing, measure_rates, other_work_s, time_engine

BOTH = ("onnxruntime", "openvino")
FILES = {"fp32": CardFile("fake.onnx", "0" * 64, 1), "int8": CardFile("fake.int8.onnx", "1" * 64, 1)}
OPTIONS = EngineOptions((64, 96), threads=2)
RATES = {"onnxruntime": {"fp32": 10.0, "int8": 20.0}, "openvino": {"fp32": 12.0, "int8": 30.0}}

pytestmark = pytest.mark.openvino


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path))


def network(lost=0.004, order=BOTH, files=FILES):
    metrics = {"int8": {"camvid/val": {"miou": 0.5, "lost": lost}}} if lost is not None else {}
    return fake_artifact(files=files, metrics=metrics, engine_order=order)


class Machine:
    """Returns the rates that a test wants, and counts the calls."""

    def __init__(self, rates=RATES, steady=True):
        self.rates, self.steady, self.asked = rates, steady, []

    def __call__(self, artifact, engine, precisions, options):
        self.asked.append((engine, tuple(precisions)))
        rates = {precision: self.rates[engine][precision] for precision in precisions}
        return Measured({p: r if isinstance(r, str) else Fps(2 * r, r) for p, r in rates.items()}, self.steady)


def chosen(engine="auto", precision="auto", artifact=None, machine=None, options=OPTIONS):
    selection = select(engine, precision, artifact or network(), options, machine or Machine())
    return selection.engine, selection.precision, selection.why


def test_the_fastest_form_is_taken_and_the_losers_are_told():
    engine, precision, why = chosen()
    assert (engine, precision) == ("openvino", "int8")
    for words in (
        "fps beside the loop's other work, measured here at 64x96",
        "onnxruntime fp32 10.0",
        "openvino int8 30.0",
        "loses 0.004 mIoU on camvid/val",
    ):
        assert words in why


@pytest.mark.parametrize(
    ("lost", "files", "told"),
    [
        (0.0051, FILES, "loses 0.005 mIoU, more than 0.005"),
        (None, FILES, "was not measured"),
        (0.0, {"fp32": FILES["fp32"]}, "has no INT8 file"),
    ],
)
def test_int8_that_loses_too_much_or_is_not_known_is_left(lost, files, told):
    engine, precision, why = chosen(artifact=network(lost, files=files))
    assert (engine, precision) == ("openvino", "fp32")
    assert told in why


def test_int8_that_is_hardly_faster_is_left():
    slow = {"onnxruntime": {"fp32": 10.0, "int8": 10.4}, "openvino": {"fp32": 10.3, "int8": 9.0}}
    assert chosen(machine=Machine(slow))[:2] == ("onnxruntime", "fp32")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("engine", BOTH)
def test_what_is_named_is_never_replaced_or_measured(engine, precision):
    machine = Machine({})
    assert chosen(engine, precision, machine=machine) == (engine, precision, "")
    assert machine.asked == []


def test_one_of_the_two_may_be_named():
    assert chosen("onnxruntime", "auto")[:2] == ("onnxruntime", "int8")
    assert chosen("auto", "fp32")[:2] == ("openvino", "fp32")
    assert chosen("torch", "auto")[:2] == ("torch", "fp32")


def test_an_engine_that_does_not_run_here_is_left():
    broken = {**RATES, "openvino": {"fp32": "its process ended with code -4", "int8": "no"}}
    engine, precision, why = chosen(machine=Machine(broken))
    assert (engine, precision) == ("onnxruntime", "int8")
    assert "openvino int8 does not run" in why


def test_where_nothing_could_be_measured_the_first_is_tried_and_the_next_run_measures():
    broken = {name: {"fp32": "no", "int8": "no"} for name in BOTH}
    for _ in range(2):
        machine = Machine(broken)
        assert chosen(machine=machine)[:2] == ("onnxruntime", "fp32")
        assert len(machine.asked) == 2


def test_it_is_measured_once_for_a_network_and_a_size():
    machine = Machine()
    first = chosen(machine=machine)
    assert machine.asked == [("onnxruntime", ("fp32", "int8")), ("openvino", ("fp32", "int8"))]
    assert chosen(machine=machine) == first
    assert len(machine.asked) == 2
    assert remembered() == ["fake 64x96, threads 2, 1 in flight: onnxruntime fp32 10.0, openvino fp32 12.0, "
                            "onnxruntime int8 20.0, openvino int8 30.0 fps beside the loop's other work"]  # fmt: skip
    other = {**FILES, "int8": replace(FILES["int8"], sha256="2" * 64)}
    for changed in ({"options": replace(OPTIONS, size_hw=(96, 96))}, {"options": replace(OPTIONS, in_flight=2)},
                    {"artifact": network(files=other)}):  # fmt: skip
        before = len(machine.asked)
        chosen(machine=machine, **changed)
        assert len(machine.asked) == before + 2


@pytest.fixture
def clock(monkeypatch):
    """The time used for remembering measurements, which a test can advance."""
    now = [1000.0]
    monkeypatch.setattr("rtseg.engines.auto.time", lambda: now[0])
    return now


def test_what_a_busy_machine_gave_counts_for_ten_minutes(clock):
    busy = Machine({name: dict.fromkeys(("fp32", "int8"), 5.0) for name in BOTH}, steady=False)
    assert chosen(machine=busy)[:2] == ("onnxruntime", "fp32")
    assert "the machine was busy: it will be measured again" in chosen(machine=busy)[2]
    assert "it will be measured again" in remembered()[0]
    clock[0] += 599
    calm = Machine()
    assert chosen(machine=calm)[:2] == ("onnxruntime", "fp32")
    assert (len(busy.asked), calm.asked) == (2, [])
    clock[0] += 2
    assert chosen(machine=calm)[:2] == ("openvino", "int8")
    assert "busy" not in chosen(machine=calm)[2]
    assert len(calm.asked) == 2


def test_a_month_later_it_is_measured_again_and_a_busy_machine_changes_nothing(clock):
    chosen()
    clock[0] += 30 * 86400 + 1
    busy = Machine({name: dict.fromkeys(("fp32", "int8"), 5.0) for name in BOTH}, steady=False)
    engine, precision, why = chosen(machine=busy)
    assert (engine, precision, len(busy.asked)) == ("openvino", "int8", 2)
    assert "busy" not in why
    changed = Machine({"onnxruntime": {"fp32": 10.0, "int8": 50.0}, "openvino": RATES["openvino"]})
    assert chosen(machine=changed)[:2] == ("onnxruntime", "int8")
    clock[0] -= 86400  # the clock was wrong
    assert chosen(machine=changed)[:2] == ("onnxruntime", "int8")
    assert len(changed.asked) == 4


def test_a_damaged_memory_is_measured_again():
    chosen()
    (kept,) = rates_folder().iterdir()
    for text in ("{", "[]", json.dumps({"key": {}, "rates": {}})):
        kept.write_text(text)
        machine = Machine()
        chosen(machine=machine)
        assert len(machine.asked) == 2


def test_what_an_older_version_measured_is_another_figure():
    chosen()
    (kept,) = rates_folder().iterdir()
    entry = json.loads(kept.read_text())
    del entry["key"]["figure"]
    for old in (entry, {**entry, "key": {**entry["key"], "figure": "fps alone"}}):
        kept.write_text(json.dumps(old))
        assert remembered() == []
        machine = Machine()
        chosen(machine=machine)
        assert len(machine.asked) == 2


def test_it_is_measured_again_where_the_loop_has_more_cores(monkeypatch):
    machine = Machine()
    for cores in (2, 4, 2):
        monkeypatch.setattr("rtseg.engines.auto.cores", lambda cores=cores: cores)
        chosen(machine=machine)
    assert len(machine.asked) == 4


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path / "file"))
    assert chosen()[:2] == ("openvino", "int8")
    assert "measured again next time" in caplog.text


def test_wrong_names_are_refused():
    with pytest.raises(UsageError, match=r"unknown precision 'int4': .*auto, fp32, fp16, int8"):
        chosen(precision="int4")
    with pytest.raises(UsageError, match="unknown engine"):
        chosen("tflite")


class InRows:
    """An engine that takes a second for `in_flight` pictures, which finish together."""

    def __init__(self, in_flight):
        self.info = EngineInfo("rows", "1", "CPU", "fp32", (64, 96), in_flight, in_flight)
        self.card, self.now, self.waiting, self.done = fake_card(), 0.0, 0, 0

    def submit(self, picture, size_hw):
        self.waiting += 1
        assert self.waiting <= self.info.in_flight

    def collect(self):
        self.now += self.done % self.info.in_flight == 0
        self.done += 1
        self.waiting -= 1


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_slow_engines_are_counted_by_whole_rows(monkeypatch, in_flight):
    engine = InRows(in_flight)
    monkeypatch.setattr("rtseg.engines.rate.perf_counter", lambda: engine.now)
    monkeypatch.setattr("rtseg.engines.rate.process_time", lambda: 2 * engine.now)  # two threads
    assert time_engine(engine) == (in_flight, pytest.approx(2 / in_flight), True)
    assert engine.waiting == 0


class Uneven(InRows):
    """An engine whose time per picture follows from a list of speeds, one per burst of two pictures."""

    def __init__(self, speeds):
        super().__init__(1)
        self.times = [1 / speed for speed in speeds for _ in range(2)]

    def collect(self):
        self.now += self.times.pop(0)
        self.waiting -= 1


@pytest.mark.parametrize(
    ("speeds", "rate", "steady"),
    [
        ([8, 6, 7.6], 8, True),  # the two best agree
        ([4, 6, 3, 8, 7.6], 8, True),  # not before the fifth
        ([8, 1, 2, 3, 4, 5, 6, 7], 8, False),  # never
    ],
)
def test_bursts_are_repeated_until_the_two_best_agree(monkeypatch, speeds, rate, steady):
    engine = Uneven([1, *speeds])  # the first warms up
    monkeypatch.setattr("rtseg.engines.rate.perf_counter", lambda: engine.now)
    found = time_engine(engine)
    assert (found.fps, found.steady) == (pytest.approx(rate), steady)
    assert engine.times == []


def test_in_the_loop_an_engine_is_no_faster_than_the_cores_have_time_for():
    swift, frugal = Timing(50.0, 0.040, True), Timing(40.0, 0.030, True)
    assert swift.in_loop(0.020, on_cores=2, busy=1).beside == pytest.approx(2 / 0.060)
    assert frugal.in_loop(0.020, on_cores=2, busy=1).beside == pytest.approx(2 / 0.050)
    for timing in (swift, frugal):  # with a core for everything, the clock decides
        assert timing.in_loop(0.020, on_cores=8, busy=1) == (timing.fps, timing.fps)


def test_where_something_else_has_the_cores_the_processor_time_decides():
    disturbed = Timing(3.0, 0.030, True)
    assert disturbed.in_loop(0.020, on_cores=2, busy=2) == pytest.approx(
        (2 / 0.030, 2 / 0.050)
    )  # alone it makes 2 / 0.030
    assert disturbed.in_loop(0.020, on_cores=8, busy=1) == pytest.approx((1 / 0.030, 1 / 0.030))
    assert Timing(3.0, 0.0, True).in_loop(0.020, on_cores=2, busy=0) == (3.0, 3.0)  # with a GPU, the processor waits


def test_the_loops_other_work_is_that_for_a_frame_three_times_as_high_and_wide(monkeypatch):
    now = [0.0]

    def resize(image, size_hw):
        assert (image.shape, size_hw) == ((192, 288, 3), (64, 96))
        now[0] += 0.01

    monkeypatch.setattr("rtseg.engines.rate.resize_image", resize)
    for clock in ("perf_counter", "process_time"):
        monkeypatch.setattr(f"rtseg.engines.rate.{clock}", lambda: now[0])
    assert other_work_s(fake_card(), (64, 96)) == pytest.approx(2.8 * 0.01)


@pytest.mark.slow
def test_a_child_measures_what_runs_and_says_what_does_not(tmp_path):
    artifact = resolve(make_network(tmp_path))
    rates, _ = measure_rates(artifact, "onnxruntime", ["fp32", "int8"], OPTIONS)
    assert rates["fp32"].alone >= rates["fp32"].beside > 0
    assert "no int8 file" in rates["int8"]


def test_a_child_that_dies_costs_only_its_engine(tmp_path, monkeypatch):
    monkeypatch.setattr("rtseg.engines.child.sys.executable", "false")
    rates = measure_rates(resolve(make_network(tmp_path)), "onnxruntime", ["fp32"], OPTIONS)
    assert rates == ({"fp32": "its process ended with code 1: no message"}, True)
