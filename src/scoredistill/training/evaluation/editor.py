r"""Evaluation of an instruction editor on held-out images with known ground truth.

    gain   PSNR(edited, truth) - PSNR(source, truth),  the improvement over the unchanged source

The upper bound of PSNR(edited, truth) is about the reconstruction PSNR of the autoencoder on the ground truth, which is
reported beside it. Edits with an ambiguous ground truth (other colors) or a named object are evaluated by CLIP:

    direction    cos(CLIP(edited) - CLIP(source), CLIP(caption of the edit) - CLIP(caption)),
                 StyleGAN-NADA (Gal et al. 2021), https://arxiv.org/abs/2108.00946
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
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.priors.guidance import ImageGuided
from scoredistill.priors.pipelines import PipelinePrior
from scoredistill.sampling import ddim
from scoredistill.training import captions, compose
from scoredistill.training import clip as towers
from scoredistill.training.editor import IMAGE_SCALE, INSTRUCTIONS, TEXT_SCALE
from scoredistill.training.evaluation.evaluator import Evaluator, on_white, psnr, reconstruction

STEPS = 20
"""DDIM steps of all samples."""
BACKGROUNDS = ("blue", "yellow", "black", "pink")


def evaluate_editor(prior: PipelinePrior, evaluator: Evaluator, emoji: Emoji, images: int = 32) -> dict[str, float]:
    """Figures by name; PSNR in dB.

    Args:
        prior: the editor.
        evaluator: a CLIP and the names among which it chooses.
        emoji: the data set.
        images: number of held-out emoji, and of crops of held-out photographs.
    """
    alone, photos = held_out(emoji, images)
    return {
        **procedural(prior, evaluator, alone, "emoji"),
        **procedural(prior, evaluator, photos, "photographs"),
        **unchanged(prior, torch.cat([alone, photos])),
        **backgrounds(prior, emoji, images),
        **objects(prior, evaluator, emoji, images),
    }


def held_out(emoji: Emoji, n: int) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]]:
    """n held-out emoji on white, and n crops of held-out photographs."""
    held = emoji.select(emoji.held_out)
    chosen = torch.linspace(0, len(held) - 1, n).long()
    return on_white(held)[chosen], photographs.as_images(photographs.crops(photographs.HELD_OUT, n, seed=1))


def edited(
    prior: PipelinePrior,
    images: Float[Tensor, "n 3 h w"],
    instructions: Sequence[str],
    text_scale: float = TEXT_SCALE,
    image_scale: float = IMAGE_SCALE,
    seed: int = 0,
) -> Float[Tensor, "n 3 h w"]:
    """Edit images in [0, 1], each by its own instruction, by DDIM with text and image guidance."""
    rng, guided, results = torch.Generator().manual_seed(seed), ImageGuided(prior, text_scale, image_scale), []
    for part in torch.arange(len(images)).split(32):
        cond = prior.encode_text([instructions[i] for i in part.tolist()]) | prior.encode_source(images[part])
        noise = torch.randn(len(part), *prior.latent_shape, generator=rng).to(prior.device)
        results.append(prior.decode(ddim(guided, noise, STEPS, cond)).cpu())
    return torch.cat(results)


def procedural(
    prior: PipelinePrior, evaluator: Evaluator, images: Float[Tensor, "n 3 h w"], kind: str
) -> dict[str, float]:
    """PSNR and gain averaged over the exact edits, the gain of each, and the direction averaged over all edits."""
    figures, gains, directions = {}, {}, []
    totals = {"edited": 0.0, "source": 0.0, "ceiling": 0.0}
    for edit in EDITS.values():
        results = edited(prior, images, [edit.instructions[0]] * len(images))
        directions.append(direction(evaluator, images, results, edit.caption))
        if not edit.exact:
            continue
        truth = edit(images)
        found = {
            "edited": psnr(results, truth),
            "source": psnr(images, truth),
            "ceiling": psnr(reconstruction(prior, truth), truth),
        }
        totals = {name: totals[name] + value for name, value in found.items()}
        gains[edit.name] = found["edited"] - found["source"]
    for name, total in totals.items():
        figures[f"{kind}_psnr_{name}"] = total / len(gains)
    figures[f"{kind}_gain"] = sum(gains.values()) / len(gains)
    figures |= {f"{kind}_gain_{name.replace(' ', '_')}": gain for name, gain in gains.items()}
    return figures | {f"{kind}_direction": sum(directions) / len(directions)}


def direction(evaluator: Evaluator, before: Tensor, after: Tensor, caption: str) -> float:
    """CLIP direction of an edit, averaged over images."""
    texts = towers.tokens(evaluator.tokenizer, ["a picture", f"a picture, {caption}"])
    with torch.no_grad():
        plain, changed = towers.text_features(evaluator.model, texts)
    moved = evaluator.features(after) - evaluator.features(before)
    return float(torch.cosine_similarity(moved, (changed - plain)[None], dim=-1).mean())


def unchanged(prior: PipelinePrior, images: Float[Tensor, "n 3 h w"]) -> dict[str, float]:
    """PSNR of edits by an empty instruction, to the source and to its reconstruction by the autoencoder."""
    results = edited(prior, images, [""] * len(images))
    return {
        "empty_psnr_to_reconstruction": psnr(results, reconstruction(prior, images)),
        "empty_psnr_to_source": psnr(results, images),
    }


def backgrounds(prior: PipelinePrior, emoji: Emoji, n: int) -> dict[str, float]:
    """PSNR and gain of edits such as "on a blue background", for held-out emoji on white."""
    held = emoji.select(emoji.held_out)
    rgba = compose.premultiplied(held.rgba[torch.linspace(0, len(held) - 1, n).long().numpy()])
    source = compose.over(rgba, torch.ones(1, 3, 1, 1))
    colors = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(n)]
    truth = compose.over(rgba, compose.named_backgrounds(list(colors)))
    results = edited(prior, source, [f"on {captions.article(c)} {c} background" for c in colors])
    return {
        "background_psnr_edited": psnr(results, truth),
        "background_gain": psnr(results, truth) - psnr(source, truth),
    }


def objects(prior: PipelinePrior, evaluator: Evaluator, emoji: Emoji, n: int) -> dict[str, float]:
    """Fraction of edits such as "turn it into a pizza" in which CLIP recognizes the named object."""
    names = [name for name in common_names() if name in emoji.names]
    wanted = [names[i * 7 % len(names)] for i in range(n)]
    source, _ = held_out(emoji, n)
    results = edited(prior, source, [f"turn it into {captions.with_article(name)}" for name in wanted])
    return {"object_name_in_top_5": evaluator.names_in_top(results, wanted)}


def edit_grid(prior: PipelinePrior, emoji: Emoji, path: Path, seed: int = 0) -> Image.Image:
    """Save a grid of eight held-out images: the source, and for each of eight instructions the edit and the truth."""
    alone, photos = held_out(emoji, 4)
    images = torch.cat([alone, photos])
    by_instruction = {text: edit for edit in EDITS.values() for text in edit.instructions}
    columns, labels = [images], ["source"]
    for text in INSTRUCTIONS:
        columns += [edited(prior, images, [text] * len(images), seed=seed), by_instruction[text](images)]
        labels += [text, "truth"]
    image_grid = torch.stack(columns, 1).flatten(0, 1)
    image = compose.image_grid(image_grid, len(columns), labels=labels * len(images))
    image.save(path)
    return image
