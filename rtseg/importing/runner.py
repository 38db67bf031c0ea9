"""Runs an original graph with onnxruntime, to find out by trial what its shapes do not say."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort

from rtseg.core.errors import EngineError
from rtseg.core.sizes import Size, format_size
from rtseg.importing.original import Original
from rtseg.importing.scaling import Scaling


class Runner:
    """The original graph and its scaling, done in numpy.

    Args:
        original: the graph.
        scaling: how it expects its pictures.
        tensors: names of the tensors to return: outputs, or tensors inside.

    Raises:
        EngineError: onnxruntime cannot load the graph.
    """

    def __init__(self, original: Original, scaling: Scaling, tensors: Sequence[str]) -> None:
        self._picture, self._scaling, self._tensors = original.picture, scaling, list(tensors)
        model = onnx.ModelProto()
        model.CopyFrom(original.model)
        there = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in there)
        options = ort.SessionOptions()
        options.log_severity_level = 4  # errors are also raised
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no other common base
            raise EngineError(
                f"onnxruntime {ort.__version__} cannot load {original.path} (opset {original.opset}): {one_line(error)}"
            ) from error

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """uint8 BGR (H, W, 3) -> the tensors, as the graph returns them; raises EngineError if it cannot run."""
        given = self._picture.given(self._scaling.apply(image[None]))
        try:
            outputs: list[np.ndarray] = self._session.run(self._tensors, {self._picture.name: given})
        except Exception as error:
            size: Size = (image.shape[0], image.shape[1])
            raise EngineError(
                f"the graph fails at {format_size(size)}, given as {given.shape}: {one_line(error)}"
            ) from error
        return outputs


def one_line(error: Exception) -> str:
    """An error of onnxruntime or OpenVINO on one line, cut to a readable length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"
