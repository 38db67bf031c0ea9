"""Runs tasks on a Ray cluster: actors that keep their engine, on machines that share a folder.

Only the driver writes journals; an actor makes segments and moves them into place on the shared storage. An actor that
is lost is replaced, and the segments that it had not announced are made again.
"""

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import gettempdir
from threading import Thread
from time import monotonic
from typing import Any

from rtseg.batch.plan import versions
from rtseg.batch.pool import Handle, Pool
from rtseg.batch.task import Event, Task, TaskDone, TaskFailed, WorkerLost
from rtseg.batch.worker import Worker
from rtseg.core.errors import EngineError
from rtseg.core.paths import user_path
from rtseg.engines import TABLE

LOCAL = "local"
_START_S = 300.0  # longest time without a running actor
_FAILED_STARTS = 3  # in a row; after that, an actor that does not start is not replaced


class Actor:
    """A worker on one machine of the cluster."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._worker = Worker(self._events.put, lambda: None)

    def versions(self, engine: str) -> dict[str, str | None]:
        """Versions, on its machine, of everything that decides the outputs."""
        return versions(engine)

    def run(self, task: Task) -> Iterator[Event]:
        """Runs a task and yields its events, `TaskDone` or `TaskFailed` last."""
        thread = Thread(target=self._worker.attempt, args=(task,), name="rtseg-task", daemon=True)
        thread.start()
        while True:
            event = self._events.get()
            yield event
            if isinstance(event, TaskDone | TaskFailed):
                thread.join()
                return

    def finish(self) -> None:
        """Ends the task at the end of its current segment."""
        self._worker.finish()


@dataclass
class _Seat:
    """An actor and its state."""

    actor: Any
    coming: Any  # reference to its versions: it is running once they arrive
    up: bool = False
    told: bool = False
    task: Task | None = None
    events: Any = None  # generator of references


class RayPool(Pool):
    """Actors on a Ray cluster.

    Args:
        handle: takes events.
        address: 'local' starts a cluster on this machine only; 'auto', HOST:PORT or ray://HOST:PORT joins one.
        engine: its name; if it runs on a GPU, each actor asks for one.
        threads: CPUs for each actor.
        count: number of actors; None: as many as fit into the cluster.

    Raises:
        EngineError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, handle: Handle, address: str, engine: str, threads: int, count: int | None = None) -> None:
        super().__init__(handle)
        try:
            import ray
        except ImportError as error:
            raise EngineError("--ray needs the package ray: pip install 'rtseg[ray]'") from error
        self._ray: Any = ray
        _check_reachable(address)
        try:
            self._ray.init(
                address=None if address == LOCAL else address, log_to_driver=False, logging_level=logging.ERROR,
                include_dashboard=False if address == LOCAL else None, namespace="rtseg",
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EngineError(f"no Ray cluster at {address}: {error}; start one with `ray start --head`") from error
        self._engine = engine
        self._options = {"num_cpus": threads, "num_gpus": int(TABLE[engine].on_gpu), "max_concurrency": 2}
        self._finishing = False
        self._failed_starts = 0
        self._last_up = monotonic()
        self._seats = [self._new_seat() for _ in range(count or self._room())]

    def _room(self) -> int:
        resources = self._ray.cluster_resources()
        rooms = [int(resources.get("CPU", 0) // self._options["num_cpus"])]
        if self._options["num_gpus"]:
            rooms.append(int(resources.get("GPU", 0)))
        if min(rooms) < 1:
            raise EngineError(
                f"the Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs, a worker "
                f"needs {self._options['num_cpus']} and {self._options['num_gpus']}: give fewer --threads"
            )
        return min(rooms)

    def _new_seat(self) -> _Seat:
        actor: Any = self._ray.remote(Actor).options(**self._options).remote()
        return _Seat(actor, actor.versions.remote(self._engine))

    @property
    def size(self) -> int:
        return len(self._seats)

    @property
    def free(self) -> int:
        return sum(seat.up and seat.task is None for seat in self._seats)

    @property
    def busy(self) -> int:
        return sum(seat.task is not None for seat in self._seats)

    def start(self, task: Task) -> None:
        seat = next(seat for seat in self._seats if seat.up and seat.task is None)
        seat.task = task
        seat.events = seat.actor.run.options(num_returns="streaming").remote(_absolute(task))

    def wait(self, timeout_s: float) -> None:
        for seat in self._seats if self._finishing else ():
            if not seat.told:
                seat.told = True
                seat.actor.finish.remote()
        if any(seat.up for seat in self._seats):
            self._last_up = monotonic()
        waited = {(seat.events if seat.up else seat.coming): seat for seat in self._seats if seat.task or not seat.up}
        if not waited:
            return
        ready, _ = self._ray.wait(list(waited), timeout=timeout_s, num_returns=1, fetch_local=False)
        for reference in ready:
            self._receive(waited[reference])
        if not any(seat.up for seat in self._seats) and monotonic() - self._last_up > _START_S:
            raise EngineError(f"no worker came up in the Ray cluster within {_START_S:.0f} s: see `ray status`")

    def _receive(self, seat: _Seat) -> None:
        try:
            if not seat.up:
                self._check(self._ray.get(seat.coming))
                seat.up, self._failed_starts = True, 0
                return
            event: Event = self._ray.get(next(seat.events))
        except self._ray.exceptions.RayError as error:
            self._replace(seat, error)
            return
        if isinstance(event, TaskDone | TaskFailed):
            seat.task = seat.events = None
        self._handle(event)

    def _check(self, theirs: dict[str, str | None]) -> None:
        ours = versions(self._engine)
        if theirs != ours:
            raise EngineError(
                f"a machine of the cluster has {theirs}, this one {ours}: install the same versions everywhere, or "
                "videos would be made of parts that differ"
            )

    def _replace(self, seat: _Seat, error: Exception) -> None:
        self._failed_starts += not seat.up
        place = self._seats.index(seat)
        self._seats[place : place + 1] = [self._new_seat()] if self._failed_starts < _FAILED_STARTS else []
        if not self._seats:
            said = str(error).strip().splitlines() or [type(error).__name__]  # a traceback's last line has the message
            raise EngineError(f"no worker comes up in the Ray cluster: {said[-1].strip()}; see `ray status`")
        if seat.task is not None:
            self._handle(TaskFailed.of(seat.task, WorkerLost(f"its Ray worker was lost ({type(error).__name__})")))

    def finish(self) -> None:
        self._finishing = True  # `wait` tells the actors

    def close(self) -> None:
        for seat in self._seats:
            self._ray.kill(seat.actor)
        self._ray.shutdown()


def _absolute(task: Task) -> Task:
    """The task with paths that are valid in every process; links stay, since they may differ between machines."""
    network, model = task.network, str(task.network.model)
    if model.endswith(".onnx"):
        network = replace(network, model=str(user_path(model).absolute()))
    return replace(
        task, network=network, source=task.source.absolute(), partial=task.partial.absolute(),
        pictures=tuple(path.absolute() for path in task.pictures),
    )  # fmt: skip


def _check_reachable(address: str) -> None:
    """Checks the address quickly, since Ray itself takes minutes to find out."""
    known = _known_address() if address == "auto" else address
    host, _, port = known.rpartition("://")[2].rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError as error:
        where = f"no Ray cluster at {known}" + (", where 'auto' leads" if address == "auto" else "")
        raise EngineError(f"{where}: {error}; start one with `ray start --head`") from error


def _known_address() -> str:
    """The meaning of 'auto': $RAY_ADDRESS, or the address left by the last `ray start` on this machine."""
    noted = Path(os.environ.get("RAY_TMPDIR", gettempdir()), "ray", "ray_current_cluster")
    return os.environ.get("RAY_ADDRESS") or (noted.read_text().strip() if noted.is_file() else "")
