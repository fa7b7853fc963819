"""Guidance by pictures and away from negatives, and the residual of CSD-Edit, against their definitions (float64)."""

import pytest
import torch

from scoredistill.estimators import Batch, CSDEdit
from scoredistill.kernels import RBF
from scoredistill.priors import Counted, GaussianMixture, Guided, ImageGuided, PerpNeg, Prior
from scoredistill.schedule import VP

F64 = torch.float64
N = 4


class Editor(Prior):
    """A closed-form editor: a Gaussian around picture + instruction, each shifting the mean."""

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
    nothing, picture, both = (e(x, t, c) for c in (without(cond, "image", "text"), without(cond, "text"), cond))
    found = prior.eps(x, t, cond)
    assert (found - (nothing + 1.5 * (picture - nothing) + 7.5 * (both - picture))).abs().max() < 1e-12
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


def labelled():
    g = torch.Generator().manual_seed(5)
    means = torch.randn(3, 2, generator=g, dtype=F64)
    return GaussianMixture(means, torch.full((3,), 0.2, dtype=F64), labels=[0, 1, 2])


def label(k):
    return {"label": torch.full((1,), k, dtype=torch.long)}


def test_perpneg_without_negatives_is_guidance():
    prior, (x, _, t) = labelled(), setting()
    found = PerpNeg(prior, 4.0, []).eps(x, t, label(0))
    assert (found - Guided(prior, 4.0).eps(x, t, label(0))).abs().max() < 1e-12


def test_perpneg_keeps_only_what_is_perpendicular():
    prior, (x, _, t) = labelled(), setting()
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
    prior, (x, _, t) = labelled(), setting()
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
