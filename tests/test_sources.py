"""Sources: pictures, videos of every kind, network streams, cameras; what is broken ends with one line."""

import http.server
import logging
import os
import socket
import threading
import time
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtseg.core.errors import InputError, RtsegError, UsageError
from rtseg.core.frame import Frame
from rtseg.vision import source_camera
from rtseg.vision.prefetch import Prefetch
from rtseg.vision.source_camera import list_cameras
from rtseg.vision.sources import Source, open_source

ENDS_WITHIN_S = 5.0


def picture(number: int, size_hw: tuple[int, int]) -> np.ndarray:
    """White upper left quarter, blue upper right, noise that differs from frame to frame below."""
    height, width = size_hw
    image = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = 255
    image[: height // 2, width // 2 :] = (255, 0, 0)
    return image


def make_video(
    path: Path,
    frames: int = 12,
    size_hw: tuple[int, int] = (48, 64),
    rate: object = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: float | None = None,
    hflip: bool = False,
    times_s: list[float] | None = None,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    with av.open(str(path), "w", format=container_format, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size_hw
        stream.pix_fmt = pix_fmt
        if codec == "libx264":
            stream.codec_context.gop_size = 10
        if times_s:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=hflip)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, size_hw), format="bgr24")
            if times_s:
                frame.pts, frame.time_base = round(times_s[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def corners(image: np.ndarray) -> str:
    """What each quarter is, left to right and top to bottom: W(hite), B(lue), or - (noise)."""
    height, width = image.shape[:2]
    found = ""
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            patch = image[y - 4 : y + 4, x - 4 : x + 4].astype(int).reshape(-1, 3)
            flat = patch.std(0).max() < 8
            found += "-" if not flat else "W" if patch.mean(0).min() > 240 else "B"
    return found


# ------------------------------------------------------------------------------------------------ video files


def test_video_reports_what_it_is_and_gives_every_frame_in_order(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "a.mp4", 12)) as source:
        assert (source.kind, source.size_hw, source.fps, source.frame_count) == ("video", (48, 64), 25.0, 12)
        assert not source.live
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([n / 25 for n in range(12)])
    assert all(frame.image.flags.c_contiguous and frame.image.dtype == np.uint8 for frame in frames)
    assert corners(frames[5].image)[:2] == "WB"
    assert source.corrupt == 0


def test_ntsc_rate_is_not_rounded(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "a.mp4", 30, rate=Fraction(30000, 1001))) as source:
        assert source.fps == pytest.approx(29.97003, abs=1e-5)
        assert list(source)[-1].timestamp_s == pytest.approx(29 * 1001 / 30000, abs=1e-4)


def test_variable_rate_keeps_its_own_times_and_starts_at_zero(tmp_path: Path) -> None:
    times = [0.5, 0.6, 0.9, 1.0, 2.5]
    with open_source(make_video(tmp_path / "a.mkv", 5, times_s=times)) as source:
        assert [frame.timestamp_s for frame in source] == pytest.approx([t - 0.5 for t in times], abs=2e-3)


@pytest.mark.parametrize(
    ("rotation", "hflip", "size_hw", "expected"),
    [
        (0, False, (48, 64), "WB--"),
        (90, False, (64, 48), "B-W-"),
        (180, False, (48, 64), "--BW"),
        (-90, False, (64, 48), "-W-B"),
        (0, True, (48, 64), "BW--"),
    ],
)
def test_rotation_flag_is_applied(
    tmp_path: Path, rotation: float, hflip: bool, size_hw: tuple[int, int], expected: str
) -> None:
    with open_source(make_video(tmp_path / "a.mp4", 2, rotation=rotation, hflip=hflip)) as source:
        frame = source.read()
        assert frame is not None
        assert source.size_hw == frame.size_hw == size_hw
        assert corners(frame.image) == expected


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "size_hw"),
    [
        (".mkv", "ffv1", "gray", (48, 64)),
        (".mkv", "ffv1", "gray16le", (48, 64)),
        (".mkv", "ffv1", "bgra", (48, 64)),
        (".mkv", "ffv1", "yuv420p10le", (48, 64)),
        (".mkv", "ffv1", "bgr0", (33, 47)),
        (".mkv", "ffv1", "bgr0", (1, 1)),
        (".avi", "mjpeg", "yuvj420p", (31, 45)),
        (".ts", "libx264", "yuv420p", (48, 64)),
    ],
)
def test_every_pixel_format_and_size_comes_out_as_bgr8(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, size_hw: tuple[int, int]
) -> None:
    path = make_video(tmp_path / f"a{suffix}", 3, size_hw, codec=codec, pix_fmt=pix_fmt)
    with open_source(path, threads=1) as source:
        frames = list(source)
    assert len(frames) == 3
    assert all(frame.image.shape == (*size_hw, 3) and frame.image.dtype == np.uint8 for frame in frames)
    if min(size_hw) > 8:
        assert frames[0].image[2, 2].min() > 235


def test_unknown_frame_count_is_none(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "a.mkv", 4, codec="mpeg4")) as source:
        assert source.frame_count is None
        assert len(list(source)) == 4


def test_corrupt_frames_are_counted_and_skipped_but_keep_their_place(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 40, options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
    assert 0 < source.corrupt < 40
    assert len(frames) + source.corrupt == 40
    assert frames[-1].index == 39
    assert frames[-1].timestamp_s == pytest.approx(39 / 25)


def test_a_file_cut_short_gives_the_frames_it_has_and_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "a.mp4", 40, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with caplog.at_level(logging.WARNING), open_source(path) as source:
        assert 5 < len(list(source)) < 40
    assert "of 40 frames" in caplog.text


# ----------------------------------------------------------------------------------------------- broken input


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
    "text.png": (lambda path: path.write_text("hello"), "no picture"),
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


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(fps: float) -> None:
    with pytest.raises(UsageError, match="is not allowed"):
        open_source("synthetic", fps=fps)


# --------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.full((5, 7), 100, np.uint8), (100, 100, 100)),
        (np.full((5, 7, 3), (1, 2, 3), np.uint8), (1, 2, 3)),
        (np.full((5, 7, 4), (10, 20, 30, 128), np.uint8), (10, 20, 30)),
        (np.full((5, 7), 65535, np.uint16), (255, 255, 255)),
        (np.full((5, 7, 3), (257, 514, 65535), np.uint16), (1, 2, 255)),
        (np.full((1, 1, 3), (4, 5, 6), np.uint8), (4, 5, 6)),
    ],
)
def test_image_of_any_depth_becomes_bgr8(tmp_path: Path, stored: np.ndarray, expected: tuple[int, ...]) -> None:
    path = tmp_path / "ä b.png"  # a name that cv2.imread cannot open on every system
    path.write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    with open_source(path) as source:
        assert (source.kind, source.frame_count, source.size_hw) == ("image", 1, stored.shape[:2])
        (frame,) = source
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (*stored.shape[:2], 3)
    assert tuple(frame.image[0, 0]) == expected


def test_folder_is_sorted_keeps_each_size_and_skips_what_is_damaged(tmp_path: Path) -> None:
    for number, size in ((2, (6, 8)), (0, (4, 5)), (1, None), (3, (4, 5))):
        path = tmp_path / f"{number}.png"
        if size is None:
            path.write_text("no picture")
        else:
            path.write_bytes(cv2.imencode(".png", np.full((*size, 3), number, np.uint8))[1].tobytes())
    (tmp_path / "notes.txt").write_text("not an image")
    with open_source(tmp_path, fps=4) as source:
        assert (source.kind, source.fps, source.frame_count, source.size_hw) == ("images", 4, 4, (4, 5))
        frames = list(source)
    assert [(frame.index, frame.size_hw, int(frame.image[0, 0, 0])) for frame in frames] == [
        (0, (4, 5), 0),
        (2, (6, 8), 2),
        (3, (4, 5), 3),
    ]
    assert [frame.timestamp_s for frame in frames] == [0.0, 0.5, 0.75]
    assert source.corrupt == 1


def test_folder_of_nothing_but_damaged_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match="no frame that can be decoded"):
        open_source(tmp_path)


# -------------------------------------------------------------------------------------------- synthetic street


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


# ---------------------------------------------------------------------------------------------------- cameras


class FakeCapture:
    """Stands in for cv2.VideoCapture: three frames with a gap, then nothing."""

    def __init__(self, index: int) -> None:
        self.reads = 0
        self.settings: dict[int, float] = {}
        self.released = False

    def isOpened(self) -> bool:
        return True

    def set(self, setting: int, value: float) -> bool:
        self.settings[setting] = value
        return True

    def get(self, setting: int) -> float:
        return self.settings.get(setting, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.reads += 1
        if self.reads in (1, 2, 4):
            return True, np.full((4, 6), self.reads, np.uint8)  # a grey camera
        return False, None

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(source_camera, "_DEVICES", tmp_path)
    monkeypatch.setattr(source_camera, "_NAMES", tmp_path / "names")
    monkeypatch.setattr("sys.platform", "linux")
    return tmp_path


def test_absent_camera_is_one_line_with_the_way_on(camera_devices: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"no camera 0: .*try --source synthetic, or rtseg-cam --list-cameras"):
        open_source("0")
    assert capfd.readouterr().err == ""


def test_camera_that_is_there_but_cannot_be_opened_may_be_busy(
    camera_devices: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (camera_devices / "video93").touch()
    with pytest.raises(InputError, match="camera 93 cannot be opened: it is busy"):
        open_source(93)
    assert capfd.readouterr().err == ""


def test_camera_asks_for_its_settings_and_ends_when_it_is_unplugged(
    camera_devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (camera_devices / "video0").touch()
    captures: list[FakeCapture] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: captures.append(FakeCapture(index)) or captures[-1])
    with open_source("0", camera_size=(480, 640), fps=25) as source:
        assert (source.kind, source.live, source.fps, source.size_hw) == ("camera", True, 25.0, (4, 6))
        frames = [source.read() for _ in range(3)]
        with pytest.raises(InputError, match="unplugged"):
            source.read()
    settings = captures[0].settings
    assert settings[cv2.CAP_PROP_FRAME_HEIGHT] == 480
    assert settings[cv2.CAP_PROP_FRAME_WIDTH] == 640
    assert settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert [frame.index for frame in frames if frame] == [0, 1, 3]  # the missed read counts
    assert all(frame is not None and frame.image.shape == (4, 6, 3) for frame in frames)
    assert captures[0].released


def test_list_cameras_names_those_that_open(camera_devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_cameras() == []
    for index in (0, 2, 12):
        (camera_devices / f"video{index}").touch()
    (camera_devices / "names" / "video2").mkdir(parents=True)
    (camera_devices / "names" / "video2" / "name").write_text("Laptop Camera\n")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    assert [(camera.index, camera.name) for camera in list_cameras()] == [(0, "camera 0"), (2, "Laptop Camera")]


# ---------------------------------------------------------------------------------------------------- network


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_url_that_never_answers_ends_at_the_time_out(silent_port: int, scheme: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"did not answer within 0\.5 s"):
        open_source(f"{scheme}://127.0.0.1:{silent_port}/live", timeout_s=0.5)
    assert time.perf_counter() - start < ENDS_WITHIN_S


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_url_that_refuses_is_one_line_without_the_password(scheme: str, silent_port: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(InputError, match="refused") as caught:
            open_source(f"{scheme}://user:secret@127.0.0.1:{port}/live", timeout_s=2)
    assert "secret" not in str(caught.value)


class Streamer(http.server.BaseHTTPRequestHandler):
    """Sends a transport stream without a length, then leaves the line open and silent."""

    data = b""
    quiet = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        self.wfile.write(self.data)
        self.quiet.wait(20)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def stream_url(tmp_path: Path) -> Iterator[str]:
    Streamer.data = make_video(tmp_path / "a.ts", 30, options={}).read_bytes()
    Streamer.quiet = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Streamer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live.ts"
    Streamer.quiet.set()
    server.shutdown()
    server.server_close()


def test_stream_that_falls_silent_ends_with_an_error(stream_url: str) -> None:
    start = time.perf_counter()
    with open_source(stream_url, timeout_s=1) as source:
        assert source.live
        with pytest.raises(InputError, match="sent nothing for 1 s"):
            list(source)
    assert time.perf_counter() - start < ENDS_WITHIN_S + 3


def test_interrupt_ends_a_read_that_waits(stream_url: str) -> None:
    with open_source(stream_url, timeout_s=3) as source:
        got: list[Frame | None] = []

        def read_all() -> None:
            while got[-1:] != [None]:
                got.append(source.read())

        reader = threading.Thread(target=read_all)
        reader.start()
        time.sleep(0.5)
        assert reader.is_alive()
        start = time.perf_counter()
        source.interrupt()
        reader.join(2)
        assert not reader.is_alive()
        assert time.perf_counter() - start < 0.5
        assert source.read() is None


# ------------------------------------------------------------------------------------------- every source alike


class Counting(Source):
    """Ten frames; then an error, if it is told so."""

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


def test_reading_ahead_is_bounded() -> None:
    made: list[int] = []

    def numbers():  # type: ignore[no-untyped-def]
        for number in range(100):
            made.append(number)
            yield number

    ahead = Prefetch(numbers(), depth=3, name="numbers")
    assert ahead.get(1) == 0
    time.sleep(0.1)
    assert len(made) <= 5  # one taken, three waiting, one in the hand
    ahead.close()


def test_a_producer_that_hangs_does_not_hang_close() -> None:
    never = threading.Event()

    def stuck() -> Iterator[int]:
        yield 0
        never.wait(10)

    ahead = Prefetch(stuck(), depth=2, name="stuck")  # type: ignore[arg-type]
    assert ahead.get() == 0
    start = time.perf_counter()
    ahead.close()
    assert time.perf_counter() - start < 1
    never.set()


def test_no_item_in_time_is_a_timeout() -> None:
    never = threading.Event()

    def stuck():  # type: ignore[no-untyped-def]
        never.wait(10)
        yield 1

    ahead = Prefetch(stuck(), depth=1, name="stuck")
    with pytest.raises(TimeoutError):
        ahead.get(0.05)
    never.set()
    ahead.close()
