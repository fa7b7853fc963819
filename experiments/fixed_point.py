r"""The fixed point of mean shift, x <- D(x; r), and ways to get there, per network call.

    python experiments/fixed_point.py --out docs/results/toy [--quick]

With m(x) = D(x; r) - x the moves are

    relaxed a       x + a m                      (a = 1 is x <- D; it is gradient descent on `MeanShift` with lr a)
    momentum        x + a m + b (x - x_before)
    Anderson k      x + m - (dX + dM) c,  c = argmin |m - dM c|,  dX, dM the last k differences, per particle
    Adam lr         Adam on grad = -m; "falling" scales lr with the bandwidth

For one Gaussian of covariance V the error e of x + a m obeys e <- (I - a r^2 (V + r^2 I)^-1) e. In general D is the
mean of p(y) N(x; y, r^2 I), so Q(x') = -|x' - D(x)|^2 / (2 r^2) supports log p_r from below at x (Jensen), and

    log p_r(x + a m) - log p_r(x) >= a (2 - a) |m|^2 / (2 r^2):    no step with 0 < a < 2 loses density.

The bandwidth is annealed in K calls from .316 / sqrt 2 to .005 (64-D: from 2.8, half the distance of the modes).
References: mean shift as a bound, Carreira-Perpinan 2007, https://doi.org/10.1109/TPAMI.2007.1057; Anderson mixing:
Walker & Ni 2011, https://doi.org/10.1137/10078356X; heavy ball: Polyak 1964.
"""

import json
import math
import statistics
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from toy_results import SEEDS, heading, option_parser, table, write

from scoredistill.datasets.toy2d import HALF_SIDE, NAMES, density_level, grid_start, toy_set
from scoredistill.metrics.point_sets import nll, precision_recall
from scoredistill.priors import GaussianMixture
from scoredistill.schedule import VE

SCHEDULE = VE(0.002, 5.0)
START, END = 0.316 / math.sqrt(2), 0.005
BUDGETS = (5, 10, 20, 40, 80, 150)
Move = Callable[[Tensor, Tensor, float], Tensor]  # (x, m, r) -> next x, with a memory of its own


def relaxed(a: float) -> Move:
    return lambda x, m, r: x + a * m


def momentum(a: float, b: float) -> Move:
    """Heavy ball; for a = lr it is torch's SGD with momentum b."""
    before: list[Tensor] = []

    def move(x: Tensor, m: Tensor, r: float) -> Tensor:
        after = x + a * m + (b * (x - before[0]) if before else 0)
        before[:] = [x]
        return after

    return move


def anderson(depth: int, ridge: float = 1e-8, limit: float = math.inf) -> Move:
    """Type-II Anderson mixing per particle; `limit` bounds a step to that many times |m|."""
    past: list[tuple[Tensor, Tensor]] = []

    def move(x: Tensor, m: Tensor, r: float) -> Tensor:
        past.append((x, m))
        del past[: -depth - 1]
        if len(past) == 1:
            return x + m
        dx = torch.stack([b[0] - a[0] for a, b in pairwise(past)], 2)
        dm = torch.stack([b[1] - a[1] for a, b in pairwise(past)], 2)
        gram = dm.mT @ dm
        scale = gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-300)[:, None, None]
        gram = gram / scale + ridge * torch.eye(dm.shape[2], dtype=x.dtype)
        weights = torch.linalg.solve(gram, dm.mT @ m[:, :, None] / scale)
        step = m - ((dx + dm) @ weights)[:, :, 0]
        longest = limit * m.norm(dim=1, keepdim=True) if limit < math.inf else step.norm(dim=1, keepdim=True)
        return x + step * (longest / step.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1)

    return move


def adam(lr: float, falling: float | None = None) -> Move:
    """Adam as torch has it; with `falling` the rate is lr * r / falling."""
    mean, square, count = torch.zeros(()), torch.zeros(()), 0

    def move(x: Tensor, m: Tensor, r: float) -> Tensor:
        nonlocal mean, square, count
        count += 1
        mean, square = 0.9 * mean - 0.1 * m, 0.999 * square + 0.001 * m.square()
        rate = lr if falling is None else lr * r / falling
        return x - rate * (mean / (1 - 0.9**count)) / ((square / (1 - 0.999**count)).sqrt() + 1e-8)

    return move


def moves(start: float) -> dict[str, Callable[[], Move]]:
    """Makers of the moves compared."""
    made = {f"relaxed {a:g}": (lambda a=a: relaxed(a)) for a in (0.08, 0.25, 0.5, 1.0, 1.5, 1.9)}
    made |= {
        f"momentum {a:g}, {b:g}": (lambda a=a, b=b: momentum(a, b)) for a, b in ((1.0, 0.3), (1.0, 0.6), (0.08, 0.9))
    }
    made |= {f"Anderson {k}": (lambda k=k: anderson(k)) for k in (2, 3, 5)}
    made["Anderson 2, at most 2 |m|"] = lambda: anderson(2, limit=2.0)
    made |= {f"Adam {lr:g}": (lambda lr=lr: adam(lr)) for lr in (0.02, 0.08, 0.2)}
    return made | {f"Adam {lr:g} falling": (lambda lr=lr: adam(lr, start)) for lr in (0.08, 0.2)}


def shift(prior: GaussianMixture, x: Tensor, r: float) -> Tensor:
    """m(x) = D(x; r) - x."""
    return prior.denoise_at(x, torch.full((len(x),), r, dtype=x.dtype)) - x


def bandwidths(start: float, end: float, steps: int, shape: str) -> list[float]:
    f = torch.linspace(0, 1, steps, dtype=torch.float64)
    if shape == "linear":
        return ((1 - f) * start + f * end).tolist()
    return ((1 - f) * math.log(start) + f * math.log(end)).exp().tolist()


def run(prior: GaussianMixture, x: Tensor, move: Move, levels: list[float]) -> Tensor:
    for r in levels:
        x = move(x, shift(prior, x, r), r).clamp(-1e6, 1e6)
    return x


def spread(values: list[float], digits: int = 3) -> list[float]:
    """[mean, standard deviation] over seeds."""
    return [
        round(statistics.fmean(values), digits),
        round(statistics.stdev(values), digits) if len(values) > 1 else 0.0,
    ]


def high_dimensional(d: int = 64, modes: int = 20) -> GaussianMixture:
    """Modes at normal positions of standard deviation .5; each has principal deviations from .02 to .3, turned."""
    rng = torch.Generator().manual_seed(0)
    means = 0.5 * torch.randn(modes, d, generator=rng, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(modes, d, d, generator=rng, dtype=torch.float64)).Q
    deviation = torch.logspace(math.log10(0.02), math.log10(0.3), d, dtype=torch.float64)
    return GaussianMixture(means, (turn * deviation.square()) @ turn.mT, schedule=SCHEDULE)


def starts(name: str, each: int) -> Tensor:
    """The particles of all seeds, one after another."""
    parts = []
    for seed in SEEDS:
        rng = torch.Generator().manual_seed(seed)
        if name == "64-D":
            parts.append(torch.randn(each, 64, generator=rng, dtype=torch.float64))
        else:
            jitter = torch.rand(each, 2, generator=rng, dtype=torch.float64) - 0.5
            parts.append(grid_start(each) + 2 * HALF_SIDE / math.sqrt(each) * jitter)
    return torch.cat(parts)


def annealed(name: str, quick: bool) -> dict:
    """All moves on one distribution: {shape: {move: {K: {metric: [mean, sd]}}}}."""
    high = name == "64-D"
    prior, start = (high_dimensional(), 2.8) if high else (toy_set(name, schedule=SCHEDULE), START)
    each = 25 if quick or high else 100
    x = starts(name, each)
    truth = prior.sample(1000, torch.Generator().manual_seed(99))
    level = (prior.log_prob(truth).sort().values[10]).item() if high else density_level(prior)
    limit = run(prior, x, relaxed(1.0), bandwidths(start, END, 200 if quick else 2000, "geometric"))
    found = {"limit of the long run": {"-": measured(prior, limit, limit, truth, level, each)}}
    shapes = ("geometric",) if high else ("geometric", "linear")
    results: dict = {"reference": found}
    for shape in shapes:
        results[shape] = {
            title: {
                str(steps): measured(
                    prior, run(prior, x, make(), bandwidths(start, END, steps, shape)), limit, truth, level, each
                )
                for steps in ((5, 20) if quick else BUDGETS)
            }
            for title, make in moves(start).items()
        }
    return results


def measured(prior: GaussianMixture, x: Tensor, limit: Tensor, truth: Tensor, level: float, each: int) -> dict:
    rows = [numbers(prior, a, b, truth, level) for a, b in zip(x.split(each), limit.split(each), strict=True)]
    return {key: spread([row[key] for row in rows], 4) for key in rows[0]}


def numbers(prior: GaussianMixture, x: Tensor, limit: Tensor, truth: Tensor, level: float) -> dict[str, float]:
    """Of one seed. Distances are medians in the units of x; `same` is the share within .02 sqrt(d / 2) of the limit."""
    gone = (x - limit).norm(dim=1)
    found = nll(x, prior)
    mode = torch.cdist(x, prior.means).min(1).values  # 64-D: the modes are the means, to 1e-3
    return {
        "nll": found.mean,
        "nll_median": found.median,
        "precision": precision_recall(x, truth)[0],
        "recall": precision_recall(x, truth)[1],
        "on_set": (prior.log_prob(x) >= level).double().mean().item(),
        "to_limit": gone.median().item(),
        "same": (gone < 0.02 * math.sqrt(x.shape[1] / 2)).double().mean().item(),
        "to_mean": mode.median().item(),
    }


def theory() -> dict:
    """Rates on one Gaussian with V = diag(.3^2, .05^2) at r = .1, the product of an annealed run, and the bound."""
    v, mu, r = torch.tensor([0.09, 0.0025], dtype=torch.float64), torch.tensor([[0.4, -0.7]], dtype=torch.float64), 0.1
    prior = GaussianMixture(mu, torch.diag(v)[None], schedule=SCHEDULE)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(50, 2, generator=rng, dtype=torch.float64)
    left = r**2 / (v + r**2)  # eigenvalues of I - J
    rates = {}
    for a in (0.25, 0.5, 1.0, 1.5, 1.9):
        expected = mu + (1 - a * left) ** 12 * (x - mu)
        error = (run(prior, x, relaxed(a), [r] * 12) - expected).abs().max().item()
        rates[f"relaxed {a:g}"] = {"theory": (1 - a * left).abs().max().item(), "error_after_12": error}
    levels = bandwidths(START, END, 40, "geometric")
    factor = torch.stack([v / (v + level**2) for level in levels]).prod(0)
    product = (run(prior, x, relaxed(1.0), levels) - mu - factor * (x - mu)).abs().max().item()
    low, high = left.min().sqrt(), left.max().sqrt()
    a, b = (2 / (low + high)).item() ** 2, (((high - low) / (high + low)) ** 2).item()
    ball = [((run(prior, x, momentum(a, b), [r] * k) - mu).norm() / (x - mu).norm()).item() for k in (20, 36)]
    return {
        "gaussian": {"V": v.tolist(), "r": r, "rates": rates, "annealed_product_error": product},
        "best_relaxation": {"a": (2 / (left.min() + left.max())).item(), "rate": contraction(left)},
        "heavy_ball": {"a": a, "b": b, "theory": math.sqrt(b), "measured": (ball[1] / ball[0]) ** (1 / 16)},
        "mixtures": {name: mixture_rate(name) for name in (*NAMES, "64-D")},
        "bound": {name: bound(name) for name in NAMES},
        "resting": {name: resting(name) for name in NAMES},
    }


def contraction(left: Tensor) -> float:
    return ((left.max() - left.min()) / (left.max() + left.min())).item()


def mixture_rate(name: str) -> dict[str, float]:
    """The largest eigenvalue of D's Jacobian at a fixed point, r = .1, and the rate at which x <- D arrives."""
    prior, r = (high_dimensional() if name == "64-D" else toy_set(name, schedule=SCHEDULE)), 0.1
    x = run(prior, prior.means[:1] + 0.02, relaxed(1.0), [r] * 200)
    for _ in range(60):  # Newton, since the slow direction of a ridge is very slow
        jacobian = torch.autograd.functional.jacobian(lambda z: shift(prior, z[None], r)[0], x[0])
        x = x - torch.linalg.solve(jacobian, shift(prior, x, r)[0])[None]
    jacobian = torch.autograd.functional.jacobian(lambda z: shift(prior, z[None], r)[0], x[0])
    values, vectors = torch.linalg.eigh(0.5 * (jacobian + jacobian.T))
    z = x + 1e-6 * vectors[:, -1]
    before, after = (
        shift(prior, z, r).norm().item(),
        shift(prior, run(prior, z, relaxed(1.0), [r] * 5), r).norm().item(),
    )
    eigenvalues = 1 + values
    return {
        "asymmetry": (jacobian - jacobian.T).abs().max().item(),
        "smallest": eigenvalues[0].item(),
        "largest": eigenvalues[-1].item(),
        "measured": (after / before) ** 0.2,
    }


def bound(name: str) -> dict[str, float]:
    """The smallest of log p_r(x + a m) - log p_r(x) - a (2 - a) |m|^2 / (2 r^2), and the share of steps that lose."""
    prior, found = toy_set(name, schedule=SCHEDULE), {}
    x = grid_start(100)
    for a in (0.5, 1.0, 1.5, 1.9, 2.5):
        gaps, lost = [], []
        for r in (0.3, 0.1, 0.03):
            t = SCHEDULE.time_of(torch.full((len(x),), r, dtype=torch.float64))
            m = shift(prior, x, r)
            gain = prior.log_prob(x + a * m, t) - prior.log_prob(x, t)
            gaps.append((gain - a * (2 - a) * m.square().sum(1) / (2 * r**2)).min().item())
            lost.append((gain < -1e-9).double().mean().item())
        found[f"relaxed {a:g}"] = {"smallest_gap": min(gaps), "steps_that_lose": statistics.fmean(lost)}
    return found


def resting(name: str, r: float = 0.1, steps: int = 100) -> dict[str, dict[str, float]]:
    """After calls at a fixed bandwidth: shares at rest (|m| <= .01 r), and at rest where the density is no maximum.

    The latter have an eigenvalue of D's Jacobian above 1.001: a saddle or a minimum of log p_r.
    """
    prior, found, h = toy_set(name, schedule=SCHEDULE), {}, 1e-5
    for title, make in moves(START).items():
        if "falling" in title:
            continue
        x = run(prior, starts(name, 25), make(), [r] * steps)
        still = shift(prior, x, r).norm(dim=1) <= 0.01 * r
        e = h * torch.eye(2, dtype=x.dtype)
        columns = [(shift(prior, x + v, r) - shift(prior, x - v, r)) / (2 * h) for v in e]
        jacobian = torch.stack(columns, 2)
        unstable = torch.linalg.eigvalsh(0.5 * (jacobian + jacobian.mT))[:, -1] > 1e-3
        at_rest, wrong = still.double().mean().item(), (still & unstable).double().mean().item()
        found[title] = {"at_rest": round(at_rest, 3), "no_maximum": round(wrong, 3)}
    return found


def fixed_bandwidth(name: str, r: float, quick: bool) -> dict[str, list[float]]:
    """Calls until |m| <= .01 r for half and for nine tenths of the particles; 0 where that takes more than 200."""
    prior = high_dimensional() if name == "64-D" else toy_set(name, schedule=SCHEDULE)
    start, most = starts(name, 12 if quick else 25), 40 if quick else 200
    found = {}
    for title, make in moves(START).items():
        if "falling" in title:
            continue  # at a fixed bandwidth it does not fall
        x, move, done = start, make(), torch.full((len(start),), math.inf, dtype=torch.float64)
        for k in range(most):
            m = shift(prior, x, r)
            small = m.norm(dim=1) <= 0.01 * r
            done = torch.where(small & done.isinf(), k + 1.0, done)
            done = torch.where(small, done, math.inf)  # it has to stay
            x = move(x, m, r).clamp(-1e6, 1e6)
        counts = done.sort().values
        found[title] = [v if v < math.inf else 0 for v in (counts[len(x) // 2].item(), counts[9 * len(x) // 10].item())]
    return found


def cell(value: list[float], digits: int = 2) -> str:
    return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}" if abs(value[0]) < 1e4 else ">1e4"


def tables(report: dict) -> str:
    """The measured tables as Markdown."""
    out = []
    for name, results in report["annealed"].items():
        ref = results["reference"]["limit of the long run"]["-"]
        out.append(
            f"### {name}\n\nLong run (its limit): NLL {cell(ref['nll'])}, precision {ref['precision'][0]:.2f}, "
            f"recall {ref['recall'][0]:.2f}.\n"
        )
        for shape in [s for s in results if s != "reference"]:
            by_move = results[shape]
            budgets = list(next(iter(by_move.values())))
            rows = [[title, *(cell(r[k]["nll"]) for k in budgets)] for title, r in by_move.items()]
            out.append(
                f"NLL (mean ± sd over seeds), {shape}, by calls per particle:\n\n" + table(["move", *budgets], rows)
            )
            shown = [k for k in ("5", "20", "80") if k in budgets]
            parts = (("precision", 2), ("on_set", 2), ("to_limit", 3), ("same", 2))
            head = [shape, *(f"{key} {k}" for key, _ in parts for k in shown)]
            rows = [[t, *(f"{r[k][key][0]:.{n}f}" for key, n in parts for k in shown)] for t, r in by_move.items()]
            out.append(table(head, rows))
    names = list(report["fixed"])
    rows = [
        [title, *(" / ".join(f"{v:.0f}" if v else "-" for v in report["fixed"][n][title]) for n in names)]
        for title in report["fixed"][names[0]]
    ]
    out.append(
        "### Fixed bandwidth: calls until |m| <= .01 r, half / nine tenths of the particles\n\n"
        + table(["move", *names], rows)
    )
    return "\n".join(out)


def main() -> None:
    options = option_parser(__doc__, quick="few particles and steps, to see that it runs").parse_args()
    quick = options.quick
    report = {
        **heading("fixed_point.py", quick),
        "theory": theory(),
        "fixed": {
            f"{n}, r = {r:g}": fixed_bandwidth(n, r, quick)
            for n, r in ((NAMES[0], 0.1), (NAMES[1], 0.1), (NAMES[2], 0.1), ("64-D", 0.1))
        },
        "annealed": {name: annealed(name, quick) for name in ((NAMES[2],) if quick else (*NAMES, "64-D"))},
    }
    write(report, options.out / "fixed_point.json")
    print(json.dumps(report["theory"], indent=1))
    print(tables(report))


if __name__ == "__main__":
    main()
