r"""Cameras: one convention for all of the library.

World: right-handed, z up, the thing at the origin; its front looks along -y. A camera sits at

    eye = r ( cos(e) sin(a), -cos(e) cos(a), sin(e) )         a azimuth, e elevation, r radius

so azimuth 0 looks at the front and azimuth 90 at the side that faces +x (Blender's front and right views).
Camera: x right, y up, looking along -z, as in OpenGL, Blender and the transforms.json of nerfstudio; `poses` take
camera coordinates to the world. Images: rows downwards; the center of pixel (row i, column j) is at
(j + 1/2, i + 1/2),

    direction = R ( (j + 1/2 - cx) / fx,  -(i + 1/2 - cy) / fy,  -1 )

Depth is measured along the axis of the camera, not along the ray. Files of OpenCV's convention (COLMAP: y down, z
forward) are converted where they are read (`capture`).

The law of random views is that of DreamFusion (Poole et al. 2022, https://arxiv.org/abs/2209.14988, section 3.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

PACKED = 16  # numbers of a packed camera: 12 of the pose, fx/w, fy/h, cx/w, cy/h


@dataclass(frozen=True)
class Cameras:
    """n pinhole cameras that take images of one size.

    Args:
        poses: camera to world, [n, 4, 4]; the upper left 3x3 are rotations.
        focal: (fx, fy) in pixels, [n, 2].
        center: principal points (cx, cy) in pixels, [n, 2].
        size: (height, width) of the images in pixels.

    Raises:
        ValueError: for shapes that do not fit together, or numbers that are not finite.
    """

    poses: Float[Tensor, "n 4 4"]
    focal: Float[Tensor, "n 2"]
    center: Float[Tensor, "n 2"]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        n = len(self.poses)
        if self.poses.shape != (n, 4, 4) or self.focal.shape != (n, 2) or self.center.shape != (n, 2):
            raise ValueError("cameras need poses [n, 4, 4], focal [n, 2] and center [n, 2]")
        if min(self.size) < 1:
            raise ValueError(f"images must be at least 1x1 pixels, not {self.size[1]}x{self.size[0]}")
        if not all(bool(v.isfinite().all()) for v in (self.poses, self.focal, self.center)):
            raise ValueError("a camera has numbers that are not finite")
        if bool((self.focal <= 0).any()):
            raise ValueError("focal lengths must be positive")

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index: int | slice | Sequence[int] | Int[Tensor, " k"]) -> "Cameras":
        """Some of the cameras, as cameras; a number gives one camera."""
        if isinstance(index, int):
            index = [index]
        return replace(self, poses=self.poses[index], focal=self.focal[index], center=self.center[index])

    def to(self, device: torch.device | str) -> "Cameras":
        """The same on another device."""
        return Cameras(self.poses.to(device), self.focal.to(device), self.center.to(device), self.size)

    @property
    def eyes(self) -> Float[Tensor, "n 3"]:
        """Where they stand."""
        return self.poses[:, :3, 3]

    @property
    def forward(self) -> Float[Tensor, "n 3"]:
        """Where they look, unit vectors."""
        return -self.poses[:, :3, 2]

    @property
    def azimuth(self) -> Float[Tensor, " n"]:
        """Degrees in [0, 360), seen from the origin."""
        x, y, _ = self.eyes.unbind(-1)
        degrees = torch.rad2deg(torch.atan2(x, -y)) % 360
        return torch.where(degrees >= 360, torch.zeros_like(degrees), degrees)  # -1e-6 % 360 rounds to 360

    @property
    def elevation(self) -> Float[Tensor, " n"]:
        """Degrees above the horizon, seen from the origin."""
        return torch.rad2deg(torch.atan2(self.eyes[:, 2], self.eyes[:, :2].norm(dim=-1)))

    def resized(self, size: tuple[int, int]) -> "Cameras":
        """The same cameras taking images of another size of the same scene."""
        scale = self.focal.new_tensor([size[1] / self.size[1], size[0] / self.size[0]])
        return Cameras(self.poses, self.focal * scale, self.center * scale, size)

    def rays(self) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w 3"]]:
        """Origins and unit directions of the rays through all pixel centers."""
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
        """Positions (column, row) in the images, in pixels, and depths along the axes; behind a camera these are < 0.

        The inverse of `rays`: a point on the ray of pixel (i, j) comes back at (j + 1/2, i + 1/2).
        """
        seen = torch.einsum("nji,nmj->nmi", self.poses[:, :3, :3], points - self.eyes[:, None])
        depth = -seen[..., 2]
        safe = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
        flat = torch.stack([seen[..., 0] / safe, -seen[..., 1] / safe], -1)
        return flat * self.focal[:, None] + self.center[:, None], depth

    def packed(self) -> Float[Tensor, "n 16"]:
        """One row per camera, whatever the size of the image: pose (3x4), focal and center in parts of the size."""
        size = self.focal.new_tensor([self.size[1], self.size[0]])
        return torch.cat([self.poses[:, :3].flatten(1), self.focal / size, self.center / size], 1)

    @classmethod
    def unpacked(cls, rows: Float[Tensor, "n 16"], size: tuple[int, int]) -> "Cameras":
        """Cameras from `packed` rows, for images of any size."""
        last = rows.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(rows), 1, 4)
        scale = rows.new_tensor([size[1], size[0]])
        return cls(
            torch.cat([rows[:, :12].reshape(-1, 3, 4), last], 1), rows[:, 12:14] * scale, rows[:, 14:16] * scale, size
        )

    @classmethod
    def cat(cls, cameras: Sequence["Cameras"]) -> "Cameras":
        """All of them, one after the other; their images must have one size.

        Raises:
            ValueError: for none, or for several sizes.
        """
        if not cameras or len({c.size for c in cameras}) > 1:
            raise ValueError("cameras to be joined must be at least one, and of one image size")
        joined = {name: torch.cat([getattr(c, name) for c in cameras]) for name in ("poses", "focal", "center")}
        return cls(**joined, size=cameras[0].size)


def look_at(
    eyes: Float[Tensor, "n 3"], target: Float[Tensor, "#n 3"] | None = None, up: Float[Tensor, "#n 3"] | None = None
) -> Float[Tensor, "n 4 4"]:
    """Poses of cameras at `eyes` that look at `target` (the origin), with `up` (+z) upwards in their images.

    Straight from above or below, where `up` says nothing, +y is upwards instead.

    Raises:
        ValueError: an eye is at its target.
    """
    target = eyes.new_zeros(1, 3) if target is None else target
    up = eyes.new_tensor([[0.0, 0.0, 1.0]]) if up is None else up
    back = eyes - target
    length = back.norm(dim=-1, keepdim=True)
    if bool((length <= 0).any()):
        raise ValueError("a camera stands where it looks: move it away from its target")
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
    """Cameras on a sphere around `target`, which they look at.

    Args:
        azimuth, elevation: degrees.
        radius: distance from the target.
        fov: vertical field of view, degrees, between 0 and 180.
        size: (height, width) of the images.
        target: the origin by default.

    Raises:
        ValueError: for a radius or field of view out of range.
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
    """n cameras at equal steps of azimuth, from `start` degrees: a turntable."""
    if n < 1:
        raise ValueError(f"an orbit needs at least one camera, not {n}")
    return around(start + torch.arange(n) * (360.0 / n), elevation, radius, fov, size)


@dataclass(frozen=True)
class RandomViews:
    """The law of random views: uniform on a part of the sphere, with a random distance, field of view and jitter.

    Azimuths are stratified: each of n views falls into a sector of its own, so that a step sees all sides.

    Args:
        elevation: (lo, hi) in degrees; uniform in the angle, as in DreamFusion, or by area with `by_area`.
        azimuth: (lo, hi) in degrees.
        radius: (lo, hi).
        fov: (lo, hi) in degrees; DreamFusion's focal multiplier [.7, 1.35] is 73 to 41 degrees.
        jitter: standard deviation of the point they look at.
        by_area: draw elevations so that every area of the sphere is as likely.
        light: (lo, hi) of the distance of a point light, drawn around the camera's direction; None for no light.
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
        """Draw n cameras."""
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
        """A point light for each camera: its direction is drawn around the camera's, N(direction, 1) normalized.

        Without `light` it stands at the camera.
        """
        if self.light is None:
            return cameras.eyes.clone()
        eyes = cameras.eyes
        towards = eyes / eyes.norm(dim=-1, keepdim=True) + torch.randn(eyes.shape, generator=rng).to(eyes)
        towards = towards / towards.norm(dim=-1, keepdim=True)
        lo, hi = self.light
        return towards * (lo + (hi - lo) * torch.rand(len(eyes), 1, generator=rng).to(eyes))
