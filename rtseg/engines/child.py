"""Runs a module of rtseg in a child process that finds the same packages as this one."""

import os
import subprocess
import sys
from collections.abc import Sequence


def run_module(module: str, arguments: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Runs `python -m MODULE ARGUMENTS` and captures what it prints; raises what `subprocess.run` does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
