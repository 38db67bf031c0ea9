"""Generates small videos for tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rtseg.core.files import file_url


def picture(number: int, size_hw: tuple[int, int]) -> np.ndarray:
    """White upper left quarter, blue upper right, noise below that differs between frames."""
    height, width = size_hw
    image = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = 255
    image[: height // 2, width // 2 :] = (255, 0, 0)
    return image


def make_video(
    path: Path,
    frames: int = 12,
    size_hw: tuple[int, int] = (48, 64),
    rate: object = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: float | None = None,
    hflip: bool = False,
    times_s: list[float] | None = None,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    with av.open(file_url(path), "w", format=container_format, options=options or {}) as container:
        quick = {"preset": "veryfast"} if codec == "libx264" else {}  # half the time, and still with B-frames
        stream = container.add_stream(codec, rate=rate, options=quick)
        stream.height, stream.width = size_hw
        stream.pix_fmt = pix_fmt
        if codec == "libx264":
            stream.codec_context.gop_size = 10
        if times_s:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=hflip)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, size_hw), format="bgr24")
            if times_s:
                frame.pts, frame.time_base = round(times_s[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def trim_start(path: Path, target: Path, frames: int) -> Path:
    """Copies an MP4 and trims it like phones: everything stays in the file, an edit list hides times before 0."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.pts -= frames * packet.duration
                packet.dts -= frames * packet.duration
                packet.stream = copy
                container.mux(packet)
    return target


def corners(image: np.ndarray) -> str:
    """What each quarter is, left to right and top to bottom: W(hite), B(lue), or - (noise)."""
    height, width = image.shape[:2]
    found = ""
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            patch = image[y - 4 : y + 4, x - 4 : x + 4].astype(int).reshape(-1, 3)
            flat = patch.std(0).max() < 8
            found += "-" if not flat else "W" if patch.mean(0).min() > 240 else "B"
    return found
