r"""The nearest right answer to a result, and whether windows of one image that were edited apart agree.

With f(x; a) the image x edited by the answer a, and A the set of answers of an edit:

    nearest answer   a*(x, y) = argmin_{a in A} mean (f(x; a) - y)^2
    PSNR             -10 log10 of that minimum

Variants are tried in turn. Parameters start from a grid, or from the peaks of a spectrum (`waves`); the best starts are
refined by coordinate descent with steps that are halved where they do not help.

Two windows i and j of one image, whose results have the nearest answers a_i and a_j, *agree* if these look alike in
both of them:

    D_ij = 1/2 sum_{w = i, j} mean (f(x_w; a_i) - f(x_w; a_j))^2,        -10 log10 D_ij >= AGREE dB

The *agreement* is the fraction of pairs i < j that agree. Since images and not parameters are compared, it counts only
what can be seen: hues need not agree in gray windows. Compare it with that of answers drawn apart (`chance`). The
windows put together make a whole, whose PSNR to *its* nearest answer measures how far it is from one right answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoredistill.datasets.procedural_edits.edit import Answers, Edit, Images, Values, Variant
from scoredistill.datasets.procedural_edits.view import View
from scoredistill.window_grid import Layout

SEARCH = ((3, 4), (1, 12))
"""Stages of the refinement: how many of the best starts are kept, and for how many rounds they are refined."""
AGREE = 25.0
"""dB above which two answers look alike. On photographs these are 25 degrees of hue, 1/22 of a period of stripes, or 1
degree of their angle; different variants are at most 21 dB apart on average."""


@dataclass(frozen=True)
class Nearest:
    """The nearest right answers to results.

    Attributes:
        answers: one per image, from the origin of the view.
        psnr: of the results to them, in dB, [b]; 100 at most.
    """

    answers: Answers
    psnr: Float[Tensor, " b"]


@torch.no_grad()
def nearest(edit: Edit, images: Images, results: Float[Tensor, "_ 3 _ _"], view: View) -> Nearest:
    """Find the right answer that is nearest to each result.

    Args:
        edit: the edit that was asked for.
        images: before the edit, in [0, 1].
        results: after it.
        view: where the images lie; `View.whole(size, unit)` if they are no crops.

    Raises:
        ValueError: if the shapes differ, or results have values that are not finite.
    """
    if images.shape != results.shape:
        raise ValueError(
            f"images of {list(images.shape)} and results of {list(results.shape)}: give one result per image"
        )
    if not bool(results.isfinite().all()):
        raise ValueError("results have values that are not finite: an edit that diverged has no nearest answer")
    local = view.centered((images.shape[2], images.shape[3]))
    shift = ((view.origin - local.origin) / view.unit).to(images)
    least = torch.full((len(images),), torch.inf, device=images.device)
    chosen, values = torch.zeros(len(images), dtype=torch.long), torch.zeros(len(images), edit.width)
    for index, variant in enumerate(edit.variants):
        found, errors = _search(variant, images, results, local)
        better = (errors < least).cpu()
        least = torch.minimum(errors, least)
        moved = variant.within(variant.move(found, shift)).cpu()
        chosen[better] = index
        values[better] = torch.nn.functional.pad(moved, (0, edit.width - moved.shape[1]))[better]
    return Nearest(Answers(chosen, values), -10 * least.clamp(min=1e-10).log10().cpu())


def _search(variant: Variant, images: Images, results: Images, view: View) -> tuple[Values, Float[Tensor, " b"]]:
    """The best values of a variant for each image, and their mean squared errors."""
    made = variant.prepare(images, view)

    def errors_of(values: Float[Tensor, "k b p"]) -> Float[Tensor, "k b"]:
        found = [made(row).clamp(0, 1).sub(results).square().mean((1, 2, 3)) for row in values]
        return torch.stack(found)

    starts, steps = variant.starts(images, results, view)
    values = variant.within(starts)
    errors = errors_of(values)
    sizes = torch.ones_like(errors)
    for count, rounds in SEARCH:
        errors, best = errors.topk(min(count, len(errors)), dim=0, largest=False)
        values, sizes = values.gather(0, best[..., None].expand(-1, -1, values.shape[2])), sizes.gather(0, best)
        for _ in range(rounds if variant.parameters else 0):
            values, errors, sizes = _refined(variant, errors_of, values, errors, sizes, steps.to(images))
    return values[0], errors[0]


def _refined(
    variant: Variant,
    errors_of: Callable[[Tensor], Tensor],
    values: Float[Tensor, "k b p"],
    errors: Float[Tensor, "k b"],
    sizes: Float[Tensor, "k b"],
    steps: Float[Tensor, " p"],
) -> tuple[Float[Tensor, "k b p"], Float[Tensor, "k b"], Float[Tensor, "k b"]]:
    """One round of coordinate descent from each start: better values, their errors, and the sizes of the next steps."""
    improved = torch.zeros_like(errors, dtype=torch.bool)
    for column in range(len(steps)):
        for sign in (-1, 1):
            trial = values.clone()
            trial[..., column] += sign * sizes * steps[column]
            trial = variant.within(trial)
            found = errors_of(trial)
            better = found < errors
            values = torch.where(better[..., None], trial, values)
            errors, improved = torch.where(better, found, errors), improved | better
    return values, errors, torch.where(improved, sizes, sizes / 2)


@torch.no_grad()
def alike(edit: Edit, windows: Images, answers: Answers, view: View) -> Bool[Tensor, "n n"]:
    """Which of the answers to windows of one image agree, by -10 log10 D_ij >= AGREE.

    Args:
        edit: the edit.
        windows: crops of one image, before the edit.
        answers: one for each.
        view: where they lie.
    """
    n = len(windows)
    answer, window = (axis.flatten() for axis in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
    shown = edit.render(windows[window.to(windows.device)], answers[answer], view.rows(window)).unflatten(0, (n, n))
    own = shown.diagonal().movedim(-1, 0)  # each answer in its own window
    apart = (shown - own[None]).square().mean((2, 3, 4))  # of answer a and that of window w, in window w
    return -10 * ((apart + apart.T) / 2).clamp(min=1e-10).log10() >= AGREE


def fraction(agree: Bool[Tensor, "n n"]) -> float:
    """The fraction of pairs i < j that agree.

    Raises:
        ValueError: for fewer than two windows.
    """
    n = len(agree)
    if n < 2:
        raise ValueError(f"{n} window has nothing to agree with: give at least 2 windows of an image")
    return float(agree.triu(1).sum()) / (n * (n - 1) / 2)


@dataclass(frozen=True)
class Agreement:
    """How windows of one image that were edited apart fit together.

    Attributes:
        answers: nearest answer of each window.
        window_psnr: PSNR of each window to its nearest answer, in dB, [n].
        agreement: fraction of pairs of windows that agree.
        chance: the same for answers drawn apart.
        whole_psnr: PSNR of the windows put together to their nearest single answer, in dB.
    """

    answers: Answers
    window_psnr: Float[Tensor, " n"]
    agreement: float
    chance: float
    whole_psnr: float


@torch.no_grad()
def agreement(
    edit: Edit, image: Float[Tensor, "1 3 H W"], results: Float[Tensor, "n 3 h w"], layout: Layout, unit: float
) -> Agreement:
    """Compare the results of windows of one image that were edited apart.

    Args:
        edit: the edit that was asked for.
        image: the whole image before the edit.
        results: edited windows, in the order of `layout.boxes()`; where they overlap, the whole is their mean.
        layout: of the windows.
        unit: pixels in 1/64 of the side of the editor's images (`unit_of`).
    """
    boxes = layout.boxes()
    windows, view = layout.take(image, boxes), View.of_crops(layout.size, boxes, unit)
    found = nearest(edit, windows, results, view)
    weights = layout.weight().to(results)
    whole = layout.put(results * weights, boxes) / layout.coverage(boxes).to(results)
    return Agreement(
        found.answers,
        found.psnr,
        fraction(alike(edit, windows, found.answers, view)),
        chance(edit, windows, view),
        float(nearest(edit, image, whole, View.whole(layout.size, unit)).psnr[0]),
    )


def chance(edit: Edit, windows: Images, view: View, draws: int = 4, seed: int = 0) -> float:
    """The agreement of answers that are drawn apart, averaged over draws; 1 for exact edits."""
    rng = torch.Generator().manual_seed(seed)
    drawn = [alike(edit, windows, edit.draw(len(windows), rng), view) for _ in range(draws)]
    return sum(fraction(agree) for agree in drawn) / draws
