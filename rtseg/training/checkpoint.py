"""Checkpoints as safetensors: tensors by name, everything else as JSON in the file's header; never pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rtseg.core.errors import OutputError, WeightsError
from rtseg.core.files import atomic_path, check_regular

_TENSOR, _PAIRS, _TUPLE = "__tensor__", "__pairs__", "__tuple__"


def flatten(tree: Any, tensors: dict[str, torch.Tensor], name: str = "") -> Any:
    """Replaces each tensor in a tree of dicts, lists and plain values by its name, and adds it to `tensors`.

    Raises:
        TypeError: the tree holds something that is neither a tensor nor JSON.
    """
    if isinstance(tree, torch.Tensor):
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(tree, dict):
        return {_PAIRS: [[key, flatten(value, tensors, f"{name}/{key}")] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        items = [flatten(value, tensors, f"{name}/{index}") for index, value in enumerate(tree)]
        return {_TUPLE: items} if isinstance(tree, tuple) else items
    if tree is None or isinstance(tree, str | bool | int | float):
        return tree
    if isinstance(tree, Path):
        return str(tree)
    raise TypeError(f"{name} is a {type(tree).__name__}: a checkpoint holds tensors and plain values only")


def unflatten(tree: Any, tensors: Mapping[str, Any]) -> Any:
    """The inverse of `flatten`."""
    if isinstance(tree, list):
        return [unflatten(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if _TENSOR in tree:
        return tensors[tree[_TENSOR]]
    if _TUPLE in tree:
        return tuple(unflatten(value, tensors) for value in tree[_TUPLE])
    return {key: unflatten(value, tensors) for key, value in tree[_PAIRS]}


def save_tree(tree: dict[str, Any], path: Path) -> None:
    """Writes a tree of tensors and plain values as one safetensors file, atomically; raises OutputError."""
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(flatten(tree, tensors))
    with atomic_path(path) as part:
        part.touch()
        mode = part.stat().st_mode  # its permissions: safetensors lets only the owner read it
        try:
            save_file(tensors, str(part), metadata={"tree": _with_checksum(skeleton, tensors)})
        except SafetensorError as error:  # also raised for a full disk
            raise OutputError(f"cannot write {path}: {error}; check the folder and free space") from error
        part.chmod(mode)


def load_tree(path: Path) -> dict[str, Any]:
    """Reads a file of `save_tree`; raises WeightsError if it is missing, damaged, cut short or of another format."""
    try:
        with safe_open(str(check_regular(path)), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            skeleton = json.loads(file.metadata()["tree"])
        if "crc32" in skeleton:  # older files have none
            if skeleton["crc32"] != _checksum(skeleton["tree"], tensors):
                raise ValueError("its checksum does not match, so the disk or a copy changed it")
            skeleton = json.loads(skeleton["tree"])
        tree: dict[str, Any] = unflatten(skeleton, tensors)
        return tree
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a checkpoint of rtseg, or is damaged: {error}") from error


def _with_checksum(skeleton: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """The tree with its checksum as one entry: safetensors writes several in no fixed order."""
    return json.dumps({"crc32": _checksum(skeleton, tensors), "tree": skeleton})


def _checksum(skeleton: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Covers the tree and all bytes of its tensors, which safetensors itself does not check."""
    found = crc32(skeleton.encode())
    for name in sorted(tensors):
        found = crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


class SafetensorsIO(CheckpointIO):
    """Makes the trainer write and read its checkpoints in this format."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_tree(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load_tree(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
