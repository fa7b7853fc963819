"""Gaussian splats as a generator: 3D Gaussian Splatting (Kerbl et al. 2023), https://arxiv.org/abs/2308.04079."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scoredistill.rng import draw_noise
from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.scenes.base import PLAIN, Look, Rendering, Scene
from scoredistill.three_d.splatting.gaussians import Gaussians
from scoredistill.three_d.splatting.rasterizer import SEEN, rasterize


class Splats(Scene):
    """Gaussians in the unit ball, seen by cameras. The parameters are those of `Gaussians`, one row per Gaussian.

    `splatting.Densify` changes their number between steps. Shading is computed per Gaussian; its normal is the shortest
    axis, turned towards the camera, which is meaningful once Gaussians have become flat. No Gaussian faces away, so
    there is no penalty `orientation`.

    Args:
        n: number of initial Gaussians, uniform in a ball.
        radius: of that ball.
        opacity: initial opacity, in (0, 1).
        degree: of the spherical harmonics of color, 0 (the same from all directions) or 1.
        gaussians: initial Gaussians; n, radius, opacity and degree are then not used.
        backend: see `rasterize`.
        chunk: see `rasterize`.
        rng: draws positions and colors (gray, with a standard deviation of 0.1).
        **scene: see `Scene`.

    Raises:
        ValueError: for fewer than 4 random Gaussians, or a radius, opacity or degree out of range.
    """

    def __init__(
        self,
        n: int = 2000,
        radius: float = 0.6,
        opacity: float = 0.1,
        degree: int = 0,
        gaussians: Gaussians | None = None,
        backend: str = "auto",
        chunk: int | None = None,
        rng: torch.Generator | None = None,
        **scene: Any,
    ):
        super().__init__(**scene)
        if not radius > 0:
            raise ValueError(f"radius must be positive, not {radius}")
        if gaussians is None:
            directions = functional.normalize(draw_noise(torch.empty(n, 3), rng), dim=1)
            points = radius * directions * torch.rand(n, 1, generator=rng) ** (1 / 3)
            colors = 0.5 + 0.1 * draw_noise(torch.empty(n, 3), rng)
            gaussians = Gaussians.of_points(points, colors, opacity, degree)
        self.backend, self.chunk = backend, chunk
        self.means = nn.Parameter(gaussians.means.detach().clone())
        self.scales = nn.Parameter(gaussians.scales.detach().clone())
        self.quaternions = nn.Parameter(gaussians.quaternions.detach().clone())
        self.opacities = nn.Parameter(gaussians.opacities.detach().clone())
        self.colors = nn.Parameter(gaussians.colors.detach().clone())

    def gaussians(self) -> Gaussians:
        """The current parameters, for `rasterize` and `write_ply`."""
        return Gaussians(self.means, self.scales, self.quaternions, self.opacities, self.colors)

    def render(self, cameras: Cameras, look: Look = PLAIN, normals: bool = False) -> Rendering:
        """Rasterize images; see `Scene.render`."""
        n = len(cameras)
        gaussians = self.gaussians()
        carried = gaussians.rgb(cameras.eyes)
        light, shading, backdrop, shaded, own = self._filled(look, cameras.eyes)
        if normals or shaded:
            facing = gaussians.normals(cameras.eyes)
            each = lambda v: v.repeat_interleave(len(gaussians), 0)
            points = gaussians.means.repeat(n, 1)
            lit = self.shaded(carried.flatten(0, 1), facing.flatten(0, 1), points, each(light), each(shading))
            carried = lit.view_as(carried)
            carried = torch.cat([carried, facing], -1) if normals else carried
        layers = rasterize(gaussians, cameras, carried, self.backend, chunk=self.chunk)
        rgb = layers.features[:, :3] + (1 - layers.opacity) * self._behind(cameras, backdrop, own)
        there = layers.opacity > SEEN
        normal = functional.normalize(layers.features[:, 3:], dim=1) * there if normals else None
        return Rendering(rgb, layers.opacity, layers.depth, normal)

    def _behind(self, cameras: Cameras, backdrop: Tensor, own: bool) -> Tensor:
        """Background images, [n, 3, h, w], or [n, 3, 1, 1] if every background is one color."""
        backdrop = backdrop.to(self.means)[:, :, None, None]
        if not own:
            return backdrop
        return torch.where(backdrop < 0, self.behind(cameras.rays()[1]).permute(0, 3, 1, 2), backdrop)
