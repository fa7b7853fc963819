"""Editors with several answers, against mixtures written out and derivatives of their density."""

import math

import pytest
import torch

from scoredistill.priors import ManyAnswers
from scoredistill.priors.guidance import ImageGuided
from scoredistill.sampling import ddim

F64 = torch.float64
ANSWERS = (lambda y: y + 0.4, lambda y: 0.5 * y, lambda y: -y)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def log_density(prior, x, t, means):
    """log p_t of an equal mixture around the means [k, b, c, h, w], up to a constant."""
    alpha, sigma = prior.schedule(t)
    variance = (alpha * prior.spread) ** 2 + sigma**2
    squared = (x - alpha.reshape(-1, 1, 1, 1) * means).square().sum((2, 3, 4))
    count = x[0].numel()
    return (-squared / (2 * variance) - count / 2 * variance.log() - math.log(len(means))).logsumexp(0)


@pytest.mark.parametrize("text", ["turn it", ""])
def test_the_score_is_the_derivative_of_the_density(text):
    prior = ManyAnswers(ANSWERS, (2, 3), spread=0.3, channels=1)
    x, source = normal(4, 1, 2, 3).requires_grad_(), 0.3 * normal(4, 1, 2, 3, seed=1)
    t = torch.tensor([0.1, 0.3, 0.6, 0.95], dtype=F64)
    means = torch.stack([answer(source) for answer in ANSWERS]) if text else source[None]
    score = torch.autograd.grad(log_density(prior, x, t, means).sum(), x)[0]
    cond = {**prior.encode_text(text), "image": source}
    assert (prior.score(x.detach(), t, cond) - score).abs().max() < 1e-9 * score.abs().max()
    alpha, sigma = (level.reshape(-1, 1, 1, 1) for level in prior.schedule(t))
    assert (prior.denoise(x.detach(), t, cond) - (x.detach() + sigma**2 * score) / alpha).abs().max() < 1e-9


def test_samples_are_answers_and_guidance_takes_no_text_away():
    prior = ManyAnswers(ANSWERS, (4, 4), spread=0.05)
    source = 0.3 * normal(1, 3, 4, 4, seed=1)
    cond = {**prior.encode_text(["any"]), "image": source}
    made = ddim(ImageGuided(prior, 1.0, 1.0), normal(32, 3, 4, 4, seed=2), 30, cond)
    near = (made - prior.edits(source)).square().mean((2, 3, 4)).sqrt()
    assert near.amin(0).max() < 0.1
    assert set(near.argmin(0).tolist()) == {0, 1, 2}
    back = ddim(prior, normal(4, 3, 4, 4, seed=2), 30, prior.null(cond))
    assert (back - source).square().mean().sqrt() < 0.1
    with pytest.raises(ValueError, match="does not take zeros"):
        ImageGuided(prior, 1.0, 2.0)
    with pytest.raises(ValueError, match="encode the source"):
        prior.eps(made, torch.full((32,), 0.5, dtype=F64))


def test_images_are_encoded_and_decoded():
    prior = ManyAnswers(ANSWERS, (4, 4))
    images = torch.rand(2, 3, 4, 4)
    assert torch.allclose(prior.decode(prior.encode_source(images)["image"]), images)
    assert prior.encode_text(["a", ""])["text"].tolist() == [1.0, 0.0]
    assert (prior.image_size, prior.factor, prior.device.type) == ((4, 4), 1, "cpu")
