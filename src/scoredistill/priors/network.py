r"""Small trained denoisers of points of any dimension.

    D(z; r) = c_skip z + c_out F(c_in z, log r),    c_in = (r^2 + s^2)^{-1/2},  c_skip = s^2 c_in^2,  c_out = r s c_in

with s the standard deviation of the data, and F a perceptron of c_in z, log r and Fourier features of both, since thin
structures need high frequencies. It is trained on E |D(y + r n; r) - y|^2 / c_out^2 with normally distributed log r,
and a running average of its weights is kept.

References: preconditioning: Elucidating the design space of diffusion-based generative models (Karras et al. 2022),
https://arxiv.org/abs/2206.00364; such a network on such data: Guiding a diffusion model with a bad version of itself
(Karras et al. 2024), https://arxiv.org/abs/2406.02507; Fourier features: Tancik et al. 2020,
https://arxiv.org/abs/2006.10739.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.schedule import VE, Schedule


@dataclass(frozen=True)
class NetworkConfig:
    """Configuration of a denoiser and its training.

    Args:
        dim: dimension of the points.
        width, depth: units of a hidden layer of the perceptron, and number of hidden layers.
        features: number of Fourier features of the point, with log-spaced frequencies from 1 to `frequency`.
        frequency: the highest frequency.
        classes: number of labels; 0 for none.
        sigma_data: standard deviation of the data per coordinate.
        steps, batch, lr: steps, batch size and initial learning rate of Adam, with a cosine decay.
        log_mean, log_std: mean and standard deviation of log r in training.
        average: decay of the running average of the weights, in [0, 1).
        seed: seed for all random number generators.

    Raises:
        ValueError: for values out of range.
    """

    dim: int = 2
    width: int = 128
    depth: int = 4
    features: int = 16
    frequency: float = 16.0
    classes: int = 0
    sigma_data: float = 0.5
    steps: int = 10_000
    batch: int = 1024
    lr: float = 5e-3
    log_mean: float = -3.0
    log_std: float = 1.5
    average: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.dim, self.width, self.depth, self.steps, self.batch) < 1 or self.features < 0 or self.classes < 0:
            raise ValueError("dim, width, depth, steps and batch must be at least 1, features and classes at least 0")
        if not (self.sigma_data > 0 and self.lr > 0 and self.log_std > 0 and 0 <= self.average < 1):
            raise ValueError("sigma_data, lr and log_std must be positive, and average in [0, 1)")


class Denoiser(nn.Module):
    """Network D(z[b, d]; r[b], label[b]) -> [b, d], in clean coordinates z = x_t / alpha_t, r = sigma_t / alpha_t."""

    waves: Tensor
    levels: Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        rng = torch.Generator().manual_seed(config.seed)
        scale = torch.logspace(0, math.log10(max(config.frequency, 1.0)), max(config.features, 1))[: config.features]
        self.register_buffer("waves", torch.randn(config.dim, config.features, generator=rng) * scale)
        self.register_buffer("levels", torch.randn(1, 8, generator=rng) * 3)
        wide = config.dim + 2 * config.features + 1 + 2 * 8 + config.classes
        sizes = [wide, *[config.width] * config.depth, config.dim]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            linear = nn.Linear(a, b)
            with torch.no_grad():
                linear.weight.copy_((2 * torch.rand(b, a, generator=rng) - 1) / a**0.5)
                linear.bias.zero_()
            layers += [linear, nn.SiLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, z: Float[Tensor, "b d"], r: Float[Tensor, " b"], label: Tensor | None = None) -> Tensor:
        """Denoise points z [b, d] at noise levels r > 0; label -1, or None, stands for no class."""
        r, s = r[:, None], self.config.sigma_data
        c_in = (r**2 + s**2).rsqrt()
        u, level = c_in * z, r.log() / 4
        point, noise = u @ self.waves, level @ self.levels
        seen = [u, point.sin(), point.cos(), level, noise.sin(), noise.cos()]
        if self.config.classes:
            known = torch.full((len(z),), -1, device=z.device) if label is None else label
            one_hot = torch.zeros(len(z), self.config.classes, dtype=z.dtype, device=z.device)
            seen.append(one_hot.scatter_(1, known.clamp(min=0)[:, None], (known >= 0).to(z)[:, None]))
        return (s * c_in) ** 2 * z + r * s * c_in * self.net(torch.cat(seen, 1))


class NetworkPrior(Prior):
    """A `Denoiser` as a prior. It computes in its own precision; particles keep theirs.

    Args:
        network: the denoiser.
        schedule: any noise schedule; VE(0.002, 80) by default.
        lowest: lower bound to which noise levels are clamped, since training hardly covers smaller ones.
    """

    def __init__(self, network: Denoiser, schedule: Schedule | None = None, lowest: float = 1e-3):
        self.network = network
        self.schedule = VE(0.002, 80.0) if schedule is None else schedule
        self.lowest = lowest

    def facts(self) -> dict[str, object]:
        config, place = self.network.config, next(self.network.parameters())
        shape = {"sample": (config.dim,), "conditions": ("label",) if config.classes else ()}
        return {**shape, **super().facts(), "dtype": place.dtype, "device": place.device}

    def denoise(
        self, x_t: Float[Tensor, "b d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, "b d"]:
        alpha, sigma = (c.to(x_t.dtype) for c in self.schedule(t))
        return self._at(x_t / alpha[:, None], sigma / alpha, cond)

    def eps(self, x_t: Float[Tensor, "b d"], t: Float[Tensor, " b"], cond: Cond | None = None) -> Float[Tensor, "b d"]:
        alpha, sigma = (c.to(x_t.dtype) for c in self.schedule(t))
        z, r = x_t / alpha[:, None], (sigma / alpha).clamp(min=self.lowest)
        return (z - self._at(z, r, cond)) / r[:, None]

    def _at(self, z: Tensor, r: Tensor, cond: Cond | None) -> Tensor:
        place = next(self.network.parameters())
        label = None if cond is None else expand_cond(cond, len(z))["label"]
        z, r = z.clamp(-1e9, 1e9), r.clamp(self.lowest, 1e9)  # alpha = 0 would make them infinite
        return self.network(z.to(place), r.to(place), label).to(z)

    def null(self, cond: Cond) -> Cond:
        return {"label": torch.full_like(cond["label"], -1)}

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the network, for students."""
        return self.network.parameters()


def untrained(x: Float[Tensor, "b d"], schedule: Schedule) -> NetworkPrior:
    """Make an untrained unconditional network for points like x, scaled to their standard deviation."""
    spread = float(x.std().clamp(min=1e-2)) if len(x) > 1 else 1.0
    network = Denoiser(NetworkConfig(dim=x.shape[1], width=64, depth=3, features=8, frequency=4.0, sigma_data=spread))
    return _Student(network.to(x.device), schedule)


class _Student(NetworkPrior):
    """A network that ignores conditions."""

    def _at(self, z: Tensor, r: Tensor, cond: Cond | None) -> Tensor:
        return super()._at(z, r, None)
