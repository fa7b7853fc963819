r"""Rasterization of Gaussians: EWA splatting (Zwicker et al. 2001), as in Kerbl et al. 2023, section 4.

In coordinates of a camera that looks along +z with y down, a Gaussian at (x, y, z) with covariance Sigma projects to

    center   (fx x/z + cx, fy y/z + cy),      Sigma' = J W Sigma W^T J^T + blur I,
    J        [fx/z, 0, -fx x/z^2;  0, fy/z, -fy y/z^2]     (x/z clamped to 1.3 times the image, as there)
    alpha(p) = min(.999, opacity exp(-(p - center)^T Sigma'^-1 (p - center) / 2))

and Gaussians are composited in order of z, nearest first:  sum_i f_i w_i,  w_i = alpha_i prod_(j < i) (1 - alpha_j).

The torch rasterizer has no tiles and no cutoff at alpha < 1/255, unlike those on CUDA. It is exact up to rounding and
slow, O(g h w), and serves as the reference for the others. Its memory is bounded (`composite`). There are first
derivatives only, with the order of the Gaussians held fixed.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.splatting.composite import Composite
from scoredistill.three_d.splatting.gaussians import Gaussians

TRANSPARENT = -1e4  # logit of an opacity of 0
SEEN = 1e-3  # opacity below which a pixel counts as empty and has depth 0


@dataclass(frozen=True)
class Layers:
    """Rasterized Gaussians for n cameras, without a background.

    Attributes:
        features: composited features, premultiplied by opacity, [n, c, h, w].
        opacity: in [0, 1], [n, 1, h, w].
        depth: mean depth along the optical axis, weighted by visibility, [n, 1, h, w]; 0 where the image is empty.
    """

    features: Float[Tensor, "n c h w"]
    opacity: Float[Tensor, "n 1 h w"]
    depth: Float[Tensor, "n 1 h w"]


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    features: Float[Tensor, "n g c"] | None = None,
    backend: str = "auto",
    near: float = 0.2,
    blur: float = 0.3,
    chunk: int | None = None,
) -> Layers:
    """Rasterize Gaussians for each camera, differentiably.

    Args:
        gaussians: to rasterize.
        cameras: n cameras.
        features: values to composite, per camera; by default the colors seen by the camera.
        backend: "torch", "gsplat" (https://github.com/nerfstudio-project/gsplat, CUDA) or "auto": gsplat for Gaussians
            on CUDA if it is installed, else torch.
        near: Gaussians whose depth is at most this are skipped.
        blur: variance added to the projected Gaussians, in square pixels, so that none is smaller than a pixel.
        chunk: largest number of Gaussians times pixels that torch holds at once; by default 2^18 on a CPU, which fits
            its cache, and 2^24 elsewhere.

    Raises:
        ValueError: if the backend is unknown.
        RuntimeError: if backend is "gsplat" and gsplat is not installed.
    """
    features = gaussians.rgb(cameras.eyes) if features is None else features
    if backend not in ("auto", "torch", "gsplat"):
        raise ValueError(f'backend must be "auto", "torch" or "gsplat", not {backend!r}')
    there = find_spec("gsplat") is not None
    if backend == "gsplat" and not there:
        raise RuntimeError('gsplat is not installed: install it, or use backend="torch"')
    if backend == "gsplat" or (backend == "auto" and there and gaussians.means.is_cuda):
        return _gsplat(gaussians, cameras, features, near, blur)
    chunk = chunk or (2**24 if gaussians.means.is_cuda else 2**18)
    seen = [_image(gaussians, cameras[i], features[i], near, blur, chunk) for i in range(len(cameras))]
    return _layers(*torch.stack(seen).split([features.shape[2], 1, 1], 1))


def project(
    gaussians: Gaussians, camera: Cameras, blur: float = 0.3
) -> tuple[Float[Tensor, "g 2"], Float[Tensor, "g 2 2"], Float[Tensor, " g"]]:
    """Project Gaussians: centers in pixels (column, row), covariances in square pixels, and depths, for one camera.

    Depths must not be 0: remove Gaussians that are too near first.
    """
    turn = camera.poses[0, :3, :3] * camera.poses.new_tensor([1.0, -1.0, -1.0])  # columns: right, down, forward
    seen = (gaussians.means - camera.eyes) @ turn
    z = seen[:, 2]
    focal, center = camera.focal[0], camera.center[0]
    size = focal.new_tensor([camera.size[1], camera.size[0]])
    slope = seen[:, :2] / z[:, None]
    margin = 0.15 * size / focal  # .3 of half the image
    held = slope.clamp(-center / focal - margin, (size - center) / focal + margin)
    roots = turn.T @ gaussians.roots()
    flat = (roots[:, :2] - held[..., None] * roots[:, 2:]) * (focal / z[:, None])[..., None]  # J W R S
    return slope * focal + center, flat @ flat.mT + blur * torch.eye(2, dtype=z.dtype, device=z.device), z


def _image(gaussians: Gaussians, camera: Cameras, features: Tensor, near: float, blur: float, chunk: int) -> Tensor:
    """Features, opacity, and depth times opacity of one camera, [c + 2, h, w]."""
    height, width = camera.size
    with torch.no_grad():
        depth = (gaussians.means - camera.eyes) @ camera.forward[0]
        order = depth.argsort()
        if depth.device.type == "cpu":  # elsewhere, a selection would wait for the device
            order = order[depth[order] > near]
    if len(order) == 0:
        return features.sum() * 0 + features.new_zeros(features.shape[1] + 2, height, width)
    kept = Gaussians(*(getattr(gaussians, name)[order] for name in Gaussians.__dataclass_fields__))
    if depth.device.type != "cpu":
        kept = _hidden(kept, (depth > near)[order], camera)
    centers, covariances, z = project(kept, camera, blur)
    (a, b), (_, c) = (row.unbind(1) for row in covariances.unbind(1))
    carried = torch.cat([features[order], torch.ones_like(z)[:, None], z[:, None]], 1)
    rows = torch.arange(height, dtype=z.dtype, device=z.device) + 0.5
    columns = torch.arange(width, dtype=z.dtype, device=z.device) + 0.5
    x, y = columns[:, None] - centers[:, 0], rows[:, None] - centers[:, 1]
    opacity, area = logsigmoid(kept.opacities), a * c - b * b
    peak = (opacity - 0.5 * y * y / c).detach()
    down = opacity - 0.5 * a / area * y * y
    shapes = (-0.5 * c / area * x * x, down, b / area * y, x)
    return Composite.apply(*shapes, carried, peak, chunk).permute(2, 0, 1)


def _hidden(gaussians: Gaussians, front: Bool[Tensor, " g"], camera: Cameras) -> Gaussians:
    """The Gaussians with those that are not in front replaced by transparent ones at a depth of 1."""
    ahead = camera.eyes + camera.forward
    return replace(
        gaussians,
        means=torch.where(front[:, None], gaussians.means, ahead),
        opacities=torch.where(front, gaussians.opacities, torch.full_like(gaussians.opacities, TRANSPARENT)),
    )


def _layers(features: Tensor, opacity: Tensor, depth: Tensor) -> Layers:
    """Layers from a depth that is multiplied by the opacity."""
    there = opacity > SEEN
    return Layers(features, opacity, torch.where(there, depth / torch.where(there, opacity, 1), 0))


def _gsplat(gaussians: Gaussians, cameras: Cameras, features: Tensor, near: float, blur: float) -> Layers:
    """Rasterize with gsplat, whose cameras look along +z with y down."""
    height, width = cameras.size
    views = torch.linalg.inv(cameras.poses) * cameras.poses.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None]
    inner = torch.zeros_like(cameras.poses[:, :3, :3])
    inner[:, 0, 0], inner[:, 1, 1] = cameras.focal.unbind(1)
    inner[:, :2, 2], inner[:, 2, 2] = cameras.center, 1
    images, opacity, _ = import_module("gsplat").rasterization(
        gaussians.means,
        gaussians.quaternions,
        gaussians.scales.exp(),
        gaussians.opacities.sigmoid(),
        features.contiguous(),
        views,
        inner,
        width,
        height,
        near_plane=near,
        eps2d=blur,
        render_mode="RGB+D",
    )
    split = images.permute(0, 3, 1, 2).split([features.shape[2], 1], 1)
    return _layers(split[0], opacity.permute(0, 3, 1, 2), split[1])
