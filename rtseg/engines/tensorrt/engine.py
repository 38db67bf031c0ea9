"""TensorRT on an NVIDIA GPU: uint8 pictures up, labels down, two pictures in flight; no torch."""

from hashlib import sha256
from typing import Any

import numpy as np

from rtseg.core.card import Card
from rtseg.core.errors import EngineError, ParityError, UsageError
from rtseg.core.sizes import Size, format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions, Timed
from rtseg.engines.cuda.memory import Device, DeviceInfo
from rtseg.engines.tensorrt.cache import BuildOptions, EngineCache, Entry, PlanKey
from rtseg.engines.tensorrt.plan import VERSION, PlanError, check_version
from rtseg.engines.tensorrt.runner import IN_FLIGHT, Runner


def plan_key(
    card: Card, precision: str, size_hw: Size, device: DeviceInfo, options: BuildOptions | None = None
) -> PlanKey:
    """The key of a network's engine on this machine; FP16 and INT8 are also made from the FP32 file."""
    ranges = repr(sorted(card.activation_ranges.items())) if precision == "int8" else ""
    return PlanKey(
        onnx_sha256=card.files["fp32"].sha256,
        ranges_sha256=sha256(ranges.encode()).hexdigest(),
        precision=precision,
        size_hw=size_hw,
        tensorrt=VERSION,
        cuda=device.cuda,
        driver=device.driver,
        gpu=device.name,
        compute_capability=device.compute_capability,
        options=options or BuildOptions(),
    )


class TensorRtEngine(Engine):
    """Loads the engine that was built for this network and machine, or builds one first.

    Raises:
        UsageError: INT8 for a network whose card has no activation ranges.
        EngineError: no GPU or driver, TensorRT too old, out of memory, or the engine cannot be built.
        ParityError: the built engine's labels differ from onnxruntime's, or `rtseg compile` has refused it.
    """

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        if options.precision == "int8" and not self.card.activation_ranges:
            raise UsageError(
                f"the card of {self.card.name} has no activation ranges, which int8 needs: rtseg compile --precision "
                "int8 with --data or --frames measures them; or use --precision fp16"
            )
        artifact.file("fp32")  # checks that the file is complete and matches its card
        check_version()
        self._device = Device()
        self._runner, self.report = self._load(artifact, options)
        self._logits = np.empty(self._runner.logits_shape, np.float32)
        self.info = EngineInfo(
            engine="tensorrt",
            runtime=f"tensorrt {VERSION}",
            device=self._device.info.name,
            precision=options.precision,
            size_hw=options.size_hw,
            threads=options.threads,
            in_flight=IN_FLIGHT,
        )

    def _load(self, artifact: Artifact, options: EngineOptions) -> tuple[Runner, dict[str, Any]]:
        """The cached engine for this machine or a new one, and its build report."""
        cache = EngineCache()
        key = plan_key(self.card, options.precision, options.size_hw, self._device.info)
        key = plan_key(self.card, options.precision, options.size_hw, self._device.info, cache.preferred(key))
        with cache.lock(key):
            if (reason := cache.refusal(key)) is not None:
                raise ParityError(
                    f"{self.card.name} in {options.precision} at {format_size(options.size_hw)} was refused: {reason}; "
                    "rtseg compile with --keep-worst 4 or --force makes another engine, --precision fp16 needs none"
                )
            entry = cache.find(key)
            if entry is not None:
                try:
                    return Runner(self._device, entry.plan), entry.report
                except PlanError as error:
                    cache.discard(key, str(error))
            entry = self._build(artifact, key, cache)
            return Runner(self._device, entry.plan), entry.report

    def _build(self, artifact: Artifact, key: PlanKey, cache: EngineCache) -> Entry:
        try:
            from rtseg.engines.tensorrt.compile import build_entry
        except ModuleNotFoundError as error:
            raise EngineError(f"no engine is built yet, and building one needs the package {error.name}, which is not "
                              f"installed: pip install {error.name}") from error  # fmt: skip
        return build_entry(artifact, key, self._device, cache)

    def _infer(self, image: np.ndarray) -> np.ndarray:
        if self._pending:
            raise EngineError("pictures are in flight: call collect() first")
        np.copyto(self._logits, self._runner.infer(image))
        return self._logits

    def _labels(self, image: np.ndarray, size_hw: Size, out: np.ndarray | None) -> Timed:
        if self._pending:
            raise EngineError("pictures are in flight: call collect() first")
        self.submit(image, size_hw)
        made = self.collect(out)
        return made.labels, made.stages_s

    def _submit(self, image: np.ndarray, size_hw: Size) -> object:
        return self._runner.start(image, size_hw)

    def _collect(self, started: object) -> Timed:
        return self._runner.finish(started), {}  # type: ignore[arg-type]

    def time_network(self, image: np.ndarray, runs: int) -> list[float]:
        """Seconds of `runs` runs of the network alone, measured with the GPU's own clock."""
        return self._runner.time_network(self._checked(image), runs)

    def time_labels(self, size_hw: Size, runs: int) -> list[float]:
        """Seconds of `runs` runs of the label kernel alone, measured with the GPU's own clock."""
        return self._runner.time_labels(size_hw, runs)

    def _release(self) -> None:
        self._runner.close()
