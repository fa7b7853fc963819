"""Landscapes: heights are the potential to second order, peaks are where they are, images show them there."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.datasets.toy2d import density_level, toy_set
from scoredistill.estimators import MSD, Batch
from scoredistill.priors import GaussianMixture
from scoredistill.studies.toy2d.drawings import (
    EMBER,
    HEAT,
    animation,
    color,
    density_image,
    landscape_image,
    panel,
    scatter,
)
from scoredistill.studies.toy2d.landscape import (
    Landscape,
    grid_points,
    integrate,
    interpolated,
    landscape,
    off_distribution,
    peaks,
)

F64 = torch.float64


def point(x, y):
    return torch.tensor([[x, y]], dtype=F64)


def mean_shift(mixture, bandwidth):
    estimator = MSD(bandwidth)
    return lambda x: -estimator(mixture, Batch(x), torch.zeros(len(x), dtype=x.dtype)).grad


def on_grid(height, side, extent=1.5):
    return height(*grid_points(side, extent).T).reshape(side, side)


def bump(x, y, center=(0.6, -0.3), width=0.2):
    return (-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * width**2)).exp()


def ring():
    angle = torch.arange(90, dtype=F64) * (2 * math.pi / 90)
    return GaussianMixture(torch.stack([angle.cos(), angle.sin()], 1), torch.full((90,), 0.03**2, dtype=F64))


def one_peak(center, off, side=41):
    """A landscape with its only peak at a given point."""
    phi = on_grid(lambda x, y: bump(x, y, center, 0.6), side)
    return Landscape(torch.zeros(side, side, 2, dtype=F64), phi, point(*center), torch.tensor([off]), 1.5)


def pixel_of(x, y, size, extent=1.5):
    return size * (x + extent) / (2 * extent), size * (extent - y) / (2 * extent)


class TestHeights:
    def test_grid_runs_along_x_first_and_from_the_lowest_y(self):
        points = grid_points(5, 2.0)
        assert points.dtype == F64
        assert points[0].tolist() == [-2, -2]
        assert points[3].tolist() == [1, -2]
        assert points[5].tolist() == [-2, -1]
        assert points[-1].tolist() == [2, 2]

    def test_second_order(self):
        """Error of the potential, relative to a quarter of the one before: slopes at the border are not zero."""

        def worst(side):
            points = grid_points(side).requires_grad_()
            x, y = points.T
            truth = (1.3 * x + 0.4).sin() * (0.7 * y).cos() + 0.2 * x * y**2 + 0.5 * y
            (slope,) = torch.autograd.grad(truth.sum(), points)
            phi = integrate(slope.reshape(side, side, 2), 3 / (side - 1))
            assert abs(phi.mean()) < 1e-12
            return (phi.flatten() - truth + truth.mean()).abs().max().item()

        errors = [worst(side) for side in (21, 41, 81)]
        orders = [math.log2(a / b) for a, b in pairwise(errors)]
        assert orders == pytest.approx([2, 2], abs=0.1)
        assert errors[-1] < 3e-4

    def test_differences_of_a_parabola_are_the_field_averaged_to_the_edges(self):
        x, y = torch.meshgrid(torch.arange(6, dtype=F64) * 0.1, torch.arange(9, dtype=F64) * 0.1, indexing="xy")
        field = torch.stack([2 * x - 3 * y + 1, -3 * x + y - 2], -1)
        phi = integrate(field, 0.1)
        assert phi.shape == (9, 6)
        assert (phi.diff(dim=1) - 0.05 * (field[:, 1:, 0] + field[:, :-1, 0])).abs().max() < 1e-13
        assert (phi.diff(dim=0) - 0.05 * (field[1:, :, 1] + field[:-1, :, 1])).abs().max() < 1e-13

    def test_no_other_heights_are_nearer_to_a_field_with_curl(self, rng):
        field = torch.randn(7, 5, 2, generator=rng, dtype=F64)
        phi = integrate(field, 0.3).requires_grad_()
        misfit = (phi.diff(dim=1) - 0.15 * (field[:, 1:, 0] + field[:, :-1, 0])).square().sum()
        misfit = misfit + (phi.diff(dim=0) - 0.15 * (field[1:, :, 1] + field[:-1, :, 1])).square().sum()
        (slope,) = torch.autograd.grad(misfit, phi)
        assert misfit > 0.1
        assert slope.abs().max() < 1e-13

    @pytest.mark.parametrize("bandwidth", [0.1, 0.3])
    def test_mean_shift_climbs_s_log_p_s(self, mixture, bandwidth):
        extent, side = 3.0, 80
        found = landscape(mean_shift(mixture, bandwidth), mixture, side, extent)
        t = mixture.schedule.time_of(torch.full((side**2,), bandwidth, dtype=F64))
        alpha, _ = mixture.schedule(t)
        truth = bandwidth**2 * mixture.log_prob(alpha[:, None] * grid_points(side, extent), t)
        both = torch.stack([found.phi.flatten(), truth])
        assert torch.corrcoef(both)[0, 1] > 0.99999
        assert (both[0] - both[1] + both[1].mean()).abs().max() < 5e-3 * (truth.max() - truth.min())

    def test_interpolation_is_exact_for_parabolas_and_of_third_order(self):
        at = torch.linspace(-1, 1, 101, dtype=F64)
        x, y = torch.meshgrid(at, at, indexing="xy")
        parabola = lambda x, y: 1 + 2 * x - y + x * y - 3 * x**2 + 0.5 * y**2
        assert (interpolated(on_grid(parabola, 7, 1.0), at) - parabola(x, y)).abs().max() < 1e-13
        wave = lambda x, y: (2 * x - y).sin()
        errors = [(interpolated(on_grid(wave, n, 1.0), at) - wave(x, y)).abs().max().item() for n in (11, 21, 41)]
        assert all(math.log2(a / b) > 2.7 for a, b in pairwise(errors))

    def test_refusals(self):
        with pytest.raises(ValueError, match="nan or infinite"):
            integrate(torch.full((4, 4, 2), math.nan, dtype=F64), 0.1)
        with pytest.raises(ValueError, match="positive spacing"):
            integrate(torch.zeros(4, 4, 2, dtype=F64), 0.0)
        with pytest.raises(ValueError, match="side >= 3"):
            grid_points(2)
        with pytest.raises(ValueError, match="prominence"):
            peaks(torch.zeros(4, 4, dtype=F64), prominence=-1.0)
        with pytest.raises(ValueError, match="within"):
            interpolated(torch.zeros(4, 4, dtype=F64), torch.tensor([1.1], dtype=F64))


class TestPeaks:
    def test_a_peak_between_nodes_is_found_where_it_is(self):
        (found,) = peaks(on_grid(bump, 80))
        assert (found - point(0.6, -0.3)).abs().max() < 2e-4  # a node is up to .019 away

    def test_the_highest_comes_first(self):
        phi = on_grid(lambda x, y: bump(x, y) + 2 * bump(x, y, (-0.5, 0.7)), 60)
        assert (peaks(phi) - torch.cat([point(-0.5, 0.7), point(0.6, -0.3)])).abs().max() < 2e-3

    @pytest.mark.parametrize("top", [[(4, 5)], [(4, 5), (4, 6)], [(3, 5), (4, 5), (4, 6), (5, 6), (5, 7), (6, 6)]])
    def test_a_plateau_counts_once(self, top):
        phi = torch.zeros(11, 11, dtype=F64)
        for node in top:
            phi[node] = 1
        (found,) = peaks(phi, 5.0, 0.0)
        rows, columns = (sum(c) / len(top) for c in zip(*top, strict=True))
        assert (found - point(columns - 5, rows - 5)).abs().max() <= 0.5

    def test_a_shoulder_is_no_peak(self):
        heights = torch.tensor([0.0, 1, 2, 2, 2, 3, 4, 3, 0], dtype=F64)
        phi = torch.minimum(heights[:, None], heights.flip(0))
        assert peaks(phi, 4.0, 0.0).tolist() == [[-2, 2]]

    def test_the_border_has_no_peaks(self):
        slope = on_grid(lambda x, y: x + 0.3 * y, 9)
        assert peaks(slope).shape == (0, 2)
        phi = torch.zeros(9, 9, dtype=F64)
        assert peaks(phi).shape == (0, 2)  # one plateau that touches the border
        phi[0, 4] = phi[3, 3] = phi[6, 7] = phi[6, 8] = 1
        assert peaks(phi, 4.0, 0.0).tolist() == [[-1, -1]]

    def test_ripples_below_the_floor_are_left_out(self):
        phi = on_grid(lambda x, y: bump(x, y) + 0.011 * bump(x, y, (-0.9, 0.9), 0.1), 60)
        assert len(peaks(phi, prominence=0.010)) == 2
        assert len(peaks(phi, prominence=0.012)) == 1

    def test_oblique_ridges_are_not_strings_of_peaks(self):
        """By symmetry the five blades have equally many modes each, all fixed points of the mean shift."""
        pinwheel = toy_set("pinwheel")
        shift = mean_shift(pinwheel, 0.1 / math.sqrt(2))
        found = landscape(shift, pinwheel)
        assert len(peaks(found.phi)) > 5  # what the nodes alone would say
        assert found.peaks.shape == (5, 2)
        assert not found.off.any()
        modes = found.peaks
        for _ in range(1000):
            modes = modes + shift(modes)
        assert (modes - found.peaks).norm(dim=1).max() < 0.038  # a spacing of the grid

    def test_on_a_ring_and_off_it(self):
        level = density_level(ring())
        at = torch.cat([point(0, 0), point(0.6, -0.8), point(0.5, 0), point(1.2, 0), point(0, -1.3)])
        assert off_distribution(at, ring(), level, 0.04).tolist() == [True, False, True, True, True]
        assert off_distribution(at, ring(), level, 0.15).tolist() == [True, False, True, False, True]
        assert off_distribution(at[:0], ring(), level, 0.04).shape == (0,)
        with pytest.raises(ValueError, match="slack"):
            off_distribution(at, ring(), level, -0.1)

    def test_slack_reaches_as_far_as_it_says(self):
        gauss = GaussianMixture(point(0.6, -0.3), torch.tensor([0.01**2], dtype=F64))
        level = gauss.log_prob(point(0.61, -0.3)).item()  # reached within .01 of the mean
        at = torch.cat([point(0.6 + 0.047, -0.3), point(0.6, -0.3 - 0.047), point(0.6 + 0.0501, -0.3)])
        assert off_distribution(at, gauss, level, 0.04).tolist() == [False, False, True]

    def test_where_all_particles_go_to_the_middle_of_a_ring_the_peak_is_off(self):
        found = landscape(lambda x: -x, ring(), side=40)
        assert found.peaks.abs().max() < 1e-12
        assert found.off.tolist() == [True]
        moved = landscape(lambda x: point(0.6, -0.8) - x, ring(), side=40)
        assert (moved.peaks - point(0.6, -0.8)).abs().max() < 1e-12
        assert moved.off.tolist() == [False]


class TestImages:
    def test_colors_meet_their_anchors_and_values_outside_are_clipped(self):
        image = color(torch.tensor([[-1.0, 0.0, 0.25, 0.5, 1.0, 7.0]]), ("#000000", "#102030", "#ff0000"))
        expected = [(0, 0, 0), (0, 0, 0), (8, 16, 24), (16, 32, 48), (255, 0, 0), (255, 0, 0)]
        assert [image.getpixel((i, 0)) for i in range(6)] == expected
        with pytest.raises(ValueError, match="two anchors"):
            color(torch.zeros(2, 2), ("#000000",))

    @pytest.mark.parametrize(("anchors", "sign"), [(HEAT, 1), (EMBER, -1)], ids=["heat", "ember"])
    def test_lightness_is_ordered_in_even_steps(self, anchors, sign):
        rgb = np.asarray(color(torch.linspace(0, 1, 65)[None], anchors))[0] / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        luminance = linear @ [0.2126, 0.7152, 0.0722]
        lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)  # CIE L*
        steps = sign * np.diff(lightness[::8])
        assert (sign * np.diff(lightness) > 0).all()
        assert steps.min() > 0.6 * steps.mean()

    def test_density_is_that_of_the_mixture_blurred_by_half_a_pixel(self, mixture):
        size, extent = 60, 2.0
        image = density_image(mixture, size, extent)
        middles = extent * ((torch.arange(size, dtype=F64) + 0.5) * 2 / size - 1)
        y, x = torch.meshgrid(middles.flip(0), middles, indexing="ij")
        t = mixture.schedule.time_of(torch.full((size**2,), extent / size, dtype=F64))
        alpha, _ = mixture.schedule(t)
        log_p = mixture.log_prob(alpha[:, None] * torch.stack([x, y], -1).reshape(-1, 2), t).reshape(size, size)
        expected = color((1 + (log_p - log_p.max()) / math.log(10) / 2.5).clamp(0, 1), EMBER)
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 2

    def test_density_is_drawn_where_it_is(self):
        gauss = GaussianMixture(point(0.6, -0.3), torch.tensor([0.03**2], dtype=F64))
        darkness = 255 * 3 - np.asarray(density_image(gauss, 100), int).sum(-1)
        row, column = np.unravel_index(darkness.argmax(), darkness.shape)
        assert abs(column - 69.5) <= 0.5  # (x + 1.5) / 3 * 100 = 70 is the border of two pixels
        assert abs(row - 59.5) <= 0.5

    def test_a_branch_thinner_than_a_pixel_does_not_break(self):
        covs = torch.tensor([[0.6**2, 0.3 * 0.6**2], [0.3 * 0.6**2, 0.09 * 0.6**2 + 1e-6]], dtype=F64)
        image = np.asarray(density_image(GaussianMixture(point(0, 0), covs[None]), 100), int)
        ink = image[..., 2].min(0)[30:70]  # the darkest of each column; 252 is the background
        assert ink.max() < 80

    def test_density_of_one_class(self):
        means = torch.cat([point(-0.7, 0), point(0.7, 0)])
        both = GaussianMixture(means, torch.full((2,), 0.01, dtype=F64), labels=[0, 1])
        background = Counter(
            np.asarray(density_image(both, 40, cond={"label": torch.tensor([1])}))[20, :20, 2].tolist()
        )
        assert list(background) == [int(EMBER[0][5:], 16)]
        everything = density_image(both, 40, cond={"label": torch.tensor([-1])})
        assert everything.tobytes() == density_image(both, 40).tobytes()
        with pytest.raises(ValueError, match="no classes"):
            density_image(ring(), 40, cond={"label": torch.tensor([1])})

    def test_dots_cover_their_area_around_their_point(self):
        size, radius, (x, y) = 100, 3.3, (0.6123, -0.3217)
        image = scatter(Image.new("RGB", (size, size), "white"), point(x, y), radius=radius, color="black")
        ink = 1 - np.asarray(image, float)[..., 0] / 255
        rows, columns = np.mgrid[:size, :size] + 0.5
        assert ink.sum() == pytest.approx(math.pi * radius**2, rel=0.05)
        assert (ink * columns).sum() / ink.sum() == pytest.approx(size * (x + 1.5) / 3, abs=0.2)
        assert (ink * rows).sum() / ink.sum() == pytest.approx(size * (1.5 - y) / 3, abs=0.2)
        assert ((ink > 0.1) & (ink < 0.9)).sum() > 8  # smooth edges

    def test_dots_outside_do_not_show_and_nan_is_refused(self):
        background = Image.new("RGB", (50, 50), "white")
        assert scatter(background, torch.tensor([[2.0, 0.0], [0.0, -1e30]])).tobytes() == background.tobytes()
        half = scatter(background, torch.zeros(3, 2), radius=4.0, color="black", opacity=0.5)
        assert half.getpixel((25, 25)) == pytest.approx((127, 127, 127), abs=1)
        with pytest.raises(ValueError, match="cannot be drawn"):
            scatter(background, torch.tensor([[0.0, math.nan]]))
        with pytest.raises(ValueError, match="square"):
            scatter(Image.new("RGB", (50, 40)), torch.zeros(1, 2))

    @pytest.mark.parametrize("center", [(0.6, -0.3), (-1.1, 0.9)])
    def test_peaks_are_marked_where_they_are(self, center):
        size, away = 240, GaussianMixture(point(9.0, 9.0), torch.tensor([0.01], dtype=F64))
        left, top = pixel_of(*center, size)
        stray, good = (np.asarray(landscape_image(one_peak(center, off), away, size), int) for off in (True, False))
        red = (stray[..., 0] > 180) & (stray[..., 1] < 60)
        rows, columns = red.nonzero()
        assert np.abs([rows.mean() + 0.5 - top, columns.mean() + 0.5 - left]).max() < 0.8
        near = slice(round(top) - 2, round(top) + 2), slice(round(left) - 2, round(left) + 2)
        assert red[near].any()
        assert red.sum() > 10
        white = (good > 240).all(-1)
        assert not white[near].any()  # an open circle
        rows, columns = white.nonzero()
        assert np.abs([rows.mean() + 0.5 - top, columns.mean() + 0.5 - left]).max() < 0.8
        assert np.hypot(rows + 0.5 - top, columns + 0.5 - left) == pytest.approx(size / 60, abs=1.5)
        beside = good[round(top), round(left) + 15].sum()
        assert beside > good[size - round(top), round(left) + 15].sum() + 30  # heat, too, is the right way up
        assert beside > good[round(top), size - round(left) - 15].sum() + 30

    def test_heat_rises_towards_the_peak_and_rings_are_evenly_spaced(self):
        """A bowl of heights has straight slopes in sqrt(highest - phi), the same in all directions."""
        phi = on_grid(lambda x, y: -(x**2) - y**2, 61)
        empty = torch.zeros(0, 2, dtype=F64), torch.zeros(0, dtype=torch.bool)
        bowl = Landscape(torch.zeros(61, 61, 2, dtype=F64), phi, *empty, 1.5)
        away = GaussianMixture(point(9.0, 9.0), torch.tensor([0.01], dtype=F64))
        gray = np.asarray(landscape_image(bowl, away, 300).convert("L"), float)
        line = gray[150, 150:]
        crests = [i for i in range(5, 145) if line[i] > max(line[i - 3 : i].max(), line[i + 1 : i + 4].max())]
        assert np.diff(crests) == pytest.approx(150 * math.sqrt(2) / 24, abs=1.2)
        assert len(crests) > 12
        assert gray[100, 100] > gray[20, 20] + 30

    def test_gif_has_all_frames_and_is_small(self, tmp_path, rng):
        start, end = (3 * torch.rand(1024, 2, generator=rng) - 1.5, ring().sample(1024, rng).float())
        frames = [torch.lerp(start, end, u) for u in torch.linspace(0, 1, 40).tolist()]
        path = animation(frames, density_image(ring(), 280), tmp_path / "particles.gif")
        assert path.stat().st_size < 600_000
        with Image.open(path) as gif:
            assert (gif.n_frames, gif.size) == (40, (280, 280))
            gif.seek(39)
            last = np.asarray(gif.convert("RGB"), int)
        expected = np.asarray(scatter(density_image(ring(), 280), end), int)
        assert np.abs(last - expected).mean() < 4
        with pytest.raises(ValueError, match="at least one frame"):
            animation([], Image.new("RGB", (9, 9)), tmp_path / "none.gif")

    def test_panel_frames_and_titles(self):
        image_grid = panel([Image.new("RGB", (40, 40), c) for c in ("red", "lime", "blue")], ["a", "b", "c"], 2)
        assert image_grid.size == (2 * 50 + 8, 2 * (50 + 16) + 8)
        assert image_grid.getpixel((9, 9)) == (255, 0, 0)
        assert image_grid.getpixel((8, 8)) == (0x9A, 0x9A, 0xA2)
