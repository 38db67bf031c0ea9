"""Checks a `RunSpec`, and finds the input size if it names none."""

from rtseg.core.card import PRECISIONS, Card
from rtseg.core.registry import unknown_name
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, network_size
from rtseg.core.zoo import Artifact, resolve
from rtseg.engines import AUTO, ENGINES


def default_size(card: Card, frame_hw: Size) -> Size:
    """The network's input size for a frame if the user gives none."""
    return card.fixed_size or network_size(frame_hw, card.train_size, card.size_multiple)


def check_spec(spec: RunSpec) -> Artifact:
    """Finds a spec's network and checks everything that can be checked before the first frame.

    Raises:
        UsageError: unknown model, engine or precision, or a size that does not fit.
        WeightsError: a file or its card is missing or damaged.
    """
    artifact = resolve(spec.model)
    if not isinstance(spec.engine, str) or spec.engine != AUTO:
        ENGINES.check(spec.engine)
    if not isinstance(spec.precision, str) or spec.precision not in (AUTO, *PRECISIONS):
        raise unknown_name("precision", spec.precision, [AUTO, *PRECISIONS])
    if spec.size_hw is not None:
        artifact.card.check_size(spec.size_hw)
    if spec.exit is not None:
        artifact.card.check_exit(spec.exit)
    return artifact
