r"""Adaptive density control of Gaussian splats (Kerbl et al. 2023, section 5): clone, split and prune.

    slopes = Slopes(splats)
    for step in ...:
        loss.backward();  slopes.observe();  optimizer.step()
        if step % 100 == 99:
            Densify()(splats, optimizer, slopes.mean(), rng);  slopes = Slopes(splats)

A Gaussian with a large gradient with respect to its mean is cloned if it is small (under-reconstruction). If it is
large (over-reconstruction), it is split into two of 1/1.6 of its width, whose means are drawn from it. Transparent
Gaussians are pruned. The paper uses gradients with respect to image positions; here they are with respect to world
positions, over all views of a step.

Two copies in one place are more opaque than one. With `revise`, both get the opacity 1 - sqrt(1 - o), so that together
they are as opaque as the original (Rota Bulo et al. 2024, https://arxiv.org/abs/2404.06109).
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
SHRINK = 1.6  # factor by which the halves of a split Gaussian are narrower


class Slopes:
    """Running mean of the gradient norms of the means, over the steps in which they are not 0.

    Args:
        splats: a module with the parameters of `Gaussians`.
    """

    def __init__(self, splats: nn.Module):
        self.splats = splats
        means = splats.get_parameter("means")
        self.total = torch.zeros(len(means), device=means.device)
        self.count = torch.zeros_like(self.total)

    def observe(self) -> None:
        """Accumulate the gradients of a backward pass."""
        grad = self.splats.get_parameter("means").grad
        if grad is not None:
            length = grad.detach().norm(dim=1)
            self.total += length
            self.count += length > 0

    def mean(self) -> Float[Tensor, " g"]:
        """Mean gradient norm over the passes in which a Gaussian was visible; 0 if it never was."""
        return self.total / self.count.clamp(min=1)


@dataclass(frozen=True)
class Changes:
    """Numbers of Gaussians that were cloned, split into two and pruned, and their total number afterwards."""

    cloned: int
    split: int
    pruned: int
    total: int


@dataclass(frozen=True)
class Densify:
    """Clone, split and prune Gaussians.

    Args:
        gradient: mean gradient norm above which Gaussians are cloned or split. Its scale depends on the loss; 0 with a
            small `fraction` selects those with the largest gradients, whatever the loss.
        fraction: largest fraction of the Gaussians that is cloned or split at once: those with the largest gradients.
        width: largest standard deviation of Gaussians that are cloned; wider ones are split.
        opacity: Gaussians with a lower opacity are pruned.
        widest: Gaussians with a larger standard deviation are pruned.
        most: largest number of Gaussians.
        revise: correct the opacities of copies, see the module.

    Raises:
        ValueError: if a number is out of range.
    """

    gradient: float = 2e-4
    fraction: float = 1.0
    width: float = 0.03
    opacity: float = 0.005
    widest: float = math.inf
    most: int = 20_000
    revise: bool = True

    def __post_init__(self) -> None:
        if not (self.gradient >= 0 and 0 < self.fraction <= 1 and 0 < self.width <= self.widest):
            raise ValueError("Densify needs gradient >= 0, fraction in (0, 1] and 0 < width <= widest")
        if not (0 <= self.opacity < 1 and self.most >= 1):
            raise ValueError("Densify needs opacity in [0, 1) and most >= 1")

    @torch.no_grad()
    def __call__(
        self,
        splats: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        slopes: Float[Tensor, " g"],
        rng: torch.Generator | None = None,
    ) -> Changes:
        """Replace the parameters of `splats`, also in the optimizer.

        Kept rows come first, in order, then clones, then pairs of halves. Kept rows keep the moments of the optimizer,
        new rows start with moments of 0. References to the old parameters held elsewhere are stale afterwards.

        Args:
            splats: a module with the parameters of `Gaussians`.
            optimizer: that updates these parameters, in one or several groups; None for none.
            slopes: gradient norm of each Gaussian, see `Slopes`.
            rng: draws the means of split Gaussians.

        Raises:
            RuntimeError: if every Gaussian would be pruned.
        """
        old = Gaussians(*(splats.get_parameter(name).detach() for name in NAMES))
        width = old.scales.exp().amax(1)
        pruned = (old.opacities.sigmoid() < self.opacity) | (width > self.widest)
        if bool(pruned.all()):
            raise RuntimeError(
                "all Gaussians would be pruned: lower `opacity`, or find out why they have become transparent"
            )
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
        """The Gaussians to clone or split: those with the largest gradients, up to the limits."""
        slopes = torch.where(pruned, torch.zeros_like(slopes), slopes)
        room = self.most - int((~pruned).sum())
        count = max(0, min(math.floor(self.fraction * len(slopes)), room))
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
