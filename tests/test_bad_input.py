"""Bad input of all kinds: one clear line on stderr, the documented exit code, no partial file under its final name."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from time import sleep

import av
import cv2
import numpy as np
import pytest
from fakes import fake_card, loop_threads, make_network
from videos import make_video

import rtseg.engines
from rtseg.apps._console import run
from rtseg.core.card import CardFile
from rtseg.core.files import file_sha256
from rtseg.sources import camera as source_camera

OK, USAGE, INPUT, OUTPUT, ENGINE, WEIGHTS, INTERRUPTED = 0, 2, 3, 4, 5, 6, 130
ROOT = Path(__file__).parents[1]
APPS = {"rtseg-cam": "cam", "rtseg-video": "video", "rtseg-bench": "bench", "rtseg": "main"}
# the arguments of a command, unless a case has others
USUAL = {
    "rtseg-cam": {"--no-window": None, "--frames": "2", "--source": "{bad}/good.mp4"},
    "rtseg-video": {"--output": "out"},
    "rtseg-bench": {"--runs": "2", "--frames": "2", "--source-size": "64x96"},
    "rtseg": {},
}


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bad files of every kind, and the good ones that they were made from."""
    folder = tmp_path_factory.mktemp("material")
    good = make_video(folder / "good.mp4", 6, (64, 96)).read_bytes()
    (folder / "truncated.mp4").write_bytes(good[: len(good) // 2])
    noise = make_video(folder / "long.mp4", 40, (64, 96), options={"movflags": "faststart"}).read_bytes()
    (folder / "cut_short.mp4").write_bytes(noise[: len(noise) * 2 // 3])
    make_video(folder / "one_pixel.mkv", 2, (1, 1), codec="ffv1", pix_fmt="yuv444p")
    make_video(folder / "odd.mkv", 2, (63, 95), codec="ffv1", pix_fmt="yuv444p")
    make_video(folder / "no_frames.mp4", 0, (64, 96))
    make_sound(folder / "sound.mp4")
    for name in ("empty.mp4", "empty.png"):
        (folder / name).touch()
    for name in ("text.mp4", "text.png", "text.docx", "file"):
        (folder / name).write_text("no video, no picture\n" * 40)
    (folder / "folder").mkdir()
    (folder / "folder.onnx").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    cv2.imwrite(str(folder / "grey.png"), picture[..., 0])
    cv2.imwrite(str(folder / "alpha.png"), cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA))
    cv2.imwrite(str(folder / "sixteen.png"), picture.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "float.tiff"), picture.astype(np.float32))
    cv2.imwrite(str(folder / "noise.png"), np.random.default_rng(0).integers(0, 256, (512, 1024, 3), np.uint8))
    make_bad_networks(folder)
    return folder


def make_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def make_bad_networks(folder: Path) -> None:
    short = make_network(folder, "short")
    short.write_bytes(short.read_bytes()[:-20])
    wrong = make_network(folder, "wrong_hash")
    wrong.write_bytes(wrong.read_bytes()[:-1] + b"?")
    make_network(folder, "no_card").with_suffix(".json").unlink()
    make_network(folder, "bad_card").with_suffix(".json").write_text('{"name": "bad_card"')
    make_network(folder, "missing").unlink()
    (folder / "other.onnx").write_bytes(make_network(folder, "named").read_bytes())
    shutil.copy(folder / "named.json", folder / "other.json")
    garbage = folder / "garbage.onnx"
    garbage.write_bytes(b"no graph" * 100)
    entry = CardFile(garbage.name, file_sha256(garbage), garbage.stat().st_size)
    fake_card(name="garbage", files={"fp32": entry}, engine_order=("onnxruntime",)).save(folder / "garbage.json")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RTSEG_DEBUG", raising=False)
    yield
    assert loop_threads() == []


@pytest.fixture
def shipped(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes two small networks the shipped ones."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("enet", "icnet"):
        make_network(folder, name)
    monkeypatch.setattr("rtseg.core.zoo.weights_folder", lambda: folder)


class Command:
    """Runs a command line in this process, as its entry point would."""

    def __init__(self, capfd: pytest.CaptureFixture[str], **places: object) -> None:
        self._capfd = capfd
        self._places = places

    def __call__(self, line: str) -> tuple[int, list[str]]:
        """The exit code and the lines on stderr; '{name}' in the line stands for a path."""
        name, *words = (word.format(**self._places) for word in line.split())
        usual = dict(USUAL[name])
        if "--source" in words:
            usual.pop("--source-size", None)  # of the street that is there by default
        if name != "rtseg":
            usual["--model"] = str(self._places["tiny"])
        given = [text.format(**self._places) for flag, value in usual.items() if flag not in words
                 for text in (flag, value) if text]  # fmt: skip
        module = import_module(f"rtseg.apps.{APPS[name]}")
        app = module.build_app() if name == "rtseg" else module.app
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(app, [*words, *given])
        return ended.value.code, self._capfd.readouterr().err.splitlines()


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], tiny_model: Path, material: Path) -> Command:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody listens there after this is closed
    return Command(capfd, tiny=tiny_model, bad=material, port=port)


def outputs() -> list[str]:
    """Files under a final name in the current folder."""
    files = (path for path in Path().rglob("*") if path.is_file())
    return sorted(str(path) for path in files if ".partial" not in str(path) and ".part" not in path.suffixes)


def check(command: Command, line: str, code: int, words: str) -> None:
    ended, errors = command(line)
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert ended == code, errors[0]
    assert outputs() == []


# fmt: off
BAD_SOURCES = [
    ("missing.mp4", "no such file: missing.mp4"),
    ("{bad}/folder", "holds no images"),
    ("{bad}/empty.mp4", "is empty"),
    ("{bad}/empty.png", "is empty"),
    ("{bad}/truncated.mp4", "cannot open"),
    ("{bad}/text.mp4", "cannot open"),
    ("{bad}/text.png", "cannot be read as a picture"),
    ("{bad}/text.docx", "file type .docx is not supported"),
    ("{bad}/no_frames.mp4", "no_frames.mp4"),
    ("{bad}/sound.mp4", "no video stream"),
    ("{bad}/float.tiff", "float32"),
]

SOURCE_CASES = [
    *((f"rtseg-cam --source {source} --record run.mp4 --json x.json", INPUT, words) for source, words in BAD_SOURCES),
    *((f"rtseg-video {source} --save overlay,labels", INPUT, words) for source, words in BAD_SOURCES),
    ("rtseg-bench --source missing.mp4 --json figures.json", INPUT, "no such file"),
    ("rtseg-bench --source {bad}/text.mp4 --json figures.json", INPUT, "cannot open"),
    ("rtseg-cam --source 97 --record run.mp4", INPUT, "no camera 97"),
    ("rtseg-cam --source 97", INPUT, "--source synthetic"),
    ("rtseg-cam --source http://127.0.0.1:{port}/a.mp4 --record run.mp4", INPUT, "refused"),
    ("rtseg-cam --source rtsp://127.0.0.1:{port}/a --record run.mp4", INPUT, "refused"),
    ("rtseg-cam --source gopher://host/a", INPUT, "'gopher' is not supported"),
    ("rtseg-video http://127.0.0.1:{port}/a.mp4", USAGE, "rtseg-cam --source URL"),
    ("rtseg-video *.mkv", INPUT, "no file matches *.mkv"),
    ("rtseg eval --model {tiny} --data camvid --root missing --json figures.json", INPUT, "missing"),
    ("rtseg eval --model {tiny} --data camvid --root {bad} --json figures.json", INPUT, "val"),
    ("rtseg eval --model {tiny} --data camvid --json figures.json", USAGE, "--root"),
    ("rtseg eval --model {tiny} --data camvit --root {bad}", USAGE, "did you mean camvid"),
]

CHOICE_CASES = [
    *(
        (f"{line} {choice}", USAGE, words)
        for line in ("rtseg-cam --record run.mp4", "rtseg-video {bad}/good.mp4", "rtseg-bench --json figures.json",
                     "rtseg eval --data scenes --json figures.json")
        for choice, words in [
            ("--model icnte", "did you mean icnet"),
            ("--model {tiny} --engine onnxrutime", "did you mean onnxruntime"),
            ("--model {tiny} --precision fp23", "did you mean fp32"),
            ("--model {tiny} --precision fp16", "fp32"),
            ("--model {tiny} --precision int8", "it has: fp32"),
            ("--model {tiny} --size 250x500", "the nearest is 256x512"),
            ("--model {tiny} --size 256", "HEIGHTxWIDTH"),
            ("--model {tiny} --threads 0", "give 1 to"),
        ]
    ),
    ("rtseg-cam --fames 3", USAGE, "--frames"),
    ("rtseg-cam --show cart", USAGE, "did you mean car"),
    ("rtseg-video {bad}/good.mp4 --save lables", USAGE, "did you mean labels"),
    ("rtseg modles", USAGE, "did you mean models"),
    ("rtseg train --model icnet --epochs 0", USAGE, "epochs is 0"),
    ("rtseg train --model icnet --schedule polly", USAGE, "poly"),
    ("rtseg export", USAGE, "give either --checkpoint"),
    ("rtseg export --model {tiny} --name ../x", USAGE, "must be a plain name without folder"),
    ("rtseg export --checkpoint gone/best.safetensors", WEIGHTS, "no such file: gone/best.safetensors"),
]

IDLE_CASES = [
    ("rtseg-cam --camera-size 64x96 --record run.mp4", "good.mp4 is none, or leave it out"),
    ("rtseg-cam --camera-fps 25", "--camera-fps is for cameras and the synthetic street, and "),
    ("rtseg-cam --source {bad}/grey.png --camera-fps 25", "--camera-fps is for cameras"),
    ("rtseg-cam --reconnect 5", "--reconnect is for cameras and streams, and "),
    ("rtseg-cam --source synthetic --reconnect 0", "--reconnect is for cameras and streams, and synthetic"),
    ("rtseg-bench --source http://me:secret@host/a.mp4 --source-size 64x96", "street, and http://host/a.mp4 is none"),
    ("rtseg eval --model {tiny} --stability {bad}/good.mp4 --split test", "--split is for a data set: give --data"),
    ("rtseg eval --model {tiny} --stability {bad}/good.mp4 --boundary-tolerance 0.1", "--boundary-tolerance is for a"),
    ("rtseg compile --model {tiny} --root {bad}", "--root goes with --data: add that, or leave it out"),
    ("rtseg compile --model {tiny} --frames {bad} --force", "--force goes with --data"),
    ("rtseg compile --model {tiny} --size 64x96", "--size is for the pictures that ranges are measured on"),
    ("rtseg compile --model {tiny} --tf32", "--tf32 is for TensorRT engines: add --engine tensorrt, or leave it out"),
    ("rtseg export --model {tiny} --root {bad}", "--root is for the data set of the parity gate: add --data"),
    ("rtseg export --model {tiny} --seed 3", "--seed is for random weights: add --untrained"),
    ("rtseg export --model {tiny} --output labels --data-terms mine", "--data-terms is for a card"),
    ("rtseg prune --model {tiny} --keep 0.5 --output out --seed 3", "--seed is for the method random"),
    ("rtseg train --model enet --temperature 3", "--temperature is for teaching: add --teacher or --teaching"),
    ("rtseg train --model enet --unlabelled-every 2", "--unlabelled-every is for pictures without labels"),
]

WEIGHT_CASES = [
    *(
        (f"{line} --model {model}", code, words)
        for line in ("rtseg-cam --record run.mp4", "rtseg-video {bad}/good.mp4", "rtseg-bench --json figures.json")
        for model, code, words in [
            ("{bad}/wrong_hash.onnx", WEIGHTS, "sha256"),
            ("{bad}/short.onnx", WEIGHTS, "bytes but its card says"),
            ("{bad}/no_card.onnx", WEIGHTS, "no card at"),
            ("{bad}/garbage.onnx", ENGINE, "cannot load"),
        ]
    ),
    ("rtseg-cam --model {bad}/bad_card.onnx", WEIGHTS, "is not a card"),
    ("rtseg-cam --model {bad}/missing.onnx", WEIGHTS, "no such file"),
    ("rtseg-cam --model {bad}/other.onnx", WEIGHTS, "does not name other.onnx"),
    ("rtseg-cam --model {bad}/folder.onnx", WEIGHTS, "no such file"),
    ("rtseg eval --data scenes --model {bad}/wrong_hash.onnx --json figures.json", WEIGHTS, "sha256"),
    ("rtseg compile --model {bad}/no_card.onnx", WEIGHTS, "no card at"),
]

OUTPUT_CASES = [
    ("rtseg-cam --record {bad}/file/run.mp4", OUTPUT, "cannot write in folder"),
    ("rtseg-cam --record {bad}/folder", OUTPUT, "give a file name"),
    ("rtseg-cam --record run.avi", OUTPUT, "run.mp4"),
    ("rtseg-cam --record run.mp4 --json {bad}/file/report.json", OUTPUT, "cannot write in folder"),
    ("rtseg-cam --json {bad}/folder", OUTPUT, "cannot write"),
    ("rtseg-cam --record /proc/nowhere/run.mp4", OUTPUT, "cannot write in folder"),
    ("rtseg-video {bad}/good.mp4 --output {bad}/file", OUTPUT, "cannot write in folder"),
    ("rtseg-video {bad}/good.mp4 --output /proc/nowhere", OUTPUT, "cannot write in folder"),
    ("rtseg-video {bad}/good.mp4 --json {bad}/file/report.json", OUTPUT, "cannot write in folder"),
    ("rtseg-bench --json {bad}/file/figures.json", OUTPUT, "cannot write in folder"),
    ("rtseg eval --model {tiny} --data scenes --json {bad}/file/figures.json", OUTPUT, "file"),
]
# fmt: on


@pytest.mark.parametrize(("line", "code", "words"), SOURCE_CASES + WEIGHT_CASES + OUTPUT_CASES)
def test_bad(command: Command, line: str, code: int, words: str) -> None:
    check(command, line, code, words)


@pytest.mark.parametrize(("line", "words"), IDLE_CASES)
def test_an_option_that_means_nothing_here_is_refused(command: Command, line: str, words: str) -> None:
    """They were ignored without a word."""
    check(command, line, USAGE, words)


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("rtseg-cam --frames 1.5", "--frames 1.5"),
        ("rtseg-video {bad}/good.mp4 --jobs .5", "--jobs .5"),
        ("rtseg-bench --runs 2.5", "--runs 2.5"),
        ("rtseg data check --data scenes --first 2.5", "--first 2.5"),
        ("rtseg train --model enet --epochs 1.5", "--epochs 1.5"),
    ],
)
def test_a_fraction_is_no_whole_number(command: Command, line: str, option: str) -> None:
    """1.5 frames were 2."""
    check(command, line, USAGE, f"error: {option} is not allowed: give a whole number")


def test_a_whole_number_may_have_a_point(command: Command) -> None:
    assert command("rtseg-cam --frames 2.0 --json report.json") == (OK, [])
    assert json.loads(Path("report.json").read_text())["frames"] == 2


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(("line", "code", "words"), CHOICE_CASES)
def test_bad_choice(command: Command, line: str, code: int, words: str) -> None:
    check(command, line, code, words)


@pytest.mark.parametrize(("name", "size_hw"), [("one_pixel.mkv", (1, 1)), ("odd.mkv", (63, 95))])
def test_videos_of_awkward_sizes_work(command: Command, name: str, size_hw: tuple[int, int]) -> None:
    assert command(f"rtseg-video {{bad}}/{name} --save overlay,labels") == (OK, [])
    (made,) = Path("out").glob("*.mp4")
    assert playable_frames(made) == 2
    for labels in Path("out").glob("*_labels/*.png"):
        assert cv2.imread(str(labels), cv2.IMREAD_UNCHANGED).shape == size_hw
    assert command(f"rtseg-cam --source {{bad}}/{name} --record run.mp4") == (OK, [])
    assert playable_frames(Path("run.mp4")) == 2


@pytest.mark.parametrize("name", ["grey.png", "alpha.png", "sixteen.png"])
def test_pictures_of_every_kind_work(command: Command, name: str) -> None:
    assert command(f"rtseg-video {{bad}}/{name} --save overlay,labels") == (OK, [])
    assert cv2.imread(f"out/{name}").shape == (64, 96, 3)
    assert command(f"rtseg-cam --source {{bad}}/{name} --json report.json") == (OK, [])
    assert json.loads(Path("report.json").read_text())["frames"] == 1


def test_a_video_that_is_cut_short_is_labelled_as_far_as_it_goes(command: Command) -> None:
    assert command("rtseg-video {bad}/cut_short.mp4 --json report.json") == (OK, [])
    (entry,) = json.loads(Path("report.json").read_text())["inputs"]
    assert 0 < entry["frames"] < 40
    assert playable_frames(Path("out/cut_short.mp4")) == entry["frames"]
    assert "cut short" in entry["notes"][0]


def test_a_camera_that_is_busy(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy:
        def __init__(self, index: int) -> None: ...

        def isOpened(self) -> bool:
            return False

        def release(self) -> None: ...

    devices = Path("devices")
    (devices / "video0").mkdir(parents=True)
    monkeypatch.setattr(source_camera, "_DEVICES", devices)
    monkeypatch.setattr(source_camera.cv2, "VideoCapture", Busy)
    check(command, "rtseg-cam --source 0 --record run.mp4", INPUT, "it is busy in another program")


@pytest.mark.parametrize(
    ("engine", "fix"),
    [
        ("torch", "pip install 'rtseg[train]'"),
        ("openvino", "pip install openvino"),
        ("auto", "pip install onnxruntime"),
    ],
)
@pytest.mark.parametrize("line", ["rtseg-cam --record run.mp4", "rtseg-video {bad}/good.mp4", "rtseg-bench"])
def test_an_engine_that_is_not_installed(
    command: Command, monkeypatch: pytest.MonkeyPatch, line: str, engine: str, fix: str
) -> None:
    monkeypatch.setattr(rtseg.engines.table, "find_spec", lambda name: None)
    check(command, f"{line} --engine {engine}", ENGINE, fix)


@pytest.mark.parametrize("line", ["rtseg train --model icnet", "rtseg export --model icnet"])
def test_a_command_whose_packages_are_not_installed(
    command: Command, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("rtseg.apps.main.find_spec", lambda name: None)
    check(command, line, ENGINE, "pip install 'rtseg[train]'")


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 32 KiB, which looks like a full disk to a program."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rtseg-cam --source {bad}/long.mp4 --frames 40 --record run.mp4 --json report.json", "disk"),
        ("rtseg-video {bad}/long.mp4", "disk"),
        ("rtseg-video {bad}/noise.png --save overlay", "cannot write"),
        ("rtseg-video {bad}/noise.png --save labels", "cannot write"),
    ],
)
def test_a_disk_that_is_full(command: Command, request: pytest.FixtureRequest, line: str, words: str) -> None:
    command("rtseg-video {bad}/good.mp4 --output warm")  # compiles everything that is compiled once
    shutil.rmtree("warm")
    request.getfixturevalue("small_disk")
    check(command, line, OUTPUT, words)


def start(module: str, *arguments: str, site: Path | None = None, main: str = "main") -> subprocess.Popen[str]:
    """A command in its own process."""
    paths = os.pathsep.join(str(path) for path in (site, ROOT) if path)
    return subprocess.Popen(
        [sys.executable, "-c", f"from rtseg.apps.{module} import {main}; {main}()", *arguments],
        env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("cam", ["--source", "synthetic", "--no-window"]),
        ("video", ["good.mp4", "--output", "out"]),
        ("bench", ["--runs", "2"]),
    ],
)
def test_opencv_that_cannot_load(tmp_path: Path, tiny_model: Path, module: str, arguments: list[str]) -> None:
    broken = tmp_path / "site" / "cv2"
    broken.mkdir(parents=True)
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    (broken / "__init__.py").write_text(f"raise ImportError({message!r})")
    process = start(module, "--model", str(tiny_model), *arguments, site=broken.parent)
    _, errors = process.communicate(timeout=1200)
    assert len(errors.splitlines()) == 1
    assert errors.startswith("error: ")
    assert "apt install libgl1" in errors
    assert process.returncode == ENGINE
    assert not Path("out").exists()


def wait_for(done: object, process: subprocess.Popen[str]) -> None:
    while not done():
        assert process.poll() is None, process.communicate()
        sleep(0.05)


STRUCK = """import os, signal, threading, time
threading.Thread(target=threading.Event().wait).start()  # Python's end waits for it
try:
    os.kill(os.getpid(), signal.{name})
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("initialization failed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_library_that_is_broken_off_while_it_loads(
    tmp_path: Path, tiny_model: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """It was said not to be installed right, or aborted or hung at Python's end."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.default_int_handler)  # nohup, say, would make the command ignore it
    request.addfinalizer(lambda: signal.signal(number, before))
    site = tmp_path / "site" / "onnxruntime"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text(STRUCK.format(name=name))
    options = ["--no-window", "--engine", "onnxruntime", "--precision", "fp32", "--model", str(tiny_model)]
    process = start("cam", "--source", "synthetic", "--camera-size", "64x96", *options, site=site.parent)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (INTERRUPTED, "")


def test_ctrl_c_before_a_command_has_begun_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    process = start("start", site=tmp_path, main="cam")
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (-signal.SIGINT, "")


@pytest.mark.slow
def test_ctrl_c_ends_a_camera_with_a_whole_recording(tiny_model: Path) -> None:
    process = start(
        "cam", "--source", "synthetic", "--camera-size", "128x256", "--no-window", "--model", str(tiny_model),
        "--record", "run.mp4", "--json", "report.json",
    )  # fmt: skip
    unfinished = Path("run.partial.mp4")
    wait_for(lambda: unfinished.exists() and unfinished.stat().st_size > 20_000, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=1200)
    assert (process.returncode, errors) == (INTERRUPTED, "")
    frames = json.loads(Path("report.json").read_text())["frames"]
    assert playable_frames(Path("run.mp4")) == frames > 0
    assert outputs() == ["report.json", "run.mp4"]


@pytest.mark.slow
def test_ctrl_c_ends_a_video_and_keeps_what_is_finished(tiny_model: Path, material: Path) -> None:
    many = Path("many")
    many.mkdir()
    for number in range(3000):
        os.link(material / "noise.png", many / f"{number:04}.png")
    process = start(
        "video", str(material / "good.mp4"), "many", "--output", "out", "--model", str(tiny_model), "--save", "labels"
    )
    wait_for(lambda: len(list(Path("out").glob("many.partial/many_labels/*.png"))) > 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=1200)
    assert (process.returncode, errors) == (INTERRUPTED, "")
    assert sorted(path.name for path in Path("out").glob("[!.]*")) == ["good_labels", "many.partial"]
    assert len(list(Path("out/good_labels").iterdir())) == 6


def playable_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
