"""Tiny random pipelines of many classes, made from configurations: real classes, no weights to fetch.

`KINDS` holds a function per pipeline that makes its components, and the arguments of a small call; `make(kind)` makes
the pipeline. `tiny_videos` holds those of videos and sound.
"""

import inspect
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch

import tiny
import tiny_flow
import tiny_parts as parts
import tiny_unets
from scoredistill.priors.pipelines.recorder import networks_of
from tiny_parts import SIDE, text

SQUARE = {"height": SIDE, "width": SIDE}
PLAIN = {**SQUARE, "use_resolution_binning": False, "clean_caption": False}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8}
FLUX = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1, "num_single_layers": 1}


UNTEMPLATED = {"prompt_template_encode": "{}", "prompt_template_encode_start_idx": 0}


class Kind(NamedTuple):
    """A tiny pipeline: its class, a function that makes its components, the arguments of a small call, and
    attributes of it (values) and of its module (functions)."""

    pipeline: str
    components: Callable[[], Mapping[str, Any]]
    call: Mapping[str, Any]
    attributes: Mapping[str, Any] = {}


def make(kind: Kind) -> Any:
    """The pipeline of a kind, seeded; what its networks set to zero, so that nothing could be seen of it, is random."""
    torch.manual_seed(0)
    pipeline = getattr(diffusers, kind.pipeline)(**kind.components())
    for network in filter(None, [*networks_of(pipeline), getattr(pipeline, "controlnet", None)]):
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    module = sys.modules[type(pipeline).__module__]
    if "ftfy" in inspect.getsource(module) and not hasattr(module, "ftfy"):
        module.ftfy = types.SimpleNamespace(fix_text=str)  # an optional package that mends Unicode
    for name, value in kind.attributes.items():
        setattr(module if callable(value) else pipeline, name, value)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def folder() -> Path:
    """A directory for the files of a tokenizer, which reads them only once."""
    return Path(tempfile.mkdtemp()) / "tokens"


def as_class(source, name, **more):
    """The components of a pipeline of another class."""

    def components():
        with tempfile.TemporaryDirectory() as where:
            return {**source(Path(where)).components, **more}

    return components


def transformer(name, **options):
    return {"transformer": getattr(diffusers, name)(**options)}


def pixart():
    """Its network predicts the noise and a variance, of which the pipeline drops the variance."""
    return {
        **text(parts.t5),
        **transformer("PixArtTransformer2DModel", **HEADS, in_channels=4, out_channels=8, num_layers=2,
                      norm_num_groups=4, cross_attention_dim=16, sample_size=8, caption_channels=16,
                      use_additional_conditions=False),
        "vae": parts.kl(), "scheduler": parts.ddim(),
    }  # fmt: skip


def sana():
    return {
        **text(parts.gemma2),
        **transformer("SanaTransformer2DModel", **HEADS, in_channels=4, out_channels=4, num_layers=2, sample_size=8,
                      num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
                      caption_channels=16),
        "vae": parts.dc(), "scheduler": parts.flow(shift=3.0),
    }  # fmt: skip


def lumina2():
    """It gives its network 1 - t and negates the output."""
    return {
        **text(parts.gemma2),
        **transformer("Lumina2Transformer2DModel", sample_size=8, in_channels=4, hidden_size=24, num_layers=2,
                      num_refiner_layers=1, num_attention_heads=3, num_kv_heads=1, multiple_of=2, axes_dim_rope=(4, 2,
                                                                                                                 2),
                      axes_lens=(300, 128, 128), cap_feat_dim=16),
        "vae": parts.kl(shift_factor=0.1), "scheduler": parts.flow(),
    }  # fmt: skip


def lumina():
    return {
        **text(parts.gemma2),
        **transformer("LuminaNextDiT2DModel", sample_size=8, in_channels=4, hidden_size=24, num_layers=2,
                      num_attention_heads=3, num_kv_heads=1, multiple_of=8, cross_attention_dim=16),
        "vae": parts.kl(), "scheduler": parts.flow(),
    }  # fmt: skip


def z_image():
    """Its network takes a list with one sample each, and negates its output."""
    return {
        **text(parts.qwen3),
        **transformer("ZImageTransformer2DModel", in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
                      n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[256, 32, 32]),
        "vae": parts.kl(shift_factor=0.1), "scheduler": parts.flow(shift=3.0),
    }  # fmt: skip


def auraflow():
    return {
        **text(parts.umt5),
        **transformer("AuraFlowTransformer2DModel", **HEADS, sample_size=8, in_channels=4, num_mmdit_layers=1,
                      num_single_dit_layers=1, joint_attention_dim=16, caption_projection_dim=16,
                      pos_embed_max_size=64),
        "vae": parts.kl(), "scheduler": parts.flow(shift=1.73),
    }  # fmt: skip


def hunyuan_dit():
    return {
        **text(parts.bert), **text(parts.t5, "2"),
        **transformer("HunyuanDiT2DModel", num_attention_heads=3, attention_head_dim=8, sample_size=8, num_layers=2,
                      patch_size=2, in_channels=4, cross_attention_dim=16, cross_attention_dim_t5=16,
                      pooled_projection_dim=16, hidden_size=24),
        "vae": parts.kl(blocks=4), "scheduler": parts.ddim(), "safety_checker": None, "feature_extractor": None,
        "requires_safety_checker": False,
    }  # fmt: skip


def cogview3():
    """Its scheduler has an own table of noise levels, and it predicts v."""
    return {
        **text(parts.t5),
        **transformer("CogView3PlusTransformer2DModel", **HEADS, in_channels=4, out_channels=4, num_layers=1,
                      text_embed_dim=16, time_embed_dim=8, condition_dim=4, pos_embed_max_size=16, sample_size=8),
        "vae": parts.kl(),
        "scheduler": diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    }  # fmt: skip


def cogview4():
    return {
        **text(parts.qwen3),
        **transformer("CogView4Transformer2DModel", **HEADS, in_channels=4, out_channels=4, num_layers=2,
                      text_embed_dim=16, time_embed_dim=8, condition_dim=4, sample_size=8),
        "vae": parts.kl(),
        "scheduler": parts.flow(base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True,
                                time_shift_type="linear"),
    }  # fmt: skip


def chroma():
    return {
        **text(parts.t5),
        **transformer("ChromaTransformer2DModel", **FLUX, in_channels=16, joint_attention_dim=16, axes_dims_rope=(4,
                                                                                                                  4, 8),
                      approximator_hidden_dim=32, approximator_layers=1, approximator_num_channels=16),
        "vae": parts.kl(shift_factor=0.1), "scheduler": parts.flow(),
    }  # fmt: skip


def bria():
    return {
        **text(parts.t5),
        **transformer("BriaTransformer2DModel", **FLUX, in_channels=16, joint_attention_dim=16, axes_dims_rope=(0, 8,
                                                                                                                8)),
        "vae": parts.kl(shift_factor=0.1), "scheduler": parts.flow(),
    }  # fmt: skip


def ovis():
    return {
        **text(parts.qwen3, length=512),
        **transformer("OvisImageTransformer2DModel", **FLUX, in_channels=16, out_channels=16, joint_attention_dim=16,
                      axes_dims_rope=(4, 4, 8)),
        "vae": parts.kl(shift_factor=0.1), "scheduler": parts.dynamic(),
    }  # fmt: skip


def qwen_image():
    """Images of one frame, with a mean and a standard deviation per channel."""
    return {
        **text(parts.qwen2_5_vl, length=512),
        **transformer("QwenImageTransformer2DModel", **HEADS | {"attention_head_dim": 16}, in_channels=16,
                      out_channels=4,
                      num_layers=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4)),
        "vae": parts.qwen_image(), "scheduler": parts.dynamic(),
    }  # fmt: skip


def qwen_edit():
    """The pipeline takes PIL images, which it shows to its text encoder too."""
    made = qwen_image() | text(parts.sees_images, length=512)
    return made | {"processor": parts.Processor(made["tokenizer"])}


def small(area, ratio):
    """The sizes to which pipelines scale source images, in place of a megapixel."""
    return SIDE, SIDE, None


def krea2():
    return {
        **text(parts.sees_images, length=512),
        **transformer("Krea2Transformer2DModel", in_channels=16, num_layers=2, attention_head_dim=8,
                      num_attention_heads=4, num_key_value_heads=2, intermediate_size=32, timestep_embed_dim=8,
                      text_hidden_dim=16, num_text_layers=3, text_num_attention_heads=2, text_num_key_value_heads=1,
                      text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
                      axes_dims_rope=(4, 2, 2)),
        "vae": parts.qwen_image(), "scheduler": parts.dynamic(), "text_encoder_select_layers": (0, 1, 2),
    }  # fmt: skip


def flux2(encoder=parts.qwen3, layers=3, guided=True):
    """The pipeline normalizes packed latents by the statistics of a batch norm."""
    return {
        **text(encoder, length=512),
        **transformer("Flux2Transformer2DModel", **FLUX, in_channels=16, joint_attention_dim=16 * layers,
                      axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guided),
        "vae": parts.flux2(), "scheduler": parts.dynamic(),
    }  # fmt: skip


def hunyuan_image():
    """Its guidance is a component, a guider."""
    return {
        **text(parts.qwen3, length=1100), **text(parts.t5, "2"),
        **transformer("HunyuanImageTransformer2DModel", **HEADS, in_channels=4, out_channels=4, num_layers=1,
                      num_single_layers=1, num_refiner_layers=1, patch_size=(1, 1), text_embed_dim=16,
                      text_embed_2_dim=16, rope_axes_dim=(4, 4)),
        "vae": diffusers.AutoencoderKLHunyuanImage(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 32), layers_per_block=1,
            scaling_factor=0.47, spatial_compression_ratio=4, sample_size=SIDE),
        "scheduler": parts.flow(shift=7.0),
        "guider": diffusers.AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2),
        "ocr_guider": diffusers.AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=3),
    }  # fmt: skip


def kandinsky5(frames=False):
    return {
        **text(parts.qwen2_5_vl, length=512), **parts.clip(folder(), "2"),
        **transformer("Kandinsky5Transformer3DModel", in_visual_dim=16, in_text_dim=16, in_text_dim2=16, time_dim=16,
                      out_visual_dim=16, model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=2,
                      axes_dims=(1, 1, 2)),
        "vae": parts.hunyuan_video(16) if frames else parts.kl(16, shift_factor=0.1),
        "scheduler": parts.flow(shift=7.0),
    }  # fmt: skip


def prx(pixels=False):
    made = {
        **text(parts.gemma2),
        **transformer("PRXTransformer2DModel", patch_size=2, in_channels=3 if pixels else 4, context_in_dim=16,
                      hidden_size=16, mlp_ratio=2.0, num_heads=2, depth=1, axes_dim=[4, 4]),
        "scheduler": parts.flow(),
    }  # fmt: skip
    return made if pixels else made | {"vae": parts.kl(shift_factor=0.1)}


def hidream():
    from transformers import CLIPTextModelWithProjection

    llama = parts.tokenizer()
    return {
        **parts.clip(folder(), "", CLIPTextModelWithProjection), **parts.clip(folder(), "2",
                                                                              CLIPTextModelWithProjection),
        **text(parts.t5, "3"), "text_encoder_4": parts.qwen3_lm(llama, 16), "tokenizer_4": llama,
        **transformer("HiDreamImageTransformer2DModel", **HEADS, patch_size=2, in_channels=4, out_channels=4,
                      num_layers=1, num_single_layers=1, caption_channels=[16, 16], text_emb_dim=32,
                      num_routed_experts=2, num_activated_experts=2, axes_dims_rope=(4, 2, 2), max_resolution=(8, 8),
                      llama_layers=(0, 1)),
        "vae": parts.kl(shift_factor=0.1), "scheduler": parts.flow(),
    }  # fmt: skip


def latent_consistency():
    """It is told its guidance by an embedding, and has a table of noise levels."""
    with tempfile.TemporaryDirectory() as where:
        made = dict(tiny.stable_diffusion(Path(where)).components)
    made["unet"] = type(made["unet"]).from_config(made["unet"].config, time_cond_proj_dim=32)
    options = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return {**made, "scheduler": diffusers.LCMScheduler(**options), "requires_safety_checker": False}


def class_conditional():
    return {
        **transformer("DiTTransformer2DModel", **HEADS, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
                      norm_num_groups=4, num_embeds_ada_norm=1000),
        "vae": parts.kl(), "scheduler": parts.ddim(),
    }  # fmt: skip


def unconditional():
    unet = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return {"unet": unet, "scheduler": parts.ddim()}


def perturbed(source, **more):
    """The components of a pipeline for perturbed-attention guidance."""
    return lambda: {**source(), "pag_applied_layers": [r"transformer_blocks\.1"], **more}


def flux_of(channels, **left_out):
    """The components of FLUX.1 with another number of input channels; some are left out."""
    made = without(FLUX1(), *left_out)
    network = made["transformer"]
    out = network.config.in_channels
    return {**made, "transformer": type(network).from_config(network.config, in_channels=channels, out_channels=out)}


def without(components, *names):
    return {name: part for name, part in components.items() if name not in names}


def with_control(source, kind, *left_out, **options):
    """The components of a pipeline with a ControlNet of its network's architecture."""

    def components():
        made = without(source(), *left_out)
        network = made.get("unet", made.get("transformer"))
        make = getattr(diffusers, kind)
        control = (make.from_unet if "unet" in made else make.from_transformer)(network, **options)
        return {**made, "controlnet": control}

    return components


SMALL = {"conditioning_embedding_out_channels": (8, 16)}
UNSAFE = {"requires_safety_checker": False}
SD = as_class(tiny.stable_diffusion, "", **UNSAFE)
XL = as_class(tiny_unets.stable_diffusion_xl, "")
FLUX1 = as_class(tiny_flow.flux, "")
SD3 = as_class(tiny_flow.stable_diffusion_3, "")

KINDS = {
    "PixArt-alpha": Kind("PixArtAlphaPipeline", pixart, PLAIN),
    "PixArt-Sigma": Kind("PixArtSigmaPipeline", pixart, PLAIN),
    "PixArt-Sigma PAG": Kind("PixArtSigmaPAGPipeline", perturbed(pixart), PLAIN),
    "Sana": Kind("SanaPipeline", sana, {**PLAIN, "complex_human_instruction": None}),
    "Sana PAG": Kind("SanaPAGPipeline", perturbed(sana), {**PLAIN, "complex_human_instruction": None}),
    "Lumina": Kind("LuminaPipeline", lumina, {**SQUARE, "clean_caption": False}),
    "Lumina 2": Kind("Lumina2Pipeline", lumina2, SQUARE),
    "Z-Image": Kind("ZImagePipeline", z_image, SQUARE),
    "AuraFlow": Kind("AuraFlowPipeline", auraflow, SQUARE),
    "Hunyuan-DiT": Kind("HunyuanDiTPipeline", hunyuan_dit, {**SQUARE, "use_resolution_binning": False}),
    "Hunyuan-DiT PAG": Kind("HunyuanDiTPAGPipeline", perturbed(hunyuan_dit, pag_applied_layers=["1"]),
                            {**SQUARE, "use_resolution_binning": False}),
    "CogView3+": Kind("CogView3PlusPipeline", cogview3, SQUARE),
    "CogView4": Kind("CogView4Pipeline", cogview4, SQUARE),
    "Chroma": Kind("ChromaPipeline", chroma, {**SQUARE, "max_sequence_length": 48}),
    "Bria": Kind("BriaPipeline", bria, SQUARE),
    "Ovis-Image": Kind("OvisImagePipeline", ovis, SQUARE),
    "Qwen-Image": Kind("QwenImagePipeline", qwen_image, SQUARE, UNTEMPLATED),
    "Qwen-Image-Edit": Kind("QwenImageEditPipeline", qwen_edit, SQUARE, {"calculate_dimensions": small, **UNTEMPLATED}),
    "Qwen-Image-Edit-Plus": Kind("QwenImageEditPlusPipeline", qwen_edit, SQUARE,
                                 {"calculate_dimensions": lambda *args: small(*args)[:2], **UNTEMPLATED}),
    "Qwen-Image image to image": Kind("QwenImageImg2ImgPipeline", qwen_image, SQUARE, UNTEMPLATED),
    "Z-Image image to image": Kind("ZImageImg2ImgPipeline", z_image, SQUARE),
    "Chroma image to image": Kind("ChromaImg2ImgPipeline", chroma, {**SQUARE, "max_sequence_length": 48}),
    "Krea 2": Kind("Krea2Pipeline", krea2, SQUARE),
    "FLUX.2": Kind("Flux2Pipeline", flux2, {**SQUARE, "text_encoder_out_layers": (0, 1, 2)}, {"system_message": ""}),
    "FLUX.2 klein": Kind("Flux2KleinPipeline", lambda: flux2(parts.qwen3_lm, guided=False),
                         {**SQUARE, "text_encoder_out_layers": (0, 1, 2)}),
    "HunyuanImage": Kind("HunyuanImagePipeline", hunyuan_image, SQUARE, {"tokenizer_max_length": 24, **UNTEMPLATED}),
    "Kandinsky 5 image": Kind("Kandinsky5T2IPipeline", kandinsky5, SQUARE, {"resolutions": [(SIDE, SIDE)]}),
    "PRX": Kind("PRXPipeline", prx, {**SQUARE, "use_resolution_binning": False}),
    "PRX pixels": Kind("PRXPixelPipeline", lambda: prx(pixels=True), {**SQUARE, "use_resolution_binning": False}),
    "HiDream": Kind("HiDreamImagePipeline", hidream, SQUARE, {"default_sample_size": 8}),
    "LCM": Kind("LatentConsistencyModelPipeline", latent_consistency, {}),
    "DiT": Kind("DiTPipeline", class_conditional, {"class_labels": [7]}),
    "DDIM": Kind("DDIMPipeline", unconditional, {}),
    "DDPM": Kind("DDPMPipeline", lambda: unconditional() | {"scheduler": diffusers.DDPMScheduler()}, {}),
    "Stable Diffusion": Kind("StableDiffusionPipeline", SD, {}),
    "Stable Diffusion PAG": Kind("StableDiffusionPAGPipeline", lambda: {**SD(), "pag_applied_layers": ["mid"]}, {}),
    "Stable Diffusion image to image": Kind("StableDiffusionImg2ImgPipeline", SD, {}),
    "XL": Kind("StableDiffusionXLPipeline", XL, {}),
    "XL image to image": Kind("StableDiffusionXLImg2ImgPipeline", XL, {}),
    "Stable Diffusion 3 image to image": Kind("StableDiffusion3Img2ImgPipeline", SD3, SQUARE),
    "XL with EDM": Kind("StableDiffusionXLPipeline", lambda: {**XL(), "scheduler": diffusers.EDMEulerScheduler()}, {}),
    "XL PAG": Kind("StableDiffusionXLPAGPipeline", lambda: {**XL(), "pag_applied_layers": ["mid"]}, {}),
    "Stable Diffusion 3": Kind("StableDiffusion3Pipeline", SD3, {}),
    "Stable Diffusion 3 PAG": Kind("StableDiffusion3PAGPipeline", lambda: {**without(SD3(), "image_encoder",
                                                                                     "feature_extractor"),
                                                                                     "pag_applied_layers": ["1"]}, {}),
    "FLUX.1": Kind("FluxPipeline", FLUX1, SQUARE),
    "FLUX.1 image to image": Kind("FluxImg2ImgPipeline", FLUX1, {**SQUARE, "guidance_scale": 3.5}),
    "FLUX.1 Fill": Kind("FluxFillPipeline", lambda: flux_of(96, image_encoder=0, feature_extractor=0),
                        {**SQUARE, "mask_image": torch.ones(1, 1, SIDE, SIDE)}),
    "FLUX.1 Control": Kind("FluxControlPipeline", lambda: flux_of(32, image_encoder=0, feature_extractor=0),
                           {**SQUARE, "control_image": torch.full((1, 3, SIDE, SIDE), 0.3)}),
    "ControlNet": Kind("StableDiffusionControlNetPipeline", with_control(lambda: SD(), "ControlNetModel", **SMALL), {}),
    "XL ControlNet": Kind("StableDiffusionXLControlNetPipeline", with_control(lambda: XL(), "ControlNetModel", **SMALL),
                          {}),
    "Stable Diffusion 3 ControlNet": Kind(
        "StableDiffusion3ControlNetPipeline",
        with_control(lambda: SD3(), "SD3ControlNetModel", num_layers=1, num_extra_conditioning_channels=0),
        {**SQUARE, "control_image": torch.full((1, 3, SIDE, SIDE), 0.3)}),
    "FLUX.1 ControlNet": Kind(
        "FluxControlNetPipeline",
        with_control(lambda: FLUX1(), "FluxControlNetModel", "image_encoder", "feature_extractor", num_layers=1,
                     num_single_layers=1, attention_head_dim=16, num_attention_heads=2),
        {**SQUARE, "control_image": torch.full((1, 3, SIDE, SIDE), 0.3)}),
    "FLUX.1 Kontext": Kind("FluxKontextPipeline", as_class(tiny_flow.kontext, ""), {**SQUARE, "_auto_resize": False,
                                                                                    "max_area": SIDE**2}),
    "InstructPix2Pix": Kind("StableDiffusionInstructPix2PixPipeline",
                            as_class(tiny_unets.instruct_pix2pix, "", **UNSAFE), {}),
    "InstructPix2Pix XL": Kind("StableDiffusionXLInstructPix2PixPipeline",
                               as_class(tiny_unets.instruct_pix2pix_xl, ""), {}),
    "DeepFloyd IF": Kind("IFPipeline", as_class(tiny_unets.deepfloyd, "", **UNSAFE), {"clean_caption": False}),
}  # fmt: skip
"""Name -> a tiny pipeline of images."""
