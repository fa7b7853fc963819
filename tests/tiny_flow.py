"""Tiny random flow-matching pipelines, made from configurations: real classes, no weights to fetch."""

import contextlib
import logging
from functools import partial

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

import tiny
from scoredistill import load_prior
from scoredistill.priors import Guided
from scoredistill.sampling import ddim

PROMPTS = ["a red hamburger", "an owl"]
SQUARE, WIDE, TALL = (8, 8), (8, 12), (12, 4)
DYNAMIC = {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 64}  # shifts: e^.5 to e^1.15


def t5_tokenizer():
    return tiny.t5_tokenizer(map(chr, range(33, 127)), 512)


def t5_encoder(tokens, width):
    config = T5Config(
        vocab_size=len(tokens), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, is_encoder_decoder=False
    )
    return T5EncoderModel(config).eval()  # made from a configuration it has dropout


def clip(kind, tokens, width=16, length=16):
    """A CLIP text encoder of the given class."""
    config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=width, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=length, bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id,
        projection_dim=width,
    )  # fmt: skip
    return kind(config)


def autoencoder():
    """Latents of 4 channels, a quarter of the image's sides, with a shift."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=4, sample_size=32, scaling_factor=0.4,
        shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def stable_diffusion_3(folder, t5=True, shift=3.0, dynamic=False, medium=False):
    """A StableDiffusion3Pipeline with 8x8 latents and 32x32 images, seeded; `medium` as 3.5 has its attention."""
    torch.manual_seed(0)
    tokens, words = tiny.tokenizer(folder), t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=40, caption_projection_dim=16, pooled_projection_dim=32,
        pos_embed_max_size=8, dual_attention_layers=(0,) if medium else (), qk_norm="rms_norm" if medium else None,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, **(DYNAMIC if dynamic else {}))
    pipeline = StableDiffusion3Pipeline(
        transformer, scheduler, autoencoder(), clip(CLIPTextModelWithProjection, tokens), tokens,
        clip(CLIPTextModelWithProjection, tokens), tokens, t5_encoder(words, 40) if t5 else None, words if t5 else None,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flux(folder, kind=FluxPipeline, told=True, dynamic=True):
    """A FluxPipeline (or Kontext) with 8x8 latents and 32x32 images, seeded; `told` a scale as dev is."""
    torch.manual_seed(0)
    tokens, words = tiny.tokenizer(folder), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=16, guidance_embeds=told, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if told else 1.0, **(DYNAMIC if dynamic else {}))
    pipeline = kind(scheduler, autoencoder(), clip(CLIPTextModel, tokens), tokens, t5_encoder(words, 24), words,
                    transformer)  # fmt: skip
    pipeline.default_sample_size = 8
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(size, rows=2):
    return torch.randn(rows, 4, *size, generator=torch.Generator().manual_seed(3))


def kontext(folder):
    return flux(folder, FluxKontextPipeline)


def source(size, rows=2):
    """Images whose latents have the given size."""
    return torch.rand(rows, 3, *(4 * side for side in size), generator=torch.Generator().manual_seed(4))


@contextlib.contextmanager
def hushed():
    """Without the pipelines' advice on sizes."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / max(1, theirs.abs().max()))


def ours(prior, x, steps, scale, negative=None, cond=None):
    """Latents of our sampler, at the size of x."""
    prior.latent_shape = tuple(x.shape[1:])
    uncond = None if negative is None else prior.encode_text(negative)
    return ddim(Guided(prior, scale, uncond=uncond), x, steps, prior.encode_text(PROMPTS) | (cond or {}))


def run_flux(pipeline, x, steps, **options):
    """Latents of a Flux pipeline, packed and unpacked by its own means."""
    rows, channels, height, width = x.shape
    packed = pipeline._pack_latents(x, rows, channels, height, width)
    with hushed():
        out = pipeline(
            prompt=PROMPTS, height=4 * height, width=4 * width, num_inference_steps=steps, latents=packed,
            output_type="latent", **options,
        ).images  # fmt: skip
    return pipeline._unpack_latents(out, 4 * height, 4 * width, 4)


def stable_diffusion_3_difference(folder, scale, size=SQUARE, negative=None, steps=4, **kind):
    """Largest difference of latents between the pipeline and our sampler through our prior."""
    pipeline, x = stable_diffusion_3(folder, **kind), noise(size)
    theirs = pipeline(
        PROMPTS, negative_prompt=None if negative is None else [negative] * 2, guidance_scale=scale, latents=x,
        height=4 * size[0], width=4 * size[1], num_inference_steps=steps, output_type="latent",
    ).images  # fmt: skip
    return relative(ours(load_prior(pipeline), x, steps, scale, negative), theirs)


def flux_difference(folder, guidance=3.5, scale=1.0, size=SQUARE, negative=None, steps=4, **kind):
    """The same of Flux; `scale` is its true_cfg_scale."""
    pipeline, x = flux(folder, **kind), noise(size)
    theirs = run_flux(
        pipeline, x, steps, guidance_scale=guidance, true_cfg_scale=scale,
        negative_prompt=None if negative is None else [negative] * 2,
    )  # fmt: skip
    prior = load_prior(pipeline)
    prior.guidance = guidance
    return relative(ours(prior, x, steps, scale, negative), theirs)


def kontext_difference(folder, image=SQUARE, guidance=3.5, scale=1.0, size=SQUARE, negative=None, steps=4):
    """The same of Kontext, with a source image whose latents have the size `image`, or with none."""
    pipeline, x = kontext(folder), noise(size)
    images = None if image is None else source(image)
    theirs = run_flux(
        pipeline, x, steps, image=images, guidance_scale=guidance, true_cfg_scale=scale, _auto_resize=False,
        max_area=16 * size[0] * size[1], negative_prompt=None if negative is None else [negative] * 2,
    )  # fmt: skip
    prior = load_prior(pipeline)
    prior.guidance = guidance
    cond = {} if images is None else prior.encode_source(images)
    return relative(ours(prior, x, steps, scale, negative, cond), theirs)


SD3, DEV, SCHNELL, KONTEXT = "Stable Diffusion 3", "FLUX.1-dev", "FLUX.1-schnell", "FLUX.1-Kontext"
CASES = {
    f"{SD3}, flow, guidance 1.0": partial(stable_diffusion_3_difference, scale=1.0),
    f"{SD3}, flow, guidance 7.0": partial(stable_diffusion_3_difference, scale=7.0),
    f"{SD3}, flow, guidance 7.0, negative prompt": partial(stable_diffusion_3_difference, scale=7.0, negative="blurry"),
    f"{SD3}, flow, guidance 7.0, without T5": partial(stable_diffusion_3_difference, scale=7.0, t5=False),
    f"{SD3}, flow, guidance 7.0, shift 1, wide": partial(
        stable_diffusion_3_difference, scale=7.0, shift=1.0, size=WIDE
    ),
    "Stable Diffusion 3.5, flow, guidance 4.5": partial(stable_diffusion_3_difference, scale=4.5, medium=True),
    "Stable Diffusion 3.5, flow, guidance 4.5, dynamic shift, tall": partial(
        stable_diffusion_3_difference, scale=4.5, medium=True, dynamic=True, size=TALL
    ),
    f"{SCHNELL}, flow, no guidance, static shift, 4 steps": partial(
        flux_difference, told=False, dynamic=False, steps=4
    ),
    f"{DEV}, flow, embedded guidance 1.0": partial(flux_difference, guidance=1.0),
    f"{DEV}, flow, embedded guidance 3.5": partial(flux_difference),
    f"{DEV}, flow, embedded guidance 3.5, wide": partial(flux_difference, size=WIDE),
    f"{DEV}, flow, true guidance 4.0 with negative prompt": partial(flux_difference, scale=4.0, negative="blurry"),
    f"{DEV}, flow, true guidance 4.0, static shift, tall": partial(
        flux_difference, scale=4.0, negative="", dynamic=False, size=TALL
    ),
    f"{KONTEXT}, flow, embedded guidance 2.5": partial(kontext_difference, guidance=2.5),
    f"{KONTEXT}, flow, source of another size": partial(kontext_difference, image=TALL, size=WIDE),
    f"{KONTEXT}, flow, no source": partial(kontext_difference, image=None),
    f"{KONTEXT}, flow, true guidance 4.0 with negative prompt": partial(
        kontext_difference, scale=4.0, negative="blurry", image=WIDE
    ),
}
