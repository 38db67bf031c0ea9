"""`rtseg train`: trains a network on a labelled data set."""

import logging
import warnings
from typing import Annotated

from cyclopts import Parameter

from rtseg.apps._signals import stopped_by_sigterm
from rtseg.training.config import TrainConfig


def command(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Train a network; the same command resumes a run that was stopped."""
    from rich.console import Console

    from rtseg.apps._overwrite import check_outputs
    from rtseg.training.before import read_data

    if config.init is not None or config.teacher:
        from rtseg.training.origin import find_origin

        read = [path for name in (config.init, *config.teacher) if name is not None for path in find_origin(name).paths]
        written = [("--output", config.output / name) for name in ("best.safetensors", "best.json")]
        check_outputs({}, {"a network that it starts or learns from": read}, written)
    read_data(config)  # wrong options are reported before torch is loaded
    from rtseg.training.run import train

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its news come twice otherwise, once from our log
    warnings.filterwarnings("ignore", module="lightning")  # about its own internals, and about a folder that we made
    logging.getLogger("rtseg.training").setLevel(logging.INFO)  # where a run resumes, and that it is done
    try:
        with stopped_by_sigterm():
            folder = train(config)
    except KeyboardInterrupt:
        if (config.output / "last.ckpt").is_file():
            Console(stderr=True).print(f"stopped: the same command resumes from {config.output}", highlight=False)
        raise
    Console().print(
        f"best weights and their card: {folder}/best.safetensors, {folder}/best.json\n"
        f"curves, confusion, best and worst frames: {folder}/report",
        highlight=False,
    )
