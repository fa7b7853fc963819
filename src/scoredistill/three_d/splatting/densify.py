r"""More Gaussians where they are pulled most: adaptive density control, Kerbl et al. 2023, section 5.

    slopes = Slopes(splats)
    for step in ...:
        loss.backward();  slopes.observe();  optimizer.step()
        if step % 100 == 99:
            Densify()(splats, optimizer, slopes.mean(), rng);  slopes = Slopes(splats)

A Gaussian with a large gradient by its mean is cloned if it is small (too little is there) and split into two of 1/1.6
of its width, drawn from itself, if it is large (one is too much). Transparent ones are taken away. The paper's
gradients are those by positions in the image; here they are by positions in the world, over all views of a step.

Two copies in one place would hide more than one. With `revise` both get opacity 1 - sqrt(1 - o), so that they hide the
same where they coincide (Rota Bulo et al. 2024, https://arxiv.org/abs/2404.06109).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from scoredistill.rng import draw_noise
from scoredistill.three_d.splatting.gaussians import Gaussians

NAMES = tuple(Gaussians.__dataclass_fields__)
SHRINK = 1.6


class Slopes:
    """Collects lengths of the gradients by the means, where they are not 0.

    Args:
        splats: a module with the parameters of `Gaussians`.
    """

    def __init__(self, splats: nn.Module):
        self.splats = splats
        means = splats.get_parameter("means")
        self.total = torch.zeros(len(means), device=means.device)
        self.count = torch.zeros_like(self.total)

    def observe(self) -> None:
        """Take in the gradients of a backward pass."""
        grad = self.splats.get_parameter("means").grad
        if grad is not None:
            length = grad.detach().norm(dim=1)
            self.total += length
            self.count += length > 0

    def mean(self) -> Float[Tensor, " g"]:
        """Mean length over the passes in which a Gaussian was seen; 0 for one never seen."""
        return self.total / self.count.clamp(min=1)


@dataclass(frozen=True)
class Changes:
    """How many Gaussians were cloned, split (into two) and pruned, and how many there are now."""

    cloned: int
    split: int
    pruned: int
    total: int


@dataclass(frozen=True)
class Densify:
    """Clone, split and prune.

    Args:
        gradient: mean length of the gradient, per unit of length, from which Gaussians grow. It depends on the loss;
            0 with a small `share` takes those that are pulled most, whatever the loss.
        share: at most this part of the Gaussians grows at once, those with the largest gradients.
        width: largest standard deviation of what is cloned; wider ones are split.
        opacity: Gaussians below it are pruned.
        widest: Gaussians wider than this are pruned.
        most: the number is not increased beyond it.
        revise: correct opacities of copies, see above.

    Raises:
        ValueError: for numbers out of range.
    """

    gradient: float = 2e-4
    share: float = 1.0
    width: float = 0.03
    opacity: float = 0.005
    widest: float = math.inf
    most: int = 20_000
    revise: bool = True

    def __post_init__(self) -> None:
        if not (self.gradient >= 0 and 0 < self.share <= 1 and 0 < self.width <= self.widest):
            raise ValueError("densifying needs gradient >= 0, share in (0, 1] and 0 < width <= widest")
        if not (0 <= self.opacity < 1 and self.most >= 1):
            raise ValueError("densifying needs opacity in [0, 1) and most of at least 1")

    @torch.no_grad()
    def __call__(
        self,
        splats: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        slopes: Float[Tensor, " g"],
        rng: torch.Generator | None = None,
    ) -> Changes:
        """Replace the parameters of `splats`, in the optimizer as well; kept rows keep their moments, new have none.

        Kept rows come first, in order, then clones, then pairs of halves. Groups of the optimizer may hold several of
        the parameters. References to the old parameters held elsewhere are stale afterwards.

        Raises:
            RuntimeError: nothing would be left.
        """
        old = Gaussians(*(splats.get_parameter(name).detach() for name in NAMES))
        width = old.scales.exp().amax(1)
        pruned = (old.opacities.sigmoid() < self.opacity) | (width > self.widest)
        if bool(pruned.all()):
            raise RuntimeError("no Gaussian is opaque enough to stay: lower `opacity`, or look why all have vanished")
        grown = self._growing(slopes, pruned)
        cloned, split = grown & (width <= self.width), grown & (width > self.width)
        rows = {name: getattr(old, name).clone() for name in NAMES}
        if self.revise:
            rows["opacities"][grown] = _halved(rows["opacities"][grown])
        twice = split.nonzero()[:, 0].repeat_interleave(2)
        made = {name: torch.cat([values[cloned], values[twice]]) for name, values in rows.items()}
        count = int(cloned.sum())
        eps = draw_noise(made["means"][count:], rng)
        made["means"][count:] += (old.roots()[twice] @ eps[..., None])[..., 0]
        made["scales"][count:] -= math.log(SHRINK)
        kept = ~pruned & ~split
        for name in NAMES:
            _replace(splats, optimizer, name, rows[name], kept, made[name])
        total = len(splats.get_parameter("means"))
        return Changes(count, int(split.sum()), int(pruned.sum()), total)

    def _growing(self, slopes: Tensor, pruned: Tensor) -> Tensor:
        """Which Gaussians grow: the most pulled ones, as many as may."""
        slopes = torch.where(pruned, torch.zeros_like(slopes), slopes)
        room = self.most - int((~pruned).sum())
        count = max(0, min(math.floor(self.share * len(slopes)), room))
        first = torch.zeros_like(pruned)
        first[slopes.topk(count).indices] = True
        return first & (slopes > self.gradient) & ~pruned


def _halved(logits: Tensor) -> Tensor:
    """Logits of 1 - sqrt(1 - o): log((1 - r) / r) with r = sqrt(1 - o)."""
    half = 0.5 * logsigmoid(-logits)
    return (-torch.expm1(half)).clamp(min=1e-12).log() - half


def _replace(
    splats: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    name: str,
    rows: Tensor,
    kept: Tensor,
    made: Tensor,
) -> None:
    before = splats.get_parameter(name)
    after = nn.Parameter(torch.cat([rows[kept], made]), requires_grad=before.requires_grad)
    setattr(splats, name, after)
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [after if p is before else p for p in group["params"]]
    state = optimizer.state.pop(before, None)
    if state:
        optimizer.state[after] = {
            key: torch.cat([v[kept], torch.zeros_like(made)]) if torch.is_tensor(v) and v.shape == before.shape else v
            for key, v in state.items()
        }
