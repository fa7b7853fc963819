"""Guidance by images and away from negatives, the residual of CSD-Edit, and the priors beneath, against their
definitions (float64).
"""

import math

import pytest
import torch

from scoredistill.estimators import PFD, SDI, SDS, Batch, ClassifierScore, CSDEdit
from scoredistill.kernels import RBF
from scoredistill.priors import Counted, GaussianMixture, Guided, ImageGuided, PerpNeg, Prior
from scoredistill.priors.network import Denoiser, NetworkConfig
from scoredistill.schedule import VE, VP, Flow
from scoredistill.training.denoiser import train_denoiser

F64 = torch.float64
N = 4


class Editor(Prior):
    """A closed-form editor: a Gaussian around image + instruction, each shifting the mean."""

    schedule = VP()

    def eps(self, x_t, t, cond=None):
        alpha, sigma = (c[:, None] for c in self.schedule(t))
        mean = 0.7 * cond["image"] + cond["text"]
        return sigma * (x_t - alpha * mean) / (alpha**2 * 0.3 + sigma**2)

    def null(self, cond):
        return {**cond, "text": torch.zeros_like(cond["text"])}


def setting(text=True):
    g = torch.Generator().manual_seed(3)
    x, image, words = torch.randn(3, N, 2, generator=g, dtype=F64)
    cond = {"image": image, "text": words if text else torch.zeros_like(words)}
    return x, cond, torch.full((N,), 0.4, dtype=F64)


def without(cond, *names):
    return {k: torch.zeros_like(v) if k in names else v for k, v in cond.items()}


@pytest.mark.parametrize(
    ("text_scale", "image_scale", "dropped"),
    [(1.0, 1.0, ()), (0.0, 1.0, ("text",)), (0.0, 0.0, ("text", "image"))],
)
def test_image_guidance_at_whole_scales_is_one_prediction(text_scale, image_scale, dropped):
    x, cond, t = setting()
    counted = Counted(Editor())
    found = ImageGuided(counted, text_scale, image_scale).eps(x, t, cond)
    assert (found - Editor().eps(x, t, without(cond, *dropped))).abs().max() < 1e-12
    assert counted.rows == N


def test_image_guidance_is_its_formula_in_three_rows():
    x, cond, t = setting()
    counted = Counted(Editor())
    prior, e = ImageGuided(counted, 7.5, 1.5), Editor().eps
    nothing, image, both = (e(x, t, c) for c in (without(cond, "image", "text"), without(cond, "text"), cond))
    found = prior.eps(x, t, cond)
    assert (found - (nothing + 1.5 * (image - nothing) + 7.5 * (both - image))).abs().max() < 1e-12
    assert (counted.rows, counted.calls) == (3 * N, 1)
    alpha, sigma = (c[:, None] for c in prior.schedule(t))
    assert (prior.denoise(x, t, cond) - (x - sigma * found) / alpha).abs().max() < 1e-10


def test_csd_edit_costs_five_rows_and_vanishes_without_an_instruction():
    x, cond, t = setting()
    counted = Counted(Editor())
    prior = ImageGuided(counted, 7.5, 1.5)
    rng = torch.Generator().manual_seed(0)
    g = CSDEdit()(prior, Batch(x, cond, x + 0.1), t, rng).grad
    assert (counted.rows, counted.calls) == (5 * N, 1)
    assert g.abs().max() > 0.01
    silent = prior.null(cond)
    same = CSDEdit()(prior, Batch(x, silent, x), t, rng).grad
    assert same.abs().max() == 0


def test_csd_edit_is_the_coupled_difference_of_its_two_predictions():
    x, cond, t = setting()
    prior, source = ImageGuided(Editor(), 7.5, 1.5), x + 0.1
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    alpha, sigma = (c[:, None] for c in prior.schedule(t))
    target = prior.eps(alpha * x + sigma * noise, t, cond)
    base = prior.eps(alpha * source + sigma * noise, t, prior.null(cond))
    single = CSDEdit(coupled=False)(prior, Batch(x, cond, source), t, torch.Generator().manual_seed(0)).grad
    assert (single - sigma**2 * (target - base)).abs().max() < 1e-12
    wide = CSDEdit(RBF(1e9))(prior, Batch(x, cond, source), t, torch.Generator().manual_seed(0)).grad
    assert (wide - single.mean(0)).abs().max() < 1e-9


def test_image_guidance_says_what_is_missing():
    x, cond, t = setting()
    with pytest.raises(ValueError, match="needs a condition with 'image'"):
        ImageGuided(Editor(), 7.5, 1.5).eps(x, t, {"text": cond["text"]})


def test_a_negative_condition_keeps_what_it_does_not_name():
    x, cond, t = setting()
    e, negative = Editor().eps, {"text": torch.full((N, 2), -0.5, dtype=F64)}
    other = {**cond, **negative}
    guided = Guided(Editor(), 3.0, uncond=negative).eps(x, t, cond)
    assert (guided - (e(x, t, other) + 3.0 * (e(x, t, cond) - e(x, t, other)))).abs().max() < 1e-12
    prior = ImageGuided(Editor(), 7.5, 1.5, uncond=negative)
    nothing, image = e(x, t, without(other, "image")), e(x, t, other)
    expected = nothing + 1.5 * (image - nothing) + 7.5 * (e(x, t, cond) - image)
    assert (prior.eps(x, t, cond) - expected).abs().max() < 1e-12
    assert (prior.eps(x, t, prior.null(cond)) - (nothing + 1.5 * (image - nothing))).abs().max() < 1e-12


def labeled():
    g = torch.Generator().manual_seed(5)
    means = torch.randn(3, 2, generator=g, dtype=F64)
    return GaussianMixture(means, torch.full((3,), 0.2, dtype=F64), labels=[0, 1, 2])


def label(k):
    return {"label": torch.full((1,), k, dtype=torch.long)}


def test_perpneg_without_negatives_is_guidance():
    prior, (x, _, t) = labeled(), setting()
    found = PerpNeg(prior, 4.0, []).eps(x, t, label(0))
    assert (found - Guided(prior, 4.0).eps(x, t, label(0))).abs().max() < 1e-12


def test_perpneg_keeps_only_what_is_perpendicular():
    prior, (x, _, t) = labeled(), setting()
    counted = Counted(prior)
    plain = PerpNeg(prior, 4.0, []).eps(x, t, label(0))
    found = PerpNeg(counted, 4.0, [(label(1), -1.5), (label(2), -0.5)]).eps(x, t, label(0))
    assert (counted.rows, counted.calls) == (4 * N, 1)
    null, positive, first, second = (prior.eps(x, t, label(k)) for k in (-1, 0, 1, 2))
    change, d = found - plain, positive - null
    assert (change * d).sum(1).abs().max() < 1e-12
    normal = torch.stack([-d[:, 1], d[:, 0]], 1) / d.norm(dim=1, keepdim=True)
    wanted = 4 * (-1.5 * ((first - null) * normal).sum(1) - 0.5 * ((second - null) * normal).sum(1))
    assert ((change * normal).sum(1) - wanted).abs().max() < 1e-12


def test_perpneg_leaves_a_negative_along_the_prompt_alone():
    prior, (x, _, t) = labeled(), setting()
    found = PerpNeg(prior, 4.0, [(label(0), -3.0)]).eps(x, t, label(0))
    assert (found - Guided(prior, 4.0).eps(x, t, label(0))).abs().max() < 1e-10


def test_guidance_of_guidance_is_still_one_call():
    """A guided editor guided again: coefficients multiply out over the rows of the network behind both."""
    x, cond, t = setting()
    counted = Counted(Editor())
    inner = ImageGuided(counted, 3.0, 1.5)
    found = Guided(inner, 2.0).eps(x, t, cond)
    assert counted.calls == 1
    without_text, with_text = inner.eps(x, t, inner.null(cond)), inner.eps(x, t, cond)
    assert (found - (2 * with_text - without_text)).abs().max() < 1e-12


# The priors beneath


@pytest.mark.parametrize("schedule", [VP(), VE(0.002, 20.0), Flow()], ids=repr)
@pytest.mark.parametrize("chosen", [None, -1, 1])
def test_a_mixture_in_three_dimensions_is_its_normal_densities(schedule, chosen):
    """log p_t by torch's own densities, of all components or of a class; eps is -sigma times its gradient."""
    g = torch.Generator().manual_seed(2)
    roots, means = torch.randn(4, 3, 3, generator=g, dtype=F64), torch.randn(4, 3, generator=g, dtype=F64)
    covs, weights = 0.2 * roots @ roots.mT + 0.05 * torch.eye(3, dtype=F64), torch.tensor([1.0, 2, 3, 2], dtype=F64)
    labels = [0, 1, 1, 0]
    prior = GaussianMixture(means, covs, weights, schedule, labels)
    cond = None if chosen is None else label(chosen)
    kept = [k for k in range(4) if chosen in (None, -1, labels[k])]
    x, t = torch.randn(5, 3, generator=g, dtype=F64, requires_grad=True), torch.linspace(0.1, 0.9, 5, dtype=F64)
    alpha, sigma = (c[:, None] for c in schedule(t))
    parts = []
    for k in kept:
        spread = alpha[..., None] ** 2 * covs[k] + sigma[..., None] ** 2 * torch.eye(3, dtype=F64)
        density = torch.distributions.MultivariateNormal(alpha * means[k], spread)
        parts.append(density.log_prob(x) + math.log(weights[k] / weights[kept].sum()))
    exact = torch.stack(parts).logsumexp(0)
    (score,) = torch.autograd.grad(exact.sum(), x)
    x = x.detach()
    assert (prior.log_prob(x, t, cond) - exact).abs().max() < 1e-10
    assert (prior.eps(x, t, cond) + sigma * score).abs().max() < 1e-10
    assert (prior.denoise(x, t, cond) - (x + sigma**2 * score) / alpha).abs().max() < 1e-9


def test_a_network_of_zeros_is_its_preconditioning():
    """D = s^2 / (r^2 + s^2) z + r s / sqrt(r^2 + s^2) F, here with a constant F."""
    network = Denoiser(NetworkConfig(sigma_data=0.7)).double()
    with torch.no_grad():
        network.net[-1].weight.zero_()
        network.net[-1].bias.copy_(torch.tensor([0.3, -1.0]))
    z, r = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=F64), torch.logspace(-2, 1, 6, dtype=F64)
    total = (r**2 + 0.49)[:, None]
    exact = 0.49 / total * z + 0.7 * r[:, None] / total.sqrt() * torch.tensor([0.3, -1.0], dtype=F64)
    assert (network(z, r) - exact).abs().max() < 1e-7


def test_training_sees_the_noise_levels_and_labels_it_says(monkeypatch):
    """log r normal, a tenth without its label, and errors weighed so that F = 0 has loss 1 on N(0, s^2)."""
    seen, losses, s, n = [], [], 0.7, 40_000

    def forward(self, z, r, label=None):
        seen.append((r, label))
        return s**2 / (r**2 + s**2)[:, None] * z + 0 * self.net[-1].bias

    monkeypatch.setattr(Denoiser, "forward", forward)
    config = NetworkConfig(classes=2, sigma_data=s, steps=1, batch=n, log_mean=-1.0, log_std=0.8)
    sample = lambda n, rng: (s * torch.randn(n, 2, generator=rng), torch.ones(n, dtype=torch.long))
    train_denoiser(config, sample, lambda step, steps, loss: losses.append(loss))
    r, given = seen[0]
    assert abs(r.log().mean() + 1) < 4 * 0.8 / n**0.5
    assert abs(r.log().std() - 0.8) < 4 * 0.8 / (2 * n) ** 0.5
    assert abs((given == -1).double().mean() - 0.1) < 4 * 0.3 / n**0.5
    assert ((given == -1) | (given == 1)).all()
    assert abs(losses[0] - 1) < 4 / n**0.5


def test_what_is_kept_of_a_network_is_a_running_average():
    """The first step has a share of 1 - min(average, 1 / 10) in it; without an average the last weights are kept."""
    sample = lambda n, rng: (0.5 * torch.randn(n, 2, generator=rng), None)
    config = lambda average: NetworkConfig(width=8, depth=1, steps=1, batch=16, average=average)
    start, last = Denoiser(config(0.0)), train_denoiser(config(0.0), sample)
    for average, share in ((0.5, 0.9), (0.04, 0.96)):
        kept = train_denoiser(config(average), sample)
        for a, b, c in zip(start.parameters(), last.parameters(), kept.parameters(), strict=True):
            assert (a + share * (b - a) - c).abs().max() < 1e-6
    assert any((a - b).abs().max() > 1e-6 for a, b in zip(start.parameters(), last.parameters(), strict=True))


def test_methods_that_guide_by_themselves_refuse_perpneg():
    """Perp-Neg is not linear: it cannot be taken off, and guiding it again would be wrong."""
    prior, (x, _, t) = PerpNeg(labeled(), 4.0, []), setting()
    batch = Batch(x, label(0))
    for estimator in (ClassifierScore(), SDI(), PFD()):
        with pytest.raises(ValueError, match="without PerpNeg"):
            estimator(prior, batch, t)
    guided = SDS()(prior, batch, t, torch.Generator().manual_seed(0)).grad
    linear = SDS()(Guided(labeled(), 4.0), batch, t, torch.Generator().manual_seed(0)).grad
    assert (guided - linear).abs().max() < 1e-12
