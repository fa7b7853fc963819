"""Surfaces of fields whose surface is known: balls, shells, a full cube; and what is in the files of them."""

import json
import math
import struct
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("skimage")
trimesh = pytest.importorskip("trimesh")

from scoredistill.optional import MissingExtra
from scoredistill.three_d.mesh import bake, extract, read_ply, write_glb, write_obj, write_ply
from scoredistill.three_d.mesh.texture import rasterize

THICKNESS = 1 / 32
DENSITY = math.log(2) / THICKNESS  # on the surface: half of the light passes a layer


def affine(points):
    """Colors that a straight line interpolates exactly, in [0.2, 0.8]."""
    return 0.5 + torch.stack([0.3 * points[:, 0], -0.3 * points[:, 1], 0.2 * points[:, 2]], -1)


def jump(points, center=(0.0, 0.0, 0.0), radius=0.5):
    """A ball as dense as metal, and nothing around it."""
    away = (points - points.new_tensor(center)).norm(dim=-1)
    return torch.where(away < radius, 1e4, 0.0), affine(points)


def fog(points):
    """Density that increases towards the center, without a sharp border."""
    return 2 * DENSITY * torch.sigmoid((0.5 - points.norm(dim=-1)) / 0.1), affine(points)


def two_halves(points):
    """A ball beside the axes that is red where z > 0.1 and blue below."""
    density, _ = jump(points, (0.2, -0.3, 0.1), 0.35)
    red, blue = points.new_tensor([1.0, 0.0, 0.0]), points.new_tensor([0.0, 0.0, 1.0])
    return density, torch.where(points[:, 2:] > 0.1, red, blue)


@pytest.mark.parametrize("resolution", [32, 63])
@pytest.mark.parametrize("field", [jump, fog])
def test_a_ball_has_its_area_volume_and_size(field, resolution):
    mesh = extract(field, resolution)
    assert mesh.area == pytest.approx(math.pi, rel=0.02)  # 4 pi r^2
    assert mesh.volume == pytest.approx(math.pi / 6, rel=0.02)  # 4/3 pi r^3 > 0: outwards
    assert (mesh.vertices.norm(dim=-1) - 0.5).abs().max() < 0.1 / resolution  # the edges are searched
    assert (mesh.vertices.amax(0) - 0.5).abs().max() < 2 / resolution
    outwards = (mesh.normals * mesh.vertices).sum(-1) / mesh.vertices.norm(dim=-1)
    assert outwards.min() > 0.97


def test_the_surface_does_not_depend_on_the_resolution_but_on_the_opacity_of_a_layer():
    radius = lambda resolution, **how: float(extract(fog, resolution, **how).vertices.norm(dim=-1).mean())
    assert radius(24) == pytest.approx(0.5, abs=2e-3)
    assert radius(72) == pytest.approx(0.5, abs=2e-3)
    # density 2 DENSITY s(x) with s(x) = 1/4 at the level 1 - 2**-0.5
    assert radius(48, threshold=1 - 2**-0.5) == pytest.approx(0.5 + 0.1 * math.log(3), abs=2e-3)
    # twice the thickness needs half the density
    assert radius(48, thickness=2 * THICKNESS) == pytest.approx(0.5 + 0.1 * math.log(3), abs=2e-3)


def test_colors_are_those_of_the_field_under_the_surface():
    mesh = extract(jump, 40, inset=0.5)
    assert mesh.inset == pytest.approx(0.5 * 2 / 40)
    torch.testing.assert_close(mesh.colors, affine(mesh.vertices - mesh.inset * mesh.normals))

    def skin(points):  # black fog around a white ball
        density, _ = jump(points)
        return density, (density > 0).float()[:, None].expand(-1, 3)

    assert extract(skin, 40).colors.min() == 1
    assert extract(skin, 40, inset=-0.5).colors.max() == 0


def test_what_fills_the_cube_is_a_closed_cube():
    full = lambda points: (torch.full_like(points[:, 0], 1e4), affine(points))
    mesh = extract(full, 16, radius=None)
    closed = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    assert closed.is_watertight
    assert mesh.volume == pytest.approx(8, rel=0.03)  # its corners are cut
    assert mesh.vertices.abs().max() == 1
    assert extract(full, 32).volume == pytest.approx(4 / 3 * math.pi, rel=0.01)  # what renderers show: the unit ball


def test_floaters_are_dropped_and_cavities_filled():
    def crowd(points):
        away = points.norm(dim=-1)
        speck = (points - points.new_tensor([0.7, 0.7, 0.7])).norm(dim=-1) < 0.1
        shell = (away > 0.3) & (away < 0.5)
        return 1e4 * (shell | speck).float(), affine(points)

    mesh = extract(crowd, 48, radius=None, floaters=0.1)
    assert mesh.volume == pytest.approx(math.pi / 6, rel=0.02)
    assert mesh.vertices.norm(dim=-1).max() < 0.51
    near = extract(crowd, 48, floaters=0.0)
    torch.testing.assert_close(near.vertices, mesh.vertices)  # the speck is out of the unit ball
    both = extract(crowd, 48, radius=None, floaters=0.0)
    assert both.volume == pytest.approx(math.pi / 6 + 4 / 3 * math.pi * 0.1**3, rel=0.02)
    assert both.faces.max() == len(both.vertices) - 1


def test_the_field_is_queried_in_chunks_and_only_in_the_cube():
    queried = []

    def watched(points):
        assert not torch.is_grad_enabled()
        queried.append(points)
        return jump(points, radius=0.99)

    whole = extract(jump, 20)
    extract(watched, 20, chunk=1000)
    assert max(map(len, queried)) == 1000
    assert torch.cat(queried).abs().max() <= 1
    torch.testing.assert_close(extract(jump, 20, chunk=77).vertices, whole.vertices)


def test_fields_without_a_surface_are_refused():
    thin = lambda points: (torch.full_like(points[:, 0], 0.1 * DENSITY), affine(points))
    with pytest.raises(ValueError, match=r"at most opacity 0\.067, below the threshold 0\.5; optimize longer or lower"):
        extract(thin, 16)
    broken = lambda points: (points[:, 0] * math.nan, affine(points))
    with pytest.raises(ValueError, match="not finite"):
        extract(broken, 16)
    with pytest.raises(ValueError, match="threshold in"):
        extract(jump, 16, threshold=1.0)


def test_a_missing_package_is_named(monkeypatch):
    mesh = extract(jump, 12)
    for package in ("skimage.measure", "trimesh", "xatlas"):
        monkeypatch.setitem(sys.modules, package, None)
    for act in (lambda: extract(jump, 12), lambda: write_ply(mesh, "never.ply"), lambda: bake(mesh, jump)):
        with pytest.raises(MissingExtra, match=r"pip install 'scoredistill\[nerf\]'"):
            act()


def test_the_rasterizer_agrees_with_a_loop_over_texels(monkeypatch):
    monkeypatch.setattr("scoredistill.three_d.mesh.texture.CANDIDATES", 50)
    square = torch.tensor([[[2.0, 2.0], [9.0, 2.0], [2.0, 9.0]], [[9.0, 2.0], [9.0, 9.0], [2.0, 9.0]]])
    small = torch.tensor([[[12.2, 3.1], [15.7, 5.0], [13.0, 10.4]], [[20.0, 20.0], [20.0, 20.0], [20.0, 20.0]]])
    triangles = torch.cat([square, small])
    owner, weights = rasterize(triangles, 24)
    assert not (owner == 3).any()  # it has no area
    for i in range(24):
        for j in range(24):
            x, y = j + 0.5, i + 0.5
            if 2 < x < 9 and 2 < y < 9:
                assert owner[i, j] == (0 if x + y < 11 else 1) or x + y == 11
            if owner[i, j] >= 0:
                there = weights[i, j] @ triangles[owner[i, j]]
                torch.testing.assert_close(there, torch.tensor([x, y]), atol=1e-4, rtol=0)
    assert owner[5, 9] == 1  # half a texel outside
    assert owner[5, 10] == -1  # one and a half


def through_texture(shape, count=4000):
    """Positions in our axes and colors of random points of a GLB's surface, read as a viewer does (bilinear)."""
    rng = np.random.default_rng(0)
    face = rng.choice(len(shape.faces), count, p=shape.area_faces / shape.area)
    corner = rng.dirichlet([1, 1, 1], count)
    points = np.einsum("nk,nkd->nd", corner, shape.vertices[shape.faces[face]])
    uv = np.einsum("nk,nkd->nd", corner, shape.visual.uv[shape.faces[face]])
    image = np.asarray(shape.visual.material.baseColorTexture.convert("RGB"), float) / 255
    x, y = uv[:, 0] * image.shape[1] - 0.5, (1 - uv[:, 1]) * image.shape[0] - 0.5
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    at = lambda i, j: image[i.clip(0, image.shape[0] - 1), j.clip(0, image.shape[1] - 1)]
    u, v = (x - j)[:, None], (y - i)[:, None]
    colors = (1 - v) * ((1 - u) * at(i, j) + u * at(i, j + 1)) + v * ((1 - u) * at(i + 1, j) + u * at(i + 1, j + 1))
    return torch.tensor(points[:, [0, 2, 1]] * [1, -1, 1]).float(), torch.tensor(colors).float()


def test_a_glb_has_the_field_s_colors_on_its_texture(tmp_path):
    pytest.importorskip("xatlas")
    path = write_glb(extract(jump, 32), tmp_path / "new" / "ball.glb", jump, texture=256)
    assert 50_000 < path.stat().st_size < 1_000_000
    shape = trimesh.load(path, force="mesh", process=False)
    assert shape.visual.material.baseColorTexture.size == (256, 256)
    assert shape.visual.material.metallicFactor == 0
    assert shape.visual.material.roughnessFactor == 1
    assert shape.visual.uv.min() >= 0
    assert 0.9 < shape.visual.uv.max() <= 1
    points, colors = through_texture(shape)
    assert (points.norm(dim=-1) - 0.5).abs().max() < 0.01
    error = (colors - affine(points)).abs()
    assert error.max() < 0.012  # 8 bits, and colors from 1/64 under the surface, which change by up to 0.3 per unit
    assert error.mean() < 0.004
    assert list(path.parent.iterdir()) == [path]


def test_a_glb_is_y_up_and_its_front_looks_along_z(tmp_path):
    pytest.importorskip("xatlas")
    mesh = extract(two_halves, 40)
    shape = trimesh.load(write_glb(mesh, tmp_path / "object.glb", two_halves, texture=128), force="mesh", process=False)
    np.testing.assert_allclose(shape.bounds, [[-0.15, -0.25, -0.05], [0.55, 0.45, 0.65]], atol=0.01)
    points, colors = through_texture(shape)
    red = colors[:, 0] > 0.5
    sure = (points[:, 2] - 0.1).abs() > 0.03
    assert (red == (points[:, 2] > 0.1))[sure].all()
    assert shape.volume > 0  # turned, not mirrored
    center = shape.vertices - [0.2, 0.1, 0.3]
    assert (np.sum(shape.vertex_normals * center, -1) > 0.3).all()


def chunk_of(path):
    """The JSON part of a GLB."""
    data = path.read_bytes()
    assert data[:4] == b"glTF"
    return json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])


def test_without_a_texture_the_vertices_are_colored(tmp_path):
    mesh = extract(jump, 24)
    tree = chunk_of(write_glb(mesh, tmp_path / "plain.glb"))
    assert "images" not in tree
    assert "extensionsUsed" not in tree
    assert {"COLOR_0", "NORMAL", "POSITION"} <= tree["meshes"][0]["primitives"][0]["attributes"].keys()
    shape = trimesh.load(tmp_path / "plain.glb", force="mesh", process=False)
    stored = torch.tensor(np.asarray(shape.visual.vertex_colors)[:, :3] / 255.0)
    shown = torch.where(stored <= 0.0031308, 12.92 * stored, 1.055 * stored ** (1 / 2.4) - 0.055)  # as a screen does
    assert (shown - mesh.colors).abs().max() < 0.02


def test_obj_has_y_up_and_ply_has_z_up_and_both_say_so(tmp_path):
    mesh = extract(two_halves, 24)
    y_up = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, z, -y)
    for write, name, turn, said in (
        (write_obj, "object.obj", y_up, b"# axes: x right, y up"),
        (write_ply, "object.ply", torch.eye(3), b"comment axes: x right, y away from the viewer of the front, z up"),
    ):
        shape = trimesh.load(write(mesh, tmp_path / name), process=False)
        np.testing.assert_allclose(shape.vertices, (mesh.vertices @ turn.T).numpy(), atol=1e-6)
        np.testing.assert_array_equal(shape.faces, mesh.faces.numpy())
        colors = np.asarray(shape.visual.vertex_colors)[:, :3] / 255
        np.testing.assert_allclose(colors, mesh.colors.numpy(), atol=1 / 255)
        assert np.einsum("nd,nd->n", shape.vertex_normals, (mesh.normals @ turn.T).numpy()).min() > 0.99
        assert said in (tmp_path / name).read_bytes()[:300]


def test_ply_comes_back(tmp_path):
    mesh = extract(two_halves, 12)
    back = read_ply(write_ply(mesh, tmp_path / "object.ply"))
    torch.testing.assert_close(back.vertices, mesh.vertices)
    torch.testing.assert_close(back.normals, mesh.normals)
    assert back.faces.equal(mesh.faces)
    assert (back.colors - mesh.colors).abs().max() < 1 / 500


def test_polygons_of_other_files_become_triangles(tmp_path):
    """A pyramid: four triangles and a square below, with colors of 16 bits and no normals."""
    lines = ["0 0 0 65535 0 0", "1 0 0 0 0 0", "1 1 0 0 0 0", "0 1 0 0 0 0", "0.5 0.5 1 0 32768 0"]
    faces = ["4 0 3 2 1", "3 0 1 4", "3 1 2 4", "3 2 3 4", "3 3 0 4", "2 0 1"]
    header = ["ply", "format ascii 1.0", "element vertex 5"]
    header += [*(f"property double {a}" for a in "xyz"), *(f"property ushort {c}" for c in ("red", "green", "blue"))]
    header += [f"element face {len(faces)}", "property list uchar uint vertex_index", "end_header"]
    (tmp_path / "a.ply").write_text("\n".join([*header, *lines, *faces]))
    mesh = read_ply(tmp_path / "a.ply")
    assert mesh.faces[:2].tolist() == [[0, 3, 2], [0, 2, 1]]
    assert len(mesh.faces) == 6
    assert mesh.volume == pytest.approx(1 / 3)
    assert mesh.colors[0].tolist() == [1, 0, 0]
    assert mesh.colors[4, 1] == pytest.approx(0.5, abs=1e-4)
    assert torch.allclose(mesh.normals[4], torch.tensor([0.0, 0.0, 1.0]))
    for old, new in (("3 0 1 4", "3 0 1 5"), ("property double z", "property double w")):
        (tmp_path / "b.ply").write_text("\n".join([*header, *lines, *faces]).replace(old, new))
        with pytest.raises(ValueError, match=r"b\.ply has no (mesh|faces)"):
            read_ply(tmp_path / "b.ply")


def test_unlit_materials_are_marked(tmp_path):
    pytest.importorskip("xatlas")
    mesh = extract(jump, 12)
    for field in (None, jump):
        tree = chunk_of(write_glb(mesh, tmp_path / "unlit.glb", field, texture=64, unlit=True))
        assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
        part = tree["meshes"][0]["primitives"][0]
        assert tree["materials"][part["material"]]["extensions"] == {"KHR_materials_unlit": {}}
        assert ("COLOR_0" in part["attributes"]) == (field is None)
