"""Tiny random text encoders and autoencoders, from which `tiny_recorded` makes pipelines.

Language models stand in for each other where a pipeline only takes their hidden states: what a prior is recorded from
is the network's arguments, whatever made them.
"""

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextModel,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    UMT5Config,
    UMT5EncoderModel,
)

import tiny
import tiny_flow

SIDE = 32  # pixels
TEMPLATE = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}{% endfor %}"
)


def tokenizer(length=64):
    tokens = tiny.t5_tokenizer(map(chr, range(33, 127)), length)
    tokens.chat_template = TEMPLATE
    return tokens


def text(make, number="", length=64, width=16):
    """A text encoder and its tokenizer, as the components of a pipeline."""
    tokens = tokenizer(length)
    end = f"_{number}" if number else ""
    return {f"text_encoder{end}": make(tokens, width), f"tokenizer{end}": tokens}


def t5(tokens, width):
    return tiny_flow.t5_encoder(tokens, width)


def umt5(tokens, width):
    config = UMT5Config(vocab_size=len(tokens), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return UMT5EncoderModel(config).eval()


def bert(tokens, width):
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=width, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return BertModel(config).eval()


def clip(folder, number="", kind=CLIPTextModel, width=16):
    """A CLIP text encoder and its tokenizer, written to a directory."""
    tokens = tiny.tokenizer(folder)
    end = f"_{number}" if number else ""
    return {f"text_encoder{end}": tiny_flow.clip(kind, tokens, width, 128), f"tokenizer{end}": tokens}


def _decoder(config, model, layers=2):
    """A function that makes a decoder-only language model as text encoder."""

    def make(tokens, width):
        return model(
            config(
                vocab_size=len(tokens),
                hidden_size=width,
                intermediate_size=32,
                num_hidden_layers=layers,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            )
        ).eval()

    return make


class SeesImages(Qwen3Model):
    """Stands in for a language model that is given images too: their mean is added to all its states."""

    def forward(self, *args, pixel_values=None, image_grid_thw=None, position_ids=None, **kwargs):
        out = super().forward(*args, **kwargs)
        if pixel_values is not None:
            out.hidden_states = tuple(state + pixel_values.mean() for state in out.hidden_states)
        return out


class Processor:
    """Stands in for the processor of such a model, as a function of texts and images."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __call__(self, text, images=None, padding=True, return_tensors="pt"):
        given = self.tokens(text, padding=padding, return_tensors=return_tensors)
        if images is not None:
            images = images if isinstance(images, list) else [images]
            pixels = [torch.as_tensor(np.array(image), dtype=torch.float32).mean() / 255 for image in images]
            given["pixel_values"] = torch.stack(pixels)
        return given


gemma2 = _decoder(Gemma2Config, Gemma2Model)
qwen3 = _decoder(Qwen3Config, Qwen3Model)
sees_images = _decoder(Qwen3Config, SeesImages)
qwen3_lm = _decoder(Qwen3Config, Qwen3ForCausalLM)


def qwen2_5_vl(tokens, width):
    sides = {"hidden_size": width, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default"}
    config = Qwen2_5_VLConfig(
        text_config={**sides, **ids, "num_hidden_layers": 2, "vocab_size": len(tokens), "rope_scaling": rope},
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
                       "out_hidden_size": width},
        image_token_id=99, video_token_id=98, vision_start_token_id=97, vision_end_token_id=96,
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def kl(channels=4, blocks=3, **options):
    """Latents a quarter of the image's sides, with a block more an eighth."""
    return AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        latent_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=0.4,
        **options,
    )


def dc():
    return diffusers.AutoencoderDC(
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


def wan(channels=16, **options):
    """It has a mean and a standard deviation per channel."""
    return diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        **options,
    )


def qwen_image(channels=4):
    """It has a mean and a standard deviation per channel, and images of one frame."""
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=channels,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1 * channel - 0.2 for channel in range(channels)],
        latents_std=[1 + 0.2 * channel for channel in range(channels)],
    )


def flux2():
    """The pipeline normalizes its latents by the statistics of a batch norm, after it has packed them."""
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIDE,
    )
    vae.bn.running_mean.uniform_(-0.2, 0.2)
    vae.bn.running_var.uniform_(0.5, 2)
    return vae


def hunyuan_video(channels=4):
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=channels,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.47,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    )


def oobleck(channels, **options):
    """Stereo sound, two values per latent frame and channel."""
    return diffusers.AutoencoderOobleck(
        encoder_hidden_size=2 * channels,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=channels,
        audio_channels=2,
        channel_multiples=[2, 4],
        **options,
    )


def flow(**options):
    return FlowMatchEulerDiscreteScheduler(**options)


def dynamic(**options):
    """A flow whose shift depends on the number of tokens."""
    return flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=4, max_image_seq_len=64,
                **options)  # fmt: skip


def ddim(**options):
    return diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **options)
