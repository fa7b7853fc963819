"""Tiny random Stable Diffusion pipelines, made from configurations: real classes, no weights to fetch."""

import json
from functools import partial

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from scoredistill import load_prior
from scoredistill.priors import Guided
from scoredistill.sampling import ddim

PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def tokenizer(folder):
    """A byte-level CLIP tokenizer that knows single characters."""
    letters = [chr(c) for c in range(33, 127)]
    vocab = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def t5_tokenizer(letters, length):
    """A tokenizer that knows the given characters and ends texts, of at most `length` tokens, with </s>, as T5's do."""
    vocab = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *letters])}
    tokens = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokens.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def text_config(tokens, width=32, **more):
    """The configuration of a CLIP text encoder."""
    return CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=width, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id, **more,
    )  # fmt: skip


def autoencoder():
    """An autoencoder with latents of 4 channels, at half the sides of an image."""
    return AutoencoderKL(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8, sample_size=16, scaling_factor=0.5,
    )  # fmt: skip


def scheduler(prediction="eps", **more):
    """The scheduler of Stable Diffusion, of 1000 noise levels."""
    return DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1,
        prediction_type=PREDICTIONS[prediction], **{"set_alpha_to_one": False, **more},
    )  # fmt: skip


def stable_diffusion(folder, prediction="eps", spacing="leading", to_one=False):
    """A StableDiffusionPipeline with 8x8 latents of 4 channels and 16x16 images, seeded."""
    torch.manual_seed(0)
    tokens = tokenizer(folder)
    text = text_config(tokens)
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, sample_size=8, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, norm_num_groups=8,
    )  # fmt: skip
    vae, levels = autoencoder(), scheduler(prediction, timestep_spacing=spacing, set_alpha_to_one=to_one)
    pipeline = StableDiffusionPipeline(
        vae, CLIPTextModel(text), tokens, unet, levels, None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PROMPTS = ["a red hamburger", "an owl"]


def difference(folder, prediction, scale, negative=None, steps=12):
    """Largest difference of latents between the pipeline and our sampler through our prior."""
    pipeline = stable_diffusion(folder, prediction)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    options = {"negative_prompt": None if negative is None else [negative] * 2, "guidance_scale": scale}
    theirs = pipeline(PROMPTS, num_inference_steps=steps, latents=latents, output_type="latent", **options).images
    prior = load_prior(pipeline)
    uncond = None if negative is None else prior.encode_text(negative)
    ours = ddim(Guided(prior, scale, uncond=uncond), latents, steps, prior.encode_text(PROMPTS))
    return float((ours - theirs).abs().max() / max(1, theirs.abs().max()))


KIND = {"eps": "1.x and 2.x base", "v": "2.x", "x0": "format"}
CASES = {
    f"Stable Diffusion {KIND[prediction]}, {prediction}, guidance {scale}": partial(
        difference, prediction=prediction, scale=scale
    )
    for prediction in PREDICTIONS
    for scale in (1.0, 7.5)
}
CASES["Stable Diffusion 1.x and 2.x base, eps, guidance 7.5, negative prompt"] = partial(
    difference, prediction="eps", scale=7.5, negative="blurry"
)


def saved(folder):
    """A directory with a random text-to-image pipeline, in a folder."""
    stable_diffusion(folder / "tokens", "v", "trailing").save_pretrained(folder / "model")
    return folder / "model"
