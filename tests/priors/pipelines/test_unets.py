"""Priors of UNet pipelines beside Stable Diffusion: equal to the pipelines, and clear when something is wrong."""

import pytest
import torch
from diffusers import DDPMScheduler, IFImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline

import tiny_unets as tiny
from scoredistill import load_prior
from scoredistill.estimators import VSD, Batch
from scoredistill.priors import Guided, ImageGuided
from scoredistill.priors.base import Editor
from scoredistill.priors.pipelines.deepfloyd import DeepFloydPrior
from scoredistill.priors.pipelines.lora import LoraStudent
from scoredistill.priors.pipelines.stable_diffusion import InstructPix2PixPrior
from scoredistill.priors.pipelines.stable_diffusion_xl import (
    StableDiffusionXLInstructPix2PixPrior,
    StableDiffusionXLPrior,
)
from scoredistill.priors.students import student_of

T = torch.tensor([0.3, 0.7])
MAKES = {
    "xl": tiny.xl(),
    "refiner": tiny.refiner,
    "editor": tiny.instruct_pix2pix,
    "xl editor": tiny.xl_editor(),
    "deepfloyd": tiny.deepfloyd,
}
EDITORS = {"editor": tiny.instruct_pix2pix, "xl editor": tiny.xl_editor()}


@pytest.fixture(scope="module", params=MAKES)
def prior(request, tmp_path_factory):
    return load_prior(MAKES[request.param](tmp_path_factory.mktemp("tokens")))


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return load_prior(tiny.stable_diffusion_xl(tmp_path_factory.mktemp("tokens")))


@pytest.fixture(scope="module")
def deepfloyd(tmp_path_factory):
    return load_prior(tiny.deepfloyd(tmp_path_factory.mktemp("tokens")))


def cond_of(prior, prompts=tiny.PROMPTS):
    """Condition of prompts, with two source images for editors."""
    text = prior.encode_text(prompts)
    return text | prior.encode_source(tiny.images()) if isinstance(prior, Editor) else text


def samples(prior):
    return tiny.noise(2, *prior.latent_shape)


def apart(a, b):
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("name", tiny.CASES)
def test_ddim_equals_the_pipeline(name, tmp_path):
    assert tiny.CASES[name](tmp_path) < 1e-4


@pytest.mark.parametrize("make", EDITORS.values(), ids=EDITORS)
def test_editing_is_one_call_with_the_unscaled_source_beside_two_rows_of_three(make, tmp_path):
    """Rows (image, text), (image, none), (zeros, none), in any order."""
    prior, seen = load_prior(make(tmp_path)), []
    hook = prior.network.register_forward_pre_hook(lambda module, args: seen.append(args))
    x, cond = samples(prior), cond_of(prior)
    ImageGuided(prior, 7.5, tiny.IMAGE_SCALE).eps(x, T, cond)
    hook.remove()
    assert len(seen) == 1
    rows, _, text = seen[0]
    assert rows.shape == (6, 8, 8, 8)
    source = prior.codec.vae.encode(2 * tiny.images() - 1).latent_dist.mode()
    nothing = prior.null(cond)["text"].expand_as(cond["text"])
    wanted = [
        (x[i], image[i], words[i])
        for i in range(2)
        for image, words in [(source, cond["text"]), (source, nothing), (torch.zeros_like(source), nothing)]
    ]
    found = list(zip(rows[:, :4], rows[:, 4:], text, strict=True))
    match = lambda a, b: all(apart(u, v) < 1e-6 for u, v in zip(a, b, strict=True))
    assert [sum(match(each, row) for row in found) for each in wanted] == [1] * 6
    assert apart(source[0], source[1]) > 0.1
    assert apart(nothing, cond["text"]) > 0.1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("InstructPix2Pix, eps, guidance 7.5 and 1.5", InstructPix2PixPrior),
        ("InstructPix2Pix XL, eps, guidance 7.5 and 1.5", StableDiffusionXLInstructPix2PixPrior),
    ],
)
def test_a_scaled_source_would_be_noticed(name, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(kind, "encode_source", lambda self, images: {"image": self.codec.encode(images)})
    assert tiny.CASES[name](tmp_path) > 1e-3


@pytest.mark.parametrize("zeros", [True, False])
def test_no_prompt_is_what_the_pipeline_takes_for_it(tmp_path, zeros):
    """The text is replaced, the source image and the sizes stay."""
    prior = load_prior(tiny.instruct_pix2pix_xl(tmp_path, zeros))
    cond = {**cond_of(prior), "time_ids": torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]])}
    null, empty = prior.null(cond), prior.encode_text("")
    assert set(null) == set(cond)
    assert null["image"] is cond["image"]
    assert null["time_ids"] is cond["time_ids"]
    for name in ("text", "pooled"):
        assert torch.equal(null[name], torch.zeros_like(cond[name]) if zeros else empty[name])
        assert empty[name].abs().max() > 0.1


def test_sizes_are_those_of_the_samples_unless_given(xl):
    x, text = tiny.noise(2, 4, 12, 8), xl.encode_text(tiny.PROMPTS)
    ask = lambda *ids: xl.eps(x, T, {**text, "time_ids": torch.tensor(ids)})
    own = xl.eps(x, T, text)
    assert torch.equal(ask([24.0, 16.0, 0.0, 0.0, 24.0, 16.0]), own)
    assert torch.equal(ask([24, 16, 0, 0, 24, 16]), own)
    for k in range(6):
        other = [24.0, 16.0, 0.0, 0.0, 24.0, 16.0]
        other[k] += 8
        seen = ask([24.0, 16.0, 0.0, 0.0, 24.0, 16.0], other)
        assert torch.equal(seen[0], own[0])
        assert apart(seen[1], own[1]) > 1e-4
    assert xl.image_size == (16, 16)


def test_refiners_guide_away_from_a_low_score(tmp_path):
    prior = load_prior(tiny.refiner(tmp_path))
    cond = prior.encode_text(tiny.PROMPTS)
    assert cond["aesthetics"].tolist() == [[6.0], [6.0]]
    assert prior.null(cond)["aesthetics"].tolist() == [[2.5], [2.5]]
    x = samples(prior)
    low = prior.eps(x, T, {**cond, "aesthetics": torch.tensor([[2.5]])})
    assert apart(low, prior.eps(x, T, cond)) > 1e-5
    given = prior.eps(x, T, {**cond, "time_ids": torch.tensor([[16.0, 16.0, 0.0, 0.0, 2.5]])})
    assert torch.equal(given, low)


def test_rows_do_not_depend_on_how_they_are_batched(prior):
    x, cond = samples(prior), cond_of(prior)
    guided = ImageGuided(prior, 7.5, 1.5) if isinstance(prior, Editor) else Guided(prior, 7.5)
    calls = []
    hook = prior.network.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    whole = guided.eps(x, T, cond)
    each = [guided.eps(x[i : i + 1], T[i : i + 1], {k: v[i : i + 1] for k, v in cond.items()}) for i in range(2)]
    prior.max_rows = 3
    split = guided.eps(x, T, cond)
    prior.max_rows = None
    hook.remove()
    assert calls == ([6, 3, 3, 3, 3] if isinstance(prior, Editor) else [4, 2, 2, 3, 1])
    assert apart(torch.cat(each), whole) < 1e-4
    assert apart(split, whole) < 1e-4
    swapped = guided.eps(x, T, {k: v.flip(0) for k, v in cond.items()})
    assert apart(swapped[0], whole[0]) > 1e-3
    shared = guided.eps(x, T, {k: v[:1] for k, v in cond.items()})
    assert apart(shared[0], whole[0]) < 1e-4
    assert apart(shared[1], whole[1]) > 1e-3


@pytest.mark.parametrize("kind", ["xl", "xl editor", "deepfloyd"])
@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_networks_keep_float32_particles(tmp_path, kind, dtype, error):
    half, full = (load_prior(MAKES[kind](tmp_path / each), dtype=each) for each in (dtype, "float32"))
    x = samples(full)
    ours, theirs = (p.eps(x, T, cond_of(p)) for p in (half, full))
    assert ours.dtype == torch.float32
    assert half.network.dtype == getattr(torch, dtype)
    assert 1e-6 < apart(ours, theirs) < error
    source = cond_of(half)["image"] if isinstance(half, Editor) else half.encode_image(tiny.images())
    assert source.dtype == torch.float32


@pytest.mark.parametrize("kind", ["xl", "editor", "deepfloyd"])
def test_adapters_of_the_pipeline_change_the_prediction(kind, tmp_path):
    """And `CASES` shows that it is the pipeline's, changed."""
    plain, adapted = (load_prior(make(tmp_path)) for make in (MAKES[kind], tiny.styled(MAKES[kind])))
    x = samples(plain)
    assert apart(adapted.eps(x, T, cond_of(adapted)), plain.eps(x, T, cond_of(plain))) > 1e-2


def test_a_folder_is_the_same_prior(prior, tmp_path):
    prior.pipeline.save_pretrained(tmp_path)
    loaded, x = load_prior(tmp_path), samples(prior)
    assert type(loaded) is type(prior)
    assert torch.equal(loaded.eps(x, T, cond_of(loaded)), prior.eps(x, T, cond_of(prior)))


def test_students_learn_by_lora_and_the_teacher_notices_nothing(prior, rng):
    x, cond = samples(prior), cond_of(prior)
    before = prior.eps(x, T, cond)
    student = student_of(prior, x)
    assert isinstance(student, LoraStudent)
    assert torch.equal(student.eps(x, T, cond), before)
    estimator = VSD(student)
    for _ in range(3):
        estimate = estimator(prior, Batch(x, cond), T, rng)
    assert estimate.grad.isfinite().all()
    assert all(p.grad.abs().max() > 0 for p in student.parameters())
    assert apart(student.eps(x, T, cond), before) > 1e-4
    assert torch.equal(prior.eps(x, T, cond), before)


def test_students_see_the_view(xl, rng):
    x, cond = samples(xl), cond_of(xl)
    student, view = LoraStudent(xl, view_dim=2), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    estimator = VSD(student)
    for _ in range(5):
        estimator(xl, Batch(x, {**cond, "view": view}), T, rng)
    assert apart(student.eps(x, T, {**cond, "view": view}), student.eps(x, T, {**cond, "view": -view})) > 1e-4


def test_deepfloyd_keeps_the_noise_and_drops_the_variance(deepfloyd):
    seen = []
    hook = deepfloyd.network.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    x = samples(deepfloyd)
    eps = deepfloyd.eps(x, T, deepfloyd.encode_text("an owl"))
    hook.remove()
    assert seen[0].shape == (2, 6, 16, 16)
    assert torch.equal(eps, seen[0][:, :3])
    assert deepfloyd.image_size == (16, 16)
    images = tiny.images()
    pixels = deepfloyd.encode_image(images)
    assert torch.equal(pixels, 2 * images - 1)
    assert apart(deepfloyd.decode(pixels), images) < 1e-6


def test_deepfloyds_own_scheduler_gives_the_same_prior(deepfloyd, tmp_path):
    """Thresholding and the learned variance are its sampler's."""
    pipeline = tiny.deepfloyd(tmp_path)
    pipeline.scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.5,
        variance_type="learned_range",
    )  # fmt: skip
    prior, x = load_prior(pipeline), samples(deepfloyd)
    for ask in ("eps", "denoise"):
        ours, theirs = (getattr(p, ask)(x, T, p.encode_text("an owl")) for p in (prior, deepfloyd))
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "kind", "expected"),
    [
        (tiny.stable_diffusion_xl, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPrior),
        (tiny.deepfloyd, IFImg2ImgPipeline, DeepFloydPrior),
    ],
)
def test_pipelines_from_images_are_the_same_priors(make, kind, expected, tmp_path):
    prior, other = load_prior(make(tmp_path)), load_prior(make(tmp_path, kind=kind))
    assert type(other) is expected
    x = samples(prior)
    assert torch.equal(other.eps(x, T, cond_of(other)), prior.eps(x, T, cond_of(prior)))


def test_errors_name_what_is_wrong(tmp_path, xl):
    x = samples(xl)
    with pytest.raises(ValueError, match=r"time_ids of this model have 6 numbers, not \[5\]: give \(height, width"):
        xl.eps(x, T, {**xl.encode_text("an owl"), "time_ids": torch.zeros(1, 5)})
    with pytest.raises(ValueError, match="is no instruction editor"):
        xl.encode_source(tiny.images())
    pipeline = tiny.instruct_pix2pix_xl(tmp_path)
    editor = load_prior(pipeline)
    with pytest.raises(ValueError, match="needs a source image"):
        editor.eps(x, T, editor.encode_text("an owl"))
    with pytest.raises(ValueError, match="the latents have 12x8 pixels and the source image's have 8x8"):
        editor.eps(tiny.noise(2, 4, 12, 8), T, cond_of(editor))
    for make, part, parts in [
        (tiny.stable_diffusion_xl, "unet", "unet: load it with unet/vae"),
        (tiny.instruct_pix2pix_xl, "vae", "vae: load it with unet/vae"),
        (tiny.deepfloyd, "unet", "unet: load it with unet"),
    ]:
        incomplete = make(tmp_path)
        setattr(incomplete, part, None)
        with pytest.raises(ValueError, match=f"the pipeline lacks its {parts}"):
            load_prior(incomplete)


@pytest.mark.parametrize("make", [tiny.stable_diffusion_xl, tiny.refiner, tiny.instruct_pix2pix_xl])
def test_a_pipeline_that_was_loaded_works_as_before(make, tmp_path):
    """Its float16 autoencoder overflows: the prior has a copy in float32, and the pipeline its own."""
    pipeline = make(tmp_path).to(torch.float16)
    pipeline.vae.register_to_config(force_upcast=True)
    source = {} if make is tiny.stable_diffusion_xl else {"image": tiny.images()[:1].half()}
    size = {"strength": 1.0} if make is tiny.refiner else {"height": 16, "width": 16}

    def drawn():
        rng = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 2, "generator": rng, "output_type": "pt", **source, **size}
        return pipeline("an owl", **options).images

    before, dtypes = drawn(), {name: part.dtype for name, part in networks(pipeline).items()}
    processors = {name: id(each) for name, each in pipeline.unet.attn_processors.items()}
    parts = {name: id(part) for name, part in pipeline.components.items()}
    prior = load_prior(pipeline, checkpointing=True)
    x = torch.randn(1, *prior.latent_shape)
    images = prior.decode(x)
    prior.encode_image(images.requires_grad_()).sum().backward()
    assert images.dtype == torch.float32
    assert prior.codec.vae.dtype == torch.float32
    assert {name: part.dtype for name, part in networks(pipeline).items()} == dtypes
    assert {name: id(part) for name, part in pipeline.components.items()} == parts
    assert {name: id(each) for name, each in pipeline.unet.attn_processors.items()} == processors
    assert torch.equal(drawn(), before)
    exact = make(tmp_path / "exact")
    assert (load_prior(exact).decode(x) - images).abs().max() < 2e-2


def networks(pipeline):
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def test_another_dtype_makes_copies_of_a_pipelines_networks(tmp_path):
    pipeline = tiny.stable_diffusion_xl(tmp_path)
    pipeline.unet.to(torch.bfloat16)
    prior = load_prior(pipeline, dtype="bfloat16")
    assert {part.dtype for part in networks(prior.pipeline).values()} == {torch.bfloat16}
    assert {part.dtype for name, part in networks(pipeline).items() if name != "unet"} == {torch.float32}
    assert prior.network is pipeline.unet
    assert prior.pipeline("an owl", num_inference_steps=1, height=16, width=16, output_type="pt").images.shape[1:] == (
        3, 16, 16,
    )  # fmt: skip


def test_a_copied_autoencoder_follows_an_offloaded_one(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    pipeline = tiny.stable_diffusion_xl(tmp_path).to(torch.float16)
    pipeline.vae.register_to_config(force_upcast=True)
    accelerate.cpu_offload_with_hook(pipeline.vae, "meta")
    codec = load_prior(pipeline).codec
    assert (codec.vae.dtype, codec.vae.device.type, pipeline.vae.device.type) == (torch.float32, "meta", "cpu")
    with pytest.raises(ValueError, match="an offloaded pipeline keeps its dtype and device"):
        load_prior(pipeline, dtype="bfloat16")


def test_images_times_and_prompts_in_the_wrong_place_are_refused(tmp_path):
    prior = load_prior(tiny.instruct_pix2pix(tmp_path))
    cond, x, images = prior.encode_text("a"), torch.zeros(2, 4, 8, 8), torch.zeros(2, 3, 16, 16)
    wrong = [
        ((images, T, cond), r"shape \[b, 4, h, w\], not \[2, 3, 16, 16\]: encode images by prior.encode_image"),
        ((x[0], T, cond), r"shape \[b, 4, h, w\], not \[4, 8, 8\]$"),
        ((x, T[0], cond), "t must be a tensor of 2 times"),
        ((x, 0.5, cond), "t must be a tensor of 2 times"),
        ((x, T, "a"), "cond is a text"),
        ((x, T, cond["text"]), "cond is a tensor without a name"),
    ]
    for given, says in wrong:
        with pytest.raises(ValueError, match=says):
            prior._check_inputs(*given)
    with pytest.raises(ValueError, match="encode images by"):
        prior.eps(images, T, cond)
