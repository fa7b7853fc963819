"""Flow-matching pipelines as priors: equal to the pipeline, at its own times, and clear when something is wrong."""

import copy
import math
from functools import partial

import diffusers
import pytest
import torch
from peft import LoraConfig

import tiny_flow
from scoredistill import distill, load_prior
from scoredistill.estimators import MSD, RFDS, SDS, VSD, Batch
from scoredistill.generators import Latents
from scoredistill.priors import Guided, ImageGuided
from scoredistill.priors.base import Editor
from scoredistill.priors.pipelines.flux import pack, unpack
from scoredistill.priors.pipelines.lora import LoraStudent
from scoredistill.priors.students import student_of
from scoredistill.sampling import ddim
from scoredistill.schedule import perturb

BUILD = {"sd3": tiny_flow.stable_diffusion_3, "flux": tiny_flow.flux, "kontext": tiny_flow.kontext}
T = torch.tensor([0.3, 0.8])


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    return {kind: build(tmp_path_factory.mktemp("tokens")) for kind, build in BUILD.items()}


@pytest.fixture(params=BUILD)
def prior(pipelines, request):
    return load_prior(pipelines[request.param])


@pytest.fixture
def kontext(pipelines):
    return load_prior(pipelines["kontext"])


@pytest.fixture
def x():
    return tiny_flow.noise(tiny_flow.SQUARE)


@pytest.mark.parametrize("case", tiny_flow.CASES)
def test_ddim_equals_the_pipeline(tmp_path, case):
    assert tiny_flow.CASES[case](tmp_path) < 1e-4


def test_what_the_cases_vary_matters(pipelines, kontext, x):
    """Random networks could be deaf to what parity compares: each part of the input moves the prediction."""

    def moves(prior, change, least=1e-3):
        cond = prior.encode_text("an owl")
        return (prior.eps(x, T, {**cond, **change}) - prior.eps(x, T, cond)).abs().max() > least

    for prior in map(load_prior, pipelines.values()):
        other = prior.encode_text("a cat")
        assert moves(prior, {"text": other["text"]})
        assert moves(prior, {"pooled": other["pooled"]}, 1e-4)
        assert (prior.eps(x, T) - prior.eps(x, T.flip(0))).abs().max() > 1e-2
    for size in (tiny_flow.SQUARE, tiny_flow.TALL):
        assert moves(kontext, kontext.encode_source(tiny_flow.source(size)))
    before = kontext.eps(x, T)
    kontext.guidance = 7.0
    assert (kontext.eps(x, T) - before).abs().max() > 1e-4


def test_images_equal_the_pipelines(pipelines, x):
    pipeline = pipelines["sd3"]
    prior = load_prior(pipeline)
    ours = prior.decode(ddim(Guided(prior, 5.0), x, 4, prior.encode_text(tiny_flow.PROMPTS)))
    theirs = pipeline(
        tiny_flow.PROMPTS, guidance_scale=5.0, num_inference_steps=4, latents=x, output_type="pt"
    ).images  # fmt: skip
    assert theirs.shape == (2, 3, *prior.image_size)
    assert (ours - theirs).abs().max() < 1e-4
    pipeline = pipelines["flux"]
    prior = load_prior(pipeline)
    ours = prior.decode(ddim(prior, x, 4, prior.encode_text(tiny_flow.PROMPTS)))
    packed = pipeline._pack_latents(x, 2, 4, 8, 8)
    theirs = pipeline(tiny_flow.PROMPTS, num_inference_steps=4, latents=packed, output_type="pt").images
    assert (ours - theirs).abs().max() < 1e-4


def test_latents_are_shifted_and_scaled(prior):
    images = torch.rand(1, 3, 32, 32)
    mode = prior.codec.vae.encode(2 * images - 1).latent_dist.mode()
    assert (prior.encode_image(images) - 0.4 * (mode - 0.1)).abs().max() < 1e-6
    assert prior.encode_image(images).shape == (1, *prior.latent_shape)


def test_times_of_a_static_shift_are_3s_over_1_plus_2s(pipelines, tmp_path):
    steps, prior = 5, load_prior(pipelines["sd3"])
    least = 3 * 1e-3 / (1 + 2 * 1e-3)  # the scheduler's smallest sigma, itself shifted
    s = torch.linspace(1, least, steps, dtype=torch.float64)
    times = prior.times(steps)
    assert times.shape == (steps, 2)
    assert times.dtype == torch.float64
    assert (times[:, 0] - 3 * s / (1 + 2 * s)).abs().max() < 1e-6
    assert torch.equal(times[1:, 0], times[:-1, 1])
    assert (times[0, 0], times[-1, 1]) == (1, 0)
    schnell = load_prior(tiny_flow.flux(tmp_path, told=False, dynamic=False))
    assert (schnell.times(4)[:, 0] - torch.tensor([1, 0.75, 0.5, 0.25])).abs().max() < 1e-6
    schnell.pipeline.scheduler.set_shift(3.0)
    assert schnell.times(4)[2, 0].item() == pytest.approx(0.75)


@pytest.mark.parametrize(("size", "tokens"), [((8, 8), 16), ((8, 12), 24), ((20, 12), 60)])
def test_times_of_a_dynamic_shift_follow_the_latent_shape(pipelines, size, tokens):
    prior = load_prior(pipelines["flux"])
    prior.latent_shape = (4, *size)
    k = math.exp(0.5 + (1.15 - 0.5) * (tokens - 4) / (64 - 4))
    s = torch.linspace(1, 1 / 6, 6, dtype=torch.float64)
    assert (prior.times(6)[:, 0] - k * s / (1 + (k - 1) * s)).abs().max() < 1e-6
    assert prior.image_size == (4 * size[0], 4 * size[1])


def test_the_network_predicts_noise_minus_sample(pipelines, x):
    """RFDS is v - (n - x): the transformer's own output, called by hand, fixes the sign and the time."""
    prior, noise = load_prior(pipelines["sd3"]), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    cond = prior.encode_text(tiny_flow.PROMPTS)
    x_t = perturb(prior.schedule, x, T, noise)
    velocity = prior.network(x_t, cond["text"], cond["pooled"], 1000 * T).sample
    grad = RFDS()(prior, Batch(x, cond), T, torch.Generator().manual_seed(0)).grad
    assert (grad - (velocity - (noise - x))).abs().max() < 1e-4


@pytest.mark.parametrize("make", [SDS, MSD, partial(MSD, sampler="ancestral"), RFDS, VSD])
def test_estimators_give_finite_gradients(pipelines, x, make):
    prior, estimator = load_prior(pipelines["sd3"]), make()
    batch = Batch(x, prior.encode_text(tiny_flow.PROMPTS))
    for t in (0.001, 0.5, 0.98):
        grad = estimator(Guided(prior, 4.0), batch, torch.full((2,), t), torch.Generator().manual_seed(0)).grad
        assert grad.isfinite().all()
        assert grad.abs().max() > 0


def test_pure_noise_has_finite_predictions_and_gradients(prior, x):
    """At t = 1 alpha is 0: eps is x_t itself, and the sample follows from the velocity."""
    t = torch.ones(2)
    assert torch.equal(prior.eps(x, t), x)
    assert prior.denoise(x, t).isfinite().all()
    assert prior.denoise_at(x, torch.full((2,), torch.inf)).isfinite().all()
    for estimator in (SDS(), MSD(), MSD(sampler="ancestral", steps=2)):
        assert estimator(prior, Batch(x), t, torch.Generator().manual_seed(0)).grad.isfinite().all()


def test_a_distillation_moves_the_particles(prior):
    particles = Latents(2, prior.latent_shape, rng=torch.Generator().manual_seed(0))
    before = particles.values.detach().clone()
    cond = prior.encode_text("an owl")
    for step in distill(particles, Guided(prior, 4.0), SDS(), cond, steps=2, rng=torch.Generator().manual_seed(1)):
        assert step.grad_norm > 0
    assert particles.values.isfinite().all()
    assert (particles.values - before).abs().max() > 1e-4


def test_rows_have_their_own_conditions_and_may_be_split(prior, x):
    cond = prior.encode_text(tiny_flow.PROMPTS)
    if isinstance(prior, Editor):
        cond |= prior.encode_source(tiny_flow.source(tiny_flow.TALL))
    whole = prior.eps(x, T, cond)
    for i in range(2):
        alone = prior.eps(x[i : i + 1], T[i : i + 1], {name: value[i : i + 1] for name, value in cond.items()})
        assert (whole[i : i + 1] - alone).abs().max() < 1e-5
    prior.max_rows = 1
    assert (prior.eps(x, T, cond) - whole).abs().max() < 1e-5


def test_half_precision_networks_keep_float32_particles(prior, x):
    half = load_prior(copy.deepcopy(prior.pipeline), dtype="bfloat16")
    seen = half.eps(x, T, half.encode_text(tiny_flow.PROMPTS))
    assert half.network.dtype == torch.bfloat16
    assert seen.dtype == torch.float32
    assert 1e-6 < (seen - prior.eps(x, T, prior.encode_text(tiny_flow.PROMPTS))).abs().max() < 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_network_is_called_as_the_pipeline_calls_it(prior, x, dtype):
    """In half precision too the times are rounded as the pipeline's; the rest of the first call is equal."""
    prior = load_prior(copy.deepcopy(prior.pipeline), dtype=dtype)
    x, cond, options, calls = x.bfloat16().float(), {}, {}, []
    if isinstance(prior, Editor):
        cond = {"image": tiny_flow.noise(tiny_flow.WIDE).flip(1).bfloat16().float()}
        options = {"image": cond["image"], "max_area": 1024}
    hook = prior.network.register_forward_pre_hook(
        lambda _, args, given: calls.append({**dict(zip(["hidden_states"], args, strict=False)), **given}),
        with_kwargs=True,
    )
    tiny_flow.ours(prior, x, 3, 1.0, cond=cond)
    if hasattr(prior.pipeline, "_pack_latents"):
        tiny_flow.run_flux(prior.pipeline, x, 3, **options)
    else:
        prior.pipeline(tiny_flow.PROMPTS, latents=x.to(prior.dtype), num_inference_steps=3, guidance_scale=1.0)
    hook.remove()
    assert len(calls) == 6
    for name in calls[0].keys() - {"return_dict"}:
        assert calls[0][name] is calls[3][name] or torch.equal(calls[0][name], calls[3][name].to(calls[0][name])), name
    for ours, theirs in zip(calls[:3], calls[3:], strict=True):
        assert torch.equal(ours["timestep"], theirs["timestep"])


def test_adapters_in_the_transformer_keep_parity(tmp_path, x):
    pipeline = tiny_flow.flux(tmp_path)
    prior = load_prior(pipeline)
    plain = prior.eps(x, T)
    style = LoraConfig(r=4, target_modules=["to_q", "to_v", "proj_out"], init_lora_weights=False)
    pipeline.transformer.add_adapter(style, "style")
    assert (prior.eps(x, T) - plain).abs().max() > 1e-3
    theirs = tiny_flow.run_flux(pipeline, x, 4)
    assert tiny_flow.relative(tiny_flow.ours(prior, x, 4, 1.0), theirs) < 1e-4


def test_students_start_as_the_teacher_and_learn(prior, x):
    cond, run = prior.encode_text(tiny_flow.PROMPTS), torch.Generator().manual_seed(0)
    student, before = student_of(prior, x), prior.eps(x, T, cond)
    assert isinstance(student, LoraStudent)
    assert torch.equal(student.eps(x, T, cond), before)
    estimator = VSD(student, lr=1e-2)
    for _ in range(4):
        estimator(prior, Batch(x, cond), T, run)
    assert all(p.grad.abs().max() > 0 for p in student.parameters())
    assert (student.eps(x, T, cond) - before).abs().max() > 1e-3
    assert torch.equal(prior.eps(x, T, cond), before)


@pytest.mark.parametrize("kind", ["StableDiffusion3Img2ImgPipeline", "FluxImg2ImgPipeline"])
def test_image_to_image_pipelines_are_the_same_prior(pipelines, x, kind):
    plain = pipelines["flux" if "Flux" in kind else "sd3"]
    other = load_prior(getattr(diffusers, kind)(**plain.components))
    assert torch.equal(other.eps(x, T), load_prior(plain).eps(x, T))


def test_folders_and_objects_are_the_same_prior(prior, tmp_path, x):
    prior.pipeline.save_pretrained(tmp_path / "model")
    loaded = load_prior(tmp_path / "model")
    assert torch.equal(loaded.eps(x, T, loaded.encode_text("an owl")), prior.eps(x, T, prior.encode_text("an owl")))


def test_a_folder_may_lack_t5_or_be_loaded_without_it(tmp_path, x):
    with_t5, without = (tiny_flow.stable_diffusion_3(tmp_path / str(t5), t5=t5) for t5 in (True, False))
    without.save_pretrained(tmp_path / "without")
    with_t5.save_pretrained(tmp_path / "with")
    loaded = load_prior(tmp_path / "without")
    assert torch.equal(
        loaded.eps(x, T, loaded.encode_text("an owl")), load_prior(without).eps(x, T, loaded.encode_text("an owl"))
    )
    left_out = load_prior(tmp_path / "with", parts={"text_encoder_3": None, "tokenizer_3": None})
    assert left_out.pipeline.text_encoder_3 is None
    assert (left_out.encode_text("an owl")["text"][:, -1] == 0).all()
    with pytest.raises(ValueError, match="a pipeline object has its own components"):
        load_prior(with_t5, parts={"text_encoder_3": None})


def test_a_transformer_takes_no_view(prior):
    with pytest.raises(ValueError, match="use view_dim=0 for a transformer"):
        LoraStudent(prior, view_dim=3)


def test_packing_is_the_pipelines_and_can_be_undone(pipelines):
    latents = torch.randn(2, 4, 12, 8)
    tokens = pack(latents)
    assert torch.equal(tokens, pipelines["flux"]._pack_latents(latents, 2, 4, 12, 8))
    assert torch.equal(unpack(tokens, 12, 8), latents)


def test_a_source_image_stays_when_the_text_is_guided(kontext, x):
    """Guided leaves the image in both rows; without an image the model makes images from text."""
    cond = kontext.encode_text(tiny_flow.PROMPTS) | kontext.encode_source(tiny_flow.source(tiny_flow.SQUARE))
    e_c, e_0 = kontext.eps(x, T, cond), kontext.eps(x, T, {**cond, **kontext.encode_text("")})
    assert (Guided(kontext, 3.0).eps(x, T, cond) - (e_0 + 3 * (e_c - e_0))).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"guide it with Guided, not ImageGuided"):
        ImageGuided(kontext, 4.0, 1.5).eps(x, T, cond)


def test_errors_name_what_is_wrong(pipelines, kontext, tmp_path):
    for name, prior in ((name, load_prior(pipeline)) for name, pipeline in pipelines.items()):
        with pytest.raises(ValueError, match="sides of latents must be multiples of 2, not 8x7"):
            prior.eps(torch.zeros(1, 4, 8, 7), torch.tensor([0.5]))
        with pytest.raises(ValueError, match=r"no instruction editor|multiples of 2, not 7x8"):
            prior.encode_source(torch.rand(1, 3, 28, 32))
        incomplete = copy.copy(pipelines[name])
        incomplete.vae = None
        with pytest.raises(ValueError, match="lacks its vae: load it with transformer/vae"):
            load_prior(incomplete)
    pipeline = tiny_flow.stable_diffusion_3(tmp_path)
    pipeline.scheduler = diffusers.DDIMScheduler()
    with pytest.raises(ValueError, match="DDIMScheduler is no flow-matching scheduler: load the pipeline with a"):
        load_prior(pipeline)
