"""PyTorch at its best on an NVIDIA GPU, for comparison: compiled, channels last, CUDA graphs, page-locked copies."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from rtseg.core.errors import EngineError, UsageError
from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions, Timed


class TorchCudaEngine(Engine):
    """Runs fp32 (without TF32) and fp16; interpolation and argmax run on the GPU.

    At the first picture of a size, `torch.compile` tries kernels for minutes.
    """

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision == "int8":
            raise UsageError(
                "torch-cuda computes in fp32 and fp16, not int8: use --precision fp32, or --engine tensorrt"
            )
        from rtseg.models.deploy import normalise
        from rtseg.models.weights import load_network

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        kind = torch.float16 if options.precision == "fp16" else torch.float32
        network: Any = load_network(artifact)
        self._normalise, self._kind = partial(normalise, by=network.normalisation), kind
        try:
            self._network: Any = network.to("cuda", kind, memory_format=torch.channels_last)
            self._device_image = torch.empty((1, *options.size_hw, 3), dtype=torch.uint8, device="cuda")
            self._image = torch.empty_like(self._device_image, device="cpu", pin_memory=True)
        except RuntimeError as error:
            raise EngineError(f"torch cannot use the GPU: {' '.join(str(error).split())}") from error
        self._logits: Any = self._compiled(self._forward)
        self._by_size: dict[Size, tuple[Any, torch.Tensor]] = {}
        self.info = EngineInfo(
            engine="torch-cuda",
            runtime=f"torch {torch.__version__}",
            device=torch.cuda.get_device_name(),
            precision=options.precision,
            size_hw=options.size_hw,
            threads=options.threads,
        )

    @staticmethod
    def _compiled(function: Callable[..., torch.Tensor]) -> Any:
        return torch.compile(function, mode="max-autotune", fullgraph=True, dynamic=False)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (1, h, w, 3) -> logits (1, C, h/s, w/s) in the type it computes in."""
        planes = self._normalise(images).to(self._kind, memory_format=torch.channels_last)
        logits: torch.Tensor = self._network(planes)
        return logits

    def _upload(self, image: np.ndarray) -> torch.Tensor:
        self._image.copy_(torch.from_numpy(image)[None])
        return self._device_image.copy_(self._image, non_blocking=True)

    def _infer(self, image: np.ndarray) -> np.ndarray:
        try:
            with torch.inference_mode():
                logits: np.ndarray = self._logits(self._upload(image))[0].float().contiguous().cpu().numpy()
        except RuntimeError as error:
            raise EngineError(f"torch failed to run {self.card.name} on the GPU: {error}") from error
        return logits

    def _labels(self, image: np.ndarray, size_hw: Size, out: np.ndarray | None) -> Timed:
        step, host = self._step(size_hw)
        try:
            with torch.inference_mode():
                host.copy_(step(self._upload(image)), non_blocking=True)
                torch.cuda.synchronize()
        except RuntimeError as error:
            raise EngineError(f"torch failed to run {self.card.name} on the GPU: {error}") from error
        made: np.ndarray = host[0].numpy()
        if out is None:
            return made.copy(), {}
        np.copyto(out, made)
        return out, {}

    def _step(self, size_hw: Size) -> tuple[Any, torch.Tensor]:
        """The compiled function from picture to labels of a size, and page-locked memory for the labels."""
        if size_hw not in self._by_size:

            def step(images: torch.Tensor) -> torch.Tensor:
                logits = self._forward(images)
                if size_hw != tuple(logits.shape[-2:]):
                    logits = F.interpolate(logits, size_hw, mode="bilinear", align_corners=False)
                return logits.argmax(1).to(torch.uint8)

            host = torch.empty((1, *size_hw), dtype=torch.uint8, pin_memory=True)
            self._by_size[size_hw] = self._compiled(step), host
        return self._by_size[size_hw]

    def time_network(self, image: np.ndarray, runs: int) -> list[float]:
        """Seconds of `runs` runs of the network alone, measured with the GPU's own clock."""
        event: Any = torch.cuda.Event
        start, stop = event(enable_timing=True), event(enable_timing=True)
        seconds = []
        with torch.inference_mode():
            device_image = self._upload(self._checked(image))
            for _ in range(runs):
                start.record()
                self._logits(device_image)
                stop.record()
                stop.synchronize()
                seconds.append(start.elapsed_time(stop) / 1e3)
        return seconds

    def _release(self) -> None:
        self._network = self._logits = None
        self._by_size.clear()
        torch.cuda.empty_cache()
