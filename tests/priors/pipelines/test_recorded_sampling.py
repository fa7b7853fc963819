"""Samplers and estimators run through recorded priors: a video, a sound, an editor, a flow, a model of the noise."""

import pytest
import torch

import tiny_recorded
import tiny_videos
from scoredistill import distill
from scoredistill.estimators.methods import CSD, MSD, SDS
from scoredistill.generators import Latents
from scoredistill.priors import Guided
from scoredistill.priors.pipelines.argument_trees import leaves, replaced
from scoredistill.priors.pipelines.recorded import recorded
from scoredistill.priors.pipelines.recorded_shapes import Recording
from scoredistill.sampling import ddim

ALL = tiny_recorded.KINDS | tiny_videos.KINDS
pytestmark = pytest.mark.usefixtures("hushed")

KINDS = ["Wan", "ACE-Step", "Qwen-Image-Edit", "CogView4", "PixArt-Sigma"]
PROMPTS, STEPS = ["an owl", "a red hamburger"], 5


@pytest.fixture(scope="module")
def made():
    """A function that returns a kind's prior and a condition of two prompts, with sources for an editor; made once."""
    priors = {}

    def get(kind):
        if kind not in priors:
            prior = recorded(tiny_recorded.make(ALL[kind]), call=ALL[kind].call)
            cond = prior.encode_text(PROMPTS)
            if prior.needs_source:
                cond |= prior.encode_source((255 * torch.rand(2, 3, 32, 32)).round() / 255)
            priors[kind] = prior, cond
        return priors[kind]

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_ddim_through_the_prior_is_the_pipeline(kind, made):
    prior, cond = made(kind)
    first = {name: value[:1] for name, value in cond.items()}
    (request,) = prior._requested(first, 1)
    shape = prior._at(torch.Size(prior.latent_shape), request.source)
    call = {**prior.calls.of(request), **shape.size, "num_inference_steps": STEPS}
    (start,) = prior.recorder.run(call)
    takes = {name: value for name, value in call.items() if name in prior.calls.names}
    (theirs, *_) = prior.pipeline(**takes, latents=start.sample.clone())
    x_T = shape.arranged(start.sample, 1)
    ours = ddim(prior, x_T.double(), STEPS, first)
    theirs = shape.arranged(theirs, 1).double()
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
    assert float((ours - x_T).norm() / theirs.norm()) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_run(kind, made):
    prior, cond = made(kind)
    for estimator in (SDS(), MSD(), CSD()):
        latents = Latents(2, tuple(prior.latent_shape), rng=torch.Generator().manual_seed(0))
        before = latents.values.detach().clone()
        for _ in distill(latents, Guided(prior, 5.0), estimator, cond, steps=1):
            pass
        moved = latents.values.detach() - before
        assert bool(moved.isfinite().all())
        assert float(moved.norm()) > 0


def on_meta(tree):
    return replaced(tree, {p: leaf.to("meta") for p, leaf in leaves(tree).items() if isinstance(leaf, torch.Tensor)})


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_read_no_values(kind, made):
    """On the meta device each read of a value raises; what was recorded lies where the network is."""
    prior, cond = made(kind)
    x, t = torch.randn(2, *prior.latent_shape), torch.tensor([0.3, 0.6])
    Guided(prior, 5.0).eps(x, t, cond)  # records
    prior.network.to("meta")
    for shape in prior._shapes.values():
        for request, (arguments, signature) in list(shape.recordings.items()):
            shape.recordings[request] = Recording(on_meta(arguments), signature)
    noise = Guided(prior, 5.0).eps(x.to("meta"), t.to("meta"), cond)
    assert noise.device.type == "meta"
    assert noise.shape == x.shape
