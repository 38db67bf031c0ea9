"""`rtseg train`: trains a network on a labelled data set."""

import logging
import warnings
from typing import Annotated

from cyclopts import Parameter
from rich.box import SIMPLE
from rich.table import Table

from rtseg.apps._console import plain_console
from rtseg.apps._idle import refuse_idle
from rtseg.apps._signals import stopped_by_sigterm
from rtseg.core.zoo import BEST, BEST_CARD
from rtseg.training.config import TEACHING_LIST, TrainConfig


def teaching_table() -> Table:
    """What `--teaching list` prints."""
    from rtseg.training.distill import SUMMARIES

    table = Table("--teaching", "what is learned", box=SIMPLE, pad_edge=False)
    for name, summary in SUMMARIES.items():
        table.add_row(name, summary)
    return table


def command(config: Annotated[TrainConfig | None, Parameter(name="*")] = None) -> None:
    """Train a network; the same command resumes a run that was stopped."""
    config = config or TrainConfig()  # raises the error that says what is missing
    if config.teaching == TEACHING_LIST:
        plain_console().print(teaching_table())
        return
    from rtseg.apps._overwrite import check_outputs
    from rtseg.training.before import read_data
    from rtseg.training.distill.spec import parse_teaching

    if not config.teacher and config.teaching == TrainConfig.teaching:
        refuse_idle(config, ("teaching_weight", "temperature"), "is for teaching: add --teacher or --teaching")
    if config.unlabelled is None:
        names = ("unlabelled_every", "unlabelled_confidence", "unlabelled_weight")
        refuse_idle(config, names, "is for pictures without labels: add --unlabelled")
    parse_teaching(config.teaching)  # reports a typo before any network is read
    if config.init is not None or config.teacher:
        from rtseg.training.origin import find_origin

        read = [path for name in (config.init, *config.teacher) if name is not None for path in find_origin(name).paths]
        written = [("--output", config.output / name) for name in (BEST, BEST_CARD)]
        check_outputs({}, {"a network that it starts or learns from": read}, written)
    read_data(config)  # wrong options are reported before torch is loaded
    from rtseg.training.run import train

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its messages would appear twice, once in our log
    warnings.filterwarnings("ignore", module="lightning")  # about its own internals, and about a folder that we created
    logging.getLogger("rtseg.training").setLevel(logging.INFO)  # shows where a run resumes, and when it is done
    try:
        with stopped_by_sigterm():
            folder = train(config)
    except KeyboardInterrupt:
        if (config.output / "last.ckpt").is_file():
            plain_console(stderr=True).print(f"stopped: the same command resumes from {config.output}")
        raise
    plain_console().print(
        f"best weights and their card: {folder}/{BEST}, {folder}/{BEST_CARD}\n"
        f"curves, confusion, best and worst frames: {folder}/report"
    )
