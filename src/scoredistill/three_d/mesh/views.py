r"""Which triangle each pixel of a view sees, and where on it: an exact rasterizer of a fixed mesh.

In camera coordinates the ray of a pixel is t d with d = ((j + 1/2 - cx) / fx, -(i + 1/2 - cy) / fy, -1), so that t is
the depth along the optical axis. It meets the plane of a triangle ABC where a A + b B + c C = t d, which Cramer's rule
solves by three edge functions (Olano and Greer 1997, Triangle scan conversion using 2D homogeneous coordinates):

    e_a = d . (B x C),  e_b = d . (C x A),  e_c = d . (A x B),       (a, b, c) = (e_a, e_b, e_c) / (e_a + e_b + e_c),
    t = A . (B x C) / (e_a + e_b + e_c).

The pixel lies in the triangle if the three have one sign and t is positive. Nothing is divided by the depth of a
vertex, so triangles that cross the plane of the camera need no clipping. The edge function of a shared edge differs
between its two triangles by the sign alone, also in floating point, so neighbors leave no gap. Both sides are visible.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.three_d.camera import Cameras

CANDIDATES = 2**20  # pairs of triangle and pixel that are tested at once
NEAR = 1e-6  # smallest visible depth


@dataclass(frozen=True)
class Fragments:
    """What the centers of the pixels of n views see.

    Attributes:
        face: index of the nearest triangle, -1 where the view is empty, [n, h, w].
        corner: barycentric coordinates of the visible point, 0 where the view is empty, [n, h, w, 3].
        depth: along the optical axis, 0 where the view is empty, [n, h, w].
    """

    face: Int[Tensor, "n h w"]
    corner: Float[Tensor, "n h w 3"]
    depth: Float[Tensor, "n h w"]

    @property
    def hit(self) -> Tensor:
        """Where a triangle is seen, bool [n, h, w]."""
        return self.face >= 0


@torch.no_grad()
def rasterize_views(corners: Float[Tensor, "f 3 3"], cameras: Cameras) -> Fragments:
    """Rasterize triangles into n views, in float64.

    Args:
        corners: positions of the corners of the triangles in the world.
        cameras: n cameras, on the device of the triangles.

    Returns:
        The fragments, with numbers in the type of the corners. Of triangles at the same depth, the first one is seen.
    """
    height, width = cameras.size
    n = len(cameras)
    face = torch.full((n, height * width), -1, device=corners.device)
    corner = corners.new_zeros(n, height * width, 3)
    depth = corners.new_zeros(n, height * width)
    precise = torch.float32 if corners.device.type == "mps" else torch.float64  # which MPS does not have
    for k in range(n):
        one = _View.of(corners.to(precise), cameras[k], precise)
        owner = one.owners()
        hit = (owner < len(corners)).nonzero()[:, 0]
        if len(hit):
            parts, along = one.solved(owner[hit], hit % width, hit // width)
            face[k, hit] = owner[hit]
            corner[k, hit], depth[k, hit] = parts.to(corners), along.to(corners)
    shape = (n, height, width)
    return Fragments(face.view(shape), corner.view(*shape, 3), depth.view(shape))


@dataclass(frozen=True)
class _View:
    """Triangles in the coordinates of one camera.

    Attributes:
        corners: of the triangles, [f, 3, 3].
        edges: normals of the planes through the eye and an edge, B x C, C x A and A x B, [f, 3, 3].
        volume: A . (B x C), [f].
        focal, center: of the camera, in pixels.
        size: (height, width) in pixels.
    """

    corners: Tensor
    edges: Tensor
    volume: Tensor
    focal: tuple[float, float]
    center: tuple[float, float]
    size: tuple[int, int]

    @classmethod
    def of(cls, corners: Tensor, camera: Cameras, dtype: torch.dtype) -> "_View":
        pose = camera.poses[0].to(dtype)
        away = corners - pose[:3, 3]
        # a sum of products one by one: equal corners of two triangles stay equal, which a matrix product may not keep
        seen = torch.stack(
            [away[..., 0] * pose[0, i] + away[..., 1] * pose[1, i] + away[..., 2] * pose[2, i] for i in range(3)], -1
        )
        a, b, c = seen.unbind(1)
        edges = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], 1)
        (fx, fy), (cx, cy) = camera.focal[0].tolist(), camera.center[0].tolist()
        return cls(seen, edges, (a * edges[:, 0]).sum(-1), (fx, fy), (cx, cy), camera.size)

    def owners(self) -> Int[Tensor, " p"]:
        """The nearest triangle of each pixel; the number of triangles where there is none."""
        height, width = self.size
        count = len(self.corners)
        nearest = self.corners.new_full((height * width,), torch.inf)
        owner = torch.full((height * width,), count, device=self.corners.device)
        low, high, shown = self._boxes()
        which = shown.nonzero()[:, 0]
        for some, column, row in candidates(low[which], high[which]):
            face = which[some]
            _, depth = self.solved(face, column, row)
            inside = depth.isfinite()
            face, depth, pixel = face[inside], depth[inside], (row * width + column)[inside]
            before = nearest[pixel]
            nearest.scatter_reduce_(0, pixel, depth, "amin")
            won = (depth == nearest[pixel]) & (depth < before)
            owner[pixel[won]] = count
            owner.scatter_reduce_(0, pixel[won], face[won], "amin")
        return owner

    def solved(
        self, face: Int[Tensor, " k"], column: Int[Tensor, " k"], row: Int[Tensor, " k"]
    ) -> tuple[Tensor, Tensor]:
        """Barycentric coordinates [k, 3] of pixel centers in triangles, and depths [k], infinite outside."""
        x = (column + 0.5 - self.center[0]) / self.focal[0]
        y = -(row + 0.5 - self.center[1]) / self.focal[1]
        normals = self.edges[face]
        parts = x[:, None] * normals[..., 0] + y[:, None] * normals[..., 1] - normals[..., 2]
        total = parts.sum(-1)
        inside = ((parts >= 0).all(-1) | (parts <= 0).all(-1)) & (total != 0)
        total = torch.where(inside, total, torch.ones_like(total))
        depth = self.volume[face] / total
        return parts / total[:, None], torch.where(inside & (depth > NEAR), depth, torch.inf)

    def _boxes(self) -> tuple[Tensor, Tensor, Tensor]:
        """First and last (column, row) of the pixels that triangles can cover, [f, 2], and whether there are any."""
        height, width = self.size
        ahead = -self.corners[..., 2]
        last = self.corners.new_tensor([width - 1, height - 1])
        safe = ahead.clamp(min=NEAR)
        place = torch.stack(
            [
                self.corners[..., 0] / safe * self.focal[0] + self.center[0],
                self.center[1] - self.corners[..., 1] / safe * self.focal[1],
            ],
            -1,
        ).clamp(-1e9, 1e9)
        low, high = (place.amin(1) - 0.5).floor(), (place.amax(1) - 0.5).ceil()
        crossing = (ahead.amin(1) <= NEAR)[:, None]
        low, high = torch.where(crossing, 0, low), torch.where(crossing, last, high)
        shown = (low <= last).all(-1) & (high >= 0).all(-1) & (ahead.amax(1) > NEAR)
        return low.clamp(min=0).minimum(last).long(), high.clamp(min=0).minimum(last).long(), shown


def candidates(
    low: Int[Tensor, "f 2"], high: Int[Tensor, "f 2"], most: int | None = None
) -> Iterator[tuple[Int[Tensor, " k"], Int[Tensor, " k"], Int[Tensor, " k"]]]:
    """All pairs of a triangle and a pixel in its bounding box, in parts of bounded size.

    Args:
        low, high: first and last (column, row) of each box.
        most: largest number of pairs in a part, unless a single triangle has more; `CANDIDATES` by default.

    Yields:
        Index of the triangle, column and row of the pixel.
    """
    extent = high - low + 1
    many = extent.prod(-1)
    ends = many.cumsum(0)
    parts = torch.bincount((ends - 1).clamp(min=0) // (most or CANDIDATES))
    for faces in torch.arange(len(low), device=low.device).split(parts.tolist()):
        face = faces.repeat_interleave(many[faces])
        first = (many[faces].cumsum(0) - many[faces]).repeat_interleave(many[faces])
        number = torch.arange(len(face), device=low.device) - first
        yield (
            face,
            low[face, 0] + number % extent[face, 0],
            low[face, 1] + torch.div(number, extent[face, 0], rounding_mode="floor"),
        )


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross products, antisymmetric also in floating point: no product is fused with a sum."""
    (a0, a1, a2), (b0, b1, b2) = a.unbind(-1), b.unbind(-1)
    return torch.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1)
