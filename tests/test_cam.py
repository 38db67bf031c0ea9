import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from cyclopts import App
from fakes import FakeEngine, FakeSource, fake_card, fake_network, loop_threads  # noqa: F401 - a fixture
from rich.console import Console
from web_clients import Viewer, request

from rtseg.apps import _watch as watch_module
from rtseg.apps._console import run
from rtseg.apps._watch import _network, _tell
from rtseg.apps.cam import CamOptions, app
from rtseg.core.errors import EngineError, InputError, OutputError, ParityError, UsageError, WeightsError
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.live.views.desk import Desk
from rtseg.live.views.view import DeskView

USUAL = {"--model": "fake", "--source": "synthetic", "--camera-size": "64x96", "--camera-fps": "500"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert loop_threads() == []


def cam(*arguments):
    """Runs the command in this process, by default on a small fast street, and returns its exit code."""
    usual = [text for flag, value in USUAL.items() if flag not in arguments for text in (flag, value)]
    with pytest.raises(SystemExit) as ended:
        run(app, [*usual, *arguments])
    return ended.value.code


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


class FakeWindow:
    """Presses `keys` in turn, one after every second new picture, and at every poll while the loop is paused.

    A function among them is called until it returns that the next key may be pressed.
    """

    def __init__(self, keys=(), close=False):
        self.keys, self.close_at_end, self.closed = list(keys), close, False
        self.pictures = []
        self.seen = 0

    def write(self, frame, labels, picture):
        self.pictures.append((frame.index, picture.copy()))

    def poll_key(self, delay_ms=1):
        paused = delay_ms > 1  # then it has time
        if not paused and len(self.pictures) < self.seen + 2:
            return None
        if self.keys and callable(self.keys[0]):
            if self.keys[0]():
                self.keys.pop(0)
            return None
        self.seen = len(self.pictures)
        if not self.keys:
            self.closed = self.close_at_end
            return None
        return self.keys.pop(0)

    def close(self, complete=True):
        self.closed = True


@pytest.fixture
def quick_source(monkeypatch):
    """Replaces every source by an endless one that costs nothing."""
    source = FakeSource(None, fps=200.0, truth=True)
    monkeypatch.setattr(watch_module, "_open_source", lambda options, threads: source)
    return source


@pytest.fixture
def press(fake_network, quick_source, monkeypatch):  # noqa: F811
    def press(*keys, close=False, arguments=()):
        window = FakeWindow(keys, close)
        monkeypatch.setattr(watch_module, "_open_window", lambda: window)
        return window, cam(*arguments)

    return press


@pytest.mark.usefixtures("fake_network")
def test_synthetic_street_without_a_window(capsys):
    assert cam("--no-window", "--frames", "12", "--json", "reports/report.json") == 0
    data = json.loads(Path("reports/report.json").read_text())
    assert data["frames"] == 12
    assert data["engine"] == {
        "name": "fake", "runtime": "fake 1", "device": "CPU", "precision": "fp32", "size": [128, 192],
        "threads": data["engine"]["threads"],
    }  # fmt: skip
    assert {"p50", "p99"} <= set(data["latency_ms"])
    assert data["source"]["size"] == [64, 96]
    assert 0 <= data["accuracy"]["miou"] <= 1
    assert data["environment"]["cores"] >= 1
    printed = capsys.readouterr().out
    for words in (
        "fake 1 on CPU",
        "auto    the only choice here",
        "fp32",
        "input 128x192",
        "11 classes",
        "12 frames in",
        "mIoU",
    ):
        assert words in printed


@pytest.mark.usefixtures("fake_network", "quick_source")
def test_a_recording_holds_every_frame():
    assert cam("--no-window", "--frames", "9", "--record", "out/run.mp4") == 0
    assert len(frames_of("out/run.mp4")) == 9
    assert [path.name for path in Path("out").iterdir()] == ["run.mp4"]


@pytest.mark.usefixtures("fake_network")
def test_a_run_without_a_frame_saves_nothing_and_leaves_an_older_recording(quick_source, capsys):
    quick_source.count = 0
    Path("run.mp4").write_bytes(b"precious")
    assert cam("--no-window", "--record", "run.mp4") == 0
    printed = capsys.readouterr().out
    assert "0 frames" in printed
    assert "saved" not in printed
    assert Path("run.mp4").read_bytes() == b"precious"


@pytest.mark.usefixtures("fake_network")
def test_odd_sizes_are_said_to_be_padded(capsys):
    assert cam("--camera-size", "63x95", "--no-window", "--frames", "3", "--record", "odd.mp4") == 0
    assert frames_of("odd.mp4")[0].shape == (64, 96, 3)
    assert "63x95 is padded" in capsys.readouterr().out


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_with_a_whole_recording_and_a_report(quick_source, monkeypatch, number):
    read = quick_source.read

    def read_and_interrupt():
        if quick_source.index == 20:
            signal.pthread_kill(threading.main_thread().ident, number)
        return read()

    monkeypatch.setattr(quick_source, "read", read_and_interrupt)
    assert cam("--no-window", "--record", "run.mp4", "--json", "report.json") == 130
    frames = json.loads(Path("report.json").read_text())["frames"]
    assert len(frames_of("run.mp4")) == frames > 0


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("web", [[], ["--web"]])
def test_a_source_that_fails_leaves_a_playable_part_but_no_finished_name(quick_source, capsys, web):
    quick_source.fail_at, quick_source.error = 20, InputError("camera 0 was unplugged")
    assert cam("--no-window", *web, "--record", "run.mp4", "--json", "report.json") == 3
    assert capsys.readouterr().err.strip() == "error: camera 0 was unplugged"
    assert len(frames_of("run.partial.mp4")) > 0
    assert not Path("run.mp4").exists()
    assert not Path("report.json").exists()
    assert quick_source.closed >= 1


@pytest.mark.usefixtures("fake_network")
def test_sigterm_ends_as_ctrl_c_does_with_a_page_too(quick_source, monkeypatch, capsys):
    read = quick_source.read

    def read_and_end():
        if quick_source.index == 20:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        return read()

    monkeypatch.setattr(quick_source, "read", read_and_end)
    before = signal.getsignal(signal.SIGTERM)
    assert cam("--no-window", "--web", "--record", "run.mp4", "--json", "report.json") == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(frames_of("run.mp4")) == json.loads(Path("report.json").read_text())["frames"] > 0
    assert re.search(r"^page    http://127\.0\.0\.1:\d+/$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.usefixtures("fake_network")
def test_the_page_beside_a_window_shares_its_controls(quick_source, monkeypatch):
    """A key of the window and a command of the page have the same effect."""
    window = FakeWindow(["v", *["x"] * 50])
    monkeypatch.setattr(watch_module, "_open_window", lambda: window)
    states = []

    def ask(port):
        with Viewer(port, "/events") as events:
            while not states or not states[-1]["split"]["value"]:
                states.append({one["name"]: one for one in events.event("controls")[1]["controls"]})
        states.append(request(port, "POST", "/control", body={"name": "split", "value": False})[0])
        window.close_at_end, window.keys = True, []

    plain = watch_module._open_page

    def open_page(web):
        page = plain(web)
        threading.Thread(target=ask, args=(int(page.url.split(":")[2].strip("/")),)).start()
        return page

    monkeypatch.setattr(watch_module, "_open_page", open_page)
    assert cam("--web") == 0
    assert states[-1] == 200


@pytest.mark.usefixtures("fake_network", "quick_source")
def test_a_page_on_the_network_prints_its_token(capsys):
    assert cam("--no-window", "--web", f"0.0.0.0:{free_port()}", "--frames", "3") == 0
    assert re.search(r"^page    http://[\w.-]+:\d+/\?token=[\w-]{32}$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.usefixtures("fake_network")
def test_a_port_in_use_is_told_before_anything_is_opened(capsys, monkeypatch):
    monkeypatch.setattr(watch_module, "_open_source", lambda options, threads: pytest.fail("the camera was opened"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cam("--no-window", "--web", str(port)) == 4
    said = f"error: --web 127.0.0.1:{port}: the port is in use; name another, or leave it out"
    assert capsys.readouterr().err.strip() == said


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named(package, capsys, monkeypatch):
    theirs = [name for name in sys.modules if name.partition(".")[0] == package]
    ours = [f"rtseg.live.views.browser.{name}" for name in ("outlet", "server", "guard", "pages")]
    for name in (*theirs, *ours):  # an import would not be noticed a second time
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert cam("--no-window", "--web", "--frames", "1") == 2
    assert capsys.readouterr().err.strip() == f"error: --web needs the package {package}: pip install 'rtseg[web]'"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_q_quits(press):
    window, code = press("q")
    assert code == 0
    assert window.closed


def test_closing_the_window_quits(press):
    assert press(close=True)[1] == 0


def test_keys(press, capsys):
    window, code = press("h", "+", "-", "v", "s", "x", "space", "v", "space", "q")
    assert code == 0
    (screenshot,) = Path().glob("rtseg-*.png")
    assert cv2.imread(str(screenshot)).shape == (64, 96, 3)
    assert f"saved   {screenshot}" in capsys.readouterr().out
    indices = [index for index, _ in window.pictures]
    assert indices == sorted(indices)
    assert len(indices) > len(set(indices))  # the held picture was drawn again with the split view off


def test_r_starts_and_ends_a_recording(press):
    _, code = press("r", *["x"] * 10, "r", *["x"] * 10, "q")
    assert code == 0
    (recording,) = Path().glob("rtseg-*.mp4")
    assert 10 <= len(frames_of(recording)) <= 50


def test_r_ends_the_recording_of_the_command_line(press):
    _, code = press(*["x"] * 5, "r", *["x"] * 5, "q", arguments=("--record", "run.mp4"))
    assert code == 0
    assert len(frames_of("run.mp4")) > 0


@pytest.fixture
def ran(monkeypatch):
    """The names of the networks whose labels were shown."""
    names, plain = set(), DeskView.show

    def show(view, loop, result, picture):
        names.add(result.card.name)
        plain(view, loop, result, picture)

    monkeypatch.setattr(DeskView, "show", show)
    return names


@pytest.fixture
def said(monkeypatch):
    """The messages to viewers."""
    texts, plain = [], Desk.say

    def say(desk, text, **kind):
        texts.append(text)
        plain(desk, text, **kind)

    monkeypatch.setattr(Desk, "say", say)
    return texts


def test_m_goes_to_the_next_network(press, ran):
    _, code = press("m", lambda: "other" in ran, "x", "q", arguments=("--json", "report.json"))
    assert code == 0
    assert json.loads(Path("report.json").read_text())["model"] == "other"


def test_m_to_a_network_without_the_precision_leaves_the_loop_running(press, fake_network, said):  # noqa: F811
    entry = fake_card().files["fp32"]
    fake_card(files={"fp32": entry, "int8": entry}, engine_order=("fake",)).save(fake_network / "fake.json")
    fake_card(name="other", engine_order=("onnxruntime",)).save(fake_network / "other.json")
    keys = ("m", lambda: any("int8" in text for text in said), "x", "q")
    window, code = press(*keys, arguments=("--precision", "int8", "--json", "report.json"))
    assert code == 0
    assert json.loads(Path("report.json").read_text())["model"] == "fake"
    assert window.keys == []


def test_a_network_that_does_not_fit_leaves_the_loop_running(press, fake_network, said):  # noqa: F811
    animals = LabelSet("animals", ("cat", "dog"), ((1, 1, 1), (2, 2, 2)))
    fake_card(name="other", labels=animals, engine_order=("fake",)).save(fake_network / "other.json")
    keys = ("m", lambda: any("car" in text for text in said), "x", "q")
    _, code = press(*keys, arguments=("--show", "car,sky", "--json", "report.json"))
    assert code == 0
    assert json.loads(Path("report.json").read_text())["model"] == "fake"


def test_a_picture_stays_until_a_key(press, quick_source, monkeypatch):
    for option in ("--camera-size", "--camera-fps"):
        monkeypatch.delitem(USUAL, option)
    quick_source.kind, quick_source.count = "image", 1
    window, code = press("v", "q")
    assert code == 0
    assert {index for index, _ in window.pictures} == {0}
    assert len(window.pictures) > 1


def test_no_window_can_be_opened(fake_network, monkeypatch, capsys):  # noqa: F811
    reason = "there is no display"
    monkeypatch.setattr("rtseg.sinks.window.gui_available", lambda: (False, reason))
    assert cam() == 4
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert "--no-window" in error


@pytest.mark.usefixtures("fake_network", "quick_source")
def test_steady_labels_that_are_used_again_with_grey_where_it_is_not_sure(capsys):
    arguments = ("--no-window", "--frames", "20", "--steady", "--reuse", "--unsure", "0.5", "--json", "report.json")
    assert cam(*arguments, "--record", "out.mp4") == 0
    report = json.loads(Path("report.json").read_text())
    assert {"steady", "confidence", "compare"} <= set(report["stages_ms"])
    assert 0 < report["reused"] < 20  # the source's frames differ by one grey level each, and sometimes by ten
    assert f"{report['reused']} frames had the labels of an earlier one" in capsys.readouterr().out
    colour = frames_of("out.mp4")[-1][60, 90].astype(int)
    assert colour.max() - colour.min() < 12  # the fake network is 21 % sure: all is grey


@pytest.mark.parametrize("live", [False, True])
def test_a_steady_average_outlasts_frames_that_are_not_run(tiny_model, live):
    """With a file, averages restart now and then, but not if only frames that look alike lie in between."""
    rng, made = np.random.default_rng(0), {}
    spec = RunSpec(tiny_model, "onnxruntime", "fp32", (64, 96), 1)
    images = [np.clip(rng.normal(128, 3, (64, 96, 3)), 0, 255).astype(np.uint8) for _ in range(32)]
    for steady in (False, True):
        with _network(CamOptions(steady=steady, unsure=0.5, reuse=True), spec, live) as labeller:
            for index, image in enumerate(images):
                labeller.submit(Frame(image, index, index / 30, 0.0))
                made[steady] = labeller.collect()
    assert made[True].stages_s.keys() >= {"engine", "steady"}  # the last frame was run
    assert (made[True].labels != made[False].labels).any()


def test_m_keeps_what_is_around_the_network(press):
    _, code = press("m", *["x"] * 20, "q", arguments=("--steady", "--reuse", "--json", "report.json"))
    assert code == 0
    report = json.loads(Path("report.json").read_text())
    assert report["model"] == "other"
    assert {"steady", "compare"} <= set(report["stages_ms"])


def test_steadying_needs_scores(fake_network, capsys):  # noqa: F811
    fake_card(name="fake", engine_order=("fake",), output="labels").save(fake_network / "fake.json")
    assert cam("--no-window", "--frames", "2", "--steady") == 2
    assert "fake gives labels, not scores" in capsys.readouterr().err
    assert cam("--no-window", "--frames", "2", "--reuse") == 0


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--frames", "0"], 2, "--frames 0"),
        (["--duration", "-1"], 2, "--duration -1"),
        (["--duration", "nan"], 2, "--duration nan"),
        (["--json", "."], 4, "is a folder"),
        (["--source", "http://[::1"], 3, "http://[::1 is not a URL"),
        (["--frames", "many"], 2, "many"),
        (["--fames", "3"], 2, "--frames"),
        (["--size", "64"], 2, "HEIGHTxWIDTH"),
        (["--size", "65x96"], 2, "the nearest is 64x96"),
        (["--engine", "onnxrutime"], 2, "did you mean onnxruntime"),
        (["--precision", "fp23"], 2, "did you mean fp32"),
        (["--show", "cart"], 2, "did you mean car"),
        (["--unsure", "7"], 2, "a confidence of 7.0 is not allowed"),
        (["--opacity", "3"], 2, "opacity 3"),
        (["--threads", "0"], 2, "give 1 to"),
        (["--threads", "100000"], 2, "give 1 to"),
        (["--source", "missing.mp4"], 3, "no such file"),
        (["--source", "97"], 3, "--source synthetic"),
        (["--record", "video.avi"], 4, "mp4"),
        (["--web", "here"], 2, "give PORT or HOST:PORT"),
        (["--web", "1", "--web", "2"], 2, "give it once"),
        (["--web", "no.such.host.invalid:8000"], 4, "no address of this machine"),
        (["extra"], 2, "extra"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, code, message, capsys):
    assert cam("--no-window", *arguments) == code
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("bad"), 2, "error: bad"),
        (InputError("two\nlines"), 3, "error: two lines"),
        (OutputError("disk full"), 4, "error: disk full"),
        (EngineError("no engine"), 5, "error: no engine"),
        (WeightsError("no card"), 6, "error: no card"),
        (ParityError("differs"), 7, "error: differs"),
        (KeyError("x"), 1, "this is a bug"),
        (ImportError("No module named 'cv2'", name="cv2"), 5, "libgl1"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(error, code, line, capsys, monkeypatch):
    monkeypatch.delenv("RTSEG_DEBUG", raising=False)
    failing = App()

    @failing.default
    def command():
        raise error

    with pytest.raises(SystemExit) as ended:
        run(failing, [])
    assert ended.value.code == code
    printed = capsys.readouterr().err
    assert line in printed
    assert len(printed.splitlines()) == (1 if line else 0)


def test_opencv_that_cannot_load_is_explained(tmp_path):
    broken = tmp_path / "site" / "cv2"
    broken.mkdir(parents=True)
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    (broken / "__init__.py").write_text(f"raise ImportError({message!r})")
    command = [sys.executable, "-c", "from rtseg.apps.cam import main; main()", "--source", "synthetic", "--no-window"]
    root = Path(watch_module.__file__).parents[1]
    paths = os.pathsep.join([str(broken.parent), str(root)])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=250)
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert "libGL.so.1" in done.stderr
    assert "apt install libgl1" in done.stderr


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("source", ["a.mp4", "a.partial.mp4"])
def test_a_recording_never_replaces_its_source(source, capsys):
    Path(source).write_bytes(b"precious")
    assert cam("--source", source, "--record", "a.mp4", "--no-window") == 2
    assert "would overwrite the source" in capsys.readouterr().err
    assert Path(source).read_bytes() == b"precious"


def test_a_bracket_in_what_a_ladder_tells_is_no_markup() -> None:
    status = Console(file=StringIO()).status("")
    _tell(status, "measuring mine[/] at 64x96")
    shown = status.renderable.text
    assert str(shown).startswith("measuring mine[/] at 64x96; ")
