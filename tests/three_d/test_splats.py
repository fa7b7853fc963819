"""Splats against closed forms: one Gaussian, two Gaussians, rotations of the world; files; densification; a fit."""

import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from scoredistill.three_d.camera import Cameras, around, orbit
from scoredistill.three_d.scenes.base import Look
from scoredistill.three_d.scenes.splats import Splats
from scoredistill.three_d.splatting import Densify, Gaussians, Slopes, project, rasterize, read_ply, write_ply
from scoredistill.three_d.splatting.gaussians import Y0, Y1

DOUBLE = torch.float64


def gaussians(means, widths, opacities, rgb):
    """Round Gaussians of given standard deviations, opacities in (0, 1) and colors, float64."""
    means, widths, opacities, rgb = (torch.tensor(v, dtype=DOUBLE) for v in (means, widths, opacities, rgb))
    quaternions = torch.tensor([[1.0, 0, 0, 0]], dtype=DOUBLE).repeat(len(means), 1)
    return Gaussians(
        means, widths.log()[:, None].repeat(1, 3), quaternions, opacities.logit(), ((rgb - 0.5) / Y0)[:, None]
    )


def cloud(n, rng, degree=0):
    """Random Gaussians of all shapes around the origin, float64."""
    normal = lambda *shape: torch.randn(*shape, generator=rng, dtype=DOUBLE)
    colors = 0.5 * normal(n, (degree + 1) ** 2, 3)
    return Gaussians(0.3 * normal(n, 3), -1.8 + 0.4 * normal(n, 3), normal(n, 4), normal(n), colors)


def cameras(n=1, size=(16, 16), azimuth=20.0):
    return around(azimuth + 70 * torch.arange(n, dtype=DOUBLE), 15.0, 3.0, 40.0, size)


def turned(points, quaternions, rng):
    """Points and quaternions in a world that is rotated at random, and the rotation."""
    q = torch.nn.functional.normalize(torch.randn(4, generator=rng, dtype=DOUBLE), dim=0)
    w, x, y, z = q
    left = torch.stack([torch.stack(r) for r in ((w, -x, -y, -z), (x, w, -z, y), (y, z, w, -x), (z, -y, x, w))])
    rotation = Gaussians(points[:1], points[:1], q[None], points[:1, 0], points[:1, None]).rotations()[0]
    return points @ rotation.T, quaternions @ left.T, rotation


def test_one_gaussian_in_the_middle_is_the_closed_form():
    camera = cameras(size=(21, 21))
    gaussian = gaussians([[0, 0, 0.0]], [0.2], [0.8], [[0.9, 0.5, 0.1]])
    layers = rasterize(gaussian, camera)
    variance = (float(camera.focal[0, 0]) * 0.2 / 3) ** 2 + 0.3
    i, j = torch.meshgrid(*(torch.arange(21, dtype=DOUBLE) - 10,) * 2, indexing="ij")
    alpha = 0.8 * (-(i**2 + j**2) / (2 * variance)).exp()
    torch.testing.assert_close(layers.opacity[0, 0], alpha, rtol=0, atol=1e-9)
    expected = alpha * torch.tensor([0.9, 0.5, 0.1], dtype=DOUBLE)[:, None, None]
    torch.testing.assert_close(layers.features[0], expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(layers.depth[0, 0], torch.where(alpha > 1e-3, 3.0, 0.0).double())
    assert 0.1 < float((alpha > 1e-3).double().mean()) < 0.9


def test_a_gaussian_lands_where_its_mean_is_projected(rng):
    some, camera = cloud(30, rng), cameras(size=(20, 30))
    centers, covariances, depth = project(some, camera, blur=0.0)
    flat, z = camera.project(some.means)
    torch.testing.assert_close(centers, flat[0])
    torch.testing.assert_close(depth, z[0])
    # the derivative of the projection, by autograd, takes the covariance to the image
    for k in range(5):
        slope = torch.autograd.functional.jacobian(lambda p: camera.project(p[None])[0][0, 0], some.means[k])
        root = some.roots()[k]
        torch.testing.assert_close(covariances[k], slope @ root @ root.T @ slope.T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("azimuth", [0.0, 180.0])
def test_two_gaussians_composite_in_the_order_of_their_depths(azimuth):
    """The nearer one hides the other, so the order changes with the viewpoint. Both are wide: alpha = opacity."""
    front, back = [1.0, 0.2, 0.0], [0.1, 0.4, 1.0]
    pair = gaussians([[0, 0.4, 0], [0, -0.4, 0.0]], [5.0, 5.0], [0.6, 0.3], [back, front])
    layers = rasterize(pair, around(torch.tensor([azimuth], dtype=DOUBLE), 0.0, 3.0, 10.0, (3, 3)))
    first, second = ((front, 0.3, 2.6), (back, 0.6, 3.4))[:: 1 if azimuth == 0 else -1]
    if azimuth == 180:
        first, second = (back, 0.6, 2.6), (front, 0.3, 3.4)
    (c1, a1, z1), (c2, a2, z2) = first, second
    color = torch.tensor(c1) * a1 + torch.tensor(c2) * a2 * (1 - a1)
    middle = layers.features[0, :, 1, 1]
    torch.testing.assert_close(middle, color.double(), rtol=0, atol=1e-6)
    opacity = a1 + a2 * (1 - a1)
    assert float(layers.opacity[0, 0, 1, 1]) == pytest.approx(opacity, abs=1e-6)
    assert float(layers.depth[0, 0, 1, 1]) == pytest.approx((a1 * z1 + a2 * (1 - a1) * z2) / opacity, abs=1e-6)


@pytest.mark.parametrize("degree", [0, 1])
def test_rotating_world_and_camera_changes_nothing(degree, rng):
    some, camera = cloud(20, rng, degree), cameras()
    before = rasterize(some, camera)
    means, quaternions, rotation = turned(some.means, some.quaternions, rng)
    poses = camera.poses.clone()
    poses[:, :3] = rotation @ poses[:, :3]
    colors = some.colors.clone()
    if degree:  # linear harmonics are a vector, kept as (-y, z, -x)
        y, z, x = -some.colors[:, 1], some.colors[:, 2], -some.colors[:, 3]
        vector = torch.einsum("ij,gjc->gic", rotation, torch.stack([x, y, z], 1))
        colors[:, 1:] = torch.stack([-vector[:, 1], vector[:, 2], -vector[:, 0]], 1)
    moved = replace(some, means=means, quaternions=quaternions, colors=colors)
    after = rasterize(moved, Cameras(poses, camera.focal, camera.center, camera.size))
    assert before.opacity.max() > 0.5
    for name in ("features", "opacity", "depth"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-7, atol=1e-8)


def test_colors_of_degree_one_by_hand():
    one = gaussians([[0, 0, 0.0]], [0.1], [0.5], [[0.5, 0.5, 0.5]])
    higher = torch.zeros(1, 4, 3, dtype=DOUBLE)
    higher[0, 1:, 0] = torch.tensor([0.1, 0.2, 0.3])
    eyes = torch.tensor([[0, -2.0, 0], [0, 0, -2.0], [-2.0, 0, 0], [2.0, 0, 0]], dtype=DOUBLE)
    seen = replace(one, colors=higher).rgb(eyes)[:, 0, 0]
    expected = 0.5 + Y1 * torch.tensor([-0.1, 0.2, -0.3, 0.3], dtype=DOUBLE)
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize("chunk", [2**20, 16])
def test_gradients_by_all_parameters(chunk, rng):
    some, camera = cloud(4, rng, 1), cameras(2, (3, 4))
    names = list(Gaussians.__dataclass_fields__)
    values = [getattr(some, name).requires_grad_() for name in names]

    def call(*values):
        layers = rasterize(Gaussians(*values), camera, chunk=chunk)
        return layers.features, layers.opacity, layers.depth

    assert torch.autograd.gradcheck(call, values, atol=1e-6)


def plainly(some, camera):
    """The formulas of the paper, one Gaussian after the other: [h, w, 3]."""
    centers, covariances, depth = project(some, camera)
    i, j = torch.meshgrid(*(torch.arange(s, dtype=DOUBLE) + 0.5 for s in camera.size), indexing="ij")
    image, left = torch.zeros(*camera.size, 3, dtype=DOUBLE), torch.ones(camera.size, dtype=DOUBLE)
    for g in depth.argsort():
        off = torch.stack([j, i], -1) - centers[g]
        form = torch.einsum("hwi,ij,hwj->hw", off, torch.linalg.inv(covariances[g]), off)
        alpha = (some.opacities[g].sigmoid() * (-form / 2).exp()).clamp(max=0.999)
        image = image + (left * alpha)[..., None] * some.rgb(camera.eyes)[0, g]
        left = left * (1 - alpha)
    return image


@pytest.mark.parametrize("chunk", [2**18, 1])
def test_images_and_derivatives_are_those_of_the_plain_formula(chunk, rng):
    """Fifty Gaussians, from thin ones that most rows leave out to opaque ones that reach the largest alpha."""
    some, camera = cloud(50, rng), cameras(size=(14, 11))
    some = replace(some, opacities=5 * some.opacities, scales=some.scales - 1)
    some.means[0], some.opacities[0], some.scales[0] = -camera.eyes[0] / 2, 9.0, 2.0  # wide, behind all others
    values = [getattr(some, name).requires_grad_() for name in Gaussians.__dataclass_fields__]
    seen = torch.randn(14, 11, 3, generator=rng, dtype=DOUBLE)
    ours = rasterize(some, camera, chunk=chunk).features[0].permute(1, 2, 0)
    theirs = plainly(some, camera)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    found, expected = (torch.autograd.grad((seen * x).sum(), values) for x in (ours, theirs))
    for name, a, b in zip(Gaussians.__dataclass_fields__, found, expected, strict=True):
        assert float(b.abs().max()) > 0.1, name
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_strips_are_the_image(rng):
    some, camera = cloud(25, rng), cameras(2, (17, 13))
    whole, strips = rasterize(some, camera), rasterize(some, camera, chunk=25 * 13 * 4)
    torch.testing.assert_close(strips.features, whole.features)
    torch.testing.assert_close(strips.depth, whole.depth)


def test_gaussians_that_are_too_near_or_behind_are_skipped():
    camera = around(torch.zeros(1, dtype=DOUBLE), 0.0, 1.0, 40.0, (5, 5))
    far, near, behind = [0, 0, 0.0], [0, -0.85, 0.0], [0, -2.0, 0.0]
    gray = [[0.5, 0.5, 0.5]]
    alone = rasterize(gaussians([far], [0.1], [0.5], gray), camera)
    three = gaussians([near, far, behind], [0.1] * 3, [0.5] * 3, 3 * gray)
    torch.testing.assert_close(rasterize(three, camera).features, alone.features)
    assert rasterize(three, camera, near=0.1).opacity.mean() > 1.2 * alone.opacity.mean()
    none = gaussians([behind], [0.1], [0.5], gray)
    layers = rasterize(none, camera)
    assert float(layers.opacity.abs().max()) == float(layers.depth.abs().max()) == 0


def test_opaque_gaussians_have_finite_gradients():
    one = gaussians([[0, 0, 0.0]], [0.5], [0.5], [[1.0, 1, 1]])
    logit = torch.tensor([60.0], dtype=DOUBLE, requires_grad=True)
    layers = rasterize(replace(one, opacities=logit), cameras(size=(15, 15)))
    layers.features.sum().backward()
    assert float(layers.opacity.detach().max()) == pytest.approx(0.999)
    assert bool(logit.grad.isfinite().all())


def test_gsplat_gets_what_it_expects(monkeypatch, rng):
    """A stand-in for gsplat.rasterization that composites from what it is given; the library itself needs CUDA."""
    some, camera = cloud(6, rng), cameras(2, (9, 12))

    def rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, **more):
        assert more == {"near_plane": 0.2, "eps2d": 0.3, "render_mode": "RGB+D"}
        ours = Gaussians(means, scales.log(), quats, opacities.logit(), some.colors)
        back = torch.linalg.inv(viewmats)
        back[:, :, 1:3] *= -1  # from OpenCV's axes to ours
        view = Cameras(back, Ks[:, (0, 1), (0, 1)], Ks[:, :2, 2], (height, width))
        assert bool((Ks[:, 2] == Ks.new_tensor([0, 0, 1])).all())
        layers = rasterize(ours, view, colors, "torch")
        last = lambda v: v.permute(0, 2, 3, 1)
        return last(torch.cat([layers.features, layers.depth * layers.opacity], 1)), last(layers.opacity), {}

    module = SimpleNamespace(rasterization=rasterization, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "gsplat", module)
    theirs, ours = rasterize(some, camera, backend="gsplat"), rasterize(some, camera, backend="auto")
    for name in ("features", "opacity", "depth"):
        torch.testing.assert_close(getattr(theirs, name), getattr(ours, name))
    monkeypatch.delitem(sys.modules, "gsplat")
    with pytest.raises(ValueError, match="backend"):
        rasterize(some, camera, backend="cpu")


@pytest.mark.parametrize("degree", [0, 1])
def test_files_hold_all_parameters_and_others_read_them(degree, rng, tmp_path):
    some = Gaussians(*(getattr(cloud(7, rng, degree), n).float() for n in Gaussians.__dataclass_fields__))
    write_ply(tmp_path / "splats.ply", some)
    back = read_ply(tmp_path / "splats.ply")
    for name in Gaussians.__dataclass_fields__:
        assert torch.equal(getattr(back, name), getattr(some, name))
    rows = PlyData.read(tmp_path / "splats.ply")["vertex"]
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(9 * degree))]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert [p.name for p in rows.properties] == names
    assert rows["z"][3] == some.means[3, 2]
    assert rows["rot_0"][2] == some.quaternions[2, 0]
    if degree:  # all of red, then green, then blue
        assert rows["f_rest_4"][5] == some.colors[5, 2, 1]


def test_gaussians_that_cannot_be_drawn_are_not_written(rng, tmp_path):
    some = Gaussians(*(getattr(cloud(9, rng, 1), n).float() for n in Gaussians.__dataclass_fields__))
    nan, inf = float("nan"), float("inf")
    for i, (name, value) in enumerate([
        ("means", nan), ("scales", 90.0), ("scales", -inf), ("quaternions", 0.0), ("opacities", -5.6), ("colors", inf),
        ("opacities", nan),
    ]):  # fmt: skip
        getattr(some, name)[i] = value
    some.opacities[7] = -5.5  # just above 1/255
    write_ply(tmp_path / "splats.ply", some)
    back = read_ply(tmp_path / "splats.ply")
    for name in Gaussians.__dataclass_fields__:
        assert torch.equal(getattr(back, name), getattr(some, name)[7:])
    some.means[7:] = nan
    before = (tmp_path / "splats.ply").read_bytes()
    with pytest.raises(ValueError, match="no Gaussian can be drawn"):
        write_ply(tmp_path / "splats.ply", some)
    assert (tmp_path / "splats.ply").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["splats.ply"]


def test_files_of_others_are_read(tmp_path):
    """Another order of properties, and degree 2: harmonics above degree 1 are left out."""
    names = ["opacity", "x", "y", "z", "f_dc_2", "f_dc_1", "f_dc_0", *(f"f_rest_{i}" for i in range(24))]
    names += ["rot_0", "rot_1", "rot_2", "rot_3", "scale_0", "scale_1", "scale_2"]
    rows = np.zeros(2, [(name, "f4") for name in names])
    for i, name in enumerate(names):
        rows[name] = [i, i + 100]
    PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(tmp_path / "other.ply")
    read = read_ply(tmp_path / "other.ply")
    assert read.means.tolist() == [[1, 2, 3], [101, 102, 103]]
    assert read.colors[0, 0].tolist() == [6, 5, 4]
    assert read.colors[0, 1:].tolist() == [[7, 15, 23], [8, 16, 24], [9, 17, 25]]
    assert read.opacities.tolist() == [0, 100]
    whole = (tmp_path / "other.ply").read_bytes()
    (tmp_path / "cut.ply").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="truncated"):
        read_ply(tmp_path / "cut.ply")
    (tmp_path / "mesh.ply").write_bytes(whole.replace(b"f_dc_1", b"color"))
    with pytest.raises(ValueError, match="f_dc_1"):
        read_ply(tmp_path / "mesh.ply")
    (tmp_path / "text.ply").write_text("ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(ValueError, match="has no Gaussians"):
        read_ply(tmp_path / "text.ply")


@pytest.mark.parametrize("degree", [0, 1])
def test_viewers_get_y_down_and_the_file_says_so(degree, rng, tmp_path):
    """Seen in the other world from where a camera of ours stands, the Gaussians look the same."""
    some = Gaussians(*(getattr(cloud(7, rng, degree), n).float() for n in Gaussians.__dataclass_fields__))
    write_ply(tmp_path / "splats.ply", some, y_down=True)
    assert b"\ncomment axes: x right, y down, z forward\n" in (tmp_path / "splats.ply").read_bytes()[:200]
    seen = read_ply(tmp_path / "splats.ply", y_down=False)
    x, y, z = some.means.unbind(1)
    assert torch.equal(seen.means, torch.stack([x, -z, y], 1))
    camera = around(torch.tensor([35.0]), 20.0, size=(12, 16))
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    poses = camera.poses.clone()
    poses[:, :3] = turn @ poses[:, :3]
    ours, theirs = rasterize(some, camera), rasterize(seen, replace(camera, poses=poses))
    torch.testing.assert_close(theirs.features, ours.features, atol=1e-5, rtol=0)
    back = read_ply(tmp_path / "splats.ply")
    torch.testing.assert_close(rasterize(back, camera).features, ours.features, atol=1e-5, rtol=0)
    assert torch.equal(back.means, some.means)


def grown(width, rng):
    """Five Gaussians: large gradient, transparent, none, large, large; with an optimizer that has made a step."""
    means = [[0.3, 0, 0], [0, 0, 0.4], [0, 0, -0.4], [-0.3, 0, 0], [0, 0.2, 0.1]]
    five = gaussians(means, [width] * 5, [0.7, 0.001, 0.7, 0.7, 0.7], [[0.9, 0.3, 0.2]] * 5)
    splats = Splats(gaussians=five, size=(24, 24), rng=rng)
    optimizer = torch.optim.Adam([{"params": [p], "lr": 1e-9} for p in splats.parameters()])
    loss = splats.render(cameras(2, (24, 24))).rgb.square().sum()
    loss.backward()
    optimizer.step()
    return splats, optimizer


@pytest.mark.parametrize(("limit", "cloned", "split"), [(0.03, 3, 0), (0.001, 0, 3)])
def test_densification_keeps_the_moments_of_kept_rows(limit, cloned, split, rng):
    splats, optimizer = grown(0.01, rng)
    before = [optimizer.state[p]["exp_avg"].clone() for p in splats.parameters()]
    old_scales = splats.scales.detach().clone()
    slopes = torch.tensor([5.0, 9.0, 0.0, 1.0, 2.0], dtype=DOUBLE)
    changes = Densify(gradient=0.5, width=limit)(splats, optimizer, slopes, rng)
    assert (changes.cloned, changes.split, changes.pruned, changes.total) == (cloned, split, 1, 7)
    stay, first = ([0, 2, 3, 4], [0, 3, 4]) if cloned else ([2], [0, 0, 3, 3, 4, 4])
    narrower = 0 if cloned else math.log(1.6)
    torch.testing.assert_close(splats.scales[len(stay) :], old_scales[first] - narrower)
    for old, parameter in zip(before, splats.parameters(), strict=True):
        assert len(parameter) == 7
        state = optimizer.state[parameter]
        assert torch.equal(state["exp_avg"][: len(stay)], old[stay])
        assert float(state["exp_avg"][len(stay) :].abs().max()) == 0
        assert float(state["step"]) == 1
    assert len(optimizer.state) == 5
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in splats.parameters()}
    splats.render(cameras()).rgb.sum().backward()
    optimizer.step()


@pytest.mark.parametrize("limit", [0.03, 0.001])
def test_densification_hardly_changes_the_image_of_small_gaussians(limit, rng):
    """A thirtieth of a pixel wide: copies and halves fall on the same pixels.

    Where g = exp(-r^2 / 2 s^2), two of opacity o' = 1 - sqrt(1 - o) hide 2 o' g - (o' g)^2, and one of o hides o g =
    (2 o' - o'^2) g: they differ by o'^2 g (1 - g) <= .051 for o = .7, more where Gaussians overlap. Without `revise`
    the middle changes by o (1 - o) = .21.
    """
    view, slopes = cameras(2, (24, 24)), torch.ones(5, dtype=DOUBLE)
    change = []
    for revise in (True, False):
        splats, optimizer = grown(0.003, rng)
        with torch.no_grad():
            before = splats.render(view).rgb
            Densify(gradient=0.5, width=limit, revise=revise)(splats, optimizer, slopes, rng)
            change.append(float((splats.render(view).rgb - before).abs().max()))
    assert change[0] < 0.07
    assert change[1] > 0.15


def test_densification_has_limits(rng):
    slopes = torch.tensor([5.0, 9.0, 0.0, 1.0, 2.0], dtype=DOUBLE)
    total = lambda **more: Densify(**more)(grown(0.01, rng)[0], None, slopes, rng).total
    assert total(gradient=3.0) == 5  # one more, one pruned
    assert total(gradient=0.0, fraction=0.4) == 6  # two of five
    assert total(gradient=0.0, most=5) == 5
    assert total(gradient=0.0, most=2) == 4  # pruned only
    with pytest.raises(RuntimeError, match="all Gaussians would be pruned"):
        total(opacity=0.9)
    with pytest.raises(ValueError, match="fraction"):
        Densify(fraction=0.0)


def test_slopes_are_means_over_the_passes_that_saw_a_gaussian(rng):
    splats, _ = grown(0.01, rng)
    slopes = Slopes(splats)
    for scale in (1.0, 3.0):
        splats.means.grad = torch.zeros_like(splats.means)
        splats.means.grad[1] = torch.tensor([3.0, 0.0, 4.0]) * scale
        splats.means.grad[2, 0] = 1.0 if scale == 1 else 0.0
        slopes.observe()
    assert slopes.mean().tolist() == [0, 10, 1, 0, 0]


def test_a_generator_of_splats(rng):
    splats = Splats(40, 0.5, degree=1, size=(12, 10), rng=rng)
    assert float(splats.means.detach().norm(dim=1).max()) <= 0.5
    views = splats.views(3, rng)
    x = splats(views)
    assert x.shape == (3, 3, 12, 10)
    x.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in splats.parameters())
    seen = splats.render(orbit(2, size=(12, 10)), Look(backdrop=torch.tensor([[0.2, 0.4, 0.6]] * 2)))
    corner = torch.tensor([0.2, 0.4, 0.6])
    torch.testing.assert_close(seen.rgb[0, :, 0, 0], corner, rtol=0, atol=0.02)
    assert seen.normal is None
    random = Splats(40, size=(12, 10), background="random", rng=rng)
    assert len({tuple(row.tolist()) for row in random(random.views(3, rng))[:, :, 0, 0]}) == 3


def test_normals_and_light_of_a_disc():
    """A disc that faces -y, seen from the front and from behind; light along the normal and 60 degrees from it."""
    disc = Gaussians(
        torch.zeros(1, 3),
        torch.tensor([[0.3, 0.3, 0.01]]).log(),
        torch.tensor([[1.0, 1.0, 0.0, 0.0]]),
        torch.tensor([3.0]),
        torch.full((1, 1, 3), 0.25 / Y0),
    )
    splats = Splats(gaussians=disc, background=(0.0, 0.0, 0.0))
    views = around(torch.tensor([0.0, 180.0, 0.0]), 0.0, 3.0, 40.0, (9, 9))
    light = torch.tensor([[0.0, -2.0, 0.0], [0.0, 2.0, 0.0], [math.sqrt(3), -1.0, 0.0]])
    shading = torch.tensor([0.0, 1.0, 1.0])
    seen = splats.render(views, Look(light, shading), normals=True)
    torch.testing.assert_close(seen.normal[:, :, 4, 4], torch.tensor([[0.0, -1, 0], [0, 1, 0], [0, -1, 0]]))
    rgb = (seen.rgb / seen.opacity)[:, 0, 4, 4]
    torch.testing.assert_close(rgb, 0.75 * torch.tensor([1.0, 1.0, 0.3 + 0.7 * 0.5]))


def test_points_make_round_gaussians_as_wide_as_the_gaps():
    line = torch.linspace(-1, 1, 3)
    grid = torch.cartesian_prod(line, line, line)
    made = Gaussians.of_points(grid, torch.full_like(grid, 0.25), opacity=0.3)
    torch.testing.assert_close(made.scales.exp(), torch.ones(27, 3))  # three neighbors at distance 1
    torch.testing.assert_close(made.rgb(torch.tensor([[0.0, -3, 0]]))[0], torch.full_like(grid, 0.25))
    torch.testing.assert_close(made.opacities.sigmoid(), torch.full((27,), 0.3))
    with pytest.raises(ValueError, match="points"):
        Gaussians.of_points(grid[:3], grid[:3])


def test_a_fit_to_views_of_a_scene(rng):
    """Three views of a textured cloud; 150 splats that start at random reach 30 dB on these, from about 11."""
    cameras = orbit(3, size=(16, 16))
    shell = torch.nn.functional.normalize(torch.randn(300, 3, generator=rng), dim=1) * 0.6
    paint = 0.5 + 0.5 * torch.sin(5 * shell)
    target = Splats(gaussians=Gaussians.of_points(shell, paint, opacity=0.9), cameras=cameras, size=(16, 16))
    splats = Splats(150, 0.6, cameras=cameras, size=(16, 16), rng=rng)
    rates = {"means": 0.01, "scales": 0.04, "quaternions": 0.04, "opacities": 0.1, "colors": 0.06}
    optimizer = torch.optim.Adam([{"params": [splats.get_parameter(n)], "lr": lr} for n, lr in rates.items()])
    views = splats.views()
    with torch.no_grad():
        wanted = target(views)
    psnr = []
    for _ in range(60):
        loss = (splats(views) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        psnr.append(-10 * math.log10(float(loss.detach())))
    assert psnr[0] < 15
    assert psnr[-1] > 30
