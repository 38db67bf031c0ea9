"""Live streams without timestamps, HDR, and sound that MP4 cannot store."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from loopback import QuietHandler, serving
from odd_media import Video, label, numbered, seen

from rtseg.batch.sound import Sound
from rtseg.core.files import file_url
from rtseg.sources.open import open_source


class _Camera(QuietHandler):
    """JPEG pictures without any timestamps, as sent by ESP32-CAM and mjpg-streamer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
        self.end_headers()
        for number in range(20):
            data = cv2.imencode(".jpg", numbered(number))[1].tobytes()
            head = b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
            self.wfile.write(head + data)
            self.wfile.flush()


@pytest.fixture
def camera() -> Iterator[str]:
    with serving(_Camera) as port:
        yield f"http://127.0.0.1:{port}/stream"


def test_pictures_without_timestamps_go_by_when_they_arrive(camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = (1000 + 0.04 * number**2 for number in count())  # ever slower
    monkeypatch.setattr("rtseg.sources.clock.perf_counter", lambda: next(arrivals))
    with open_source(camera) as source:
        assert (source.live, source.fps) == (True, None)
        times = [frame.timestamp_s for frame in islice(source, 12)]
    assert times == pytest.approx([0.04 * number**2 for number in range(12)], abs=0.001)


def flat(path: Path, level: float, transfer: int) -> Path:
    """A grey picture of 10 bits, its signal `level` of 0..1, tagged with a transfer function."""
    with av.open(file_url(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        frame = av.VideoFrame(96, 64, "yuv420p10le")
        for plane, value in zip(frame.planes, (round(64 + 876 * level), 512, 512), strict=True):
            plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize(
    ("transfer", "level", "expected"),
    [
        (16, 0.5807, 255),  # PQ: 203 cd/m², the white of BT.2408
        (16, 0.75, 255),  # 1000 cd/m²
        (16, 0.4157, 127),  # 38 cd/m²: BT.1886 of 203 * (127 / 255) ** 2.4
        (18, 0.75, 255),  # HLG: the same white
        (18, 0.0, 0),
        (1, 0.5, 128),  # BT.709: as it is
    ],
)
def test_hdr_is_mapped_to_sdr(tmp_path: Path, transfer: int, level: float, expected: int) -> None:
    with open_source(flat(tmp_path / "a.mp4", level, transfer)) as source:
        frame = source.read()
        assert frame is not None
        assert frame.image[32, 48].tolist() == pytest.approx([expected] * 3, abs=3)
        assert bool(source.notes) == (transfer != 1)


def test_hdr_is_said_so_by_the_batch(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(flat(bands / "a.mp4", 0.5, 16)) == 0
    assert "a.mp4: HDR (PQ): it is mapped to SDR" in capsys.readouterr().out


@pytest.mark.parametrize(("codec", "rate"), [("libmp3lame", 11025), ("libmp3lame", 8000), ("pcm_s16le", 22050)])
def test_sound_that_mp4_does_not_hold_is_encoded_and_said_so(
    bands: Path, codec: str, rate: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Video("a.mkv", sound=codec, sound_rate=rate).make(bands)
    assert label(path) == 0
    assert f", {rate} Hz) is encoded as AAC, mono, since MP4 does not hold it" in capsys.readouterr().out
    assert seen(bands / "out/a.mp4").sound_s == pytest.approx(1, abs=0.2)


def test_the_last_packet_of_sound_is_kept(bands: Path) -> None:
    """Matroska does not say how long packets of ALAC last."""
    path = Video("a.mkv", sound="alac", sound_rate=8000).make(bands)
    assert label(path) == 0
    assert seen(bands / "out/a.mp4").sound_s == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("error", [av.error.InvalidDataError(1, "nonsense"), KeyError("nonsense")])
def test_sound_that_cannot_be_taken_over_does_not_cost_the_labels(
    bands: Path, error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Video("a.mkv", sound="flac").make(bands)

    def broken(sound: Sound, *rest: object) -> Iterator[None]:
        raise error
        yield

    monkeypatch.setattr("rtseg.batch.join.tracks", broken)
    assert label(path) == 0
    assert "a.mkv: its sound is left out: " in capsys.readouterr().out
    assert seen(bands / "out/a.mp4").sound_s is None
