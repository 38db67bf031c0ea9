"""What most people would write: read, infer, cv2.resize the logits, argmax, blend, write. The baseline of
`batch.py`."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rtseg.batch.task import CRF, ENCODER_THREADS, PRESET
from rtseg.engines import Engine


def label_plainly(video: Path, engine: Engine, overlay: Path, labels: Path) -> int:
    """Labels a video frame by frame, one step after another; returns the number of frames."""
    labels.mkdir(parents=True)
    palette = engine.card.labels.palette_bgr
    height, width = engine.info.size_hw
    reader = cv2.VideoCapture(str(video))
    count = 0
    with av.open(str(overlay), "w") as container:
        rate = Fraction(reader.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"preset": PRESET, "crf": str(CRF)})
        stream.width = int(reader.get(cv2.CAP_PROP_FRAME_WIDTH))
        stream.height = int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = ENCODER_THREADS
        while True:
            read, image = reader.read()
            if not read:
                break
            logits = engine.infer(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
            planes = [cv2.resize(plane, (stream.width, stream.height)) for plane in logits]
            classes = np.argmax(np.stack(planes), axis=0).astype(np.uint8)
            picture = cv2.addWeighted(image, 0.5, palette[classes], 0.5, 0)
            cv2.imwrite(str(labels / f"{count:06d}.png"), classes, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            count += 1
        container.mux(stream.encode(None))
    return count
