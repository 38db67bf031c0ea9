"""A hand-written network with three exits: no torch, and every number can be worked out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from fakes import fake_card, make_network
from onnx import TensorProto, helper, numpy_helper

from rtseg.core.card import Card, CardFile, Exit
from rtseg.core.exits import Regions
from rtseg.core.files import file_sha256
from rtseg.core.zoo import Artifact

NAMES = ("coarse", "middle", "last")


def make_exits(
    folder: Path, thresholds: tuple[float | None, ...] = (None, None, None), regions: Regions | None = None
) -> Artifact:
    """Exits that see means of 16x16, 8x8 and 4x4 pixels; the last is `make_network`'s, the whole network.

    The early ones have a halo of 16 pixels, and the first has `regions`. The first graph hands on the picture's planes,
    the second nothing, so the third reads the output of the first.
    """
    path = make_network(folder, "exits", size_multiple=16)
    card = Card.load(path.with_suffix(".json"))
    whole = onnx.load(path)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    image, planes = (
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "height", "width", 3]),
        helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["N", 3, "planes_height", "planes_width"]),
    )
    exits = []
    for number, (name, cells) in enumerate(zip(NAMES, (16, 8, 4), strict=True)):
        first = number == 0
        nodes = [
            helper.make_node("Cast", ["image"], ["values"], "cast", to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["values"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        ][: 2 * first]
        nodes += [
            helper.make_node("AveragePool", ["planes"], ["means"], f"pool{cells}", kernel_shape=[cells] * 2,
                             strides=[cells] * 2),
            helper.make_node("Conv", ["means", "weights", "bias"], ["logits"], f"conv{cells}"),
        ]  # fmt: skip
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 11, "logits_height", "logits_width"])
        graph = helper.make_graph(nodes, name, [image if first else planes], [logits, planes][: 1 + first],
                                  [numpy_helper.from_array(array, key) for key, array in weights.items()])  # fmt: skip
        file = folder / f"exits.exit{number + 1}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
        entry = CardFile(file.name, file_sha256(file), file.stat().st_size)
        exits.append(
            Exit(name, {"fp32": entry}, 1.0 + number, ("planes",) if first else (), threshold=thresholds[number],
                 halo=16 if number < 2 else None, regions=regions if first else None)
        )  # fmt: skip
    artifact = Artifact(replace(card, exits=tuple(exits)), folder)
    artifact.save_card(artifact.card)
    return artifact


def card_with_exits(**changes: float | None) -> Card:
    """A card alone: exits 'early' and 'last', of 1 and 2 GMAC."""
    file = CardFile("x.onnx", "0" * 64, 1)
    early = replace(Exit("early", {"fp32": file}, 1.0, ("seen",)), **changes)
    return fake_card(exits=(early, Exit("last", {"fp32": file}, 2.0)))


def means(image: np.ndarray, cells: int) -> np.ndarray:
    """uint8 (h, w, 3) -> float64 (3, h / cells, w / cells), computed independently of the engines."""
    height, width, _ = image.shape
    blocks = image.astype(np.float64).reshape(height // cells, cells, width // cells, cells, 3)
    found: np.ndarray = blocks.mean((1, 3)).transpose(2, 0, 1)
    return found
