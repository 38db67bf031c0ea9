"""`rtseg train|prune|eval|data|export|import|compile|models|doctor`: imports a command's module when it is called."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, NoReturn

from cyclopts import App, Parameter

import rtseg
from rtseg.apps._console import run
from rtseg.core.errors import EngineError
from rtseg.core.registry import unknown_name

COMMANDS = {  # name -> (function or sub-app, help text)
    "train": ("rtseg.apps.train:command", "Train a network (needs the extra 'train')."),
    "prune": ("rtseg.apps.prune:command", "Remove channels from a network (needs the extra 'train')."),
    "eval": ("rtseg.apps.evaluate:command", "Score a network on a data set, or how steady its labels are."),
    "data": ("rtseg.apps.data:app", "List the data sets, check one, or import annotations."),
    "export": ("rtseg.apps.export:command", "Export a trained network as an ONNX file (needs the extra 'train')."),
    "import": ("rtseg.apps.import_network:command", "Import a network of your own: an ONNX file from any framework."),
    "compile": ("rtseg.apps.compile:command", "Compile an ONNX file for an engine on this machine."),
    "models": ("rtseg.apps.models:command", "List the networks that ship, with their figures."),
    "doctor": ("rtseg.apps.doctor:command", "Show what works on this machine and what to install."),
}
NEEDS_TORCH = ("train", "prune", "export")

Words = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]  # whatever was typed


def build_app() -> App:
    """The command and its subcommands, without importing them."""
    app = App(name="rtseg", help=rtseg.__doc__.splitlines()[0] if rtseg.__doc__ else "", version=rtseg.__version__)
    for name, (target, about) in COMMANDS.items():
        torchless = name in NEEDS_TORCH and find_spec("torch") is None
        app.command(unavailable(name) if torchless else target, name=name, help=about)

    @app.default
    def other(*words: Words) -> None:
        if words:
            raise unknown_name("command", words[0], list(COMMANDS))
        app.help_print()

    return app


def unavailable(name: str) -> Callable[..., NoReturn]:
    """Stands in for a command whose packages are not installed."""

    def command(*words: Words) -> NoReturn:
        raise EngineError(f"rtseg {name} needs torch, which is not installed: pip install 'rtseg[train]'")

    return command


def main() -> None:
    """Entry point of `rtseg`."""
    run(build_app())


if __name__ == "__main__":
    main()
