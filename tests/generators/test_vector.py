"""Vector graphics, against resvg's rendering, exact areas, finite differences and a loop over layers."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.generators import VectorGraphics
from scoredistill.generators.vector.compositing import composite, shares
from scoredistill.generators.vector.coverage import coverage, windings
from scoredistill.generators.vector.outlines import Strokes, chords, fill_edges, stroke_edges
from scoredistill.media.svg import Contour, Drawing, Path, from_svg, to_svg
from scoredistill.media.svg.drawing import ellipse, line
from scoredistill.optional import require

F64 = torch.float64
ALL = torch.arange(1)
ROUND = 'stroke-linecap="round" stroke-linejoin="round"'
CASES = {
    "a star, nonzero": '<path d="M32 4L48 60L4 24H60L16 60Z" fill="#c33"/>',
    "a star, even-odd": '<path d="M32 4L48 60L4 24H60L16 60Z" fill="#c33" fill-rule="evenodd"/>',
    "loops of opposite sign": '<path d="M10 10C60 10 4 54 54 54C70 54 60 4 54 10C4 10 60 54 10 54Z" fill="#36c"/>',
    "a hole": '<path d="M8 8H56V56H8ZM20 20V44H44V20Z"/>',
    "an open contour, filled": '<path d="M8 50C8 4 56 4 56 30" fill="#484"/>',
    "a stroke over itself": '<path d="M10 50C10 4 54 4 54 50C50 20 20 60 12 12" fill="none" stroke="#080" '
    f'stroke-width="5" {ROUND}/>',
    "a hairpin": f'<path d="M10 32C60 31 60 33 10 34" fill="none" stroke="#080" stroke-width="9" {ROUND}/>',
    "a cusp, butt ends": '<path d="M10 50C60 4 4 4 54 50" fill="none" stroke="#080" stroke-width="7"/>',
    "corners": f'<polygon points="10,12 54,20 20,56" fill="none" stroke="#00c" stroke-width="8" {ROUND}/>',
    "overlaps": '<circle cx="24" cy="28" r="18" fill="#f00" fill-opacity=".6"/>'
    '<rect x="20" y="20" width="36" height="30" '
    f'rx="6" fill="#00f" fill-opacity=".4" stroke="#000" stroke-width="2" {ROUND}/>',
    "beyond the canvas": '<path d="M-40 20L100 -30L90 100L-20 70Z" fill="#0aa"/>'
    f'<path d="M-20 30L100 40" stroke="red" stroke-width="6" {ROUND}/>',
}


def svg(body):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{body}</svg>'


def resvg(text, size):
    """An SVG over white as resvg renders it, [3, size, size]."""
    sized = text.replace("<svg ", f'<svg width="{size}" height="{size}" ', 1)
    raw = require("resvg_py", "train", "the test").svg_to_bytes(svg_string=sized, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(raw))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return torch.from_numpy(np.array(white.convert("RGB"))).permute(2, 0, 1) / 255


def closed(points):
    """Edges of a polygon."""
    points = torch.as_tensor(points, dtype=F64)
    return torch.stack([points, points.roll(-1, 0)], 1)


def covered(points, size, **options):
    edges = closed(points)
    return coverage(edges, torch.zeros(len(edges), dtype=torch.long), 1, size, **options)[0]


@pytest.mark.parametrize("case", CASES)
def test_a_rendering_is_that_of_resvg_and_so_is_the_written_file(case):
    text = svg(CASES[case])
    made = VectorGraphics([from_svg(text)], (64, 64))
    ours = made(ALL)[0].detach()
    for reference in (resvg(text, 64), resvg(to_svg(made.drawings()[0]), 64)):
        error = (ours - reference).abs()
        assert error.mean() < 4e-3  # in [0, 1]; resvg samples pixels and has curves of its own
        assert error.max() < 0.3


def test_a_box_covers_its_area_in_every_pixel():
    got = covered([(1.25, 0.5), (3.5, 0.5), (3.5, 2.75), (1.25, 2.75)], (4, 5))
    across, down = torch.tensor([0, 0.75, 1, 0.5, 0], dtype=F64), torch.tensor([0.5, 1, 0.75, 0], dtype=F64)
    torch.testing.assert_close(got, down[:, None] * across)


def test_coverage_of_any_triangle_is_the_mean_of_many_points():
    points = [(0.3, 4.6), (7.2, 2.1), (3.4, 7.7)]
    fine = (torch.arange(8 * 64) + 0.5) / 64
    y, x = torch.meshgrid(fine, fine, indexing="ij")
    signs = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        for a, b in zip(points, points[1:] + points[:1], strict=True)
    ]
    inside = torch.stack(signs).sign().sum(0).abs() == 3
    expected = inside.double().reshape(8, 64, 8, 64).mean((1, 3))
    assert (covered(points, (8, 8)) - expected).abs().max() < 0.02  # of 64 x 64 points per pixel


def test_what_lies_outside_the_canvas_counts_as_if_the_canvas_were_larger():
    points = torch.tensor([(-7.3, 2.2), (4.1, -9.6), (17.8, 3.3), (2.7, 21.4)], dtype=F64)
    large = covered(points + 24, (64, 64))
    torch.testing.assert_close(covered(points, (8, 8)), large[24:32, 24:32])


def test_the_area_of_a_disk_converges_with_the_square_of_the_number_of_chords():
    curves = torch.tensor(ellipse((16.2, 15.7), (11.0, 11.0)))
    curves = torch.stack([curves[i : i + 4] for i in range(0, 12, 3)])
    owner = lambda n: torch.zeros(4 * n, dtype=torch.long)
    area = lambda n: coverage(fill_edges(curves, n).flatten(0, 1), owner(n), 1, (32, 32)).sum().item()
    limit = area(512)
    assert limit == pytest.approx(math.pi * 11**2, rel=6e-4)  # four cubics are that near to a circle
    assert (limit - area(8)) / (limit - area(16)) == pytest.approx(4, rel=0.02)


def test_the_area_of_a_stroke_is_its_length_times_its_width_and_two_half_disks():
    curve = torch.tensor(line((8.0, 9.0), (24.0, 21.0)))[None]  # of length 20
    yes, no = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
    areas = []
    for butt in (yes, no):
        edges = stroke_edges(curve, torch.tensor([3.0], dtype=F64), Strokes(torch.zeros(1).long(), yes, yes, butt), 4)[
            0
        ]
        areas.append(coverage(edges, torch.zeros(len(edges), dtype=torch.long), 1, (32, 32)).sum().item())
    assert areas[0] == pytest.approx(120)
    assert areas[1] - areas[0] == pytest.approx(9 * 8 * math.sin(math.pi / 8))  # round in eight chords per half


@pytest.mark.parametrize("rule", ["nonzero", "even-odd"])
def test_gradients_of_coverage_are_exact(rule, rng):
    points = 1 + 6 * torch.rand(5, 2, generator=rng, dtype=F64)  # a star that crosses itself
    rules = torch.tensor([rule == "even-odd"])
    function = lambda p: coverage(
        torch.stack([p, p.roll(-2, 0)], 1), torch.zeros(5, dtype=torch.long), 1, (8, 8), rules
    )
    assert torch.autograd.gradcheck(function, points.requires_grad_())


def test_gradients_of_strokes_are_exact(rng):
    points = 1.5 + 9 * torch.rand(2, 4, 2, generator=rng, dtype=F64)
    points[1, 0] = points[0, 3]
    no = torch.zeros(2, dtype=torch.bool)
    how = Strokes(torch.tensor([1, 1]), torch.tensor([True, False]), torch.tensor([False, True]), no)

    def function(points, half):
        edges = stroke_edges(points, half, how, 3).flatten(0, 1)
        return windings(edges, torch.zeros(len(edges), dtype=torch.long), 1, (12, 12))

    half = torch.full((2,), 0.9, dtype=F64)
    assert torch.autograd.gradcheck(function, (points.requires_grad_(), half.requires_grad_()))


def test_layers_lie_over_each_other_with_exact_gradients_opaque_ones_too(rng):
    draw = lambda *shape: torch.rand(*shape, generator=rng, dtype=F64)
    covered, opacity, color = draw(2, 3, 2, 2), draw(2, 3), draw(2, 3, 3)
    opacity[0, 1], covered[0, 1] = 1.0, 1.0
    expected = torch.ones(2, 3, 2, 2, dtype=F64)
    for k in range(3):
        a = (covered[:, k] * opacity[:, k, None, None])[:, None]
        expected = (1 - a) * expected + a * color[:, k, :, None, None]
    torch.testing.assert_close(composite(covered, opacity, color), expected)
    inputs = [v.requires_grad_() for v in (covered, opacity, color)]
    assert torch.autograd.gradcheck(composite, inputs)
    mixed = (shares(covered, opacity)[:, :, None] * color[..., None, None]).sum(1)
    white = 1 - shares(covered, opacity).sum(1, keepdim=True)
    torch.testing.assert_close(mixed + white, expected)


def test_images_are_rendered_alike_alone_and_together():
    small, large = (
        from_svg(svg(CASES["overlaps"])),
        from_svg(svg(CASES["corners"] + CASES["a hole"] + CASES["a hairpin"])),
    )
    both = VectorGraphics([small, large], (24, 24))
    together = both(both.views())
    for i, drawing in enumerate((small, large)):
        torch.testing.assert_close(VectorGraphics([drawing], (24, 24))(ALL)[0], together[i])
        torch.testing.assert_close(both(torch.tensor([i]))[0], together[i])
    assert both.render((48, 48)).shape == (2, 3, 48, 48)


def test_drawings_come_back_as_they_were_whatever_the_shape_of_the_canvas():
    drawing = Drawing(
        (100.0, 50.0),
        (
            Path(
                (Contour(ellipse((30.0, 20.0), (9.0, 7.0))),),
                tuple(np.array([0.2, 0.4, 0.6])),
                (1.0, 0.0, 0.0),
                6.0,
                0.5,
            ),
        ),
    )
    again = VectorGraphics([drawing], (64, 64)).drawings()[0]
    (before,), (after,) = drawing.paths, again.paths
    np.testing.assert_allclose(after.contours[0].points, before.contours[0].points, atol=1e-4)
    assert (after.width, after.fill_opacity) == (pytest.approx(6.0, abs=1e-5), 0.5)
    assert after.fill == pytest.approx(before.fill)


def test_what_lies_behind_others_is_left_out():
    drawing = from_svg(svg('<circle cx="32" cy="32" r="9" fill="red"/><rect width="64" height="64"/>'))
    made = VectorGraphics([drawing], (32, 32))
    assert made.seen()[0].tolist() == pytest.approx([0, 1], abs=1e-6)
    assert len(made.drawings(least=0.001)[0].paths) == 1
    assert len(made.drawings()[0].paths) == 2


def test_a_palette_is_shared_by_all_paths_and_learns_from_all(rng):
    drawing = from_svg(
        svg('<rect width="32" height="64" fill="#fa0000"/><rect x="32" width="32" height="64" fill="#00f"/>')
    )
    made = VectorGraphics([drawing, drawing], (8, 8), colors=[(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)], opaque=True)
    assert made.color.shape == (2, 3)
    made(made.views()).sum().backward()
    assert made.color.grad.tolist() == [[64.0] * 3] * 2  # two images, 32 pixels each
    assert not made.opacity.requires_grad


def test_optimization_moves_a_disk_onto_another():
    disk = lambda x, y, color: Drawing(
        (16.0, 16.0), (Path((Contour(ellipse((float(x), float(y)), (4.0, 4.0))),), color),)
    )
    target = VectorGraphics([disk(9, 8, (0.1, 0.2, 0.9))], (16, 16))(ALL).detach()
    made = VectorGraphics([disk(6, 6, (0.8, 0.2, 0.2))], (16, 16))
    optimizer = torch.optim.Adam(made.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        loss = (made(ALL) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-3


def test_smoothing_takes_dents_of_smooth_joins_away_and_leaves_corners_and_open_ends():
    corners = Contour(line((2.0, 2.0), (8.0, 9.0), (14.0, 2.0)), closed=False)
    paths = (Path((corners, Contour(ellipse((8.0, 8.0), (5.0, 5.0)))), None, (0.0, 0.0, 0.0)),)
    made = VectorGraphics([Drawing((16.0, 16.0), paths)], (16, 16))
    before = made.points.detach().clone()
    made.smooth(1.0)
    torch.testing.assert_close(made.points.detach(), before)
    with torch.no_grad():
        made.points[7, 0] += 0.1  # the first point of the ellipse
    made.smooth(0.25)
    assert float(made.points.detach()[7, 0] - before[7, 0]) == pytest.approx(0.075, abs=1e-6)
    torch.testing.assert_close(made.points.detach()[:7], before[:7])


def test_more_chords_on_larger_canvases():
    assert [chords(side) for side in (16, 64, 512)] == [11, 22, 62]
