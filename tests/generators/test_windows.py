"""Overlapping windows on a canvas, against sums written out pixel by pixel and priors that are linear in each pixel."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from scoredistill.estimators import SDS, Batch, Estimate, Estimator
from scoredistill.generators import Encoded, Windows
from scoredistill.loop import distill
from scoredistill.priors import Counted, GaussianMixture, Guided, Prior
from scoredistill.priors.windowed import Windowed
from scoredistill.schedule import VP
from scoredistill.window_grid import Layout, padding

F64 = torch.float64
SHARE = 1e-6  # shares m p / sum of m p are float32: a constant stays itself to a few of its roundings


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def swept(canvas, grad_of, n=None, sweeps=1, **options):
    """Gradients of `sweeps` sweeps in steps of n windows, summed, and the views that were visited."""
    windows = Windows(canvas, **options)
    total, seen = torch.zeros_like(canvas), []
    for _ in range(windows.steps(sweeps, n)):
        views = windows.views(n)
        windows.zero_grad()
        windows(views).backward(grad_of(views, canvas.shape[1], windows.window).to(canvas))
        total += windows.canvas.grad
        seen += views.tolist()
    assert int(windows.cursor) == 0
    assert int(windows.sweep) == sweeps
    return total, seen, windows


def constant(value):
    return lambda views, channels, window: torch.full((len(views), channels, *window), value)


def of_the_view(views, channels, window):
    """Noise that belongs to the view alone, so that it is the same however views are split into steps."""
    seeds = [sum((v + 1) * 101**i for i, v in enumerate(view)) for view in views.tolist()]
    return torch.stack([torch.randn(channels, *window, generator=seeded(s), dtype=F64) for s in seeds])


def profile(i, j, height, width, kind):
    """A window's weight at (i, j): 1, or a tent that falls linearly to half a step outside of each side."""
    if kind == "flat":
        return 1.0
    down, across = ((n - abs(2 * k - (n - 1))) / (n + 1) + 1 / (n + 1) for k, n in ((i, height), (j, width)))
    return down * across


def by_loops(seen, canvas, window, kind, maps=None):
    """update(q) = sum_i m_i(q) p(q - s_i) g_i(q - s_i) / sum_i m_i(q) p(q - s_i), one pixel of one window at a time."""
    frames, channels, height, width = canvas.shape
    maps = torch.ones(1, height, width) if maps is None else maps
    above, below = torch.zeros(frames, channels, height, width, dtype=F64), torch.zeros(frames, 1, height, width)
    for view in seen:
        frame, top, left, region, k = view
        g = of_the_view(torch.tensor([view]), channels, window)[0]
        for i in range(k * window[0]):
            for j in range(k * window[1]):
                y, x = top + i, (left + j) % width
                p = profile(i, j, k * window[0], k * window[1], kind) * float(maps[region, y, x])
                above[frame, :, y, x] += p * g[:, i // k, j // k]
                below[frame, :, y, x] += p
    return torch.where(below > 0, above / below.clamp(min=1e-30), 0.0)


class TestLayout:
    @pytest.mark.parametrize(("size", "count"), [((512, 1920), 12), ((1024, 1024), 25), ((512, 512), 1)])
    def test_counts_of_the_paper(self, size, count):
        boxes = Layout(size, (512, 512), (128, 128)).boxes()
        assert len(boxes) == count == len(boxes.unique(dim=0))
        assert (boxes >= 0).all()
        assert (boxes + 512 <= torch.tensor(size)).all()

    def test_the_last_window_is_pushed_back_inside(self):
        assert Layout((5, 13), (5, 5), (5, 5)).boxes().tolist() == [[0, 0], [0, 5], [0, 8]]
        assert Layout((5, 13), (5, 5), (5, 5)).boxes((0, 3)).tolist() == [[0, 0], [0, 2], [0, 7], [0, 8]]

    @pytest.mark.parametrize("wrap", [False, True])
    @pytest.mark.parametrize("kind", ["flat", "tent"])
    def test_every_offset_covers_every_pixel(self, wrap, kind):
        layout = Layout((11, 13), (4, 5), (3, 4), wrap, kind)
        for offset in [None, *((i, j) for i in range(3) for j in range(13 if wrap else 4))]:
            assert layout.coverage(layout.boxes(offset)).min() > 0

    def test_windows_of_a_panorama_are_even_and_go_across_the_seam(self):
        layout = Layout((4, 10), (4, 4), (4, 4), wrap=True)
        assert layout.boxes()[:, 1].tolist() == [0, 3, 6]  # ceil(10 / 4) of them: steps of 3, 3 and 4
        assert layout.boxes((0, 9))[:, 1].tolist() == [2, 5, 9]
        canvas = torch.arange(40.0).reshape(1, 1, 4, 10)
        assert torch.equal(layout.take(canvas, torch.tensor([[0, 8]]))[0, 0, 0], torch.tensor([8.0, 9.0, 0.0, 1.0]))

    def test_take_is_a_slice_and_put_its_transpose(self):
        layout = Layout((9, 10), (4, 5), (3, 4), wrap=True)
        canvas = torch.randn(3, 2, 9, 10, generator=seeded(), dtype=F64)
        boxes, frames = torch.tensor([[0, 0], [5, 3], [2, 8], [2, 8]]), torch.tensor([0, 2, 1, 1])
        seen = layout.take(canvas, boxes, frames)
        twice = torch.cat([canvas, canvas], -1)
        for window, (top, left), frame in zip(seen, boxes.tolist(), frames.tolist(), strict=True):
            assert torch.equal(window, twice[frame, :, top : top + 4, left : left + 5])
        values = torch.randn(seen.shape, generator=seeded(1), dtype=F64)
        back = layout.put(values, boxes, frames, 3)
        assert abs((seen * values).sum() - (canvas * back).sum()) < 1e-12  # <take x, v> = <x, put v>

    def test_the_tent(self):
        weight = Layout((9, 9), (3, 4), (1, 1), profile="tent").weight()
        expected = torch.tensor([[profile(i, j, 3, 4, "tent") for j in range(4)] for i in range(3)])
        assert (weight - expected).abs().max() < 1e-6
        assert weight.max() == weight[1, 1] == 0.8  # 1 down the middle, .8 beside it across
        assert weight.min() == pytest.approx(0.5 * 0.4)

    def test_offsets_are_those_of_one_stride_or_of_the_whole_turn(self):
        rng = seeded()
        for wrap, across in ((False, 3), (True, 8)):
            layout = Layout((6, 8), (4, 4), (2, 3), wrap)
            assert {layout.offsets(rng) for _ in range(400)} == {(i, j) for i in range(2) for j in range(across)}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (((8, 8), (4, 4), (5, 4)), "stride must lie between 1 and the window's 4 pixels, not 5"),
            (((8, 8), (4, 4), (4, 0)), "not 0"),
            (((8, 3), (4, 4), (4, 4)), "a window of 4 pixels does not fit into 3"),
            (((8, 8), (4, 4), (4, 4), False, "round"), "unknown profile 'round'"),
        ],
    )
    def test_impossible_layouts_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            Layout(*arguments)

    def test_padding(self):
        assert padding((65, 100), 8, (64, 64)) == (7, 4)
        assert padding((30, 64), 8, (64, 64)) == (34, 0)
        assert padding((65, 128), 8, (64, 64), wrap=True) == (7, 0)
        for width in (100, 56):
            with pytest.raises(ValueError, match="at least 64 and a multiple of 8 pixels wide"):
                padding((65, width), 8, (64, 64), wrap=True)


SHAPES = [  # canvas, window, stride, scales
    ((1, 1, 10, 12), (4, 4), None, (1,)),
    ((2, 3, 11, 13), (4, 5), (3, 4), (1,)),
    ((2, 1, 11, 13), (4, 5), (3, 2), (1, 2)),
    ((1, 2, 5, 9), (5, 9), (5, 9), (1,)),
    ((3, 1, 4, 17), (4, 4), (1, 4), (1, 3)),
    ((1, 1, 13, 14), (4, 4), (4, 3), (1, 2, 3)),
]


class TestSweep:
    @pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape[0]))
    @pytest.mark.parametrize("wrap", [False, True])
    @pytest.mark.parametrize("kind", ["flat", "tent"])
    @pytest.mark.parametrize("jitter", [False, True])
    def test_a_constant_moves_every_pixel_by_itself(self, shape, wrap, kind, jitter):
        size, window, stride, scales = shape
        options = {"window": window, "stride": stride, "scales": scales, "wrap": wrap, "profile": kind}
        canvas = torch.zeros(size, dtype=F64)
        visited = []
        for n in (None, 1, 4, 7):
            total, seen, _ = swept(canvas, constant(0.7), n, jitter=jitter, seed=5, **options)
            assert (total - 0.7).abs().max() < SHARE, f"steps of {n}"
            visited.append(seen)
        assert all(seen == visited[0] for seen in visited)  # the same windows in the same order, however it is split
        assert len(set(map(tuple, visited[0]))) == len(visited[0])
        twice, _, _ = swept(canvas, constant(0.7), 4, sweeps=2, jitter=jitter, seed=5, **options)
        assert (twice - 1.4).abs().max() < 2 * SHARE

    @pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[2], SHAPES[5]], ids=lambda shape: str(shape[0]))
    @pytest.mark.parametrize("wrap", [False, True])
    @pytest.mark.parametrize("kind", ["flat", "tent"])
    @pytest.mark.parametrize("n", [None, 5])
    def test_the_update_is_the_mean_of_the_module_written_out(self, shape, wrap, kind, n):
        size, window, stride, scales = shape
        canvas = torch.zeros(size, dtype=F64)
        total, seen, _ = swept(
            canvas, of_the_view, n, window=window, stride=stride, scales=scales, wrap=wrap, profile=kind, seed=2
        )
        assert (total - by_loops(seen, canvas, window, kind)).abs().max() < 4 * SHARE

    def test_regions_are_weighed_by_their_maps(self):
        canvas = torch.zeros(2, 1, 10, 12, dtype=F64)
        maps = torch.rand(2, 10, 12, generator=seeded())
        maps[:, :, 8:] = 0
        maps[0, :, :4] = 0
        total, seen, _ = swept(canvas, of_the_view, 5, window=(4, 4), stride=(2, 3), scales=(1, 2), maps=maps)
        assert {view[3] for view in seen} == {0, 1}
        assert (total - by_loops(seen, canvas, (4, 4), "tent", maps)).abs().max() < 4 * SHARE

    def test_one_sgd_step_per_part_is_one_sweep(self):
        canvas = torch.randn(2, 1, 9, 9, generator=seeded(), dtype=F64)
        windows = Windows(canvas, (4, 4), (2, 2))
        optimizer = torch.optim.SGD(windows.parameters(), lr=0.5)
        for _ in range(windows.steps(3, 5)):
            views = windows.views(5)
            optimizer.zero_grad()
            windows(views).backward(torch.ones(len(views), 1, 4, 4, dtype=F64))
            optimizer.step()
        assert int(windows.sweep) == 3
        assert (windows.canvas - (canvas - 1.5)).abs().max() < 3 * SHARE

    def test_frames_have_the_same_windows_and_sweeps_have_others(self):
        windows = Windows(torch.zeros(3, 1, 20, 20), (4, 4))
        first, second = windows.views(), windows.views()
        for views in (first, second):
            of = [views[views[:, 0] == f, 1:] for f in range(3)]
            assert torch.equal(of[0], of[1])
            assert torch.equal(of[0], of[2])
        assert sorted(first.tolist()) != sorted(second.tolist())
        fixed = Windows(torch.zeros(3, 1, 20, 20), (4, 4), jitter=False)
        first, second = fixed.views(), fixed.views()
        assert sorted(first.tolist()) == sorted(second.tolist())
        assert first.tolist() != second.tolist()  # in another order

    def test_steps_are_counted_as_they_come(self):
        made = {"canvas": torch.zeros(2, 1, 9, 13), "window": (4, 4), "stride": (3, 3), "seed": 1}
        for n in (None, 1, 4, 7):
            windows, count = Windows(**made), Windows(**made).steps(3, n)
            sizes = [len(windows.views(n)) for _ in range(count)]
            assert (int(windows.sweep), int(windows.cursor)) == (3, 0)
            assert n is None or max(sizes) == n
            assert n is not None or count == 3


class TestWrap:
    def test_a_shifted_panorama_moves_with_its_windows(self):
        """Windows at s of a canvas are the windows at s + shift of the canvas shifted so far, across the seam."""
        layout = Layout((6, 15), (4, 6), (3, 4), wrap=True, profile="tent")
        canvas = torch.randn(2, 3, 6, 15, generator=seeded(), dtype=F64)
        for shift in (1, 7, 14):
            there, here = layout.boxes((1, shift)), layout.boxes((1, 0))
            follows = torch.stack([here[:, 0], (here[:, 1] + shift) % 15], 1)  # where each of them goes
            assert sorted(there.tolist()) == sorted(follows.tolist())
            there = follows
            moved = canvas.roll(shift, -1)
            assert torch.equal(layout.take(moved, there), layout.take(canvas, here))
            values = torch.randn(len(here), 3, 4, 6, generator=seeded(shift), dtype=F64)
            assert torch.equal(layout.put(values, there), layout.put(values, here).roll(shift, -1))

    @pytest.mark.parametrize("shift", [1, 7, 14])
    def test_a_shifted_panorama_is_predicted_as_the_shifted_prediction(self, shift):
        x, t = torch.randn(2, 1, 6, 15, generator=seeded(), dtype=F64), torch.tensor([0.3, 0.6], dtype=F64)
        layout = Layout((6, 15), (4, 6), (3, 4), wrap=True, profile="tent")
        still, moved = (Windowed(Smooth(), layout, (1, s)) for s in (0, shift))
        assert (moved.eps(x.roll(shift, -1), t) - still.eps(x, t).roll(shift, -1)).abs().max() < 1e-12
        assert (moved.eps(x, t) - still.eps(x, t)).abs().max() > 1e-3

    def test_the_seam_is_as_covered_as_any_place(self):
        flat = Layout((4, 12), (4, 6), (4, 3), wrap=True)
        assert (flat.coverage(flat.boxes()) == 2).all()
        cut = Layout((4, 12), (4, 6), (4, 3))
        assert cut.coverage(cut.boxes())[0].tolist() == [1] * 3 + [2] * 6 + [1] * 3


class TestRegions:
    def test_pixels_without_weight_do_not_move_and_nothing_is_spent_there(self):
        maps = torch.zeros(1, 12, 20)
        maps[0, 2:6, 3:7] = 0.2
        total, seen, _ = swept(
            torch.zeros(1, 1, 12, 20, dtype=F64), constant(1.0), 3, window=(4, 4), stride=(2, 2), maps=maps
        )
        assert (total[0, 0][maps[0] == 0] == 0).all()
        assert (total[0, 0][maps[0] > 0] - 1).abs().max() < SHARE  # a small weight alone is the whole weight
        assert all(top < 6 and top + 4 > 2 and left < 7 and left + 4 > 3 for _, top, left, _, _ in seen)
        everywhere = swept(torch.zeros(1, 1, 12, 20), constant(1.0), window=(4, 4), stride=(2, 2))[1]
        assert len(seen) < len(everywhere) / 2

    def test_shares_of_two_regions_sum_to_one(self):
        maps = torch.rand(2, 10, 14, generator=seeded()) + 0.01

        def region_only(which):
            return lambda views, channels, window: (views[:, 3] == which)[:, None, None, None].expand(-1, 1, *window)

        canvas = torch.zeros(1, 1, 10, 14, dtype=F64)
        one, other = (swept(canvas, region_only(r), 4, window=(4, 4), maps=maps, scales=(1, 2))[0] for r in (0, 1))
        assert (one + other - 1).abs().max() < SHARE
        flat = Windows(canvas, (10, 14), profile="flat", maps=maps)
        views = flat.views()
        alone = flat.spread((views[:, 3] == 0).double()[:, None, None, None].expand(-1, 1, 10, 14), views)
        assert (alone[0, 0] - maps[0] / maps.sum(0)).abs().max() < SHARE  # one window: the maps themselves
        assert (one - other).abs().max() > 0.1


class TestResume:
    @pytest.mark.parametrize("stop", [1, 2, 5])
    def test_in_the_middle_of_a_sweep(self, stop):
        made = {"canvas": torch.randn(2, 1, 9, 13, generator=seeded()), "window": (4, 4), "seed": 3}
        windows = Windows(**made)
        for _ in range(stop):
            windows.views(7)
        state = copy.deepcopy(windows.state_dict())
        rest = [windows.views(7) for _ in range(9)]
        again = Windows(**made)
        again.load_state_dict(state)
        grads = torch.randn(len(rest[0]), 1, 4, 4, generator=seeded(1))
        assert torch.equal(again.views(7), rest[0])
        windows.load_state_dict(state)
        windows.views(7)
        assert torch.equal(again.spread(grads, rest[0]), windows.spread(grads, rest[0]))
        assert all(torch.equal(again.views(7), views) for views in rest[1:])

    def test_through_the_loop(self):
        """Bit for bit: the canvas after 9 steps, and after 4 steps and 5 more of another object."""
        prior = Whole()

        def run(state=None):
            windows = Windows(torch.zeros(1, 2, 8, 12), (4, 4), (2, 3), seed=4)
            return distill(windows, prior, SDS(), steps=9, particles=5, rng=seeded(7), state=state)

        whole = list(run())
        state = None
        for step in run():
            if step.index == 3:
                state = step.state_dict()
                break
        assert int(state["generator"]["cursor"]) > 0
        rest = list(run(state))
        assert [step.views.tolist() for step in rest] == [step.views.tolist() for step in whole[4:]]
        assert torch.equal(rest[-1].generator.canvas, whole[-1].generator.canvas)
        assert whole[-1].generator.canvas.abs().max() > 0


class TestCrops:
    def test_crops_are_slices(self):
        canvas = torch.randn(2, 3, 9, 11, generator=seeded(), dtype=F64)
        windows = Windows(canvas, (4, 5), (3, 4), wrap=True)
        views, twice = windows.views(), torch.cat([canvas, canvas], -1)
        other = torch.randn(2, 1, 9, 11, generator=seeded(1), dtype=F64)
        theirs = windows.crops(other, views)
        for window, theirs_too, (frame, top, left, _, _) in zip(windows(views), theirs, views.tolist(), strict=True):
            assert torch.equal(window, twice[frame, :, top : top + 4, left : left + 5])
            assert torch.equal(theirs_too, torch.cat([other, other], -1)[frame, :, top : top + 4, left : left + 5])
        assert windows(views).requires_grad
        assert not theirs.requires_grad
        images = windows.images(views, lambda x: 2 * x)
        assert torch.equal(images, 2 * windows.crops(canvas, views))

    @pytest.mark.parametrize("k", [2, 3])
    def test_a_window_of_scale_k_sees_means_of_k_by_k_pixels(self, k):
        canvas = torch.randn(2, 2, 13, 14, generator=seeded(), dtype=F64)
        windows = Windows(canvas, (4, 4), (4, 4), scales=(1, k))
        views = windows.views()
        assert set(views[:, 4].tolist()) == {1, k}
        crops = windows(views)
        for window, (frame, top, left, _, scale) in zip(crops, views.tolist(), strict=True):
            for i in range(4):
                for j in range(4):
                    y, x = top + scale * i, left + scale * j
                    mean = canvas[frame, :, y : y + scale, x : x + scale].mean((1, 2))
                    assert (window[:, i, j] - mean).abs().max() < 1e-12

    def test_their_gradient_goes_to_all_of_those_pixels_in_full(self):
        """One window of scale 3 on the whole canvas and those of scale 1: flat, so the share is one over the count."""
        windows = Windows(
            torch.zeros(1, 1, 9, 9, dtype=F64), (3, 3), (3, 3), profile="flat", scales=(1, 3), jitter=False
        )
        views = windows.views()
        assert (views[:, 4] == 3).sum() == 1
        assert len(views) == 10
        grads = torch.zeros(10, 1, 3, 3, dtype=F64)
        pattern = torch.arange(1.0, 10.0, dtype=F64).reshape(3, 3)
        grads[views[:, 4] == 3] = pattern
        windows(views).backward(grads)
        expected = pattern.repeat_interleave(3, 0).repeat_interleave(3, 1) / 2  # two windows cover each pixel
        assert (windows.canvas.grad[0, 0] - expected).abs().max() < SHARE

    def test_scales_that_do_not_fit_are_left_out(self):
        windows = Windows(torch.zeros(1, 1, 8, 20), (4, 4), scales=(1, 2, 3))
        assert set(windows.views()[:, 4].tolist()) == {1, 2}

    def test_the_canvas_is_a_copy_and_the_only_parameter(self):
        start = torch.zeros(1, 1, 4, 4)
        windows = Windows(start, (4, 4))
        with torch.no_grad():
            windows.canvas += 1
        assert start.abs().max() == 0
        assert [name for name, _ in windows.named_parameters()] == ["canvas"]

    def test_the_exchange_sees_the_gradient_of_the_canvas(self):
        windows = Windows(torch.zeros(2, 1, 6, 6, dtype=F64), (3, 3), exchange=lambda g: g.flip(0))
        views = windows.views()
        grads = views[:, 0].double()[:, None, None, None].expand(-1, 1, 3, 3)  # frame f has the gradient f
        windows(views).backward(grads)
        assert (windows.canvas.grad[0] - 1).abs().max() < SHARE
        assert windows.canvas.grad[1].abs().max() == 0

    def test_through_an_encoder(self):
        """A codec of 2 x 2 means: each gradient of a sample is spread over four pixels, then over the canvas."""

        class Halving(Whole):
            def encode_image(self, images):
                return functional.avg_pool2d(images, 2)

        windows = Windows(torch.zeros(1, 1, 8, 12, dtype=F64), (4, 4), seed=1)
        encoded = Encoded(windows, Halving())
        for _ in range(windows.steps(1, 5)):
            views = encoded.views(5)
            encoded(views).backward(torch.ones(len(views), 1, 2, 2, dtype=F64))
        assert (windows.canvas.grad - 0.25).abs().max() < SHARE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (9, 4)}, "a window of 9 pixels does not fit into 8"),
        ({"stride": (5, 4)}, "stride must lie between 1 and the window's 4"),
        ({"profile": "round"}, "unknown profile"),
        ({"scales": (2,)}, r"hold 1, not \(2,\)"),
        ({"scales": (0, 1)}, "whole numbers from 1 up"),
        ({"maps": -torch.ones(1, 8, 8)}, r"maps must be \[regions, 8, 8\] and at least 0"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Windows(torch.zeros(1, 1, 8, 8), **{"window": (4, 4), **options})


def test_empty_maps_and_unasked_gradients_are_refused():
    with pytest.raises(ValueError, match="no region has any weight"):
        Windows(torch.zeros(1, 1, 8, 8), (4, 4), maps=torch.zeros(2, 8, 8)).views()
    with pytest.raises(ValueError, match="no region has any weight"):
        Windowed(Whole(), Layout((8, 8), (4, 4), (4, 4)), maps=torch.zeros(2, 8, 8))
    windows = Windows(torch.zeros(1, 1, 8, 8), (4, 4))
    with pytest.raises(ValueError, match=r"views\(\) chose"):
        windows.spread(torch.zeros(1, 1, 4, 4), torch.tensor([[0, 0, 0, 0, 1]]))


# The prior of windows.


class Whole(Prior):
    """eps of a pixel depends on that pixel, on t, and on the conditions "map" [b, c, h, w] and "word" [b, 1]."""

    schedule = VP()

    def eps(self, x_t, t, cond=None):
        found = torch.sin(3 * x_t) + t.to(x_t).reshape(-1, 1, 1, 1) * x_t
        if cond is not None and "map" in cond:
            found = found + 0.5 * x_t * cond["map"]
        if cond is not None and "word" in cond:
            found = found + cond["word"][:, :, None, None] * x_t
        return found

    def null(self, cond):
        return {**cond, "word": torch.zeros_like(cond["word"])}


class Smooth(Whole):
    """Every pixel depends on its whole window."""

    def eps(self, x_t, t, cond=None):
        return super().eps(x_t, t, cond) + x_t.mean((-1, -2), keepdim=True)


LAYOUTS = [
    (Layout((8, 12), (8, 12), (8, 12)), None),
    (Layout((8, 12), (4, 4), (4, 4)), None),
    (Layout((8, 12), (4, 5), (3, 4)), None),
    (Layout((8, 12), (4, 5), (3, 4), profile="tent"), (2, 1)),
    (Layout((8, 12), (4, 5), (3, 4), wrap=True, profile="tent"), (1, 7)),
    (Layout((8, 12), (3, 12), (1, 12), wrap=True), None),
]


def canvases(count=3, channels=2):
    x = torch.randn(count, channels, 8, 12, generator=seeded(8), dtype=F64)
    return x, torch.linspace(0.2, 0.8, count, dtype=F64)


class TestWindowed:
    @pytest.mark.parametrize(("layout", "offset"), LAYOUTS)
    @pytest.mark.parametrize("shared", [False, True])
    def test_a_prior_of_single_pixels_is_itself(self, layout, offset, shared):
        x, t = canvases()
        maps = torch.randn(1 if shared else 3, 2, 8, 12, generator=seeded(1), dtype=F64)
        words = torch.randn(1 if shared else 3, 1, generator=seeded(2), dtype=F64)
        cond = {"map": maps, "word": words}
        whole, counted = Whole(), Counted(Whole())
        windowed = Windowed(counted, layout, offset)
        for ask in ("eps", "denoise", "score"):
            ours, theirs = getattr(windowed, ask)(x, t, cond), getattr(whole, ask)(x, t, cond)
            assert (ours - theirs).abs().max() < SHARE * theirs.abs().max(), ask
        assert (counted.rows, counted.calls) == (3 * 3 * len(layout.boxes(offset)), 3)  # windows alone, in one call

    def test_one_window_is_the_prior(self):
        x, t = canvases()
        for kind in ("flat", "tent"):
            windowed = Windowed(Smooth(), Layout((8, 12), (8, 12), (1, 1), profile=kind))
            assert (windowed.eps(x, t) - Smooth().eps(x, t)).abs().max() < SHARE

    def test_windows_apart_are_separate_crops(self):
        x, t = canvases()
        found = Windowed(Smooth(), Layout((8, 12), (4, 6), (4, 6))).eps(x, t)
        for top in (0, 4):
            for left in (0, 6):
                crop = Smooth().eps(x[..., top : top + 4, left : left + 6], t)
                assert (found[..., top : top + 4, left : left + 6] - crop).abs().max() < SHARE

    @pytest.mark.parametrize("kind", ["flat", "tent"])
    def test_where_windows_overlap_they_are_averaged(self, kind):
        """Two windows 0..3 and 2..5 of one row of 6 pixels: written out at each pixel."""
        x, t = torch.randn(1, 1, 1, 6, generator=seeded(), dtype=F64), torch.tensor([0.5], dtype=F64)
        left, right = (Smooth().eps(x[..., s : s + 4], t)[0, 0, 0] for s in (0, 2))
        p = {"flat": [1, 1, 1, 1], "tent": [0.4, 0.8, 0.8, 0.4]}[kind]
        mixed = [(p[q] * left[q] + p[q - 2] * right[q - 2]) / (p[q] + p[q - 2]) for q in (2, 3)]
        expected = torch.stack([left[0], left[1], *mixed, right[2], right[3]])
        found = Windowed(Smooth(), Layout((1, 6), (1, 4), (1, 2), profile=kind)).eps(x, t)[0, 0, 0]
        assert (found - expected).abs().max() < SHARE

    def test_a_mixture_of_small_images_paints_large_ones(self):
        """Priors that know only their own size: a mixture of 4 x 4 images on a canvas of 8 x 12."""
        means = torch.randn(3, 16, generator=seeded(), dtype=F64)
        mixture = GaussianMixture(means, torch.full((3,), 0.3, dtype=F64), schedule=VP())

        class Small(Prior):
            schedule = VP()

            def eps(self, x_t, t, cond=None):
                return mixture.eps(x_t.flatten(1), t).reshape_as(x_t)

        x, t = canvases(2, 1)
        found = Windowed(Small(), Layout((8, 12), (4, 4), (4, 4))).eps(x, t)
        crop = mixture.eps(x[:, 0, 4:, 8:].flatten(1), t).reshape(2, 4, 4)
        assert (found[:, 0, 4:, 8:] - crop).abs().max() < SHARE

    def test_regions_have_their_own_condition_in_each_frame(self):
        x, t = canvases()
        maps = torch.rand(2, 8, 12, generator=seeded(3)) + 0.1
        words = torch.randn(6, 1, generator=seeded(4), dtype=F64)  # frames x regions, frame by frame
        layout = Layout((8, 12), (4, 5), (3, 4), profile="tent")
        counted = Counted(Whole())
        found = Windowed(counted, layout, maps=maps).eps(x, t, {"word": words})
        share = (maps / maps.sum(0)).double()
        for f in range(3):
            rows = [Whole().eps(x[f : f + 1], t[f : f + 1], {"word": words[None, 2 * f + r]}) for r in (0, 1)]
            assert (found[f] - (share[0] * rows[0] + share[1] * rows[1])[0]).abs().max() < 2 * SHARE
        assert (counted.rows, counted.calls) == (3 * 2 * len(layout.boxes()), 1)
        same = Windowed(Whole(), layout, maps=maps).eps(x, t, {"word": words[:2]})  # one row per region, for all frames
        expected = share[0] * Whole().eps(x, t, {"word": words[:1]}) + share[1] * Whole().eps(
            x, t, {"word": words[1:2]}
        )
        assert (same - expected).abs().max() < 2 * SHARE

    def test_windows_without_weight_are_not_asked_for(self):
        x, t = canvases(1, 1)
        maps = torch.zeros(2, 8, 12)
        maps[0, :, :4], maps[1, :, 4:] = 1, 1
        counted = Counted(Whole())
        cond = {"word": torch.tensor([[1.0], [-2.0]], dtype=F64)}
        found = Windowed(counted, Layout((8, 12), (4, 4), (4, 4)), maps=maps).eps(x, t, cond)
        assert counted.rows == 2 + 4  # not 2 x 6
        assert (found[..., :4] - Whole().eps(x, t, {"word": cond["word"][:1]})[..., :4]).abs().max() < SHARE
        assert (found[..., 4:] - Whole().eps(x, t, {"word": cond["word"][1:]})[..., 4:]).abs().max() < SHARE

    def test_guidance_goes_around_it_or_inside(self):
        x, t = canvases()
        cond = {"word": torch.ones(3, 1, dtype=F64)}
        layout, expected = Layout((8, 12), (4, 5), (3, 4)), Guided(Smooth(), 3.0)
        crops = Windowed(expected, layout).eps(x, t, cond)
        counted = Counted(Smooth())
        around = Guided(Windowed(counted, layout), 3.0).eps(x, t, cond)
        assert (around - crops).abs().max() < 10 * SHARE
        assert (counted.rows, counted.calls) == (2 * 3 * len(layout.boxes()), 1)

    def test_an_estimator_on_the_whole_is_a_sweep_of_windows(self):
        """A prediction per window, averaged by the prior or by the canvas, with the same noise: the same update."""
        x = torch.randn(1, 2, 8, 12, generator=seeded(), dtype=F64)
        noise = torch.randn(1, 2, 8, 12, generator=seeded(1), dtype=F64)
        layout, t = Layout((8, 12), (4, 5), (3, 4), profile="tent"), torch.tensor([0.4], dtype=F64)
        alpha, sigma = Smooth.schedule(t)
        expected = Windowed(Smooth(), layout).eps(alpha * x + sigma * noise, t) - noise
        windows = Windows(x, (4, 5), (3, 4), profile="tent", jitter=False)

        class SameNoise(Estimator):
            def __call__(self, prior, batch, t, rng=None):
                n = windows.crops(noise, views)
                return Estimate(prior.eps(alpha * batch.x + sigma * n, t) - n)

        views = windows.views()
        estimate = SameNoise()(Smooth(), Batch(windows(views).detach()), t.expand(len(views)))
        assert (windows.spread(estimate.grad, views) - expected).abs().max() < 4 * SHARE
        assert math.isfinite(float(expected.abs().max()))
        assert float(expected.abs().max()) > 0.1
