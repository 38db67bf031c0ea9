"""The kinds of files that fuzz.py damages: how to make a good one, and what reads it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from rtseg.core.files import file_sha256
from rtseg.core.frame import Frame
from rtseg.core.zoo import Artifact, resolve
from rtseg.sources.open import open_source


@dataclass(frozen=True)
class Target:
    """A kind of file: makes good files in a folder, names the one to damage, and reads them."""

    make: Callable[[Path], None]
    damaged: str
    read: Callable[[Path], object]


def _make_video(folder: Path) -> None:
    from rtseg.sinks.video import VideoSink

    with VideoSink(folder / "clip.mp4", (48, 64), 25.0, threads=1) as sink:
        for index in range(12):
            picture = np.full((48, 64, 3), 20 * index, np.uint8)
            sink.write(Frame(picture, index, index / 25, 0.0), picture[..., 0], picture)


def _read_frames(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> int:
        with open_source(folder / name, threads=1) as source:
            return sum(1 for _, _ in zip(range(200), source, strict=False))

    return read


def _make_picture(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
        (folder / f"picture.{suffix}").write_bytes(cv2.imencode(f".{suffix}", picture)[1].tobytes())

    return make


def _make_network(folder: Path) -> None:
    artifact = resolve("enet")
    shutil.copy(artifact.file("fp32"), folder / "net.onnx")
    entry = replace(artifact.card.files["fp32"], file="net.onnx")
    replace(artifact.card, name="net", files={"fp32": entry}).save(folder / "net.json")


def _read_network(folder: Path) -> object:
    """Reads the file like one that somebody shared together with a matching card."""
    from rtseg.engines import EngineOptions, load_engine

    artifact = resolve(folder / "net.onnx")
    file = folder / "net.onnx"
    entry = replace(artifact.card.files["fp32"], sha256=file_sha256(file), bytes=file.stat().st_size)
    card = replace(artifact.card, files={"fp32": entry})
    with load_engine("onnxruntime", Artifact(card, folder), EngineOptions((64, 64))) as engine:
        return engine.labels(np.zeros((64, 64, 3), np.uint8), (64, 64))


def _read_card(folder: Path) -> object:
    artifact = resolve(folder / "net.onnx")
    artifact.card.check_size((64, 64))
    return artifact.card.to_json()


def _make_export(folder: Path) -> None:
    boxes = "".join(
        f'<image id="{number}" name="{number}.png" width="32" height="24"><polygon label="road" occluded="0" '
        'points="1,1;20,1;20,15" z_order="0"></polygon></image>' for number in range(3)
    )  # fmt: skip
    labels = "<meta><job><labels><label><name>road</name><color>#ff0000</color></label></labels></job></meta>"
    (folder / "annotations.xml").write_text(f"<annotations><version>1.1</version>{labels}{boxes}</annotations>")
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((24, 32, 3), np.uint8))


def _read_export(folder: Path) -> object:
    from rtseg.datasets.imports import open_export
    from rtseg.datasets.imports.write import import_set

    return import_set(open_export("cvat", folder / "annotations.xml", folder), folder / "made")


def _make_classes(folder: Path) -> None:
    for kind, value in (("images", 90), ("masks", 1)):
        (folder / kind).mkdir()
        for number in range(3):
            shape = (24, 32, 3) if kind == "images" else (24, 32)
            cv2.imwrite(str(folder / kind / f"{number}.png"), np.full(shape, value, np.uint8))
    classes = [{"name": name, "rgb": rgb} for name, rgb in (("road", [128, 64, 128]), ("sky", [0, 0, 255]))]
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))


def _read_folder(folder: Path) -> object:
    from rtseg.datasets import open_data

    return [sample.labels.shape for sample in open_data("folder", folder, "train")]


def _make_checkpoint(folder: Path) -> None:
    import torch

    from rtseg.training.checkpoint import save_tree

    tree = {
        "epoch": 3,
        "state_dict": {"weight": torch.ones(4, 3), "bias": torch.zeros(4)},
        "loops": [1, {"done": True}],
    }
    save_tree(tree, folder / "last.ckpt")


def _read_checkpoint(folder: Path) -> object:
    from rtseg.training.checkpoint import load_tree

    return load_tree(folder / "last.ckpt")


def _make_journal(folder: Path) -> None:
    from rtseg.batch.journal import Journal

    with Journal(folder) as journal:
        journal.state(plan={"frames": 100, "size": [48, 64]}, notes=["one", "two"])


def _read_journal(folder: Path) -> object:
    from rtseg.batch.journal import Journal

    with Journal(folder) as journal:
        return journal.fact("plan"), journal.fact("notes")


TARGETS: dict[str, Target] = {
    "video": Target(_make_video, "clip.mp4", _read_frames("clip.mp4")),
    **{
        suffix: Target(_make_picture(suffix), f"picture.{suffix}", _read_frames(f"picture.{suffix}"))
        for suffix in ("png", "jpg", "webp", "tiff", "bmp", "ppm")
    },
    "onnx": Target(_make_network, "net.onnx", _read_network),
    "card": Target(_make_network, "net.json", _read_card),
    "annotations": Target(_make_export, "annotations.xml", _read_export),
    "classes": Target(_make_classes, "classes.json", _read_folder),
    "checkpoint": Target(_make_checkpoint, "last.ckpt", _read_checkpoint),
    "journal": Target(_make_journal, "journal.sqlite", _read_journal),
    "mask": Target(_make_classes, "masks/1.png", _read_folder),
}
