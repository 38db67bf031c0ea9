"""`rtseg prune`: removes channels from a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from rtseg.apps._console import plain_console
from rtseg.apps._idle import refuse_idle
from rtseg.core.errors import UsageError
from rtseg.core.zoo import BEST, BEST_CARD

if TYPE_CHECKING:
    from rtseg.training.pruning.folder import Row


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """What `rtseg prune` takes.

    Attributes:
        model: A network that ships, or the path of an ONNX file, of a run's best.safetensors, or of the card of either.
        method: How channels are chosen: l1, l2, bn or random; list describes them.
        keep: Share of the channels to keep in each layer, above 0 and up to 1. From 8 channels on it is rounded to a
            multiple of 8, the group that CPUs process together.
        macs: Instead of --keep: share of the multiply-accumulates to keep; the share of channels follows from it.
        per: layer keeps the same share in each layer; global keeps the best channels of all layers, and at least a
            tenth of each.
        output: Folder for best.safetensors and best.json, for rtseg train --init and rtseg export --checkpoint.
        seed: Seed of the method random.
        report: Prunes nothing: compares the figures of several runs, given by their folders (the whole network, the
            fine-tuned one, the same from scratch).
    """

    model: str | None = None
    method: str = "l1"
    keep: float | None = None
    macs: float | None = None
    per: Literal["layer", "global"] = "layer"
    output: Path | None = None
    seed: int = 0
    report: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative="")] = ()


def command(options: PruneOptions | None = None) -> None:
    """Remove channels from a network: this leaves a smaller dense one, to be fine-tuned and exported like any other."""
    options = options or PruneOptions()
    console = plain_console()
    if options.method == "list":
        for line in methods():
            console.print(line)
    elif options.report:
        report(options.report, console)
    else:
        prune(options, console)


def methods() -> list[str]:
    """One line per method."""
    from rtseg.training.pruning import METHODS

    docs = {name: METHODS.get(name).__doc__ or "" for name in METHODS}
    return [f"{name:8}{doc.splitlines()[0]}" for name, doc in docs.items()]


def prune(options: PruneOptions, console: Console) -> None:
    """Prunes, writes the network and prints what is left.

    Raises:
        UsageError: an option is missing or has a value that is not allowed.
        WeightsError: the network's file is missing or damaged.
        OutputError: the folder cannot be written.
    """
    output = check(options)
    from rtseg.apps._overwrite import check_outputs
    from rtseg.models.base import count_inference_parameters, count_macs
    from rtseg.training.origin import find_origin
    from rtseg.training.pruning.folder import write_pruned
    from rtseg.training.pruning.prune import PAPER_SIZE, cut, kept_units, rank, share_for_macs

    origin = find_origin(file_of(str(options.model)))
    check_outputs({}, {"the network to prune": origin.paths}, [("--output", output / f) for f in (BEST, BEST_CARD)])
    network = origin.network()
    chosen = rank(network, options.method, options.seed)
    whole = count_macs(network, PAPER_SIZE)
    keep = options.keep
    if keep is None:
        assert options.macs is not None
        keep = share_for_macs(
            lambda share: cut(network, chosen, kept_units(chosen, share, options.per)), whole, options.macs
        )
    smaller = cut(network, chosen, kept_units(chosen, keep, options.per))
    how = {"method": options.method, "keep": round(keep, 4), "per": options.per, "seed": options.seed}
    write_pruned(smaller, origin, how, output)
    left, weights = count_macs(smaller, PAPER_SIZE), count_inference_parameters(network)
    weights_left = count_inference_parameters(smaller)
    console.print(
        f"{options.method}: {keep:.1%} of the channels of {'each layer' if options.per == 'layer' else 'all layers'}\n"
        f"MACs at 1024x2048  {whole / 1e9:.2f} G -> {left / 1e9:.2f} G ({left / whole:.0%})\n"
        f"parameters         {weights / 1e6:.3f} M -> {weights_left / 1e6:.3f} M ({weights_left / weights:.0%})\n"
        f"{output / BEST} needs training before you use it:\n"
        f"rtseg train --model {origin.model} --init {output / BEST} --output RUN"
    )


def check(options: PruneOptions) -> Path:
    """Checks the options and returns the output folder; raises UsageError."""
    from rtseg.training.pruning import METHODS

    if options.model is None:
        raise UsageError("--model is not given: a network that ships, or a path of an ONNX file or best.safetensors")
    METHODS.check(options.method)
    if options.method != "random":
        refuse_idle(options, ("seed",), "is for the method random: add --method random")
    if (options.keep is None) == (options.macs is None):
        raise UsageError("give either --keep, the share of channels to keep, or --macs, the share of the arithmetic")
    for name, share in (("keep", options.keep), ("macs", options.macs)):
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"--{name} is {share:g}: allowed is above 0 and up to 1, which removes nothing")
    if options.output is None:
        raise UsageError("--output is not given: the folder for the pruned network")
    return options.output


def file_of(model: str) -> str:
    """For a card, the path of the weights beside it; any other path unchanged."""
    from rtseg.core.paths import user_path

    if not model.endswith(".json"):
        return model
    found = [path for s in (".safetensors", ".onnx") if (path := user_path(model).with_suffix(s)).is_file()]
    if not found:
        raise UsageError(f"--model {model} is a card without its weights beside it: give the ONNX file, or the "
                         "best.safetensors of a run")  # fmt: skip
    return str(found[0])


def report(folders: tuple[Path, ...], console: Console) -> None:
    """Compares runs side by side; raises WeightsError if a folder has no card."""
    from rtseg.training.pruning.folder import missing, read_row

    rows = [read_row(folder) for folder in folders]
    console.print(table(rows))
    for line in missing(rows):
        console.print(line)
    if len({row.data for row in rows if row.epochs}) > 1:
        console.print("these runs were not trained on the same pictures: their figures cannot be compared")


def table(rows: list["Row"]) -> Table:
    """One row per folder."""
    splits = list(dict.fromkeys(split for row in rows for split in row.miou))
    heads: list[Column | str] = [
        Column("run", overflow="fold"),
        "what",
        "params",
        "GMAC\n1024x2048",
        "epochs",
        "trained on",
    ]
    made = Table(*heads, *(f"mIoU\n{split}" for split in splits), box=SIMPLE, collapse_padding=True, pad_edge=False)
    for row in rows:
        scores = [f"{row.miou[split]:.4f}" if split in row.miou else "-" for split in splits]
        made.add_row(str(row.folder), row.what, f"{row.parameters / 1e6:.3f} M", f"{row.gmac:.2f}", str(row.epochs),
                     row.data if row.epochs else "-", *scores)  # fmt: skip
    return made
