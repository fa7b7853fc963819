r"""Figures of a text-to-image prior on images that no network was trained on, and sheets of its samples.

Retrieval:       the share of queries whose own match is among the 5 nearest by the cosine of CLIP features.
Sample quality:  Fréchet distance of CLIP features (`metrics.frechet_distance`), comparable among priors judged by the
                 same CLIP only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji, common_names
from scoredistill.metrics import frechet_distance
from scoredistill.priors.guidance import Guided
from scoredistill.priors.pipelines import PipelinePrior
from scoredistill.sampling import ddim
from scoredistill.training import captions, compose
from scoredistill.training import clip as towers
from scoredistill.training.evaluation.judge import Judge, again, on_white, psnr
from scoredistill.training.unet import PROMPTS

STEPS, SCALE = 30, 5.0
"""DDIM steps and guidance of all samples."""
SHEET_STYLES = ("glossy", "flat", "noto")


def evaluate_text_to_image(prior: PipelinePrior, judge: Judge, emoji: Emoji, seeds: int) -> dict[str, float]:
    """Figures by name.

    Args:
        seeds: samples of each of the ten common prompts.
    """
    return reconstruction(prior, emoji) | matching(judge, emoji) | sampling(prior, judge, emoji, seeds)


def reconstruction(prior: PipelinePrior, emoji: Emoji) -> dict[str, float]:
    """PSNR of decode(encode(x)) on held-out emoji (on white) and on crops of held-out photographs."""
    unseen = photographs.as_images(photographs.crops(photographs.HELD_OUT, 256))

    held = on_white(emoji.select(emoji.held_out))
    return {
        "psnr_held_out_emoji": psnr(again(prior, held), held),
        "psnr_held_out_photographs": psnr(again(prior, unseen), unseen),
    }


def matching(judge: Judge, emoji: Emoji) -> dict[str, float]:
    """Top-5 retrieval on held-out images: their name among all names, and the image of a name among them all."""
    held = emoji.select(emoji.held_out)
    images, concept = on_white(held), torch.from_numpy(held.concept)
    names = [emoji.names[index] for index in held.concept]
    found = towers.retrieval(judge.vocabulary[concept], judge.see(images), concept, concept)
    return {"image_to_name_top_5": judge.names_in_top(images, names), "name_to_image_top_5": found}


def samples(prior: PipelinePrior, prompts: Sequence[str], seed: int = 0) -> Float[Tensor, "n 3 h w"]:
    """One image in [0, 1] for each prompt: DDIM with classifier-free guidance."""
    rng = torch.Generator().manual_seed(seed)
    guided, images = Guided(prior, SCALE), []
    for start in range(0, len(prompts), 32):
        part = list(prompts[start : start + 32])
        noise = torch.randn(len(part), *prior.latent_shape, generator=rng).to(prior.device)
        images.append(prior.decode(ddim(guided, noise, STEPS, prior.encode_text(part))).cpu())
    return torch.cat(images)


def sampling(prior: PipelinePrior, judge: Judge, emoji: Emoji, seeds: int) -> dict[str, float]:
    """Retrieval of the common prompts, obedience to a named color, Fréchet distance to the real images."""
    names = [prompt.split(" ", 1)[1] for prompt in PROMPTS] * seeds
    drawn = samples(prior, list(PROMPTS) * seeds)
    known = [name for name in common_names() if name in emoji.names]
    many = samples(prior, [f"a picture of {captions.with_article(name)}" for name in known] * 2, seed=1)
    real = on_white(emoji.only(known))
    shuffled = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    one, other = (judge.see(real[part]) for part in shuffled.chunk(2))
    return {
        "sample_name_in_top_5": judge.names_in_top(drawn, names),
        "sample_name_is_first": judge.names_in_top(drawn, names, top=1),
        "common_concepts_name_in_top_5": judge.names_in_top(many, known * 2),
        **colors(prior, seeds),
        "frechet_samples_to_real": frechet_distance(judge.see(many), judge.see(real)),
        "frechet_real_half_to_half": frechet_distance(one, other),
    }


def colors(prior: PipelinePrior, seeds: int) -> dict[str, float]:
    """Mean of red minus green over the colored pixels of red and green apples, in [-1, 1]."""
    figures = {}
    for color in ("red", "green"):
        images = samples(prior, [f"a {color} apple"] * seeds, seed=2)
        colored = images.amax(dim=1) - images.amin(dim=1) > 0.15
        difference = (images[:, 0] - images[:, 1])[colored]
        figures[f"{color}_apple_red_minus_green"] = float(difference.mean()) if len(difference) else 0.0
    return figures


def sample_sheet(prior: PipelinePrior, path: Path, styles: Sequence[str] = SHEET_STYLES, seed: int = 0) -> Image.Image:
    """Draw the ten common prompts, plain and in each style, one row each; save the sheet as a PNG and return it."""
    prompts, labels = list(PROMPTS), list(PROMPTS)
    for style in styles:
        prompts += [f"{captions.article(style)} {style} emoji of {thing}" for thing in PROMPTS]
        labels += [f"{style}: {thing}" for thing in PROMPTS]
    image = compose.sheet(samples(prior, prompts, seed), len(PROMPTS), labels=labels)
    image.save(path)
    return image
