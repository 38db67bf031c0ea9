"""`rtseg models`: lists the networks that ship, from their cards; and the encoders to train networks with."""

import json as json_format
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.box import SIMPLE
from rich.table import Column, Table

from rtseg.apps._console import plain_console
from rtseg.core.card import Card
from rtseg.core.errors import WeightsError
from rtseg.core.zoo import resolve, shipped, weights_folder


def command(
    *, json: Annotated[bool, Parameter(negative="")] = False, encoders: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """List the networks that ship, with their figures.

    Args:
        json: Print their cards, or the encoders, as JSON instead of a table.
        encoders: List the encoders for `rtseg train --encoder` instead.
    """
    if encoders:
        list_encoders(json)
        return
    names = shipped()
    if not names:
        raise WeightsError(f"no weights found in {weights_folder()}: install rtseg again")
    cards = [resolve(name).card for name in names]
    if json:
        print(json_format.dumps([summary(card) for card in cards], indent=2))
        return
    console = plain_console()
    console.print(table(cards))
    for card in cards:
        console.print(f"{card.name}: {card.data_terms}", soft_wrap=False)


def summary(card: Card) -> dict[str, object]:
    """The card without what only the INT8 builder needs."""
    return {key: value for key, value in card.to_json().items() if key != "activation_ranges"}


def table(cards: list[Card]) -> Table:
    """One row per network; fits 80 columns, with the full name at any width."""
    rest = [Column(name, overflow="fold") for name in ("params", "GMAC\n1024x2048", "files, MiB", "mIoU", "engines")]
    made = Table(Column("model", no_wrap=True), *rest, box=SIMPLE, collapse_padding=True, pad_edge=False)
    for card in cards:
        files = [f"{precision} {file.bytes / 2**20:.1f}" for precision, file in card.files.items()]
        scores = [f"{split} {figures['miou']:.3f}" for split, figures in card.figures().items() if figures.get("miou")]
        made.add_row(
            card.name,
            f"{card.parameters / 1e6:.2f} M",
            f"{card.gmac_1024x2048:.1f}",
            "\n".join(files),
            "\n".join(scores) or "not measured",
            "\n".join(card.engine_order),
        )
    return made


def list_encoders(json: bool) -> None:
    """Prints the encoders and what each of them supports."""
    from rtseg.models.encoders.table import ROWS  # loads torch

    if json:
        rows = [{"name": name, **asdict(row), "settings": row.fields()} for name, row in ROWS.items()]
        print(json_format.dumps([{k: v for k, v in row.items() if k != "target"} for row in rows], indent=2))
        return
    rest = [Column(name, overflow="fold") for name in ("paper", "params", "strides", "ImageNet", "ICNet", "--set")]
    made = Table(Column("encoder", no_wrap=True), *rest, box=SIMPLE, collapse_padding=True, pad_edge=False)
    for name, row in ROWS.items():
        strides, icnet = " ".join(map(str, row.strides)), "yes" if row.cut else "no"
        figures = f"{row.millions:.2f} M"
        made.add_row(name, row.paper, figures, strides, row.imagenet or "-", icnet, " ".join(row.options()))
    console = plain_console()
    console.print(made)
    console.print("and timm:NAME for each encoder of timm that gives features at any size")
