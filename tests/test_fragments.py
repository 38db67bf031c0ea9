"""Fragments of one picture: what a player gets from them, and when."""

import struct
from io import BytesIO

import av
import numpy as np
import pytest

from rtseg.core.errors import OutputError
from rtseg.sinks.fragments import FragmentEncoder


def grey(value, size_hw=(48, 64)):
    return np.full((*size_hw, 3), value, np.uint8)


def played(*parts):
    """(time in seconds, mean of the picture, whether it is a key frame) of each picture."""
    with av.open(BytesIO(b"".join(parts))) as container:
        return [
            (frame.time, frame.to_ndarray(format="bgr24").mean(), bool(frame.key_frame))
            for frame in container.decode(video=0)
        ]


def boxes(data):
    """(name, content) of each box."""
    found = []
    while data:
        size, name = struct.unpack_from(">I4s", data)
        found.append((name.decode(), data[8:size]))
        data = data[size:]
    return found


def test_each_picture_is_a_fragment_that_is_there_at_once_and_plays_at_its_time():
    encoder = FragmentEncoder((48, 64))
    times, parts = [7.0, 7.25, 7.3, 9.0], [encoder.head]
    for number, time_s in enumerate(times):
        fragment = encoder.encode(grey(50 * number), time_s)
        parts.append(fragment.data)
        assert fragment.time_s == pytest.approx(time_s, abs=1e-5)
        pictures = played(*parts)  # it needs no later ones
        assert [time for time, _, _ in pictures] == pytest.approx(times[: number + 1], abs=1e-5)
        assert pictures[-1][1] == pytest.approx(50 * number, abs=3)
    assert [key for _, _, key in pictures] == [True, False, False, False]


def test_the_boxes():
    encoder = FragmentEncoder((48, 64))
    assert [name for name, _ in boxes(encoder.head)] == ["ftyp", "moov"]
    (moof, data), (mdat, content) = boxes(encoder.encode(grey(0), 2.0).data)
    assert (moof, mdat) == ("moof", "mdat")
    (mfhd, number), (traf, track) = boxes(data)
    assert (mfhd, traf, number) == ("mfhd", "traf", bytes(7) + b"\x01")
    track = dict(boxes(track))
    assert list(track) == ["tfhd", "tfdt", "trun"]
    assert struct.unpack(">IQ", track["tfdt"]) == (1 << 24, 180_000)
    _, samples, offset, duration, size, flags = struct.unpack(">6I", track["trun"])
    assert (samples, size) == (1, len(content))
    assert offset == 8 + len(data) + 8  # from the start of the moof to the data
    assert duration == 90_000
    assert flags == 0x02000000  # depends on no other, and is a sync sample
    assert dict(boxes(dict(boxes(dict(boxes(encoder.encode(grey(0), 3.0).data))["moof"]))["traf"]))["trun"][-4:] == (
        b"\x01\x01\x00\x00"  # depends on others, and is not a sync sample
    )


def test_a_player_can_begin_at_a_key_frame_that_was_asked_for():
    encoder = FragmentEncoder((48, 64))
    fragments = [encoder.encode(grey(20 * number), float(number), key=number == 3) for number in range(5)]
    assert [fragment.is_key for fragment in fragments] == [True, False, False, True, False]
    pictures = played(encoder.head, *(fragment.data for fragment in fragments[3:]))
    assert [(time, key) for time, _, key in pictures] == [(3.0, True), (4.0, False)]
    assert [mean for _, mean, _ in pictures] == pytest.approx([60, 80], abs=3)


def test_times_that_stand_still_are_put_a_tick_apart():
    encoder = FragmentEncoder((48, 64))
    times = [encoder.encode(grey(0), time_s).time_s for time_s in (1.0, 1.0, 0.5, 2.0)]
    assert times == pytest.approx([1.0, 1 + 1 / 90_000, 1 + 2 / 90_000, 2.0], abs=1e-9)


@pytest.mark.parametrize("size_hw", [(47, 63), (1, 1), (2, 500)])
def test_odd_sizes_are_padded(size_hw):
    encoder = FragmentEncoder(size_hw)
    fragment = encoder.encode(grey(90, size_hw), 0.0)
    with av.open(BytesIO(encoder.head + fragment.data)) as container:
        (picture,) = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert picture.shape == (size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2, 3)
    assert picture.mean() == pytest.approx(90, abs=3)


def test_the_codec_is_named_as_a_browser_is_asked_for_it():
    """High profile (100), no constraints, and level 3.1 of H.264 for 720p at 30 fps or above."""
    name = FragmentEncoder((720, 1280)).codec
    assert name[:9] == "avc1.6400"
    assert int(name[9:], 16) >= 31


def test_a_size_that_h264_does_not_have():
    with pytest.raises(OutputError, match=r"pictures of 16x70000 cannot be encoded as H\.264"):
        FragmentEncoder((16, 70_000))
