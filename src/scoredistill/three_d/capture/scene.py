r"""Posed images as one value, and the similarity that puts their world upright.

The point nearest to all optical axes, with eyes o_i and directions d_i, solves

    sum_i (I - d_i d_i^T) (x - o_i) = 0
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.three_d.camera import Cameras

NEAR_ORIGIN, DISTANCES, TILT = 0.5, (2.0, 5.0), 45.0  # what `normalized` takes for upright; TILT in degrees


@dataclass(frozen=True)
class Capture:
    """n posed images of one scene.

    Args:
        images: RGB in [0, 1], [n, 3, h, w].
        cameras: one for each image.
        names: file names, with / between folders and without "images/".
        held_out: indices kept for testing, in increasing order; the others are for training.
        alpha: covered part of each pixel, in [0, 1].
        depth: along the axis of the camera, in units of the world; 0 where it is not known.

    Raises:
        ValueError: the parts do not fit together, or no image is left for training.
    """

    images: Float[Tensor, "n 3 h w"]
    cameras: Cameras
    names: tuple[str, ...]
    held_out: tuple[int, ...] = ()
    alpha: Float[Tensor, "n 1 h w"] | None = None
    depth: Float[Tensor, "n 1 h w"] | None = None

    def __post_init__(self) -> None:
        n, size = len(self.images), tuple(self.images.shape[2:])
        if len(self.cameras) != n or len(self.names) != n:
            raise ValueError(f"{n} images need as many cameras and names, not {len(self.cameras)}, {len(self.names)}")
        if size != tuple(self.cameras.size):
            raise ValueError(f"images of {size[1]}x{size[0]} pixels need cameras of that size")
        if list(self.held_out) != sorted(set(self.held_out)) or not set(self.held_out) <= set(range(n)):
            raise ValueError(f"held_out must be increasing indices below {n}, not {self.held_out}")
        if n and len(self.held_out) == n:
            raise ValueError("all images are held out: leave some for training")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def training(self) -> tuple[int, ...]:
        """Indices that are not held out."""
        return tuple(i for i in range(len(self)) if i not in set(self.held_out))


@dataclass(frozen=True)
class Similarity:
    """x -> scale rotation (x - center)."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    center: Float[Tensor, 3]

    def __call__(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """Points of the old world in the new one."""
        return self.scale * (points - self.center.to(points)) @ self.rotation.to(points).T

    def inverse(self) -> Similarity:
        """From the new world to the old one."""
        return Similarity(1 / self.scale, self.rotation.T, -self.scale * self.rotation @ self.center)

    def cameras(self, cameras: Cameras) -> Cameras:
        """The same cameras in the new world; their images do not change."""
        poses = cameras.poses.clone()
        poses[:, :3, :3] = self.rotation.to(poses) @ cameras.poses[:, :3, :3]
        poses[:, :3, 3] = self(cameras.eyes)
        return replace(cameras, poses=poses)

    def capture(self, capture: Capture) -> Capture:
        """The same images in the new world; depths are scaled."""
        depth = None if capture.depth is None else capture.depth * self.scale
        return replace(capture, cameras=self.cameras(capture.cameras), depth=depth)


def normalized(capture: Capture, distance: float = 3.0, always: bool = False) -> tuple[Capture, Similarity]:
    """Move the world so that its thing is at the origin, upright and of the size that the library expects.

    The point nearest to all optical axes becomes the origin, the mean of the cameras' up directions +z (by the
    smallest rotation), and the mean distance of the cameras `distance`.

    A world that stands so already is left as it is, bit by bit: the point is within 1/2 of the origin, the mean
    distance between 2 and 5, and up within 45 degrees of +z (views of the front from above tilt the mean).

    Args:
        capture: in any world.
        distance: mean distance of the cameras from the origin, in the new world.
        always: move even a world that stands right.

    Returns:
        The capture in its new world, and the similarity from the old world to the new; its `inverse` leads back.

    Raises:
        ValueError: all cameras look along one direction or stand in one place, or their up directions cancel.
    """
    if not distance > 0:
        raise ValueError(f"distance must be positive, not {distance}")
    poses = capture.cameras.poses.double()
    eyes, axes, ups = poses[:, :3, 3], -poses[:, :3, 2], poses[:, :3, 1].mean(0)
    across = torch.eye(3, dtype=poses.dtype) - axes[:, :, None] * axes[:, None, :]
    if float(torch.linalg.eigvalsh(across.mean(0))[0]) < 1e-6:
        raise ValueError("all cameras look along one direction: there is no point that they look at")
    center = torch.linalg.solve(across.sum(0), torch.einsum("nij,nj->i", across, eyes))
    mean = float((eyes - center).norm(dim=-1).mean())
    if mean < 1e-9:
        raise ValueError("all cameras stand in one place: there is nothing to tell the size of the scene by")
    if float(ups.norm()) < 1e-3:
        raise ValueError("the cameras' up directions cancel: turn the world upright by hand")
    up = ups / ups.norm()
    upright = float(up[2]) > math.cos(math.radians(TILT))
    if not always and upright and float(center.norm()) < NEAR_ORIGIN and DISTANCES[0] <= mean <= DISTANCES[1]:
        same = Similarity(1.0, torch.eye(3, dtype=poses.dtype), poses.new_zeros(3))
        return capture, same
    similarity = Similarity(distance / mean, _rotation(up), center)
    moved = replace(capture.cameras, poses=poses)
    moved = similarity.cameras(moved)
    depth = None if capture.depth is None else capture.depth * similarity.scale
    cameras = replace(moved, poses=moved.poses.to(capture.cameras.poses))
    return replace(capture, cameras=cameras, depth=depth), similarity


def _rotation(up: Float[Tensor, 3]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that takes a unit vector to +z (Rodrigues); half a turn about x for -z."""
    x, y, z = up.tolist()
    if z < -1 + 1e-9:
        return torch.diag(up.new_tensor([1.0, -1.0, -1.0]))
    cross = up.new_tensor([[0, 0, -x], [0, 0, -y], [x, y, 0]])  # of the axis up x z = (y, -x, 0)
    return torch.eye(3, dtype=up.dtype) + cross + cross @ cross / (1 + z)
