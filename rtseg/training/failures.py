"""What a machine could not give a run, told as what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

from rtseg.core.errors import OutputError, UsageError
from rtseg.training.config import TrainConfig

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Insufficient memory", "bad_alloc")
_WORKER_GONE = "DataLoader worker (pid"  # how torch says that one was killed


@contextmanager
def told(config: TrainConfig) -> Iterator[None]:
    """Turns what ends a run for want of memory or disk space into an error of ours.

    Raises:
        UsageError: memory ran out, also that of a GPU, or the system killed a process that reads pictures.
        OutputError: something in the run's folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise OutputError(f"the run in {config.output} cannot go on: {what}{error.strerror or error}; check the folder "
                          "and free space") from error  # fmt: skip
    except (MemoryError, RuntimeError, cv2.error) as error:
        if _WORKER_GONE in str(error):
            raise UsageError(f"a process that reads pictures was killed, as systems do where memory runs out: give "
                             f"fewer --workers (it was {config.workers}), and the run goes on") from error  # fmt: skip
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            where = "the GPU's memory" if isinstance(error, torch.OutOfMemoryError) else "this machine's memory"
            raise UsageError(f"the run needs more than {where}: give a smaller --batch-size (it was "
                             f"{config.batch_size}; --accumulate makes up for it) or --crop (it was {config.crop})"
                             ) from error  # fmt: skip
        raise
