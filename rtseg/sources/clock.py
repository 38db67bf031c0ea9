"""When to show pictures: one clock for a file whose own clock restarts or does not rise."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from time import perf_counter
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.sources.containers import nominal_rate

_NO_TIMESTAMPS, _MAY_LEAP = 0x80, 0x200  # AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT
_BACK_S = 0.1  # a stream's clock may go back this much, because of careless muxers
_LEAP_S = 10.0  # a broadcast's clock may leap ahead this much; FFmpeg's -dts_delta_threshold
_ERROR_S = 30 * 3600.0  # any clock may leap ahead this much; FFmpeg's -dts_error_threshold
_NEAR_S = 1.0
_SAME_S = 1e-3
_ENDS = 16


@dataclass
class _Place:
    """The position of a stream: the number of its clock, when its last packet was due, and when the next one is.

    Attributes:
        raw_next_s: when the next packet is due by the stream's own clock.
        ends: the latest of these times that no packet followed.
    """

    clock: int
    last_s: float
    next_s: float
    raw_next_s: float
    ends: tuple[float, ...] = ()


class Timeline:
    """Moves the timestamps of packets, so that time continues when the clock restarts.

    It does what ffmpeg does (`ts_discontinuity_detect`), but with one clock per stream, since packets of the previous
    recording come between those of the next one. A clock that returns after a damaged timestamp is trusted.

    Attributes:
        restarts: how often the clock has restarted so far.
    """

    def __init__(self, container: InputContainer) -> None:
        self._leaps = bool(container.format.flags & _MAY_LEAP)
        self._leap_s = _LEAP_S if self._leaps else _ERROR_S
        self._shifts = [Fraction(0)]  # the shift of each clock, in seconds
        self._places: dict[int, _Place] = {}
        self._latest_s = -inf

    @property
    def restarts(self) -> int:
        return len(self._shifts) - 1

    @property
    def end_s(self) -> float | None:
        """The latest end of a stream; None if the clock has restarted."""
        return None if self.restarts else self._latest_s

    def place(self, packet: "Packet[Any]") -> bool:
        """Moves a packet's timestamps; takes the packets of all streams in file order.

        Returns False if the packet must be left out. When a stream changes its PID, FFmpeg delivers the last packet of
        the old one only at the end of the file or when the old PID returns. Such a packet is useless unless it is a key
        frame.
        """
        time_base = packet.time_base
        if time_base is None:
            return True
        place = self._places.get(packet.stream_index)
        if packet.dts is not None:  # presentation times normally go back and forth
            raw_s = float(packet.dts * time_base)
            length_s = float((packet.duration or 0) * time_base)
            clock = self.restarts
            ends: tuple[float, ...] = ()
            if place is not None:
                if self._is_left_over(place, raw_s) and not (packet.is_keyframe and packet.stream.type == "video"):
                    return False
                clock = self._clock(place, raw_s)
                came = abs(raw_s - place.raw_next_s) < _SAME_S
                ends = place.ends if came else (*place.ends, place.raw_next_s)[-_ENDS:]
            now_s = raw_s + float(self._shifts[clock])
            place = self._places[packet.stream_index] = _Place(clock, now_s, now_s + length_s, raw_s + length_s, ends)
            self._latest_s = max(self._latest_s, place.next_s)
        if place is not None and (shift := self._shifts[place.clock]):
            ticks = round(shift / time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return True

    def _is_left_over(self, place: _Place, raw_s: float) -> bool:
        """Whether a broadcast's packet is due where an earlier one was missing, and not now."""
        off_s = min(abs(raw_s + float(self._shifts[clock]) - place.next_s) for clock in (place.clock, self.restarts))
        return self._leaps and off_s > _BACK_S and any(abs(raw_s - end_s) < _SAME_S for end_s in place.ends)

    def _clock(self, place: _Place, raw_s: float) -> int:
        """The number of the clock that fits a stream's next packet; a new one if none does."""

        def off_s(clock: int) -> float:
            return abs(raw_s + float(self._shifts[clock]) - place.next_s)

        clock = min((place.clock, self.restarts), key=off_s)  # another stream may be ahead
        now_s = raw_s + float(self._shifts[clock])
        if place.last_s - _BACK_S <= now_s <= self._latest_s + self._leap_s:
            return clock
        nearest = min(range(len(self._shifts)), key=off_s)
        if off_s(nearest) < _NEAR_S:
            return nearest
        self._shifts.append(Fraction(place.next_s - raw_s).limit_denominator(90_000_000))
        return self.restarts


class PictureClock:
    """The ticks at which decoded pictures are shown, in that order: 0 for the first, then rising.

    Uses the better of a picture's two timestamps, like FFmpeg's guess (`guess_correct_pts`). AVI has no presentation
    times, and those that FFmpeg invents for B frames do not rise; since a picture comes out when its turn comes, the
    decoding time of the packet that released it is used. Without timestamps a picture lasts for its nominal time. A
    live stream without timestamps uses the arrival times of its pictures.

    Attributes:
        time_base: seconds per tick.
        invented: FFmpeg invents this stream's timestamps from a rate that the stream does not state.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, live: bool = False) -> None:
        self.time_base = stream.time_base or Fraction(1, 1000)
        self.invented = live and bool(container.format.flags & _NO_TIMESTAMPS)
        self._by_dts = container.format.name == "avi" and stream.codec_context.codec.reorder
        self._step = max(1, round(1 / ((nominal_rate(stream) or 30.0) * self.time_base)))
        self._faulty_pts = self._faulty_dts = 0
        self._last_pts = self._last_dts = -1 << 62
        self._start: int | None = None
        self._ticks = 0

    def tell(self, frame: VideoFrame) -> int:
        """The ticks of the next picture."""
        told = round(perf_counter() / self.time_base) if self.invented else self._guess(frame.pts, frame.dts)
        if self._start is None:
            self._start = told or 0
            return 0
        ahead = None if told is None else told - self._start
        if ahead is None or ahead <= self._ticks:
            ahead = self._ticks + (1 if self.invented else self._step)
        self._ticks = ahead
        return ahead

    def _guess(self, pts: int | None, dts: int | None) -> int | None:
        if self._by_dts:
            return dts
        if dts is not None:
            self._faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts):
            return pts
        return dts
