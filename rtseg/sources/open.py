"""The one function that opens sources; the library for each kind is loaded on first use."""

import os
import re
from math import inf
from numbers import Integral, Real
from pathlib import Path

from rtseg.core.addresses import without_password
from rtseg.core.errors import InputError, UsageError
from rtseg.core.paths import user_path
from rtseg.core.sizes import Size, as_size
from rtseg.sources.base import Source
from rtseg.sources.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_of

URL_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
_MOST_THREADS = 1024
_ALLOWED = "a source is a camera index such as 0, a video, an image, a folder of images, a URL, or synthetic"


def open_source(
    spec: str | int | Path,
    *,
    size_hw: str | Size | None = None,
    fps: float | None = None,
    camera_size: str | Size | None = None,
    seed: int = 0,
    timeout_s: float = 10.0,
    threads: int | None = None,
) -> Source:
    """Opens the source that `spec` names.

    Args:
        spec: a camera index (0), 'synthetic' or 'synthetic:SEED', an image, a folder of images, a video file, or a
            URL (rtsp, http and others that FFmpeg reads).
        size_hw: (height, width) of the synthetic street; default 512x1024.
        fps: requested from a camera; rate of the synthetic street (default 30) or of images (default 1).
        camera_size: (height, width) requested from a camera, which may deliver another.
        seed: seed of the synthetic street if `spec` has none.
        timeout_s: for the first frame of a camera or URL, and for every later read from a URL.
        threads: threads of the video decoder; None: FFmpeg chooses.

    Raises:
        InputError: the source is missing, damaged, busy, empty, unreachable or of an unsupported kind.
        UsageError: a setting that is not valid for any source.
    """
    if isinstance(spec, bool) or not isinstance(spec, str | Integral | os.PathLike):
        raise UsageError(f"{_ALLOWED}, not {type(spec).__name__}")
    if fps is not None and not (isinstance(fps, Real) and 0 < fps < 1000):
        raise UsageError(f"fps {fps} is not allowed: give a rate above 0 and below 1000")
    if not (isinstance(timeout_s, Real) and 0 < timeout_s < inf):
        raise UsageError(f"timeout_s {timeout_s!r} is not allowed: give seconds above 0")
    if threads is not None and not (isinstance(threads, Integral) and 0 < threads <= _MOST_THREADS):
        raise UsageError(f"{threads!r} threads are not allowed: give 1 to {_MOST_THREADS}")
    if not isinstance(seed, Integral):
        raise UsageError(f"seed {seed!r} is not allowed: seeds are 0, 1, 2, ...")
    scene_hw, camera_hw = (None if size is None else as_size(size) for size in (size_hw, camera_size))
    text = str(spec).strip()
    if not text:
        raise InputError(f"no source is given; {_ALLOWED}")
    if match := re.fullmatch(r"synthetic(?::(\d+))?", text):
        from rtseg.sources.synthetic import SyntheticSource

        return SyntheticSource(scene_hw or (512, 1024), int(match[1]) if match[1] else seed, fps or 30.0)
    if match := re.fullmatch(r"(?:/dev/video)?(\d+)", text):
        from rtseg.sources.camera import CameraSource

        return CameraSource(int(match[1]), camera_hw, fps, timeout_s)
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text):
        from rtseg.sources.video import VideoSource

        if match[1].lower() not in URL_SCHEMES:
            raise InputError(f"URL scheme {match[1]!r} is not supported; allowed: {', '.join(URL_SCHEMES)}")
        return VideoSource(text, timeout_s=timeout_s, threads=threads)
    exact = user_path(str(spec))
    return _open_path(exact if os.path.exists(exact) else user_path(text), fps, threads)


def _open_path(path: Path, fps: float | None, threads: int | None) -> Source:
    from rtseg.sources.images import ImageSource, ImagesSource

    shown = without_password(str(path))  # it may be a mistyped address
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no such file: {shown}; {_ALLOWED}") from None
    except OSError as error:  # its name is too long, or its folder cannot be read
        raise InputError(f"cannot read {shown}: {error.strerror or error}") from error
    if path.is_dir():
        return ImagesSource(path, fps or 1.0)
    if not path.is_file():
        raise InputError(f"{shown} is a pipe, socket or device, not a file: save what it gives to a file first")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): fetch or record it again")
    kind = kind_of(path)
    if kind == "picture":
        return ImageSource(path, fps or 1.0)
    if kind == "video":
        from rtseg.sources.video import VideoSource

        return VideoSource(path, threads=threads)
    allowed = " ".join(suffix[1:] for suffix in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    raise InputError(f"{path}: file type {path.suffix or 'without a suffix'} is not supported; allowed: {allowed}")
