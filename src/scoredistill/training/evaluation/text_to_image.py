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
from scoredistill.datasets.emoji import Emoji, common_names, plain_names
from scoredistill.metrics import diversity, frechet_distance
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
FURTHER = (
    "a cat",
    "a dog",
    "a car",
    "a smiley",
    "an angry face",
    "a skull",
    "an elephant",
    "an octopus",
    "a sunflower",
    "a birthday cake",
    "a house",
    "a bicycle",
    "a snowman",
    "a trumpet",
    "a strawberry on a yellow background",
    "a cup of coffee on a blue background",
    "two cats",
    "three red apples",
    "a cat next to a dog",
    "a bird on a cactus",
)
"""Prompts of the last rows of the image grid, with plain names, counts, relations and backgrounds."""
SUBJECTS = ("an owl", "a hamburger", "a rocket")
"""Subjects of samples on every background."""


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
    unseen = photographs.as_images(photographs.crops(photographs.HELD_OUT, 256, emoji.rgba.shape[1]))
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
    """Retrieval of the common prompts, adherence to named colors, variety, and Fréchet distance to real images."""
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
        "plain_names_name_in_top_5": plain_retrieval(prior, evaluator, known),
        **variety(evaluator, drawn, len(PROMPTS)),
        "backgrounds_obeyed": backgrounds(prior),
        **colors(prior, seeds),
        "frechet_samples_to_real": frechet_distance(evaluator.features(many), evaluator.features(real)),
        "frechet_real_half_to_half": frechet_distance(one, other),
    }


def variety(evaluator: Evaluator, images: Float[Tensor, "n 3 h w"], prompts: int) -> dict[str, float]:
    """Mean CLIP distance between the seeds of a prompt, if there are several, and between prompts of a seed."""
    features = evaluator.features(images).unflatten(0, (-1, prompts))
    figures = {"diversity_of_prompts": sum(map(diversity, features)) / len(features)}
    if len(features) > 1:
        figures["diversity_of_seeds"] = sum(map(diversity, features.unbind(1))) / prompts
    return figures


def plain_retrieval(prior: PipelinePrior, evaluator: Evaluator, names: Sequence[str]) -> float:
    """Fraction of samples of plain names ("a car") whose concept ("automobile") is in the top 5."""
    pairs = [(name, plain_names()[name][0]) for name in names if name in plain_names()]
    drawn = samples(prior, [captions.with_article(plain) for _, plain in pairs], seed=3)
    return evaluator.names_in_top(drawn, [name for name, _ in pairs])


def backgrounds(prior: PipelinePrior) -> float:
    """Fraction of samples on named backgrounds whose border is nearest to that color, among all and white."""
    named = compose.named_backgrounds([None, *compose.BACKGROUNDS])[..., 0, 0]
    wanted = [index for index in range(1, len(named)) for _ in SUBJECTS]
    prompts = [captions.with_background(subject, color) for color in compose.BACKGROUNDS for subject in SUBJECTS]
    found = torch.cdist(border_color(samples(prior, prompts, seed=4)), named).argmin(1)
    return float((found == torch.tensor(wanted)).float().mean())


def border_color(images: Float[Tensor, "n 3 h w"], width: int = 3) -> Float[Tensor, "n 3"]:
    """Median color of the pixels near the border."""
    top, bottom = images[:, :, :width], images[:, :, -width:]
    left, right = images[..., :width], images[..., -width:]
    return torch.cat([side.flatten(2) for side in (top, bottom, left, right)], 2).median(2).values


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
    """Save an image grid of samples: the ten common prompts, plain and in each style, then the further prompts.

    Returns:
        The image grid, ten images a row.
    """
    prompts, labels = list(PROMPTS), list(PROMPTS)
    for style in styles:
        prompts += [f"{captions.article(style)} {style} emoji of {prompt}" for prompt in PROMPTS]
        labels += [f"{style}: {prompt}" for prompt in PROMPTS]
    prompts, labels = [*prompts, *FURTHER], [*labels, *FURTHER]
    zoom = max(1, 128 // prior.image_size[0])
    image = compose.image_grid(samples(prior, prompts, seed), len(PROMPTS), labels=labels, zoom=zoom)
    image.save(path)
    return image
