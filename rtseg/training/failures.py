"""Failures of the machine, such as a lack of memory, as errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMFILE, ENFILE

import cv2
import torch

from rtseg.core.errors import OutputError, UsageError
from rtseg.core.files import is_full
from rtseg.training.config import TrainConfig

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Insufficient memory", "bad_alloc",
              "Cannot allocate memory")  # fmt: skip
_WORKER_GONE = "DataLoader worker (pid"  # torch's message when one was killed


@contextmanager
def told(config: TrainConfig) -> Iterator[None]:
    """Turns failures for lack of memory or disk space into rtseg errors.

    Raises:
        UsageError: memory (also a GPU's) ran out, or the system killed a process that reads pictures.
        OutputError: a file in the run's folder cannot be written.
    """
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error, OSError) as error:
        if _WORKER_GONE in str(error):
            raise UsageError(f"a process that reads pictures was killed, as systems do where memory runs out: give "
                             f"fewer --workers (it was {config.workers}), and the run goes on") from error  # fmt: skip
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            where = "the GPU's memory" if isinstance(error, torch.OutOfMemoryError) else "this machine's memory"
            begun = ", and another --output" if (config.output / "last.ckpt").exists() else ""
            raise UsageError(
                f"the run needs more than {where}: give a smaller --batch-size (it was {config.batch_size}; "
                f"--accumulate makes up for it) or --crop (it was {config.crop}){begun}"
            ) from error
        if isinstance(error, OSError):
            raise _of_system(error, config) from error
        raise


def _of_system(error: OSError, config: TrainConfig) -> UsageError | OutputError:
    """The rtseg error for an error of the operating system."""
    what = f"{error.filename}: " if error.filename else ""
    said = f"the run in {config.output} cannot go on: {what}{error.strerror or error}"
    if error.errno in (EMFILE, ENFILE):
        return UsageError(f"{said}; give fewer --workers (it was {config.workers}), or raise 'ulimit -n'")
    return OutputError(f"{said}; {'free space' if is_full(error) else 'check the folder'}")
