"""Recorded priors predict what the adapters written by hand predict."""

import copy
import functools

import pytest
import torch

import tiny
import tiny_flow
import tiny_recorded
import tiny_unets
import tiny_videos
from scoredistill import load_prior
from scoredistill.priors.base import Editor
from scoredistill.priors.pipelines.placements import Unsupported
from scoredistill.priors.pipelines.recorded import RecordedPrior, recorded

pytestmark = pytest.mark.usefixtures("hushed")

PROMPTS = ["an owl", "a red hamburger on a table"]
KINDS = {
    "stable diffusion": tiny.stable_diffusion,
    "XL": tiny_unets.stable_diffusion_xl,
    "InstructPix2Pix": tiny_unets.instruct_pix2pix,
    "IF": tiny_unets.deepfloyd,
    "Stable Diffusion 3": tiny_flow.stable_diffusion_3,
    "FLUX": tiny_flow.flux,
}


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


OTHERS = tiny_recorded.KINDS | tiny_videos.KINDS
SOME = [
    "Z-Image",  # a list with one sample each
    "CogView4",  # time steps apart from noise levels
    "FLUX.2",  # latents scaled per place in a patch
    "HunyuanImage",  # guided by a component
    "DiT",  # classes
    "XL with EDM",
    "Wan 2.2",  # two networks, a mean and a standard deviation per channel
    "Mochi",  # inverted sigmas
    "Text-to-video",  # frames as rows, and an autoencoder of images
    "Stable Audio",  # EDM, told angles
]


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


def test_a_video_and_its_sound_are_refused_in_a_sentence(tmp_path):
    """As LTX-2 does: a copy of the scheduler steps a second sample with the same evaluation."""
    pipeline = tiny.stable_diffusion(tmp_path)
    kind = type(pipeline)

    class Twice(kind):
        @functools.wraps(kind.__call__)
        def __call__(self, *args, **kwargs):
            def second(pipe, index, t, tensors):
                copy.deepcopy(self.scheduler).step(tensors["latents"], t, tensors["latents"])
                return tensors

            return kind.__call__(self, *args, **{**kwargs, "callback_on_step_end": second})

    pipeline.__class__ = Twice
    with pytest.raises(Unsupported, match="steps several samples per evaluation, such as a video and its sound"):
        RecordedPrior(pipeline)


@pytest.fixture(scope="module")
def others():
    """A function that makes the recorded prior of a pipeline without an adapter, once."""
    made = {}

    def prior(kind):
        if kind not in made:
            made[kind] = recorded(tiny_recorded.make(OTHERS[kind]), call=OTHERS[kind].call)
        return made[kind]

    return prior


@pytest.mark.parametrize("kind", SOME)
def test_the_sampler_through_the_prior_equals_the_pipeline(kind, others):
    prior = others(kind)
    shape = prior._at(torch.Size(prior.latent_shape))
    prompt = prior.calls.trial.prompt
    steps = prior.recorder.run({**shape.call, "num_inference_steps": 5}, 5)
    t = [prior.clock.level(step, index) for index, step in enumerate(steps)]
    x = [prior.clock.standard(shape.arranged(step.sample, 1), each) for step, each in zip(steps, t, strict=True)]
    wanted = [shape.arranged(step.model_output, 1) for step in steps]
    cond = prior.encode_text([prompt])
    for now, level, output in zip(x, t, wanted, strict=True):
        x0, eps = prior.predict(prior.network, now.double(), level, cond)
        theirs = prior.levels.understood(output.double(), now.double(), level)
        assert relative(eps, theirs[1]) < 1e-4
        assert relative(x0, theirs[0]) < 1e-4
    z = x[0].double()
    for index, (now, later) in enumerate(prior.times(5)[:4]):
        x0, eps = prior.predict(prior.network, z, now.expand(1), cond)
        alpha, sigma = prior.schedule(later)
        z = alpha * x0 + sigma * eps
        assert relative(z, x[index + 1].double()) < 1e-4


@pytest.mark.parametrize("kind", SOME)
def test_rows_are_evaluated_as_alone_also_with_prompts_of_other_lengths(kind, others):
    prior = others(kind)
    x, t = torch.randn(3, *prior.latent_shape), torch.tensor([0.2, 0.5, 0.9])
    prompts = ["a boat", "a very long prompt about nothing in particular", "an owl"]
    cond = prior.encode_text(["3", "1", "2"] if prior.calls.classes else prompts)
    together = prior.eps(x, t, cond)
    alone = [prior.eps(x[i : i + 1], t[i : i + 1], {"recording": cond["recording"][i : i + 1]}) for i in range(3)]
    assert relative(together, torch.cat(alone)) < 2e-5
    assert relative(prior.eps(x, t, prior.null(cond)), together) > 0


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("Wan 2.2", (3, 9, 32, 32)),
        ("Text-to-video", (3, 3, 16, 16)),
        ("Qwen-Image-Edit", (3, 1, 32, 32)),
        ("FLUX.2", (3, 32, 32)),
        ("Stable Audio", (2, 31)),
    ],
)
def test_samples_are_encoded_and_decoded(kind, shape, others):
    prior = others(kind)
    x = torch.randn(2, *prior.latent_shape)
    decoded = prior.decode(x)
    assert decoded.shape == (2, *shape)
    assert prior.encode_image(decoded).shape == x.shape
    torch.testing.assert_close(prior.decode(x[1:]), decoded[1:], rtol=1e-4, atol=1e-5)


def test_load_prior_records_pipelines_without_an_adapter(tmp_path):
    pipeline, call = tiny_recorded.make(OTHERS["Sana"]), OTHERS["Sana"].call
    prior = load_prior(pipeline, call=call, max_rows=2)
    assert isinstance(prior, RecordedPrior)
    assert prior.max_rows == 2
    with pytest.raises(ValueError, match="has no windows"):
        load_prior(pipeline, call=call, window=64)
    with pytest.raises(ValueError, match="SanaPipeline cannot be made a prior by running it: `height`"):
        load_prior(pipeline, call={**call, "height": 33})
    with pytest.raises(ValueError, match="call belongs to pipelines that are recorded"):
        load_prior(tiny.stable_diffusion(tmp_path), call=call)


def test_the_null_condition_keeps_the_guidance_that_the_network_is_told(tmp_path):
    prior = recorded(tiny_flow.flux(tmp_path), call={"guidance_scale": 2.5})
    cond = prior.encode_text("an owl")
    shape = prior._at(torch.Size(prior.latent_shape))
    prior.eps(torch.randn(1, *prior.latent_shape), torch.tensor([0.5]), prior.null(cond))
    prior.eps(torch.randn(1, *prior.latent_shape), torch.tensor([0.5]), cond)
    (null,) = (each.arguments for request, each in shape.recordings.items() if request.negative)
    (owl,) = (each.arguments for request, each in shape.recordings.items() if request == prior._requests[0])
    assert null["guidance"].tolist() == owl["guidance"].tolist() == [2.5]
    assert relative(null["encoder_hidden_states"], owl["encoder_hidden_states"]) > 0.1


@pytest.mark.parametrize("kind", ["FLUX.1 Kontext", "FLUX.2", "Qwen-Image-Edit"])
def test_editors_are_recorded_for_sources_of_any_size(kind, others):
    prior = others(kind)
    assert isinstance(prior, Editor)
    x, t = torch.randn(2, *prior.latent_shape), torch.tensor([0.2, 0.7])
    side = 64 if kind == "FLUX.2" else 32  # it takes no smaller ones
    images = torch.rand(2, 3, side, side)
    cond = prior.encode_text(["make it night", "add snow"])
    first, second = (prior.eps(x, t, cond | prior.encode_source(each)) for each in (images, images.flip(0)))
    assert relative(first, second) > 1e-4  # the source matters
    if kind == "FLUX.1 Kontext":
        wide = prior.eps(x, t, cond | prior.encode_source(torch.rand(2, 3, 32, 64)))
        assert relative(wide, first) > 1e-4
        assert relative(prior.eps(x, t, cond), first) > 1e-4  # without a source
        apart = cond | {"image": torch.cat([prior.encode_source(each[None])["image"] for each in images])}
        torch.testing.assert_close(prior.eps(x, t, apart), first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["XL ControlNet", "FLUX.1 ControlNet"])
def test_a_controlnet_is_evaluated_with_the_network(kind, others):
    prior = others(kind)
    x, t = torch.randn(3, *prior.latent_shape), torch.tensor([0.2, 0.5, 0.9])
    cond = prior.encode_text(["a boat", "an owl", "a very long prompt about nothing in particular"])
    if prior.needs_source:  # the control image
        images = torch.rand(3, 3, *prior.image_size)
        cond |= prior.encode_source(images)
        other = prior.eps(x, t, cond | prior.encode_source(1 - images))
        assert relative(other, prior.eps(x, t, cond)) > 1e-4
    called, together = [], prior.eps(x, t, cond)
    handle = prior.pipeline.controlnet.register_forward_pre_hook(lambda *_: called.append(1))
    alone = [
        prior.eps(x[i : i + 1], t[i : i + 1], {name: value[i : i + 1] for name, value in cond.items()})
        for i in range(3)
    ]  # fmt: skip
    handle.remove()
    assert len(called) == 3
    assert relative(together, torch.cat(alone)) < 2e-5
    assert relative(prior.eps(x, t, prior.null(cond)), together) > 1e-6
    assert "forward" not in vars(prior.pipeline.controlnet)


def test_sound_has_no_image_size(others):
    with pytest.raises(ValueError, match=r"makes sound, which has no image size: optimize samples of \(3, 16\)"):
        _ = others("Stable Audio").image_size


def test_a_video_whose_first_frame_is_given_is_refused():
    kind = OTHERS["LTX image to video"]
    with pytest.raises(Unsupported, match="the decoder is given more than the sample"):
        recorded(tiny_recorded.make(kind), call=kind.call)


def test_two_networks_divide_the_times(others):
    prior = others("Wan 2.2")
    x, cond = torch.randn(2, *prior.latent_shape), prior.encode_text(["a boat", "an owl"])
    prior.eps(x, torch.tensor([0.9, 0.2]), cond)  # records
    called = []
    for number, network in enumerate(prior.network.networks):
        network.register_forward_pre_hook(lambda *_, number=number: called.append(number))
    prior.eps(x, torch.tensor([0.9, 0.2]), cond)
    assert called == [0, 1]  # boundary 0.6
    prior.eps(x, torch.tensor([0.6, 0.61]), cond)
    assert called == [0, 1, 0]  # of two rows


def test_rows_that_cannot_be_joined_are_evaluated_one_at_a_time(others, monkeypatch):
    prior = others("DiT")
    x, t, cond = torch.randn(2, *prior.latent_shape), torch.tensor([0.3, 0.3]), prior.encode_text(["3"])
    together = prior.eps(x, t, cond)
    for shape in prior._shapes.values():
        monkeypatch.setattr(shape, "layout", None)
        monkeypatch.setattr(shape, "recordings", {})
    assert relative(prior.eps(x, t, cond), together) < 2e-5
