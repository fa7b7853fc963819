r"""Radiance fields: a network maps positions to density s and color c, which are rendered by volume rendering.

    features = encoding(x),    (a, b) = MLP(features),    s = exp(a + blob(x)),    c = sigmoid(b)

The blob is DreamFusion's density bias, strength (1 - |x| / width) (https://arxiv.org/abs/2209.14988, appendix A.2), so
that optimization starts from a ball in the center. The background is one color or depends on the ray direction
(`BackgroundMLP`).

Empty space is skipped: a coarse occupancy grid remembers densities (Mueller et al. 2022, section E,
https://arxiv.org/abs/2201.05989), and the field is not queried at samples that it marks as empty or occluded. Normals
are -grad s / |grad s| by finite differences, so that they can be differentiated.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from scoredistill.rng import seed_of
from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.encodings import DenseGrid, Encoding
from scoredistill.three_d.scenes.base import PLAIN, Look, Rendering, Scene
from scoredistill.three_d.scenes.occupancy import Counting, Occupancy
from scoredistill.three_d.volume_rendering import ball_hits, composite, masked, over, scattered, stratified, weights

LARGEST = 12.0  # log of the largest density
REFRESH = 4  # renders between updates of the occupancy grid
EMPTY = 1e-2  # density counts as empty if a whole ray through it has an optical depth below this
HIDDEN = 1e-4  # transmittance below which samples count as occluded


class Field(nn.Module):
    """Density and color as functions of the position in the unit ball.

    Args:
        encoding: of positions.
        hidden: units per hidden layer.
        layers: hidden layers; 0 for a linear map of the features.
        blob: (strength, width) of the initial ball; the strength is the logarithm of the factor by which it raises the
            density in the center.
        density: of the field where the output of the network is 0.
        rng: draws the initial weights.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        encoding: Encoding,
        hidden: int = 64,
        layers: int = 2,
        blob: tuple[float, float] = (5.0, 0.5),
        density: float = 0.1,
        rng: torch.Generator | None = None,
    ):
        super().__init__()
        if hidden < 1 or layers < 0:
            raise ValueError(f"hidden must be at least 1 and layers at least 0, not {hidden} and {layers}")
        if not density > 0 or not blob[1] > 0:
            raise ValueError("density and the width of the blob must be positive")
        self.encoding, self.blob, self.base = encoding, blob, math.log(density)
        widths = [encoding.features, *[hidden] * layers, 4]
        linear = [nn.Linear(a, b) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(linear)
        for i, layer in enumerate(linear):
            last = i + 1 == len(self.layers)
            std = math.sqrt((0.1 if last and layers else 2.0) / widths[i])
            with torch.no_grad():
                layer.weight.copy_(std * torch.randn(layer.weight.shape, generator=rng))
                layer.bias.zero_()

    def forward(self, points: Float[Tensor, "m 3"]) -> tuple[Float[Tensor, " m"], Float[Tensor, "m 3"]]:
        raw = self._raw(points)
        return self._density(raw[:, 0], points), raw[:, 1:].sigmoid()

    def density(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """Density per unit of length, without the color."""
        return self._density(self._raw(points)[:, 0], points)

    def normal(self, points: Float[Tensor, "m 3"], step: float = 0.01) -> Float[Tensor, "m 3"]:
        """Outward unit normals by differences between the corners of a tetrahedron: four density queries per point."""
        corners = points.new_tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
        around = (points[:, None] + step * corners).reshape(-1, 3)
        log = self._log_density(self._raw(around)[:, 0], around).reshape(-1, 4)
        return functional.normalize(-(log[..., None] * corners).sum(1), dim=-1, eps=1e-8)

    def _raw(self, points: Tensor) -> Tensor:
        h = self.encoding(points)
        for i, layer in enumerate(self.layers):
            h = layer(h) if i == 0 else layer(functional.silu(h))
        return h

    def _log_density(self, raw: Tensor, points: Tensor) -> Tensor:
        strength, width = self.blob
        bias = strength * (1 - points.norm(dim=-1) / width) if strength else 0.0
        return (raw + self.base + bias).clamp(max=LARGEST)

    def _density(self, raw: Tensor, points: Tensor) -> Tensor:
        return self._log_density(raw, points).exp()


class BackgroundMLP(nn.Module):
    """Background color as a function of the ray direction: a small network on a few octaves of sines and cosines.

    Too few octaves for sharp detail, so that the background cannot depict the object.

    Args:
        hidden: units of the hidden layer.
        octaves: number of frequencies 1, 2, 4, ... of the sines and cosines.
        rng: draws the initial weights.
    """

    def __init__(self, hidden: int = 32, octaves: int = 2, rng: torch.Generator | None = None):
        super().__init__()
        self.octaves = octaves
        self.first, self.second = nn.Linear(3 + 6 * octaves, hidden), nn.Linear(hidden, 3)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng) / math.sqrt(layer.in_features))
                layer.bias.zero_()

    def forward(self, directions: Float[Tensor, " *r 3"]) -> Float[Tensor, " *r 3"]:
        scaled = torch.cat([2.0**k * directions for k in range(self.octaves)], -1)
        seen = torch.cat([directions, scaled.sin(), scaled.cos()], -1)
        return self.second(functional.silu(self.first(seen))).sigmoid()


class NeRF(Counting, Scene):
    """A radiance field in the unit ball, seen by cameras.

    Args:
        field: density and color; a `DenseGrid` with a small network by default.
        samples: per ray through the ball.
        chunk: points in memory at once; more are rendered in parts, which are rendered again in the backward pass.
        backdrop: network of the background if `background` is None; a `BackgroundMLP` by default.
        seed: of the sample positions along rays and of the default networks.
        compact: leave out samples in empty and occluded space, which waits for the device once per render, instead of
            evaluating them for nothing. By default only on the CPU.
        **scene: see `Scene`.

    Raises:
        ValueError: if samples are below 1, or chunk is below samples.
    """

    def __init__(
        self,
        field: Field | None = None,
        samples: int = 64,
        chunk: int = 2**21,
        backdrop: nn.Module | None = None,
        seed: int = 0,
        compact: bool | None = None,
        **scene: Any,
    ):
        super().__init__(**scene)
        if samples < 1 or chunk < samples:
            raise ValueError(f"samples must be at least 1 and chunk at least samples, not {samples} and {chunk}")
        rng = torch.Generator().manual_seed(seed)
        self.field = field or Field(DenseGrid(), rng=rng)
        self.backdrop = BackgroundMLP(rng=rng) if backdrop is None and self.background is None else backdrop
        self.samples, self.chunk, self.seed, self.compact = samples, chunk, seed, compact
        self.occupancy = Occupancy(seed=seed)
        self.register_buffer("count", torch.tensor(0))

    def behind(self, directions: Float[Tensor, " *r 3"]) -> Float[Tensor, " *r 3"]:
        return torch.ones_like(directions) if self.backdrop is None else self.backdrop(directions)

    def render(self, cameras: Cameras, look: Look = PLAIN, normals: bool = False) -> Rendering:
        """Render one ray through the center of each pixel; see `Scene.render`."""
        n, (height, width) = len(cameras), cameras.size
        origins, directions = cameras.rays()
        filled = self._filled(look, cameras.eyes)
        light, shading, backdrop = (v.repeat_interleave(height * width, 0) for v in filled[:3])
        each = Look(light, shading, backdrop, filled.shaded, filled.own)
        traced = self.trace(origins.reshape(-1, 3), directions.reshape(-1, 3), each, normals)
        ahead = (directions * cameras.forward[:, None, None]).sum(-1).reshape(-1, 1)
        image = lambda v: v.reshape(n, height, width, -1).permute(0, 3, 1, 2)
        normal = image(functional.normalize(traced["normal"], dim=-1)) if normals else None
        o = traced["opacity"]
        depth = torch.where(o > 1e-3, traced["depth"] / o.clamp(min=1e-3), 0) * ahead
        penalties = {"orientation": traced["orientation"].mean()} if normals else {}
        return Rendering(image(traced["rgb"]), image(o), image(depth), normal, penalties)

    def trace(
        self,
        origins: Float[Tensor, "r 3"],
        directions: Float[Tensor, "r 3"],
        look: Look = PLAIN,
        normals: bool = False,
    ) -> dict[str, Float[Tensor, "r c"]]:
        """Render rays.

        If gradients are enabled, sample positions along rays are random (and equal in a resumed run), and the occupancy
        grid is updated every few calls; otherwise samples are at the midpoints of their segments.

        Args:
            origins, directions: of the rays; directions are unit vectors.
            look: light, shading and background of each ray.
            normals: also return normals and the orientation penalty.

        Returns:
            "rgb" [r, 3] over the background, "opacity" [r, 1], "depth" [r, 1] along the ray, times opacity, and, with
            `normals`, "normal" [r, 3] times opacity and "orientation" [r, 1].
        """
        r, training = len(origins), torch.is_grad_enabled()
        if training or bool(self.occupancy.count == 0):
            self._refresh(training)
        offset = origins.new_full((r,), 0.5)
        if training:
            rng = torch.Generator().manual_seed(seed_of(self.seed, int(self.count)))
            offset = self._offsets(r, rng).to(origins)
        filled = self._filled(look, origins)
        rays, kinds = (origins, directions, offset, *filled[:3]), (filled.shaded, filled.own)
        known = self.occupancy.extremes()  # a copy, because chunks are rendered again after the next update
        per = max(1, self.chunk // self.samples)
        if r <= per:
            return self._trace(rays, normals, known, *kinds)
        parts = []
        for start in range(0, r, per):
            piece = [v[start : start + per] for v in rays]
            if training:
                parts.append(checkpoint(self._trace, piece, normals, known, *kinds, use_reentrant=False))
            else:
                parts.append(self._trace(piece, normals, known, *kinds))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _offsets(self, r: int, rng: torch.Generator) -> Float[Tensor, " r"]:
        """Random positions of the samples of r rays in their segments, in [0, 1); of a share, as in the whole."""
        share = self._share
        if share is None:
            return torch.rand(r, generator=rng)
        per = r // len(share)  # rays of a view
        return torch.rand(per * share.total, generator=rng)[per * share.start : per * share.stop]

    def _trace(
        self, rays: Sequence[Tensor], normals: bool, known: Tensor, shaded: bool, own: bool
    ) -> dict[str, Tensor]:
        """Render one chunk of origins, directions, offsets, lights, shadings and backdrops.

        `known` are the `Occupancy.extremes`; for `shaded` and `own` see `Look`.
        """
        origins, directions, offset, light, shading, backdrop = rays
        near, far = ball_hits(origins, directions)
        places, length = stratified(near, far, self.samples, offset)
        points = origins[:, None] + places[..., None] * directions[:, None]
        seen = self._visible(points, length, known)
        compact = points.device.type == "cpu" if self.compact is None else self.compact
        some = (lambda v: v[seen]) if compact else (lambda v: v.flatten(0, 1))
        full = (lambda v: scattered(v, seen)) if compact else (lambda v: masked(v, seen))
        queried = some(points)
        density, rgb = self.field(queried)
        normal = self.field.normal(queried) if normals or shaded else torch.zeros_like(queried)
        if shaded:
            one = lambda v: some(v[:, None].expand(-1, self.samples, *v.shape[1:]))
            rgb = self.shaded(rgb, normal, queried, one(light), one(shading))
        w = weights(full(density), length)
        opacity = w.sum(-1, keepdim=True)
        behind = backdrop
        if own:
            behind = torch.where((backdrop < 0).any(-1, keepdim=True), self.behind(directions), backdrop)
        made = {
            "rgb": over(composite(w, full(rgb)), opacity, behind),
            "opacity": opacity,
            "depth": (w * places).sum(-1, keepdim=True),
        }
        if normals:
            facing = full(normal)
            away = (facing * directions[:, None]).sum(-1).clamp(min=0)
            made["normal"] = composite(w, facing)
            made["orientation"] = (w.detach() * away.square()).sum(-1, keepdim=True)
        return made

    @torch.no_grad()
    def _visible(self, points: Tensor, length: Tensor, known: Tensor) -> Bool[Tensor, "r k"]:
        """Samples that are neither in empty space nor occluded, according to the occupancy grid."""
        most, least = self.occupancy.at(known, points)
        matter = (most * length * self.samples > EMPTY) & (length > 0)
        depth = least.clamp(max=1e6) * length
        return matter & (torch.cumsum(depth, -1) - depth < -math.log(HIDDEN))

    def _refresh(self, training: bool) -> None:
        if not training or int(self.count) % REFRESH == 0:
            self.occupancy.update(self.field.density)
        if training:
            self.count += 1
