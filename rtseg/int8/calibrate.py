"""Measures the activation ranges that INT8 needs, on pictures."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime as ort

from rtseg.core.errors import UsageError

PERCENTILE = 99.99
_SAMPLES = 200_000  # values per tensor and picture for the percentile


def measure_ranges(
    model: onnx.ModelProto, tensors: Iterable[str], images: Iterable[np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Runs a float graph on pictures and returns each tensor's range.

    A picture's range leaves out 0.01 % of the values at either end; the result covers the ranges of all pictures.

    Args:
        model: from `load_float_graph`.
        tensors: names of float tensors in it.
        images: uint8 BGR (h, w, 3), in sizes that fit the network.

    Raises:
        UsageError: no tensors, because INT8 would round nothing in this graph.
    """
    names = list(tensors)
    if not names:
        raise UsageError("the graph has no convolution that INT8 makes faster: leave it as it is")
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for image in images:
        for index, values in enumerate(session.run(names, {session.get_inputs()[0].name: image[None]})):
            step = max(1, values.size // _SAMPLES)
            low, high = np.percentile(values.ravel()[::step], (100 - PERCENTILE, PERCENTILE))
            lows[index], highs[index] = min(lows[index], low), max(highs[index], high)
    return {name: (round(float(lows[index]), 6), round(float(highs[index]), 6)) for index, name in enumerate(names)}
