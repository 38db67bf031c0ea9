"""numba's `njit` for kernels that are compiled at import and cached on disk if possible."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba

_log = logging.getLogger(__name__)


def compiled(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(signature, nogil=True, cache=True, ...)` that also works if no folder can be written.

    numba keeps its cache beside the source file or in the user's cache folder; if neither works, it raises.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, nogil=True, cache=True, **options)(function)
        except (RuntimeError, OSError) as error:  # no folder; disk full
            if isinstance(error, RuntimeError) and "cannot cache" not in str(error):
                raise
            _warn_uncached(function.__module__)
            return numba.njit(signature, nogil=True, **options)(function)

    return decorate


@cache
def _warn_uncached(module: str) -> None:
    """Warns once per module."""
    _log.warning("%s is compiled again at every start, its cache cannot be written: set NUMBA_CACHE_DIR", module)
