"""Common behaviour of all sources; a broken one is named in one line."""

import os
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from videos import make_video
from waits import HANGS_S, note_waits

from rtseg.core.errors import InputError, RtsegError, UsageError
from rtseg.core.frame import Frame
from rtseg.sources.base import Source
from rtseg.sources.open import open_source
from rtseg.sources.prefetch import Prefetch


def _truncated(path: Path) -> None:
    make_video(path)
    path.write_bytes(path.read_bytes()[:-2000])  # the index at the end is gone


def _sound_only(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))


def _no_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()


def _undecodable(path: Path) -> None:
    make_video(path, 3, codec="mjpeg", pix_fmt="yuvj420p")
    data = path.read_bytes()
    start = data.index(b"\xff\xd8\xff")
    path.write_bytes(data[:start] + bytes(len(data) - start))


BROKEN = {
    "a.mp4": (lambda path: None, "no such file"),
    "empty.mp4": (lambda path: path.write_bytes(b""), "0 bytes"),
    "cut.mp4": (_truncated, "cut short"),
    "text.mp4": (lambda path: path.write_text("hello world\n" * 100), "no video"),
    "noise.mp4": (lambda path: path.write_bytes(os.urandom(4000)), "no video"),
    "sound.mp4": (_sound_only, "no video stream"),
    "none.mp4": (_no_frames, "no "),
    "undecodable.avi": (_undecodable, "no frame that can be decoded"),
    "notes.txt": (lambda path: path.write_text("hello"), "not supported; allowed: png"),
    "text.png": (lambda path: path.write_text("hello"), "cannot be read as a picture"),
    "empty.png": (lambda path: path.write_bytes(b""), "0 bytes"),
    "folder": (lambda path: path.mkdir(), "holds no images"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_input_is_one_line_that_names_it(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, expected = BROKEN[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=expected) as caught:
        open_source(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("", "no source is given"), ("foo://host/x", "scheme 'foo' is not supported"), ("sythetic", "or synthetic")],
)
def test_a_spec_that_names_nothing_tells_what_it_could_be(spec: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        open_source(spec)


def test_spaces_around_a_spec_count_only_where_they_are_part_of_a_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(Path(" lead.mp4"), 2)
    make_video(Path("plain.mp4"), 3)
    for spec, frames in ((" lead.mp4", 2), (" plain.mp4\n", 3)):
        with open_source(spec) as source:
            assert len(list(source)) == frames


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(fps: float) -> None:
    with pytest.raises(UsageError, match="is not allowed"):
        open_source("synthetic", fps=fps)


def test_synthetic_street_is_endless_seeded_and_knows_its_labels() -> None:
    with open_source("synthetic:3", size_hw=(64, 128), fps=12.5) as source:
        assert (source.kind, source.size_hw, source.fps) == ("synthetic", (64, 128), 12.5)
        assert (source.frame_count, source.live) == (None, False)
        first, second = source.read(), source.read()
    with open_source("synthetic", size_hw=(64, 128), fps=12.5, seed=3) as again:
        same = again.read()
    assert first is not None
    assert second is not None
    assert same is not None
    assert first.truth is not None
    assert first.truth.shape == (64, 128)
    assert first.truth.max() < 11
    assert (first.index, second.index, second.timestamp_s) == (0, 1, pytest.approx(0.08))
    assert np.array_equal(first.image, same.image)
    assert not np.shares_memory(first.image, second.image)
    assert second.truth is not None
    assert not np.shares_memory(first.truth, second.truth)


class Counting(Source):
    """Ten frames, then an error if requested."""

    kind = "counting"

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("counting")
        self.error = error
        self.ended = threading.Event()
        self._start()

    def _frames(self):  # type: ignore[no-untyped-def]
        try:
            for index in range(10):
                yield Frame(np.zeros((2, 3, 3), np.uint8), index, 0.0, 0.0)
            if self.error is not None:
                raise self.error
        finally:
            self.ended.set()


def test_the_original_error_arrives_after_the_frames_before_it() -> None:
    error = RtsegError("the device burns")
    with Counting(error) as source:
        assert [source.read().index for _ in range(10)] == list(range(10))  # type: ignore[union-attr]
        with pytest.raises(RtsegError) as caught:
            source.read()
    assert caught.value is error


def test_close_frees_the_device_and_may_be_called_twice() -> None:
    source = Counting()
    assert source.read() is not None
    source.close()
    source.close()
    assert source.ended.is_set()
    assert source.read() is None
    assert not any(thread.name == "rtseg-source-counting" for thread in threading.enumerate())


def test_reading_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    begin = threading.Event()

    def numbers():  # type: ignore[no-untyped-def]
        begin.wait()
        for number in range(100):
            made.append(number)
            yield number

    ahead = Prefetch(numbers(), depth=3, name="numbers")
    waits = note_waits(monkeypatch, ahead, ahead._thread)
    begin.set()
    assert waits.wait(HANGS_S)
    assert made == [0, 1, 2, 3]  # three waiting, one in use
    waits.clear()
    assert ahead.get() == 0
    assert waits.wait(HANGS_S)
    assert made == [0, 1, 2, 3, 4]
    ahead.close()


def test_a_producer_that_hangs_does_not_hang_close() -> None:
    never = threading.Event()

    def stuck() -> Iterator[int]:
        yield 0
        never.wait()

    ahead = Prefetch(stuck(), depth=2, name="stuck")  # type: ignore[arg-type]
    assert ahead.get() == 0
    ahead.close()
    assert ahead._thread.is_alive()
    never.set()


def test_no_item_in_time_is_a_timeout() -> None:
    never = threading.Event()

    def stuck():  # type: ignore[no-untyped-def]
        never.wait()
        yield 1

    ahead = Prefetch(stuck(), depth=1, name="stuck")
    with pytest.raises(TimeoutError):
        ahead.get(0.05)
    never.set()
    ahead.close()
