"""What happens to an input's sound: decided before the first frame, and reported truthfully."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from odd_media import BandEngine, Video, label, seen

from rtseg.batch import join, plan
from rtseg.batch.sound import Sound, Way, plan_sound


@pytest.mark.parametrize(
    ("codec", "rate", "fate", "note"),
    [
        ("aac", 48000, "copied", None),
        ("libmp3lame", 44100, "copied", None),
        ("libmp3lame", 8000, "encoded", "sound (mp3, 8000 Hz) is encoded as AAC, mono, since MP4 does not hold it"),
        ("pcm_s16le", 6000, "encoded",
         "sound (pcm_s16le, 6000 Hz) is encoded as AAC, mono, 8000 Hz, since MP4 does not hold it"),
    ],
)  # fmt: skip
def test_what_becomes_of_sound(tmp_path: Path, codec: str, rate: int, fate: str, note: str | None) -> None:
    (way,) = plan_sound(Video("a.mkv", frames=2, sound=codec, sound_rate=rate).make(tmp_path))
    assert (way.fate, way.note) == (fate, note)


def test_sound_of_which_nothing_can_be_decoded_is_left_out_and_not_called_encoded(
    bands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Video("a.mkv", sound="mp2").make(bands)
    noise(path)
    assert label(path) == 0
    said = capsys.readouterr().out
    assert "a.mkv: sound (mp2, 48000 Hz) is left out, since nothing in it can be decoded" in said
    assert "encoded" not in said
    assert (seen(bands / "out/a.mp4").numbers, seen(bands / "out/a.mp4").sound_s) == ([*range(12)], None)


def noise(path: Path) -> None:
    """Replaces the content of a file's sound packets."""
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for packet in packets:
        place = data.index(packet)
        data[place : place + len(packet)] = rng.bytes(len(packet))
    path.write_bytes(data)


def test_it_is_decided_before_the_first_frame_and_once(bands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def planned(source: Path) -> tuple[Way, ...]:
        steps.append("sound")
        return plan_sound(source)

    def infer(engine: BandEngine, image: np.ndarray) -> np.ndarray:
        steps.append("frame")
        return whole(engine, image)

    whole = BandEngine._infer
    monkeypatch.setattr(plan, "plan_sound", planned)
    monkeypatch.setattr(BandEngine, "_infer", infer)
    assert label(Video("a.mkv", sound="pcm_s16le").make(bands)) == 0
    assert (steps[0], steps.count("sound"), steps.count("frame") >= 12) == ("sound", 1, True)


def test_where_the_plan_fails_only_what_happened_is_said(
    bands: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MP4 rejects in the middle of a stream what it accepted at its start."""
    whole = join.tracks

    def tracks(sound: Sound, *rest: object) -> Iterator[object]:
        if any(way.fate == "copied" for way in sound.ways):
            raise av.error.InvalidDataError(1, "nonsense")
        yield from whole(sound, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(join, "tracks", tracks)
    assert label(Video("a.mkv", sound="aac").make(bands)) == 0
    said = capsys.readouterr().out
    assert "a.mkv: sound (aac, 48000 Hz) is encoded as AAC, mono, since it cannot be copied" in said
    assert "left out" not in said
    assert seen(bands / "out/a.mp4").sound_s == pytest.approx(1, abs=0.1)


def test_sound_that_begins_late_comes_along(bands: Path) -> None:
    """A microphone that is plugged in after twelve seconds: FFmpeg probes the first seven for streams."""
    silent = Video("silent.ts", frames=12, rate=1).make(bands)
    sounding = Video("sounding.ts", frames=12, sound="mp2").make(bands)
    path = bands / "a.ts"
    path.write_bytes(silent.read_bytes() + sounding.read_bytes())
    assert label(path) == 0
    out = seen(bands / "out/a.mp4")
    assert out.numbers == [*range(12)] * 2
    assert out.sound_s == pytest.approx(1, abs=0.1)
    with av.open("out/a.mp4") as container:
        first = next(container.decode(audio=0))
    assert float(first.pts * first.time_base) == pytest.approx(12, abs=0.1)  # type: ignore[operator]


def test_a_piece_of_sound_that_the_end_of_a_file_cuts_off_is_left_out(bands: Path) -> None:
    path = Video("a.mp4", sound="aac", muxer={"movflags": "+faststart"}).make(bands)
    path.write_bytes(path.read_bytes()[:-20])
    assert label(path) == 0
    assert seen(bands / "out/a.mp4").sound_s == pytest.approx(1, abs=0.1)  # all of it can be decoded
