"""Encrypted and scrambled video and sound: reported in one line, and never labelled as garbage."""

import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import av
import numpy as np
import pytest
from loopback import QuietHandler, serving
from odd_media import Video, label, number_of, seen, watch

from rtseg.core.errors import InputError
from rtseg.core.files import file_url
from rtseg.sources.open import open_source

CENC = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 31 + "1", "encryption_kid": "0" * 31 + "2"}


def scramble_ts(path: Path, first: float, size: int = 188) -> None:
    """Replaces the content of a transport stream's video packets by noise, from a share of them on."""
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    with av.open(file_url(path)) as container:
        pid = container.streams.video[0].id
    every = range(size - 188, len(data), size)
    places = [place for place in every if (data[place + 1] & 31) << 8 | data[place + 2] == pid]
    for place in places[round(first * len(places)) :]:
        start = place + 4 + (1 + data[place + 4] if data[place + 3] & 0x20 else 0)
        data[place + 3] |= 0x80
        data[start : place + 188] = rng.bytes(max(0, place + 188 - start))
    path.write_bytes(data)


def scramble_dvd(path: Path) -> None:
    """Like CSS: the packet headers stay, with the scrambling bits set."""
    data, rng, place = bytearray(path.read_bytes()), np.random.default_rng(0), 0
    while (place := data.find(b"\0\0\1\xe0", place)) >= 0:
        end = place + 6 + int.from_bytes(data[place + 4 : place + 6], "big")
        data[place + 6] |= 0x30
        data[place + 128 : end] = rng.bytes(max(0, end - place - 128))
        place = end
    path.write_bytes(data)


def encrypt_matroska(path: Path, key_id: bytes) -> None:
    """Marks the only track of a live Matroska file as encrypted; a key need not have a name."""
    key = _element(b"\x47\xe2", key_id) if key_id else b""
    encryption = _element(b"\x50\x35", _element(b"\x47\xe1", b"\5") + key)
    encoding = _element(b"\x62\x40", _element(b"\x50\x33", b"\1") + encryption)
    whole = path.read_bytes()
    start = whole.rindex(b"\x16\x54\xae\x6b")  # Tracks
    _, content, end = next(_elements(whole, start, len(whole)))
    track = next(piece for piece in _elements(whole, content, end) if piece[0] == b"\xae")
    entry = _element(b"\xae", whole[track[1] : track[2]] + _element(b"\x6d\x80", encoding))
    path.write_bytes(whole[:start] + _element(b"\x16\x54\xae\x6b", entry) + whole[end:])


def _element(name: bytes, content: bytes) -> bytes:
    short = len(content) < 127
    return name + (0x80 | len(content) if short else 0x4000 | len(content)).to_bytes(1 if short else 2, "big") + content


def _elements(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of content, end) of each element."""
    while place < end:
        name = 9 - data[place].bit_length()
        size = 9 - data[place + name].bit_length()
        start = place + name + size
        length = int.from_bytes(data[place + name : start], "big") & (1 << 7 * size) - 1
        yield data[place : place + name], start, start + length
        place = start + length


def protect_asf(path: Path) -> None:
    """Adds the object of Windows Media DRM."""
    texts = b"".join(struct.pack("<I", len(text)) + text for text in (b"abcd", b"DRM\0", b"key\0", b"url\0"))
    entry = bytes.fromhex("FBB3112223BDD211B4B700A0C955FC6E") + struct.pack("<Q", 24 + len(texts)) + texts
    data = path.read_bytes()
    size, count = struct.unpack("<QI", data[16:28])
    path.write_bytes(data[:16] + struct.pack("<QI", size + len(entry), count + 1) + data[28:30] + entry + data[30:])


def encrypt(folder: Path, name: str) -> Path:
    """An encrypted video of a kind."""
    kind = name.partition(".")[0]
    if kind == "ts":
        path = Video(name, frames=25, sound="mp2").make(folder)
        scramble_ts(path, 0)
    elif kind == "camera":  # AVCHD: four more bytes before each packet
        path = Video(name, frames=25, muxer={"mpegts_m2ts_mode": "1"}).make(folder)
        scramble_ts(path, 0, 192)
    elif kind == "dvd":
        path = Video(name, "mpeg2video", form="vob", frames=25).make(folder)
        scramble_dvd(path)
    elif kind in ("mkv", "nameless"):
        path = Video(name, muxer={"live": "1"}).make(folder)
        encrypt_matroska(path, b"0123456789abcdef" if kind == "mkv" else b"")
    elif kind == "media":
        path = Video(name, "wmv2", form="asf").make(folder)
        protect_asf(path)
    elif kind in ("fragments", "whole"):
        path = Video(name, muxer=CENC | ({"movflags": "frag_keyframe+empty_moov"} if kind == "fragments" else {}))
        path = path.make(folder)
    else:  # without the tables that say how
        path = Video(name).make(folder)
        path.write_bytes(path.read_bytes().replace(b"avc1\0", kind.encode() + b"\0"))
    return path


def remuxed(path: Path, target: Path, options: dict[str, str]) -> Path:
    """The same packets in another file; encoding again might not reproduce them."""
    with av.open(file_url(path)) as source, av.open(file_url(target), "w", options=options) as container:
        streams = {stream: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                container.mux(packet)
    return target


@pytest.mark.parametrize(
    ("name", "word"),
    [("ts.ts", "scrambled (pay TV"), ("camera.mts", "scrambled (pay TV"), ("dvd.vob", "scrambled (pay TV"),
     ("mkv.mkv", "encrypted (DRM)"), ("nameless.mkv", "encrypted (DRM)"), ("media.wmv", "encrypted (DRM)"),
     ("whole.mp4", "encrypted (DRM)"), ("fragments.mp4", "encrypted (DRM)"), ("encv.mp4", "encrypted (DRM)"),
     ("drmi.m4v", "encrypted (DRM)")],
)  # fmt: skip
def test_encrypted_video_is_said_to_be(bands: Path, name: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = encrypt(bands, name)
    assert label(path) == watch(path) == 3
    assert capsys.readouterr().err.count(f"{name} is {word}") == 2


def test_a_recording_that_is_scrambled_in_part_says_so(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Video("a.ts", frames=50, options={"g": "5"}, sound="mp2").make(bands)
    scramble_ts(path, 0.7)
    assert label(path) == watch(path) == 0
    assert capsys.readouterr().out.count("parts of it are scrambled") == 2
    assert seen(bands / "out/a.mp4").numbers[:20] == [*range(20)]


def test_encrypted_sound_of_a_clear_video_is_left_out(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clear = Video("clear.mp4", sound="aac").make(bands)
    path = remuxed(clear, bands / "a.mp4", CENC)
    data = bytearray(path.read_bytes())
    with av.open(file_url(clear)) as plain, av.open(file_url(path)) as coded:
        pictures = [[packet for packet in container.demux(video=0) if packet.size] for container in (plain, coded)]
    for one, other in zip(*pictures, strict=True):
        assert one.size == other.size
        assert other.pos is not None
        data[other.pos : other.pos + other.size] = bytes(one)
    for name in (b"sinf", b"senc", b"saiz", b"saio"):
        place = data.index(name)  # of the first track, which is the video
        data[place : place + 4] = b"free"
    path.write_bytes(data.replace(b"encv", b"avc1"))
    assert label(path) == 0
    assert "a.mp4: sound (aac, 48000 Hz) is left out, since it is encrypted" in capsys.readouterr().out
    out = seen(bands / "out/a.mp4")
    assert (out.numbers, out.sound_s) == ([*range(12)], None)


class _Sender(QuietHandler):
    """Sends a file without its length, repeatedly if it is a broadcast."""

    data, again, then = b"", False, b""
    ended = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):  # the client has heard enough
            self.wfile.write(self.data)
            while (self.again or self.then) and not self.ended.is_set():
                self.wfile.write(self.then or self.data)


@pytest.fixture
def address() -> Iterator[str]:
    _Sender.ended, _Sender.then = threading.Event(), b""
    with serving(_Sender) as port:
        yield f"http://127.0.0.1:{port}/live"
        _Sender.ended.set()


@pytest.mark.parametrize(
    ("name", "word"),
    [("ts.ts", "scrambled (pay TV"), ("dvd.vob", "scrambled (pay TV"), ("mkv.mkv", "encrypted (DRM)"),
     ("media.wmv", "encrypted (DRM)"), ("fragments.mp4", "encrypted (DRM)"), ("encv.mp4", "encrypted (DRM)")],
)  # fmt: skip
def test_encrypted_live_streams_are_said_to_be(
    bands: Path, name: str, word: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The transport stream's sound is clear, so that something keeps arriving."""
    _Sender.data, _Sender.again = encrypt(bands, name).read_bytes(), name == "ts.ts"
    assert watch(address) == 3
    said = capsys.readouterr().err
    assert f"{address} is {word}" in said
    assert said.count("\n") == 1


def test_a_live_stream_that_begins_in_the_middle_of_a_group_is_no_scrambled_one(
    bands: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg has seen no size when it stops probing; the next connection may begin earlier."""
    _Sender.data, _Sender.again = Video("a.ts", frames=25, sound="mp2").make(bands).read_bytes(), False
    sizes = iter([False])
    monkeypatch.setattr("rtseg.sources.video.has_size", lambda stream: next(sizes, True))
    with open_source(address) as source:
        picture = source.read()
    assert picture is not None
    assert number_of(picture.image) == 0


def test_a_live_stream_that_becomes_scrambled_is_said_to_be(
    bands: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sound stays clear; each packet counts as a second, so that the test need not wait."""
    seconds = count()
    monkeypatch.setattr("rtseg.sources.decoder.perf_counter", lambda: next(seconds))
    path = Video("a.ts", frames=50, options={"g": "5"}, sound="mp2").make(bands)
    scramble_ts(path, 0.7)
    scrambled = Video("b.ts", frames=25, sound="mp2").make(bands)
    scramble_ts(scrambled, 0)
    _Sender.data, _Sender.then = path.read_bytes(), scrambled.read_bytes()
    numbers = []
    with open_source(address, timeout_s=60) as source, pytest.raises(InputError, match="is scrambled"):
        numbers.extend(number_of(frame.image) for frame in source)  # keeps what came before
    assert numbers[:30] == [*range(30)]
    assert len(numbers) < 50
