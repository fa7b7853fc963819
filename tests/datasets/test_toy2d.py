"""Toy sets have the documented entropies, spreads and symmetries; the ideal denoiser is exact and memory-efficient."""

import math
import subprocess
import sys

import pytest
import torch

from scoredistill.datasets.toy2d import density_level, fractal, grid_start, modes, pinwheel, spiral, toy_set
from scoredistill.priors import Empirical, GaussianMixture
from scoredistill.schedule import VE, VP, Flow

F64 = torch.float64
ENTROPY = {"fractal": -1.50, "spiral": -1.39, "pinwheel": -1.19}


def log_density(mixture, x):
    return torch.cat([mixture.log_prob(part) for part in x.split(100)])


@pytest.mark.parametrize("name", ENTROPY)
def test_entropy_and_bounds(name, rng):
    mixture = toy_set(name)
    samples = mixture.sample(20_000, rng)
    log_p = log_density(mixture, samples)
    assert log_p.std() / len(samples) ** 0.5 < 0.01  # the estimate is finer than the tolerance
    assert -log_p.mean() == pytest.approx(ENTROPY[name], abs=0.03)
    many = mixture.sample(200_000, rng)
    assert (many.abs().amax(1) <= 1.5).double().mean() > 0.999


@pytest.mark.parametrize(("mixture", "arms", "parts"), [(spiral(), 2, 320), (pinwheel(), 5, 120)], ids=["two", "five"])
def test_arms_are_turned_copies_of_standard_deviation_one_half(mixture, arms, parts, rng):
    assert len(mixture.means) == parts
    mean = mixture.weights @ mixture.means
    covs = mixture.axes @ torch.diag_embed(mixture.spread) @ mixture.axes.mT
    second = mixture.weights @ (mixture.means.square() + covs.diagonal(dim1=1, dim2=2))
    assert mean.abs().max() < 1e-12
    assert (second - 0.25).abs().max() < 1e-12
    samples = mixture.sample(100_000, rng)
    assert (samples.std(0) - 0.5).abs().max() < 0.01
    angle = 2 * math.pi / arms
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=F64)
    x = samples[:500]
    assert (mixture.log_prob(x @ turn.T) - mixture.log_prob(x)).abs().max() < 1e-9


def test_density_along_a_spiral_arm_is_even():
    mixture = spiral()
    arm = mixture.means[:160]
    steps = arm.diff(dim=0).norm(dim=1)
    assert steps.max() / steps.min() < 1.06  # equal along the arm, before each axis is scaled by its own few per cent
    middle = (arm[1:] + arm[:-1]) / 2
    ripple = mixture.log_prob(middle[20:-20]) - mixture.log_prob(arm[20:-21])
    assert ripple.abs().max() < 0.045  # between crest and trough


def test_blades_are_broad_inside_and_thin_and_rare_outside():
    mixture = pinwheel()
    radius, across = mixture.means[:24].norm(dim=1), mixture.spread[:24].amin(1).sqrt()
    assert (radius.diff() > 0).all()
    assert (across.diff() < 0).all()
    assert across[-1] < across[0] / 4
    assert mixture.weights[23] < mixture.weights[:24].max() / 20


def test_trees_thin_and_fork():
    mixture = fractal()
    assert mixture.labels is None
    width = mixture.spread.amin(1).sqrt().unique_consecutive()
    generations = width[torch.cat([torch.tensor([True]), width.diff().abs() > 1e-9])]
    assert len(mixture.means) == 8 * (2**7 - 1)
    assert len(generations) == 7
    assert (generations[1:] / generations[:-1] - 0.7).abs().max() < 1e-6
    assert mixture.means.mean(0).min() > 0.3  # upper right


def test_two_trees_meet_at_the_origin(rng):
    both, one = fractal(classes=2), fractal()
    x = one.sample(300, rng)
    first, second = ({"label": torch.tensor([label])} for label in (0, 1))
    assert (both.log_prob(x, cond=first) - one.log_prob(x)).abs().max() < 1e-9
    # equally likely classes: off the other tree the joint density is half of the class's own
    far = x[x.sum(1) > 0.5]
    assert (both.log_prob(far) - one.log_prob(far) + math.log(2)).abs().max() < 1e-6
    assert both.sample(2000, rng, label=1).mean(0).max() < -0.3
    origin, level = torch.zeros(1, 2, dtype=F64), density_level(one, n=2000)
    assert both.log_prob(origin, cond=first) > level
    assert both.log_prob(origin, cond=second) > level
    mirrored = both.log_prob(-x, cond=second)
    assert (mirrored - both.log_prob(x, cond=first)).abs().max() > 1  # a counterpart, not a mirror image


@pytest.mark.parametrize("name", ENTROPY)
def test_one_percent_lies_below_the_level(name, rng):
    mixture = toy_set(name)
    level = density_level(mixture, n=5000)
    fresh = log_density(mixture, mixture.sample(5000, rng))
    assert (fresh < level).double().mean() == pytest.approx(0.01, abs=0.007)  # sd of the difference .002
    assert level == density_level(mixture, n=5000)
    assert density_level(mixture, 0.5, 2000) > level
    with pytest.raises(ValueError, match="between 0 and 1"):
        density_level(mixture, 1.0)


@pytest.mark.parametrize("n", [1024, 1000, 993, 441, 430, 7, 2, 1])
def test_grid_start_fills_the_square(n):
    side = math.ceil(n**0.5)
    start = grid_start(n)
    cell = (start + 1.5) / 3 * (side - 1) if side > 1 else start
    assert (cell - cell.round()).abs().max() < 1e-12
    assert len(start.unique(dim=0)) == n
    assert start.abs().max() <= 1.5
    if side > 20:
        assert start.amin(0).tolist() == [-1.5, -1.5]
        assert start.amax(0).tolist() == [1.5, 1.5]
        missing = side**2 - n
        blocks = torch.histogramdd(start, [3, 3]).hist  # side / 3 is no integer: blocks differ by a row and a column
        full = torch.histogramdd(grid_start(side**2), [3, 3]).hist
        assert (full - blocks - missing / 9).abs().max() <= 2 + missing / 20
    with pytest.raises(ValueError, match="at least one"):
        grid_start(0)


def test_a_square_start_is_the_whole_grid():
    line = torch.linspace(-1.5, 1.5, 32, dtype=F64)
    assert torch.equal(grid_start(1024), torch.cartesian_prod(line, line))
    assert grid_start(9, torch.float32).dtype == torch.float32


@pytest.mark.parametrize("name", ENTROPY)
def test_modes_cover_the_set(name, rng):
    mixture = toy_set(name)
    found = modes(mixture)
    assert 30 <= len(found) <= 80
    distance = torch.cdist(mixture.means, found).amin(1)
    assert mixture.weights[distance <= 0.1].sum() >= 0.99 - 1e-9
    samples = mixture.sample(5000, rng)
    assert (torch.cdist(samples, found).amin(1) <= 0.15).double().mean() > 0.98
    hit = torch.cdist(found, samples[:1024]).amin(1) <= 0.1
    assert hit.double().mean() > 0.94  # a fair sample of 1024 finds the modes
    every = modes(mixture, 0.1, 1.0)
    assert torch.cdist(mixture.means, every).amin(1).max() <= 0.1
    with pytest.raises(ValueError, match="radius"):
        modes(mixture, 0.0)


def test_modes_of_clusters_are_their_heaviest_members():
    means = torch.tensor([[0.0, 0.0], [0.01, 0.0], [1.0, 0.0], [1.02, 0.0], [5.0, 0.0]], dtype=F64)
    weights = torch.tensor([0.2, 0.2, 0.3, 0.295, 0.005], dtype=F64)
    mixture = GaussianMixture(means, torch.full((5,), 1e-4, dtype=F64), weights)
    assert modes(mixture).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert modes(mixture, mass=1.0).tolist() == [[1.0, 0.0], [0.0, 0.0], [5.0, 0.0]]


def test_options_and_their_errors():
    assert toy_set("spiral").schedule == VE(0.002, 80.0)
    assert toy_set("pinwheel", schedule=VP()).schedule == VP()
    assert toy_set("fractal", 2, dtype=torch.float32).means.dtype == torch.float32
    with pytest.raises(ValueError, match="fractal, spiral, pinwheel"):
        toy_set("swiss-roll")
    with pytest.raises(ValueError, match="spiral has one class"):
        toy_set("spiral", 2)
    with pytest.raises(ValueError, match="1 or 2 classes"):
        fractal(3)


class TestEmpirical:
    """Requirements of large toy sets on the ideal denoiser."""

    @pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=repr)
    def test_it_equals_the_softmax_over_plain_distances(self, schedule, rng):
        data = 0.5 * torch.randn(400, 2, generator=rng, dtype=F64)
        x, t = torch.randn(60, 2, generator=rng, dtype=F64), torch.linspace(0.02, 0.98, 60, dtype=F64)
        alpha, sigma = (c[:, None] for c in schedule(t))
        squared = (x[:, None] - alpha[..., None] * data).square().sum(-1)
        expected = (-squared / (2 * sigma**2)).softmax(1) @ data
        assert (Empirical(data, schedule=schedule).denoise(x, t) - expected).abs().max() < 1e-9

    @pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
    def test_little_noise_gives_the_nearest_datum_exactly(self, dtype, rng):
        data = torch.randn(300, 2, generator=rng, dtype=dtype)
        x = data + 1e-3 * torch.randn(300, 2, generator=rng, dtype=dtype)
        prior = Empirical(data, schedule=VE(1e-4, 10.0))
        nearest = data[torch.cdist(x, data, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)]
        assert (prior.denoise(x, torch.zeros(300, dtype=dtype)) - nearest).abs().max() < 1e-6

    def test_it_is_differentiable(self, rng):
        data, labels = torch.randn(9, 2, generator=rng, dtype=F64), [0, 1, 2] * 3
        x, t = torch.randn(4, 2, generator=rng, dtype=F64).requires_grad_(), torch.full((4,), 0.4, dtype=F64)
        prior, cond = Empirical(data, labels), {"label": torch.tensor([-1, 0, 1, 2])}
        assert torch.autograd.gradcheck(lambda x: prior.denoise(x, t, cond), x)

    @pytest.mark.parametrize("schedule", [VP(), VE(0.01, 10.0), Flow()], ids=repr)
    def test_log_density_is_the_mixtures_of_vanishing_variance(self, schedule, rng, monkeypatch):
        data, labels = torch.randn(30, 3, generator=rng, dtype=F64), [0, 1, 1] * 10
        mixture = GaussianMixture(data, torch.full((30,), 1e-14, dtype=F64), schedule=schedule, labels=labels)
        x, t = torch.randn(40, 3, generator=rng, dtype=F64), torch.linspace(0.1, 1, 40, dtype=F64)
        monkeypatch.setattr("scoredistill.priors.empirical.CHUNK", 30 * 7)
        ideal = Empirical(data, labels, schedule)
        for cond in (None, {"label": torch.arange(40) % 3 - 1}):
            expected = mixture.log_prob(x, t, cond)
            assert ((ideal.log_prob(x, t, cond) - expected) / expected.abs().clamp(min=1)).abs().max() < 1e-8

    def test_score_is_the_gradient_of_the_log_density_in_any_shape(self, rng):
        data = torch.randn(12, 3, 2, 2, generator=rng, dtype=F64)
        x, t = torch.randn(5, 3, 2, 2, generator=rng, dtype=F64).requires_grad_(), torch.linspace(0.3, 1, 5, dtype=F64)
        prior = Empirical(data)
        (gradient,) = torch.autograd.grad(prior.log_prob(x, t).sum(), x)
        assert (gradient - prior.score(x.detach(), t)).abs().max() < 1e-10

    def test_log_density_without_classes_refuses_a_label(self, rng):
        prior = Empirical(torch.randn(3, 2, generator=rng))
        with pytest.raises(ValueError, match="no classes"):
            prior.log_prob(torch.zeros(1, 2), torch.ones(1), {"label": torch.tensor([0])})

    @pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc, which forgets the parent's")
    def test_ten_thousand_data_and_particles_fit_in_a_gibibyte(self):
        """In single and in double precision, one after the other: the peak of both is below it."""
        program = """
import torch
from scoredistill.priors import Empirical
torch.set_num_threads(1)
for dtype in (torch.float32, torch.float64):
    data, x = torch.randn(2, 10_000, 2, dtype=dtype)
    t = torch.full((10_000,), 0.3, dtype=dtype)
    prior = Empirical(data, [0, 1] * 5000)
    assert prior.eps(x, t, {"label": torch.tensor([1])}).isfinite().all() and prior.log_prob(x, t).isfinite().all()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert int(done.stdout) < 2**20  # KiB, of which importing takes a quarter
