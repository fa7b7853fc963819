"""Recorded priors predict what the adapters written by hand predict."""

import functools
import logging

import pytest
import torch

import tiny
import tiny_flow
import tiny_recorded
import tiny_unets
from scoredistill import load_prior
from scoredistill.priors.base import Editor
from scoredistill.priors.pipelines.recorded import RecordedPrior, recorded
from scoredistill.priors.pipelines.recording import Unsupported

PROMPTS = ["an owl", "a red hamburger on a table"]
KINDS = {
    "stable diffusion": tiny.stable_diffusion,
    "XL": tiny_unets.stable_diffusion_xl,
    "InstructPix2Pix": tiny_unets.instruct_pix2pix,
    "IF": tiny_unets.deepfloyd,
    "Stable Diffusion 3": tiny_flow.stable_diffusion_3,
    "FLUX": tiny_flow.flux,
}


@pytest.fixture(scope="module", autouse=True)
def hushed():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A function that makes the adapter and the recorded prior of a kind, once."""
    made = {}

    def pair(kind):
        if kind not in made:
            pipeline = KINDS[kind](tmp_path_factory.mktemp("tokens"))
            made[kind] = load_prior(pipeline), recorded(pipeline)
        return made[kind]

    return pair


def relative(first, second):
    return float((first - second).norm() / second.norm())


def conditions(adapter, recorded, prompts):
    given = [each.encode_text(prompts) for each in (adapter, recorded)]
    if recorded.needs_source:
        images = (255 * torch.rand(len(prompts), 3, *adapter.image_size)).round() / 255
        given = [cond | each.encode_source(images) for cond, each in zip(given, (adapter, recorded), strict=True)]
    return given


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_equals_adapter(kind, pairs):
    adapter, recorded = pairs(kind)
    assert tuple(recorded.latent_shape) == tuple(adapter.latent_shape)
    assert recorded.image_size == adapter.image_size
    x, t = torch.randn(2, *adapter.latent_shape), torch.tensor([0.31, 0.72])
    theirs, ours = conditions(adapter, recorded, PROMPTS)
    assert relative(recorded.eps(x, t, ours), adapter.eps(x, t, theirs)) < 2e-6
    assert relative(recorded.denoise(x, t, ours), adapter.denoise(x, t, theirs)) < 2e-5
    null = adapter.eps(x, t, adapter.null(theirs))
    assert relative(recorded.eps(x, t, recorded.null(ours)), null) < 2e-6
    if kind != "FLUX":  # tokens of "" and of a prompt give different noise
        assert relative(null, adapter.eps(x, t, theirs)) > 1e-4


@pytest.mark.parametrize("kind", ["stable diffusion", "XL", "Stable Diffusion 3", "FLUX"])
def test_autoencoder_and_other_sizes(kind, pairs):
    adapter, recorded = pairs(kind)
    channels, height, width = adapter.latent_shape
    x, t = torch.randn(2, channels, height, 2 * width), torch.tensor([0.5, 0.9])
    theirs, ours = conditions(adapter, recorded, PROMPTS)
    assert relative(recorded.eps(x, t, ours), adapter.eps(x, t, theirs)) < 2e-6
    torch.testing.assert_close(recorded.decode(x), adapter.decode(x), rtol=1e-4, atol=1e-5)
    images = torch.rand(2, 3, *adapter.image_size, requires_grad=True)
    encoded = recorded.encode_image(images)
    torch.testing.assert_close(encoded, adapter.encode_image(images), rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(encoded.sum(), images)
    assert gradient.abs().max() > 0


def test_all_rows_are_one_call_and_max_rows_splits_it(pairs):
    _, recorded = pairs("Stable Diffusion 3")
    x, t = torch.randn(4, *recorded.latent_shape), torch.full((4,), 0.5)
    cond = recorded.encode_text([*PROMPTS, "an owl", "a boat"])
    calls = []

    def counted(*args, **kwargs):
        calls.append(len(kwargs["hidden_states"]))
        return recorded.network(*args, **kwargs)

    whole, _ = recorded.predict(counted, x, t, cond)
    assert calls == [4]
    recorded.max_rows = 3
    try:
        parts, _ = recorded.predict(counted, x, t, cond)
    finally:
        recorded.max_rows = None
    assert calls == [4, 3, 1]
    torch.testing.assert_close(whole, parts)


def test_the_pipeline_is_as_before(tmp_path):
    pipeline = tiny.stable_diffusion(tmp_path)
    scheduler, before = pipeline.scheduler, dict(pipeline.unet.__dict__)
    RecordedPrior(pipeline)
    assert pipeline.scheduler is scheduler
    assert "step" not in vars(scheduler)
    assert pipeline.unet.__dict__.keys() == before.keys()
    assert pipeline.unet.forward == type(pipeline.unet).forward.__get__(pipeline.unet)


def test_an_editor_needs_a_source(pairs):
    _, recorded = pairs("InstructPix2Pix")
    with pytest.raises(ValueError, match="needs a source image"):
        recorded.eps(torch.randn(1, *recorded.latent_shape), torch.tensor([0.5]), recorded.encode_text("make it night"))
    _, plain = pairs("stable diffusion")
    assert not isinstance(plain, Editor)


def test_refusals_are_sentences(pairs, tmp_path):
    _, recorded = pairs("stable diffusion")
    with pytest.raises(ValueError, match=r"makes no samples of shape \(3, 8, 8\)"):
        recorded.eps(torch.randn(1, 3, 8, 8), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="make it with this prior's encode_text"):
        recorded.eps(torch.randn(1, 4, 8, 8), torch.tensor([0.5]), {"text": torch.zeros(1, 3, 4)})
    pipeline = tiny.stable_diffusion(tmp_path)
    pipeline.scheduler.alphas_cumprod = None
    with pytest.raises(ValueError, match="noise levels are not known here"):
        RecordedPrior(pipeline)


def test_a_pipeline_that_mixes_the_sample_is_refused_by_name(tmp_path):
    pipeline = tiny.stable_diffusion(tmp_path)
    kind = type(pipeline)

    class Centered(kind):
        @functools.wraps(kind.__call__)
        def __call__(self, *args, **kwargs):
            network = self.unet.forward
            self.unet.forward = lambda x, *rest, **more: network(x - x.mean(), *rest, **more)
            try:
                return kind.__call__(self, *args, **kwargs)
            finally:
                self.unet.forward = network

    pipeline.__class__ = Centered
    with pytest.raises(Unsupported, match="the argument sample is no rearrangement of the sample"):
        RecordedPrior(pipeline)


@pytest.fixture(scope="module")
def others():
    """A function that makes the recorded prior of a pipeline without an adapter, once."""
    made = {}

    def prior(kind):
        if kind not in made:
            make, call = tiny_recorded.KINDS[kind]
            made[kind] = RecordedPrior(make(), call=call)
        return made[kind]

    return prior


@pytest.mark.parametrize("kind", tiny_recorded.KINDS)
def test_the_sampler_through_the_prior_equals_the_pipeline(kind, others):
    prior = others(kind)
    shape = prior._at(torch.Size(prior.latent_shape))
    call = {**shape.call, "prompt": PROMPTS[:1], "num_inference_steps": 5}
    samples = [prior._arranged(shape, step.sample) for step in prior.recorder.run(call, 5)]
    x, cond = samples[0].double(), prior.encode_text(PROMPTS[:1])
    for index, (t, later) in enumerate(prior.times(5)[:4]):
        x0, eps = prior.predict(prior.network, x, t.expand(1), cond)
        alpha, sigma = prior.schedule(later)
        x = alpha * x0 + sigma * eps
        assert relative(x, samples[index + 1].double()) < 1e-4


@pytest.mark.parametrize("kind", tiny_recorded.KINDS)
def test_rows_are_evaluated_as_alone_also_with_prompts_of_other_lengths(kind, others):
    prior = others(kind)
    x, t = torch.randn(3, *prior.latent_shape), torch.tensor([0.2, 0.5, 0.9])
    cond = prior.encode_text(["a boat", "a very long prompt about nothing in particular", "an owl"])
    together = prior.eps(x, t, cond)
    alone = [prior.eps(x[i : i + 1], t[i : i + 1], {"recording": cond["recording"][i : i + 1]}) for i in range(3)]
    assert relative(together, torch.cat(alone)) < 2e-5
    assert relative(prior.eps(x, t, prior.null(cond)), together) > 0


@pytest.mark.parametrize("kind", ["Wan", "LTX"])
def test_videos_are_encoded_and_decoded(kind, others):
    prior = others(kind)
    x = torch.randn(1, *prior.latent_shape)
    frames = prior.decode(x)
    assert frames.shape == (1, 3, 9, 32, 32)
    assert prior.encode_image(frames).shape == x.shape


def test_load_prior_records_pipelines_without_an_adapter(tmp_path):
    make, call = tiny_recorded.KINDS["Sana"]
    pipeline = make()
    prior = load_prior(pipeline, call=call, max_rows=2)
    assert isinstance(prior, RecordedPrior)
    assert prior.max_rows == 2
    with pytest.raises(ValueError, match="has no windows"):
        load_prior(pipeline, call=call, window=64)
    with pytest.raises(ValueError, match="SanaPipeline cannot be made a prior by running it: `height`"):
        load_prior(pipeline, call={**call, "height": 33})
    with pytest.raises(ValueError, match="call belongs to pipelines that are recorded"):
        load_prior(tiny.stable_diffusion(tmp_path), call=call)
