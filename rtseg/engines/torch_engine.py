"""PyTorch on the CPU: a reference for the other engines, and for machines that have torch anyway."""

from typing import Any

import numpy as np
import torch

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions


class TorchEngine(Engine):
    """Rebuilds the network with the ONNX file's weights; `infer` returns a new array each time.

    Loading it sets torch's number of threads for the whole process.
    """

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision != "fp32":
            raise UsageError(f"the torch engine computes in fp32 only, not {options.precision}: use --precision fp32, "
                             "or another engine")  # fmt: skip
        from rtseg.models.deploy import DeployGraph
        from rtseg.models.weights import load_network

        graph = DeployGraph(load_network(artifact)).eval()
        self._graph: Any = graph.to(memory_format=torch.channels_last)
        torch.set_num_threads(options.threads)
        self.info = EngineInfo(
            engine="torch",
            runtime=f"torch {torch.__version__}",
            device="CPU",
            precision="fp32",
            size_hw=options.size_hw,
            threads=torch.get_num_threads(),
        )

    def _infer(self, image: np.ndarray) -> np.ndarray:
        try:
            with torch.inference_mode():
                logits: np.ndarray = self._graph(torch.tensor(image)[None])[0].contiguous().numpy()
        except RuntimeError as error:
            raise EngineError(f"torch failed to run {self.card.name}: {error}") from error
        return logits

    def _release(self) -> None:
        self._graph = None
