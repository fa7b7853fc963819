"""Meshes of other programs: GLB, glTF, OBJ, PLY, STL and OFF files, with their colors, as one textured mesh.

All parts of a file become one mesh in our axes (z up, front towards -y), centered, in the unit ball. glTF and OBJ have
y up and the front towards +z, PLY, STL and OFF are taken as z up; `up` says otherwise. The UV layout of the file is
kept if it can hold a texture of its own: one image for all parts, coordinates in [0, 1], no two triangles on the same
texels. Otherwise a new one is made (xatlas), into which the colors of the file are copied.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from scoredistill.media.limits import check_size, formats
from scoredistill.optional import MissingExtra, require
from scoredistill.three_d import ply
from scoredistill.three_d.mesh.files import encoded, read_ply
from scoredistill.three_d.mesh.surface import Mesh
from scoredistill.three_d.mesh.texture import TexturedMesh, rasterize, spread, unwrapped

Y_UP, Z_UP = (".glb", ".gltf", ".obj"), (".ply", ".stl", ".off")
SUFFIXES = Y_UP + Z_UP
PLY_UV = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))  # names of texture coordinates of vertices in PLY files
UPS = ("auto", "y", "z")
LAYOUTS = ("auto", "keep", "new")
MOST_FACES = 400_000  # xatlas takes minutes for more
MOST_BYTES = 2**29  # of a file
RADIUS = 0.98  # of the mesh in the unit ball
GRAY = 0.7  # color of meshes without one
SHARED = 0.02  # fraction of the texels that two triangles may claim in a layout that is kept
LEAST_USED = 0.02  # fraction of the texture that a layout that is kept must use
LARGEST_IMAGE = 2048  # texels along the longer side of textures that are read


@dataclass(frozen=True)
class MeshFile:
    """A mesh as it was read.

    Attributes:
        model: the mesh in the unit ball, with texture coordinates and the colors of the file.
        colored: whether the file has colors; otherwise the texture is gray.
        kept: whether the UV layout is that of the file.
        center, scale: a point p of `model` is at center + scale p in the file, after its axes are turned to ours.
    """

    model: TexturedMesh
    colored: bool
    kept: bool
    center: tuple[float, float, float]
    scale: float

    def placed(self, model: TexturedMesh) -> TexturedMesh:
        """A mesh in the unit ball at the place and in the size of the file."""
        mesh = model.mesh
        return replace(
            model, mesh=replace(mesh, vertices=mesh.vertices * self.scale + mesh.vertices.new_tensor(self.center))
        )


def is_mesh(path: str | Path) -> bool:
    """Whether a path names a file with the suffix of a mesh."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()


def read_mesh(path: str | Path, texture: int = 512, up: str = "auto", layout: str = "auto") -> MeshFile:
    """Read a mesh.

    Args:
        path: a .glb, .gltf, .obj, .ply, .stl or .off file; files that it refers to are read from its directory only.
        texture: side of the texture in texels.
        up: the axis that points upwards in the file, "y" or "z"; by the kind of the file by default.
        layout: "keep" the UV layout of the file, make a "new" one, or "auto".

    Raises:
        ValueError: if the file cannot be read, is no mesh, or has a mesh that cannot be textured.
        MissingExtra: if trimesh, or xatlas for a new layout, is not installed.
    """
    path = Path(path)
    _check_file(path)
    if up not in UPS or layout not in LAYOUTS:
        raise ValueError(f"up must be one of {', '.join(UPS)}, and layout one of {', '.join(LAYOUTS)}")
    if texture < 16:
        raise ValueError(f"a texture needs at least 16 texels on a side, not {texture}")
    parts = _parts(path)
    whole = _joined(parts, path)
    if up == "y" or (up == "auto" and path.suffix.lower() in Y_UP):
        whole = replace(whole, vertices=_z_up(whole.vertices), normals=_z_up(whole.normals))
    whole, center, scale = _normalized(whole, path)
    problem = whole.unfit()
    if layout == "keep" and problem:
        raise ValueError(f"the UV layout of {path.name} cannot be kept: {problem}; use the layout new or auto")
    kept = layout != "new" and not problem
    model = whole.kept(texture) if kept else whole.relaid(texture)
    return MeshFile(model, whole.colored, kept, center, scale)


def _check_file(path: Path) -> None:
    """Refuse what is no file of a mesh.

    Raises:
        ValueError: in one sentence.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is no mesh that can be read: give a file of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"{path} is not a file: check its name")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES // 2**20} MiB: reduce the mesh or its textures first")


@dataclass(frozen=True)
class _Part:
    """A piece of a file: triangles and one way of coloring them."""

    vertices: Tensor
    normals: Tensor
    faces: Tensor
    uv: Tensor | None
    image: Tensor | None  # [3, h, w]
    colors: Tensor | None  # of vertices, [v, 3]


@dataclass(frozen=True)
class _Whole:
    """All pieces as one mesh; the colors of a face are those of its image, or of its vertices if there is none."""

    vertices: Float[Tensor, "v 3"]
    normals: Float[Tensor, "v 3"]
    colors: Float[Tensor, "v 3"]
    uv: Float[Tensor, "v 2"]
    faces: Int[Tensor, "f 3"]
    image: Int[Tensor, " f"]
    images: tuple[Tensor, ...]
    colored: bool
    laid: bool

    @property
    def mesh(self) -> Mesh:
        return Mesh(self.vertices, self.normals, self.colors, self.faces)

    def unfit(self, size: int = 256) -> str:
        """Why the UV layout cannot hold one texture, or ""."""
        if not self.laid:
            return "it has none for some of its parts"
        if len(self.image.unique()) > 1:
            return "its parts have different textures"
        used = self.uv[self.faces]
        if not bool(used.isfinite().all()) or float(used.min()) < -1e-4 or float(used.max()) > 1 + 1e-4:
            return "texture coordinates leave [0, 1]"
        laid = TexturedMesh(self.mesh, self.uv, torch.zeros(3, 1, 1)).layout(size)
        (ax, ay), (bx, by) = (laid[:, 1] - laid[:, 0]).unbind(1), (laid[:, 2] - laid[:, 0]).unbind(1)
        claimed = float((ax * by - ay * bx).abs().double().sum() / 2)
        owner, corner = rasterize(laid, size, 0.0)
        covered = int(((owner >= 0) & (corner >= 0).all(-1)).sum())
        if claimed < LEAST_USED * size**2:
            return "it uses next to nothing of the texture"
        if claimed - covered > SHARED * size**2:
            return "triangles share texels"
        a, b, c = self.vertices[self.faces].unbind(1)
        area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
        collapsed = (ax * by - ay * bx).abs() < 1e-6
        return "triangles have no place in it" if float(area[collapsed].sum() / area.sum()) > 0.01 else ""

    def kept(self, texture: int) -> TexturedMesh:
        """The mesh in its own layout."""
        uv, which = self.uv.clamp(0, 1), int(self.image[0])
        laid = TexturedMesh(self.mesh, uv, torch.zeros(3, texture, texture))
        if which < 0:
            return replace(laid, texture=self._copied(laid, torch.arange(len(uv))))
        image = self.images[which]
        if max(image.shape[1:]) > texture:  # smaller ones keep their texels
            image = torch.nn.functional.interpolate(image[None], (texture, texture), mode="area")[0]
        return replace(laid, texture=image)

    def relaid(self, texture: int) -> TexturedMesh:
        """The mesh in a new layout, into which its colors are copied."""
        mesh, uv, origin = unwrapped(self.mesh, texture)
        laid = TexturedMesh(mesh, uv, torch.zeros(3, texture, texture))
        return replace(laid, texture=self._copied(laid, origin))

    def _copied(self, laid: TexturedMesh, origin: Tensor) -> Tensor:
        """The colors of the file in another layout, whose vertices are copies of the vertices `origin`."""
        size = laid.texture.shape[-1]
        row, corner = rasterize(laid.layout(size), size)
        filled = row >= 0
        face, parts = row[filled], corner[filled]
        parts = parts.clamp(min=0)
        parts = (parts / parts.sum(-1, keepdim=True))[..., None]
        vertex = origin[laid.mesh.faces[face]]
        found = (self.colors[vertex] * parts).sum(1)
        place = (self.uv[vertex] * parts).sum(1)
        for index, image in enumerate(self.images):
            some = self.image[face] == index
            found[some] = _sampled(image, place[some])
        texels = torch.zeros(size, size, 3)
        texels[filled] = found.clamp(0, 1)
        return spread(texels.permute(2, 0, 1), filled)


def _sampled(image: Float[Tensor, "3 h w"], uv: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    """Colors of an image by bilinear interpolation; it repeats outside [0, 1]."""
    inside = torch.where((uv >= 0) & (uv <= 1), uv, uv % 1)
    grid = torch.stack([2 * inside[:, 0] - 1, 1 - 2 * inside[:, 1]], -1)[None, None]
    return grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0, :, 0].T


def _parts(path: Path) -> list[_Part]:
    """The pieces of a file.

    Raises:
        ValueError: if it cannot be read, or is too large.
    """
    if path.suffix.lower() == ".ply":
        return [_of_ply(path)]
    trimesh = require("trimesh", "nerf", "reading meshes")
    try:
        scene = trimesh.load(path, force="scene", process=False, resolver=_beside(path))
        pieces = [
            (scene.geometry[name], np.asarray(turn, np.float64))
            for turn, name in (scene.graph[node] for node in scene.graph.nodes_geometry)
            if hasattr(scene.geometry[name], "faces") and len(scene.geometry[name].faces)
        ]
    except MissingExtra:
        raise
    except Exception as error:  # a damaged file can fail anywhere in trimesh
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as a mesh ({reason[:200]}): export it again") from error
    _check_count(sum(len(piece.faces) for piece, _ in pieces), path)
    return [_of_trimesh(piece, turn, path) for piece, turn in pieces]


def _check_count(faces: int, path: Path) -> None:
    """Refuse meshes without triangles, or with too many.

    Raises:
        ValueError: in one sentence.
    """
    if not faces:
        raise ValueError(f"{path} has no faces: a point cloud or an empty scene has no surface to texture")
    if faces > MOST_FACES:
        raise ValueError(f"{path} has {faces} faces, more than {MOST_FACES}: reduce it first, for example in Blender")


def _beside(path: Path) -> Any:
    """A resolver of trimesh that reads files in the directory of the mesh only, in all versions of trimesh."""
    resolvers = require("trimesh.resolvers", "nerf", "reading meshes")
    folder = path.absolute().parent.resolve()

    class Beside(resolvers.FilePathResolver):  # type: ignore[misc,name-defined]
        def get(self, name: str) -> bytes:
            wanted = (folder / str(name).strip().replace("\\", "/")).resolve()
            if not wanted.is_relative_to(folder) or not wanted.is_file():
                if path.suffix.lower() == ".obj":  # trimesh goes on without it
                    warnings.warn(f"{path.name} is read without {name}, which is not in its directory", stacklevel=2)
                raise FileNotFoundError(f"{name} is not in the directory of the mesh")
            if wanted.stat().st_size > MOST_BYTES:
                raise ValueError(f"{name} has more than {MOST_BYTES // 2**20} MiB")
            return wanted.read_bytes()

    return Beside(str(path))


def _of_ply(path: Path) -> _Part:
    content = ply.read(path)
    face = content.elements.get("face", {})
    corners, laid = face.get("vertex_indices", face.get("vertex_index")), face.get("texcoord")
    if isinstance(corners, ply.Lists) and len(corners.lengths):
        _check_count(int(np.maximum(corners.lengths.astype(np.int64) - 2, 0).sum()), path)
    if isinstance(laid, ply.Lists) and len(laid.values):
        raise ValueError(f"{path} has texture coordinates of faces, which are not read: export it as OBJ or GLB")
    mesh = read_ply(path)
    _check_count(len(mesh.faces), path)
    vertex = content.elements["vertex"]
    found = [[vertex.get(name) for name in pair] for pair in PLY_UV]
    pairs = [np.stack(pair, 1) for pair in found if all(isinstance(values, np.ndarray) for values in pair)]  # type: ignore[arg-type]
    uv = torch.from_numpy(pairs[0].astype(np.float32)) if pairs else None
    names = [text.split(None, 1)[1] for text in content.comments if text.lower().startswith("texturefile ")]
    image = _ply_image(path, names[0]) if names and uv is not None else None
    gray = bool((mesh.colors == 0.5).all())  # what `read_ply` gives where there are none
    return _Part(mesh.vertices, mesh.normals, mesh.faces, uv, image, None if gray else mesh.colors)


def _ply_image(path: Path, name: str) -> Tensor | None:
    """The texture that a comment of a PLY file names; None if it is not beside the file."""
    try:
        return _pixels(Image.open(io.BytesIO(_beside(path).get(name)), formats=formats()), path)
    except FileNotFoundError:
        return None
    except UnidentifiedImageError as error:
        raise ValueError(f"the texture of {path.name} cannot be decoded: save it again as PNG") from error


def _of_trimesh(piece: Any, turn: np.ndarray, path: Path) -> _Part:
    """A geometry of trimesh, moved by a matrix [4, 4]."""
    with np.errstate(all="ignore"):  # what is not finite is refused later
        vertices = np.asarray(piece.vertices, np.float64) @ turn[:3, :3].T + turn[:3, 3]
    faces = torch.from_numpy(np.asarray(piece.faces).astype(np.int64))
    if np.linalg.det(turn[:3, :3]) < 0:  # a mirror turns triangles inside out
        faces = faces.flip(1)
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise ValueError(f"{path} has faces with vertices that do not exist: export it again")
    if not np.isfinite(vertices).all() or not np.isfinite(turn).all():
        raise ValueError(f"{path} has vertices that are not finite: repair the mesh and export it again")
    normals = np.asarray(piece.vertex_normals, np.float64) @ np.linalg.pinv(turn[:3, :3])
    uv, image, colors = _look(piece, path)
    tensor = lambda v: torch.from_numpy(np.ascontiguousarray(v, np.float32))
    return _Part(tensor(vertices), normalize(tensor(normals), dim=-1), faces, uv, image, colors)


def _look(piece: Any, path: Path) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Texture coordinates, image and vertex colors of a geometry of trimesh; None for what it has not."""
    visual, count = piece.visual, len(piece.vertices)
    gltf = path.suffix.lower() in (".glb", ".gltf")  # whose factors and vertex colors are linear
    screen: Callable[[Tensor], Tensor] = encoded if gltf else lambda values: values
    if getattr(visual, "kind", None) in ("vertex", "face"):
        rgb = torch.from_numpy(np.asarray(visual.vertex_colors)[:, :3].astype(np.float32) / 255)
        return None, None, screen(rgb)
    uv = getattr(visual, "uv", None)
    laid = None
    if uv is not None and np.shape(uv) == (count, 2):
        laid = torch.from_numpy(np.ascontiguousarray(uv, np.float32))
    material = getattr(visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    factor = getattr(material, "baseColorFactor", None)
    if factor is None and not gltf and image is None:
        factor = getattr(material, "diffuse", None)
    tint = None
    if factor is not None:
        given = np.asarray(factor, np.float64).reshape(-1)[:3]
        given = given / 255 if np.asarray(factor).dtype.kind in "iu" else given
        tint = screen(torch.from_numpy(given.astype(np.float32)).clamp(0, 1)) if len(given) == 3 else None
    if laid is not None and image is not None:
        return laid, _pixels(image, path) * (1 if tint is None else tint[:, None, None]), None
    return laid, None, None if tint is None else tint.expand(count, 3).clone()


def _pixels(image: Image.Image, path: Path) -> Float[Tensor, "3 h w"]:
    """The pixels of a texture, reduced to at most LARGEST_IMAGE.

    Raises:
        ValueError: if it has too many pixels, or cannot be decoded.
    """
    check_size(image.size, f"the texture of {path.name}")
    try:
        small = image.convert("RGB")
    except Exception as error:
        raise ValueError(f"the texture of {path.name} cannot be decoded: save it again as PNG") from error
    small.thumbnail((LARGEST_IMAGE, LARGEST_IMAGE))
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255


def _joined(parts: list[_Part], path: Path) -> _Whole:
    """All pieces as one mesh, without triangles of no area.

    Raises:
        ValueError: if coordinates are not finite, or no triangle has an area.
    """
    vertices = torch.cat([part.vertices for part in parts])
    if not bool(vertices.isfinite().all()):
        raise ValueError(f"{path} has vertices that are not finite: repair the mesh and export it again")
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = torch.cat([part.faces + int(start) for part, start in zip(parts, starts, strict=False)])
    images: list[Tensor] = []
    which = []
    for part in parts:
        number = -1
        if part.image is not None:
            same = [i for i, image in enumerate(images) if torch.equal(image, part.image)]
            number = same[0] if same else len(images)
            images += [] if same else [part.image]
        which.append(torch.full((len(part.faces),), number))
    known = lambda part: part.colors if part.colors is not None else torch.full_like(part.vertices, GRAY)
    uv = [torch.zeros(len(part.vertices), 2) if part.uv is None else part.uv for part in parts]
    extent = float((vertices.amax(0) - vertices.amin(0)).max())
    a, b, c = (vertices.double() / (extent or 1.0))[faces].unbind(1)
    solid = torch.linalg.cross(b - a, c - a).norm(dim=-1) > 1e-12
    if not bool(solid.any()) or not math.isfinite(extent):
        raise ValueError(f"{path} has only faces without area: there is no surface to texture")
    return _Whole(
        vertices, torch.cat([part.normals for part in parts]), torch.cat([known(part) for part in parts]),
        torch.cat(uv).nan_to_num(0, 0, 0), faces[solid], torch.cat(which)[solid], tuple(images),
        any(part.image is not None or part.colors is not None for part in parts),
        all(part.uv is not None for part in parts),
    )  # fmt: skip


def _normalized(whole: _Whole, path: Path) -> tuple[_Whole, tuple[float, float, float], float]:
    """The mesh centered in the unit ball, and its center and scale; vertices that no face uses do not count."""
    used, faces = whole.faces.unique(return_inverse=True)
    points = whole.vertices[used].double()
    center = (points.amax(0) + points.amin(0)) / 2
    scale = float((points - center).norm(dim=-1).max()) / RADIUS
    if not 1e-30 < scale < 1e30:
        raise ValueError(f"{path} has coordinates too small or too large to be shown: scale it to about 1 first")
    vertices = ((points - center) / scale).float()
    normals = whole.normals[used]
    lost = ~(normals.norm(dim=-1) > 0.5)  # also those that are not finite
    if bool(lost.any()):
        a, b, c = vertices[faces].unbind(1)
        each = torch.linalg.cross(b - a, c - a)
        summed = torch.zeros_like(vertices).index_add_(0, faces.flatten(), each.repeat_interleave(3, 0))
        normals = torch.where(lost[:, None], normalize(summed, dim=-1), normals)
    x, y, z = center.tolist()
    made = replace(whole, vertices=vertices, normals=normals, colors=whole.colors[used], uv=whole.uv[used], faces=faces)
    return made, (x, y, z), scale


def _z_up(vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Vectors of a file with y up in our axes: the rotation (x, y, z) -> (x, -z, y)."""
    x, y, z = vectors.unbind(-1)
    return torch.stack([x, -z, y], -1)
