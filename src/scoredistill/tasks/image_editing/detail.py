r"""Restores the source's own detail in an edit.

An editor works on a reduced image and through an autoencoder; both lose detail, and the autoencoder also flickers from
frame to frame. Let R be the reconstruction of the source (encoded and decoded) and E the decoded edit, both at the
working size. The lost detail is D = source - R at full size. Around every pixel E is approximately an affine function
of R, E ~ A R + b, found by least squares in a window (the color guided filter: Guided Image Filtering, He et al. 2013,
https://doi.org/10.1109/TPAMI.2012.213) and regularized towards the A of the whole image where there is little contrast.
Then

    result = up(E) + strength * up(A) D.

Where nothing was edited A = 1, and the result equals the source at every pixel, without flicker.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

RADIUS = 4  # pixels of the working size
RIDGE = 2e-3  # variance of color below which the A of the whole image prevails
STRIP = 256  # rows of the full image at once
MARGIN = 2 * RADIUS + 2  # rows of the working size around a strip that its gains depend on


def with_detail(
    source: Float[Tensor, "b 3 h w"],
    before: Float[Tensor, "b 3 p q"],
    after: Float[Tensor, "b 3 p q"],
    strength: float = 1.0,
    wrap: bool = False,
) -> Float[Tensor, "b 3 h w"]:
    """The edit at the size of the source, with the source's detail.

    Args:
        source: the source at full size, in [0, 1].
        before: R, the source at the working size through the autoencoder.
        after: E, the edit at the working size.
        strength: factor on the detail; with 0 the edit is only enlarged.
        wrap: whether the left border joins the right one.
    """
    if wrap:
        return _around(source, before, after, strength)
    size = (source.shape[-2], source.shape[-1])
    small = (before.shape[-2], before.shape[-1])
    whole = _overall(before, after)
    result = torch.empty_like(source)
    for top in range(0, size[0], STRIP):
        end = min(top + STRIP, size[0])
        made = _enlarged(after, size, top, end)
        if strength:
            first = max(0, top * small[0] // size[0] - MARGIN)  # of the rows at the working size that matter here
            last = min(small[0], -(-end * small[0] // size[0]) + MARGIN)
            gain = _local(before[..., first:last, :], after[..., first:last, :], whole).flatten(1, 2)
            a = _enlarged(gain, size, top, end, first, small[0]).unflatten(1, (3, 3))
            lost = source[..., top:end, :] - _enlarged(before, size, top, end)
            made = made + strength * torch.einsum("boihw,bihw->bohw", a, lost)
        result[..., top:end, :] = made.clamp(0, 1)
    return result


def _around(source: Tensor, before: Tensor, after: Tensor, strength: float) -> Tensor:
    """The same for a panorama: a strip of each side is appended to the other side and cropped again."""
    small = min(before.shape[-1], 4 * RADIUS)
    width, full = before.shape[-1], source.shape[-1]
    while full * small % width and small < width:  # equally wide at both sizes, so that nothing shifts
        small += 1
    large = full * small // width
    sides = lambda p, n: torch.cat([p[..., -n:], p, p[..., :n]], -1)
    made = with_detail(sides(source, large), sides(before, small), sides(after, small), strength)
    return made[..., large:-large]


def local_gain(before: Float[Tensor, "b 3 h w"], after: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 3 h w"]:
    """The matrix A of the module's description at every pixel, [edited color, color]."""
    return _local(before, after, _overall(before, after))


def _overall(before: Tensor, after: Tensor) -> Float[Tensor, "b 3 3"]:
    """A of the whole image, from at most about a million of its pixels."""
    step = max(1, round((before[0, 0].numel() / 1e6) ** 0.5))
    eye = 1e-6 * torch.eye(3, dtype=before.dtype)
    x, y = (p[..., ::step, ::step] - p[..., ::step, ::step].mean((2, 3), keepdim=True) for p in (before, after))
    var = torch.einsum("bihw,bjhw->bij", x, x) / x[0, 0].numel() + eye
    cov = torch.einsum("bohw,bihw->boi", y, x) / x[0, 0].numel() + eye
    return torch.linalg.solve(var, cov, left=False)  # A var = cov


def _local(before: Tensor, after: Tensor, whole: Tensor) -> Float[Tensor, "b 3 3 h w"]:
    """A in windows around every pixel, regularized towards `whole`."""
    eye = torch.eye(3, dtype=before.dtype)
    mean_x, mean_y = _mean(before), _mean(after)
    outer = lambda p, q: _mean((p[:, :, None] * q[:, None]).flatten(1, 2)).unflatten(1, (3, 3))
    local_var = outer(before, before) - mean_x[:, :, None] * mean_x[:, None]
    local_cov = outer(after, before) - mean_y[:, :, None] * mean_x[:, None]
    local_var = local_var.movedim((1, 2), (-2, -1)) + RIDGE * eye
    local_cov = local_cov.movedim((1, 2), (-2, -1)) + RIDGE * whole[:, None, None]
    a = torch.linalg.solve(local_var, local_cov, left=False).movedim((-2, -1), (1, 2))
    return _mean(a.flatten(1, 2)).unflatten(1, (3, 3))


def _mean(values: Tensor) -> Tensor:
    """Means over windows of 2 RADIUS + 1 pixels, of the pixels inside the image."""
    side = 2 * RADIUS + 1
    return functional.avg_pool2d(values, side, 1, RADIUS, count_include_pad=False)


def _enlarged(
    values: Tensor, size: tuple[int, int], top: int, end: int, first: int = 0, height: int | None = None
) -> Tensor:
    """Rows `top` to `end` of the values at another size, interpolated bilinearly between pixel centers.

    Args:
        values: the values.
        size: (height, width) of the enlarged values.
        top, end: range of rows.
        first, height: if `values` are rows of a taller image, the index of their first row and that image's height.
    """
    height, width = height or values.shape[-2], values.shape[-1]
    if (height, width) == size:
        return values[..., top - first : end - first, :]
    rows = (((torch.arange(top, end) + 0.5) * height / size[0]) - 0.5).clamp(0, height - 1)
    low = rows.floor().long()
    high, part = (low + 1).clamp(max=height - 1), (rows - low).to(values)[:, None]
    lines = values[..., low - first, :] * (1 - part) + values[..., high - first, :] * part
    return functional.interpolate(lines, (end - top, size[1]), mode="bilinear", align_corners=False)
