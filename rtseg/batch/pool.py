"""What runs tasks: this process, several processes on this machine, or a cluster."""

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue

from rtseg.batch.task import Event, Task, TaskDone, TaskFailed, WorkerLost
from rtseg.batch.worker import Worker
from rtseg.core.closing import Closing

Handle = Callable[[Event], None]


class Pool(Closing, ABC):
    """Runs tasks on one or more workers; all events go to `handle`, in the thread that calls the pool."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of workers, running or not."""

    @property
    @abstractmethod
    def free(self) -> int:
        """Number of tasks that can be started now."""

    @property
    @abstractmethod
    def busy(self) -> int:
        """Number of tasks in flight."""

    @abstractmethod
    def start(self, task: Task) -> None:
        """Gives a task to a free worker; each task ends with `TaskDone` or `TaskFailed`."""

    @abstractmethod
    def wait(self, timeout_s: float) -> None:
        """Handles events that have happened; waits at most this long for one."""

    @abstractmethod
    def finish(self) -> None:
        """Lets every worker end its task at the end of its segment; may be called from a signal handler."""

    @abstractmethod
    def close(self) -> None:
        """Stops the workers."""


class InlinePool(Pool):
    """A single worker in this process: `start` returns when the task has ended."""

    def __init__(self, handle: Handle) -> None:
        super().__init__(handle)
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._worker = Worker(self._events.put, self._drain)

    @property
    def size(self) -> int:
        return 1

    @property
    def free(self) -> int:
        return 1

    @property
    def busy(self) -> int:
        return 0

    def _drain(self) -> None:
        while True:
            try:
                event = self._events.get_nowait()
            except Empty:
                return
            self._handle(event)

    def start(self, task: Task) -> None:
        try:
            self._worker.attempt(task)
        finally:  # also announces what was complete before Ctrl-C
            self._drain()

    def wait(self, timeout_s: float) -> None:
        self._drain()

    def finish(self) -> None:
        self._worker.finish()

    def close(self) -> None:
        self._worker.close()


def _serve(connection: Connection) -> None:
    """The loop of a worker process: tasks come in, events go out; it ends with its parent, however that ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both may reach every process of a group; the parent decides
        signal.signal(number, signal.SIG_IGN)

    def poll() -> None:
        while connection.poll():
            if _received(connection) == "finish":
                worker.finish()

    lock = threading.Lock()  # the loop's writer and this thread both send

    def tell(event: Event) -> None:
        with lock:
            connection.send(event)

    worker = Worker(tell, poll)
    while True:
        task = _received(connection)
        if isinstance(task, str):
            worker.finish()
        else:
            worker.attempt(task)


def _received(connection: Connection) -> Task | str:
    try:
        message: Task | str = connection.recv()
    except (EOFError, OSError):
        os._exit(1)  # nobody is left to read events, and the loop's threads must not continue
    return message


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Makes processes that are started inside ignore Ctrl-C from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Process:
    """A worker process and its state."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of this process hold
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), name="rtseg-worker", daemon=True)
        with _ctrl_c_ignored():
            self.process.start()
        theirs.close()  # so that the worker's end is noticed
        self.task: Task | None = None
        self.told = False  # whether it was told to finish


class ProcessPool(Pool):
    """Workers in separate processes; one that dies is replaced, and its task ends with `WorkerLost`."""

    def __init__(self, handle: Handle, count: int) -> None:
        super().__init__(handle)
        self._finishing = False
        self._workers = [_Process() for _ in range(count)]

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def free(self) -> int:
        return sum(worker.task is None for worker in self._workers)

    @property
    def busy(self) -> int:
        return len(self._workers) - self.free

    @property
    def processes(self) -> list[int]:
        """Process IDs of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def start(self, task: Task) -> None:
        worker = next(worker for worker in self._workers if worker.task is None)
        worker.task = task
        try:
            worker.connection.send(task)
        except OSError:
            self._replace(worker)

    def wait(self, timeout_s: float) -> None:
        if self._finishing:
            self._tell_to_finish()
        connections = {worker.connection: worker for worker in self._workers}
        for ready in wait(list(connections), timeout_s):
            self._receive(connections[ready])  # type: ignore[index]

    def _receive(self, worker: _Process) -> None:
        try:
            while worker.connection.poll():
                event = worker.connection.recv()
                if isinstance(event, TaskDone | TaskFailed):
                    worker.task = None
                self._handle(event)
        except (EOFError, OSError):
            self._replace(worker)

    def _replace(self, worker: _Process) -> None:
        task, code = worker.task, worker.process.exitcode
        worker.connection.close()
        self._workers[self._workers.index(worker)] = _Process()
        if task is not None:
            self._handle(TaskFailed.of(task, WorkerLost(f"its worker process was lost (exit code {code})")))

    def finish(self) -> None:
        self._finishing = True  # `wait` tells them: a signal handler must not write in the middle of another message

    def _tell_to_finish(self) -> None:
        for worker in self._workers:
            if not worker.told:
                worker.told = True
                with suppress(OSError):  # it is dead, as `wait` will notice
                    worker.connection.send("finish")

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(2.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
