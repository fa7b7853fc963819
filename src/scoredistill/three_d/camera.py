r"""Pinhole cameras, in one convention for the whole library.

World: right-handed, z up, the object at the origin with its front towards -y. A camera with azimuth a, elevation e and
distance r stands at

    eye = r ( cos(e) sin(a), -cos(e) cos(a), sin(e) ),

so azimuth 0 sees the front and azimuth 90 the side that faces +x (the front and right views of Blender).

Camera: x right, y up, looking along -z, as in OpenGL, Blender and the transforms.json of nerfstudio; `poses` map camera
coordinates to the world. Images: rows run downwards, and pixel (row i, column j) has its center at (j + 1/2, i + 1/2).
With R the rotation of the pose, its ray has the direction

    R ( (j + 1/2 - cx) / fx,  -(i + 1/2 - cy) / fy,  -1 ).

Depth is measured along the optical axis, not along the ray. Files in OpenCV's convention (COLMAP: y down, z forward)
are converted when they are read (`capture`).

The distribution of random views follows DreamFusion (Poole et al. 2022, https://arxiv.org/abs/2209.14988, section 3.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

PACKED = 16  # numbers per packed camera: 12 of the pose, fx/w, fy/h, cx/w, cy/h


@dataclass(frozen=True)
class Cameras:
    """n pinhole cameras with images of one size.

    Args:
        poses: camera-to-world transforms, [n, 4, 4], whose upper left 3x3 blocks are rotations.
        focal: focal lengths (fx, fy) in pixels, [n, 2].
        center: principal points (cx, cy) in pixels, [n, 2].
        size: (height, width) of the images in pixels.

    Raises:
        ValueError: if shapes do not match, or a size is not positive; on the CPU also if a number is not finite, or a
            focal length is not positive.
    """

    poses: Float[Tensor, "n 4 4"]
    focal: Float[Tensor, "n 2"]
    center: Float[Tensor, "n 2"]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        n = len(self.poses)
        if self.poses.shape != (n, 4, 4) or self.focal.shape != (n, 2) or self.center.shape != (n, 2):
            raise ValueError("cameras need poses [n, 4, 4], focal [n, 2] and center [n, 2] with the same n")
        if min(self.size) < 1:
            raise ValueError(f"images must be at least 1x1 pixels, not {self.size[1]}x{self.size[0]}")
        if self.poses.device.type != "cpu":  # reading values would wait for the device, in every step
            return
        if not all(bool(v.isfinite().all()) for v in (self.poses, self.focal, self.center)):
            raise ValueError("poses, focal and center of cameras must be finite")
        if bool((self.focal <= 0).any()):
            raise ValueError("focal lengths must be positive")

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index: int | slice | Sequence[int] | Int[Tensor, " k"]) -> "Cameras":
        """A subset of the cameras, as `Cameras`; an integer index gives one camera."""
        if isinstance(index, int):
            index = [index]
        return replace(self, poses=self.poses[index], focal=self.focal[index], center=self.center[index])

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return Cameras(self.poses.to(device), self.focal.to(device), self.center.to(device), self.size)

    @property
    def eyes(self) -> Float[Tensor, "n 3"]:
        """Camera centers in the world."""
        return self.poses[:, :3, 3]

    @property
    def forward(self) -> Float[Tensor, "n 3"]:
        """Viewing directions, unit vectors in the world."""
        return -self.poses[:, :3, 2]

    @property
    def azimuth(self) -> Float[Tensor, " n"]:
        """Azimuths about the origin, degrees in [0, 360)."""
        x, y, _ = self.eyes.unbind(-1)
        degrees = torch.rad2deg(torch.atan2(x, -y)) % 360
        return torch.where(degrees >= 360, torch.zeros_like(degrees), degrees)  # -1e-6 % 360 rounds to 360

    @property
    def elevation(self) -> Float[Tensor, " n"]:
        """Elevations above the horizon about the origin, degrees in [-90, 90]."""
        return torch.rad2deg(torch.atan2(self.eyes[:, 2], self.eyes[:, :2].norm(dim=-1)))

    def resized(self, size: tuple[int, int]) -> "Cameras":
        """The same cameras with images of another size, (height, width), that show the same part of the scene."""
        scale = self.focal.new_tensor([size[1] / self.size[1], size[0] / self.size[0]])
        return Cameras(self.poses, self.focal * scale, self.center * scale, size)

    def rays(self) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w 3"]]:
        """Origins and unit directions of the rays through all pixel centers, in the world."""
        height, width = self.size
        rows = torch.arange(height, dtype=self.poses.dtype, device=self.poses.device) + 0.5
        columns = torch.arange(width, dtype=self.poses.dtype, device=self.poses.device) + 0.5
        across = (columns - self.center[:, :1]) / self.focal[:, :1]
        down = (rows - self.center[:, 1:]) / self.focal[:, 1:]
        x, y = across[:, None, :].expand(-1, height, -1), -down[:, :, None].expand(-1, -1, width)
        seen = torch.stack([x, y, -torch.ones_like(x)], -1)
        directions = torch.einsum("nij,nhwj->nhwi", self.poses[:, :3, :3], seen)
        origins = self.eyes[:, None, None].expand_as(directions)
        return origins, directions / directions.norm(dim=-1, keepdim=True)

    def project(self, points: Float[Tensor, "m 3"]) -> tuple[Float[Tensor, "n m 2"], Float[Tensor, "n m"]]:
        """Image positions (column, row) of points in pixels, and their depths, which are negative behind a camera.

        This is the inverse of `rays`: a point on the ray of pixel (i, j) is projected to (j + 1/2, i + 1/2).
        """
        seen = torch.einsum("nji,nmj->nmi", self.poses[:, :3, :3], points - self.eyes[:, None])
        depth = -seen[..., 2]
        safe = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
        flat = torch.stack([seen[..., 0] / safe, -seen[..., 1] / safe], -1)
        return flat * self.focal[:, None] + self.center[:, None], depth

    def packed(self) -> Float[Tensor, "n 16"]:
        """One row per camera, independent of the image size: pose (3x4), focal and center as fractions of the size."""
        size = self.focal.new_tensor([self.size[1], self.size[0]])
        return torch.cat([self.poses[:, :3].flatten(1), self.focal / size, self.center / size], 1)

    @classmethod
    def unpacked(cls, rows: Float[Tensor, "n 16"], size: tuple[int, int]) -> "Cameras":
        """Cameras from rows of `packed`, for images of any size."""
        last = rows.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(rows), 1, 4)
        scale = rows.new_tensor([size[1], size[0]])
        return cls(
            torch.cat([rows[:, :12].reshape(-1, 3, 4), last], 1), rows[:, 12:14] * scale, rows[:, 14:16] * scale, size
        )

    @classmethod
    def cat(cls, cameras: Sequence["Cameras"]) -> "Cameras":
        """Concatenate cameras whose images have one size.

        Raises:
            ValueError: if there are none, or their image sizes differ.
        """
        if not cameras or len({c.size for c in cameras}) > 1:
            raise ValueError("expected at least one set of cameras, all with one image size")
        joined = {name: torch.cat([getattr(c, name) for c in cameras]) for name in ("poses", "focal", "center")}
        return cls(**joined, size=cameras[0].size)


def look_at(
    eyes: Float[Tensor, "n 3"], target: Float[Tensor, "#n 3"] | None = None, up: Float[Tensor, "#n 3"] | None = None
) -> Float[Tensor, "n 4 4"]:
    """Poses of cameras at `eyes` that look at `target`, with `up` pointing upwards in their images.

    Args:
        eyes: camera centers.
        target: the origin by default.
        up: +z by default. Where a camera looks along it, +y points upwards instead.

    Raises:
        ValueError: if a camera stands at its target.
    """
    target = eyes.new_zeros(1, 3) if target is None else target
    up = eyes.new_tensor([[0.0, 0.0, 1.0]]) if up is None else up
    back = eyes - target
    length = back.norm(dim=-1, keepdim=True)
    if bool((length <= 0).any()):
        raise ValueError("a camera stands at its target, so it has no viewing direction: move it away")
    back = back / length
    right = torch.linalg.cross(up.expand_as(back), back, dim=-1)
    other = torch.linalg.cross(eyes.new_tensor([[0.0, 1.0, 0.0]]).expand_as(back), back, dim=-1)
    right = torch.where(right.norm(dim=-1, keepdim=True) > 1e-6, right, other)
    right = right / right.norm(dim=-1, keepdim=True)
    over = torch.linalg.cross(back, right, dim=-1)
    poses = torch.eye(4, dtype=eyes.dtype, device=eyes.device).repeat(len(eyes), 1, 1)
    poses[:, :3, :3] = torch.stack([right, over, back], -1)
    poses[:, :3, 3] = eyes
    return poses


def around(
    azimuth: Float[Tensor, " n"],
    elevation: Float[Tensor, " n"] | float = 0.0,
    radius: Float[Tensor, " n"] | float = 3.0,
    fov: Float[Tensor, " n"] | float = 40.0,
    size: tuple[int, int] = (64, 64),
    target: Float[Tensor, "#n 3"] | None = None,
) -> Cameras:
    """Cameras on spheres around `target`, looking at it.

    Args:
        azimuth, elevation: in degrees.
        radius: distance from the target.
        fov: vertical field of view in degrees, between 0 and 180.
        size: (height, width) of the images in pixels.
        target: the point they look at; the origin by default.

    Raises:
        ValueError: if a radius or field of view is out of range.
    """
    azimuth = azimuth if azimuth.is_floating_point() else azimuth.float()
    e, r, angle = (torch.as_tensor(v, dtype=azimuth.dtype).expand_as(azimuth) for v in (elevation, radius, fov))
    if bool((r <= 0).any()):
        raise ValueError("radius must be positive")
    if bool(((angle <= 0) | (angle >= 180)).any()):
        raise ValueError("fov must be between 0 and 180 degrees")
    a, e, angle = torch.deg2rad(azimuth), torch.deg2rad(e), torch.deg2rad(angle)
    target = azimuth.new_zeros(1, 3) if target is None else target
    away = torch.stack([e.cos() * a.sin(), -e.cos() * a.cos(), e.sin()], -1)
    focal = (size[0] / 2 / (angle / 2).tan())[:, None].expand(-1, 2)
    center = azimuth.new_tensor([size[1] / 2, size[0] / 2]).expand(len(azimuth), 2)
    return Cameras(look_at(target + r[:, None] * away, target), focal, center, size)


def orbit(
    n: int,
    elevation: float = 15.0,
    radius: float = 3.0,
    fov: float = 40.0,
    size: tuple[int, int] = (64, 64),
    start: float = 0.0,
) -> Cameras:
    """A turntable: n cameras at equal steps of azimuth, the first at `start` degrees; see `around` for the rest."""
    if n < 1:
        raise ValueError(f"an orbit needs at least one camera, not {n}")
    return around(start + torch.arange(n) * (360.0 / n), elevation, radius, fov, size)


@dataclass(frozen=True)
class RandomViews:
    """Distribution of random views: directions on a part of the sphere, distance, field of view and target.

    Azimuths are stratified: each of n views falls into its own sector, so that every step sees all sides.

    Args:
        elevation: (low, high) in degrees; uniform in the angle, as in DreamFusion, or in area with `by_area`.
        azimuth: (low, high) in degrees.
        radius: (low, high) of the distance from the target.
        fov: (low, high) of the vertical field of view in degrees. DreamFusion's focal multipliers, 0.7 to 1.35,
            correspond to 73 to 41 degrees.
        jitter: standard deviation of the target around the origin, along each axis.
        by_area: draw elevations so that equal areas of the sphere are equally likely.
        light: (low, high) of the distance of a point light whose direction is drawn around that of the camera; None
            for a light at the camera.

    Raises:
        ValueError: if a range is empty or out of bounds.
    """

    elevation: tuple[float, float] = (-10.0, 60.0)
    azimuth: tuple[float, float] = (0.0, 360.0)
    radius: tuple[float, float] = (2.8, 3.2)
    fov: tuple[float, float] = (40.0, 45.0)
    jitter: float = 0.0
    by_area: bool = False
    light: tuple[float, float] | None = field(default=(0.8, 1.5))

    def __post_init__(self) -> None:
        for name in ("elevation", "azimuth", "radius", "fov"):
            lo, hi = getattr(self, name)
            if not lo <= hi:
                raise ValueError(f"{name} must be (lo, hi) with lo <= hi, not {(lo, hi)}")
        if not -90 <= self.elevation[0] <= self.elevation[1] <= 90:
            raise ValueError(f"elevation must lie in [-90, 90] degrees, not {self.elevation}")
        if not self.radius[0] > 0 or not 0 < self.fov[0] <= self.fov[1] < 180:
            raise ValueError("radius must be positive, and fov between 0 and 180 degrees")
        if not self.jitter >= 0:
            raise ValueError(f"jitter must be at least 0, not {self.jitter}")

    def __call__(self, n: int, rng: torch.Generator | None = None, size: tuple[int, int] = (64, 64)) -> Cameras:
        """Draw n cameras with images of `size` (height, width)."""
        uniform = lambda lo, hi: lo + (hi - lo) * torch.rand(n, generator=rng)
        lo, hi = self.azimuth
        azimuth = lo + (hi - lo) * (torch.randperm(n, generator=rng) + torch.rand(n, generator=rng)) / n
        if self.by_area:
            low, high = (math.sin(math.radians(e)) for e in self.elevation)
            elevation = torch.rad2deg(uniform(low, high).clamp(-1, 1).asin())
        else:
            elevation = uniform(*self.elevation)
        target = self.jitter * torch.randn(n, 3, generator=rng)
        return around(azimuth, elevation, uniform(*self.radius), uniform(*self.fov), size, target)

    def lights(self, cameras: Cameras, rng: torch.Generator | None = None) -> Float[Tensor, "n 3"]:
        """Positions of one point light per camera, in the direction of N(direction of the camera, 1), normalized.

        If `light` is None, the lights are at the cameras.
        """
        if self.light is None:
            return cameras.eyes.clone()
        eyes = cameras.eyes
        towards = eyes / eyes.norm(dim=-1, keepdim=True) + torch.randn(eyes.shape, generator=rng).to(eyes)
        towards = towards / towards.norm(dim=-1, keepdim=True)
        lo, hi = self.light
        return towards * (lo + (hi - lo) * torch.rand(len(eyes), 1, generator=rng).to(eyes))
