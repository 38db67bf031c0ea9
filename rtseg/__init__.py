"""Real-time semantic segmentation: train in PyTorch, ship as ONNX, run anywhere without torch.

Importing this package is cheap: the public names below load what they need on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rtseg.core.errors import RtsegError
    from rtseg.core.zoo import models
    from rtseg.live.api import anytime, load, stream
    from rtseg.pictures.overlay import overlay
    from rtseg.sources.open import open_source

_LAZY = {
    "RtsegError": "rtseg.core.errors",
    "anytime": "rtseg.live.api",
    "load": "rtseg.live.api",
    "models": "rtseg.core.zoo",  # until the package rtseg.models is imported, which can be called too
    "stream": "rtseg.live.api",
    "open_source": "rtseg.sources.open",
    "overlay": "rtseg.pictures.overlay",
}

__all__ = ["RtsegError", "__version__", "anytime", "load", "models", "open_source", "overlay", "stream"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'rtseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
