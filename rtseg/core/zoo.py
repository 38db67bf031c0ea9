"""Finds networks, those that ship and your own, and checks that a file matches its card."""

from dataclasses import dataclass
from pathlib import Path

from rtseg.core.card import Card, CardFile
from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.files import file_sha256
from rtseg.core.paths import user_path
from rtseg.core.registry import unknown_name

BEST, BEST_CARD = "best.safetensors", "best.json"  # what training leaves in the folder of a run
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Artifact:
    """A card and the folder with its files.

    Attributes:
        card_path: the file that the card was read from; None: NAME.json in the folder.
    """

    card: Card
    folder: Path
    card_path: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """The card's file and every file that it names."""
        of_exits = [entry for exit in self.card.exits for entry in exit.files.values()]
        return [self._card_file, *(self.folder / entry.file for entry in (*self.card.files.values(), *of_exits))]

    @property
    def _card_file(self) -> Path:
        return self.card_path or self.folder / f"{self.card.name}.json"

    def save_card(self, card: Card) -> None:
        """Writes a changed card back to its file; raises OutputError."""
        card.save(self._card_file)

    def file(self, precision: str) -> Path:
        """The checked ONNX file for a precision.

        Raises:
            UsageError: this network has no file in that precision.
            WeightsError: the file is missing or cut short, or its hash differs from the card's.
        """
        return self._checked(self.card.files, precision)

    def chain(self, precision: str) -> list[Path]:
        """The checked ONNX files of a network with exits, one for each exit.

        Raises:
            UsageError: this network has no exits, or none in that precision.
            WeightsError: a file is missing or cut short, or its hash differs from the card's.
        """
        if not self.card.exits:
            raise UsageError(f"{self.card.name} has no early exits: train it with --set exits=2")
        return [self._checked(exit.files, precision, f" for its exit {exit.name}") for exit in self.card.exits]

    def _checked(self, files: dict[str, CardFile], precision: str, of: str = "") -> Path:
        entry = files.get(precision)
        if entry is None:
            raise UsageError(f"{self.card.name} has no {precision} file{of}; it has: {', '.join(files)}")
        path = self.folder / entry.file
        if not path.is_file():
            raise WeightsError(f"{path} is missing: install again, or export the network again")
        size = path.stat().st_size
        if size != entry.bytes:
            raise WeightsError(f"{path} has {size} bytes but its card says {entry.bytes}: fetch the file again")
        digest = file_sha256(path)
        if digest != entry.sha256:
            raise WeightsError(
                f"{path} has sha256 {digest[:12]}… but its card says {entry.sha256[:12]}…: fetch the file again"
            )
        return path


def weights_folder() -> Path:
    """`rtseg/weights` in an installed wheel; in a checkout, `weights` beside the package."""
    installed = _PACKAGE / "weights"
    return installed if installed.is_dir() else _PACKAGE.parent / "weights"


def shipped() -> dict[str, Path]:
    """Name -> card of every network that ships."""
    return {card.stem: card for card in sorted(weights_folder().glob("*.json"))}


def models() -> dict[str, Card]:
    """Name -> card of every network that ships: classes, figures, files, and what it was trained on.

    Raises:
        WeightsError: a card is damaged.

    Example:
        >>> {name: card.parameters for name, card in rtseg.models().items()}
    """
    return {name: Card.load(path) for name, path in shipped().items()}


def resolve(model: str | Path | Artifact) -> Artifact:
    """Finds a network by name (`icnet`) or by the path of your own ONNX file (`my/net.onnx`).

    An `Artifact` is returned unchanged.

    Raises:
        UsageError: no such name, or the path is the output of a training run.
        WeightsError: the file or its card is missing or damaged.
    """
    if isinstance(model, Artifact):
        return model
    if not isinstance(model, str | Path):
        raise UsageError(f"a model is a name such as 'icnet' or the path of an ONNX file, not {model!r}")
    model = str(model)
    if model.endswith(".onnx"):
        path = user_path(model)
        if not path.is_file():
            raise WeightsError(f"no such file: {path}")
        card = Card.load(path.with_suffix(".json"))
        if path.name not in {entry.file for entry in card.files.values()}:
            raise WeightsError(f"the card {path.with_suffix('.json')} does not name {path.name}")
        return Artifact(card, path.parent, path.with_suffix(".json"))
    cards = shipped()
    if not cards:
        raise WeightsError(f"no weights found in {weights_folder()}: install rtseg again")
    if model not in cards:
        run = Path(model).parent if model.endswith((".safetensors", ".ckpt")) else Path(model)
        if run != Path(model) or (run / BEST).is_file():
            raise UsageError(f"{model} is the output of training: export it first, rtseg export --checkpoint "
                             f"{run / BEST}, then give the ONNX file")  # fmt: skip
        error = unknown_name("model", model, list(cards))
        raise UsageError(f"{error}; or give the path of an ONNX file with its card beside it")
    return Artifact(Card.load(cards[model]), cards[model].parent)
