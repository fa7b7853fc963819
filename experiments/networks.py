r"""Mean shift on trained networks: what an input without noise costs, and which sampler to use.

    python experiments/networks.py --out docs/results/toy [--quick]

The mean shift m(x) = E[y | x = y + r n] - x is asked for at clean points x. A network has learned D(z; r) only at
z = y + r n, where |z - y| = r sqrt(d) to within a factor 1 +- 1 / sqrt(2 d): in many dimensions no training input ever
had less noise. An input x = y + f r n has the share f of the noise that its level promises; the samplers feed

    mean        f = 0
    noised f    the average of D(x + f r n; r) and D(x - f r n; r); f = 1 is SDS with antithetic noise
    product     f from .12 (first call) over .7 (at r) to 1 (last): D at u = (s z + v x) / (s + v)
    ancestral   f = 0 in the first call, then sqrt(1 - v'/v) = .9 and more

Measured: the network's error by f; each sampler's error in m, as bias and variance; what a run ends with per call.
Data: three sets in the plane; 20 Gaussians of four long axes in 4, 16, 64 and 256 dimensions; digits of 8 x 8 pixels
(scikit-learn) and a mixture of 40 Gaussians fitted to them, whose every score is exact.
"""

import hashlib
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from toy_results import SEEDS, heading, option_parser, table, write

from scoredistill.datasets.toy2d import HALF_SIDE, NAMES, grid_start, toy_set
from scoredistill.metrics.point_sets import precision_recall, squared_bias
from scoredistill.priors import Empirical, GaussianMixture, Prior
from scoredistill.priors.network import Denoiser, NetworkConfig, NetworkPrior
from scoredistill.sampling import posterior_sample, product_sample
from scoredistill.schedule import VE
from scoredistill.studies.toy2d.denoisers import denoiser
from scoredistill.training.denoiser import cached_denoiser

SCHEDULE = VE(0.002, 5.0)
DIMS = (4, 16, 64, 256)
POOL = 100_000  # training points of a network in more than two dimensions


@dataclass(frozen=True)
class Task:
    """A distribution, its exact (or ideal) denoiser and a network trained on it."""

    name: str
    exact: Prior
    learned: Prior
    data: Tensor  # fresh points [n, d]
    spread: float  # standard deviation per coordinate
    end: float  # last bandwidth of a run


def high_dimensional(d: int, modes: int = 20) -> GaussianMixture:
    """Modes at normal positions of deviation .5 per coordinate; each .3, .2, .15, .1 along four axes, .02 else."""
    rng = torch.Generator().manual_seed(d)
    means = 0.5 * torch.randn(modes, d, generator=rng, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(modes, d, d, generator=rng, dtype=torch.float64)).Q
    deviation = torch.full((d,), 0.02, dtype=torch.float64)
    deviation[:4] = torch.tensor([0.3, 0.2, 0.15, 0.1], dtype=torch.float64)
    return GaussianMixture(means, (turn * deviation.square()) @ turn.mT, schedule=SCHEDULE)


@cache
def images() -> tuple[Tensor, Tensor]:
    """The 1797 digits as [n, 64] in [-1, 1], and which digits they are."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float64) / 8 - 1, torch.tensor(y)


@cache
def digits_mixture() -> GaussianMixture:
    """40 Gaussians fitted to the digits; .01 is added to every variance, so no direction is thinner than .1."""
    from sklearn.mixture import GaussianMixture as Fit

    fit = Fit(40, covariance_type="full", reg_covar=0.01, random_state=0, max_iter=50).fit(images()[0].numpy())
    parts = (torch.tensor(p, dtype=torch.float64) for p in (fit.means_, fit.covariances_, fit.weights_))
    return GaussianMixture(*parts, schedule=SCHEDULE)


def draws(mixture: GaussianMixture, n: int, seed: int) -> Tensor:
    """n samples in random order; by component, which in many dimensions is quicker than `GaussianMixture.sample`."""
    rng = torch.Generator().manual_seed(seed)
    if mixture.axes is None or mixture.means.shape[1] == 2:
        return mixture.sample(n, rng)
    which = torch.multinomial(mixture.weights, n, replacement=True, generator=rng)
    x = torch.randn(n, mixture.means.shape[1], generator=rng, dtype=torch.float64)
    for k, (mean, axes) in enumerate(zip(mixture.means, mixture.axes, strict=True)):
        mine = which == k
        x[mine] = mean + (x[mine] * mixture.spread[k].sqrt()) @ axes.T
    return x


def config_for(d: int, spread: float, quick: bool, steps: int = 4000) -> NetworkConfig:
    return NetworkConfig(
        dim=d, width=256, depth=4, features=0, sigma_data=round(spread, 3), batch=512, lr=2e-3,
        steps=min(300, steps) if quick else steps, log_mean=-1.5, log_std=1.3, average=0.998,
    )  # fmt: skip


def trained(name: str, source: Callable[[], Tensor], config: NetworkConfig) -> Denoiser:
    """The network of a pool of points; the pool is drawn only if it has to be trained."""
    pool: list[Tensor] = []

    def sample(n: int, rng: torch.Generator) -> tuple[Tensor, None]:
        if not pool:
            pool.append(source().float())
        return pool[0][torch.randint(len(pool[0]), (n,), generator=rng)], None

    return cached_denoiser(f"networks_{name}", config, sample)


def task(name: str, quick: bool, steps: int = 4000) -> Task:
    if name in NAMES:
        mixture = toy_set(name, schedule=SCHEDULE)
        return Task(name, mixture, denoiser("learned", name, quick), draws(mixture, 1000, 99), 0.5, 0.005)
    if name == "digits":
        seen, fresh = images()[0].split([1500, 297])
        spread, exact = seen.std(0).square().mean().sqrt().item(), Empirical(seen, schedule=SCHEDULE)
        network = trained("digits_1500", lambda: seen, config_for(64, spread, quick))
        return Task(name, exact, NetworkPrior(network, SCHEDULE), fresh, spread, 0.05)
    mixture = digits_mixture() if name == "digits mixture" else high_dimensional(int(name.removesuffix("-D")))
    data = draws(mixture, 1000, 99)
    spread = data.std(0).square().mean().sqrt().item()
    network = trained(
        name.replace(" ", "_"), lambda: draws(mixture, POOL, 7), config_for(data.shape[1], spread, quick, steps)
    )
    return Task(name, mixture, NetworkPrior(network, SCHEDULE), data, spread, 0.05 if "digits" in name else 0.02)


def widened(task: Task, teacher: str, quick: bool) -> Task:
    """The task with a network trained on, half of its rows at z = y + f r n with f uniform in [0, 1].

    Targets there: "exact" E[y | z], which nobody has who needs a network (is it the capacity, or what it has seen?), or
    "itself": y drawn by the frozen network's own ancestral sampler in 8 calls from z.
    """
    steps, batch = (30 if quick else 1200), 512
    root = Path(os.environ.get("SCOREDISTILL_CACHE", Path.home() / ".cache" / "scoredistill")) / "networks"
    frozen = task.learned
    assert isinstance(frozen, NetworkPrior)
    config = frozen.network.config
    key = hashlib.sha256(repr((config, steps)).encode()).hexdigest()[:12]
    file = root / f"networks_{task.name.replace(' ', '_')}_{teacher}_{key}.pt"
    network, kept = Denoiser(config), Denoiser(config)
    if file.exists():
        kept.load_state_dict(torch.load(file, weights_only=True))
        return replace(task, learned=NetworkPrior(kept.eval().requires_grad_(False), SCHEDULE))
    network.load_state_dict(frozen.network.state_dict())
    kept.load_state_dict(frozen.network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), 5e-4, betas=(0.9, 0.99))
    rng = torch.Generator().manual_seed(11)
    assert isinstance(task.exact, GaussianMixture)
    pool = draws(task.exact, POOL, 7).float()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-4 * 0.5 * (1 + math.cos(math.pi * step / steps))
        y = pool[torch.randint(len(pool), (batch,), generator=rng)]
        r = (config.log_mean + config.log_std * torch.randn(batch, generator=rng)).exp()
        noise, f = torch.randn(y.shape, generator=rng), torch.rand(batch // 2, generator=rng)
        z = y + torch.cat([f, torch.ones(batch - len(f))])[:, None] * r[:, None] * noise
        half = slice(0, len(f))
        with torch.no_grad():
            y[half] = (
                task.exact.denoise_at(z[half].double(), r[half].double()).float()
                if teacher == "exact"
                else posterior_sample(frozen, z[half], r[half], 8, draw=lambda a: noise_like(a, rng))
            )
        weight = (r**2 + config.sigma_data**2) / (r * config.sigma_data) ** 2
        loss = (weight * (network(z, r) - y).square().mean(1)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(kept.parameters()), list(network.parameters()), 0.005)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(kept.state_dict(), file)
    return replace(task, learned=NetworkPrior(kept.eval().requires_grad_(False), SCHEDULE))


def noise_like(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=rng, dtype=x.dtype)


@dataclass(frozen=True)
class Sampler:
    """y(prior, x, r, rng) for the mean shift y - x, and the network calls per particle that it takes."""

    name: str
    calls: int
    draw: Callable[[Prior, Tensor, Tensor, torch.Generator], Tensor]


def noised(f: float, pair: bool = True) -> Sampler:
    def draw(prior: Prior, x: Tensor, r: Tensor, rng: torch.Generator) -> Tensor:
        n = f * r[:, None] * noise_like(x, rng)
        if not pair:
            return prior.denoise_at(x + n, r)
        return prior.denoise_at(torch.cat([x + n, x - n]), r.repeat(2)).reshape(2, *x.shape).mean(0)

    return Sampler(f"noised {f:g}" if pair else f"noised {f:g}, single", 1 + pair, draw)


def drawn(kind: str, steps: int, samples: int = 1) -> Sampler:
    sample = posterior_sample if kind == "ancestral" else None

    def draw(prior: Prior, x: Tensor, r: Tensor, rng: torch.Generator) -> Tensor:
        rows, level = x.repeat(samples, 1), r.repeat(samples)
        noise = lambda z: noise_like(z, rng)
        if sample is not None:
            y = sample(prior, rows, level, steps, draw=noise)
        else:
            y = product_sample(prior, rows, level, steps, draw=noise)
        return y.reshape(samples, *x.shape).mean(0)

    return Sampler(f"{kind} {steps}" + (f" x {samples}" if samples > 1 else ""), steps * samples, draw)


def matched(pair: Prior, x: Tensor, r: Tensor, rng: torch.Generator) -> Tensor:
    """s E score at level r / sqrt 2 of x + (r / sqrt 2) n: the score is smoothed in place of the density."""
    half = noised(1.0).draw(pair, x, r / math.sqrt(2), rng)
    return x + 2 * (half - x)


def richardson(prior: Prior, x: Tensor, r: Tensor, rng: torch.Generator) -> Tensor:
    """The averages over +-f r n at f = .5 and 1, extrapolated to f = 0 as if the error were quadratic in f."""
    n = r[:, None] * noise_like(x, rng)
    rows = torch.cat([x + n, x - n, x + n / 2, x - n / 2])
    y = prior.denoise_at(rows, r.repeat(4)).reshape(4, *x.shape)
    return (4 * (y[2] + y[3]) - (y[0] + y[1])) / 6


MEAN = Sampler("mean", 1, lambda prior, x, r, rng: prior.denoise_at(x, r))
SAMPLERS = (
    MEAN,
    *(noised(f) for f in (0.25, 0.5, 1.0)),
    Sampler("matched", 2, matched),
    Sampler("Richardson", 4, richardson),
    *(drawn("ancestral", k, n) for k in (2, 4, 8) for n in (1, 4)),
    *(drawn("product", k) for k in (4, 8, 16)),
)
RUN_SAMPLERS = (
    MEAN,
    *(noised(0.5), noised(1.0, False), noised(1.0)),
    *(drawn("ancestral", k) for k in (2, 4, 8)),
    drawn("ancestral", 2, 4),
    *(drawn("product", k) for k in (4, 8)),
)
TRAINING_SAMPLERS = (MEAN, drawn("ancestral", 4), drawn("ancestral", 4, 4))
FRACTIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25)
LENGTHS = {"16-D": (500, 2000, 4000, 12000), "64-D": (500, 2000, 4000, 6000)}  # training steps
LEVELS = (1.0, 0.3, 0.1)  # bandwidths in units of the data's spread
BUDGETS = (20, 40, 80, 160)


def profile(task: Task, quick: bool) -> dict:
    """Error of D(y + f r n; r) in units of r sqrt d, and |D - x| of the exact one, by level and f."""
    rng, out = torch.Generator().manual_seed(5), {}
    y = task.data[: 50 if quick else 300]
    for level in LEVELS:
        r = torch.full((len(y),), level * task.spread, dtype=y.dtype)
        n, rows = noise_like(y, rng), []
        for f in FRACTIONS:
            z = y + f * r[:, None] * n
            true, found = task.exact.denoise_at(z, r), task.learned.denoise_at(z, r)
            unit = r[0].item() * math.sqrt(y.shape[1])
            rows.append([rms(found - true) / unit, rms(true - z) / unit])
        out[f"{level:g}"] = rows
    return out


def rms(x: Tensor) -> float:
    return x.square().sum(1).mean().sqrt().item()


def places(task: Task, n: int, r: float) -> dict[str, Tensor]:
    """Points to ask at: on the data, the data noised by r, and far ones as a run starts with."""
    rng = torch.Generator().manual_seed(6)
    y = task.data[torch.randperm(len(task.data), generator=rng)[:n]]
    return {"data": y, "noised data": y + r * noise_like(y, rng), "far": starts(task, n, 6)}


def starts(task: Task, n: int, seed: int) -> Tensor:
    """In the plane a jittered grid; else uniform noise of the data's mean and spread."""
    rng, d = torch.Generator().manual_seed(seed), task.data.shape[1]
    u = torch.rand(n, d, generator=rng, dtype=torch.float64) - 0.5
    if d == 2:
        return grid_start(n) + 2 * HALF_SIDE / math.sqrt(n) * u
    return task.data.mean(0) + math.sqrt(12) * task.spread * u


def errors(task: Task, samplers: tuple[Sampler, ...], quick: bool, prior: Prior | None = None) -> dict:
    """Error of each sampler's mean shift over |m|: [total, bias, standard deviation], by place and level."""
    n, k, out = (24, 4, {}) if quick else (80, 12, {})
    for level in LEVELS:
        width = level * task.spread
        for place, x in places(task, n, width).items():
            r = torch.full((n,), width, dtype=x.dtype)
            m = task.exact.denoise_at(x, r) - x
            out[f"{place}, {level:g}"] = cell = {"|m| / r sqrt d": rms(m) / width / math.sqrt(x.shape[1])}
            for sampler in samplers:
                rng = torch.Generator().manual_seed(8)
                repeat = k if sampler is not MEAN else 2
                y = sampler.draw(prior or task.learned, x.repeat(repeat, 1), r.repeat(repeat), rng)
                g = y.reshape(repeat, n, -1) - x
                total = ((g - m).square().sum(2).mean() / m.square().sum(1).mean()).sqrt().item()
                bias = squared_bias(g, m)[0]
                cell[sampler.name] = [total, math.sqrt(max(0.0, bias)), math.sqrt(max(0.0, total**2 - bias))]
    return out


def anneal(prior: Prior, x: Tensor, sampler: Sampler, calls: int, start: float, end: float, seed: int) -> Tensor:
    """x <- x - grad, the bandwidth falling geometrically, in as many steps as the calls allow."""
    steps, rng = calls // sampler.calls, torch.Generator().manual_seed(seed)
    for k in range(steps):
        r = start * (end / start) ** (k / max(1, steps - 1))
        x = sampler.draw(prior, x, torch.full((len(x),), r, dtype=x.dtype), rng)
    return x


def ddim_run(prior: Prior, x: Tensor, calls: int) -> Tensor:
    """Sampling, for comparison: the probability flow from 5 n by Karras' levels, rho = 5."""
    f = torch.arange(calls + 1, dtype=torch.float64) / calls
    levels = (5 ** (1 / 5) + f * (0.002 ** (1 / 5) - 5 ** (1 / 5))) ** 5
    z = 5 * x
    for now, then in pairwise(levels):
        d = prior.denoise_at(z, now.expand(len(z)))
        z = d + then / now * (z - d)
    return z


@cache
def classifier() -> Callable[[Tensor], Tensor]:
    """Class probabilities of a logistic regression trained on the digits."""
    from sklearn.linear_model import LogisticRegression

    x, y = images()
    fit = LogisticRegression(max_iter=300).fit(x.numpy(), y.numpy())
    return lambda z: torch.from_numpy(fit.predict_proba(z.numpy()))


def quality(task: Task, x: Tensor) -> dict[str, float]:
    """Of one seed's particles. `to_mode`: distance to where exact mean shift leads, in end bandwidths sqrt d."""
    exact, d, out = task.exact, x.shape[1], {}
    goal = x
    for _ in range(20):
        goal = exact.denoise_at(goal, torch.full((len(x),), task.end, dtype=x.dtype))
    out["to_mode"] = (x - goal).norm(dim=1).median().item() / task.end / math.sqrt(d)
    if isinstance(exact, GaussianMixture):
        out["nll"] = -exact.log_prob(x).mean().item() / d
        out["nll_median"] = -exact.log_prob(x).median().item() / d
        if d > 2:
            out["modes"] = len(torch.cdist(x, exact.means).argmin(1).unique())
    elif isinstance(exact, Empirical):
        out["nearest"] = torch.cdist(x, exact.data).min(1).values.mean().item()
    if d == 2:
        out["precision"], out["recall"] = precision_recall(x, task.data)
    if task.name.startswith("digits"):
        p = classifier()(x)
        share = p.mean(0)
        out["confidence"] = p.max(1).values.mean().item()
        out["classes"] = (-(share * share.clamp(min=1e-12).log()).sum()).exp().item()
    return out


def runs(
    task: Task, samplers: tuple[Sampler, ...], quick: bool, compare: bool = True
) -> tuple[dict, dict[str, Tensor]]:
    """{sampler: {calls: {metric: [mean, sd over seeds]}}}, and the first seed's points at the largest budget."""
    each, budgets = (16, (20,)) if quick else (48, BUDGETS)
    begin = 0.316 / math.sqrt(2) if task.data.shape[1] == 2 else task.spread
    x = torch.cat([starts(task, each, seed) for seed in SEEDS])
    rng = torch.Generator().manual_seed(3)
    fair = torch.cat([task.data[torch.randperm(len(task.data), generator=rng)[:each]] for _ in SEEDS])
    done: dict[str, dict[str, Tensor]] = {"data": {"-": fair}}
    if compare:
        done["exact mean"] = {str(b): anneal(task.exact, x, MEAN, b, begin, task.end, 0) for b in budgets}
        normal = noise_like(x, torch.Generator().manual_seed(4))
        done["DDIM"] = {str(b): ddim_run(task.learned, normal, b) for b in budgets}
    for s in samplers:
        done[s.name] = {str(b): anneal(task.learned, x, s, b, begin, task.end, 1) for b in budgets if b >= 2 * s.calls}
    table = {
        name: {b: spread([quality(task, part) for part in points.split(each)]) for b, points in by.items()}
        for name, by in done.items()
    }
    return table, {name: list(by.values())[-1][:each] for name, by in done.items() if by}


def spread(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """[mean, standard deviation] over seeds."""
    return {
        key: [round(statistics.fmean(v), 4), round(statistics.stdev(v), 4)]
        for key in rows[0]
        for v in [[row[key] for row in rows]]
    }


def save_digits(points: dict[str, dict[str, Tensor]], file: Path) -> None:
    """Write the digits of each sampler as an image: a titled row each, a block of columns per network.

    Args:
        points: title of a network -> sampler -> digits [n, 64] in [-1, 1].
    """
    size, count, left, top = 40, 12, 130, 26
    blocks = list(points.items())
    names = list(blocks[0][1])
    across = count * (size + 2) + 16
    page = Image.new("RGB", (left + across * len(blocks), top + len(names) * (size + 2)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for b, (title, rows) in enumerate(blocks):
        pen.text((left + b * across, 6), title, fill="#333333", font=font)
        for i, name in enumerate(names):
            y = top + i * (size + 2)
            if b == 0:
                pen.text((6, y + 12), name, fill="#333333", font=font)
            for j, point in enumerate(rows[name][:count]):
                gray = ((point.reshape(8, 8) + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).numpy()
                cell = Image.fromarray(255 - gray).resize((size, size), Image.Resampling.NEAREST)
                page.paste(cell, (left + b * across + j * (size + 2), y))
    page.save(file)


def rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def profile_table(profiles: dict[str, dict]) -> str:
    """Error of D in r sqrt d, at shares 0 / .5 / 1 of the noise."""
    shown = [FRACTIONS.index(f) for f in (0.0, 0.5, 1.0)]
    rows = [
        [name, *(" / ".join(f"{p[f'{v:g}'][i][0]:.3f}" for i in shown) for v in LEVELS)] for name, p in profiles.items()
    ]
    return table(["network", *(f"r = {v:g}" for v in LEVELS)], rows)


def errors_table(found: dict[str, dict], place: str) -> str:
    """Total error of m over |m| and, in brackets, its bias."""
    names = [s.name for s in SAMPLERS]
    cells = {
        n: {s: [0.0, 0.0, 0.0] for s in names} if e["|m| / r sqrt d"] < 1e-2 else e
        for n, by in found.items()
        for e in [by[place]]
    }
    rows = [[s, *(f"{c[s][0]:.2f} ({c[s][1]:.2f})" if c[s][0] else "-" for c in cells.values())] for s in names]
    return table([place, *cells], rows)


def runs_table(found: dict[str, dict], calls: str, keys: tuple[str, ...]) -> str:
    rows = []
    for name in next(iter(found.values())):
        row = [name]
        for by in found.values():
            cell = by[name].get(
                calls, by[name].get("-", by[name].get(str(BUDGETS[0])) if name == "exact mean" else None)
            )
            row.append(" / ".join(f"{cell[k][0]:.2f} ± {cell[k][1]:.2f}" for k in keys if k in cell) if cell else "-")
        rows.append(row)
    return table([f"{calls} calls", *found], rows)


def tables(report: dict) -> str:
    """The measured tables as Markdown."""
    out = ["### Error of D by share of noise, 0 / .5 / 1", profile_table(report["profile"])]
    for name, by in report["training"].items():
        out.append(profile_table({f"{name}, {k} steps": v["profile"] for k, v in by.items()}))
    out.append(profile_table({f"{n}, {k}": v["profile"] for n, by in report["widened"].items() for k, v in by.items()}))
    out += [
        errors_table(report["errors"], f"{place}, {v:g}") for place in ("data", "noised data", "far") for v in LEVELS
    ]
    plane = {n: r for n, r in report["runs"].items() if n in NAMES}
    space = {n: r for n, r in report["runs"].items() if n not in NAMES}
    for calls in next(iter(report["runs"].values()))["mean"]:
        if plane:
            out.append("nll / precision / recall\n\n" + runs_table(plane, calls, ("nll", "precision", "recall")))
        if space:
            out.append("to_mode / modes or classes\n\n" + runs_table(space, calls, ("to_mode", "modes", "classes")))
            out.append("median nll per coordinate\n\n" + runs_table(space, calls, ("nll_median",)))
    return "\n".join(out)


def main() -> None:
    parser = option_parser(__doc__, quick="networks hardly trained, few points: to see that it runs")
    parser.add_argument("--tasks", nargs="+", default=[*NAMES, *(f"{d}-D" for d in DIMS), "digits mixture", "digits"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    quick, begun = options.quick, time.perf_counter()
    report: dict = {
        **heading("networks.py", quick), "fractions": list(FRACTIONS),
        "profile": {}, "errors": {}, "exact_errors": {}, "runs": {}, "widened": {}, "training": {},
    }  # fmt: skip
    digits = {}
    for name in options.tasks:
        t = task(name, quick)
        report["profile"][name] = profile(t, quick)
        report["errors"][name] = errors(t, SAMPLERS, quick)
        if t.data.shape[1] < 100:
            report["exact_errors"][name] = errors(t, SAMPLERS[1:6] + SAMPLERS[8::2], True, t.exact)
        report["runs"][name], points = runs(t, RUN_SAMPLERS, quick)
        if name.startswith("digits"):
            digits[f"network of the {name}"] = points
        if name in ("64-D", "digits mixture"):
            report["widened"][name] = {}
            for teacher in ("exact", "itself"):
                wide = widened(t, teacher, quick)
                report["widened"][name][teacher] = {
                    "profile": profile(wide, quick),
                    "errors": errors(wide, (MEAN,), quick),
                    "runs": runs(wide, (MEAN,), quick, compare=False)[0],
                }
        print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    for name, lengths in LENGTHS.items():
        if name in options.tasks:
            report["training"][name] = {
                str(k): {"profile": profile(t, quick), "errors": errors(t, TRAINING_SAMPLERS, quick)}
                for k in lengths
                for t in [task(name, quick, k)]
            }
    write({key: rounded(value) for key, value in report.items()}, options.out / "networks.json")
    print(tables(report))
    if digits:
        save_digits(digits, options.out / "networks.png")


if __name__ == "__main__":
    main()
