"""`rtseg-video --steady` and `--save confidence`: the same files however often a run is interrupted or divided."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from batch_runs import label_maps, same_outputs, segments_in
from fakes import fake_card, fake_network  # noqa: F401 - a fixture
from PIL import Image
from test_source_span import VIDEOS

from rtseg.apps._console import run
from rtseg.apps.video import app
from rtseg.batch.pool import InlinePool
from rtseg.core.errors import OutputError
from rtseg.sinks.video import VideoSink

SAVE = "overlay,labels,areas,confidence"

pytestmark = pytest.mark.usefixtures("fake_network")


def video(source: Path, out: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(app, [str(source), "--model", "fake", "--output", str(out), "--save", SAVE, "--threads", "1", *arguments])
    return ended.value.code


def noisy(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, frames: int = 100) -> Path:
    """A still scene with noise, so that labels flip, and a square that moves through it: 10 fps."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options or {"crf": "4", "preset": "veryfast"})
        stream.height, stream.width = 64, 96
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        for index in range(frames):
            image = rng.normal(100, 1.5, (64, 96, 3))
            image[10:30, index % 76 : index % 76 + 20] += 90
            picture = np.clip(image, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def damaged(path: Path) -> Path:
    content = bytearray(noisy(path, *VIDEOS["open.ts"], frames=140).read_bytes())
    for part in (2, 3):
        place = len(content) * part // 5
        content[place : place + 500] = np.random.default_rng(part).bytes(500)
    path.write_bytes(content)
    return path


def break_at(monkeypatch: pytest.MonkeyPatch, index: int) -> list[bool]:
    """Makes the sink fail at the listed frames, until the list is emptied."""
    original, broken = VideoSink.write, [True]

    def write(self, frame, labels, picture):  # type: ignore[no-untyped-def]
        if broken and frame.index >= index:
            raise OutputError("this folder is gone")
        original(self, frame, labels, picture)

    monkeypatch.setattr(VideoSink, "write", write)
    return broken


def broken_off(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *places: int) -> None:
    """Runs the command to its end, with a failure at each of these frames."""
    for place in places:
        with monkeypatch.context() as patched:
            break_at(patched, place)
            assert video(source, out, "--steady") == 4
    assert segments_in(out / f"{source.stem}.partial") >= 1
    assert video(source, out, "--steady") == 0


@pytest.mark.slow
def test_a_run_that_is_broken_off_or_shared_out_gives_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = noisy(tmp_path / "a.mp4", frames=66)
    assert video(source, tmp_path / "whole", "--steady") == 0
    broken_off(source, tmp_path / "broken", monkeypatch, 30, 31, 53)
    same_outputs(tmp_path / "whole", tmp_path / "broken", "a")

    tasks = []
    start = InlinePool.start
    monkeypatch.setattr("rtseg.batch.work.TASK_S", 1.3)
    monkeypatch.setattr(InlinePool, "size", 2)  # divides the video
    monkeypatch.setattr(InlinePool, "start", lambda pool, task: (tasks.append(task), start(pool, task)))
    assert video(source, tmp_path / "shared", "--steady") == 0
    assert len(tasks) > 4
    assert any(task.span.warm_up for task in tasks)
    same_outputs(tmp_path / "whole", tmp_path / "shared", "a")

    assert video(source, tmp_path / "plain") == 0
    steadied, plain = (label_maps(tmp_path / folder / "a_labels") for folder in ("whole", "plain"))
    assert np.mean([(steadied[name] != plain[name]).mean() for name in plain]) > 0.05  # else the test is meaningless


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open.ts", "refresh.mkv", "mpeg4.avi", "bare.h264", "damaged.ts"])
def test_any_video_is_gone_on_with(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = damaged(tmp_path / name) if name == "damaged.ts" else noisy(tmp_path / name, *VIDEOS[name])
    assert video(source, tmp_path / "whole", "--steady") == 0
    broken_off(source, tmp_path / "broken", monkeypatch, 40, 60)
    same_outputs(tmp_path / "whole", tmp_path / "broken", source.stem)


def test_pictures_are_warmed_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "row").mkdir()
    rng = np.random.default_rng(0)
    for index in range(40):
        picture = rng.normal(100, 1, (64, 96, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "row" / f"{index:03d}.png")
    written = "rtseg.batch.segments.write_picture"

    def broken(made: Path, picture: np.ndarray) -> None:
        if made.name.endswith("000020.png"):
            raise OutputError("this folder is gone")
        write(made, picture)

    from rtseg.batch.segments import write_picture as write

    assert video(tmp_path / "row", tmp_path / "whole", "--steady") == 0
    with monkeypatch.context() as patched:
        patched.setattr(written, broken)
        assert video(tmp_path / "row", tmp_path / "out", "--steady") == 4
    assert video(tmp_path / "row", tmp_path / "out", "--steady") == 0
    for kind in ("labels", "confidence", "overlay"):
        first, second = (label_maps(tmp_path / folder / f"row_{kind}") for folder in ("whole", "out"))
        assert len(first) == 40
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name])


def test_work_goes_on_as_it_was_begun_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = noisy(tmp_path / "a.mp4", frames=40), tmp_path / "out"
    with monkeypatch.context() as patched:
        break_at(patched, 20)
        assert video(source, out, "--steady") == 4
    assert video(source, out) == 4
    assert "was begun with other settings (steady on, now off)" in capsys.readouterr().err
    assert video(source, out, "--steady") == 0
    assert video(source, out) == 0
    assert "a_labels was made with other settings (steady on, now off)" in capsys.readouterr().out
    made = json.loads((out / ".rtseg-video" / "a.json").read_text())
    assert made["labels"]["settings"]["steady"] == "on"
    assert video(source, out, "--unsure", "0.3", "--steady") == 0
    assert "(unsure none, now 0.3)" in capsys.readouterr().out


def test_confidence_is_saved_beside_the_labels(tmp_path: Path, fake_network: Path) -> None:  # noqa: F811
    source = noisy(tmp_path / "a.mp4", frames=5)
    assert video(source, tmp_path / "out") == 0
    # the fake network has the logit 1 for one class and 0 for ten: e / (e + 10) = 0.2137, and 255 times that 54.501
    saved = sorted((tmp_path / "out" / "a_confidence").iterdir())
    assert [path.name for path in saved] == [f"{index:06d}.png" for index in range(5)]
    with Image.open(saved[0]) as picture:
        assert (picture.mode, picture.size) == ("L", (96, 64))
        values = np.asarray(picture)
    assert values.max() == 55
    assert values.min() >= 255 // 11  # with eleven classes, none is less certain
    fake_card(name="fake", engine_order=("fake",), temperature=0.5, temperature_from="camvid/val").save(
        fake_network / "fake.json"
    )
    assert video(source, tmp_path / "sharper") == 0
    with Image.open(tmp_path / "sharper" / "a_confidence" / "000000.png") as picture:
        assert np.asarray(picture).max() == 108  # e^2 / (e^2 + 10) = 0.4249, of 255: 108.3


def test_a_temperature_concerns_what_shows_a_confidence(
    tmp_path: Path,
    fake_network: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = noisy(tmp_path / "a.mp4", frames=5), tmp_path / "out"
    assert video(source, out) == 0
    fake_card(name="fake", engine_order=("fake",), temperature=0.5, temperature_from="camvid/val").save(
        fake_network / "fake.json"
    )
    capsys.readouterr()
    assert video(source, out) == 0
    said = capsys.readouterr().out
    assert "a_confidence was made with other settings (temperature 1, now 0.5)" in said
    assert "a_labels was made with other settings" not in said


@pytest.mark.parametrize(
    "arguments", [("--steady",), ("--unsure", "0.5"), ("--save", "labels,confidence")], ids=["steady", "unsure", "save"]
)
def test_a_network_without_scores_is_refused(
    arguments: tuple[str, ...],
    tmp_path: Path,
    fake_network: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_card(name="fake", engine_order=("fake",), output="labels").save(fake_network / "fake.json")
    with pytest.raises(SystemExit) as ended:
        run(app, ["a.mp4", "--model", "fake", "--output", str(tmp_path / "out"), *arguments])
    assert ended.value.code == 2
    assert "fake gives labels, not scores" in capsys.readouterr().err


@pytest.mark.parametrize("unsure", ["1.5", "-1", "nan"])
def test_a_confidence_that_makes_no_sense_is_refused(
    unsure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert video(tmp_path / "a.mp4", tmp_path / "out", "--unsure", unsure) == 2
    assert f"a confidence of {float(unsure)} is not allowed: give 0" in capsys.readouterr().err
