"""Which files are pictures and which are videos, by their suffix or, failing that, by their content."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import cv2

from rtseg.core.errors import InputError
from rtseg.sources.heif import is_avif, is_heic
from rtseg.sources.jpeg2000 import is_jpeg2000

FFMPEG_SUFFIXES = (".tga", ".pcx", ".qoi", ".sgi", ".pam")  # picture formats that OpenCV does not decode
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm",
    ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".avif", ".heic", ".heif", ".hif", ".apng", ".sr", ".ras",
    *FFMPEG_SUFFIXES,
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".mpv", ".m1v",
    ".m2v", ".ps", ".vob", ".mod", ".tod", ".ts", ".m2ts", ".mts", ".m2t", ".trp", ".tp", ".flv", ".f4v", ".wmv",
    ".asf", ".3gp", ".3g2", ".ogv", ".ogm", ".gif", ".y4m", ".mjpeg", ".mjpg", ".mj2", ".h261", ".h263", ".h264",
    ".264", ".avc", ".h265", ".265", ".hevc", ".h266", ".266", ".vvc", ".obu", ".ivf", ".nut", ".mxf", ".gxf", ".dv",
    ".dif", ".rm", ".rmvb", ".wtv", ".dav", ".amv", ".nsv", ".swf", ".insv", ".lrv",
)  # fmt: skip
Kind = Literal["picture", "video"]
_HEAD = 512  # bytes
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_TOLD = 3  # most names in a note
# FFmpeg reads text as a terminal recording, anything as raw pixels, and XBM inverted
_NO_FILMS = (
    "tty", "bin", "xbin", "adf", "idf", "rawvideo", "data", "image2", "ico", "xbm_pipe", "hls", "concat", "sdp",
)  # fmt: skip


def kind_of(path: Path) -> Kind | None:
    """The kind to read a file as; None: it cannot be read.

    Looks into files without a known suffix, and into those with a video's suffix that begin like a picture.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "picture"
    a_file = os.path.isfile(path)  # reading a pipe would wait for its writer
    if suffix in VIDEO_SUFFIXES:
        return "picture" if a_file and _looks_like_picture(path) and is_picture(path) else "video"
    if not a_file:
        return None
    if is_picture(path):
        return "picture"
    return "video" if _is_film(path) else None


def skipped_note(names: Sequence[str]) -> str:
    """How many files of a folder are skipped, and the first of their names."""
    told = ", ".join(names[:_TOLD]) + (", …" if len(names) > _TOLD else "")
    one = len(names) == 1
    return f"{len(names)} {'file is' if one else 'files are'} skipped (no picture or video suffix): {told}"


def _looks_like_picture(path: Path) -> bool:
    head = _head(path)
    return head.startswith((_JPEG, _PNG)) or is_heic(head) or is_avif(head)


def is_picture(path: Path) -> bool:
    """Whether a file contains a picture, whatever its name."""
    head = _head(path)
    if is_heic(head) or is_avif(head) or is_jpeg2000(head):
        return True
    return _opencv_reads(head) and not (head.startswith(_JPEG) and _is_film(path))  # several JPEGs in a row are a video


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


@lru_cache(256)
def _opencv_reads(head: bytes) -> bool:
    """Whether OpenCV can decode this beginning. Uses a file of our own, since names that are not UTF-8 kill OpenCV."""
    try:
        with TemporaryDirectory(prefix="rtseg-") as folder:
            copy = Path(folder, "head")
            copy.write_bytes(head)
            return cv2.haveImageReader(str(copy))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"no temporary file can be made: {reason}; free space, or set TMPDIR to a folder") from error


def _is_film(path: Path) -> bool:
    """Whether FFmpeg finds a moving picture; checked again if the file has changed."""
    try:
        stat = path.stat()
    except OSError:
        return False
    return _opens_as_film(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(256)
def _opens_as_film(path: Path, changed_ns: int, size: int) -> bool:
    import av
    import av.error

    from rtseg.core.files import file_url
    from rtseg.sources.containers import moving_streams

    try:
        with av.open(file_url(path), metadata_errors="replace") as container:
            kind = container.format.name
            if kind in _NO_FILMS or (kind == "mjpeg" and not _head(path).startswith(_JPEG)):
                return False
            still = kind.endswith("_pipe") and _opencv_reads(_head(path))
            return not still and bool(moving_streams(container))
    except (av.error.FFmpegError, OSError, ValueError):
        return False
