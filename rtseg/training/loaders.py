"""The batches for each process of a run."""

from collections.abc import Sequence

import lightning as L
from torch import Tensor
from torch.utils.data import DataLoader

from rtseg.datasets import DataSet
from rtseg.training.data import training_loader
from rtseg.training.plan import TrainingPlan
from rtseg.training.unlabelled.views import UnlabelledViews


class Loaders(L.LightningDataModule):
    """Gives each process of a run its share of the batches and of the holdouts."""

    def __init__(self, plan: TrainingPlan) -> None:
        super().__init__()
        self.plan = plan
        self.unlabelled = None if plan.pool is None else UnlabelledViews(plan.config, plan.pool.paths)

    def state_dict(self) -> dict[str, int]:
        """For the checkpoint, which is written when an epoch is done; a resumed run takes it from the plan."""
        assert self.trainer is not None
        return {"epochs_done": self.trainer.current_epoch + 1}

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        assert self.trainer is not None
        plan = self.plan
        return training_loader(plan.config, plan.data, self.trainer.global_rank, self.unlabelled, plan.epochs_done)

    def val_dataloader(self) -> DataLoader[tuple[int, int]]:
        assert self.trainer is not None
        return holdout_loader(self.plan.holdouts, self.trainer.global_rank, self.trainer.world_size)


def holdout_loader(sets: Sequence[DataSet], rank: int = 0, world: int = 1) -> DataLoader[tuple[int, int]]:
    """(set, index) pairs, one at a time, split among the processes; the task reads the samples, which differ in size.

    All processes get equally many because they synchronise in every step: index -1 fills the gaps.
    """
    pairs = [(number, index) for number, data in enumerate(sets) for index in range(len(data))]
    pairs += [(0, -1)] * (-len(pairs) % world)
    return DataLoader(pairs[rank::world], batch_size=None)  # type: ignore[arg-type]
