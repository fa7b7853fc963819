"""Meshes of other programs: axes, places, UV layouts, colors, and files that are refused with one sentence."""

import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("xatlas")
pytest.importorskip("scipy")

from scoredistill.three_d.mesh import is_mesh, read_mesh, reading, write_textured
from scoredistill.three_d.mesh.files import encoded, linear
from scoredistill.three_d.mesh.texture import rasterize

FORMATS = ("glb", "obj", "ply", "stl", "off")


def box(extents=(1.0, 2.0, 4.0), at=(5.0, 0.0, 0.0)):
    return trimesh.creation.box(extents, transform=trimesh.transformations.translation_matrix(at))


def image(size=32):
    """Red grows to the right, green downwards."""
    ramp = (np.arange(size) + 0.5) / size
    rgb = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)), np.zeros((size, size))], -1)
    return Image.fromarray((255 * rgb).round().astype(np.uint8))


def square(uv, picture=None, turn=None):
    """A square in the plane x y of a file with the given texture coordinates."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture or image())
    visual = trimesh.visual.TextureVisuals(uv=np.asarray(uv, float), material=material)
    made = trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    return made if turn is None else made.apply_transform(turn)


WHOLE = [[0, 0], [1, 0], [1, 1], [0, 1]]


def colors_at_vertices(found):
    """Colors of the texture at the vertices of the mesh, by the nearest texel."""
    model = found.model
    height, width = model.texture.shape[1:]
    column = (model.uv[:, 0] * width - 0.5).round().long().clamp(0, width - 1)
    row = ((1 - model.uv[:, 1]) * height - 0.5).round().long().clamp(0, height - 1)
    return model.texture[:, row, column].T


@pytest.mark.parametrize("kind", FORMATS)
def test_meshes_of_all_kinds_come_upright_centered_and_in_the_unit_ball(kind, tmp_path):
    box().export(tmp_path / f"box.{kind}")
    assert is_mesh(tmp_path / f"box.{kind}")
    found = read_mesh(tmp_path / f"box.{kind}", texture=64)
    mesh = found.model.mesh
    assert float(mesh.vertices.norm(dim=-1).max()) == pytest.approx(reading.RADIUS, rel=1e-5)
    assert torch.allclose(mesh.vertices.amin(0), -mesh.vertices.amax(0), atol=1e-5)
    size = mesh.vertices.amax(0) * 2 * found.scale
    y_up = kind in ("glb", "obj")
    assert torch.allclose(size, torch.tensor([1.0, 4, 2] if y_up else [1.0, 2, 4]), atol=1e-4)
    assert mesh.volume > 0  # turned, not mirrored
    assert found.center == pytest.approx((5.0, 0.0, 0.0), abs=1e-5)
    assert not found.colored
    assert torch.allclose(found.model.texture, torch.tensor(reading.GRAY))
    assert float(((mesh.normals * mesh.vertices).sum(-1) > 0).float().mean()) == 1


def test_the_axis_can_be_given(tmp_path):
    box().export(tmp_path / "box.obj")
    found = read_mesh(tmp_path / "box.obj", texture=64, up="z")
    assert torch.allclose(found.model.mesh.vertices.amax(0) * 2 * found.scale, torch.tensor([1.0, 2, 4]), atol=1e-4)


def test_a_layout_that_can_hold_a_texture_is_kept_with_its_image(tmp_path):
    trimesh.Scene(square(WHOLE)).export(tmp_path / "a.glb")
    found = read_mesh(tmp_path / "a.glb", texture=64)
    assert found.kept
    assert found.colored
    assert found.model.texture.shape == (3, 32, 32)  # its own texels
    want = torch.tensor([[0.0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]])  # v is upwards, rows are downwards
    assert torch.allclose(colors_at_vertices(found), want, atol=0.05)
    assert read_mesh(tmp_path / "a.glb", texture=16).model.texture.shape == (3, 16, 16)
    assert not read_mesh(tmp_path / "a.glb", texture=64, layout="new").kept


UNFIT = {
    "texture coordinates leave": [[0, 0], [2, 0], [2, 2], [0, 2]],
    "triangles share texels": [[0, 0], [1, 0], [1, 1], [1, 0]],
    "next to nothing": [[0, 0], [0.01, 0], [0.01, 0.01], [0, 0.01]],
}


@pytest.mark.parametrize("why", UNFIT)
def test_other_layouts_are_made_anew_with_the_colors_of_the_file(why, tmp_path):
    trimesh.Scene(square(UNFIT[why])).export(tmp_path / "a.glb")
    found = read_mesh(tmp_path / "a.glb", texture=128)
    assert not found.kept
    assert found.colored
    uv = torch.tensor(UNFIT[why], dtype=torch.float) % 1.0000001
    if why != "texture coordinates leave":  # whose corners repeat the image's
        want = torch.stack([uv[:, 0], 1 - uv[:, 1], 0 * uv[:, 0]], 1)
        x, _, z = found.model.mesh.vertices.unbind(-1)
        corner = torch.where(z < 0, (x > 0).long(), 3 - (x > 0).long())
        assert torch.allclose(colors_at_vertices(found), want[corner], atol=0.1)
    with pytest.raises(ValueError, match=rf"a\.glb cannot be kept: .*{why.split()[-1]}.*use the layout new or auto"):
        read_mesh(tmp_path / "a.glb", layout="keep")


def test_parts_with_transforms_and_images_of_their_own_become_one_mesh(tmp_path):
    scene = trimesh.Scene()
    for x, rgb in ((0.0, (255, 0, 0)), (3.0, (0, 0, 255))):
        part = square(WHOLE, Image.new("RGB", (8, 8), rgb))
        scene.add_geometry(part, transform=trimesh.transformations.translation_matrix([x, 0, 0]))
    scene.export(tmp_path / "two.glb")
    found = read_mesh(tmp_path / "two.glb", texture=64)
    assert not found.kept
    assert len(found.model.mesh.faces) == 4
    colors, x = colors_at_vertices(found), found.model.mesh.vertices[:, 0]
    assert torch.allclose(colors[x < 0], torch.tensor([1.0, 0, 0]), atol=0.01)
    assert torch.allclose(colors[x > 0], torch.tensor([0.0, 0, 1]), atol=0.01)


@pytest.mark.parametrize("kind", ["glb", "ply"])
def test_colors_of_vertices_are_copied(kind, tmp_path):
    made = box()
    shown = np.where(made.vertices[:, :1] > 5, [[0.2, 0.4, 0.6]], [[0.8, 0.6, 0.1]])
    stored = linear(torch.tensor(shown)).numpy() if kind == "glb" else shown  # glTF keeps linear colors of vertices
    made.visual.vertex_colors = (255 * stored).round().astype(np.uint8)
    made.export(tmp_path / f"a.{kind}")
    found = read_mesh(tmp_path / f"a.{kind}", texture=64)
    assert found.colored
    right = found.model.mesh.vertices[:, 0] > 0
    want = torch.where(right[:, None], torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.8, 0.6, 0.1]))
    assert (colors_at_vertices(found) - want).abs().max() < 0.1


@pytest.mark.parametrize("names", [("s", "t"), ("texture_u", "texture_v")])
def test_ply_files_keep_their_texture_coordinates_and_their_image(names, tmp_path):
    image().save(tmp_path / "picture.png")
    lines = ["ply", "format ascii 1.0", "comment TextureFile picture.png", "element vertex 4"]
    lines += [f"property float {name}" for name in ("x", "y", "z", *names)]
    lines += ["element face 2", "property list uchar int vertex_indices", "end_header"]
    lines += ["0 0 0 0 0", "1 0 0 1 0", "1 0 1 1 1", "0 0 1 0 1", "3 0 1 2", "3 0 2 3"]
    (tmp_path / "a.ply").write_text("\n".join(lines))
    found = read_mesh(tmp_path / "a.ply", texture=64)
    assert found.kept
    want = torch.tensor([[0.0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert torch.allclose(colors_at_vertices(found), want, atol=0.05)
    (tmp_path / "picture.png").write_text("no image")
    with pytest.raises(ValueError, match=r"the texture of a\.ply cannot be decoded"):
        read_mesh(tmp_path / "a.ply", texture=64)
    (tmp_path / "picture.png").unlink()
    assert not read_mesh(tmp_path / "a.ply", texture=64).colored


def test_encoding_is_the_inverse_of_linear():
    rgb = torch.linspace(0, 1, 30).view(10, 3)
    assert torch.allclose(encoded(linear(rgb)), rgb, atol=1e-5)


def test_what_is_written_is_in_its_own_place_and_comes_back(tmp_path):
    trimesh.Scene(square(WHOLE)).export(tmp_path / "a.glb")
    before = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    found = read_mesh(tmp_path / "a.glb")
    write_textured(found.placed(found.model), tmp_path / "b.glb")
    after = trimesh.load(tmp_path / "b.glb", force="mesh", process=False)
    np.testing.assert_allclose(after.bounds, before.bounds, atol=1e-6)
    np.testing.assert_allclose(after.visual.uv, before.visual.uv, atol=1e-6)
    again = read_mesh(tmp_path / "b.glb")
    assert torch.allclose(again.model.texture, found.model.texture, atol=1 / 255)


def test_no_two_triangles_share_texels_in_a_new_layout(tmp_path):
    trimesh.creation.icosphere(2).export(tmp_path / "ball.stl")
    laid = read_mesh(tmp_path / "ball.stl", texture=128).model.layout(128)
    owner, corner = rasterize(laid, 128, 0.0)
    a, b, c = laid.unbind(1)
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs().sum() / 2
    covered = int(((owner >= 0) & (corner >= 0).all(-1)).sum())
    assert covered > 0.3 * 128**2
    assert covered == pytest.approx(float(area), rel=0.03)


def ply(vertices, faces):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [*(f"property float {a}" for a in "xyz"), f"element face {len(faces)}"]
    lines += ["property list uchar int vertex_indices", "end_header"]
    rows = [" ".join(map(str, v)) for v in vertices] + [" ".join(map(str, [len(f), *f])) for f in faces]
    return "\n".join([*lines, *rows]).encode()


TRIANGLE = [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
HOSTILE = {
    "nan.ply": (ply([(0, 0, "nan"), *TRIANGLE[1:]], [(0, 1, 2)]), "vertices that are not finite: repair"),
    "inf.obj": (b"v 0 0 inf\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "vertices that are not finite: repair"),
    "flat.ply": (ply([(0, 0, 0), (1, 0, 0), (2, 0, 0)], [(0, 1, 2)]), "only faces without area"),
    "point.obj": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "only faces without area"),
    "cloud.ply": (ply(TRIANGLE, []), "has no faces"),
    "cloud.obj": (b"v 0 0 0\nv 1 0 0\n", r"has no faces|cannot be read"),
    "empty.obj": (b"", r"has no faces|cannot be read"),
    "outside.ply": (ply(TRIANGLE, [(0, 1, 7)]), "vertices that do not exist"),
    "outside.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "exist|cannot be read"),
    "text.glb": (b"no mesh at all", "cannot be read as a mesh"),
    "short.glb": (b"glTF" + struct.pack("<II", 2, 2**31) + b"JSON", "cannot be read as a mesh"),
    "huge.ply": (ply(TRIANGLE, []).replace(b"face 0", b"face 999999999"), "truncated"),
    "tiny.obj": (b"v 0 0 0\nv 1e-40 0 0\nv 0 1e-40 0\nf 1 2 3\n", "too small or too large|without area"),
    "mesh.txt": (b"v 0 0 0", "give a file of .glb"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_one_sentence(name, tmp_path):
    content, sentence = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_mesh(tmp_path / name, texture=64)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is not a file: check its name"):
        read_mesh(tmp_path / "none.glb")
    box().export(tmp_path / "box.stl")
    for wrong in ({"up": "x"}, {"layout": "old"}, {"texture": 8}):
        with pytest.raises(ValueError, match=r"must be one of|at least 16 texels"):
            read_mesh(tmp_path / "box.stl", **wrong)
    monkeypatch.setattr(reading, "MOST_FACES", 11)
    with pytest.raises(ValueError, match=r"box\.stl has 12 faces, more than 11: reduce it first"):
        read_mesh(tmp_path / "box.stl")
    monkeypatch.setattr(reading, "MOST_BYTES", 2**6)
    with pytest.raises(ValueError, match=r"box\.stl has more than 0 MiB"):
        read_mesh(tmp_path / "box.stl")
    assert not is_mesh(tmp_path)
    assert not is_mesh("a.png")


def test_nothing_outside_the_directory_is_read(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "secret.png")
    Image.new("RGB", (8, 8), (0, 255, 0)).save(inside / "open.png")
    quad = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
    for name, read in (("../secret.png", False), (str(tmp_path / "secret.png"), False), ("open.png", True)):
        (inside / "a.mtl").write_text(f"newmtl m\nmap_Kd {name}\n")
        (inside / "a.obj").write_text(f"mtllib a.mtl\n{quad}")
        found = read_mesh(inside / "a.obj", texture=64)
        assert float(found.model.texture[0].mean()) < 0.9  # never the secret red
        assert (float(found.model.texture[1].mean()) > 0.9) == read
    tree = json.dumps({"asset": {"version": "2.0"}, "buffers": [{"uri": "../../x.bin", "byteLength": 36}]})
    (inside / "a.gltf").write_text(tree)
    with pytest.raises(ValueError, match=r"cannot be read|has no faces"):
        read_mesh(inside / "a.gltf")


def _triangle(tmp_path, color, extra="", of="vertex", value=""):
    """A PLY file of one triangle with colors of vertices or faces."""
    names = "".join(f"property float {name}\n" for name in ("red", "green", "blue"))
    at = lambda element: (names, f" {color}") if of == element else ("", "")
    (vertex, tint), (face, shade) = at("vertex"), at("face")
    axes = "".join(f"property float {name}\n" for name in "xyz")
    head = f"ply\nformat ascii 1.0\nelement vertex 3\n{axes}{vertex}element face 1\n"
    head += f"property list uchar int vertex_indices\n{face}{extra}end_header\n"
    rows = "".join(f"{place}{tint}\n" for place in ("0 0 0", "1 0 0", "0 1 0"))
    (tmp_path / "a.ply").write_text(f"{head}{rows}3 0 1 2{shade}{value}\n")
    return tmp_path / "a.ply"


def test_colors_of_faces_are_read_and_clamped(tmp_path):
    found = read_mesh(_triangle(tmp_path, "1.5 0.25 -1", of="face"), texture=16)
    assert found.colored
    assert torch.allclose(found.model.texture.mean((1, 2)), torch.tensor([1.0, 0.25, 0.0]), atol=1e-4)


def test_colors_that_are_not_finite_and_coordinates_of_faces_are_refused(tmp_path):
    with pytest.raises(ValueError, match="colors that are not finite"):
        read_mesh(_triangle(tmp_path, "nan 0 0"), texture=16)
    listed = "property list uchar float texcoord\n"
    with pytest.raises(ValueError, match="export it as OBJ or GLB"):
        read_mesh(_triangle(tmp_path, "1 0 0", listed, value=" 6 0 0 1 0 0 1"), texture=16)


def test_materials_that_are_missing_are_named(tmp_path):
    (tmp_path / "a.obj").write_text("mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.warns(UserWarning, match=r"without gone\.mtl"):
        read_mesh(tmp_path / "a.obj", texture=16)
