"""Tiny random UNet pipelines beside `tiny`, and what their priors are compared in: `CASES`, name -> difference.

A case takes an empty folder, samples by the diffusers pipeline and by `sampling.ddim` through its prior from the same
noise, and returns the largest absolute difference of the results, as a share of max(1, largest of theirs).
"""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    IFPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

import tiny
from scoredistill import load_prior
from scoredistill.priors import Guided, ImageGuided
from scoredistill.sampling import ddim

PROMPTS = ["a red hamburger", "an owl"]
NEGATIVES = ["blurry", "dark, cropped"]
STEPS = 6
IMAGE_SCALE = 1.5


def instruct_pix2pix(folder, prediction="eps"):
    """A StableDiffusionInstructPix2PixPipeline: that of `tiny`, with a UNet of 8 input channels."""
    parts = tiny.stable_diffusion(folder, prediction).components
    parts["unet"] = UNet2DConditionModel.from_config({**parts["unet"].config, "in_channels": 8})
    pipeline = StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion_xl(folder, prediction="eps", zeros=True, kind=StableDiffusionXLPipeline, **options):
    """A Stable Diffusion XL pipeline with 8x8 latents of 4 channels and 16x16 images, seeded.

    Args:
        zeros: force_zeros_for_empty_prompt.
        kind: the editor has a UNet of 8 input channels.
        options: of the pipeline; with requires_aesthetics_score it is a refiner, without its first text encoder.
    """
    torch.manual_seed(0)
    refiner = options.get("requires_aesthetics_score", False)
    tokens, tokens_2 = tiny.tokenizer(folder / "first"), tiny.tokenizer(folder / "second")
    tokens_2.pad_token = "!"
    text, text_2 = (tiny.text_config(tokens, width, projection_dim=16) for width in (32, 24))
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, sample_size=8, out_channels=4,
        in_channels=8 if kind is StableDiffusionXLInstructPix2PixPipeline else 4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True, norm_num_groups=8,
        cross_attention_dim=24 if refiner else 56, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 8 * (5 if refiner else 6),
    )  # fmt: skip
    pipeline = kind(
        tiny.autoencoder(), None if refiner else CLIPTextModel(text), CLIPTextModelWithProjection(text_2),
        None if refiner else tokens, tokens_2, unet, tiny.scheduler(prediction), force_zeros_for_empty_prompt=zeros,
        add_watermarker=False, **options,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def refiner(folder):
    """A Stable Diffusion XL refiner."""
    return stable_diffusion_xl(
        folder, zeros=False, kind=StableDiffusionXLImg2ImgPipeline, requires_aesthetics_score=True
    )


def instruct_pix2pix_xl(folder, zeros=True, cosxl=False):
    """The instruction editor of Stable Diffusion XL."""
    kind = StableDiffusionXLInstructPix2PixPipeline
    return stable_diffusion_xl(folder, zeros=zeros, kind=kind, is_cosxl_edit=cosxl)


def deepfloyd(folder, ancestral=False, kind=IFPipeline):
    """An IFPipeline of 16x16 images, seeded, with a scheduler that does not clip."""
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(32, 127)), 77)
    text = T5Config(
        vocab_size=len(tokens), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, sample_size=16, in_channels=3, out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), attention_head_dim=8, norm_num_groups=8,
        cross_attention_dim=32, cross_attention_norm="group_norm", encoder_hid_dim=32, addition_embed_type="text",
        addition_embed_type_num_heads=2, resnet_time_scale_shift="scale_shift", act_fn="gelu",
    )  # fmt: skip
    sampler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", clip_sample=False, thresholding=False, variance_type="fixed_small"
    )
    if not ancestral:
        sampler = DDIMScheduler.from_config(sampler.config)  # keeps variance_type, which the pipeline reads
    pipeline = kind(tokens, T5EncoderModel(text).eval(), unet, sampler, None, None, None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def styled(make):
    """The pipeline with LoRA adapters in its UNet that are far from none."""

    def build(folder):
        from peft import LoraConfig

        pipeline = make(folder)
        torch.manual_seed(2)
        style = LoraConfig(r=8, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
        pipeline.unet.add_adapter(style, "style")
        return pipeline

    return build


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def images(height=16, width=16):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(4))


def difference(ours, theirs):
    return float((ours - theirs).abs().max() / max(1, theirs.abs().max()))


def from_text(make, scale, negatives=None, height=16, width=16, sizes=None):
    """Text to latents; `sizes` are (original size, crop, target size), else the pipeline's own."""

    def run(folder: Path) -> float:
        pipeline, x_T = make(folder), noise(2, 4, height // 2, width // 2)
        names = ("original_size", "crops_coords_top_left", "target_size")
        theirs = pipeline(
            PROMPTS, guidance_scale=scale, negative_prompt=negatives, latents=x_T, num_inference_steps=STEPS,
            height=height, width=width, output_type="latent", **dict(zip(names, sizes or [], strict=False)),
        ).images  # fmt: skip
        prior = load_prior(pipeline)
        uncond = None if negatives is None else prior.encode_text(negatives)
        cond = prior.encode_text(PROMPTS)
        if sizes:
            cond["time_ids"] = torch.tensor([sizes]).flatten(1).float()
        return difference(ddim(Guided(prior, scale, uncond=uncond), x_T, STEPS, cond), theirs)

    return run


def refined(scale, negatives=None, height=16, width=16):
    """A refiner from pure noise; negative prompts have the low aesthetic score."""

    def run(folder: Path) -> float:
        pipeline, x_T = refiner(folder), noise(2, 4, height // 2, width // 2)
        theirs = pipeline(
            PROMPTS, image=images(height, width), strength=1.0, guidance_scale=scale, negative_prompt=negatives,
            latents=x_T, num_inference_steps=STEPS, output_type="latent",
        ).images  # fmt: skip
        prior = load_prior(pipeline)
        low = {"aesthetics": torch.tensor([[2.5]])}
        uncond = None if negatives is None else prior.encode_text(negatives) | low
        return difference(ddim(Guided(prior, scale, uncond=uncond), x_T, STEPS, prior.encode_text(PROMPTS)), theirs)

    return run


def edited(make, scale, image_scale, negatives=None, height=16, width=16):
    """Instruction editing of two images."""

    def run(folder: Path) -> float:
        pipeline, x_T, sources = make(folder), noise(2, 4, height // 2, width // 2), images(height, width)
        size = {"height": height, "width": width} if hasattr(pipeline, "is_cosxl_edit") else {}
        theirs = pipeline(
            PROMPTS, image=sources, guidance_scale=scale, image_guidance_scale=image_scale, negative_prompt=negatives,
            latents=x_T, num_inference_steps=STEPS, output_type="latent", **size,
        ).images  # fmt: skip
        prior = load_prior(pipeline)
        uncond = None if negatives is None else prior.encode_text(negatives)
        cond = prior.encode_text(PROMPTS) | prior.encode_source(sources)
        return difference(ddim(ImageGuided(prior, scale, image_scale, uncond=uncond), x_T, STEPS, cond), theirs)

    return run


def painted(make, scale, negatives=None, eta=0.0, height=16, width=16):
    """Text to pixels; the pipeline draws its noise from a generator."""

    def run(folder: Path) -> float:
        pipeline, rng = make(folder), torch.Generator().manual_seed(3)
        theirs = pipeline(
            PROMPTS, guidance_scale=scale, negative_prompt=negatives, generator=rng, num_inference_steps=STEPS,
            height=height, width=width, clean_caption=False, output_type="pt",
        ).images  # fmt: skip
        prior, rng = load_prior(pipeline), torch.Generator().manual_seed(3)
        x_T = torch.randn(2, 3, height, width, generator=rng)
        uncond = None if negatives is None else prior.encode_text(negatives)
        guided = Guided(prior, scale, uncond=uncond)
        return difference(ddim(guided, x_T, STEPS, prior.encode_text(PROMPTS), eta=eta, rng=rng), theirs)

    return run


def xl(prediction="eps", zeros=True):
    return lambda folder: stable_diffusion_xl(folder, prediction, zeros)


def xl_editor(zeros=True, cosxl=False):
    return lambda folder: instruct_pix2pix_xl(folder, zeros, cosxl)


def ancestral(folder):
    return deepfloyd(folder, ancestral=True)


CASES: dict[str, Callable[[Path], float]] = {
    "Stable Diffusion XL, eps, guidance 1": from_text(xl(), 1.0),
    "Stable Diffusion XL, eps, guidance 7.5": from_text(xl(), 7.5),
    "Stable Diffusion XL, eps, guidance 7.5, empty prompt encoded": from_text(xl(zeros=False), 7.5),
    "Stable Diffusion XL, eps, guidance 7.5, negative prompts": from_text(xl(), 7.5, NEGATIVES),
    "Stable Diffusion XL, eps, guidance 7.5, negative prompts, 24x16": from_text(xl(), 7.5, NEGATIVES, 24, 16),
    "Stable Diffusion XL, eps, guidance 7.5, sizes given": from_text(xl(), 7.5, sizes=[(100, 200), (3, 5), (40, 30)]),
    "Stable Diffusion XL with a LoRA, eps, guidance 7.5": from_text(styled(xl()), 7.5),
    "Stable Diffusion XL, v, guidance 1": from_text(xl("v"), 1.0),
    "Stable Diffusion XL, v, guidance 7.5": from_text(xl("v"), 7.5),
    "Stable Diffusion XL, v, guidance 7.5, empty prompt encoded": from_text(xl("v", zeros=False), 7.5),
    "Stable Diffusion XL refiner, eps, guidance 1": refined(1.0),
    "Stable Diffusion XL refiner, eps, guidance 7.5, 24x16": refined(7.5, None, 24, 16),
    "Stable Diffusion XL refiner, eps, guidance 7.5, negative prompts": refined(7.5, NEGATIVES),
    "InstructPix2Pix, eps, guidance 1": edited(instruct_pix2pix, 1.0, 1.0),
    "InstructPix2Pix, eps, guidance 7.5 and 1.5": edited(instruct_pix2pix, 7.5, IMAGE_SCALE),
    "InstructPix2Pix, eps, guidance 7.5 and 1.5, negative prompts, 24x16": edited(
        instruct_pix2pix, 7.5, IMAGE_SCALE, NEGATIVES, 24, 16
    ),
    "InstructPix2Pix with a LoRA, eps, guidance 7.5 and 1.5": edited(styled(instruct_pix2pix), 7.5, IMAGE_SCALE),
    "InstructPix2Pix XL, eps, guidance 1": edited(xl_editor(), 1.0, 1.0),
    "InstructPix2Pix XL, eps, guidance 7.5 and 1.5": edited(xl_editor(), 7.5, IMAGE_SCALE),
    "InstructPix2Pix XL, eps, guidance 7.5 and 1.5, empty prompt encoded, 24x16": edited(
        xl_editor(zeros=False), 7.5, IMAGE_SCALE, ["", ""], 24, 16
    ),
    "InstructPix2Pix XL, eps, guidance 7.5 and 1.5, negative prompts": edited(xl_editor(), 7.5, IMAGE_SCALE, NEGATIVES),
    "InstructPix2Pix XL as CosXL Edit, eps, guidance 7.5 and 1.5": edited(xl_editor(cosxl=True), 7.5, IMAGE_SCALE),
    "DeepFloyd IF, eps, guidance 1": painted(deepfloyd, 1.0),
    "DeepFloyd IF, eps, guidance 7.5": painted(deepfloyd, 7.5),
    "DeepFloyd IF, eps, guidance 7.5, negative prompts, 24x16": painted(deepfloyd, 7.5, NEGATIVES, 0.0, 24, 16),
    "DeepFloyd IF with a LoRA, eps, guidance 7.5": painted(styled(deepfloyd), 7.5),
    "DeepFloyd IF, eps, guidance 7.5, ancestral": painted(ancestral, 7.5, None, 1.0),
}
