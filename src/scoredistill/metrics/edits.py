r"""Numbers about edits. Images are [b, 3, h, w] in [0, 1]; E and T are unit features of a CLIP.

    psnr                     -10 log10 mean (x - truth)^2, in dB
    directional_similarity   cos(E(after) - E(before), T(text after) - T(text before))
    source_similarity        cos(E(after), E(before))
    neighbor_consistency    mean cos(E(x_k), E(x_k+1))
    perceptual_distance      mean over layers and tokens of |u - u'|^2, u the unit tokens of CLIP's image tower
    seam                     mean over borders c of J_c / mean J elsewhere,    J_c = mean |x[c] - x[c - 1]|
    intra_style_distance     mean over pairs of crops of |s - s'|, s = (m, C^(1/2)) of a crop's colors and differences
    warp_error               mean |x_k(p) - x_k+1(p + f_k(p))| over visible p,    f_k the flow of the source

References: Gal et al. 2021, StyleGAN-NADA, https://arxiv.org/abs/2108.00946 (direction); Zhang et al. 2018,
https://arxiv.org/abs/1801.03924 (LPIPS; `perceptual_distance` is built like it but is not it: another network, no
learned weights, so its values compare only with one another); Lai et al. 2018, https://arxiv.org/abs/1808.00449
(warp error; there squared, here absolute).

A CLIP resizes an image to its own square. With `side`, numbers are means over square crops of that many pixels
instead, so that a wide panorama is not squeezed. Everything is without gradient.
"""

import math
from collections.abc import Collection, Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate, normalize

from scoredistill.media.motion import optical_flow, visible, warp
from scoredistill.metrics.clip import Clip, bundled_clip

Images = Float[Tensor, "b 3 h w"]
Others = Float[Tensor, "_ 3 _ _"]  # shapes are compared in a sentence
Flows = Sequence[tuple[Float[Tensor, "2 _ _"], Bool[Tensor, "_ _"]]]


@torch.no_grad()
def psnr(images: Images, truth: Others) -> Float[Tensor, " b"]:
    """Peak signal to noise of each image in dB; inf where it equals the truth."""
    _check(images, truth)
    return -10 * (images.double() - truth.double()).square().mean((1, 2, 3)).log10().to(images.dtype)


@torch.no_grad()
def directional_similarity(
    before: Images,
    after: Others,
    text_before: str | Sequence[str],
    text_after: str | Sequence[str],
    clip: Clip | None = None,
    side: int | None = None,
) -> Float[Tensor, " b"]:
    """Cosine of the change of image features with the change of text features; 0 where the image did not change.

    Args:
        before, after: images of one size.
        text_before, text_after: what they show; one for all, or one per image.
        clip: the judge; the bundled one by default.
        side: of square crops that are judged one by one and averaged; the whole image by default.

    Raises:
        ValueError: shapes differ, values are not finite, texts are too few or too many, or say the same twice.
    """
    clip = _judge(clip, before, after)
    pair = [[texts] if isinstance(texts, str) else list(texts) for texts in (text_before, text_after)]
    if any(len(texts) not in (1, len(before)) for texts in pair):
        raise ValueError(f"{len(pair[0])} and {len(pair[1])} texts for {len(before)} images: give 1 or {len(before)}")
    wanted = clip.text_features(pair[1]) - clip.text_features(pair[0])
    if not bool((wanted.norm(dim=-1) > 1e-4).all()):
        raise ValueError("a text before and its text after are the same to this CLIP: they give no direction")
    change = _features(clip, after, side) - _features(clip, before, side)
    cosine = cosine_similarity(change, wanted[:, None], dim=-1)
    return torch.where(change.norm(dim=-1) > 1e-5, cosine, torch.zeros_like(cosine)).mean(1)


@torch.no_grad()
def source_similarity(
    before: Images, after: Others, clip: Clip | None = None, side: int | None = None
) -> Float[Tensor, " b"]:
    """Cosine of the features of source and edit, mean over crops of `side` pixels if that is given; 1 if unchanged."""
    clip = _judge(clip, before, after)
    return (_features(clip, before, side) * _features(clip, after, side)).sum(-1).mean(1)


@torch.no_grad()
def neighbor_consistency(images: Float[Tensor, "n 3 h w"], clip: Clip | None = None) -> float:
    """Mean cosine of the features of neighbors: frames, views or windows, at least 2, in their order."""
    clip = _judge(clip, images)
    if len(images) < 2:
        raise ValueError(f"{len(images)} image has no neighbor: give at least 2")
    features = clip.image_features(images)
    return float((features[1:] * features[:-1]).sum(-1).mean())


def perceptual_distance(
    images: Images, others: Others, clip: Clip | None = None, side: int | None = None
) -> Float[Tensor, " b"]:
    """How different two images look, from 0 to 4: built like LPIPS, but it is not LPIPS.

    Args:
        images, others: images of one size.
        clip: whose image tower is used; the bundled one by default.
        side: of square crops that are compared one by one and averaged; the whole image by default.
    """
    clip = _judge(clip, images, others)
    a, b = (perceptual_features(_crops_or_whole(x, side).flatten(0, 1), clip) for x in (images, others))
    return (a - b).square().sum(-1).mean((0, 2)).unflatten(0, (len(images), -1)).mean(1)


@torch.no_grad()
def perceptual_features(images: Images, clip: Clip | None = None) -> Float[Tensor, "layers b tokens f"]:
    """Unit tokens of the patches after a quarter, a half and three quarters of the layers of CLIP's image tower."""
    clip = _judge(clip, images)
    resized = interpolate(images.float(), (clip.side, clip.side), mode="bicubic", antialias=True).clamp(0, 1)
    pixels = ((resized - clip.mean.to(resized)) / clip.std.to(resized)).to(clip.model.device)
    hidden = clip.model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    depth = len(hidden) - 1
    chosen = sorted({max(1, round(depth * share)) for share in (0.25, 0.5, 0.75)})
    return torch.stack([normalize(hidden[k][:, 1:], dim=-1) for k in chosen])


@torch.no_grad()
def seam(
    images: Images, columns: Sequence[int] = (), rows: Sequence[int] = (), source: Others | None = None
) -> Float[Tensor, " b"]:
    """How much more an image jumps at the borders of windows than elsewhere; 1 is no seam.

    The jump at a border over the mean jump of all other lines of its direction, averaged over the borders. 1 where the
    image is flat; inf where it is flat except at a border.

    Args:
        images: images.
        columns: first columns of windows: c is the border between the columns c - 1 and c.
        rows: first rows of windows.
        source: images of the same shape; the result is divided by theirs, so that what was there does not count.

    Raises:
        ValueError: no border, a border outside of the image or on each of its lines, or images that do not fit.
    """
    _check(images, source)
    if not columns and not rows:
        raise ValueError("no border is given: name columns or rows")
    found = [
        _over_elsewhere(jump, borders)
        for jump, borders in ((_jumps(images, 3), columns), (_jumps(images, 2), rows))
        if borders
    ]
    ratio = torch.cat(found, dim=1).mean(1)
    return ratio if source is None else ratio / seam(source, columns, rows)


@torch.no_grad()
def wrap_seam(images: Images, source: Others | None = None) -> Float[Tensor, " b"]:
    """`seam` of the border between the last and the first column, for panoramas that close after 360 degrees."""
    _check(images, source)
    around = torch.cat([images[..., -1:], images], dim=3)
    ratio = _over_elsewhere(_jumps(around, 3), [1])[:, 0]
    return ratio if source is None else ratio / wrap_seam(source)


def _jumps(images: Tensor, dim: int) -> Tensor:
    """Mean absolute difference of each line to the line before it, [b, lines - 1]."""
    return images.double().diff(dim=dim).abs().mean((1, 5 - dim))


def _over_elsewhere(jump: Tensor, borders: Sequence[int]) -> Tensor:
    """Jumps at the borders over the mean jump elsewhere, [b, borders]."""
    lines = jump.shape[1] + 1
    chosen = sorted(set(borders))
    if chosen[0] < 1 or chosen[-1] >= lines:
        raise ValueError(f"borders {chosen} of {lines} lines: they are from 1 to {lines - 1}")
    elsewhere = torch.ones(lines - 1, dtype=torch.bool, device=jump.device)
    elsewhere[[c - 1 for c in chosen]] = False
    if not bool(elsewhere.any()):
        raise ValueError("every line is a border: there is nothing to compare with")
    at, usual = jump[:, ~elsewhere], jump[:, elsewhere].mean(1, keepdim=True)
    return torch.where((at == 0) & (usual == 0), torch.ones_like(at), at / usual).float()


@torch.no_grad()
def intra_style_distance(images: Images, side: int, source: Others | None = None) -> Float[Tensor, " b"]:
    """How differently the crops of one image are styled: mean distance of their `style_of`, in units of color.

    Crops of different things differ in any real image. With `source` its own distance is subtracted; the true edit is
    the better reference where it is known, since an edit that darkens everything makes all distances smaller.

    Args:
        images: images.
        side: pixels of the square crops, which do not overlap; at least 2 must fit.
        source: images of the same shape.
    """
    _check(images, source)
    crops = square_crops(images, side)
    count = crops.shape[1]
    if count < 2:
        raise ValueError(f"one crop of {side} pixels fits: two are needed to differ, so take a smaller side")
    style = style_of(crops.flatten(0, 1)).unflatten(0, (len(images), count))
    i, j = torch.tensor(list(combinations(range(count), 2))).T
    distance = (style[:, i] - style[:, j]).norm(dim=-1).mean(1)
    return distance if source is None else distance - intra_style_distance(source, side)


@torch.no_grad()
def style_of(crops: Images) -> Float[Tensor, "b 90"]:
    """Colors and textures of images, in units of color, wherever in the image they are.

    The mean m and the root C^(1/2) of the 9 x 9 covariance of each pixel's colors and of their differences to the
    right and below: channel correlations as in a Gram matrix, of a fixed bank of filters. The distance of two styles is
    the Wasserstein distance of the two Gaussians where their covariances commute. A brightness d more everywhere is a
    distance of d sqrt(3).
    """
    x = crops.double()
    if min(x.shape[2:]) < 3:
        raise ValueError(f"crops of {list(x.shape[2:])} pixels have no texture: give at least 3 x 3")
    here = x[:, :, :-1, :-1]
    values = torch.cat([here, x[:, :, :-1, 1:] - here, x[:, :, 1:, :-1] - here], dim=1).flatten(2)  # b 9 pixels
    mean = values.mean(2, keepdim=True)
    covariance = (values - mean) @ (values - mean).mT / values.shape[2]
    size, axes = torch.linalg.eigh(covariance)
    root = (axes * size.clamp(min=0).sqrt()[:, None]) @ axes.mT
    return torch.cat([mean[..., 0], root.flatten(1)], dim=1).to(crops.dtype)


def square_crops(images: Images, side: int) -> Float[Tensor, "b n 3 side side"]:
    """As many square crops as fit without overlap, spread evenly from edge to edge, row by row."""
    height, width = images.shape[2:]
    if not 1 <= side <= min(height, width):
        raise ValueError(f"crops of {side} pixels do not fit images of {height} x {width}")
    tops, lefts = _starts(height, side), _starts(width, side)
    return torch.stack([images[:, :, y : y + side, x : x + side] for y in tops for x in lefts], dim=1)


def _starts(length: int, side: int) -> list[int]:
    count = length // side
    return [i * (length - side) // (count - 1) for i in range(count)] if count > 1 else [(length - side) // 2]


@torch.no_grad()
def warp_error(
    frames: Float[Tensor, "n 3 h w"], source: Others, flows: Flows | None = None, cuts: Collection[int] = ()
) -> float:
    """Flicker: mean absolute difference of each frame to the next one, brought back along the flow of the source.

    A mean over the visible pixels of each pair, then over pairs; a pair without a visible pixel is left out. In units
    of color: a frame brighter by d than its neighbors is off by d from both. The flow is not exact, so a video has an
    error without any flicker: print the one of the source beside it.

    Args:
        frames: at least 2, edited.
        source: the frames they were edited from.
        flows: `source_flows` of the source, to share them; computed if not given.
        cuts: indices of frames that begin a scene; the pairs across are left out.

    Raises:
        ValueError: images or flows that do not fit, or no pair to compare.
    """
    _check(frames, source)
    flows = source_flows(source, cuts) if flows is None else flows
    if len(flows) != len(frames) - 1:
        raise ValueError(f"{len(flows)} flows for {len(frames)} frames: give one for each pair of neighbors")
    errors = []
    for k, (flow, seen) in enumerate(flows):
        if k + 1 not in cuts and bool(seen.any()):
            errors.append((frames[k] - warp(frames[k + 1], flow)).abs().mean(0)[seen].mean().item())
    if not errors:
        raise ValueError(f"no pair of {len(frames)} frames has a visible pixel in one scene: nothing to compare")
    return math.fsum(errors) / len(errors)


def source_flows(
    source: Float[Tensor, "n 3 h w"], cuts: Collection[int] = ()
) -> list[tuple[Float[Tensor, "2 h w"], Bool[Tensor, "h w"]]]:
    """Flow from each frame to the next one, and its visible pixels; none is visible across a cut."""
    flows = []
    for k in range(1, len(source)):
        if k in cuts:
            flows.append((torch.zeros_like(source[k, :2]), torch.zeros_like(source[k, 0], dtype=torch.bool)))
        else:
            forward = optical_flow(source[k - 1], source[k])
            flows.append((forward, visible(forward, optical_flow(source[k], source[k - 1]))))
    return flows


def _features(clip: Clip, images: Tensor, side: int | None) -> Tensor:
    """Unit features of crops, [b, crops, f]."""
    crops = _crops_or_whole(images, side)
    return clip.image_features(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])


def _crops_or_whole(images: Tensor, side: int | None) -> Tensor:
    return images[:, None] if side is None else square_crops(images, side)


def _judge(clip: Clip | None, images: Tensor, others: Tensor | None = None) -> Clip:
    """The CLIP to use, once the images are checked."""
    _check(images, others)
    return bundled_clip() if clip is None else clip


def _check(images: Tensor, others: Tensor | None = None) -> None:
    if others is not None and images.shape != others.shape:
        raise ValueError(f"images of one shape are needed, not {list(images.shape)} and {list(others.shape)}")
    for given in (images, others):
        if given is not None and not bool(given.isfinite().all()):
            raise ValueError("images are not finite: an edit that diverged has no such number")
