"""The guiders of diffusers guide any prior, and refuse what they cannot."""

import diffusers
import pytest
import torch

from scoredistill.estimators import SDI, Batch
from scoredistill.priors import Counted, Guided, GuidedBy, Prior
from scoredistill.schedule import VP, Flow

F64 = torch.float64
CFG = diffusers.ClassifierFreeGuidance(guidance_scale=4.0)
X = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=F64)
T = torch.tensor([0.2, 0.6, 0.6], dtype=F64)
COND = {"text": torch.randn(3, 5, generator=torch.Generator().manual_seed(2), dtype=F64)}


class Closed(Prior):
    """A network of the given kind of output, F = tanh(x_t) + text."""

    def __init__(self, prediction="eps", schedule=VP()):
        self.made = Prior.from_callable(lambda x, t, cond: x.tanh() + cond["text"], schedule, prediction)
        self.prediction, self.schedule = prediction, schedule

    def eps(self, x_t, t, cond=None):
        return self.made.eps(x_t, t, cond)

    def denoise(self, x_t, t, cond=None):
        return self.made.denoise(x_t, t, cond)

    def null(self, cond):
        return {"text": torch.zeros_like(cond["text"])}


def test_classifier_free_guidance_is_that_of_guided():
    prior = Counted(Closed())
    ours = GuidedBy(prior, CFG)
    torch.testing.assert_close(ours.eps(X, T, COND), Guided(Closed(), 4.0).eps(X, T, COND))
    assert (prior.rows, prior.calls) == (2 + 4, 2)  # a call for each step of the sampler
    against = {"text": torch.ones(1, 5, dtype=F64)}
    ours, theirs = GuidedBy(Closed(), CFG, uncond=against), Guided(Closed(), 4.0, uncond=against)
    torch.testing.assert_close(ours.denoise(X, T, COND), theirs.denoise(X, T, COND))


def test_guidance_acts_in_its_steps_alone():
    part = diffusers.ClassifierFreeGuidance(guidance_scale=4.0, start=0.5)
    ours = GuidedBy(Closed(), part, steps=10).eps(X, T, COND)  # t = 0.6 is step 4 of 10, t = 0.2 step 8
    torch.testing.assert_close(ours[1:], Closed().eps(X, T, COND)[1:])
    torch.testing.assert_close(ours[:1], Guided(Closed(), 4.0).eps(X, T, COND)[:1])


@pytest.mark.parametrize(
    ("kind", "schedule"), [("eps", VP()), ("x0", VP()), ("v", VP()), ("flow", Flow()), ("flow", VP())]
)
def test_a_guider_is_given_the_outputs_of_the_network(kind, schedule):
    guider = diffusers.ClassifierFreeZeroStarGuidance(guidance_scale=4.0, zero_init_steps=0)
    prior = Closed(kind, schedule)
    cond, uncond = X.tanh() + COND["text"], X.tanh()
    star = (cond * uncond).sum(1, keepdim=True) / uncond.square().sum(1, keepdim=True)
    wanted = star * uncond + 4 * (cond - star * uncond)
    there = Prior.from_callable(lambda x, t, c: wanted, schedule, kind)
    ours = GuidedBy(prior, guider)
    torch.testing.assert_close(ours.eps(X, T, COND), there.eps(X, T), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.denoise(X, T, COND), there.denoise(X, T), rtol=1e-6, atol=1e-6)


def test_refusals_are_sentences():
    with pytest.raises(ValueError, match="has no guider: give one"):
        GuidedBy(Closed())
    with pytest.raises(ValueError, match=r"must be a guider of diffusers, such as .*, not ClassifierFreeGuidance"):
        GuidedBy(Closed(), diffusers.ClassifierFreeGuidance)
    with pytest.raises(ValueError, match="must be a guider of diffusers"):
        GuidedBy(Closed(), 7.5)
    with pytest.raises(ValueError, match="momentum"):
        GuidedBy(Closed(), diffusers.AdaptiveProjectedGuidance(adaptive_projected_guidance_momentum=-0.5))
    with pytest.raises(ValueError, match="switches off parts of a network, and Closed has none"):
        GuidedBy(Closed(), diffusers.SkipLayerGuidance(skip_layer_guidance_layers=[0]))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        GuidedBy(Closed(), CFG, steps=0)
    with pytest.raises(ValueError, match="needs a condition"):
        GuidedBy(Closed(), CFG).eps(X, T)
    with pytest.raises(ValueError, match="without GuidedBy"):
        SDI()(GuidedBy(Closed(), CFG), Batch(X, COND), T, torch.Generator())
    assert repr(GuidedBy(Closed(), CFG)).startswith("GuidedBy(prior=")
