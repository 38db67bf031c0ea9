"""Times a labeller's steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


@contextmanager
def stage(stages_s: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds that the block takes to the stage `name`."""
    start = perf_counter()
    yield
    stages_s[name] = stages_s.get(name, 0.0) + perf_counter() - start
