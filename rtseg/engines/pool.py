"""Several copies of an engine, each on its own thread: more frames per second, but each takes longer."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from time import perf_counter

import numpy as np

from rtseg.core.errors import EngineError
from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineOptions, Timed
from rtseg.engines.run import Run


class EnginePool(Engine):
    """Keeps `in_flight` pictures in flight on as many engines, which share the threads.

    The threads of one engine wait for each other after every operator, so all are as slow as the slowest. This adds up
    if other work uses the cores too; separate engines do not wait for each other.

    Example:
        >>> pool = EnginePool(OnnxRuntimeEngine, artifact, EngineOptions((256, 512), threads=4, in_flight=4))
        >>> pool.submit(one, (256, 512)), pool.submit(other, (256, 512))
        >>> pool.collect(), pool.collect()  # the labels of `one`, then those of `other`
    """

    def __init__(
        self, make: Callable[[Artifact, EngineOptions], Engine], artifact: Artifact, options: EngineOptions
    ) -> None:
        super().__init__(artifact, options)
        each, more = divmod(max(options.threads, options.in_flight), options.in_flight)
        shares = [replace(options, in_flight=1, threads=each + (n < more)) for n in range(options.in_flight)]
        self._workers = ThreadPoolExecutor(options.in_flight, thread_name_prefix="rtseg-engine")
        loading = [self._workers.submit(make, artifact, share) for share in shares]  # in parallel: it takes a while
        try:
            self._engines = [future.result() for future in loading]
        except BaseException:
            wait(loading)
            self._engines = [future.result() for future in loading if future.exception() is None]
            self._release()
            raise
        self._free = deque(self._engines)  # append and popleft are atomic
        threads = sum(engine.info.threads for engine in self._engines)
        self.info = replace(self._engines[0].info, threads=threads, in_flight=options.in_flight)

    def _infer(self, image: np.ndarray) -> np.ndarray:
        if self._pending:
            raise EngineError("pictures are in flight: call collect() first")
        return self._engines[0].infer(image)

    def start(self, image: np.ndarray) -> Run:
        """Same as `Engine.start`; also raises EngineError while pictures are in flight."""
        if self._pending:
            raise EngineError("pictures are in flight: call collect() first")
        return self._engines[0].start(image)

    def _submit(self, image: np.ndarray, size_hw: Size) -> Future[Timed]:
        return self._workers.submit(self._work, image, size_hw)

    def _work(self, image: np.ndarray, size_hw: Size) -> Timed:
        engine = self._free.popleft()  # there are as many engines as workers
        try:
            engine.submit(image, size_hw)
            made = engine.collect()
            return made.labels, made.stages_s
        finally:
            self._free.append(engine)

    def _submit_logits(self, image: np.ndarray) -> Callable[[], Timed]:
        return self._workers.submit(self._work_logits, image).result

    def _work_logits(self, image: np.ndarray) -> Timed:
        engine, start = self._free.popleft(), perf_counter()
        try:
            logits = self._arrays.copy(engine.infer(image))
            return logits, {"engine": perf_counter() - start}
        finally:
            self._free.append(engine)

    def _collect(self, started: Future[Timed]) -> Timed:
        return started.result()

    def _release(self) -> None:
        self._workers.shutdown(cancel_futures=True)
        for engine in self._engines:
            engine.close()
