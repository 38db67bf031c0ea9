"""The temperature of a network's confidence: `rtseg eval --calibrate`."""

from dataclasses import replace

from rtseg.apps._console import tracked
from rtseg.core.runspec import RunSpec
from rtseg.core.zoo import resolve
from rtseg.datasets import DataSet
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.calibration import Temperature


def fit_temperature(spec: RunSpec, data: DataSet) -> float:
    """The temperature that fits a split best, to four digits; raises UsageError if none does."""
    temperature = Temperature(data.labels)
    with Segmenter(spec) as segmenter:
        for sample in tracked(data, f"temperature on {data.name} {data.split}", len(data)):
            temperature.update(segmenter.logits(sample.image), sample.labels)
    return round(temperature.fit(), 4)


def enter_temperature(model: str, temperature: float, where: str) -> None:
    """Writes a temperature, and the data set and split it was fitted on, into the network's card."""
    artifact = resolve(model)
    artifact.save_card(replace(artifact.card, temperature=temperature, temperature_from=where))
