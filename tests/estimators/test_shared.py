"""Coefficients of gradients that particles share, against least squares written out."""

import pytest
import torch

from scoredistill.estimators import Affine, Batch, Estimate, LowPass, Stein, Tone
from scoredistill.estimators.base import Estimator
from scoredistill.kernels import RBF
from scoredistill.priors import Prior
from scoredistill.schedule import VP

F64 = torch.float64
BASES = pytest.mark.parametrize("basis", [LowPass(), LowPass(2), Tone(), Affine()], ids=str)
PRIOR = Prior.from_callable(lambda x, t, cond: x, VP())


class Given(Estimator):
    """The gradient that it is given."""

    def __init__(self, grad):
        self.grad = grad

    def __call__(self, prior, batch, t, rng=None):
        return Estimate(self.grad)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def columns(basis, x):
    """The vectors of every particle, [n, m k, c h w], as what unit coefficients give."""
    n, m, k = basis.products(x, x).shape
    made = []
    for index in range(m * k):
        unit = torch.zeros(n, m * k, dtype=F64)
        unit[:, index] = 1
        made.append(basis.combine(unit.reshape(n, m, k), x).flatten(1))
    return torch.stack(made, 1)


@BASES
def test_products_and_gram_are_those_of_the_vectors(basis):
    x, d = normal(3, 2, 4, 6), normal(3, 2, 4, 6, seed=1)
    vectors = columns(basis, x)
    products, gram = basis.products(d, x), basis.gram(x)
    assert (products.flatten(1) - (vectors @ d.flatten(1)[..., None])[..., 0]).abs().max() < 1e-12
    n, m, k = products.shape
    blocks = torch.stack([torch.block_diag(*each) for each in gram.expand(n, m, k, k)])
    assert (vectors @ vectors.mT - blocks).abs().max() < 1e-12


@BASES
@pytest.mark.parametrize("source", [True, False])
def test_shared_coefficients_solve_weighted_least_squares(basis, source):
    """c_i minimizes sum_j K_ij |d_j - B_j c|^2; what is off the basis stays as it was."""
    x, start, d = normal(4, 2, 4, 6), 2 + 0.5 * normal(4, 2, 4, 6, seed=2), normal(4, 2, 4, 6, seed=1)
    batch = Batch(x, source=start if source else None)
    kernel = RBF(3.0)
    found = Stein(Given(d), kernel, share=basis)(PRIOR, batch, torch.full((4,), 0.5, dtype=F64)).grad
    vectors, weights = columns(basis, start if source else x), kernel(x)
    for i in range(4):
        design = (weights[i].sqrt()[:, None, None] * vectors.mT).flatten(0, 1)
        wanted = (weights[i].sqrt()[:, None] * d.flatten(1)).flatten()
        common = torch.linalg.lstsq(design, wanted).solution
        own = torch.linalg.lstsq(vectors[i].T, d[i].flatten()).solution
        expected = d[i].flatten() + vectors[i].T @ (common - own)
        assert (found[i].flatten() - expected).abs().max() < 2e-4  # the ridge


@BASES
def test_equal_coefficients_stay(basis):
    """Particles that ask for the same, each in its own way, are left alone by any kernel."""
    x = normal(4, 2, 4, 6)
    shape = basis.products(x, x)[:1].shape
    d = basis.combine(normal(*shape, seed=3).expand(4, *shape[1:]), x)
    found = Stein(Given(d), RBF(5.0), share=basis)(PRIOR, Batch(x), torch.full((4,), 0.5, dtype=F64)).grad
    assert (found - d).abs().max() < 1e-3
    whole = Stein(Given(d), RBF(5.0))(PRIOR, Batch(x), torch.full((4,), 0.5, dtype=F64)).grad
    assert basis not in (Tone(), Affine()) or (whole - d).abs().max() > 0.1  # whole gradients lose the contrast


def test_flat_particles_have_no_contrast_to_share():
    x = normal(3, 2, 4, 6)
    x[0] = 1.0
    d = normal(3, 2, 4, 6, seed=1)
    found = Stein(Given(d), RBF(20.0), share=Tone())(PRIOR, Batch(x), torch.full((3,), 0.5, dtype=F64)).grad
    means = d.mean((2, 3), keepdim=True)
    assert found.isfinite().all()
    around = lambda values: values - values.mean((1, 2), keepdim=True)
    assert (around(found[0]) - around(d[0])).abs().max() < 1e-10
    assert (found[0].mean((1, 2)) - means[0, :, 0, 0]).abs().max() > 0.01


def test_a_projection_is_one():
    d = normal(3, 2, 4, 6)
    low = LowPass(2)
    assert torch.allclose(low(low(d)), low(d))
    assert torch.allclose(low(d).mean((2, 3)), d.mean((2, 3)))
    with pytest.raises(ValueError, match="3 cells do not divide windows of 4 x 6"):
        LowPass(3)(d)


def test_coefficients_of_the_paper_are_divided_by_their_number():
    x, d = normal(3, 2, 4, 6), normal(3, 2, 4, 6, seed=1)
    t = torch.full((3,), 0.5, dtype=F64)
    found = Stein(Given(d), RBF(3.0), "paper", repulsion=0.7, share=LowPass())(PRIOR, Batch(x), t).grad
    kernel, away = RBF(3.0).repulsion(x)
    low = LowPass()(d)
    total = torch.einsum("ij,jchw->ichw", kernel, low) - 0.7 * away
    assert (found - (d - low + total / 3)).abs().max() < 1e-12


class TestTargets:
    """What is shared is where steps arrive, x - source - d, not the steps."""

    def test_differences_that_exist_are_removed(self):
        """Particles whose edits differ by constants, and gradients of zero: targets meet at their mean."""
        start = normal(3, 2, 4, 6)
        away = torch.tensor([1.0, 2.0, 6.0], dtype=F64).reshape(-1, 1, 1, 1)
        batch, t = Batch(start + away, source=start), torch.full((3,), 0.5, dtype=F64)
        kept = Stein(Given(torch.zeros_like(start)), RBF(1e6), share=LowPass())(PRIOR, batch, t).grad
        assert kept.abs().max() < 1e-12
        step = Stein(Given(torch.zeros_like(start)), RBF(1e6), share=LowPass(), target=True)(PRIOR, batch, t).grad
        assert (away - step - 3.0).abs().max() < 1e-6

    def test_impossible_options_are_refused(self):
        with pytest.raises(ValueError, match="target=True"):
            Stein(Given(None), target=True)


def test_particles_are_released_below_a_time():
    x, d, t = normal(4, 2, 4, 6), normal(4, 2, 4, 6, seed=1), torch.tensor([0.9, 0.5, 0.4, 0.1], dtype=F64)
    coupled = Stein(Given(d), RBF(9.0))(PRIOR, Batch(x), t).grad
    found = Stein(Given(d), RBF(9.0), until=0.5)(PRIOR, Batch(x), t).grad
    assert torch.equal(found[:2], coupled[:2])
    assert torch.equal(found[2:], d[2:])
    assert (coupled - d).abs().amin((1, 2, 3)).max() > 0
    with pytest.raises(ValueError, match="time in"):
        Stein(Given(d), until=500.0)
