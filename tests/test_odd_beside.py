"""Files with other streams beside picture and sound: subtitles, fonts, time codes, chapters, data."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from odd_media import SIZE, add_tone, label, label_numbers, numbered, seen, watch

from rtseg.core.files import file_url

ASS = b"[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Text\n"


def beside(path: Path, *kinds: str, font: bool = False, **metadata: str) -> Path:
    """Twelve numbered pictures and a second of sound, behind streams of other kinds."""
    with av.open(file_url(path), "w") as container:
        container.metadata.update(metadata)
        if font:
            container.add_attachment("Some.ttf", "application/x-truetype-font", bytes(5000))
        others = [_stream(container, kind) for kind in kinds]
        pictures = container.add_stream("libx264", rate=25, options={"bf": "2"})
        pictures.height, pictures.width, pictures.pix_fmt = *SIZE, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono")
        if kinds == ("mov_text",):  # which MP4 stores as an additional track
            container.set_chapters([
                {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
                {"id": 2, "start": 200, "end": 480, "time_base": Fraction(1, 1000), "metadata": {"title": "two"}},
            ])  # fmt: skip
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24")
            container.mux(pictures.encode(frame.reformat(format="yuv420p")))
            for stream, content in others:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 1000), 40
                packet.pts = packet.dts = 40 * number
                container.mux(packet)
        container.mux(pictures.encode(None))
        add_tone(container, sound, 48000)
    return path


def _stream(container: av.container.OutputContainer, kind: str) -> tuple[av.stream.Stream, bytes]:
    """A stream, and the content of each of its packets."""
    if kind not in ("ass", "mov_text"):
        return container.add_data_stream(kind), b"\x00\x47\x00\x00\x01\xb3" * 8  # the first bytes of a video stream
    stream = container.add_stream(kind)
    if kind == "mov_text":
        stream.codec_context.subtitle_header = ASS  # type: ignore[attr-defined]
        return stream, b"\0\5hello"
    return stream, b"0,0,Default,hello"


def renamed(path: Path, old: bytes, new: bytes) -> Path:
    """A stream's codec name, replaced by an unknown one."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "fonts.mkv": lambda path: beside(path, "ass", "ass", font=True),
    "unknown.mkv": lambda path: renamed(beside(path, "ass", font=True), b"S_TEXT/ASS", b"S_TEXT/XYZ"),
    "chapters.mp4": lambda path: beside(path, "mov_text"),
    "clock.mov": lambda path: beside(path, timecode="01:00:00:00"),
    "sensor.mov": lambda path: renamed(beside(path, timecode="01:00:00:00"), b"tmcd", b"gpmd"),
    "data.ts": lambda path: beside(path, "klv", "bin_data", "timed_id3"),
}


@pytest.mark.parametrize("name", FILES)
def test_streams_beside_picture_and_sound_change_neither(
    bands: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FILES[name](bands / name)
    with av.open(file_url(path)) as container:
        assert {"video", "audio"} < {stream.type for stream in container.streams}
    assert label(path) == watch(path) == 0
    assert "left out" not in capsys.readouterr().out
    out = seen(bands / "out" / f"{path.stem}.mp4")
    assert (out.numbers, out.coloured) == ([*range(12)], True)
    assert out.times_s == pytest.approx([number / 25 for number in range(12)], abs=0.001)
    assert out.sound_s == pytest.approx(1, abs=0.05)
    assert list(label_numbers(bands / "out" / f"{path.stem}_labels").values()) == [*range(12)]
    assert seen(bands / "out/cam.mp4").numbers == [*range(12)]
