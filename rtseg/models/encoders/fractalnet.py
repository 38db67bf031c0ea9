"""FractalNet (Larsson et al. 2017, "FractalNet: Ultra-Deep Neural Networks without Residuals", ICLR, arXiv
1605.07648).

    f_1(z) = conv(z),   f_(C+1)(z) = join(conv(z), f_C(f_C(z))),   join = mean

A block of C columns is 2^(C-1) convolutions deep, of which column c passes 2^c. Between blocks is a 2x2 maximum.

Drop-path chooses between two forms for each training batch, with equal probability. Local: every join drops each of its
inputs with probability `drop_path`, but keeps at least one. Global: the joins let only one column through, the same in
all blocks.

`column` builds one column alone, which needs 1 / (2^C - 1) to about half of the arithmetic. `--init` takes its weights
from a network with all columns.

Deviations: the paper's form for ImageNet (ResNet-34's first layers, then four blocks), with blocks dilated instead of
pooled once the output stride is reached; no dropout. Dropped inputs are computed and multiplied by 0, so that the graph
never changes. The paper's table 1 gives 38.6 million parameters for its 20 layers on CIFAR, but the widths in its text
yield 33.8; those of its table 3 agree.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import initialise
from rtseg.models.blocks import ConvNormAct, scaled
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.pooling import halve
from rtseg.models.encoders.settings import read_settings
from rtseg.models.encoders.staged import Staged

CHANNELS = (128, 256, 512, 1024)


@dataclass(frozen=True)
class FractalNetSettings:
    """FractalNet's own fields.

    Attributes:
        columns: of each block, 1 to 6.
        column: the only one to build, from 1 (one convolution deep) to `columns`; None builds all.
        drop_path: share of inputs that joins drop in local drop-path; 0 turns drop-path off.
    """

    columns: int = 4
    column: int | None = None
    drop_path: float = 0.15

    def __post_init__(self) -> None:
        if type(self.columns) is not int or not 1 <= self.columns <= 6:
            raise UsageError(f"columns is {self.columns!r}: allowed is 1 to 6")
        if self.column is not None and (type(self.column) is not int or not 1 <= self.column <= self.columns):
            raise UsageError(f"column is {self.column!r}: allowed is 1 to {self.columns}, or to leave it out")
        if not 0 <= self.drop_path < 1:
            raise UsageError(f"drop_path is {self.drop_path!r}: allowed is 0 to below 1")


class DropPath:
    """How the joins of a network weight their inputs: equally, or as drawn for a batch.

    Args:
        columns: of the blocks.
        drop: share of inputs that local drop-path drops.
    """

    def __init__(self, columns: int, drop: float) -> None:
        self.columns, self.drop = columns, drop
        self.column, self.globally = torch.zeros(()), torch.zeros((), dtype=torch.bool)

    def draw(self, device: torch.device) -> None:
        """Draws local or global drop-path for the next batch, and the column of the global form."""
        self.column = torch.randint(self.columns, (), device=device)
        self.globally = torch.rand((), device=device) < 0.5

    def shares(self, count: int) -> Tensor:
        """(count,): weights of a join's inputs, which are the last `count` columns; they sum to 1."""
        device, places = self.column.device, torch.arange(count, device=self.column.device)
        # joins deeper than the chosen column do not affect it, so they may let anything through
        through = places == self.column - (self.columns - count)
        kept = torch.where(self.globally, through, torch.rand(count, device=device) >= self.drop)
        one = places == torch.randint(count, (), device=device)
        kept = torch.where(kept.any(), kept, one).float()
        return kept / kept.sum()

    def join(self, ends: list[Tensor], training: bool) -> Tensor:
        """The mean of `ends`; in training, of those that are not dropped."""
        if len(ends) == 1:
            return ends[0]
        stacked = torch.stack(ends)
        if not training or self.drop == 0:
            return stacked.mean(0)
        return torch.einsum("k,k...->...", self.shares(len(ends)), stacked)


class Fractal(nn.Module):
    """f_C: `short` beside two fractals of C - 1 columns in sequence.

    Args:
        inputs: channels.
        outputs: channels.
        columns: C.
        column: the only one to build, counted from 1; None builds all.
        dilation: of every convolution.
        drop: shared by all blocks.
    """

    def __init__(
        self, inputs: int, outputs: int, columns: int, column: int | None, dilation: int, drop: DropPath
    ) -> None:
        super().__init__()
        self.drop = drop
        self.short = ConvNormAct(inputs, outputs, dilation=dilation) if column in (None, 1) else None
        self.deep = nn.ModuleList()
        if columns > 1 and column != 1:
            inner = None if column is None else column - 1
            self.deep.append(Fractal(inputs, outputs, columns - 1, inner, dilation, drop))
            self.deep.append(Fractal(outputs, outputs, columns - 1, inner, dilation, drop))

    def paths(self, x: Tensor) -> list[Tensor]:
        """Returns the output of each column, the shallowest first, before they are joined."""
        ends = [] if self.short is None else [self.short(x)]
        if self.deep:
            first, second = (cast(Fractal, half) for half in self.deep)
            ends += second.paths(first(x))
        return ends

    def forward(self, x: Tensor) -> Tensor:
        return self.drop.join(self.paths(x), self.training)


class FirstFractal(Fractal):
    """The network's first block, which draws what all blocks drop."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.drop.draw(x.device)
        return super().forward(x)


def fractalnet34(options: TrunkOptions) -> Staged:
    """FractalNet-34, with four columns."""
    settings = read_settings(FractalNetSettings, options)
    drop = DropPath(settings.columns, settings.drop_path)
    budget = StrideBudget(options.output_stride)
    budget.spend(2), budget.spend(2)  # stem and max pooling
    inputs = scaled(64, options.width)
    channels = [scaled(count, options.width) for count in CHANNELS]
    stages: list[list[nn.Module]] = [[ConvNormAct(3, inputs, 7, stride=2)]]
    for outputs in channels:
        first = len(stages) == 1
        pool, block = (nn.MaxPool2d(3, 2, 1), FirstFractal) if first else (halve(budget), Fractal)
        stages.append([pool, block(inputs, outputs, settings.columns, settings.column, budget.rate, drop)])
        inputs = outputs
    network = Staged(stages, channels)
    initialise(network)
    return network
