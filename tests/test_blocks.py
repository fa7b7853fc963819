"""Distillation as a block of Modular Diffusers."""

import copy

import diffusers
import pytest
import torch

import tiny_modular
from scoredistill import distill
from scoredistill.estimators import SDS, Estimator
from scoredistill.generators import Latents
from scoredistill.pipelines.blocks import DistillStep, distilled
from scoredistill.priors import Guided, GuidedBy
from scoredistill.priors.pipelines.modular import loops_of
from scoredistill.priors.pipelines.recorded import recorded
from scoredistill.times import Uniform


def of(pipe, method="sds", **options):
    """The pipeline with distillation in the place of its loop."""
    made = distilled(pipe.blocks, method, **options).init_pipeline()
    made.update_components(**pipe.components)
    return made


@pytest.fixture(scope="module")
def made():
    """A function that makes a modular pipeline, its call, and one with distillation, once."""
    known = {}

    def pipelines(kind):
        if kind not in known:
            pipe, call = tiny_modular.make(tiny_modular.KINDS[kind])
            known[kind] = pipe, call, of(pipe)
        return known[kind]

    return pipelines


def rng(seed=5):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["XL", "Z-Image", "FLUX.1"])
def test_the_block_equals_distillation_through_the_recorded_prior(kind, made):
    pipe, call, mine = made(kind)
    prompts = ["an owl", "a boat"]
    sizes = {name: value for name, value in call.items() if name in ("height", "width")}
    given = {**sizes, "num_inference_steps": 4, "negative_prompt": "a cat"}
    recording = dict(sizes)
    if kind == "FLUX.1":  # it has no guider, and tells its network the scale
        given.pop("negative_prompt")
        given["guidance_scale"] = recording["guidance_scale"] = 2.5
    state = mine(prompt=prompts, generator=rng(), distillation_steps=2, output_type="pt", **given)
    assert state.images.shape == (2, 3, *(state.images.shape[2:]))
    assert state.images.isfinite().all()
    prior = recorded(pipe, call=recording)
    shape = prior._at(torch.Size(prior.latent_shape))
    generator = rng()
    begun = pipe_latents(pipe, prompts, generator, given)
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    start = shape.arranged(begun / float(getattr(pipe.scheduler, "init_noise_sigma", 1.0)), 2)
    guided = prior if kind == "FLUX.1" else GuidedBy(prior, steps=4, uncond=prior.encode_text("a cat"))
    latents = Latents.of(start)
    adam = torch.optim.Adam(latents.parameters(), lr=3e-2)
    times = Uniform(0.02, 0.98, seed)
    cond = prior.encode_text(prompts)
    for _ in distill(latents, guided, SDS(), cond, steps=2, times=times, optimizer=adam, rng=rng(seed)):
        pass
    torch.testing.assert_close(state.images, prior.decode(latents.values), rtol=1e-3, atol=1e-4)
    assert (state.images - prior.decode(start)).abs().max() > 1e-3


def pipe_latents(pipe, prompts, generator, given):
    """The latents with which the pipeline's loop begins."""
    begun = []

    class Begun(BaseException):
        pass

    def begin(components, state, **_):
        begun.append(state.latents)
        raise Begun

    loops = loops_of(pipe)
    for loop in loops:
        loop.loop_step = begin
    try:
        pipe(prompt=prompts, generator=generator, **given)
    except Begun:
        return begun[0]
    finally:
        for loop in loops:
            del loop.loop_step


def test_images_of_one_prompt_are_coupled_and_those_of_two_are_not(made):
    pipe, call, _ = made("Z-Image")
    seen = []

    class Watch(Estimator):
        def __call__(self, prior, batch, t, rng):
            seen.append((len(batch.x), batch.group.tolist(), type(prior), prior.scale))
            return SDS()(prior, batch, t, rng)

    watched = of(pipe, Watch, lr=0.0, guidance=3.0)
    options = {"num_images_per_prompt": 2, "distillation_steps": 1, "num_inference_steps": 4}
    watched(prompt=["an owl", "a boat"], generator=rng(), **call, **options)
    assert seen == [(4, [0, 0, 1, 1], Guided, 3.0)]


def test_blocks_and_pipelines_stay_as_they_are(made):
    pipe, _, mine = made("XL")
    assert type(loops_of(pipe)[0]).__name__.startswith("StableDiffusionXL")
    assert not loops_of(mine)
    steps = [block for block in walk(mine.blocks) if isinstance(block, DistillStep)]
    assert steps
    assert all(step._known.prior is None for step in steps)  # copies of blocks do not hold networks
    assert "distillation_steps" in {each.name for each in mine.blocks.inputs}
    assert "distillation" in steps[0].description
    assert copy.deepcopy(steps[0]).model_name == "stable-diffusion-xl"


def walk(block):
    return [block, *(inner for each in block.sub_blocks.values() for inner in walk(each))]


def test_an_image_is_the_start(made):
    pipe, call, _ = made("Z-Image")
    still = of(pipe, lr=1e-12)
    image = torch.rand(3, 32, 32)
    state = still(prompt="an owl", image=image, generator=rng(), distillation_steps=1, num_inference_steps=4, **call)
    prior = recorded(pipe, call={"height": 32, "width": 32})
    wanted = prior.encode_image((255 * image[None]).round() / 255)
    torch.testing.assert_close(state.latents, wanted.to(state.latents), rtol=1e-3, atol=1e-2)


def test_refusals_are_sentences(made):
    pipe, call, mine = made("Z-Image")
    with pytest.raises(ValueError, match="unknown method 'nothing'"):
        distilled(pipe.blocks, "nothing")
    with pytest.raises(ValueError, match="guidance must be at least 0, not -1"):
        distilled(pipe.blocks, guidance=-1.0)
    with pytest.raises(ValueError, match=r"must be those of a modular pipeline, pipe\.blocks"):
        distilled(pipe)
    with pytest.raises(ValueError, match="have no denoising loop"):
        distilled(diffusers.SequentialPipelineBlocks.from_blocks_dict({"text": pipe.blocks.sub_blocks["text_encoder"]}))
    with pytest.raises(ValueError, match="there are 3 negative prompts for 2"):
        mine(prompt=["a", "b"], negative_prompt=["a", "b", "c"], **call)
