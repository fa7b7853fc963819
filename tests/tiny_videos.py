"""Tiny random pipelines of videos and of sound, and of editors; see `tiny_recorded`."""

import sys
import tempfile
import types
from pathlib import Path

import diffusers

import tiny
import tiny_parts as parts
from tiny_parts import SIDE, text
from tiny_recorded import HEADS, SQUARE, Kind, folder, kandinsky5, transformer

VIDEO = {**SQUARE, "num_frames": 9}
WAN = {
    "num_attention_heads": 2, "attention_head_dim": 12, "out_channels": 16, "text_dim": 16, "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2, "rope_max_seq_len": 32,
}  # fmt: skip


def wan(channels=16, name="WanTransformer3DModel", scheduler=None, **more):
    """Videos [c, f, h, w]; the pipeline scales latents by a mean and a standard deviation per channel."""
    return {
        **text(parts.umt5),
        **transformer(name, **WAN | ({} if name != "WanVACETransformer3DModel" else {"vace_layers": [0],
                                                                                     "vace_in_channels": 96}),
                      in_channels=channels),
        "vae": parts.wan(), "scheduler": scheduler or parts.flow(shift=7.0), **more,
    }  # fmt: skip


def wan_of_two():
    """One transformer for each part of the times."""
    second = transformer("WanTransformer3DModel", **WAN, in_channels=16)["transformer"]
    return wan(transformer_2=second, boundary_ratio=0.6)


def wan_image(channels=36):
    return wan(channels, image_encoder=None, image_processor=None)


def unipc():
    return diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def ltx():
    """Videos whose latents the scheduler sees as tokens."""
    return {
        **text(parts.t5),
        **transformer("LTXVideoTransformer3DModel", **HEADS, in_channels=8, out_channels=8, cross_attention_dim=16,
                      num_layers=1, caption_channels=16),
        "vae": diffusers.AutoencoderKLLTXVideo(
            latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False,
                                                                                                 False),
            patch_size=1, patch_size_t=1, encoder_causal=True, decoder_causal=False),
        "scheduler": parts.flow(shift=1.0),
    }  # fmt: skip


def cogvideox():
    """Latents [f, c, h, w]; its scheduler has an own table of noise levels."""
    return {
        **text(parts.t5),
        **transformer("CogVideoXTransformer3DModel", num_attention_heads=4, attention_head_dim=8, in_channels=4,
                      out_channels=4, time_embed_dim=2, text_embed_dim=16, num_layers=1, sample_width=8,
                      sample_height=8,
                      sample_frames=9, patch_size=2, temporal_compression_ratio=4, max_text_seq_length=16),
        "vae": diffusers.AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 3, up_block_types=("CogVideoXUpBlock3D",) * 3,
            block_out_channels=(8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
            temporal_compression_ratio=4),
        "scheduler": diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True,
                                                      snr_shift_scale=3.0, timestep_spacing="trailing"),
    }  # fmt: skip


def hunyuan_video():
    return {
        **text(parts.qwen3, length=512), **parts.clip(folder(), "2"),
        **transformer("HunyuanVideoTransformer3DModel", num_attention_heads=2, attention_head_dim=10, in_channels=4,
                      out_channels=4, num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=1,
                      patch_size_t=1, guidance_embeds=True, text_embed_dim=16, pooled_projection_dim=16,
                      rope_axes_dim=(2, 4, 4)),
        "vae": parts.hunyuan_video(),
        "scheduler": parts.flow(shift=7.0),
    }  # fmt: skip


def hunyuan_video_15():
    """Its network sees the sample beside zeros, and its guidance is a component."""
    return {
        **text(parts.qwen3, length=1200), **text(parts.t5, "2", length=256),
        **transformer("HunyuanVideo15Transformer3DModel", **HEADS | {"attention_head_dim": 16}, in_channels=9,
                      out_channels=4, num_layers=1, num_refiner_layers=1, patch_size=1, text_embed_dim=16,
                      text_embed_2_dim=16, image_embed_dim=16, rope_axes_dim=(4, 6, 6), target_size=SIDE,
                      task_type="t2v"),
        "vae": diffusers.AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=(32, 32, 32, 32), layers_per_block=1, spatial_compression_ratio=8,
            temporal_compression_ratio=4),
        "scheduler": parts.flow(shift=7.0), "guider": diffusers.ClassifierFreeGuidance(guidance_scale=6.0),
    }  # fmt: skip


def mochi():
    """It gives its network 1 - t and negates the output."""
    return {
        **text(parts.t5),
        **transformer("MochiTransformer3DModel", **HEADS, patch_size=2, num_layers=2, pooled_projection_dim=16,
                      in_channels=12, text_embed_dim=16, time_embed_dim=4, max_sequence_length=16),
        "vae": diffusers.AutoencoderKLMochi(
            latent_channels=12, encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 32,
                                                                                                         32),
            layers_per_block=(1, 1, 1, 1, 1)),
        "scheduler": parts.flow(invert_sigmas=True),
    }  # fmt: skip


def allegro():
    vae = diffusers.AutoencoderKLAllegro(
        down_block_types=("AllegroDownBlock3D",) * 4, up_block_types=("AllegroUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4)  # fmt: skip
    vae.enable_tiling()
    return {
        **text(parts.t5),
        **transformer("AllegroTransformer3DModel", num_attention_heads=2, attention_head_dim=12, in_channels=4,
                      out_channels=4, num_layers=1, cross_attention_dim=24, sample_width=8, sample_height=8,
                      sample_frames=8, caption_channels=16),
        "vae": vae, "scheduler": parts.ddim(),
    }  # fmt: skip


def latte():
    return {
        **text(parts.t5),
        **transformer("LatteTransformer3DModel", sample_size=8, num_layers=1, patch_size=2, video_length=2,
                      attention_head_dim=8,
                      num_attention_heads=3, caption_channels=16, in_channels=4, cross_attention_dim=24, out_channels=8,
                      attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
                      norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6),
        "vae": parts.kl(), "scheduler": parts.ddim(),
    }  # fmt: skip


def sana_video():
    return {
        **text(parts.gemma2),
        **transformer("SanaVideoTransformer3DModel", num_attention_heads=2, attention_head_dim=12, num_layers=2,
                      num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24,
                      caption_channels=16, sample_size=8, rope_max_seq_len=32),
        "vae": parts.wan(), "scheduler": parts.flow(shift=7.0),
    }  # fmt: skip


def skyreels():
    made = wan(name="SkyReelsV2Transformer3DModel", scheduler=unipc())
    return made


def animatediff():
    """An image model with motion modules; latents [c, f, h, w] and an image autoencoder."""
    with tempfile.TemporaryDirectory() as where:
        made = dict(tiny.stable_diffusion(Path(where)).components)
    for name in ("safety_checker",):
        made.pop(name)
    motion = diffusers.MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_norm_num_groups=8, motion_num_attention_heads=4
    )
    return {**made, "motion_adapter": motion}  # fmt: skip


def text_to_video():
    with tempfile.TemporaryDirectory() as where:
        made = dict(tiny.stable_diffusion(Path(where)).components)
    unet = diffusers.UNet3DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    kept = ("vae", "text_encoder", "tokenizer", "scheduler")
    return {**{name: made[name] for name in kept}, "unet": unet}  # fmt: skip


def stable_audio():
    """Sound [c, n] and the scalings of EDM."""
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

    sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))  # an optional package, for random steps only
    from diffusers.schedulers.scheduling_cosine_dpmsolver_multistep import CosineDPMSolverMultistepScheduler

    return {
        **text(parts.t5),
        **transformer("StableAudioDiTModel", sample_size=16, in_channels=3, num_layers=2, attention_head_dim=4,
                      num_key_value_attention_heads=2, out_channels=3, cross_attention_dim=4, time_proj_dim=8,
                      global_states_input_dim=8, cross_attention_input_dim=4),
        "projection_model": StableAudioProjectionModel(text_encoder_dim=16, conditioning_dim=4, min_value=0,
                                                       max_value=32),
        "vae": parts.oobleck(3, sampling_rate=4),
        "scheduler": CosineDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"),
    }  # fmt: skip


def stable_audio_3():
    from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder

    return {
        **text(parts.gemma2),
        **transformer("StableAudio3DiTModel", io_channels=8, patch_size=1, embed_dim=32, depth=2, num_heads=4,
                      cond_token_dim=16, global_cond_dim=16, local_add_cond_dim=5, timestep_features_dim=16, ff_mult=2,
                      num_memory_tokens=3, use_differential_attention=False),
        "duration_embedder": StableAudio3DurationEmbedder(output_dim=16, fourier_dim=16),
        "vae": diffusers.AutoencoderSAME(
            audio_channels=2, patch_size=2, encoder_channels=8, encoder_c_mults=(2,), encoder_strides=(2,),
            encoder_transformer_depths=(1,), latent_dim=8, use_differential_attention=False, dim_heads=4,
            ff_mult=2, sampling_rate=16),
        "scheduler": parts.flow(num_train_timesteps=1),
    }  # fmt: skip


def ace_step():
    """Sound whose latents the scheduler sees as [n, c]."""
    from diffusers.pipelines.ace_step import AceStepConditionEncoder

    options = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
               "head_dim": 8, "sliding_window": 16}  # fmt: skip
    return {
        **text(parts.qwen3, length=512),
        **transformer("AceStepTransformer1DModel", **options, num_hidden_layers=2, in_channels=24,
                      audio_acoustic_hidden_dim=8, patch_size=2),
        "condition_encoder": AceStepConditionEncoder(
            **options, text_hidden_dim=16, timbre_hidden_dim=8, num_lyric_encoder_hidden_layers=1,
            num_timbre_encoder_hidden_layers=1),
        "vae": parts.oobleck(8, sampling_rate=50), "scheduler": parts.flow(num_train_timesteps=1, shift=1.0),
    }  # fmt: skip


def longcat_audio():
    from diffusers import LongCatAudioDiTVae

    return {
        **text(parts.umt5),
        **transformer("LongCatAudioDiTTransformer", dit_dim=32, dit_depth=2, dit_heads=2, dit_text_dim=16,
                      latent_dim=8),
        "vae": LongCatAudioDiTVae(channels=8, c_mults=[1, 2], strides=[2], latent_dim=8, encoder_latent_dim=16,
                                  downsampling_ratio=2, sample_rate=8),
        "scheduler": parts.flow(shift=1.0, invert_sigmas=True),
    }  # fmt: skip


KINDS = {
    "Wan": Kind("WanPipeline", wan, VIDEO),
    "Wan, a solver of flows": Kind("WanPipeline", lambda: wan(scheduler=unipc()), VIDEO),
    "Wan 2.2": Kind("WanPipeline", wan_of_two, VIDEO),
    "Wan image to video": Kind("WanImageToVideoPipeline", wan_image, VIDEO),
    "Wan VACE": Kind("WanVACEPipeline", lambda: wan(name="WanVACETransformer3DModel"), VIDEO),
    "LTX": Kind("LTXPipeline", ltx, VIDEO),
    "LTX image to video": Kind("LTXImageToVideoPipeline", ltx, VIDEO),
    "LTX conditions": Kind("LTXConditionPipeline", ltx, VIDEO),
    "CogVideoX": Kind("CogVideoXPipeline", cogvideox, {**VIDEO, "max_sequence_length": 16}),
    "HunyuanVideo": Kind("HunyuanVideoPipeline", hunyuan_video,
                         {**VIDEO, "prompt_template": {"template": "{}", "crop_start": 0}, "max_sequence_length": 16}),
    "HunyuanVideo 1.5": Kind("HunyuanVideo15Pipeline", hunyuan_video_15, VIDEO, {"tokenizer_max_length": 24}),
    "Mochi": Kind("MochiPipeline", mochi, {**VIDEO, "num_frames": 7, "max_sequence_length": 16}),
    "Allegro": Kind("AllegroPipeline", allegro, {**VIDEO, "num_frames": 8, "clean_caption": False,
                                                 "max_sequence_length": 16}),
    "Latte": Kind("LattePipeline", latte, {**SQUARE, "video_length": 2, "clean_caption": False}),
    "SkyReels 2": Kind("SkyReelsV2Pipeline", skyreels, VIDEO),
    "Kandinsky 5 video": Kind("Kandinsky5T2VPipeline", lambda: kandinsky5(frames=True), VIDEO),
    "Sana video": Kind("SanaVideoPipeline", sana_video, {**SQUARE, "frames": 9, "use_resolution_binning": False,
                                                         "complex_human_instruction": None}),
    "AnimateDiff": Kind("AnimateDiffPipeline", animatediff, {"num_frames": 3}),
    "Text-to-video": Kind("TextToVideoSDPipeline", text_to_video, {"num_frames": 3}),
    "Stable Audio": Kind("StableAudioPipeline", stable_audio, {}),
    "Stable Audio 3": Kind("StableAudio3Pipeline", stable_audio_3, {"duration": 1.0}),
    "ACE-Step": Kind("AceStepPipeline", ace_step, {"audio_duration": 0.4, "max_text_length": 32}),
    "LongCat-Audio": Kind("LongCatAudioDiTPipeline", longcat_audio, {"audio_duration_s": 1.0}),
}  # fmt: skip
"""Name -> a tiny pipeline of videos or sound."""
