r"""Metrics of edited images and videos. Images are [b, 3, h, w] in [0, 1]; E and T are unit features of a CLIP model.

    psnr                     -10 log10 mean (x - truth)^2, in dB
    directional_similarity   cos(E(after) - E(before), T(text after) - T(text before))
    source_similarity        cos(E(after), E(before))
    neighbor_consistency     mean cos(E(x_k), E(x_k+1))
    perceptual_distance      mean over layers and tokens of |u - u'|^2, u the unit tokens of the image encoder of CLIP
    seam                     mean over borders c of J_c / mean J elsewhere,    J_c = mean |x[c] - x[c - 1]|
    intra_style_distance     mean over pairs of crops of |s - s'|, s = (m, C^(1/2)) of a crop's colors and differences
    warp_error               mean |x_k(p) - x_k+1(p + f_k(p))| over visible p,    f_k the flow of the source

References: StyleGAN-NADA (Gal et al. 2021), https://arxiv.org/abs/2108.00946, for the direction; LPIPS (Zhang et al.
2018), https://arxiv.org/abs/1801.03924, after which `perceptual_distance` is built, though with another network and no
learned weights, so its values are comparable only with one another; Learning blind video temporal consistency (Lai et
al. 2018), https://arxiv.org/abs/1808.00449, for the warp error, which is squared there and absolute here.

CLIP resizes an image to a square. With `side`, metrics are averaged over square crops of that many pixels instead, so
that a wide panorama is not distorted. Nothing here has gradients.
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
Others = Float[Tensor, "_ 3 _ _"]  # shapes are checked in `_check`, with a message
Flows = Sequence[tuple[Float[Tensor, "2 _ _"], Bool[Tensor, "_ _"]]]


@torch.no_grad()
def psnr(images: Images, truth: Others) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each image in dB; inf where it equals the ground truth."""
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
    """Cosine of the change in image features with the change in text features; 0 where the image did not change.

    Args:
        before, after: images of one size.
        text_before, text_after: captions; one for all images, or one per image.
        clip: the CLIP model; the bundled one by default.
        side: of square crops over which the cosine is averaged; the whole image by default.

    Raises:
        ValueError: if shapes differ, values are not finite, the number of texts does not match, or a text before and
            its text after have the same features.
    """
    clip = _checked_clip(clip, before, after)
    pair = [[texts] if isinstance(texts, str) else list(texts) for texts in (text_before, text_after)]
    if any(len(texts) not in (1, len(before)) for texts in pair):
        raise ValueError(f"{len(pair[0])} and {len(pair[1])} texts for {len(before)} images: give 1 or {len(before)}")
    wanted = clip.text_features(pair[1]) - clip.text_features(pair[0])
    if not bool((wanted.norm(dim=-1) > 1e-4).all()):
        raise ValueError("a text before and its text after have the same CLIP features: give texts that differ")
    change = _features(clip, after, side) - _features(clip, before, side)
    cosine = cosine_similarity(change, wanted[:, None], dim=-1)
    return torch.where(change.norm(dim=-1) > 1e-5, cosine, torch.zeros_like(cosine)).mean(1)


@torch.no_grad()
def source_similarity(
    before: Images, after: Others, clip: Clip | None = None, side: int | None = None
) -> Float[Tensor, " b"]:
    """Cosine of the image features of source and edit, averaged over crops if `side` is given; 1 if unchanged."""
    clip = _checked_clip(clip, before, after)
    return (_features(clip, before, side) * _features(clip, after, side)).sum(-1).mean(1)


@torch.no_grad()
def neighbor_consistency(images: Float[Tensor, "n 3 h w"], clip: Clip | None = None) -> float:
    """Mean cosine of the features of neighboring images: at least 2 frames, views or windows, in order."""
    clip = _checked_clip(clip, images)
    if len(images) < 2:
        raise ValueError(f"{len(images)} image has no neighbor: give at least 2 images")
    features = clip.image_features(images)
    return float((features[1:] * features[:-1]).sum(-1).mean())


def perceptual_distance(
    images: Images, others: Others, clip: Clip | None = None, side: int | None = None
) -> Float[Tensor, " b"]:
    """Perceptual distance of two images in [0, 4], built like LPIPS on CLIP features; it is not LPIPS.

    Args:
        images, others: images of one size.
        clip: the CLIP model; the bundled one by default.
        side: of square crops over which the distance is averaged; the whole image by default.
    """
    clip = _checked_clip(clip, images, others)
    a, b = (perceptual_features(_crops_or_whole(x, side).flatten(0, 1), clip) for x in (images, others))
    return (a - b).square().sum(-1).mean((0, 2)).unflatten(0, (len(images), -1)).mean(1)


@torch.no_grad()
def perceptual_features(images: Images, clip: Clip | None = None) -> Float[Tensor, "layers b tokens f"]:
    """Unit patch tokens after a quarter, a half and three quarters of the layers of the image encoder of CLIP."""
    clip = _checked_clip(clip, images)
    resized = interpolate(images.float(), (clip.side, clip.side), mode="bicubic", antialias=True).clamp(0, 1)
    pixels = ((resized - clip.mean.to(resized)) / clip.std.to(resized)).to(clip.model.device)
    hidden = clip.model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    depth = len(hidden) - 1
    chosen = sorted({max(1, round(depth * fraction)) for fraction in (0.25, 0.5, 0.75)})
    return torch.stack([normalize(hidden[k][:, 1:], dim=-1) for k in chosen])


@torch.no_grad()
def seam(
    images: Images, columns: Sequence[int] = (), rows: Sequence[int] = (), source: Others | None = None
) -> Float[Tensor, " b"]:
    """Visibility of seams: the difference across window borders relative to that elsewhere; 1 means no seam.

    For each border, the mean absolute difference across it is divided by that across all other lines in its direction;
    the ratios are averaged. The result is 1 where the image is flat, and inf where it is flat except at a border.

    Args:
        images: the images to measure.
        columns: borders between columns; c is the border between the columns c - 1 and c.
        rows: borders between rows.
        source: images of the same shape, by whose value the result is divided, so that edges in them do not count.

    Raises:
        ValueError: if there is no border, a border is outside the image, every line is a border, or shapes differ.
    """
    _check(images, source)
    if not columns and not rows:
        raise ValueError("no border is given: pass columns or rows")
    found = [
        _over_elsewhere(jump, borders)
        for jump, borders in ((_jumps(images, 3), columns), (_jumps(images, 2), rows))
        if borders
    ]
    ratio = torch.cat(found, dim=1).mean(1)
    return ratio if source is None else ratio / seam(source, columns, rows)


@torch.no_grad()
def wrap_seam(images: Images, source: Others | None = None) -> Float[Tensor, " b"]:
    """`seam` at the border between the last and the first column, for 360-degree panoramas."""
    _check(images, source)
    around = torch.cat([images[..., -1:], images], dim=3)
    ratio = _over_elsewhere(_jumps(around, 3), [1])[:, 0]
    return ratio if source is None else ratio / wrap_seam(source)


def _jumps(images: Tensor, dim: int) -> Tensor:
    """Mean absolute difference between each line and the line before it, [b, lines - 1]."""
    return images.double().diff(dim=dim).abs().mean((1, 5 - dim))


def _over_elsewhere(jump: Tensor, borders: Sequence[int]) -> Tensor:
    """Differences at the borders divided by the mean difference elsewhere, [b, borders]."""
    lines = jump.shape[1] + 1
    chosen = sorted(set(borders))
    if chosen[0] < 1 or chosen[-1] >= lines:
        raise ValueError(f"borders {chosen} of {lines} lines: borders must lie from 1 to {lines - 1}")
    elsewhere = torch.ones(lines - 1, dtype=torch.bool, device=jump.device)
    elsewhere[[c - 1 for c in chosen]] = False
    if not bool(elsewhere.any()):
        raise ValueError("every line is a border, so there is nothing to compare with: give fewer borders")
    at, usual = jump[:, ~elsewhere], jump[:, elsewhere].mean(1, keepdim=True)
    return torch.where((at == 0) & (usual == 0), torch.ones_like(at), at / usual).float()


@torch.no_grad()
def intra_style_distance(images: Images, side: int, source: Others | None = None) -> Float[Tensor, " b"]:
    """Inconsistency of style within an image: mean distance between the `style_of` its crops, in units of color.

    Crops of different objects differ in any real image. With `source`, its distance is subtracted. The reference edit
    is a better baseline if it is known, since an edit that darkens everything reduces all distances.

    Args:
        images: the images to measure.
        side: of the square crops in pixels, which do not overlap; at least 2 must fit.
        source: images of the same shape.

    Raises:
        ValueError: if fewer than 2 crops fit, or shapes differ.
    """
    _check(images, source)
    crops = square_crops(images, side)
    count = crops.shape[1]
    if count < 2:
        raise ValueError(f"only one crop of {side} pixels fits, but two are needed: use a smaller side")
    style = style_of(crops.flatten(0, 1)).unflatten(0, (len(images), count))
    i, j = torch.tensor(list(combinations(range(count), 2))).T
    distance = (style[:, i] - style[:, j]).norm(dim=-1).mean(1)
    return distance if source is None else distance - intra_style_distance(source, side)


@torch.no_grad()
def style_of(crops: Images) -> Float[Tensor, "b 90"]:
    """Style descriptors of images: statistics of colors and textures, independent of position, in units of color.

    The descriptor is the mean m and the square root C^(1/2) of the 9 x 9 covariance of the colors of each pixel and
    their differences to the right and below: channel correlations, as in a Gram matrix, of a fixed filter bank. The
    distance of two descriptors is the Wasserstein distance of the two Gaussians if their covariances commute. Adding d
    to the brightness everywhere is a distance of d sqrt(3).
    """
    x = crops.double()
    if min(x.shape[2:]) < 3:
        raise ValueError(f"crops of {list(x.shape[2:])} pixels are too small for a texture: use at least 3 x 3")
    here = x[:, :, :-1, :-1]
    values = torch.cat([here, x[:, :, :-1, 1:] - here, x[:, :, 1:, :-1] - here], dim=1).flatten(2)  # b 9 pixels
    mean = values.mean(2, keepdim=True)
    covariance = (values - mean) @ (values - mean).mT / values.shape[2]
    size, axes = torch.linalg.eigh(covariance)
    root = (axes * size.clamp(min=0).sqrt()[:, None]) @ axes.mT
    return torch.cat([mean[..., 0], root.flatten(1)], dim=1).to(crops.dtype)


def square_crops(images: Images, side: int) -> Float[Tensor, "b n 3 side side"]:
    """As many square crops as fit without overlap, evenly spaced from edge to edge, row by row."""
    height, width = images.shape[2:]
    if not 1 <= side <= min(height, width):
        raise ValueError(f"crops of {side} pixels do not fit into images of {height} x {width}")
    tops, lefts = _starts(height, side), _starts(width, side)
    return torch.stack([images[:, :, y : y + side, x : x + side] for y in tops for x in lefts], dim=1)


def _starts(length: int, side: int) -> list[int]:
    count = length // side
    return [i * (length - side) // (count - 1) for i in range(count)] if count > 1 else [(length - side) // 2]


@torch.no_grad()
def warp_error(
    frames: Float[Tensor, "n 3 h w"], source: Others, flows: Flows | None = None, cuts: Collection[int] = ()
) -> float:
    """Flicker: mean absolute difference between each frame and the next, warped back along the flow of the source.

    The mean is over the visible pixels of each pair, then over pairs; pairs without visible pixels are skipped. It is
    in units of color: a frame that is brighter than its neighbors by d differs from both by d. Since flow is not exact,
    even a video without flicker has an error: compare with that of the source.

    Args:
        frames: edited frames, at least 2.
        source: frames from which they were edited.
        flows: `source_flows` of the source, if known; computed by default.
        cuts: indices of frames that begin a scene; pairs across a cut are skipped.

    Raises:
        ValueError: if shapes or numbers of images and flows differ, or there is no pair to compare.
    """
    _check(frames, source)
    flows = source_flows(source, cuts) if flows is None else flows
    if len(flows) != len(frames) - 1:
        raise ValueError(f"{len(flows)} flows for {len(frames)} frames: give one per pair of neighbors")
    errors = []
    for k, (flow, seen) in enumerate(flows):
        if k + 1 not in cuts and bool(seen.any()):
            errors.append((frames[k] - warp(frames[k + 1], flow)).abs().mean(0)[seen].mean().item())
    if not errors:
        raise ValueError(
            f"no pair among {len(frames)} frames has visible pixels in one scene: there is nothing to compare"
        )
    return math.fsum(errors) / len(errors)


def source_flows(
    source: Float[Tensor, "n 3 h w"], cuts: Collection[int] = ()
) -> list[tuple[Float[Tensor, "2 h w"], Bool[Tensor, "h w"]]]:
    """Optical flow from each frame to the next, and its visible pixels; none is visible across a cut."""
    flows = []
    for k in range(1, len(source)):
        if k in cuts:
            flows.append((torch.zeros_like(source[k, :2]), torch.zeros_like(source[k, 0], dtype=torch.bool)))
        else:
            forward = optical_flow(source[k - 1], source[k])
            flows.append((forward, visible(forward, optical_flow(source[k], source[k - 1]))))
    return flows


def _features(clip: Clip, images: Tensor, side: int | None) -> Tensor:
    """Unit image features of the crops, [b, crops, f]."""
    crops = _crops_or_whole(images, side)
    return clip.image_features(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])


def _crops_or_whole(images: Tensor, side: int | None) -> Tensor:
    return images[:, None] if side is None else square_crops(images, side)


def _checked_clip(clip: Clip | None, images: Tensor, others: Tensor | None = None) -> Clip:
    """Check the images, and return the CLIP model to use."""
    _check(images, others)
    return bundled_clip() if clip is None else clip


def _check(images: Tensor, others: Tensor | None = None) -> None:
    if others is not None and images.shape != others.shape:
        raise ValueError(f"expected images of one shape, not {list(images.shape)} and {list(others.shape)}")
    for given in (images, others):
        if given is not None and not bool(given.isfinite().all()):
            raise ValueError("images have values that are not finite: an edit that diverged cannot be measured")
