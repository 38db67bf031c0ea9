"""Parts in sequence, live over HLS (`#EXT-X-DISCONTINUITY`) and in a file: other clocks, sizes and PIDs."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from loopback import QuietHandler, serving
from odd_media import SIZE, label, label_numbers, number_of, numbered, seen, watch

from rtseg.core.files import file_url
from rtseg.sources.open import open_source

STEP_S = Fraction(1, 25)
PICTURES = 10  # of a part
PART_S = PICTURES * STEP_S


def part(path: Path, number: int, start_s: int | Fraction, size_hw: tuple[int, int] = SIZE, pid: int = 256) -> bytes:
    """Ten pictures, the first numbered `10 * number`, as a transport stream whose clock starts at `start_s`."""
    with av.open(file_url(path), "w", format="mpegts", options={"mpegts_start_pid": str(pid)}) as container:
        stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
        stream.height, stream.width, stream.pix_fmt = *size_hw, "yuv420p"
        sound = container.add_stream("mp2", rate=48000, layout="mono")
        for place in range(PICTURES):
            frame = av.VideoFrame.from_ndarray(numbered(PICTURES * number + place, size_hw), format="bgr24")
            for packet in stream.encode(frame.reformat(format="yuv420p")):
                packet.pts = packet.dts = round((start_s + place * STEP_S) * 90_000)
                packet.time_base = Fraction(1, 90_000)
                container.mux(packet)
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, round(48000 * PART_S)), np.int16), format="s16", layout="mono")
        quiet.sample_rate, quiet.time_base, quiet.pts = 48000, Fraction(1, 48000), round(start_s * 48000)
        container.mux([*sound.encode(quiet), *sound.encode(None)])
    return path.read_bytes()


class Playlist(QuietHandler):
    """A live playlist that grows by one part with every request."""

    parts: Sequence[bytes]
    joins: Sequence[int]
    shown: int

    def do_GET(self) -> None:
        data = self._list() if self.path.endswith(".m3u8") else self.parts[int(self.path.strip("/.ts"))]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _list(self) -> bytes:
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
        for number in range(self.shown):
            lines += ["#EXT-X-DISCONTINUITY"] * (number in self.joins)
            lines += ["#EXTINF:0.04,", f"{number}.ts"]  # not 0.4: so long FFmpeg waits before it asks again
        if self.shown == len(self.parts):
            lines.append("#EXT-X-ENDLIST")
        Playlist.shown = min(self.shown + 1, len(self.parts))
        return "\n".join([*lines, ""]).encode()


CHANGES = {
    "none": {},
    "starts again": {"start_s": 0},
    "leaps": {"start_s": 5000},
    "another size": {"start_s": 0, "size_hw": (96, 144)},
    "other PIDs": {"start_s": 0, "pid": 400},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_live_stream_goes_on_behind_a_discontinuity(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An advertisement, and what follows it."""
    changes = CHANGES[change]
    starts = [10 + number * PART_S for number in range(5)]
    parts = [part(tmp_path / "part.ts", number, start) for number, start in enumerate(starts)]
    if changes:
        parts[3] = part(tmp_path / "part.ts", 3, **changes)  # type: ignore[arg-type]
    Playlist.parts, Playlist.joins, Playlist.shown = parts, (3, 4) if changes else (), 3
    with serving(Playlist) as port, open_source(f"http://127.0.0.1:{port}/live.m3u8") as source:
        assert (source.live, source.fps) == (True, 25)
        frames = [(number_of(frame.image), frame.timestamp_s, frame.size_hw) for frame in source]
        assert source.corrupt == 0
    # FFmpeg gives the last picture of a PID when the next one begins
    lost = {29, 39} if change == "other PIDs" else set()
    assert [number for number, *_ in frames] == [number for number in range(50) if number not in lost]
    times = [time for _, time, _ in frames]
    assert np.diff(times) == pytest.approx(0.04, abs=0.05)  # where parts meet, sound may end later
    size = changes.get("size_hw", SIZE)
    assert {number for number, _, size_hw in frames if size_hw == (96, 144)} == (
        set(range(30, 40)) if size == (96, 144) else set()
    )
    assert ("restarts its clock" in caplog.text) == bool(changes)


def test_joined_recordings_with_other_pids_are_read_to_the_end(
    bands: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = part(bands / "1.ts", 0, 10), part(bands / "2.ts", 1, 0, pid=400) + part(bands / "3.ts", 2, PART_S)
    path = bands / "a.ts"
    path.write_bytes(first + second)
    assert label(path) == 0
    assert "its clock restarts" in capsys.readouterr().out
    expected = [number for number in range(30) if number not in (9, 19)]
    out = seen(bands / "out/a.mp4")
    assert out.numbers == expected
    assert out.sound_s == pytest.approx(3 * float(PART_S), abs=0.15)
    assert list(label_numbers(bands / "out/a_labels").values()) == expected
    assert watch(path) == 0
    assert seen(bands / "out/cam.mp4").numbers == expected


def test_parts_in_another_order_than_they_were_recorded_are_all_read(tmp_path: Path) -> None:
    """The last part begins where a packet is missing."""
    parts = [part(tmp_path / "part.ts", number, 10 + number * PART_S) for number in (0, 2, 1)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    with open_source(path) as source:
        numbers = [number_of(frame.image) for frame in source]
    assert numbers == [*range(10), *range(20, 30), *range(10, 20)]
