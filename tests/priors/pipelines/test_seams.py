"""Canaries: what recording takes for granted of diffusers. One that fails says which seam has moved."""

import inspect

import diffusers
import pytest
import torch
from diffusers import ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler
from diffusers.modular_pipelines import LoopSequentialPipelineBlocks

import tiny
from scoredistill.priors.pipelines.modular import arguments_of, loops_of
from scoredistill.priors.pipelines.stand_ins import without_guidance

SCHEDULERS = ("DDIMScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_step_by_these_arguments(name):
    scheduler = getattr(diffusers, name)()
    assert list(inspect.signature(scheduler.step).parameters)[:3] == ["model_output", "timestep", "sample"]
    assert "num_inference_steps" in inspect.signature(scheduler.set_timesteps).parameters
    scheduler.set_timesteps(4)
    assert len(scheduler.timesteps) == 4
    if name != "DDIMScheduler":
        assert len(scheduler.sigmas) == 5


def test_flows_take_the_negative_velocity_for_times_per_token():
    scheduler, x, v = FlowMatchEulerDiscreteScheduler(), torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    scheduler.set_timesteps(4)
    plain = scheduler.step(v, scheduler.timesteps[0], x).prev_sample
    scheduler.set_timesteps(4)
    each = scheduler.timesteps[0].expand(1, 4)
    tokens = scheduler.step(-v, scheduler.timesteps[0], x, per_token_timesteps=each).prev_sample
    torch.testing.assert_close(plain, tokens)


def test_a_guider_without_guidance_evaluates_one_condition_and_returns_it():
    guider = ClassifierFreeGuidance(guidance_scale=5.0)
    alone = without_guidance(guider)
    data = {"side": ("cond", "uncond")}
    guider.set_state(step=0, num_inference_steps=4, timestep=None)
    alone.set_state(step=0, num_inference_steps=4, timestep=None)
    assert [batch.side for batch in guider.prepare_inputs(data)] == ["cond", "uncond"]
    (batch,) = alone.prepare_inputs(data)
    assert batch.side == "cond"
    batch.noise_pred = torch.randn(1, 2)
    out = alone([batch])
    assert out[0] is out.pred is out.pred_cond is batch.noise_pred
    assert alone.num_conditions == 2  # blocks before the loop make what the unconditional prediction needs


def test_modular_pipelines_have_these_seams():
    blocks = diffusers.StableDiffusionXLAutoBlocks()
    pipeline = blocks.init_pipeline()
    assert {"_blocks", "scheduler", "unet", "vae", "guider"} <= vars(pipeline).keys()
    assert {"prompt", "negative_prompt", "height", "num_inference_steps", "output_type"} <= arguments_of(pipeline)
    loops = loops_of(pipeline)
    assert all(isinstance(loop, LoopSequentialPipelineBlocks) for loop in loops)
    assert {"before_denoiser", "denoiser", "after_denoiser"} <= set(loops[-1].sub_blocks)
    assert list(inspect.signature(loops[0].loop_step).parameters)[:2] == ["components", "state"]
    assert pipeline.config["_blocks_class_name"] == "StableDiffusionXLAutoBlocks"
    *_, place = pipeline.config["unet"]
    assert place.keys() >= {"type_hint", "pretrained_model_name_or_path", "subfolder", "revision", "variant"}


def test_pipelines_keep_their_parts_as_attributes_and_decode_with_the_vae(tmp_path):
    pipeline = tiny.stable_diffusion(tmp_path)
    assert {"scheduler", "unet", "vae", "_progress_bar_config"} <= vars(pipeline).keys()
    decoded = []
    decode = pipeline.vae.decode
    pipeline.vae.decode = lambda z, *args, **kwargs: (decoded.append(z.shape), decode(z, *args, **kwargs))[1]
    pipeline("an owl", num_inference_steps=1, output_type="pt")
    assert decoded == [(1, 4, 8, 8)]


def test_encoders_return_a_posterior_with_a_mode(tmp_path):
    vae = tiny.stable_diffusion(tmp_path).vae
    images = torch.rand(1, 3, 16, 16)
    for posterior in (vae.encode(images).latent_dist, vae.encode(images, return_dict=False)[0]):
        assert posterior.mode().shape == posterior.sample().shape == (1, 4, 8, 8)
