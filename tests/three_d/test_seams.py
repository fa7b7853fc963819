"""Seams of UV layouts: shared edges, gutters that follow the neighboring chart, and how visible seams are."""

from dataclasses import replace

import pytest
import torch

from scoredistill.three_d.mesh import Atlas, Mesh, TexturedMesh, seam_error
from scoredistill.three_d.mesh.seams import Edges, places
from scoredistill.three_d.mesh.texture import rasterize, spread

SIZE = 64
pytest.importorskip("scipy")


def folded(angle=0.0, flip=False):
    """Two unit squares with a common edge of length 1, at an angle, far apart and turned in the texture.

    Points (x, y) of the unfolded plane, with x in [-1, 1] and y in [0, 1], are on the left square for x < 0.
    """
    up = torch.tensor([torch.tensor(angle).cos(), 0.0, torch.tensor(angle).sin()])
    y = torch.tensor([0.0, 1.0, 0.0])
    left = torch.tensor([[-1.0, 0, 0], [0, 0, 0], [0, 1, 0], [-1, 1, 0]])
    right = torch.stack([0 * y, up, up + y, y])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    if flip:
        faces[2:] = faces[2:].flip(1)
    uv = torch.tensor([[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.4], [0.9, 0.6], [0.9, 0.9], [0.6, 0.9], [0.6, 0.6]])
    vertices = torch.cat([left, right])
    return TexturedMesh(
        Mesh(vertices, torch.zeros_like(vertices), torch.zeros_like(vertices), faces), uv, torch.zeros(3, SIZE, SIZE)
    )


def plane(model, atlas):
    """(x, y) of the free texels in the unfolded plane."""
    up = model.mesh.vertices[4] + model.mesh.vertices[5]
    x = torch.where(atlas.face < 2, atlas.point[:, 0], (atlas.point * up).sum(-1))
    return torch.stack([x, atlas.point[:, 1]], -1)


@pytest.mark.parametrize("flip", [False, True])
def test_edges_know_their_triangles_and_which_are_seams(flip):
    edges = Edges.of(folded(1.0, flip))
    pairs = {tuple(sorted(pair)): (bool(seam), bool(turned)) for pair, seam, turned in zip(
        edges.face.tolist(), edges.seam, edges.flipped, strict=True)}  # fmt: skip
    assert pairs == {(0, 1): (False, False), (2, 3): (False, False), (0, 3): (True, flip)}
    assert places(folded().mesh.vertices).tolist()[1] == places(folded().mesh.vertices).tolist()[4]


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("flip", [False, True])
def test_a_color_that_is_linear_on_the_surface_crosses_the_seam(angle, flip):
    """Gutters at a seam go on linearly, as the surface does."""
    model = folded(angle, flip)
    atlas = Atlas.of(model, SIZE)
    color = lambda where: 0.5 + 0.3 * where[:, :1] + 0.1 * where[:, 1:]
    texels = color(plane(model, atlas)).T.expand(3, -1)
    texture = atlas.assembled(texels)
    # to the right of the left square, at u just above 0.4, x continues to grow
    row, column = round((1 - 0.25) * SIZE), int(0.4 * SIZE)
    step = 1 / (0.3 * SIZE)  # length of a texel on the surface
    for beyond in (0, 1, 2):
        u, v = (column + 1 + beyond + 0.5) / SIZE, 1 - (row + 0.5) / SIZE
        want = 0.5 + 0.3 * (u - 0.4) / 0.3 + 0.1 * (v - 0.1) / 0.3
        assert float(texture[0, row, column + 1 + beyond]) == pytest.approx(want, abs=0.3 * step * 0.02)
    smooth = seam_error(replace(model, texture=texture))
    assert smooth.edges == 1
    assert smooth.seam == pytest.approx(0.3 * step, rel=0.05)  # one texel apart, as it would be within a chart


def test_seams_of_smooth_colors_are_no_more_visible_than_the_interior(rng):
    """Waves of 6 texels along and across the seam; copies of the nearest texels leave a step."""
    model = folded(1.0)
    atlas = Atlas.of(model, SIZE)
    where = plane(model, atlas) * (2 * torch.pi * 0.3 * SIZE / 6)
    phase = 2 * torch.pi * torch.rand(3, 1, generator=rng)
    texture = atlas.assembled(0.5 + 0.4 * torch.sin(where[:, 0] + where[:, 1] + phase))
    owner, corner = rasterize(model.layout(SIZE), SIZE, 0.0)
    dilated = spread(texture, (owner >= 0) & (corner >= 0).all(-1))
    seam, copied = (seam_error(replace(model, texture=each), away=0.01).seam for each in (texture, dilated))
    assert seam < 0.04  # of colors in [0.1, 0.9]
    assert seam < 0.5 * copied


def test_the_texture_is_linear_in_its_texels_and_takes_back_what_it_was_given(rng):
    model = folded(0.5)
    atlas = Atlas.of(model, SIZE)
    texels = torch.rand(4, len(atlas.face), generator=rng, dtype=torch.float64)
    texture = atlas.assembled(texels)
    assert torch.allclose(atlas.weight.sum(-1), torch.ones(len(atlas.weight)), atol=1e-6)
    assert torch.equal(texture[:, atlas.row, atlas.column], texels)
    assert torch.allclose(atlas.taken(texture), texels)
    assert torch.allclose(atlas.assembled(2 * texels + 1), 2 * texture + 1)


def test_of_a_mesh_without_seams_nothing_is_said():
    model = folded()
    one = replace(model, mesh=replace(model.mesh, faces=model.mesh.faces[:1]))
    error = seam_error(one)
    assert (error.seam, error.interior, error.edges) == (0.0, 0.0, 0)
