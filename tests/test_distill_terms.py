"""Terms of teaching methods that compare student and teacher, against values worked out by hand or with numpy."""

from math import log

import numpy as np
import pytest
import torch
from teaching_batches import UNKNOWN, given_batch, known
from torch import Tensor, nn

from rtseg.training.distill.ab import AbConfig
from rtseg.training.distill.at import AtConfig
from rtseg.training.distill.cc import CcConfig
from rtseg.training.distill.cwd import CwdConfig
from rtseg.training.distill.features import FeatureTeaching
from rtseg.training.distill.fitnet import FitNetConfig
from rtseg.training.distill.fsp import FspTeaching, flow
from rtseg.training.distill.ft import factor_distance
from rtseg.training.distill.ifvd import IfvdConfig
from rtseg.training.distill.logits import LogitTeaching
from rtseg.training.distill.mimic import MimicTeaching
from rtseg.training.distill.nst import NstConfig
from rtseg.training.distill.pairs import Pair, PairConfig, class_means, pooled, to_smaller
from rtseg.training.distill.pkt import PktConfig
from rtseg.training.distill.rkd import RkdConfig
from rtseg.training.distill.sp import SpConfig
from rtseg.training.distill.vid import Gaussian

pytestmark = pytest.mark.slow


def row(*values: float, channels: int = 1) -> Tensor:
    """Features of one picture of one row: (1, channels, 1, ·), the values channel by channel."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, channels, 1, -1)


def term(config: PairConfig, ours: Tensor, theirs: Tensor, labels: Tensor | None = None, classes: int = 3) -> float:
    labels = known(len(ours), *ours.shape[-2:]) if labels is None else labels
    return float(config.compare(ours, theirs, given_batch(torch.zeros(len(ours), classes, *ours.shape[-2:]), labels)))


def same_as_it_came(adapter: nn.Module) -> None:
    """Makes a 1x1 convolution the identity."""
    nn.init.dirac_(adapter.weight)  # type: ignore[arg-type]
    nn.init.zeros_(adapter.bias)  # type: ignore[arg-type]


def softmax(values: np.ndarray, axis: int) -> np.ndarray:
    raised = np.exp(values - values.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


def unit(values: np.ndarray, axis: int = 1) -> np.ndarray:
    return values / np.linalg.norm(values, axis=axis, keepdims=True)


@pytest.fixture
def two() -> tuple[Tensor, Tensor]:
    """Random features of two pictures, 5 and 7 channels of 3x4."""
    torch.manual_seed(1)
    return torch.rand(2, 5, 3, 4) + 0.1, torch.rand(2, 7, 3, 4) + 0.1


def places(x: Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).double().numpy()


def test_logits_by_hand() -> None:
    """Teacher 3/4 and 1/4, student 1/2 each; at T = 2 the teacher's odds of 9 become 3."""
    said, taught = torch.zeros(1, 2, 1, 1), torch.tensor([log(9.0), 0.0]).reshape(1, 2, 1, 1)
    batch = given_batch(said, known(1, 1, 1), [(taught, {})])
    kl = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    assert float(LogitTeaching(2.0)(batch)) == pytest.approx(4 * kl, rel=1e-5)


def test_mimic_by_hand() -> None:
    """An offset shared by all classes does not count: (1, 3) and (7, 9) are equal, (0, 0) is 1 off in each class."""
    taught = torch.tensor([7.0, 9.0]).reshape(1, 2, 1, 1)
    for said, expected in (((1.0, 3.0), 0.0), ((0.0, 0.0), 0.5), ((5.0, 3.0), 2.0)):
        batch = given_batch(torch.tensor(said).reshape(1, 2, 1, 1), known(1, 1, 1), [(taught, {})])
        assert float(MimicTeaching(4, 0, 2)(batch)) == pytest.approx(expected)


def test_the_linear_bottleneck_learns_in_the_place_of_the_logits() -> None:
    teaching = MimicTeaching(4, 1, 2)
    assert teaching.linear is not None
    assert [tuple(layer.weight.shape[:2]) for layer in teaching.linear] == [(1, 4), (2, 1)]
    logits, last = torch.zeros(1, 2, 1, 1, requires_grad=True), torch.ones(1, 4, 1, 1, requires_grad=True)
    batch = given_batch(logits, known(1, 1, 1), [(torch.tensor([7.0, 9.0]).reshape(1, 2, 1, 1), {})], last=last)
    teaching(batch).backward()
    assert logits.grad is None
    assert last.grad is not None


def test_features_by_hand() -> None:
    """The same logits; features at 45° to one teacher's and as another's, where only the first pixel is labelled."""
    teaching = FeatureTeaching(2.0, 2, [2, 2])
    for adapter in teaching.adapters:
        same_as_it_came(adapter)
    logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, UNKNOWN]]])
    seen = [(logits, {"last": row(2, 0, 2, 9, channels=2)}), (logits, {"last": row(5, 0, 0, 9, channels=2)})]
    batch = given_batch(logits, labels, seen, last=row(1, 7, 0, 7, channels=2))
    assert float(teaching(batch)) == pytest.approx((1 - 0.5**0.5) / 2, rel=1e-5)


def test_fitnet_by_hand() -> None:
    """½ (2² + 0²)/2 in one pixel, 0 in the other."""
    assert term(FitNetConfig(), row(1, 5, 2, 5, channels=2), row(3, 5, 2, 5, channels=2)) == pytest.approx(0.5)


def test_attention_by_hand() -> None:
    """Strong in different places: two unit vectors at a right angle; scale and channels do not count."""
    one, other = row(2.0, 0.0), row(0.0, 3.0, 0.0, 1.0, channels=2)
    assert term(AtConfig(), one, other) == pytest.approx(2**0.5, abs=1e-4)
    assert term(AtConfig(), one, row(5.0, 0.0)) == pytest.approx(0, abs=1e-4)
    maps = np.array([[3.0, 4.0], [4.0, 3.0]]) / 5  # p = 1
    expected = np.linalg.norm(maps[0] - maps[1])
    assert term(AtConfig(power=1.0), row(3.0, -4.0), row(4.0, 3.0)) == pytest.approx(expected, abs=1e-4)


def test_channel_wise_against_numpy(two: tuple[Tensor, Tensor]) -> None:
    ours, theirs = two[0], two[1][:, :5] * 3
    p, q = (softmax(x.double().numpy().reshape(2, 5, 12) / 4, 2) for x in (theirs, ours))
    expected = 16 * (p * np.log(p / q)).sum(2).mean()
    assert term(CwdConfig(temperature=4.0), ours, theirs) == pytest.approx(expected, rel=1e-4)


def test_activation_boundaries_by_hand() -> None:
    """Margin 1. Active and 3: nothing; active and 0.5: 0.5²; inactive and 0.5: 1.5²; inactive and -2: nothing."""
    theirs, ours = row(4.0, 0.1, 0.0, -1.0), row(3.0, 0.5, 0.5, -2.0)
    assert term(AbConfig(), ours, theirs) == pytest.approx((0.25 + 2.25) / 4)


def test_similarity_against_numpy(two: tuple[Tensor, Tensor]) -> None:
    a, b = (unit(places(x) @ places(x).T) for x in two)
    assert term(SpConfig(), *two) == pytest.approx(((a - b) ** 2).sum() / 24, rel=1e-4)


def test_correlation_by_hand_and_against_numpy(two: tuple[Tensor, Tensor]) -> None:
    """Two classes at a right angle for the student, in one direction for the teacher: with gamma 0.5 and order 1 the
    kernel is (1 + cos)/e, and two of four entries differ by 1/e.
    """
    labels = torch.tensor([[[0, 1]]])
    one, other = row(1, 0, 0, 1, channels=2), row(1, 3)
    expected = 2 / 4 * np.exp(-2)
    assert term(CcConfig(gamma=0.5, order=1), one, other, labels) == pytest.approx(expected, rel=1e-4)
    labels = torch.arange(4).expand(2, 3, 4).clone()
    labels[0][labels[0] == 3] = UNKNOWN
    kernels = []
    for x in two:
        centres = [
            x.numpy()[n][:, labels[n].numpy() == c].mean(1)
            for n in range(2)
            for c in range(4)
            if (labels[n] == c).any()
        ]
        cosine = unit(np.stack(centres)) @ unit(np.stack(centres)).T
        kernels.append(np.exp(-0.8) * (1 + 0.8 * cosine + 0.32 * cosine**2))
    assert len(kernels[0]) == 7
    expected = ((kernels[0] - kernels[1]) ** 2).mean()
    assert term(CcConfig(), *two, labels, classes=4) == pytest.approx(expected, rel=1e-3)


def test_relations_against_numpy(two: tuple[Tensor, Tensor]) -> None:
    distances, angles = [], []
    for x in two:
        f = places(x)
        apart = np.linalg.norm(f[:, None] - f, axis=2)
        distances.append(apart / apart[~np.eye(24, dtype=bool)].mean())
        angles.append([
            float(unit(f[i] - f[j], 0) @ unit(f[k] - f[j], 0))
            for j in range(24) for i in range(24) for k in range(24) if len({i, j, k}) == 3
        ])  # fmt: skip

    def huber(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        gap = np.abs(one - other)
        return np.where(gap < 1, 0.5 * gap**2, gap - 0.5)

    far = huber(*distances)[~np.eye(24, dtype=bool)].mean()
    turned = huber(*map(np.array, angles)).mean()
    assert term(RkdConfig(angles=3.0), *two) == pytest.approx(far + 3 * turned, rel=1e-3)
    assert term(RkdConfig(), two[0], 5 * two[0] + 1) == pytest.approx(0, abs=1e-6)  # neither scale nor place count


def test_neighbours_against_numpy(two: tuple[Tensor, Tensor]) -> None:
    chances = []
    for x in two:
        kernel = (1 + unit(places(x)) @ unit(places(x)).T) / 2
        np.fill_diagonal(kernel, 0)
        chances.append(kernel / kernel.sum(1, keepdims=True))
    off = ~np.eye(24, dtype=bool)
    expected = (chances[1][off] * np.log(chances[1][off] / chances[0][off])).sum() / 24
    assert term(PktConfig(), *two) == pytest.approx(expected, rel=1e-3)


def test_selectivity_against_numpy(two: tuple[Tensor, Tensor]) -> None:
    def kernel(one: np.ndarray, other: np.ndarray) -> float:
        return float(((one @ other.T) ** 2).mean())

    found = []
    for n in range(2):
        s, t = (unit(x[n].double().numpy().reshape(x.shape[1], -1)) for x in two)
        found.append(kernel(t, t) + kernel(s, s) - 2 * kernel(t, s))
    assert term(NstConfig(), *two) == pytest.approx(np.mean(found), rel=1e-3)


def test_variation_within_classes_by_hand() -> None:
    """One class whose centre is (½, ½): both pixels at 45° for the student; all the same for the teacher."""
    close = term(IfvdConfig(), row(1, 0, 0, 1, channels=2), row(2, 2))
    assert close == pytest.approx((1 - 0.5**0.5) ** 2, rel=1e-5)
    apart = torch.tensor([[[0, 1]]])  # each pixel is the centre of its own class
    assert term(IfvdConfig(), row(1, 0, 0, 1, channels=2), row(2, 2), apart) == pytest.approx(0, abs=1e-6)


def test_flow_against_numpy(two: tuple[Tensor, Tensor]) -> None:
    one, other = two
    batch = given_batch(torch.zeros(2, 3, 3, 4), known(2, 3, 4))
    expected = np.einsum("nchw,ndhw->ncd", one.numpy(), other.numpy()) / 12
    np.testing.assert_allclose(flow(one, other, batch).numpy(), expected, rtol=1e-5)


def test_flows_by_hand() -> None:
    """(1·2 + 3·0)/2 for the student, (1·4 + 1·2)/2 for the teacher: 1 and 3."""
    teaching = FspTeaching([[Pair("early", "early", 1, 1), Pair("late", "late", 1, 1)]])
    for adapter in teaching.adapters:
        same_as_it_came(adapter)
    logits = torch.zeros(1, 2, 1, 2)
    seen = [(logits, {"early": row(1, 1), "late": row(4, 2)})]
    batch = given_batch(logits, known(1, 1, 2), seen, early=row(1, 3), late=row(2, 0))
    assert float(teaching(batch)) == pytest.approx((1 - 3) ** 2)


def test_variational_by_hand() -> None:
    """½ log 5 + 2²/10 where the mean is 2 off, with the variance of 5 that it starts from."""
    layer = Gaussian(1, 1)
    layer.mean = nn.Identity()  # type: ignore[assignment]
    found = layer(row(3.0, 1.0), row(1.0, 1.0))
    assert found[0, 0].tolist() == pytest.approx([0.5 * log(5) + 0.4, 0.5 * log(5)], rel=1e-5)


def test_factors_by_hand() -> None:
    """(3, 4) and (4, 3) over 5 differ by 1/5 in both."""
    assert factor_distance(row(3, 4, channels=2), row(40, 30, channels=2)).item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    "config",
    [AtConfig(), CwdConfig(), SpConfig(), CcConfig(), RkdConfig(), PktConfig(), NstConfig(), IfvdConfig(),
     FitNetConfig()],
)  # fmt: skip
def test_copies_and_padding_teach_nothing(config: PairConfig, two: tuple[Tensor, Tensor]) -> None:
    x = two[0]
    assert term(config, x, x.clone()) == pytest.approx(0, abs=1e-5)
    labels = known(2, 3, 4)
    labels[:, :, 2:] = UNKNOWN
    changed = x.clone()
    changed[..., 2:] += 3
    assert term(config, x, changed, labels) == pytest.approx(0, abs=1e-5)
    assert term(config, x, x.flip(3), torch.full_like(labels, UNKNOWN)) == pytest.approx(0, abs=1e-5)
    moved = (x * torch.rand(1, 5, 3, 4)).requires_grad_()
    value = config.compare(moved, x, given_batch(torch.zeros(2, 3, 3, 4), labels))
    value.backward()
    assert value > 0
    assert moved.grad is not None
    assert moved.grad.isfinite().all()
    assert not moved.grad[..., 2:].any()


def test_places_are_the_cells_of_the_finest_grid_that_is_small_enough() -> None:
    x = torch.arange(32.0).reshape(2, 1, 4, 4)
    counted = torch.ones(2, 4, 4, dtype=torch.bool)
    counted[0, :2, :2] = False
    counted[0, 2, 2] = False
    means, there = pooled(x, counted, 8)
    assert there.tolist() == [False] + [True] * 7
    assert means[1:, 0].tolist() == pytest.approx([4.5, 10.5, (11 + 14 + 15) / 3, 18.5, 20.5, 26.5, 28.5])
    assert pooled(x, counted, 32)[0].shape == (32, 1)
    assert pooled(x, counted, 1)[0].shape == (2, 1)


def test_maps_meet_at_the_smaller_size() -> None:
    one, other = to_smaller(torch.arange(8.0).reshape(1, 1, 2, 4), torch.ones(1, 3, 4, 2))
    assert one[0, 0].tolist() == [[0.5, 2.5], [4.5, 6.5]]
    assert other.shape == (1, 3, 2, 2)


def test_class_centres() -> None:
    x = torch.tensor([1.0, 3.0, 10.0, 7.0]).reshape(1, 1, 1, 4)
    means, count = class_means(x, torch.tensor([[[0, 0, 2, UNKNOWN]]]), 3)
    assert means[0, :, 0].tolist() == [2, 0, 10]
    assert count[0].tolist() == [2, 0, 1]
