"""Diffusers pipelines as priors: equal to the pipeline, cheap, differentiable, and clear when something is wrong."""

import json

import diffusers
import pytest
import torch

import tiny
from scoredistill import load_prior
from scoredistill.priors import Counted, Guided
from scoredistill.sampling import ddim


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def prior(pipeline):
    return load_prior(pipeline)


PROMPTS = ["a red hamburger", "an owl"]


@pytest.mark.parametrize("scale", [1.0, 7.5])
@pytest.mark.parametrize(
    ("prediction", "spacing", "to_one"),
    [
        ("eps", "leading", False),
        ("v", "leading", False),
        ("x0", "leading", False),
        ("v", "trailing", True),
        ("eps", "trailing", False),
    ],
)
def test_ddim_equals_the_pipeline(tmp_path, prediction, spacing, to_one, scale):
    pipeline = tiny.stable_diffusion(tmp_path, prediction, spacing, to_one)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(
        PROMPTS, guidance_scale=scale, num_inference_steps=12, latents=latents, output_type="latent"
    ).images
    prior = load_prior(pipeline)
    ours = ddim(Guided(prior, scale), latents, 12, prior.encode_text(PROMPTS))
    assert (ours - theirs).abs().max() < 1e-4 * max(1, theirs.abs().max())
    images = pipeline(PROMPTS, guidance_scale=scale, num_inference_steps=12, latents=latents, output_type="pt").images
    assert (prior.decode(ours) - images).abs().max() < 1e-4


@pytest.mark.parametrize("case", tiny.CASES)
def test_parity(tmp_path, case):
    assert tiny.CASES[case](tmp_path) < 1e-4


def test_eta_equals_the_pipeline(pipeline, prior):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    run = lambda: torch.Generator().manual_seed(5)
    theirs = pipeline(
        PROMPTS,
        guidance_scale=4.0,
        num_inference_steps=6,
        latents=latents,
        eta=0.7,
        generator=run(),
        output_type="latent",
    ).images
    ours = ddim(Guided(prior, 4.0), latents, 6, prior.encode_text(PROMPTS), eta=0.7, rng=run())
    assert (ours - theirs).abs().max() < 1e-4


def test_schedule_is_the_schedulers_table(pipeline, prior):
    alpha, sigma = prior.schedule(torch.linspace(0, 1, 1000, dtype=torch.float64))
    assert (alpha**2 - pipeline.scheduler.alphas_cumprod.double()).abs().max() < 1e-7
    assert (sigma**2 - (1 - pipeline.scheduler.alphas_cumprod.double())).abs().max() < 1e-7


def test_guidance_is_one_call_of_two_rows(prior):
    calls = []
    hook = prior.network.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    guided = Guided(prior, 7.5)
    guided.eps(torch.zeros(3, 4, 8, 8), torch.full((3,), 0.5), prior.encode_text("an owl"))
    hook.remove()
    assert calls == [6]


def test_text_is_encoded_once(prior):
    calls = []
    hook = prior.pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    first = prior.encode_text(["a cat", "a dog", "a cat"])["text"]
    again = prior.encode_text(["a dog", "a cat"])["text"]
    hook.remove()
    assert len(calls) == 1
    assert first.shape[0] == 3
    assert torch.equal(first[[1, 0]], again)
    assert not torch.equal(first[0], first[1])


def test_codec_is_differentiable_and_checks_sizes(prior):
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    latents = prior.encode_image(images)
    theirs = prior.codec.vae.encode(2 * images - 1).latent_dist.mode() * prior.codec.vae.config.scaling_factor
    assert latents.shape == (2, *prior.latent_shape)
    assert (latents - theirs).abs().max() < 1e-6
    latents.square().sum().backward()
    assert images.grad.abs().max() > 0
    assert all(p.grad is None for p in prior.codec.vae.parameters())
    decoded = prior.decode(latents.detach())
    assert decoded.shape == images.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    with pytest.raises(ValueError, match="multiples of 2, not 15x16"):
        prior.encode_image(torch.rand(1, 3, 15, 16))


def test_half_precision_networks_keep_float32_particles(tmp_path):
    prior = load_prior(tiny.stable_diffusion(tmp_path).to(dtype=torch.bfloat16))
    reference = load_prior(tiny.stable_diffusion(tmp_path))
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([0.5])
    half, full = (p.eps(x, t, p.encode_text("an owl")) for p in (prior, reference))
    assert half.dtype == torch.float32
    assert 1e-6 < (half - full).abs().max() < 0.1


def test_folder_and_object_are_the_same_prior(pipeline, prior, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    loaded = load_prior(tmp_path / "model")
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([0.3])
    assert torch.equal(loaded.eps(x, t, loaded.encode_text("a")), prior.eps(x, t, prior.encode_text("a")))
    counted = Counted(loaded)
    assert counted.decode(x).shape == (1, 3, 16, 16)
    assert counted.counts() == {"rows": 0, "calls": 0, "encoded": 0, "decoded": 1}


@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_any_discrete_scheduler_gives_the_same_prior(pipeline, prior, tmp_path, name):
    """Only the table of the scheduler matters: ddim is ours."""
    other = tiny.stable_diffusion(tmp_path)
    other.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    ours, theirs = (ddim(p, latents, 10, p.encode_text("an owl")) for p in (load_prior(other), prior))
    assert (ours - theirs).abs().max() < 1e-4


def test_tiny_autoencoders_work(tmp_path):
    pipeline = tiny.stable_diffusion(tmp_path)
    pipeline.vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )  # fmt: skip
    prior = load_prior(pipeline)
    assert prior.decode(prior.encode_image(torch.rand(1, 3, 16, 16))).shape == (1, 3, 16, 16)


def test_ready_pipelines_take_dtype_and_text_can_be_forgotten(tmp_path):
    prior = load_prior(tiny.stable_diffusion(tmp_path), dtype="bfloat16")
    assert prior.network.dtype == torch.bfloat16
    before = prior.encode_text("an owl")["text"]
    for parameter in prior.pipeline.text_encoder.parameters():
        parameter.data.mul_(1.5)
    assert torch.equal(prior.encode_text("an owl")["text"], before)
    prior.forget_text()
    assert not torch.equal(prior.encode_text("an owl")["text"], before)


def test_errors_name_what_is_wrong(pipeline, tmp_path):
    with pytest.raises(ValueError, match="no prior 'emojis'"):
        load_prior("emojis")
    with pytest.raises(ValueError, match=r"no model_index\.json"):
        load_prior(tmp_path)
    with pytest.raises(ValueError, match="cannot load 'nobody/nothing'"):
        load_prior("nobody/nothing", local_files_only=True)
    with pytest.raises(ValueError, match="there are no prompts: give at least one"):
        load_prior(pipeline).encode_text([])
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        load_prior("emoji", dtype="int8")
    with pytest.raises(ValueError, match=r"from_callable"):
        load_prior(torch.nn.Identity())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "SanaPipeline"}')
    with pytest.raises(ValueError, match=r"cannot load .*other"):  # a class without an adapter, and no components
        load_prior(tmp_path / "other")
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "NobodysPipeline"}')
    with pytest.raises(ValueError, match="NobodysPipeline is not supported: load a pipeline"):
        load_prior(tmp_path / "other")
    incomplete = tiny.stable_diffusion(tmp_path / "tokens")
    incomplete.text_encoder = None
    with pytest.raises(ValueError, match="has no text_encoder: give embeddings as the condition"):
        load_prior(incomplete).encode_text("an owl")
    incomplete.unet = None
    with pytest.raises(ValueError, match="the pipeline lacks its unet: load it with unet/vae"):
        load_prior(incomplete)
    pipeline.save_pretrained(tmp_path / "broken")
    for weights in (tmp_path / "broken").rglob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ValueError, match="safetensors"):
        load_prior(tmp_path / "broken")
    config = json.loads((tmp_path / "broken" / "model_index.json").read_text())
    assert config["_class_name"] == "StableDiffusionPipeline"
