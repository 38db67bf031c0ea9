"""Samples of a data set in one picture: photos beside their labels."""

import numpy as np

from rtseg.datasets.base import DataSet
from rtseg.datasets.masks import SampleError
from rtseg.pictures.comparison import stacked
from rtseg.pictures.overlay import legend
from rtseg.pictures.resize import resize_image, resize_labels

_ROW_HEIGHT = 240


def sample_sheet(sets: list[DataSet], each: int = 3) -> np.ndarray:
    """uint8 BGR: a row for each of `each` evenly spaced samples per split, and the classes' colours.

    Unlabelled pixels are black. Samples that cannot be used are left out.
    """
    rows = []
    for data in sets:
        for index in data.spread(each):
            try:
                rows.append(_row(data, index))
            except SampleError:
                continue
    columns = [*([stacked(rows)] if rows else []), legend(sets[0].labels)]
    height = max(column.shape[0] for column in columns)
    return np.hstack([np.pad(column, ((0, height - column.shape[0]), (0, 0), (0, 0))) for column in columns])


def _row(data: DataSet, index: int) -> np.ndarray:
    sample = data.sample(index)
    height, width = sample.labels.shape
    size_hw = (_ROW_HEIGHT, max(1, round(width * _ROW_HEIGHT / height)))
    colours = data.labels.palette_bgr[resize_labels(sample.labels, size_hw)]
    return np.hstack([resize_image(sample.image, size_hw), colours])
