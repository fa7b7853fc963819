"""Tiny random pipelines without an adapter, made from configurations: real classes, no weights to fetch."""

import diffusers
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Qwen3Config,
    Qwen3Model,
    UMT5Config,
    UMT5EncoderModel,
)

import tiny
from tiny_flow import t5_encoder

SIDE = 32  # pixels


def umt5_encoder(tokens, width):
    config = UMT5Config(vocab_size=len(tokens), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return UMT5EncoderModel(config).eval()


def decoder_encoder(config, model, tokens, width):
    """A decoder-only language model as text encoder."""
    return model(
        config(
            vocab_size=len(tokens),
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    ).eval()


def kl(channels=4, **options):
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        latent_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=0.4,
        **options,
    )


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pixart():
    """Its network predicts the noise and a variance, of which the pipeline drops the variance."""
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), 64)
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        norm_num_groups=4,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=16,
        use_additional_conditions=False,
    )
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return quiet(diffusers.PixArtSigmaPipeline(tokens, t5_encoder(tokens, 16), kl(), transformer, scheduler))


def sana():
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), 64)
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        sample_size=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 3,
        decoder_block_types=("ResBlock",) * 3,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        scaling_factor=0.41,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )
    text = decoder_encoder(Gemma2Config, Gemma2Model, tokens, 16)
    return quiet(diffusers.SanaPipeline(tokens, text, vae, transformer, FlowMatchEulerDiscreteScheduler(shift=3.0)))


def lumina2():
    """It gives its network 1 - t and negates the output."""
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), 64)
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 128, 128),
        cap_feat_dim=16,
    )
    text = decoder_encoder(Gemma2Config, Gemma2Model, tokens, 16)
    scheduler = FlowMatchEulerDiscreteScheduler()
    return quiet(diffusers.Lumina2Pipeline(transformer, scheduler, kl(shift_factor=0.1), text, tokens))


def z_image():
    """Its network takes a list with one sample each, and negates its output."""
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), 64)
    tokens.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    text = decoder_encoder(Qwen3Config, Qwen3Model, tokens, 16)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return quiet(diffusers.ZImagePipeline(scheduler, kl(shift_factor=0.1), text, tokens, transformer))


def auraflow():
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), 64)
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pos_embed_max_size=64,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.73)
    return quiet(diffusers.AuraFlowPipeline(tokens, umt5_encoder(tokens, 16), kl(), transformer, scheduler))


def wan():
    """Videos [c, f, h, w]; the pipeline scales latents by a mean and a standard deviation per channel."""
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), 64)
    transformer = diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    return quiet(diffusers.WanPipeline(tokens, umt5_encoder(tokens, 16), vae, scheduler, transformer))


def ltx():
    """Videos whose latents the scheduler sees as tokens."""
    torch.manual_seed(0)
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), 64)
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=16,
    )
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)
    return quiet(diffusers.LTXPipeline(scheduler, vae, t5_encoder(tokens, 16), tokens, transformer))


VIDEO = {"height": SIDE, "width": SIDE, "num_frames": 9}
SQUARE = {"height": SIDE, "width": SIDE}
KINDS = {
    "PixArt-Sigma": (pixart, {"use_resolution_binning": False, "clean_caption": False}),
    "Sana": (sana, {**SQUARE, "use_resolution_binning": False, "clean_caption": False}),
    "Lumina 2": (lumina2, SQUARE),
    "Z-Image": (z_image, SQUARE),
    "AuraFlow": (auraflow, SQUARE),
    "Wan": (wan, VIDEO),
    "LTX": (ltx, VIDEO),
}
"""Name -> function that makes the pipeline, and arguments of a small call."""
