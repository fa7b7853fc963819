r"""Evaluation of an instruction editor on held-out images with known right answers.

    gain        PSNR(edited, nearest right answer) - PSNR(source, its nearest right answer),  in dB

An edit with one right answer has that as the nearest. For edits with many, see `procedural_edits.nearest`, whose
*agreement* is measured between windows of one photograph that are edited apart. The upper bound of the PSNR is about
the reconstruction PSNR of the autoencoder on a right answer, which is reported beside it. Named objects and directions
are evaluated by CLIP:

    direction   cos(CLIP(edited) - CLIP(source), CLIP(caption of the edit) - CLIP(caption)),
                StyleGAN-NADA (Gal et al. 2021), https://arxiv.org/abs/2108.00946

Cost in images that are edited, for n `images` of each kind, 16 edits with one answer and 7 with many; an image takes
`STEPS` batch rows of the network, since guidance scales of 1 need one row per step:

    edits by their first wording   2n (16 + 7)
    paraphrases                    n (16 + 7)             a quarter of the images, trained and held-out wordings
    separate crops                 4 CANVASES 7
    empty, backgrounds, objects    2n + 2n + 4n           objects also at a text scale that takes 2 rows
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji
from scoredistill.datasets.procedural_edits import EDITS, Edit, View, agreement, nearest, unit_of
from scoredistill.media.images import resized
from scoredistill.priors.guidance import ImageGuided
from scoredistill.priors.pipelines import PipelinePrior
from scoredistill.sampling import ddim
from scoredistill.training import clip as towers
from scoredistill.training import compose
from scoredistill.training.editor import IMAGE_SCALE, TEXT_SCALE
from scoredistill.training.evaluation.evaluator import Evaluator, on_white, psnr, reconstruction
from scoredistill.training.pairs import BACKGROUND, OBJECT, named, object_names, phrased
from scoredistill.window_grid import Layout

STEPS = 20
"""DDIM steps of all samples."""
BACKGROUNDS = ("blue", "yellow", "black", "pink")
CANVASES = 8
"""Photographs of twice the editor's side, of which four crops are edited apart."""
OBJECT_SCALE = 3.0
"""Text guidance scale at which named objects are evaluated beside `TEXT_SCALE`."""

Images = Float[Tensor, "n 3 h w"]


def evaluate_editor(prior: PipelinePrior, evaluator: Evaluator, emoji: Emoji, images: int = 32) -> dict[str, float]:
    """Figures by name; PSNR in dB.

    Args:
        prior: the editor.
        evaluator: a CLIP and the names among which it chooses.
        emoji: the data set, of any size.
        images: number of held-out emoji, and of crops of held-out photographs.
    """
    alone, photos = held_out(prior, emoji, images)
    mixed = torch.cat([alone[: -(-images // 4)], photos[: -(-images // 4)]])
    return {
        **procedural(prior, evaluator, alone, "emoji"),
        **procedural(prior, evaluator, photos, "photographs"),
        **paraphrases(prior, mixed),
        **separate_crops(prior, canvases(prior, min(CANVASES, images))),
        **unchanged(prior, torch.cat([alone, photos])),
        **backgrounds(prior, emoji, images),
        **objects(prior, evaluator, emoji, images),
    }


def held_out(prior: PipelinePrior, emoji: Emoji, n: int) -> tuple[Images, Images]:
    """n held-out emoji on white, and n crops of held-out photographs, in the size of an editor."""
    held = emoji.select(emoji.held_out)
    chosen = torch.linspace(0, len(held) - 1, n).long()
    side = prior.image_size[0]
    photos = photographs.as_images(photographs.crops(photographs.HELD_OUT, n, size=side, seed=1))
    return resized(on_white(held)[chosen], prior.image_size), resized(photos, prior.image_size)


def canvases(prior: PipelinePrior, n: int) -> Images:
    """n crops of held-out photographs, twice as high and wide as the images of an editor."""
    height, width = prior.image_size
    crops = photographs.crops(photographs.HELD_OUT, n, size=2 * height, seed=2)
    return resized(photographs.as_images(crops), (2 * height, 2 * width))


def view_of(prior: PipelinePrior, images: Images) -> View:
    """The view of whole images in the size of an editor."""
    return View.whole((images.shape[2], images.shape[3]), unit_of(prior.image_size[0]))


def edited(
    prior: PipelinePrior,
    images: Images,
    instructions: Sequence[str],
    text_scale: float = TEXT_SCALE,
    image_scale: float = IMAGE_SCALE,
    seed: int = 0,
) -> Images:
    """Edit images in [0, 1], each by its own instruction, by DDIM with text and image guidance."""
    rng, guided, results = torch.Generator().manual_seed(seed), ImageGuided(prior, text_scale, image_scale), []
    for part in torch.arange(len(images)).split(32):
        cond = prior.encode_text([instructions[i] for i in part.tolist()]) | prior.encode_source(images[part])
        noise = torch.randn(len(part), *prior.latent_shape, generator=rng).to(prior.device)
        results.append(prior.decode(ddim(guided, noise, STEPS, cond)).cpu())
    return torch.cat(results)


def in_turn(wordings: Sequence[str], n: int) -> list[str]:
    """n wordings, each in its turn."""
    return [wordings[i % len(wordings)] for i in range(n)]


def procedural(prior: PipelinePrior, evaluator: Evaluator, images: Images, kind: str) -> dict[str, float]:
    """PSNR and gain of each edit by its first wording, and means over the edits with one answer and with many."""
    figures: dict[str, float] = {}
    view = view_of(prior, images)
    totals: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for edit in EDITS.values():
        results = edited(prior, images, [edit.instructions[0]] * len(images))
        right = edit(images, rng=torch.Generator().manual_seed(0), view=view)
        found = {
            "psnr_edited": float(nearest(edit, images, results, view).psnr.mean()),
            "psnr_source": float(nearest(edit, images, images, view).psnr.mean()),
            "psnr_ceiling": psnr(reconstruction(prior, right), right),
            "direction": direction(evaluator, images, results, edit.caption),
        }
        found["gain"] = found["psnr_edited"] - found["psnr_source"]
        figures[f"{kind}_gain_{edit.name.replace(' ', '_')}"] = found["gain"]
        totals[edit.exact].append(found)
    for exact, label in ((True, kind), (False, f"{kind}_many")):
        for name in totals[exact][0]:
            figures[f"{label}_{name}"] = sum(found[name] for found in totals[exact]) / len(totals[exact])
    return figures


def paraphrases(prior: PipelinePrior, images: Images) -> dict[str, float]:
    """Gains by trained and by held-out wordings in turn, on the same images, and the loss by the latter.

    Edits with one right answer and with many are averaged apart; `held_out_loss_*` are those of each edit.
    """
    figures: dict[str, float] = {}
    view = view_of(prior, images)

    def quality(edit: Edit, results: Images) -> float:
        return float(nearest(edit, images, results, view).psnr.mean())

    for exact, label in ((True, "wordings"), (False, "wordings_many")):
        trained: list[float] = []
        unseen: list[float] = []
        for edit in (edit for edit in EDITS.values() if edit.exact == exact):
            before = quality(edit, images)
            for texts, gains in ((edit.instructions, trained), (edit.held_out, unseen)):
                gains.append(quality(edit, edited(prior, images, in_turn(texts, len(images)))) - before)
            figures[f"held_out_loss_{edit.name.replace(' ', '_')}"] = trained[-1] - unseen[-1]
        figures[f"{label}_gain_trained"] = sum(trained) / len(trained)
        figures[f"{label}_gain_held_out"] = sum(unseen) / len(unseen)
    return figures


def separate_crops(prior: PipelinePrior, images: Images) -> dict[str, float]:
    """How the four quarters of photographs, edited apart by edits with many answers, fit together.

    For each edit and on average: the fraction of pairs of crops that agree, and the PSNR of the whole to its nearest
    single right answer. On average: that of crops to their own nearest answers, and the agreement by chance.

    Args:
        prior: the editor.
        images: photographs of twice the editor's size.
    """
    height, width = prior.image_size
    layout = Layout((2 * height, 2 * width), (height, width), (height, width))
    boxes, unit = layout.boxes(), unit_of(height)
    windows = torch.cat([layout.take(image[None], boxes) for image in images])
    figures: dict[str, float] = {}
    names = ("agreement", "chance", "whole_psnr", "window_psnr")
    totals = dict.fromkeys(names, 0.0)
    many = [edit for edit in EDITS.values() if not edit.exact]
    for edit in many:
        results = edited(prior, windows, [edit.instructions[0]] * len(windows)).split(len(boxes))
        found = [agreement(edit, image[None], own, layout, unit) for image, own in zip(images, results, strict=True)]
        mean = {name: sum(float(torch.as_tensor(getattr(each, name)).mean()) for each in found) / len(found)
                for name in names}  # fmt: skip
        totals = {name: totals[name] + mean[name] / len(many) for name in names}
        slug = edit.name.replace(" ", "_")
        figures |= {f"crops_agreement_{slug}": mean["agreement"], f"crops_whole_psnr_{slug}": mean["whole_psnr"]}
    return figures | {f"crops_{name}": value for name, value in totals.items()}


def direction(evaluator: Evaluator, before: Tensor, after: Tensor, caption: str) -> float:
    """CLIP direction of an edit, averaged over images."""
    texts = towers.tokens(evaluator.tokenizer, ["a picture", f"a picture, {caption}"])
    with torch.no_grad():
        plain, changed = towers.text_features(evaluator.model, texts)
    moved = evaluator.features(after) - evaluator.features(before)
    return float(torch.cosine_similarity(moved, (changed - plain)[None], dim=-1).mean())


def unchanged(prior: PipelinePrior, images: Images) -> dict[str, float]:
    """PSNR of edits by an empty instruction, to the source and to its reconstruction by the autoencoder."""
    results = edited(prior, images, [""] * len(images))
    return {
        "empty_psnr_to_reconstruction": psnr(results, reconstruction(prior, images)),
        "empty_psnr_to_source": psnr(results, images),
    }


def backgrounds(prior: PipelinePrior, emoji: Emoji, n: int) -> dict[str, float]:
    """PSNR and gain of edits such as "on a blue background" of held-out emoji on white, and of held-out wordings."""
    held = emoji.select(emoji.held_out)
    rgba = compose.premultiplied(held.rgba[torch.linspace(0, len(held) - 1, n).long().numpy()])
    source = resized(compose.over(rgba, torch.ones(1, 3, 1, 1)), prior.image_size)
    colors = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(n)]
    truth = resized(compose.over(rgba, compose.named_backgrounds(list(colors))), prior.image_size)
    first, unseen = (
        psnr(edited(prior, source, [phrased(text, color) for text, color in zip(texts, colors, strict=True)]), truth)
        for texts in (in_turn(BACKGROUND.trained[:1], n), in_turn(BACKGROUND.held_out, n))
    )
    before = psnr(source, truth)
    return {
        "background_psnr_edited": first,
        "background_gain": first - before,
        "background_gain_held_out": unseen - before,
    }


def objects(prior: PipelinePrior, evaluator: Evaluator, emoji: Emoji, n: int) -> dict[str, float]:
    """Fraction of edits such as "turn it into a pizza" in which CLIP recognizes the named object, at two text scales.

    `object_kept_name` is the fraction in which it still recognizes the source's, at the larger scale.
    """
    names = object_names(emoji)
    wanted = [names[i * 7 % len(names)] for i in range(n)]
    source, _ = held_out(prior, emoji, n)
    held = emoji.select(emoji.held_out)
    before = [emoji.names[held.concept[i]] for i in torch.linspace(0, len(held) - 1, n).long().tolist()]
    texts = [named(OBJECT.trained[0], name) for name in wanted]
    strong = edited(prior, source, texts, text_scale=OBJECT_SCALE)
    return {
        "object_name_in_top_5": evaluator.names_in_top(edited(prior, source, texts), wanted),
        "object_name_in_top_5_guided": evaluator.names_in_top(strong, wanted),
        "object_kept_name": evaluator.names_in_top(strong, before),
    }


def edit_grid(
    prior: PipelinePrior, emoji: Emoji, path: Path, seed: int = 0, edits: Sequence[str] | None = None
) -> Image.Image:
    """Save a grid of eight held-out images: a row of sources, and for each edit a row of results and right answers.

    The right answer beside a result is the nearest one.

    Args:
        prior: the editor.
        emoji: the data set.
        path: of the image.
        seed: of the samples.
        edits: names of the edits; all by default.
    """
    images = torch.cat(held_out(prior, emoji, 4))
    view, blank = view_of(prior, images), torch.ones_like(images)
    rows, labels = [torch.stack([images, blank], 1)], ["source", ""] * len(images)
    for name in EDITS if edits is None else edits:
        edit = EDITS[name]
        results = edited(prior, images, [edit.instructions[0]] * len(images), seed=seed)
        right = edit.render(images, nearest(edit, images, results, view).answers, view)
        rows.append(torch.stack([results, right], 1))
        labels += [edit.instructions[0], "right answer"] * len(images)
    zoom = max(1, 128 // prior.image_size[0])
    image = compose.image_grid(torch.stack(rows).flatten(0, 2), 2 * len(images), labels=labels, zoom=zoom)
    image.save(path)
    return image
