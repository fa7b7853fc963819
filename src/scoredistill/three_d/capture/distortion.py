r"""Lenses with distortion, and images as a pinhole camera would have taken them.

With x = (column - cx) / fx, y = (row - cy) / fy and r^2 = x^2 + y^2 of a ray, the models OPENCV, FULL_OPENCV, RADIAL
and SIMPLE_RADIAL (https://docs.opencv.org/4.x/d9/d0c/group__calib3d.html) see it at

    x' = x a + 2 p1 x y + p2 (r^2 + 2 x^2),        a = (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6)
    y' = y a + p1 (r^2 + 2 y^2) + 2 p2 x y.

Nerfstudio (and Metashape, whose cameras it takes) has a term r^8 in the numerator instead, with coefficient r8 here.

The pinhole camera keeps the principal point; its focal length is enlarged until its whole image is seen by the lens.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

LARGEST_ZOOM, STEP = 2.0, 0.005  # of the focal length, and by how much it grows until the image is covered
SLACK = 0.5  # pixels by which an image may be exceeded: half of its outermost ones
ROWS = 128  # of an image that are looked up at one time


@dataclass(frozen=True)
class Distortion:
    """Coefficients of the model above; those that a lens lacks are 0.

    Raises:
        ValueError: if a coefficient is not finite.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0
    r8: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite(astuple(self)).all():
            raise ValueError("the distortion of a lens must be finite numbers")

    def __bool__(self) -> bool:
        return any(astuple(self))

    def __call__(
        self, x: Float[np.ndarray, "*s"], y: Float[np.ndarray, "*s"]
    ) -> tuple[Float[np.ndarray, "*s"], Float[np.ndarray, "*s"]]:
        """Where rays are seen, in units of the focal length from the principal point."""
        r2 = x * x + y * y
        above = 1 + r2 * (self.k1 + r2 * (self.k2 + r2 * (self.k3 + r2 * self.r8)))
        scale = above / (1 + r2 * (self.k4 + r2 * (self.k5 + r2 * self.k6)))
        seen_x = x * scale + 2 * self.p1 * x * y + self.p2 * (r2 + 2 * x * x)
        return seen_x, y * scale + self.p1 * (r2 + 2 * y * y) + 2 * self.p2 * x * y


@lru_cache(maxsize=64)
def zoom(distortion: Distortion, lens: tuple[float, float, float, float], size: tuple[int, int]) -> float:
    """The factor of the focal length with which a pinhole camera sees only what the lens sees, at least 1.

    Args:
        distortion: of the lens.
        lens: fx, fy, cx, cy in pixels.
        size: (width, height) of the image.

    Raises:
        ValueError: if no factor up to 2 is enough.
    """
    fx, fy, cx, cy = lens
    across, down = np.linspace(0, size[0], 65), np.linspace(0, size[1], 65)
    x, y = np.meshgrid((across - cx) / fx, (down - cy) / fy)
    for factor in np.arange(1, LARGEST_ZOOM, STEP):
        with np.errstate(all="ignore"):
            seen_x, seen_y = distortion(x / factor, y / factor)
        column, row = seen_x * fx + cx, seen_y * fy + cy
        inside = (np.abs(column - size[0] / 2) <= size[0] / 2 + SLACK) & (
            np.abs(row - size[1] / 2) <= size[1] / 2 + SLACK
        )
        turning = np.diff(column, axis=1)[1:] * np.diff(row, axis=0)[:, 1:]
        turning -= np.diff(column, axis=0)[:, 1:] * np.diff(row, axis=1)[1:]
        if inside.all() and (turning > 0).all():  # and nothing is seen twice
            return float(factor)
    raise ValueError("the distortion of a lens is too strong for a pinhole camera: undistort the images first")


def undistorted(
    image: Float[np.ndarray, "h w c"], distortion: Distortion, lens: tuple[float, float, float, float], factor: float
) -> Float[np.ndarray, "h w c"]:
    """An image as the pinhole camera of the same size sees it, by bilinear interpolation.

    Args:
        image: as the lens saw it.
        distortion: of the lens.
        lens: fx, fy, cx, cy of the lens in pixels of this image.
        factor: `zoom`; the pinhole camera has the focal lengths fx and fy times it.
    """
    height, width = image.shape[:2]
    fx, fy, cx, cy = lens
    source = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
    x = (np.arange(width) + 0.5 - cx) / (fx * factor)
    strips: list[Tensor] = []
    for top in range(0, height, ROWS):
        y = (np.arange(top, min(top + ROWS, height)) + 0.5 - cy) / (fy * factor)
        seen_x, seen_y = distortion(*np.meshgrid(x, y))
        place = np.stack([(seen_x * fx + cx) * (2 / width) - 1, (seen_y * fy + cy) * (2 / height) - 1], -1)
        grid = torch.from_numpy(place.astype(np.float32))[None]
        strips.append(grid_sample(source, grid, padding_mode="border", align_corners=False)[0])
    return torch.cat(strips, 1).permute(1, 2, 0).numpy()
