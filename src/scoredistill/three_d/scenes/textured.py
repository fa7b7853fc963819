r"""A fixed mesh with a texture as parameters: every view is a sample of the texture.

The mesh does not change, so a view is rasterized once (`mesh.views`), and its colors are linear in the texels:

    color(pixel) = sum over its samples and levels of  weight  texel

with bilinear interpolation in a texture and its coarser levels (trilinear, by the area of the texture that a sample
covers), so gradients are exact and cheap. Gutters of UV charts follow the charts across their seams (`mesh.seams`).

A texel at the point x of the surface has the color

    1/2 + sum over levels l of  G_l(x)  +  OWN T(texel),

with grids G_l in space (`DenseGrid`) and a value T of its own: the grids carry the colors of whole parts to texels that
few views see and across seams, the values carry detail.

With `finish`, roughness and metallic are two more channels, and lit views (the shading "lambertian") are those of a
microfacet surface (GGX; Walter et al. 2007, Microfacet models for refraction through rough surfaces).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from scoredistill.optional import require
from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.mesh.seams import Atlas
from scoredistill.three_d.mesh.texture import TexturedMesh
from scoredistill.three_d.mesh.views import Fragments, rasterize_views
from scoredistill.three_d.scenes.base import AMBIENT, PLAIN, Look, Rendering, Scene

LEVELS = 2  # coarser levels of the texture: a texel of the last one covers 4 x 4, as many as lie between UV charts
FACING = 0.2  # cosine between a surface and a view above which a texel counts as seen
DEPTH = 0.01  # difference in depth up to which a texel counts as visible
OWN = 0.1  # scale of the texels' own values: they move slower than the grids, so that no noise is left in them
AROUND = 12  # seen texels from which an unseen one takes its color
ROUGH, PLASTIC = 0.7, 0.0  # roughness and metallic at the start
MIRROR = 0.04  # reflectance of surfaces that are not metallic, seen from the front


class Textured(Scene):
    """A mesh in the unit ball with a texture, seen by cameras.

    Args:
        model: the mesh with its texture coordinates.
        texture: side of the texture in texels.
        start: whether the optimization starts at the colors of the mesh; gray by default.
        grids: vertices per axis of the grids in space; none for texels alone.
        finish: also optimize roughness and metallic, which lit views show.
        samples: samples per pixel along each axis.
        **scene: see `Scene`.

    Raises:
        ValueError: if the texture has fewer than 16 texels on a side, or samples are below 1.
        MissingExtra: if SciPy is not installed.
    """

    split = False  # every process must see all views, to note the texels that were seen

    def __init__(
        self,
        model: TexturedMesh,
        texture: int = 256,
        start: bool = False,
        grids: Sequence[int] = (8, 16, 32, 64),
        finish: bool = False,
        samples: int = 2,
        **scene: Any,
    ):
        super().__init__(**scene)
        if texture < 16 or samples < 1:
            raise ValueError(
                f"texture must be at least 16 and samples at least 1, not {texture} and {samples}: give larger ones"
            )
        self.first: Tensor  # values of the texels at the start
        self.seen: Tensor  # texels that were seen in training
        self.corners: Tensor
        self.normals: Tensor
        self.uv: Tensor
        self.density: Tensor  # squared texels per area of each triangle
        self.facing: Tensor  # normals of triangles
        self.model, self.samples, self.finish = model, samples, finish
        self._atlas = Atlas.of(model, texture)
        channels = 5 if finish else 3
        first = torch.full((channels, len(self._atlas.face)), 0.5)
        if start:
            first[:3] = self._atlas.taken(model.texture)
        if finish:
            first[3], first[4] = ROUGH, PLASTIC
        self.encoding = DenseGrid(grids, channels, std=0.0) if grids else None
        self.texels = nn.Parameter(torch.zeros(channels, len(self._atlas.face)))
        mesh = model.mesh
        corners = mesh.vertices[mesh.faces]
        a, b, c = corners.unbind(1)
        crossed = torch.linalg.cross(b - a, c - a)
        (p, q), (r, s) = (v.unbind(1) for v in _sides(model.layout(texture)))
        density = (p * s - q * r).abs() / crossed.norm(dim=-1).clamp(min=1e-12)
        for name, value in (
            ("first", first), ("seen", torch.zeros(len(self._atlas.face), dtype=torch.bool)), ("corners", corners),
            ("normals", mesh.normals[mesh.faces]), ("uv", model.uv[mesh.faces]), ("density", density),
            ("facing", functional.normalize(crossed, dim=-1)),
        ):  # fmt: skip
            self.register_buffer(name, value, persistent=name in ("first", "seen"))
        self._last: tuple[Tensor, tuple[int, int], Fragments] | None = None

    @property
    def atlas(self) -> Atlas:
        """How the texture is made of texels, on the device of the parameters."""
        if self._atlas.point.device != self.device:
            self._atlas = self._atlas.to(self.device)
        return self._atlas

    def values(self) -> Float[Tensor, "c p"]:
        """The channels of all free texels: red, green, blue and, with `finish`, roughness and metallic."""
        made = self.first.to(self.texels) + OWN * self.texels
        if self.encoding is not None:
            features = self.encoding(self.atlas.point.to(self.texels))
            made = made + features.view(len(features), self.encoding.levels, -1).sum(1).T
        return made

    def maps(self) -> Float[Tensor, "c s s"]:
        """The texture as it is optimized, differentiable; values may leave [0, 1]."""
        return self.atlas.assembled(self.values())

    @torch.no_grad()
    def textured(self) -> TexturedMesh:
        """The mesh with its texture in [0, 1], in which unseen texels have colors of seen ones nearby."""
        return TexturedMesh(self.model.mesh, self.model.uv, self.filled()[:3])

    @torch.no_grad()
    def filled(self) -> Float[Tensor, "c s s"]:
        """All maps in [0, 1] on the CPU, with unseen texels filled.

        An unseen texel takes the mean over the seen texels nearest to it in space, with weights 1 / r^2, so seams do
        not stop it. If none was seen, nothing is filled.
        """
        values, atlas = self.values().clamp(0, 1).cpu(), self.atlas.to("cpu")
        seen = self.seen.cpu()
        if bool(seen.any()) and not bool(seen.all()):
            spatial = require("scipy.spatial", "nerf", "filling of unseen texels")
            tree = spatial.cKDTree(atlas.point[seen].numpy())
            distance, which = tree.query(atlas.point[~seen].numpy(), min(AROUND, int(seen.sum())))
            known, near = values[:, seen], torch.from_numpy(which).view(int((~seen).sum()), -1)
            weight = 1 / torch.from_numpy(distance).float().view(near.shape).square().clamp(min=1e-10)
            values[:, ~seen] = (known[:, near] * (weight / weight.sum(-1, keepdim=True))).sum(-1)
        return atlas.assembled(values)

    @property
    def coverage(self) -> float:
        """Fraction of the surface that has been seen in training, in [0, 1]."""
        area = 1 / self.density.clamp(min=1e-6)[self.atlas.face]
        return float((area * self.seen).sum() / area.sum())

    def render(self, cameras: Cameras, look: Look = PLAIN, normals: bool = False) -> Rendering:
        """Render images; see `Scene.render`. If gradients are enabled, visible texels are noted as seen."""
        height, width = cameras.size
        fine = cameras.resized((height * self.samples, width * self.samples))
        fragments = self._fragments(fine)
        hit = fragments.hit
        face, corner = fragments.face[hit], fragments.corner[hit].to(self.texels)
        at = lambda values: (values[face].to(corner) * corner[..., None]).sum(-2)
        made = self._sampled(at(self.uv), self._level(fragments, fine))
        light, shading, backdrop, shaded, own = self._filled(look, fine.eyes)
        normal = functional.normalize(at(self.normals), dim=-1) if normals or shaded else None
        rgb = made[:, :3]
        if normal is not None:
            view = hit.nonzero()[:, 0]
            point, eye = at(self.corners), fine.eyes.to(corner)[view]
            # the side that is seen: triangles have two
            normal = torch.where((normal * (eye - point)).sum(-1, keepdim=True) < 0, -normal, normal)
            if shaded:
                rgb = self._shaded(made, normal, point, eye, light[view], shading[view])
        image = lambda values: self._averaged(hit, values)
        opacity = image(torch.ones_like(rgb[:, :1]))
        behind = backdrop.to(rgb)[:, :, None, None]
        if own:
            behind = torch.where(behind < 0, torch.ones_like(behind), behind)
        depth = image(fragments.depth[hit].to(rgb)[:, None]) / opacity.clamp(min=1e-6)
        facing = functional.normalize(image(normal), dim=1) if normal is not None and normals else None
        return Rendering(image(rgb) + (1 - opacity) * behind, opacity, depth, facing)

    def _averaged(self, hit: Bool[Tensor, "n h w"], values: Float[Tensor, "k c"]) -> Float[Tensor, "n c p q"]:
        """Images of values at the samples that hit the mesh: means over the samples of each pixel, 0 elsewhere."""
        full = values.new_zeros(*hit.shape, values.shape[-1])
        full[hit] = values
        return functional.avg_pool2d(full.permute(0, 3, 1, 2), self.samples)

    def _fragments(self, cameras: Cameras) -> Fragments:
        """The fragments of cameras; the last ones are kept, as several optimizer steps follow one gradient."""
        key = cameras.packed()
        if self._last is not None and self._last[1] == cameras.size and torch.equal(self._last[0], key):
            found = self._last[2]
        else:
            found = rasterize_views(self.corners, cameras)
            self._last = key, cameras.size, found
        if torch.is_grad_enabled():
            self._note(cameras, found)
        return found

    @torch.no_grad()
    def _note(self, cameras: Cameras, fragments: Fragments) -> None:
        """Note the texels that are visible: in the image, facing the camera, and at the depth that is seen there."""
        height, width = cameras.size
        point = self.atlas.point
        place, depth = cameras.project(point)
        column, row = place.floor().long().unbind(-1)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (depth > 0)
        view = torch.arange(len(cameras), device=point.device)[:, None]
        seen = fragments.depth[view, row.clamp(0, height - 1), column.clamp(0, width - 1)]
        away = functional.normalize(cameras.eyes[:, None] - point, dim=-1)
        cosine = (away * self.facing[self.atlas.face]).sum(-1).abs()
        pixel = depth / cameras.focal.amin(1)[:, None]  # a surface that is tilted changes its depth within a pixel
        slack = DEPTH + pixel / 2 * (1 / cosine.clamp(min=FACING).square() - 1).sqrt()
        found = inside & (seen > 0) & (cosine > FACING) & ((depth - seen).abs() < slack)
        self.seen |= found.any(0)

    def _level(self, fragments: Fragments, cameras: Cameras) -> Float[Tensor, " k"]:
        """The level of the texture for each sample, 0 for the finest: log2 of the side that a sample covers, in texels.

        A sample covers z^2 / (fx fy |n . d|) of the surface, with d its ray at depth 1.
        """
        hit = fragments.hit
        view, row, column = hit.nonzero().unbind(1)
        focal, center = cameras.focal[view], cameras.center[view]
        across, down = (column + 0.5 - center[:, 0]) / focal[:, 0], (row + 0.5 - center[:, 1]) / focal[:, 1]
        ray = torch.stack([across, -down, -torch.ones_like(across)], -1)
        ray = (cameras.poses[view, :3, :3] * ray[:, None]).sum(-1)
        face = fragments.face[hit]
        slant = (self.facing[face] * ray).sum(-1).abs().clamp(min=0.05)
        area = fragments.depth[hit].square() / (focal.prod(-1) * slant) * self.density[face]
        return (0.5 * area.clamp(min=1e-12).log2()).clamp(0, LEVELS)

    def _sampled(self, uv: Float[Tensor, "k 2"], level: Float[Tensor, " k"]) -> Float[Tensor, "k c"]:
        """The maps at texture coordinates, interpolated in and between levels."""
        grid = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], -1)[None, None]
        layer = self.maps()[None]
        total = uv.new_zeros(layer.shape[1], len(uv))
        for index in range(LEVELS + 1):
            weight = (1 - (level.to(uv) - index).abs()).clamp(min=0)
            found = functional.grid_sample(layer, grid, padding_mode="border", align_corners=False)[0, :, 0]
            total = total + weight * found
            layer = functional.avg_pool2d(layer, 2, ceil_mode=True)
        return total.T

    def _shaded(
        self, made: Tensor, normal: Tensor, points: Tensor, eye: Tensor, light: Tensor, shading: Tensor
    ) -> Float[Tensor, "k 3"]:
        """Shaded colors of samples; with `finish`, those of lit views also reflect the light."""
        rgb = made[:, :3]
        if not self.finish:
            return self.shaded(rgb, normal, points, light.to(rgb), shading.to(rgb))
        rough, metal = made[:, 3:4].clamp(0.05, 1), made[:, 4:5].clamp(0, 1)
        lit = self.shaded(rgb * (1 - metal), normal, points, light.to(rgb), shading.to(rgb))
        shine = reflected(rgb, rough, metal, normal, light.to(rgb) - points, eye - points)
        return torch.where((shading == 1).to(rgb.device)[:, None], lit + shine, lit)


def reflected(
    rgb: Float[Tensor, "k 3"],
    rough: Float[Tensor, "k 1"],
    metal: Float[Tensor, "k 1"],
    normal: Float[Tensor, "k 3"],
    light: Float[Tensor, "k 3"],
    eye: Float[Tensor, "k 3"],
) -> Float[Tensor, "k 3"]:
    r"""Light that a microfacet surface reflects: F D G / (4 n.l n.v) n.l pi (1 - ambient), and ambient F.

    D is the distribution of GGX with a = rough^2, G that of Smith in Schlick's form, F that of Schlick with the
    reflectance 4% of plastics or the color of metals. A white surface that faces the light has brightness 1, so the
    light has the radiance pi.

    Args:
        rgb: color of the surface.
        rough, metal: roughness in (0, 1] and metallic in [0, 1].
        normal: unit vectors towards the side that is seen.
        light, eye: vectors from the surface to the light and to the eye, of any length.
    """
    dot = lambda p, q: (p * q).sum(-1, keepdim=True).clamp(min=1e-4)
    light, eye = functional.normalize(light, dim=-1), functional.normalize(eye, dim=-1)
    half = functional.normalize(light + eye, dim=-1)
    facing, seen, lit = dot(normal, half), dot(normal, eye), (normal * light).sum(-1, keepdim=True).clamp(min=0)
    a = rough.square()
    spread = a.square() / (math.pi * (facing.square() * (a.square() - 1) + 1).square())
    k = a / 2
    shadow = 1 / ((lit * (1 - k) + k) * (seen * (1 - k) + k))  # G / (n.l n.v)
    plain = MIRROR * (1 - metal) + rgb * metal
    fresnel = plain + (1 - plain) * (1 - dot(half, eye)).clamp(min=0) ** 5
    return (1 - AMBIENT) * math.pi * fresnel * spread * shadow / 4 * lit + AMBIENT * plain * metal


def _sides(triangles: Float[Tensor, "f 3 2"]) -> tuple[Float[Tensor, "f 2"], Float[Tensor, "f 2"]]:
    """Two sides of each triangle."""
    return triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
