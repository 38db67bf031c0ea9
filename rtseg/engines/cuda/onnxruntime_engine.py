"""onnxruntime's CUDA provider: a GPU engine for comparison."""

from typing import Any

import numpy as np
import onnxruntime as ort

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.sizes import format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions

_PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCudaEngine(Engine):
    """Runs fp32 files; labels are upsampled on the CPU. It never falls back to the CPU."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision != "fp32":
            raise UsageError(
                f"onnxruntime-cuda computes in fp32 only here, not {options.precision}: use --precision fp32, or "
                "--engine tensorrt"
            )
        path = artifact.file("fp32")
        if _PROVIDER not in ort.get_available_providers():
            raise EngineError(
                f"the installed onnxruntime {ort.__version__} is the CPU build: pip uninstall onnxruntime, then "
                "pip install onnxruntime-gpu"
            )
        settings = ort.SessionOptions()
        settings.log_severity_level = 3  # errors only
        for axis, length in zip(("N", "height", "width"), (1, *options.size_hw), strict=True):
            settings.add_free_dimension_override_by_name(axis, length)
        provider = (_PROVIDER, {"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"})
        try:
            session: Any = ort.InferenceSession(str(path), settings, providers=[provider])
        except Exception as error:  # onnxruntime's errors have no common base class
            raise EngineError(f"onnxruntime {ort.__version__} cannot load {path} on the GPU: {error}") from error
        if session.get_providers()[0] != _PROVIDER:  # it fell back to the CPU with only a warning
            raise EngineError(
                "onnxruntime's CUDA provider does not start: are CUDA and cuDNN of its version installed?"
            )
        self._session: Any = session
        self._name = session.get_inputs()[0].name
        self.info = EngineInfo(
            engine="onnxruntime-cuda",
            runtime=f"onnxruntime {ort.__version__}",
            device="CUDA",
            precision="fp32",
            size_hw=options.size_hw,
            threads=options.threads,
        )

    def _infer(self, image: np.ndarray) -> np.ndarray:
        try:
            logits: np.ndarray = self._session.run(None, {self._name: image[None]})[0][0]
        except Exception as error:
            size = format_size(self.info.size_hw)
            raise EngineError(f"onnxruntime failed to run {self.card.name} at {size} on the GPU: {error}") from error
        return logits

    def _release(self) -> None:
        self._session = None
