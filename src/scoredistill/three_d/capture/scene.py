r"""Captures, and the similarity transform that aligns their world with the axes of the library.

The point nearest to all optical axes, with camera centers o_i and viewing directions d_i, solves

    sum_i (I - d_i d_i^T) (x - o_i) = 0
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.rotations import rotation_to_z

NEAR_ORIGIN, DISTANCES, TILT = 0.5, (2.0, 5.0), 45.0  # a world within these limits is left as it is; TILT in degrees


@dataclass(frozen=True)
class Capture:
    """n posed images of one scene.

    Args:
        images: RGB in [0, 1], [n, 3, h, w].
        cameras: one per image.
        names: file names, with / between folders and without "images/".
        held_out: indices of the images held out for testing, in increasing order; the others are for training.
        alpha: opacity of each pixel, in [0, 1], [n, 1, h, w]; None if it is not known.
        depth: along the optical axis, in world units, [n, 1, h, w], 0 where it is not known; None if there is none.
        mask: 1 for the pixels to train and to evaluate on, 0 for others, [n, 1, h, w]; None for all pixels.

    Raises:
        ValueError: if shapes do not match, or no image is left for training.
    """

    images: Float[Tensor, "n 3 h w"]
    cameras: Cameras
    names: tuple[str, ...]
    held_out: tuple[int, ...] = ()
    alpha: Float[Tensor, "n 1 h w"] | None = None
    depth: Float[Tensor, "n 1 h w"] | None = None
    mask: Float[Tensor, "n 1 h w"] | None = None

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
        """Indices of the images that are not held out."""
        return tuple(i for i in range(len(self)) if i not in set(self.held_out))


@dataclass(frozen=True)
class Similarity:
    """The similarity transform x -> scale rotation (x - center), from an old world to a new one."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    center: Float[Tensor, " 3"]

    def __call__(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """Points in the coordinates of the new world."""
        return self.scale * (points - self.center.to(points)) @ self.rotation.to(points).T

    def inverse(self) -> Similarity:
        """The transform from the new world to the old one."""
        return Similarity(1 / self.scale, self.rotation.T, -self.scale * self.rotation @ self.center)

    def cameras(self, cameras: Cameras) -> Cameras:
        """Cameras in the coordinates of the new world; their images do not change."""
        poses = cameras.poses.clone()
        poses[:, :3, :3] = self.rotation.to(poses) @ cameras.poses[:, :3, :3]
        poses[:, :3, 3] = self(cameras.eyes)
        return replace(cameras, poses=poses)

    def capture(self, capture: Capture) -> Capture:
        """A capture in the coordinates of the new world; depths are scaled."""
        depth = None if capture.depth is None else capture.depth * self.scale
        return replace(capture, cameras=self.cameras(capture.cameras), depth=depth)


def normalized(capture: Capture, distance: float = 3.0, always: bool = False) -> tuple[Capture, Similarity]:
    """Transform the world so that its object is at the origin, upright, and of the size that the library expects.

    The point nearest to all optical axes becomes the origin, the mean up direction of the cameras becomes +z (by the
    smallest rotation), and the mean distance of the cameras becomes `distance`.

    A world that is aligned already is left unchanged, bit by bit: if the point is within 1/2 of the origin, the mean
    distance between 2 and 5, and up within 45 degrees of +z (views of the front from above tilt the mean).

    Args:
        capture: in any world.
        distance: mean distance of the cameras from the origin in the new world.
        always: transform even a world that is aligned already.

    Returns:
        The capture in its new world, and the transform from the old world to the new; its `inverse` leads back.

    Raises:
        ValueError: if all cameras look in one direction or stand in one place, or their up directions cancel.
    """
    if not distance > 0:
        raise ValueError(f"distance must be positive, not {distance}")
    poses = capture.cameras.poses.double()
    eyes, axes, ups = poses[:, :3, 3], -poses[:, :3, 2], poses[:, :3, 1].mean(0)
    across = torch.eye(3, dtype=poses.dtype) - axes[:, :, None] * axes[:, None, :]
    if float(torch.linalg.eigvalsh(across.mean(0))[0]) < 1e-6:
        raise ValueError(
            "all cameras look in one direction, so there is no point that they look at: add views from other sides"
        )
    center = torch.linalg.solve(across.sum(0), torch.einsum("nij,nj->i", across, eyes))
    mean = float((eyes - center).norm(dim=-1).mean())
    if mean < 1e-9:
        raise ValueError(
            "all cameras stand in one place, so the size of the scene is unknown: add views from other places"
        )
    if float(ups.norm()) < 1e-3:
        raise ValueError("the up directions of the cameras cancel: rotate the world upright by hand")
    up = ups / ups.norm()
    upright = float(up[2]) > math.cos(math.radians(TILT))
    if not always and upright and float(center.norm()) < NEAR_ORIGIN and DISTANCES[0] <= mean <= DISTANCES[1]:
        same = Similarity(1.0, torch.eye(3, dtype=poses.dtype), poses.new_zeros(3))
        return capture, same
    similarity = Similarity(distance / mean, rotation_to_z(up), center)
    moved = replace(capture.cameras, poses=poses)
    moved = similarity.cameras(moved)
    depth = None if capture.depth is None else capture.depth * similarity.scale
    cameras = replace(moved, poses=moved.poses.to(capture.cameras.focal))
    return replace(capture, cameras=cameras, depth=depth), similarity
