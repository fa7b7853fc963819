"""Every identity between estimators of the literature, in float64: one table that tests and documents.

Each row says in words what equals what. To add a method, write its expression in `estimators/methods.py`, name it in
`__all__` there, and add one row to `IDENTITIES` here with something that it must equal.
"""

import ast
import math
from pathlib import Path

import pytest
import torch

from oracles import gaussian
from scoredistill import estimators
from scoredistill.estimators import (
    Averaged,
    Batch,
    Inverted,
    OdeTarget,
    Predicted,
    Random,
    Residual,
    Row,
    Stein,
    Student,
    guided,
    methods,
)
from scoredistill.estimators.methods import *
from scoredistill.kernels import RBF
from scoredistill.priors import Counted, GaussianMixture, Guided, Prior
from scoredistill.sampling import ddim, ddim_invert, ddim_step, paper_sample
from scoredistill.schedule import VE, VP, Flow, Tabulated, inverse_alpha, noise_to_signal, per_sample
from scoredistill.studies.toy2d.claims import verdict
from scoredistill.studies.toy2d.jobs import mean_sds

F64 = torch.float64
N = 6


def table(count=1000):
    """Stable Diffusion's own noise table."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, count, dtype=F64) ** 2
    return Tabulated((1 - betas).cumprod(0))


def mixture(schedule):
    """Five anisotropic components in two classes."""
    g = torch.Generator().manual_seed(7)
    roots = 0.4 * torch.randn(5, 2, 2, generator=g, dtype=F64)
    means, eye = torch.randn(5, 2, generator=g, dtype=F64), torch.eye(2, dtype=F64)
    return GaussianMixture(means, roots @ roots.mT + 0.02 * eye, None, schedule, [0, 0, 1, 1, 1])


LABEL = {"label": torch.zeros(1, dtype=torch.long)}
OTHER = {"label": torch.ones(1, dtype=torch.long)}
NOTHING = {"label": -torch.ones(1, dtype=torch.long)}


def batch(cond=LABEL, source=True):
    g = torch.Generator().manual_seed(1)
    x, src = torch.randn(2, N, 2, generator=g, dtype=F64)
    return Batch(x, cond, src if source else None, OTHER)


def grad(estimator, prior, b=None, t=0.4, seed=0):
    b = batch() if b is None else b
    return estimator(prior, b, torch.full((len(b.x),), t, dtype=F64), torch.Generator().manual_seed(seed)).grad


def scaled(name, schedule, t=0.4):
    alpha, sigma = schedule(torch.tensor(t, dtype=F64))
    return {"alpha": alpha, "ratio": sigma / alpha, "sigma2": sigma**2}[name]


def chi(schedule, t, stride):
    """chi of posterior distillation, from the DDPM posterior's own mean and variance, written out."""
    t = torch.tensor(t, dtype=F64)
    (a, s), (a0, s0) = schedule(t), schedule(t - stride)
    beta = 1 - a**2 / a0**2
    spread = (s0**2 / s**2 * beta).sqrt()
    return (a0 * beta / s**2) * (s / a) / spread


SCHEDULES = {"VP": VP(), "VE": VE(0.002, 20.0), "Flow": Flow(), "SD": table()}
IDENTITIES = {
    # what: (left estimator or function of the prior, right side)
    "SJC is SDS with w = 1": (SJC(), SDS("uniform")),
    "RFDS is SDS with w = 1 / alpha": (RFDS(), lambda p: grad(SDS("uniform"), p) / scaled("alpha", p.schedule)),
    "RFDS with a weight is w times RFDS": (
        RFDS("sigma2"),
        lambda p: scaled("sigma2", p.schedule) * grad(RFDS(lambda alpha, sigma: torch.ones_like(alpha)), p),
    ),
    "RFDS-Rev is RFDS with predicted noise": (RFDSRev(), Residual(inverse_alpha, noise=Predicted(1, 1.0))),
    "UCM is RFDS with noise inverted to t = 1": (UCM(), Residual(inverse_alpha, noise=Inverted(3, 1.0, to=1.0))),
    "classifier score is what SDS / s tends to": (
        ClassifierScore(weight="uniform"),
        lambda p: (grad(SDS("uniform"), Guided(p, 1e9)) - grad(SDS("uniform"), Guided(p, 1.0))) / (1e9 - 1),
    ),
    "NFSD at large t with negative = null is s classifier": (
        NFSD(scale=7.5),
        lambda p: 7.5 * grad(ClassifierScore(), p),
    ),
    "NFSD at small t is SDS without its noise": (
        lambda p: grad(NFSD(scale=7.5, split=0.9), p),
        Residual(rows=guided(7.5), reference="zero"),
    ),
    "SDS bridge from nothing is s classifier": (SDSBridge(scale=40.0), lambda p: 40 * grad(ClassifierScore(), p)),
    "SDS bridge from the prompt to itself is 0": (SDSBridge(LABEL), lambda p: torch.zeros(N, 2, dtype=F64)),
    "SDS bridge from a prompt is classifier away from it": (
        SDSBridge(OTHER, 40.0),
        lambda p: 40 * grad(ClassifierScore(OTHER), p),
    ),
    "TrackedMSD of a large spread is MSD": (lambda p: grad(TrackedMSD(1e12), p), MSD()),
    "SDI is SDS with inverted noise and w = sigma / alpha": (
        SDI(7.5, -7.5, eta=0.0),
        Residual(noise_to_signal, guided(7.5), Inverted(10, -7.5)),
    ),
    "x - SDI is the denoised sample": (
        lambda p: batch().x - grad(SDI(7.5, -7.5, eta=0.0), p),
        lambda p: denoised(p, 7.5, -7.5),
    ),
    "SDI as published, (7.5, -7.5), is SDI at (8.5, -6.5)": (
        SDI(convention="published", eta=0.0),
        SDI(8.5, -6.5, eta=0.0),
    ),
    "x - SDI as published is the sample denoised by e_c + s (e_c - e_0)": (
        lambda p: batch().x - grad(SDI(3.0, -3.0, eta=0.0, convention="published"), p),
        lambda p: denoised_as_published(p, 3.0),
    ),
    "PFD with one step is SDI": (PFD(7.5, 1), SDI(7.5, -6.5, eta=0.0)),
    "ISM's reference is the prediction at s": (
        lambda p: grad(ISM(7.5, 0.05), p),
        lambda p: ism_by_hand(p, 7.5, 0.05),
    ),
    "asynchronous with no spread is (s - 1) classifier": (
        Asynchronous(7.5, 0.0),
        lambda p: 6.5 * after(lambda rng: torch.randn(N, 1, generator=rng, dtype=F64), ClassifierScore(), p),
    ),
    "DDS of a source that is its target is 0": (
        lambda p: grad(DDS(), p, Batch(batch().x, LABEL, batch().x)),
        lambda p: torch.zeros(N, 2, dtype=F64),
    ),
    "DDS is the difference of two SDS with one noise": (
        DDS(),
        lambda p: grad(SDS("uniform"), p) - grad(SDS("uniform"), p, Batch(batch().source, OTHER)),
    ),
    "DVRF without shift is DDS / alpha": (DVRF(0.0), lambda p: grad(DDS(), p) / scaled("alpha", p.schedule)),
    "FlowEdit is DVRF with c = t": (FlowEdit(), DVRF(1.0)),
    "ESD with eta = 0 is VSD": (lambda p: grad(ESD(gaussian_of(p), 0.0, updates=0), p), lambda p: vsd(p)),
    "ESD without a view is VSD": (lambda p: grad(ESD(gaussian_of(p), 0.5, updates=0), p), lambda p: vsd(p)),
    "VSD is SDS with the student's noise": (
        lambda p: vsd(p),
        lambda p: grad(SDS(), p) - grad(SDS(), gaussian_of(p)),
    ),
    "VSD with the prior as its student is 0": (
        lambda p: grad(VSD(p, updates=0), p),
        lambda p: torch.zeros(N, 2, dtype=F64),
    ),
    "CSD of one particle is SDS": (
        lambda p: grad(CSD(), p, Batch(batch().x[:1], LABEL)),
        lambda p: grad(SDS(), p, Batch(batch().x[:1], LABEL)),
    ),
    "CSD with a vanishing kernel is SDS": (CSD(RBF(1e-6)), SDS()),
    "Stein of a wide kernel is the mean": (
        Stein(SDS(), RBF(1e9)),
        lambda p: grad(SDS(), p).mean(0).expand(N, 2),
    ),
    "collaborative mean shift with beta = 0 is mean shift": (CollaborativeMSD(0.0), MSD()),
    "mean shift is DDIM's own denoiser on clean samples": (
        MSD(),
        lambda p: batch().x - p.denoise_at(batch().x, torch.full((N,), scaled("ratio", p.schedule), dtype=F64), LABEL),
    ),
    "mean shift is SDS without noise, w = sigma / alpha": (MSD(), lambda p: grad(silent(), p)),
    "guidance by rows is guidance by the prior": (
        Residual(rows=guided(4.0)),
        lambda p: grad(SDS(), Guided(p, 4.0)),
    ),
    "SDS is linear in guidance": (
        lambda p: grad(SDS(), Guided(p, 4.0)),
        lambda p: grad(SDS(), Guided(p, 0.0)) + 4 * grad(ClassifierScore(), p),
    ),
    "one ODE step is the residual with w = sigma / alpha": (OdeTarget(Random(), 1), Residual(noise_to_signal)),
    "averaging one draw changes nothing": (Averaged(SDS(), 1), SDS()),
    "averaging draws of nothing is nothing": (
        lambda p: grad(Averaged(DDS(), 3), p, Batch(batch().x, LABEL, batch().x)),
        lambda p: torch.zeros(N, 2, dtype=F64),
    ),
    "a scale of its own takes the place of the prior's": (
        lambda p: torch.stack([grad(e, Guided(p, 3.0)) for e in (SDI(), ISM(), PFD())]),
        lambda p: torch.stack([grad(e, p) for e in (SDI(), ISM(), PFD())]),
    ),
    "rows add up": (Residual(rows=(Row(0.25), Row(0.75))), SDS()),
    "PDS with the stride's own variance is chi DDS": (
        lambda p: grad(PDS(2 / 999), p),
        lambda p: chi(p.schedule, 0.4, 2 / 999) * grad(DDS(), p),
    ),
}
NOT_DEFINED = {  # identities that need an end of the schedule without signal, or a discrete table
    "UCM is RFDS with noise inverted to t = 1": {"VE"},
    "PDS with the stride's own variance is chi DDS": {"VE"},  # DDPM's posteriors are variance preserving
}
EXTREME = {"classifier score is what SDS / s tends to": 1e-7}


def after(draw, estimator, prior):
    """The gradient when the generator has been asked for something before."""
    rng = torch.Generator().manual_seed(0)
    draw(rng)
    return estimator(prior, batch(), torch.full((N,), 0.4, dtype=F64), rng).grad


def silent():
    """SDS whose noise is 0."""
    estimator = FixedNoise()
    estimator.noise.noise = torch.zeros(N, 2, dtype=F64)
    return estimator


def denoised(prior, scale, inversion_scale):
    b, t = batch(), torch.full((N,), 0.4, dtype=F64)
    x_t = ddim_invert(Guided(prior, inversion_scale), b.x, 10, {"label": LABEL["label"].expand(N)}, to=0.4)
    return Guided(prior, scale).denoise(x_t, t, LABEL)


def denoised_as_published(prior, scale):
    """The inversion guided by -scale and the prediction by scale, counted from the conditional prediction."""

    def counted_from_the_condition(s):
        def eps(x_t, t, cond=None):
            conditional = prior.eps(x_t, t, cond)
            return conditional + s * (conditional - prior.eps(x_t, t, prior.null(cond)))

        return Prior.from_callable(eps, prior.schedule)

    b, t, cond = batch(), torch.full((N,), 0.4, dtype=F64), {"label": LABEL["label"].expand(N)}
    x_t = ddim_invert(counted_from_the_condition(-scale), b.x, 10, cond, to=0.4)
    return counted_from_the_condition(scale).denoise(x_t, t, cond)


def ism_by_hand(prior, scale, delta):
    b, t = batch(), torch.full((N,), 0.4, dtype=F64)
    s = t - delta
    x_s = ddim_invert(prior, b.x, 4, NOTHING, to=0.4 - delta)
    at_s = prior.eps(x_s, s, NOTHING)
    (alpha, sigma), (alpha_s, sigma_s) = prior.schedule(t), prior.schedule(s)
    x_t = (alpha / alpha_s)[:, None] * (x_s - sigma_s[:, None] * at_s) + sigma[:, None] * at_s
    return per_sample(sigma / alpha, x_t) * (Guided(prior, scale).eps(x_t, t, LABEL) - at_s)


def gaussian_of(prior):
    """A student that has not learned: one Gaussian, blind to the condition."""
    student = gaussian(torch.tensor([0.3, -0.2], dtype=F64), 0.5, prior.schedule)
    student.labels = torch.zeros(1, dtype=torch.long)
    student.eps = lambda x, t, cond=None: GaussianMixture.eps(student, x, t, None)
    return student


def vsd(prior):
    return grad(VSD(gaussian_of(prior), updates=0), prior)


def value(side, prior):
    return side(prior) if not hasattr(side, "state_dict") else grad(side, prior)


DEFINED = [(what, name) for what in IDENTITIES for name in SCHEDULES if name not in NOT_DEFINED.get(what, ())]


@pytest.mark.parametrize(("what", "schedule"), DEFINED)
def test_identity(what, schedule):
    prior = mixture(SCHEDULES[schedule])
    left, right = (value(side, prior) for side in IDENTITIES[what])
    assert left.isfinite().all()
    size = right.abs().max().clamp(min=1)
    assert (left - right).abs().max() < EXTREME.get(what, 1e-10) * size


@pytest.mark.parametrize("options", [{}, {"dt": "index"}, {"anchor": "inverted"}, {"interval": (0.2, 0.6)}])
def test_mean_shift_of_the_paper_is_its_sampler(options):
    """With lambda = sqrt 2 bandwidth; the options reach the sampler."""
    prior, x, h = mixture(VE(0.02, 5.0)), batch().x, 0.4
    found = grad(MSD(lambda_=2**0.5 * h, sampler="paper", steps=6, **options), prior, Batch(x))
    rng = torch.Generator().manual_seed(0)
    draw = lambda z: torch.randn(z.shape, generator=rng, dtype=F64)
    y = paper_sample(prior, x, torch.full((N,), h, dtype=F64), 6, None, draw, **options)
    assert (found - (x - y)).abs().max() < 1e-12


def test_every_method_has_an_identity_or_a_limit():
    """In this module; those of CSDEdit are in test_csd_edit.py."""
    nodes = list(ast.walk(ast.parse(Path(__file__).read_text())))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}  # methods.NAME
    assert set(methods.__all__) - used == {"CSDEdit"}


def test_every_method_is_exported_once():
    assert len(set(methods.__all__)) == len(methods.__all__)
    assert all(getattr(estimators, name) is getattr(methods, name) for name in methods.__all__)
    assert set(methods.__all__) <= set(estimators.__all__)


# Identities that are runs


@pytest.mark.parametrize("schedule", ["VP", "VE", "SD"])
def test_fixed_noise_with_a_descending_times_is_ddim(schedule, rng):
    """lr w = r_k - r_{k+1}: the particles plus r_k n are DDIM's own path, up to rounding."""
    prior, steps = mixture(SCHEDULES[schedule]), 12
    times = prior.times(steps)
    x_T = torch.randn(N, 2, generator=rng, dtype=F64)
    alpha, sigma = prior.schedule(times[0, 0])
    fixed = FixedNoise(weight="uniform")
    noise = x_T / sigma  # so that alpha x + sigma n = x_T at x = 0
    fixed.noise.noise = noise
    x = torch.zeros_like(x_T)
    for now, then in times:
        g = fixed(prior, Batch(x, LABEL), now.expand(N), rng).grad
        x = x - (prior.schedule.ratio(now) - prior.schedule.ratio(then)) * g
    alpha, sigma = prior.schedule(times[-1, 1])
    assert (alpha * x + sigma * noise - ddim(prior, x_T, steps, LABEL)).abs().max() < 1e-12


@pytest.mark.parametrize("schedule", ["VP", "VE", "SD"])
def test_recycled_noise_is_ddim(schedule, rng):
    prior, steps = mixture(SCHEDULES[schedule]), 12
    times = prior.times(steps)
    x_T = torch.randn(N, 2, generator=rng, dtype=F64)
    recycled, x = RecycledNoise(), torch.zeros_like(x_T)
    recycled.noise.noise = x_T / prior.schedule(times[0, 0])[1]
    for now, _ in times:
        x = x - recycled(prior, Batch(x, LABEL), now.expand(N), rng).grad
    alpha, sigma = prior.schedule(times[-1, 1])
    assert (alpha * x + sigma * recycled.noise.noise - ddim(prior, x_T, steps, LABEL)).abs().max() < 1e-12


def test_flowedit_is_its_own_algorithm(rng):
    """The path between two flows, written out as in the paper: Z_edit <- Z_edit + dt (v_target - v_source)."""
    prior, steps = mixture(Flow()), 10
    b = batch()
    grid = torch.linspace(0.9, 0.0, steps + 1, dtype=F64)
    x, edit = b.source.clone(), b.source.clone()
    for k in range(steps):
        t, dt = grid[k], grid[k] - grid[k + 1]
        noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(k), dtype=F64)
        z_src = (1 - t) * b.source + t * noise
        z_tgt = edit + z_src - b.source
        velocity = lambda z, cond, t=t: prior.eps(z, t.expand(N), cond) - prior.denoise(z, t.expand(N), cond)
        edit = edit - dt * (velocity(z_tgt, LABEL) - velocity(z_src, OTHER))
        g = grad(FlowEdit(), prior, Batch(x, LABEL, b.source, OTHER), float(t), seed=k)
        x = x - dt * g
    assert (x - edit).abs().max() < 1e-12


# Noise that the prior finds, written out


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_predicted_noise_is_the_prediction_for_random_noise(schedule):
    prior, b, t = mixture(SCHEDULES[schedule]), batch(), torch.full((N,), 0.4, dtype=F64)
    alpha, sigma = (c[:, None] for c in prior.schedule(t))
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    for rounds in (0, 1, 2):
        found = Predicted(rounds, 3.0)(prior, b, [t], torch.Generator().manual_seed(0))[0]
        assert (found - noise).abs().max() < 1e-12
        noise = Guided(prior, 3.0).eps(alpha * b.x + sigma * noise, t, LABEL)


@pytest.mark.parametrize("schedule", ["VP", "VE", "SD"])
@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_inverted_noise_is_what_ddim_inversion_adds(schedule, eta):
    """At the first time, and at another one a step later; with eta the same fresh noise."""
    prior, b, t = mixture(SCHEDULES[schedule]), batch(), torch.full((N,), 0.4, dtype=F64)
    cond, run = {"label": LABEL["label"].expand(N)}, lambda: torch.Generator().manual_seed(0)
    alpha, sigma = (c[:, None] for c in prior.schedule(t))
    rng = run()
    x_t = ddim_invert(Guided(prior, -7.5), b.x, 10, cond, 0.4, eta, rng)
    found = Inverted(10, -7.5, eta)(prior, b, [t, t + 0.1], run())
    assert (found[0] - (x_t - alpha * b.x) / sigma).abs().max() < 1e-10
    later = ddim_step(Guided(prior, -7.5), x_t, t, t + 0.1, cond, eta, rng)
    alpha, sigma = (c[:, None] for c in prior.schedule(t + 0.1))
    assert (found[1] - (later - alpha * b.x) / sigma).abs().max() < 1e-10


def test_noise_inverted_to_the_end_serves_all_times():
    """UCM on straight paths: at t = 1 the sample is noise alone, and it is the noise of the residual at t = .4."""
    prior, b, t = mixture(Flow()), batch(), torch.full((N,), 0.4, dtype=F64)
    noise = ddim_invert(prior, b.x, 3, {"label": LABEL["label"].expand(N)}, to=1.0)
    expected = (prior.eps(0.6 * b.x + 0.4 * noise, t, LABEL) - noise) / 0.6
    assert (grad(UCM(), prior) - expected).abs().max() < 1e-12
    found = Inverted(3, 1.0, to=1.0)(prior, b, [t, t + 0.1], None)
    assert torch.equal(found[0], found[1])


def test_guidance_in_an_interval_is_that_of_each_row_s_own_time():
    """Two guided rows, one inside of the interval and one later outside of it."""
    prior, b, t = mixture(VP()), batch(), torch.full((N,), 0.4, dtype=F64)
    estimator = Residual("uniform", (Row(guided=True), Row(-1.0, later=True, guided=True)), reference="zero",
                         second=lambda t, rng: t + 0.2)  # fmt: skip
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    seen = lambda time: prior.schedule(time)[0][:, None] * b.x + prior.schedule(time)[1][:, None] * noise
    expected = Guided(prior, 5.0).eps(seen(t), t, LABEL) - prior.eps(seen(t + 0.2), t + 0.2, LABEL)
    assert (grad(estimator, Guided(prior, 5.0, (0.0, 0.5))) - expected).abs().max() < 1e-12


# Limits, with their order


def test_ism_tends_to_the_classifier_score_as_delta_shrinks():
    prior = mixture(table())
    limit = 7.5 * classifier_on_the_path(prior)

    def gap(delta):
        return (grad(ISM(7.5, delta, steps=400, weight="uniform"), prior) - limit).abs().max()

    errors = [gap(delta) for delta in (0.1, 0.02, 0.002)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]  # first order: five and ten times smaller
    assert errors[2] < 0.01


def classifier_on_the_path(prior):
    b, t = batch(), torch.full((N,), 0.4, dtype=F64)
    x_t = ddim_invert(prior, b.x, 400, NOTHING, to=0.4)
    return prior.eps(x_t, t, LABEL) - prior.eps(x_t, t, NOTHING)


def test_ism_contracts_on_its_own_gaussian():
    """(x - m) [l_t / sqrt(S (S + l_t^2)) - l_s / sqrt(S (S + l_s^2))], l = sigma / alpha."""
    mean, S, schedule = torch.tensor([0.4, -1.0], dtype=F64), 0.3, VP()
    prior, x = gaussian(mean, S, schedule), batch().x
    t, delta = 0.4, 0.002
    f = lambda time: (lambda r: r / math.sqrt(S * (S + r**2)))(float(schedule.ratio(torch.tensor(time, dtype=F64))))
    expected = (x - mean) * (f(t) - f(t - delta))
    found = grad(ISM(1.0, delta, steps=2000, weight="uniform"), prior, Batch(x), t)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert ((found * (x - mean)).sum(1) > 0).all()


@pytest.mark.parametrize(("t", "repels"), [(0.08, True), (0.6, False)])
def test_asynchronous_repels_below_the_prior_s_own_noise_level(t, repels, rng):
    """Its coefficient on a Gaussian is f(l_t) - f(l_t'), f(l) = l / (S + l^2): negative below sqrt(S)."""
    mean, S, schedule, n = torch.zeros(2, dtype=F64), 0.3, VP(), 4000
    prior, x = gaussian(mean, S, schedule), torch.tensor([[1.0, -0.5]], dtype=F64).expand(n, 2)
    estimator = Asynchronous(1.0, 0.5, weight="uniform")
    found = estimator(prior, Batch(x), torch.full((n,), t, dtype=F64), rng).grad.mean(0)
    f = lambda time: schedule.ratio(time) / (S + schedule.ratio(time) ** 2)
    start = torch.tensor(t, dtype=F64)
    later = start + torch.linspace(0, 0.5 * (t - 0.02), 1001, dtype=F64)
    expected = (f(start) - f(later)).mean() * x[0]
    assert (expected[0] < 0) == repels
    assert (found - expected).abs().max() < 0.03 * expected.abs().max() + 4 * 0.5 / n**0.5 * 0.2


def test_nfsd_has_more_variance_than_sds_on_a_gaussian(rng):
    """At small t both have the same mean; NFSD leaves out the reference that cancels the noise."""
    prior, n = gaussian(torch.zeros(2, dtype=F64), 0.3), 20_000
    b, t = Batch(torch.ones(n, 2, dtype=F64)), torch.full((n,), 0.19, dtype=F64)
    estimators = SDS("uniform"), NFSD(scale=1.0, weight="uniform")
    sds, nfsd = (e(prior, b, t, torch.Generator().manual_seed(0)).grad for e in estimators)
    alpha, sigma = VP()(t[:1])
    S = alpha**2 * 0.3 + sigma**2
    error = 4 * (sds.std() + nfsd.std()) / n**0.5
    assert (sds.mean(0) - nfsd.mean(0)).abs().max() < error
    assert abs(nfsd.std() / (sigma**2 / S) - 1) < 0.02
    assert abs(sds.std() / (alpha**2 * 0.3 / S) - 1) < 0.02
    assert abs(nfsd.var() / sds.var() - float((sigma**2 / (alpha**2 * 0.3)) ** 2)) < 0.1 * nfsd.var() / sds.var()


def test_classifier_score_has_no_fixed_point_on_equal_gaussians(rng):
    """Two classes of one covariance: the gradient is the same everywhere, without noise."""
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F64)
    prior = GaussianMixture(means[:1], torch.tensor([0.3], dtype=F64), labels=[0])
    other = GaussianMixture(means[1:], torch.tensor([0.3], dtype=F64), labels=[0])
    null = prior.null
    prior.eps = lambda x, t, cond: torch.where(
        (cond["label"] < 0)[:, None], GaussianMixture.eps(other, x, t), GaussianMixture.eps(prior, x, t, None)
    )
    g = grad(ClassifierScore(), prior, Batch(5 * batch().x, {"label": torch.zeros(N, dtype=torch.long)}))
    assert null(LABEL)["label"].item() == -1
    assert (g - g[0]).abs().max() < 1e-12
    assert g[0, 0] < 0  # towards the class, wherever x is


def test_sds_unreduced_has_the_same_mean_and_more_variance(rng):
    prior, n = gaussian(torch.zeros(2, dtype=F64), 0.3), 40_000
    b = Batch(torch.ones(n, 2, dtype=F64))
    with_n, without = (grad(SJC(reduced), prior, b, 0.3) for reduced in (True, False))
    assert (with_n.mean(0) - without.mean(0)).abs().max() < 4 * without.std() / n**0.5
    assert without.var() > with_n.var()


def test_pfd_of_a_score_with_itself_vanishes_as_steps_grow():
    """Up and down the same flow: an error of first order, at the same number of steps both ways."""
    prior, b = mixture(VP()), Batch(batch().x, None)
    errors = [grad(PFD(1.0, k, k), prior, b, 0.3).abs().max() for k in (50, 100, 200)]
    orders = [math.log2(errors[i] / errors[i + 1]) for i in (0, 1)]
    assert all(0.8 < order < 1.3 for order in orders), orders


def test_pfd_between_gaussians_is_the_exact_map():
    """m_p + sqrt(S_p / (S_p + l^2)) [m_q - m_p + (x - m_q) sqrt((S_q + l^2) / S_q)], and OT as l grows."""
    schedule = VP()
    S_q, S_p = 0.2, 0.6
    m_q, m_p = torch.tensor([0.5, 0.0], dtype=F64), torch.tensor([-0.5, 1.0], dtype=F64)
    both = GaussianMixture(torch.stack([m_q, m_p]), torch.tensor([S_q, S_p], dtype=F64), None, schedule, [0, 1])
    both.null = lambda cond: {"label": torch.zeros_like(cond["label"])}  # "nothing" is q, the prompt is p
    x, t = batch().x, 0.8
    b = Batch(x, OTHER)
    coarse, fine = (x - grad(OdeTarget(Inverted(n, 0.0), n, 1.0), both, b, t) for n in (300, 600))
    found = 2 * fine - coarse  # errors are of first order in the step: what doubles with it cancels
    r2 = float(schedule.ratio(torch.tensor(t, dtype=F64))) ** 2
    exact = m_p + math.sqrt(S_p / (S_p + r2)) * (m_q - m_p + (x - m_q) * math.sqrt((S_q + r2) / S_q))
    transport = m_p + math.sqrt(S_p / S_q) * (x - m_q)
    assert (found - exact).abs().max() < 5e-3
    far = schedule.ratio(torch.tensor(1.0, dtype=F64)) ** 2
    at_one = m_p + (S_p / (S_p + far)).sqrt() * (m_q - m_p + (x - m_q) * ((S_q + far) / S_q).sqrt())
    assert (at_one - transport).abs().max() < (exact - transport).abs().max() / 5


def test_pds_of_the_released_code_has_an_anchor_and_the_consistent_one_has_none():
    """psi of betas of one tick with a stride of two, on Stable Diffusion's table: the figures of MATH's finding."""
    schedule, tick = table(), 1 / 999
    psi = PDS(2 * tick, tick).anchor
    found = [float(psi(schedule, torch.tensor([i / 999], dtype=F64))) for i in (21, 101, 301, 501, 901)]
    assert found == pytest.approx([1.61, 0.31, 0.079, 0.032, 0.006], rel=0.03, abs=5e-4)
    from scoredistill.estimators.methods import _posterior

    for t in (0.05, 0.4, 0.9):
        for stride in (tick, 2 * tick, 0.02):
            assert abs(_posterior(schedule, torch.tensor([t], dtype=F64), stride, None)[1]) < 1e-10


def test_inverted_noise_is_the_flow_s_to_first_order():
    mean, S, schedule, t = torch.tensor([0.4, -1.0], dtype=F64), 0.3, VP(), 0.5
    prior, b = gaussian(mean, S, schedule), Batch(batch().x)
    r = float(schedule.ratio(torch.tensor(t, dtype=F64)))
    exact = (b.x - mean) / (r * math.sqrt(S)) * (math.sqrt(S + r**2) - math.sqrt(S))
    errors = []
    for steps in (50, 100, 200):
        found = Inverted(steps)(prior, b, [torch.full((N,), t, dtype=F64)], None)[0]
        errors.append((found - exact).abs().max())
    assert all(0.85 < math.log2(errors[i] / errors[i + 1]) < 1.2 for i in (0, 1))


def test_an_unknown_convention_of_guidance_is_refused():
    with pytest.raises(ValueError, match="unknown convention 'threestudio': use one of guided, published"):
        SDI(convention="threestudio")


def test_sdi_vanishes_nowhere_but_at_the_fixed_point_of_a_gaussian():
    """SDI contracts towards the mean at every t: its gradient is a positive multiple of x - mu."""
    mean = torch.tensor([0.4, -1.0], dtype=F64)
    prior, b = gaussian(mean, 0.3), Batch(batch().x)
    for t in (0.1, 0.5, 0.9):
        g = grad(SDI(eta=0.0), prior, b, t)
        assert ((g * (b.x - mean)).sum(1) > 0).all()
    at_mode = grad(SDI(eta=0.0), prior, Batch(mean.expand(N, 2)), 0.5)
    assert at_mode.abs().max() < 1e-4  # x is taken to be at time 0 and seen at time 1e-4


# Students


def test_vsd_vanishes_in_the_mean_iff_the_distributions_agree(rng):
    """With the particles' exact score: zero for particles drawn from the prior, not for others."""
    prior = mixture(VP())
    x = prior.sample(N, rng)
    same = GaussianMixture(prior.means, prior.axes @ torch.diag_embed(prior.spread) @ prior.axes.mT, schedule=VP())
    assert grad(VSD(same, updates=0), prior, Batch(x)).abs().max() < 1e-10
    narrow = gaussian(torch.zeros(2, dtype=F64), 0.05)
    assert grad(VSD(narrow, updates=0), prior, Batch(x)).abs().max() > 0.1


class Shift(Prior, torch.nn.Module):
    """A student with one parameter: a Gaussian of variance 1 with an unknown mean."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.mean = torch.nn.Parameter(torch.zeros(2, dtype=F64))
        self.schedule = VP()

    def eps(self, x_t, t, cond=None):
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return sigma * (x_t - alpha * self.mean) / (alpha**2 + sigma**2)


@pytest.mark.parametrize("gamma", [0.0, -0.75])
def test_student_learns_the_particles_and_gamma_scales_its_distance(gamma, rng):
    """At the optimum mean_q = (m + gamma mu) / (1 + gamma): eps_p - eps_q is 1 / (1 + gamma) times VSD's."""
    mu, m = torch.zeros(2, dtype=F64), torch.tensor([0.5, -0.3], dtype=F64)
    prior, x = gaussian(mu, 1.0), m + torch.randn(4000, 2, generator=rng, dtype=F64)
    student = Shift()
    estimator = Student(student, lr=0.02, gamma=gamma)
    for _ in range(400):
        estimator(prior, Batch(x), torch.full((4000,), 0.5, dtype=F64), rng)
    assert (student.mean - (x.mean(0) + gamma * mu) / (1 + gamma)).abs().max() < 0.05 / (1 + gamma)


def test_student_resumes_exactly(rng):
    prior, x = gaussian(torch.zeros(2, dtype=F64), 1.0), torch.randn(8, 2, generator=rng, dtype=F64) + 1
    t = torch.full((8,), 0.5, dtype=F64)

    def run(estimator, seeds):
        return [estimator(prior, Batch(x), t, torch.Generator().manual_seed(s)).grad for s in seeds][-1]

    whole, first, second = (VSD(Shift(), lr=0.05) for _ in range(3))
    straight = run(whole, range(6))
    run(first, range(3))
    second.load_state_dict(first.state_dict())
    assert torch.equal(run(second, range(3, 6)), straight)


class Seeing(Shift):
    """A student whose mean is its view, and which remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def eps(self, x_t, t, cond=None):
        self.seen.append((t, cond["view"]))
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return sigma * (x_t - alpha * (self.mean + cond["view"])) / (alpha**2 + sigma**2)


@pytest.mark.parametrize("eta", [0.0, 0.25, 1.0])
def test_a_share_of_the_student_is_blind_to_the_view(eta):
    """Without the view the student's mean is 0: eta of it moves its prediction by eta sigma alpha view / S."""
    prior, x = gaussian(torch.zeros(2, dtype=F64), 1.0), batch().x
    view = torch.randn(N, 2, generator=torch.Generator().manual_seed(2), dtype=F64)
    g = grad(ESD(Seeing(), eta, weight="uniform", updates=0), prior, Batch(x, {"view": view}))
    alpha, sigma = VP()(torch.tensor(0.4, dtype=F64))
    assert (g - (1 - eta) * sigma * alpha * view / (alpha**2 + sigma**2)).abs().max() < 1e-12


def test_a_student_trains_at_uniform_times_and_now_and_then_without_its_view(rng):
    n, prior, student = 20_000, gaussian(torch.zeros(2, dtype=F64), 1.0), Seeing()
    b = Batch(torch.randn(n, 2, generator=rng, dtype=F64), {"view": torch.ones(n, 2, dtype=F64)})
    Student(student, times=(0.2, 0.7))(prior, b, torch.full((n,), 0.5, dtype=F64), rng)
    t, view = student.seen[0]
    assert (t.min() > 0.2) & (t.max() < 0.7)
    below = (t[:, None] < 0.2 + 0.5 * torch.arange(1, 10, dtype=F64) / 10).double().mean(0)
    assert (below - torch.arange(1, 10, dtype=F64) / 10).abs().max() < 4 * 0.5 / n**0.5
    assert set(view.flatten().tolist()) == {0.0, 1.0}
    assert abs((view == 0).double().mean() - 0.1) < 4 * 0.3 / n**0.5
    assert (student.seen[-1][1] == 1).all()  # the gradient sees it


# Budgets: network rows and calls per step


BUDGETS = {
    "SDS": (SDS(), 1.0, (1, 1)),
    "SDS guided": (SDS(), 7.5, (2, 1)),
    "SJC": (SJC(), 7.5, (2, 1)),
    "classifier": (ClassifierScore(), None, (2, 1)),
    "NFSD with a negative": (NFSD(OTHER), None, (3, 1)),
    "bridge": (SDSBridge(OTHER), None, (2, 1)),
    "SDI": (SDI(steps=10), None, (22, 11)),
    "ISM": (ISM(steps=4), None, (7, 6)),
    "asynchronous": (Asynchronous(), None, (3, 1)),
    "RFDS-Rev": (RFDSRev(), 7.5, (3, 2)),
    "DDS": (DDS(), 7.5, (4, 1)),
    "PDS": (PDS(), 7.5, (4, 1)),
    "DVRF": (DVRF(), 7.5, (4, 1)),
    "MSD": (MSD(), 7.5, (2, 1)),
    "MSD ancestral": (MSD(sampler="ancestral", steps=4), 7.5, (8, 4)),
    "PFD": (PFD(steps=4, inversion_steps=10), None, (28, 14)),
    "averaged": (Averaged(DDS(), 3), 7.5, (12, 1)),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_network_rows_per_particle_and_calls(name):
    estimator, scale, (rows, calls) = BUDGETS[name]
    counted = Counted(mixture(VP()))
    grad(estimator, counted if scale is None else Guided(counted, scale))
    assert (counted.rows / N, counted.calls) == (rows, calls)


@pytest.mark.parametrize("name", BUDGETS)
def test_permuted_particles_get_permuted_gradients(name):
    """With one generator per particle nothing depends on the order of particles."""
    estimator, scale, _ = BUDGETS[name]
    prior = mixture(VP()) if scale is None else Guided(mixture(VP()), scale)
    b, order = batch(), torch.tensor([3, 0, 5, 1, 4, 2])
    t = torch.full((N,), 0.4, dtype=F64)
    seeds = lambda index: [torch.Generator().manual_seed(int(i)) for i in index]
    straight = estimator(prior, b, t, seeds(range(N))).grad
    permuted = Batch(b.x[order], b.cond, b.source[order], b.source_cond)
    assert (estimator(prior, permuted, t, seeds(order)).grad - straight[order]).abs().max() < 1e-12


# Noise


def test_antithetic_noise_cancels_what_is_linear(rng):
    prior, b = gaussian(torch.zeros(2, dtype=F64), 0.3), Batch(torch.ones(8, 2, dtype=F64))
    g = Residual(noise=Random(antithetic=True))(prior, b, torch.full((8,), 0.4, dtype=F64), rng).grad
    pairs = g.reshape(4, 2, 2).mean(1)
    assert (pairs - pairs[0]).abs().max() < 1e-12
    with pytest.raises(ValueError, match="even number"):
        Residual(noise=Random(antithetic=True))(prior, Batch(b.x[:3]), torch.full((3,), 0.4, dtype=F64), rng)


def test_the_mean_of_sds_is_exact_on_a_gaussian():
    """Pairs of opposite noise cancel: sigma alpha (x - mu) / S, the mean over the middles of equal strata of t."""
    mean, S, times = torch.tensor([0.4, -1.0], dtype=F64), 0.3, 12
    prior, x = gaussian(mean, S, VP()), batch().x
    alpha, sigma = VP()(0.02 + 0.96 * (torch.arange(times, dtype=F64) + 0.5) / times)
    exact = (sigma * alpha / (alpha**2 * S + sigma**2)).mean() * (x - mean)
    assert (mean_sds(prior, x, times) - exact).abs().max() < 1e-12


def test_samples_that_are_likely_but_all_alike_collapse():
    """What the paper prints for SDS on the pinwheel: precision .9 with a recall of .005. Recall alone decides."""
    printed = (2.0, 0.9, 0.005)
    assert verdict("sds", printed, {"nll": 2.0, "precision": 0.9, "recall": 0.005}) == "collapses, as published"
    assert verdict("sds", printed, {"nll": 2.0, "precision": 0.005, "recall": 0.9}) == "does not collapse"


def test_shared_noise_is_one_noise():
    x = torch.zeros(4, 3, dtype=F64)
    draw = lambda rng: Random(shared=True)(mixture(VP()), Batch(x), [x[:, 0], x[:, 0]], rng)
    now, later = draw(torch.Generator().manual_seed(0))
    assert torch.equal(now, later)
    assert torch.equal(now, now[:1].expand_as(x))
    assert now.std() > 0.1
    each = draw([torch.Generator().manual_seed(k) for k in range(4)])[0]
    assert torch.equal(each, draw(torch.Generator().manual_seed(0))[0])
    with pytest.raises(ValueError, match="choose one"):
        Random(antithetic=True, shared=True)
    with pytest.raises(ValueError, match="fraction"):
        Random(shared=1.5)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_partly_shared_noise_has_that_correlation(fraction):
    x = torch.zeros(2, 50_000, dtype=F64)
    noise = Random(shared=fraction)(mixture(VP()), Batch(x), [x[:, 0]], torch.Generator().manual_seed(0))[0]
    assert (torch.cov(noise) - torch.tensor([[1, fraction], [fraction, 1]], dtype=F64)).abs().max() < 0.03
    each = [torch.Generator().manual_seed(k) for k in range(2)]
    assert not torch.equal(*Random(shared=fraction)(mixture(VP()), Batch(x), [x[:, 0]], each)[0])


@pytest.mark.parametrize("make", [FixedNoise, RecycledNoise])
@pytest.mark.parametrize("refresh", [0.0, 0.3, 1.0])
def test_refreshed_noise_stays_normal_and_keeps_its_share(make, refresh, rng):
    """Of unit variance for ever, with correlation sqrt(1 - r) from step to step; the kept noise is given to all times.

    Recycled noise is refreshed from the prediction, which for a prior of one point is the noise itself.
    """
    n, prior = 50_000, gaussian(torch.zeros(1, dtype=F64), 1e-16)
    x, estimator = torch.zeros(n, 1, dtype=F64), make(refresh)
    t = torch.full((n,), 0.5, dtype=F64)
    for _ in range(5):
        before = estimator.noise.noise
        estimator(prior, Batch(x), t, rng)
    after = estimator.noise.noise
    assert abs(after.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((before * after).mean() - (1 - refresh) ** 0.5) < 4 * (2 / n) ** 0.5


def test_averaged_has_the_variance_of_a_mean(rng):
    prior, n = gaussian(torch.zeros(2, dtype=F64), 0.3), 8000
    b, t = Batch(torch.ones(n, 2, dtype=F64)), torch.full((n,), 0.4, dtype=F64)
    one, four = (Averaged(SDS(), k)(prior, b, t, rng).grad for k in (1, 4))
    assert abs(one.var() / four.var() - 4) < 0.4
    paired = Averaged(Residual(noise=Random(antithetic=True)), 2)(prior, b, t, rng).grad
    assert paired.var() < 1e-20


def test_kept_noise_is_resumed_and_refuses_other_particles(rng):
    prior, b = mixture(VP()), batch()
    first, second = FixedNoise(0.3), FixedNoise(0.3)
    grad(first, prior, b, seed=0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(grad(first, prior, b, seed=1), grad(second, prior, b, seed=1))
    with pytest.raises(ValueError, match="other particles"):
        grad(first, prior, Batch(b.x[:2], b.cond))


def test_editing_methods_ask_for_a_source():
    with pytest.raises(ValueError, match="source"):
        grad(DDS(), mixture(VP()), Batch(batch().x, LABEL))
