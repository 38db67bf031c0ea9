"""Which files are pictures and which are videos: by their suffix, and where it says nothing by what they hold."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2

FFMPEG_SUFFIXES = (".tga", ".pcx", ".qoi", ".sgi", ".pam")  # pictures that OpenCV does not decode
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm",
    ".jp2", ".avif", ".apng", ".sr", ".ras", *FFMPEG_SUFFIXES,
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".mpv", ".m1v",
    ".m2v", ".ps", ".vob", ".mod", ".tod", ".ts", ".m2ts", ".mts", ".m2t", ".trp", ".tp", ".flv", ".f4v", ".wmv",
    ".asf", ".3gp", ".3g2", ".ogv", ".ogm", ".gif", ".y4m", ".mjpeg", ".mjpg", ".mj2", ".h261", ".h263", ".h264",
    ".264", ".avc", ".h265", ".265", ".hevc", ".h266", ".266", ".vvc", ".obu", ".ivf", ".nut", ".mxf", ".gxf", ".dv",
    ".dif", ".rm", ".rmvb", ".wtv", ".dav", ".amv", ".nsv", ".swf", ".insv", ".lrv",
)  # fmt: skip
Kind = Literal["picture", "video"]
# FFmpeg reads text as a film of a terminal, and anything at all as raw pixels
_TOLD = 3  # names
_NO_FILMS = ("tty", "bin", "xbin", "adf", "idf", "rawvideo", "data", "image2", "ico", "hls", "concat", "sdp")


def kind_of(path: Path) -> Kind | None:
    """What a file is to be read as; None: as nothing. A file without a known suffix is looked into."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "picture"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if not path.is_file():
        return None
    try:
        if cv2.haveImageReader(str(path)):
            return "picture"
    except cv2.error:
        pass  # a name that OpenCV does not take
    return "video" if _is_film(path) else None


def skipped_note(names: Sequence[str]) -> str:
    """How many files of a folder are passed over, and the first of them."""
    told = ", ".join(names[:_TOLD]) + (", …" if len(names) > _TOLD else "")
    one = len(names) == 1
    return f"{len(names)} {'file is' if one else 'files are'} skipped, by the suffix no picture or video: {told}"


@lru_cache(256)
def _is_film(path: Path) -> bool:
    import av
    import av.error

    from rtseg.core.files import file_url
    from rtseg.sources.containers import moving_streams

    try:
        with av.open(file_url(path), metadata_errors="replace") as container:
            return container.format.name not in _NO_FILMS and bool(moving_streams(container))
    except (av.error.FFmpegError, OSError, ValueError):
        return False
