r"""Evaluation of a text-to-image prior on held-out images, and image grids of its samples.

Retrieval:       the fraction of queries whose own match is among the 5 nearest by cosine similarity of CLIP features.
Sample quality:  the Fréchet distance of CLIP features (`metrics.frechet_distance`), comparable only for the same CLIP.
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
from scoredistill.training.evaluation.evaluator import Evaluator, on_white, psnr, reconstruction
from scoredistill.training.unet import PROMPTS

STEPS, SCALE = 30, 5.0
"""DDIM steps and guidance of all samples."""
GRID_STYLES = ("glossy", "flat", "noto")


def evaluate_text_to_image(prior: PipelinePrior, evaluator: Evaluator, emoji: Emoji, seeds: int) -> dict[str, float]:
    """Figures by name.

    Args:
        prior: the text-to-image model.
        evaluator: a CLIP and the names among which it chooses.
        emoji: the data set.
        seeds: samples of each of the ten common prompts.
    """
    return autoencoding(prior, emoji) | matching(evaluator, emoji) | sampling(prior, evaluator, emoji, seeds)


def autoencoding(prior: PipelinePrior, emoji: Emoji) -> dict[str, float]:
    """PSNR of the reconstruction of held-out emoji on white, and of crops of held-out photographs."""
    unseen = photographs.as_images(photographs.crops(photographs.HELD_OUT, 256))
    held = on_white(emoji.select(emoji.held_out))
    return {
        "psnr_held_out_emoji": psnr(reconstruction(prior, held), held),
        "psnr_held_out_photographs": psnr(reconstruction(prior, unseen), unseen),
    }


def matching(evaluator: Evaluator, emoji: Emoji) -> dict[str, float]:
    """Top-5 retrieval on held-out images: of the name among all names, and of the image of a name among all images."""
    held = emoji.select(emoji.held_out)
    images, concept = on_white(held), torch.from_numpy(held.concept)
    names = [emoji.names[index] for index in held.concept]
    found = towers.retrieval(evaluator.vocabulary[concept], evaluator.features(images), concept, concept)
    return {"image_to_name_top_5": evaluator.names_in_top(images, names), "name_to_image_top_5": found}


def samples(prior: PipelinePrior, prompts: Sequence[str], seed: int = 0) -> Float[Tensor, "n 3 h w"]:
    """Sample one image in [0, 1] per prompt, by DDIM with classifier-free guidance."""
    rng = torch.Generator().manual_seed(seed)
    guided, images = Guided(prior, SCALE), []
    for start in range(0, len(prompts), 32):
        part = list(prompts[start : start + 32])
        noise = torch.randn(len(part), *prior.latent_shape, generator=rng).to(prior.device)
        images.append(prior.decode(ddim(guided, noise, STEPS, prior.encode_text(part))).cpu())
    return torch.cat(images)


def sampling(prior: PipelinePrior, evaluator: Evaluator, emoji: Emoji, seeds: int) -> dict[str, float]:
    """Retrieval of the common prompts, adherence to a named color, and Fréchet distance to real images."""
    names = [prompt.split(" ", 1)[1] for prompt in PROMPTS] * seeds
    drawn = samples(prior, list(PROMPTS) * seeds)
    known = [name for name in common_names() if name in emoji.names]
    many = samples(prior, [f"a picture of {captions.with_article(name)}" for name in known] * 2, seed=1)
    real = on_white(emoji.only(known))
    shuffled = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    one, other = (evaluator.features(real[part]) for part in shuffled.chunk(2))
    return {
        "sample_name_in_top_5": evaluator.names_in_top(drawn, names),
        "sample_name_is_first": evaluator.names_in_top(drawn, names, top=1),
        "common_concepts_name_in_top_5": evaluator.names_in_top(many, known * 2),
        **colors(prior, seeds),
        "frechet_samples_to_real": frechet_distance(evaluator.features(many), evaluator.features(real)),
        "frechet_real_half_to_half": frechet_distance(one, other),
    }


def colors(prior: PipelinePrior, seeds: int) -> dict[str, float]:
    """Mean difference of red and green over the colored pixels of red and of green apples, in [-1, 1]."""
    figures = {}
    for color in ("red", "green"):
        images = samples(prior, [f"a {color} apple"] * seeds, seed=2)
        colored = images.amax(dim=1) - images.amin(dim=1) > 0.15
        difference = (images[:, 0] - images[:, 1])[colored]
        figures[f"{color}_apple_red_minus_green"] = float(difference.mean()) if len(difference) else 0.0
    return figures


def sample_grid(prior: PipelinePrior, path: Path, styles: Sequence[str] = GRID_STYLES, seed: int = 0) -> Image.Image:
    """Save an image grid of samples: the ten common prompts, plain and in each style, one row each; and return it."""
    prompts, labels = list(PROMPTS), list(PROMPTS)
    for style in styles:
        prompts += [f"{captions.article(style)} {style} emoji of {prompt}" for prompt in PROMPTS]
        labels += [f"{style}: {prompt}" for prompt in PROMPTS]
    image = compose.image_grid(samples(prior, prompts, seed), len(PROMPTS), labels=labels)
    image.save(path)
    return image
