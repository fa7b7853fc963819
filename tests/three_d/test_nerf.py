"""Radiance fields against closed forms: slabs, balls, spheres; what is skipped; gradients; views; shading; resuming."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from scoredistill.three_d.camera import RandomViews, around, orbit
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.scenes.base import AMBIENT, SHADINGS, Look, Penalties, Viewpoint
from scoredistill.three_d.scenes.nerf import BackgroundMLP, Field, NeRF
from scoredistill.three_d.volume_rendering import ball_hits, box_hits, composite, over, scattered, stratified, weights

DOUBLE = torch.float64
RED = (0.9, 0.2, 0.1)


class Ball(Field):
    """Constant density and color within a radius."""

    def __init__(self, density=2.0, radius=1.1, rgb=RED):
        super().__init__(DenseGrid((2,), 1), layers=0)
        self.given, self.radius, self.rgb, self.asked = density, radius, rgb, 0

    def forward(self, points):
        self.asked += len(points)
        return self.density(points), points.new_tensor(self.rgb).expand(len(points), 3)

    def density(self, points):
        return torch.where(points.norm(dim=-1) < self.radius, self.given, 0.0).to(points)


def smooth(blob=(5.0, 0.5), density=0.1, hidden=8, seed=0, **given):
    """A small field around a blob, float64, and a scene of it."""
    rng = torch.Generator().manual_seed(seed)
    field = Field(DenseGrid((4, 8), 2, rng=rng), hidden, 1, blob, density, rng)
    return NeRF(field, **{"samples": 24, "size": (8, 8), **given}).double()


def beams(n, rng, out=3.0):
    """Rays from outside towards places in the ball, float64."""
    origins = out * functional.normalize(torch.randn(n, 3, generator=rng, dtype=DOUBLE), dim=-1)
    target = 0.5 * torch.randn(n, 3, generator=rng, dtype=DOUBLE)
    return origins, functional.normalize(target - origins, dim=-1)


# volume


@pytest.mark.parametrize("pieces", [1, 7, 64])
def test_a_slab_in_any_number_of_segments(pieces):
    near, far = torch.tensor([0.5], dtype=DOUBLE), torch.tensor([2.0], dtype=DOUBLE)
    _, length = stratified(near, far, pieces)
    w = weights(torch.full((1, pieces), 0.8, dtype=DOUBLE), length)
    opacity = w.sum(-1, keepdim=True)
    torch.testing.assert_close(float(opacity), 1 - math.exp(-0.8 * 1.5))
    rgb = torch.tensor(RED, dtype=DOUBLE)
    seen = over(composite(w, rgb.expand(1, pieces, 3)), opacity, torch.ones(1, 3, dtype=DOUBLE))
    torch.testing.assert_close(seen[0], rgb * (1 - math.exp(-1.2)) + math.exp(-1.2))


def test_weights_are_transmittance_times_the_opacity_of_a_segment(rng):
    density, length = torch.rand(3, 6, generator=rng, dtype=DOUBLE), torch.rand(3, 6, generator=rng, dtype=DOUBLE)
    left, w = torch.ones(3, dtype=DOUBLE), weights(density, length)
    for i in range(6):
        taken = 1 - (-density[:, i] * length[:, i]).exp()
        torch.testing.assert_close(w[:, i], left * taken)
        left = left * (1 - taken)


def test_weights_and_composite_have_exact_derivatives_of_two_orders(rng):
    density, length = (torch.rand(2, 4, generator=rng, dtype=DOUBLE).requires_grad_() for _ in range(2))
    values = torch.rand(2, 4, 3, generator=rng, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(weights, (density, length))
    assert torch.autograd.gradgradcheck(lambda d, v: composite(weights(d, length.detach()), v), (density, values))


def test_opaque_matter_has_finite_weights():
    density = torch.tensor([[0.0, 1e12, 1e12]], requires_grad=True)
    w = weights(density, torch.ones(1, 3))
    w.sum().backward()
    assert w.tolist() == [[0.0, 1.0, 0.0]]
    assert bool(density.grad.isfinite().all())


def test_rays_hit_balls_and_boxes_where_closed_forms_say(rng):
    origins, directions = beams(200, rng)
    near, far = ball_hits(origins, directions, 0.7)
    b = (origins * directions).sum(-1)
    root = b.square() - (origins.square().sum(-1) - 0.49)  # |o + t d|^2 = r^2
    hit = root > 0
    assert 20 < int(hit.sum()) < 200
    torch.testing.assert_close(near[hit], (-b - root.clamp(min=0).sqrt())[hit])
    torch.testing.assert_close(far[hit], (-b + root.clamp(min=0).sqrt())[hit])
    assert torch.equal(near[~hit], far[~hit])
    near, far = box_hits(origins, directions, 0.4)
    for t in (near, far):
        at = (origins + t[:, None] * directions).abs().amax(-1)[far > near]
        torch.testing.assert_close(at, torch.full_like(at, 0.4))
    steps = torch.linspace(0, 6, 601, dtype=DOUBLE)
    within = ((origins[:, None] + steps[:, None] * directions[:, None]).abs() < 0.399).all(-1).any(-1)
    assert bool((far > near)[within].all())


def test_rays_from_within_start_where_they_are_and_rays_that_look_away_see_nothing():
    inside, away = torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[3.0, 0.0, 0.0]])
    along = torch.tensor([[1.0, 0.0, 0.0]])
    for hits in (ball_hits, box_hits):
        near, far = hits(inside, along)
        torch.testing.assert_close((float(near), float(far)), (0.0, 0.5))
        near, far = hits(away, along)
        assert float(far - near) == 0


def test_samples_lie_in_their_segments():
    near, far = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])
    places, length = stratified(near, far, 4, torch.tensor([0.25, 0.5]))
    assert places[0].tolist() == [1.125, 1.625, 2.125, 2.625]
    assert length.tolist() == [[0.5] * 4, [0.0] * 4]


def test_scattered_values_return_to_their_places():
    where = torch.tensor([[True, False], [False, True]])
    assert scattered(torch.tensor([3.0, 4.0]), where).tolist() == [[3.0, 0.0], [0.0, 4.0]]


# NeRF: what rays see


@pytest.mark.parametrize("samples", [3, 50])
def test_a_ball_of_one_density_is_the_closed_form_for_any_number_of_samples(samples, rng):
    scene = NeRF(Ball(2.0), samples, background=(0.2, 0.4, 0.6)).double()
    origins, directions = beams(50, rng)
    near, far = ball_hits(origins, directions)
    opacity = 1 - (-2 * (far - near)).exp()
    rgb, behind = (torch.tensor(c, dtype=DOUBLE) for c in (RED, (0.2, 0.4, 0.6)))
    for gradients in (False, True):  # midpoints, and random places
        with torch.set_grad_enabled(gradients):
            traced = scene.trace(origins, directions)
        torch.testing.assert_close(traced["opacity"][:, 0], opacity)
        expected = opacity[:, None] * rgb + (1 - opacity[:, None]) * behind
        torch.testing.assert_close(traced["rgb"], expected, atol=1e-6, rtol=0)  # its background is float32


def test_skipping_what_is_empty_or_hidden_does_not_change_images(rng):
    scene = smooth(blob=(30.0, 0.5), samples=64)
    field = scene.field
    sizes = []
    field.encoding.register_forward_hook(lambda _, given, made: sizes.append(len(made)))
    origins, directions = beams(300, rng)
    with torch.no_grad():
        scene.occupancy.update(field.density)
        sizes.clear()
        skipped = scene.trace(origins, directions)
        scene._visible = lambda points, *_: torch.ones(points.shape[:-1], dtype=torch.bool)
        full = scene.trace(origins, directions)
    assert sizes[0] < 0.4 * sizes[1]
    for name in ("rgb", "opacity", "depth"):
        assert float((skipped[name] - full[name]).abs().max()) < 1e-3


def test_fog_that_counts_as_empty_is_thinner_than_stated():
    scene = NeRF(Ball(0.005 * 0.99), samples=16)
    with torch.no_grad():
        traced = scene.trace(torch.tensor([[3.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))
        assert float(traced["opacity"]) == 0  # optical depth .0099, along a whole diameter
        scene.field.given = 0.005 * 1.1
        scene.occupancy.update(scene.field.density)
        traced = scene.trace(torch.tensor([[3.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))
    torch.testing.assert_close(float(traced["opacity"]), 1 - math.exp(-1.1 * 0.01), rtol=1e-4, atol=0)


def test_occupancy_decays_and_comes_back():
    scene = NeRF(Ball(10.0))
    middle = torch.zeros(1, 3)
    remembered = lambda: float(scene.occupancy.at(scene.occupancy.extremes(), middle)[0])
    assert math.isinf(remembered())
    scene.occupancy.update(scene.field.density)
    assert remembered() == 10
    scene.field.given = 0.0
    scene.occupancy.update(scene.field.density, decay=0.5)
    assert remembered() == 5
    scene.field.given = 20.0
    scene.occupancy.update(scene.field.density, decay=0.5)
    assert remembered() == 20


def test_rays_that_miss_everything_see_the_background():
    scene = NeRF(Field(DenseGrid((4,), 2)), background=(0.1, 0.2, 0.3))
    origins, directions = torch.tensor([[3.0, 0, 0]]).repeat(4, 1), torch.tensor([[0.0, 1, 0]]).repeat(4, 1)
    traced = scene.trace(origins, directions, normals=True)
    torch.testing.assert_close(traced["rgb"], torch.tensor([[0.1, 0.2, 0.3]]).repeat(4, 1))
    assert float(traced["opacity"].detach().abs().max()) == 0
    (traced["rgb"].sum() + traced["orientation"].sum()).backward()


def test_gradients_of_a_traced_field_are_exact(rng):
    scene = smooth(samples=6)
    origins, directions = beams(3, rng)
    scene.occupancy.update(scene.field.density)
    names = [name for name, _ in scene.named_parameters()]

    def seen(*values):
        scene.count.fill_(1)  # the same places along rays each time, and no look at space
        given = dict(zip(names, values, strict=True))
        traced = torch.func.functional_call(scene, given, (origins, directions))
        return traced["rgb"], traced["opacity"], traced["depth"]

    scene.forward = scene.trace  # functional_call calls forward
    values = [p.detach().clone().requires_grad_() for p in scene.parameters()]
    assert torch.autograd.gradcheck(seen, values, fast_mode=True)
    assert float(torch.autograd.grad(sum(v.sum() for v in seen(*values)), values[0])[0].abs().sum()) > 0


def test_chunks_change_neither_images_nor_gradients(rng):
    origins, directions = beams(60, rng)
    seen, slopes = [], []
    for chunk in (10**6, 24 * 7):
        scene = smooth(background=None, chunk=chunk)
        traced = scene.trace(origins, directions, normals=True)
        (traced["rgb"].square().sum() + traced["depth"].sum() + traced["orientation"].sum()).backward()
        seen.append(traced)
        slopes.append([p.grad for p in scene.parameters()])
    for name, value in seen[0].items():
        torch.testing.assert_close(seen[1][name], value)
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        for name, value in scene.trace(origins, directions).items():
            other = smooth(background=None)
            other.load_state_dict(scene.state_dict())
            torch.testing.assert_close(other.trace(origins, directions)[name], value)


def test_chunks_may_be_rendered_again_after_an_update_of_the_occupancy_grid(rng):
    scene, rays = smooth(blob=(30.0, 0.5), chunk=24 * 7), beams(30, rng)
    scene.count.fill_(15)  # the second call looks at space, of which the first knows nothing
    first = scene.trace(*rays)["rgb"].sum()
    (first + scene.trace(*rays)["rgb"].sum()).backward()
    found = [p.grad for p in scene.parameters()]
    whole = smooth(blob=(30.0, 0.5))
    whole.count.fill_(15)
    (whole.trace(*rays)["rgb"].sum() + whole.trace(*rays)["rgb"].sum()).backward()
    for a, p in zip(found, whole.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)


def test_depth_and_normals_of_an_opaque_sphere():
    scene = NeRF(Ball(1e4, 0.5), samples=128)
    cameras = around(torch.tensor([30.0, 200.0]), 20.0, 3.0, 40.0, (15, 15))
    with torch.no_grad():
        rendering = scene.render(cameras)
    middle = rendering.depth[:, 0, 7, 7]
    torch.testing.assert_close(middle, torch.full((2,), 2.5), atol=2 / 128, rtol=0)
    assert rendering.depth[:, 0, 0, 0].tolist() == [0.0, 0.0]
    origins, directions = cameras.rays()
    points = origins.permute(0, 3, 1, 2) + rendering.depth * (
        directions / (directions * cameras.forward[:, None, None]).sum(-1, keepdim=True)
    ).permute(0, 3, 1, 2)
    seen = rendering.opacity[:, 0] > 0.99
    assert int(seen.sum()) > 30
    away = points.norm(dim=1)[seen]
    torch.testing.assert_close(away, torch.full_like(away, 0.5), atol=2 / 128, rtol=0)  # z-depth, not along the ray


def test_depth_of_a_translucent_ball_is_the_mean_over_visible_matter():
    scene = NeRF(Ball(1.0, 0.5), samples=256)
    with torch.no_grad():
        rendering = scene.render(around(torch.tensor([0.0]), 0.0, 3.0, 40.0, (15, 15)))
    assert float(rendering.opacity[0, 0, 7, 7]) == pytest.approx(1 - math.exp(-1), abs=0.01)
    # From 2.5 to 3.5 along the middle ray: the mean of 2.5 + u with density exp(-u) on [0, 1].
    assert float(rendering.depth[0, 0, 7, 7]) == pytest.approx(2.5 + 1 - 1 / (math.e - 1), abs=2 / 256)


def test_normals_of_a_round_field_are_radial():
    rng = torch.Generator().manual_seed(0)
    field = Field(DenseGrid((4,), 2, rng=rng), blob=(60.0, 0.5), density=120.0, rng=rng)  # as thick as steep at .5
    with torch.no_grad():
        field.layers[-1].weight.zero_()
    points = 0.5 * functional.normalize(torch.randn(100, 3, generator=rng), dim=-1)
    cosine = (field.normal(points) * functional.normalize(points, dim=-1)).sum(-1)
    assert float(cosine.detach().min()) > math.cos(math.radians(2))  # differences are of first order in .01 / .5
    scene = NeRF(field, samples=128)
    camera = orbit(1, size=(21, 21))
    with torch.no_grad():
        rendering = scene.render(camera, normals=True)
    origins, directions = camera.rays()
    near, far = ball_hits(origins.reshape(-1, 3), directions.reshape(-1, 3), 0.5)
    hit = (far - near > 0.3) & (rendering.opacity.flatten() > 0.99)
    radial = functional.normalize(origins.reshape(-1, 3) + near[:, None] * directions.reshape(-1, 3), dim=-1)
    cosine = (rendering.normal[0].permute(1, 2, 0).reshape(-1, 3) * radial).sum(-1)[hit]
    assert len(cosine) > 20
    assert float(cosine.min()) > math.cos(math.radians(4))
    assert float(rendering.penalties["orientation"]) < 1e-3  # all that is seen faces the viewer


def test_the_orientation_penalty_sees_backs():
    """Density that falls towards the viewer's far side only: a field whose normals all point along the ray."""

    class Rightward(Ball):
        def normal(self, points, step=0.01):
            return points.new_tensor([1.0, 0, 0]).expand(len(points), 3)

    origins, directions = torch.tensor([[-3.0, 0, 0], [3.0, 0, 0]]), torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    with torch.no_grad():
        traced = NeRF(Rightward(1.0)).trace(origins, directions, normals=True)
    torch.testing.assert_close(traced["orientation"][:, 0], torch.tensor([1 - math.exp(-2), 0.0]))
    torch.testing.assert_close(traced["normal"][:, 0], torch.full((2,), 1 - math.exp(-2)))


# shading, backgrounds, penalties


def test_shading_formulas():
    scene = NeRF(Ball())
    normal = torch.tensor([[0.0, 0, 1]]).repeat(4, 1)
    light = torch.tensor([[0.0, 3, 4]]).repeat(4, 1)  # cosine .8
    rgb = torch.tensor([RED]).repeat(4, 1)
    made = scene.shaded(rgb, normal, torch.zeros(4, 3), light, torch.arange(4.0))
    bright = AMBIENT + (1 - AMBIENT) * 0.8
    expected = [rgb[0], bright * rgb[0], torch.full((3,), bright), torch.tensor([0.5, 0.5, 1.0])]
    assert SHADINGS == ("albedo", "lambertian", "textureless", "normal")
    torch.testing.assert_close(made, torch.stack(expected))
    behind = scene.shaded(rgb, normal, torch.zeros(4, 3), -light, torch.ones(4))
    torch.testing.assert_close(behind, AMBIENT * rgb)


def test_each_view_has_its_own_shading_and_light():
    class Up(Ball):
        def normal(self, points, step=0.01):
            return points.new_tensor([0.0, 0, 1]).expand(len(points), 3)

    scene = NeRF(Up(1e3), background=(0.0, 0.0, 0.0))
    cameras = around(torch.tensor([0.0, 90.0, 180.0, 270.0]), 0.0, 3.0, 10.0, (1, 1))
    light = torch.tensor([[0.0, 0, 1e4]] * 3 + [[0.0, 0, -1e4]])
    with torch.no_grad():
        rendering = scene.render(cameras, Look(light, torch.tensor([0.0, 1.0, 3.0, 2.0])))
    expected = torch.tensor([RED, RED, (0.5, 0.5, 1.0), (AMBIENT,) * 3])
    torch.testing.assert_close(rendering.rgb[:, :, 0, 0], expected, atol=1e-3, rtol=0)


def test_backgrounds():
    camera = orbit(1, size=(4, 4))
    empty = Ball(0.0)
    with torch.no_grad():
        color = NeRF(empty, background=(0.1, 0.2, 0.3)).render(camera).rgb
        torch.testing.assert_close(color, torch.tensor([0.1, 0.2, 0.3])[None, :, None, None].expand(1, 3, 4, 4))
        own = NeRF(empty, background=None)
        assert isinstance(own.backdrop, BackgroundMLP)
        shown = own.render(camera).rgb
        torch.testing.assert_close(shown.permute(0, 2, 3, 1), own.backdrop(camera.rays()[1]))
        assert float(shown.amax() - shown.amin()) > 0.01
        random = NeRF(empty, background="random", size=(4, 4))
        views = random.views(3, torch.Generator().manual_seed(1))
        drawn = Viewpoint.of(views, (4, 4)).backdrop
        assert float(drawn.min()) >= 0
        assert len(drawn.unique()) == 9
        torch.testing.assert_close(random(views), drawn[:, :, None, None].expand(3, 3, 4, 4))


def test_the_network_of_the_background_learns_through_gaps():
    scene = NeRF(Ball(0.5), background=None)
    scene.trace(torch.tensor([[3.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))["rgb"].sum().backward()
    assert float(scene.backdrop.second.bias.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", ["sparsity", "entropy", "orientation"])
def test_gradients_of_penalties_come_with_that_of_the_images(name, rng):
    scene = smooth(penalties=Penalties(**{name: 0.7}))
    views = scene.views(2, rng)
    views = views.double()
    grad = torch.randn(2, 3, 8, 8, generator=rng, dtype=DOUBLE)
    scene(views).backward(grad)
    found = [p.grad.clone() for p in scene.parameters()]
    scene.zero_grad()
    scene.count.zero_()
    scene.occupancy.count.zero_()
    where = Viewpoint.of(views, (8, 8))
    rendering = scene.render(where.cameras, Look(where.light, where.shading, where.backdrop), normals=True)
    o = rendering.opacity
    penalty = {
        "sparsity": (o.square() + 0.01).sqrt().mean(),
        "entropy": -(o * o.clamp(1e-4, 1).log() + (1 - o) * (1 - o).clamp(1e-4, 1).log()).mean(),
        "orientation": rendering.penalties["orientation"],
    }[name]
    plain = torch.autograd.grad((rendering.rgb * grad).sum(), scene.parameters(), retain_graph=True)
    ((rendering.rgb * grad).sum() + 0.7 * penalty).backward()
    for p, a, b in zip(scene.parameters(), found, plain, strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-3, atol=1e-9)
    assert any(float((a - b).abs().max()) > 1e-6 for a, b in zip(found, plain, strict=True))


# views, sizes, resuming


def test_views_round_trip_through_rows(rng):
    scene = NeRF(
        Ball(), background="random", shading={"albedo": 1.0, "lambertian": 1.0}, cameras=RandomViews(jitter=0.1)
    )
    rows = scene.views(5, rng)
    where = Viewpoint.of(rows, (64, 64))
    torch.testing.assert_close(where.rows(), rows)
    for camera in (where.cameras, Viewpoint.of(rows, (32, 32)).cameras.resized((64, 64))):
        torch.testing.assert_close(camera.poses, where.cameras.poses)
        torch.testing.assert_close(camera.focal, where.cameras.focal)
    assert set(where.shading.tolist()) <= {0.0, 1.0}


def test_views_of_given_cameras(rng):
    cameras = orbit(6, size=(4, 4))
    scene = NeRF(Ball(), cameras=cameras, size=(4, 4))
    every = Viewpoint.of(scene.views(), (4, 4)).cameras
    torch.testing.assert_close(every.poses, cameras.poses)
    some = Viewpoint.of(scene.views(4, rng), (4, 4)).cameras.azimuth
    assert len(set(some.round().tolist())) == 4
    assert set(some.round().tolist()) <= set(cameras.azimuth.round().tolist())
    with pytest.raises(ValueError, match="cannot draw 7 views"):
        scene.views(7)


def test_renders_may_be_smaller_than_images_and_grow():
    scene = smooth(blob=(10.0, 0.5), size=(8, 8), image=(32, 32)).float()
    views = scene.views(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        small = scene(views)
        scene.size = (32, 32)
        large = scene(views)
        direct = scene.render(Viewpoint.of(views, (32, 32)).cameras).rgb
    assert small.shape == large.shape == (2, 3, 32, 32)
    torch.testing.assert_close(large, direct)
    assert not torch.equal(small, large)
    pooled = functional.avg_pool2d(small, 4) - functional.avg_pool2d(large, 4)
    assert float(pooled.abs().mean()) < 0.03  # the same object from the same side


def test_a_resumed_run_sees_the_same_image(rng):
    first, second = smooth(), smooth(seed=1)
    rays = beams(20, rng)
    seen = []
    for i in range(18):  # more than the calls between two looks at space
        if i == 10:
            second.load_state_dict(first.state_dict())
        seen.append(first.trace(*rays)["rgb"])
        if i >= 10:
            assert torch.equal(second.trace(*rays)["rgb"], seen[-1])
    assert not torch.equal(seen[0], seen[1])  # places along rays are random
    with torch.no_grad():
        assert torch.equal(first.trace(*rays)["rgb"], first.trace(*rays)["rgb"])


def test_a_new_field_is_a_ball_in_the_middle():
    scene = NeRF(size=(33, 33))
    with torch.no_grad():
        opacity = scene.render(orbit(2, size=(33, 33))).opacity[:, 0]
    assert float(opacity[:, 16, 16].min()) > 0.9
    assert float(opacity[:, [0, 0, 32, 32], [0, 32, 0, 32]].max()) < 0.05
    rows = torch.arange(33.0) - 16
    for i in (0, 1):
        weight = opacity[i] / opacity[i].sum()
        assert abs(float((weight.sum(1) * rows).sum())) < 2
        assert abs(float((weight.sum(0) * rows).sum())) < 2
    radius = 0.3  # where the density of the blob, .1 exp(5 (1 - r / .5)), has fallen from 15 to less than 1
    points = radius * functional.normalize(torch.randn(50, 3), dim=-1)
    ratio = (scene.field.density(torch.zeros(1, 3)) / scene.field.density(points)).detach()
    assert float(ratio.log().mean()) == pytest.approx(5 * radius / 0.5, rel=0.2)


def test_bad_arguments_are_refused():
    for wrong, reason in (
        ({"background": "blue"}, "background must be"),
        ({"shading": {"gloss": 1.0}}, "unknown shading gloss"),
        ({"shading": {"albedo": 0.0}}, "probabilities"),
        ({"samples": 0}, "samples must be"),
    ):
        with pytest.raises(ValueError, match=reason):
            NeRF(Ball(), **wrong)
    with pytest.raises(ValueError, match="penalty entropy"):
        Penalties(entropy=-1.0)
    with pytest.raises(ValueError, match="density and the width"):
        Field(DenseGrid((2,), 1), density=0.0)
    assert isinstance(NeRF(Ball(), backdrop=nn.Identity(), background=None).backdrop, nn.Identity)
