"""What containers say about themselves: which stream is the video, how many pictures it has, and whether any miss."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from rtseg.core.errors import InputError
from rtseg.core.files import file_url
from rtseg.sources.scrambled import check_clear, scrambled_note

# a stream that depends on others is part of a picture, like the tiles of a HEIC
_PICTURES_BESIDE = (
    Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent
)
_EARLY_S = 1.0  # a file may end this much before its stated end, since the last frame's duration is often invented


# if a programme's streams get other PIDs (advertisement, splice, regional news), treat them as the same streams
_READING = {"merge_pmt_versions": "1", "seg_format_options": "merge_pmt_versions=1"}


def open_media(
    url: str, options: Mapping[str, str] | None = None, timeout: tuple[float, float] | None = None
) -> InputContainer:
    """Opens a file (from `file_url`) or a stream's address; raises FFmpegError or OSError."""
    return av.open(url, options={**_READING, **(options or {})}, metadata_errors="replace", timeout=timeout)


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Opens a file's container; raises InputError if it cannot be opened or fails while the block reads it."""
    try:
        with open_media(file_url(path)) as container:
            yield container
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"cannot open {path}: {reason_of(error)}; damaged, cut short or no video") from error


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The stream that players show: the one with the most pixels among those with the default flag, or among all.

    Covers of sound files, thumbnails and the still of a motion photo do not count, wherever they are. Raises InputError
    if there is nothing else, or it is encrypted.
    """
    moving = moving_streams(container)
    if not moving:
        found = "its only picture is a cover" if container.streams.video else "it is sound only, damaged or cut short"
        raise InputError(f"{name} holds no video stream: {found}")
    flagged = [stream for stream in moving if stream.disposition & Disposition.default] or moving
    chosen = max(flagged, key=_pixels)
    check_clear(container, chosen, name)
    return chosen


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """All video streams except covers and thumbnails."""
    return [stream for stream in container.streams.video if not stream.disposition & _PICTURES_BESIDE]


def has_size(stream: VideoStream) -> bool:
    """Whether the size of a stream's pictures is known, so FFmpeg has understood its beginning."""
    return stream.codec_context is not None and stream.width > 0


def stream_notes(container: InputContainer, chosen: VideoStream) -> list[str]:
    """What a user should know about the video: which of several streams it is, and whether parts are scrambled."""
    return [note for note in (_choice_note(container, chosen), scrambled_note(container, chosen)) if note]


def _choice_note(container: InputContainer, chosen: VideoStream) -> str | None:
    moving = moving_streams(container)
    if len(moving) < 2:
        return None
    sizes = ", ".join(_size(stream) for stream in moving)
    why = "the default one" if chosen.disposition & Disposition.default else "the largest"
    return f"{len(moving)} video streams ({sizes}): {why}, number {moving.index(chosen) + 1}, is read"


def _pixels(stream: VideoStream) -> int:
    return 0 if stream.codec_context is None else stream.width * stream.height


def _size(stream: VideoStream) -> str:
    return "no decoder" if stream.codec_context is None else f"{stream.height}x{stream.width}"


def shown_aspect(stream: VideoStream, image: np.ndarray) -> Fraction | None:
    """Width of a pixel divided by its height in the upright picture; None: square or unknown."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio <= 0 or ratio == 1:
        return None
    height, width = image.shape[:2]
    turned = (stream.height, stream.width) == (width, height) != (height, width)
    return 1 / ratio if turned else ratio


def nominal_rate(stream: VideoStream) -> float | None:
    """Frames per second as stated by the stream, or None."""
    rate = stream.average_rate or stream.guessed_rate
    # a container that counts in milliseconds and states no rate claims a thousand frames per second
    return float(rate) if rate and 0.01 <= rate < 1000 else None


def frames_told(container: InputContainer, stream: VideoStream) -> int | None:
    """How many frames a container claims to show; None: it does not say."""
    if stream.frames and "mp4" in container.format.name:  # an edit list hides samples; the index knows which
        return sum(not entry.is_discard for entry in stream.index_entries) or stream.frames
    return stream.frames or None


def packets_missing(
    container: InputContainer, stream: VideoStream, packets: int, end: int, latest_s: float | None
) -> int | None:
    """How many frames a file should have, if it has only `packets`, the last ending at `end` ticks; None: no more.

    Pictures and sound together end at `latest_s` seconds; None if their clock has restarted.
    """
    told = frames_told(container, stream)
    if container.format.name == "avi" and told:
        # an empty chunk counts and repeats the picture before it; the last ones may be empty
        seconds = float(end * (stream.time_base or 0))
        seen = max(packets, round(seconds * float(stream.average_rate or 0)))
        return told if seen < told and not _is_whole_riff(container.name.removeprefix("file:")) else None
    if told:
        return told if packets < told else None
    return _frames_by_duration(container, stream, packets, end, latest_s)


def _is_whole_riff(path: str) -> bool:
    """Whether an AVI's outermost chunks end at the end of the file or before."""
    try:
        with open(path, "rb") as file:
            size, place = file.seek(0, 2), 0
            while place + 8 <= size:
                file.seek(place)
                head = file.read(8)
                length = int.from_bytes(head[4:], "little")
                if head[:4] != b"RIFF" or not length:
                    break
                place += 8 + length + length % 2
            return 0 < place <= size + 1
    except OSError:
        return False


def _frames_by_duration(
    container: InputContainer, stream: VideoStream, found: int, end: int, latest_s: float | None
) -> int | None:
    """About how many frames a file should have, if it ends at `end` ticks, long before its stated duration.

    None if nothing is missing or it cannot be known. For MPEG-TS and others, FFmpeg estimates the duration from the end
    of the same file; and a duration stated for everything together may be that of the sound or subtitles.
    """
    if (
        not container.duration
        or latest_s is None
        or not container.format.name.startswith(("matroska", "flv", "mxf", "rm"))
    ):
        return None
    told_s, end_s = container.duration / av.time_base, float(end * (stream.time_base or 0))
    own = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    if own:
        told_s = min(told_s, int(own[1]) * 3600 + int(own[2]) * 60 + float(own[3]))
    elif latest_s > told_s - _EARLY_S or any(other.type not in ("video", "audio") for other in container.streams):
        return None
    return round(found * told_s / end_s) if 0 < end_s < told_s - _EARLY_S else None


def is_unreadable(error: av.error.FFmpegError) -> bool:
    """Whether a disk or network failed, which may be temporary, as opposed to damaged data."""
    # some demuxers report damage as -1 (EPERM) or "try again"
    return isinstance(error, OSError) and not isinstance(error, PermissionError | BlockingIOError)


def reason_of(error: Exception) -> str:
    """FFmpeg's own message."""
    return str(getattr(error, "strerror", None) or error).strip()
