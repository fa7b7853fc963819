"""Pipelines in the style of diffusers: the same as the tasks, in every form of image, and every wrong argument."""

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import tiny_unets
from scoredistill import Recipe, load_prior
from scoredistill.estimators import SDS
from scoredistill.pipelines import (
    CSDEditPipeline,
    CSDEditVideoPipeline,
    CSDPipeline,
    MSDPipeline,
    SDSPipeline,
    TextToImagePipeline,
)
from scoredistill.pipelines.base import images_of, seed_from
from scoredistill.priors import GaussianMixture
from scoredistill.tasks import edit_image, edit_video, text_to_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.saved(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return load_prior(tiny_unets.instruct_pix2pix(tmp_path_factory.mktemp("editor")))


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def made(folder):
    return quiet(SDSPipeline.from_pretrained(folder))


@pytest.fixture
def edits(editor):
    return quiet(CSDEditPipeline(editor))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def photo(height=20, width=24, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_images_are_those_of_the_task(made):
    seed = seed_from(rng())
    like = text_to_image(
        "an owl", made.prior, "sds", image="latents", steps=2, guidance=4.0, negative_prompt="a cat", particles=2,
        seed=seed,
    )  # fmt: skip
    call = {"image": "latents", "num_inference_steps": 2, "guidance_scale": 4, "negative_prompt": "a cat"}
    out = made("an owl", generator=rng(), num_images_per_prompt=2, output_type="latent", **call)
    assert torch.equal(out.images, like.samples)
    assert out.results[0].counts == like.counts
    shown = made("an owl", generator=rng(), num_images_per_prompt=2, **call)
    assert [a.tobytes() for a in shown.images] == [b.tobytes() for b in like.images]
    assert made("an owl", image="latents", num_inference_steps=1, guidance_scale=0.0).results[0].request.guidance == 1


def test_forms_of_output_and_seeds(made):
    call = {"image": "latents", "num_inference_steps": 1}
    numbers = made(["an owl", "a cat"], generator=[rng(3), rng(4)], output_type="np", **call)
    tensor = made(["an owl", "a cat"], generator=[rng(3), rng(4)], output_type="pt", return_dict=False, **call)
    assert numbers.images.shape == (2, 16, 16, 3)
    assert numbers["images"] is numbers[0] is numbers.images
    assert isinstance(tensor, tuple)
    assert np.array_equal(numbers.images, tensor[0].permute(0, 2, 3, 1).numpy())
    alone = made("a cat", generator=rng(4), output_type="np", **call).images
    assert np.array_equal(alone[0], numbers.images[1])
    shared = rng(3)
    first, second = (made("an owl", generator=shared, output_type="np", **call).images for _ in range(2))
    assert np.array_equal(first[0], numbers.images[0])
    assert not np.array_equal(first, second)  # a generator goes on, as in diffusers
    torch.manual_seed(5)
    one = made("an owl", output_type="np", **call).images
    torch.manual_seed(5)
    assert np.array_equal(one, made("an owl", output_type="np", **call).images)


def test_a_callback_sees_and_replaces_latents(made):
    seen = []

    def watch(pipe, index, t, tensors):
        seen.append((pipe, index, t, sorted(tensors)))
        return {"latents": torch.full_like(tensors["latents"], 0.25)}

    out = made(
        "an owl", image="latents", num_inference_steps=2, output_type="latent", callback_on_step_end=watch, lr=0.01
    )
    assert [(index, names) for _, index, _, names in seen] == [(0, ["latents"]), (1, ["latents"])]
    assert seen[0][0] is made
    assert all(0.02 <= t <= 0.98 for _, _, t, _ in seen)
    assert bool((out.images == 0.25).all())
    in_place = lambda p, i, t, tensors: {"latents": tensors["latents"].fill_(0.25)}
    out = made("an owl", image="latents", num_inference_steps=1, output_type="latent", callback_on_step_end=in_place)
    assert bool((out.images == 0.25).all())
    kept = []
    made("an owl", num_inference_steps=1, callback_on_step_end=lambda p, i, t, k: kept.append(k["images"].shape))
    assert kept == [(1, 3, 16, 16)]
    for inputs, sentence in ((["noise"], "a step has no noise: its tensors are"), (["latents"], "has no latents")):
        with pytest.raises(ValueError, match=sentence):
            made(
                "an owl", num_inference_steps=1, callback_on_step_end=lambda *_: {},
                callback_on_step_end_tensor_inputs=inputs,
            )  # fmt: skip


def test_edits_are_those_of_the_task(edits):
    seed = seed_from(rng(2))
    like = edit_image(photo(), "make it night", edits.prior, "csd", size=16, sweeps=2, text_scale=7.5, image_scale=1.5,
                      seed=seed, wrap=True, negative_prompt="snow")  # fmt: skip
    call = {"num_inference_steps": 2, "guidance_scale": 7.5, "image_guidance_scale": 1.5, "size": 16, "wrap": True}
    out = edits("make it night", photo(), generator=rng(2), negative_prompt="snow", **call)
    assert out.images[0].tobytes() == like.image.tobytes()
    other = edits("make it night", image=photo(), generator=rng(2), **call)
    assert other.images[0].tobytes() != like.image.tobytes()
    latents = edits("make it night", photo(), generator=rng(2), negative_prompt="snow", output_type="latent", **call)
    assert torch.equal(latents.images, like.latents)


def test_images_in_every_form_are_edited_alike(edits, tmp_path):
    photo().save(tmp_path / "a.png")
    numbers = np.asarray(photo())
    tensor = torch.from_numpy(numbers.copy()).permute(2, 0, 1)
    forms = [photo(), tmp_path / "a.png", str(tmp_path / "a.png"), numbers, numbers / 255, tensor, tensor.float() / 255,
             tensor[None], numbers[None], [photo()], [numbers]]  # fmt: skip
    for form in forms:
        (image,) = images_of(form)
        assert image.tobytes() == photo().tobytes()
    assert len(images_of([photo(), np.stack([numbers] * 2)])) == 3
    call = {"num_inference_steps": 1, "size": 16}
    assert len(edits(["a", "b"], photo(), **call).images) == 2
    assert [i.size for i in edits("a", [photo(), photo(16, 16)], **call).images] == [(24, 20), (16, 16)]
    several = edits("a", photo(), num_images_per_prompt=2, generator=rng(), **call).images
    assert several[0].tobytes() != several[1].tobytes()


def test_videos_are_those_of_the_task(editor):
    pipe, frames = quiet(CSDEditVideoPipeline(editor)), [photo(16, 16, k) for k in range(2)]
    like = edit_video(frames, "make it night", editor, "csd", sweeps=1, size=16, seed=seed_from(rng()))
    call = {"num_inference_steps": 1, "size": 16}
    out = pipe("make it night", frames, generator=rng(), **call)
    assert [a.tobytes() for a in out.frames[0]] == [b.tobytes() for b in like.frames]
    stacked = np.stack([np.asarray(frame) for frame in frames])
    numbers = pipe("make it night", stacked, generator=rng(), output_type="np", **call)
    assert numbers.frames.shape == (1, 2, 16, 16, 3)
    assert np.array_equal((numbers.frames[0] * 255).round(), np.stack([np.asarray(f) for f in like.frames]))
    tensor = torch.from_numpy(stacked).permute(0, 3, 1, 2)
    (pt,) = pipe(["make it night"], tensor, generator=[rng()], output_type="pt", return_dict=False, **call)
    assert pt.shape == (1, 2, 3, 16, 16)


def test_models_come_from_names_folders_pipelines_and_priors(folder, made):
    for spelling in ({"torch_dtype": torch.float64}, {"dtype": "float64"}, {"torch_dtype": "torch.float64"}):
        assert SDSPipeline.from_pretrained(folder, **spelling).dtype == torch.float64
    assert SDSPipeline.from_pretrained(folder, dtype="bf16").dtype == torch.bfloat16
    auto = SDSPipeline.from_pretrained(folder, torch_dtype="auto", safety_checker=None, token=None)
    assert (auto.dtype, auto.device) == (torch.float32, torch.device("cpu"))
    assert MSDPipeline(made.prior).prior is MSDPipeline.from_pretrained(made.prior).prior is made.prior
    assert MSDPipeline.from_pipe(made).prior is made.prior
    shared = CSDPipeline.from_pipe(made.prior.pipeline)
    assert shared.components["unet"] is made.components["unet"]
    other = SDSPipeline.from_pretrained(folder, vae=made.components["vae"])
    assert other.components["vae"] is made.components["vae"]
    assert repr(made).startswith("SDSPipeline(method=sds, prior=StableDiffusionPrior(name=")


def test_a_moved_pipeline_encodes_prompts_anew(folder):
    pipe = quiet(SDSPipeline.from_pretrained(folder, max_rows=3))
    pipe.prior.encode_text(["an owl"])
    assert pipe.to("cpu", torch.float64) is pipe
    assert pipe.dtype == pipe.prior.encode_text(["an owl"])["text"].dtype == torch.float64
    assert (pipe.prior.max_rows, pipe.prior.name) == (3, str(folder))
    pipe.enable_vae_tiling()
    assert pipe.prior.codec.window == 16
    assert pipe.to(dtype=torch.float32).prior.codec.window == 16
    assert len(pipe("an owl", num_inference_steps=1, image="latents").images) == 1
    assert pipe.to("bf16").dtype == torch.bfloat16
    with pytest.raises(ValueError, match="unknown device 'gpu': use cpu, cuda, cuda:1 or mps, or as a data type"):
        pipe.to("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no CUDA device"):
            pipe.to(device="cuda")


def test_a_method_of_ones_own(folder):
    own = quiet(TextToImagePipeline.from_pretrained(folder, method=Recipe(SDS, steps=2)))
    assert own("an owl", image="latents").results[0].request.steps == 2


def test_models_that_cannot_do_the_task_are_refused(folder, editor, made):
    with pytest.raises(ValueError, match="edits images and cannot generate them from text"):
        MSDPipeline(editor)
    with pytest.raises(ValueError, match="follows no instructions about an image"):
        CSDEditPipeline.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"give MSDPipeline a prior, or use MSDPipeline\.from_pretrained"):
        MSDPipeline()
    with pytest.raises(ValueError, match="the prior is already loaded: give variant to load_prior"):
        MSDPipeline.from_pretrained(made.prior, variant="fp16")
    with pytest.raises(ValueError, match="from_pretrained takes no colour: its options are torch_dtype"):
        MSDPipeline.from_pretrained(folder, colour="red")
    with pytest.raises(ValueError, match="unknown dtype 'int99'"):
        MSDPipeline.from_pretrained(folder, torch_dtype="int99")
    with pytest.raises(ValueError, match="torch_dtype fp16 and dtype fp32 differ"):
        MSDPipeline.from_pretrained(folder, torch_dtype="fp16", dtype="fp32")
    with pytest.raises(ValueError, match="GaussianMixture is not supported"):
        MSDPipeline(GaussianMixture(torch.zeros(1, 2), torch.ones(1)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a machine without a GPU")
def test_offload_without_a_gpu_is_refused(made):
    for ask in (made.enable_model_cpu_offload, made.enable_sequential_cpu_offload):
        with pytest.raises(ValueError, match="by a GPU, and there is none here"):
            ask()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"prompt": 3}, "prompt must be a text or a list of texts, not 3"),
        ({"prompt": []}, "prompt must be a text or a list of texts"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"negative_prompt": ["a", "b", "c"]}, "there are 3 negative prompts for 1: give one, or one for each"),
        ({"height": 512}, "makes images of 16x16 pixels: leave out height and width"),
        ({"output_type": "jpeg"}, "unknown output_type 'jpeg': use one of pil, np, pt, latent"),
        ({"output_type": "latent"}, "needs optimized latents: add image='latents'"),
        ({"generator": 3}, r"generator must be a torch\.Generator or a list of them, not int"),
        ({"generator": [None, None]}, "there are 2 generators for 1 run: give one, or one for each"),
        ({"num_inference_steps": 0}, "steps must be a whole number of at least 1"),
        ({"num_images_per_prompt": 0}, "particles must be a whole number of at least 1"),
        ({"latents": torch.zeros(1)}, "SDSPipeline takes no latents: the start is drawn from generator"),
        (
            {"cross_attention_kwargs": {}},
            "takes no cross_attention_kwargs: its further arguments are follow, image, lr",
        ),
        ({"strength": 0.5}, "takes no strength"),
    ],
)
def test_a_wrong_argument_is_one_sentence(made, call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        made(**{"prompt": "an owl", **call})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"image": None}, "there is no image to edit: give image="),
        ({"image": 3}, r"image must be a PIL image, a path, an array .* not a int"),
        ({"image": torch.zeros(1, 4, 8, 8)}, r"not a Tensor of shape \[1, 4, 8, 8\]"),
        ({"image": torch.full((3, 8, 8), -1.0)}, r"numbers of an image must be in \[0, 1\]"),
        ({"image": [photo(), photo()], "prompt": ["a", "b", "c"]}, "there are 3 prompts for 2"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt must be at least 1"),
        ({"image": [photo(), photo(16, 16)], "output_type": "np"}, "different sizes make no array"),
        ({"height": 64}, "CSDEditPipeline takes no height: images have the size of the source"),
        ({"guidance_scale": -1}, "text_scale must be a finite number of at least 0"),
    ],
)
def test_a_wrong_argument_of_an_edit_is_one_sentence(edits, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        edits(**{"prompt": "make it night", "image": photo(), "size": 16, "num_inference_steps": 1, **call})
    with pytest.raises(ValueError, match="a video is edited in groups of frames and has no callback"):
        CSDEditVideoPipeline(edits.prior)("a", [photo()], callback_on_step_end=print)


def test_a_negative_prompt_acts_where_guidance_does(edits):
    call = {"num_inference_steps": 1, "size": 16, "generator": rng()}
    with pytest.raises(ValueError, match="windows uses a negative prompt in guidance only: give a text_scale"):
        CSDEditPipeline(edits.prior, "windows")("a", photo(), negative_prompt="b", guidance_scale=1,
                                                image_guidance_scale=1, **call)  # fmt: skip


def test_what_cannot_be_joined_is_refused_before_the_work(edits, monkeypatch):
    monkeypatch.setattr("scoredistill.pipelines.editing.edit_image", None)
    sizes = [photo(), photo().resize((20, 18))]
    with pytest.raises(ValueError, match="images of different sizes make no array"):
        edits("make it night", sizes, output_type="np")
    with pytest.raises(ValueError, match="the prompt is empty"):
        edits(["make it night", " "], photo())
