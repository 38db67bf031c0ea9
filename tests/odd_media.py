"""Numbered pictures, videos of them in every container and codec, and helpers that run commands and read results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from fakes import FakeEngine, fake_card

from rtseg import engines
from rtseg.apps._console import run
from rtseg.apps.cam import app as cam_app
from rtseg.apps.video import app as video_app
from rtseg.core.files import file_url

SIZE = (64, 96)
BITS = 6  # of a picture's number: black or white blocks in the upper half
LEFT, RIGHT = (40, 40, 200), (200, 60, 40)  # BGR of the lower quarters
SOUND_S = 1.0


def numbered(number: int, size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 BGR: the number as blocks at the top, red at the lower left and blue at the lower right."""
    height, width = size_hw
    image = np.empty((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = LEFT, RIGHT
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        image[: height // 2, left:right] = 255 * (number >> bit & 1)
    return image


def number_of(image: np.ndarray) -> int:
    """The number of a picture, or of a label map in which white is class 10 and black is 0."""
    height, width = image.shape[:2]
    middle = 127 if image.ndim == 3 else 5
    patches = [
        image[height // 8 : height // 3, (2 * bit + 1) * width // (2 * BITS) - 3 :][:, :6] for bit in range(BITS)
    ]
    return sum(int(patch.mean() > middle) << bit for bit, patch in enumerate(patches))


def has_its_colours(image: np.ndarray) -> bool:
    """Whether the lower left is red and the lower right blue: not rotated, mirrored or discoloured."""
    height, width = image.shape[:2]
    below = image[3 * height // 4 - 3 : 3 * height // 4 + 3].astype(int)
    left, right = (below[:, place - 3 : place + 3].reshape(-1, 3).mean(0) for place in (width // 4, 3 * width // 4))
    return bool(np.abs(left - LEFT).max() < 45 and np.abs(right - RIGHT).max() < 45)


@dataclass(frozen=True)
class Video:
    """How to make a video, and the expected result."""

    name: str
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    frames: int = 12
    rate: Fraction | int = 25
    size_hw: tuple[int, int] = SIZE
    times_s: Sequence[float] = ()
    sound: str | None = None
    sound_rate: int = 48000
    options: dict[str, str] = field(default_factory=dict)  # of the encoder
    muxer: dict[str, str] = field(default_factory=dict)
    form: str | None = None
    rotation: float | None = None
    aspect: Fraction | None = None

    @property
    def shown_s(self) -> list[float]:
        """Presentation times of the pictures."""
        if not self.times_s:
            return [number / float(self.rate) for number in range(self.frames)]
        return [time - self.times_s[0] for time in self.times_s]

    def make(self, folder: Path) -> Path:
        path = folder / self.name
        with av.open(file_url(path), "w", format=self.form, options=self.muxer) as container:
            stream = container.add_stream(self.codec, rate=self.rate, options=self.options)
            stream.height, stream.width = self.size_hw
            stream.pix_fmt = self.pix_fmt
            if "g" not in self.options:
                stream.codec_context.gop_size = 6
            if self.times_s:
                stream.codec_context.time_base = Fraction(1, 1000)
            if self.aspect:
                stream.codec_context.sample_aspect_ratio = self.aspect
            if self.rotation is not None:
                stream.set_display_rotation(self.rotation)
            sound = container.add_stream(self.sound, rate=self.sound_rate, layout="mono") if self.sound else None
            for number in range(self.frames):
                frame = av.VideoFrame.from_ndarray(numbered(number, self.size_hw), format="bgr24")
                if self.times_s:
                    frame.pts, frame.time_base = round(self.times_s[number] * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame.reformat(format=self.pix_fmt)))
            container.mux(stream.encode(None))
            if sound is not None:
                add_tone(container, sound, self.sound_rate)
        return path


def add_tone(container: av.container.OutputContainer, sound: av.AudioStream, rate: int) -> None:
    """A second of a tone."""
    tone = np.sin(np.arange(round(SOUND_S * rate)) * 0.1).astype(np.float32)[None] / 3
    whole = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    whole.sample_rate, whole.pts, whole.time_base = rate, 0, Fraction(1, rate)
    size = sound.codec_context.frame_size or 1024
    resampler = AudioResampler(sound.codec_context.format.name, "mono", rate, frame_size=size)
    for piece in (*resampler.resample(whole), *resampler.resample(None)):
        container.mux(sound.encode(piece))
    container.mux(sound.encode(None))


class BandEngine(FakeEngine):
    """Labels a pixel by its blue value in eleven bands: black is 0, white is 10, whatever a codec did to them."""

    def _infer(self, image):  # type: ignore[no-untyped-def]
        return (np.arange(11)[:, None, None] == image[::4, ::4, 0] // 24).astype(np.float32)


@pytest.fixture
def bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands label by `BandEngine`, in the test's own folder."""
    weights = tmp_path / "weights"
    weights.mkdir()
    fake_card(engine_order=("fake",)).save(weights / "fake.json")
    monkeypatch.setattr("rtseg.core.zoo.weights_folder", lambda: weights)
    monkeypatch.setitem(engines.TABLE, "fake", engines.EngineEntry("odd_media:BandEngine", "numpy", "pip install fake"))
    monkeypatch.setitem(engines.ENGINES._entries, "fake", "odd_media:BandEngine")
    monkeypatch.setattr("rtseg.live.loop.Loop.hud_lines", lambda loop, result: [])  # it would cover the numbers
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


def command(app: object, *arguments: object) -> int:
    """Runs a command in this process and returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        run(app, ["--model", "fake", *map(str, arguments)])  # type: ignore[arg-type]
    return int(ended.value.code or 0)


def label(*inputs: object, save: str = "overlay,labels,areas") -> int:
    """`rtseg-video` into the folder out; overlays are the pictures themselves."""
    return command(video_app, *inputs, "--output", "out", "--save", save, "--opacity", 0, "--no-legend", "--jobs", 1)


def watch(source: object) -> int:
    """`rtseg-cam` into out/cam.mp4; it records the pictures themselves."""
    return command(cam_app, "--source", source, "--no-window", "--record", "out/cam.mp4", "--opacity", 0, "--no-legend")


@dataclass(frozen=True)
class Seen:
    """A video as a player shows it."""

    numbers: list[int]
    times_s: list[float]
    sound_s: float | None
    size_hw: tuple[int, int]
    coloured: bool
    aspect: Fraction


def seen(path: Path) -> Seen:
    """Reads a video with PyAV, picture by picture, and all of its sound."""
    with av.open(file_url(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts * frame.time_base, frame.to_ndarray(format="bgr24")) for frame in container.decode(stream)]
        aspect = stream.sample_aspect_ratio or Fraction(1)
    start = frames[0][0]
    return Seen(
        [number_of(image) for _, image in frames],
        [float(time - start) for time, _ in frames],
        sound_s(path),
        frames[0][1].shape[:2],
        all(has_its_colours(image) for _, image in frames),
        aspect,
    )


def sound_s(path: Path) -> float | None:
    """Duration of the first sound track in seconds; None if there is none."""
    with av.open(file_url(path)) as container:
        if not container.streams.audio:
            return None
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def opencv_numbers(path: Path) -> list[int]:
    """The same with OpenCV's own reader."""
    capture = cv2.VideoCapture(str(path))
    numbers = []
    while (read := capture.read())[0]:
        numbers.append(number_of(read[1]))
    return numbers


def label_numbers(folder: Path) -> dict[int, int]:
    """File's number -> number shown by its label map."""
    return {int(path.stem): number_of(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in sorted(folder.iterdir())}


def area_times(path: Path) -> Iterator[tuple[int, float]]:
    """(frame, time) of every row."""
    for row in path.read_text().splitlines()[1:]:
        index, time, *_ = row.split(",")
        yield int(index), float(time)
