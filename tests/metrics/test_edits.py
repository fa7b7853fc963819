"""Metrics of edits, against closed forms and required orderings."""

import math

import pytest
import torch

from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.media.images import blurred
from scoredistill.metrics import Clip, bundled_clip, edits


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def image(height=64, width=64, count=1, seed=0):
    """Soft noise of two sizes, in [.1, .9]."""
    x = noise(count, 3, height, width, seed=seed)
    soft = blurred(x, 1.5) + 3 * blurred(x, 7.0)
    low, high = soft.amin((1, 2, 3), keepdim=True), soft.amax((1, 2, 3), keepdim=True)
    return 0.1 + 0.8 * (soft - low) / (high - low)


def ramp(width=12, height=8, slope=0.02):
    """Brighter by `slope` from column to column."""
    return (slope * torch.arange(width)).expand(1, 3, height, width).clone()


def test_psnr_of_a_known_error():
    truth = image(count=3)
    off = truth + torch.tensor([0.1, 0.01, 0.0])[:, None, None, None]
    torch.testing.assert_close(edits.psnr(off, truth)[:2], torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)
    assert edits.psnr(off, truth)[2] == math.inf


def test_the_direction_of_an_edit_is_that_of_its_text():
    class Plane(Clip):
        """Images and texts as points of a plane: red and green, and two numbers."""

        def __init__(self):
            pass

        def image_features(self, images):
            return images.mean((2, 3))[:, :2]

        def text_features(self, texts):
            return torch.tensor([[float(v) for v in text.split()] for text in texts])

    color = lambda r, g: torch.tensor([r, g, 0.0])[:, None, None].expand(3, 4, 8)
    before = torch.stack([color(0.5, 0.5)] * 4)
    after = torch.stack([color(0.7, 0.5), color(0.5, 0.1), color(0.6, 0.6), color(0.500002, 0.5)])
    expected = torch.tensor([1.0, 0.0, math.sqrt(0.5), 0.0])  # the last changed by rounding only
    torch.testing.assert_close(edits.directional_similarity(before, after, "0 0", "2 0", Plane()), expected)
    turned = edits.directional_similarity(before, after, "0 0", ["0 -1", "0 -1", "-1 -1", "1 0"], Plane())
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, -1.0, 0.0]))
    half = torch.cat([after[..., :4], before[..., 4:]], dim=-1)  # one of two crops is edited
    torch.testing.assert_close(edits.directional_similarity(half, before, "2 0", "0 0", Plane(), side=4), expected / 2)


def test_the_bundled_clip_knows_the_direction_of_an_edit():
    before = image(count=4, seed=3)
    night = EDITS["night"](before)
    right = edits.directional_similarity(before, night, "a photo", "a photo, at night")
    wrong = edits.directional_similarity(before, night, "a photo, at night", "a photo")
    torch.testing.assert_close(right, -wrong)
    assert right.mean() > 0.2
    assert (right.abs() <= 1).all()
    assert edits.directional_similarity(before, before, "a photo", "a photo, at night").tolist() == [0.0] * 4


def test_similarity_to_the_source_is_a_cosine():
    before = image(64, 128, count=2)
    after = 1 - before
    features = bundled_clip().image_features
    torch.testing.assert_close(edits.source_similarity(before, before), torch.ones(2))
    whole = edits.source_similarity(before, after)
    torch.testing.assert_close(whole, (features(before) * features(after)).sum(-1))
    assert (whole < 0.99).all()
    parts = [edits.source_similarity(before[..., x : x + 64], after[..., x : x + 64]) for x in (0, 64)]
    torch.testing.assert_close(edits.source_similarity(before, after, side=64), sum(parts) / 2)


def test_consistency_is_that_of_neighbors():
    a, b = image(), 1 - image(seed=1)
    cosine = edits.source_similarity(a, b).item()
    assert edits.neighbor_consistency(torch.cat([a, a, b, b])) == pytest.approx((2 + cosine) / 3, abs=1e-5)
    assert edits.neighbor_consistency(torch.cat([a, b, a, b])) == pytest.approx(cosine, abs=1e-5)
    with pytest.raises(ValueError, match="1 image has no neighbor"):
        edits.neighbor_consistency(a)


def test_perceptual_distance_grows_with_noise_blur_and_shift():
    clean = image(count=2) + 0.1 * (noise(2, 3, 64, 64, seed=5) - 0.5)
    bad = noise(2, 3, 64, 64, seed=9) - 0.5
    families = {
        "noise": [(clean + s * bad).clamp(0, 1) for s in (0.05, 0.1, 0.2, 0.4)],
        "blur": [blurred(clean, s) for s in (0.5, 1.0, 2.0, 4.0)],
        "shift": [clean.roll(s, 3) for s in (1, 2, 4)],
    }
    for name, worse in families.items():
        distances = torch.stack([edits.perceptual_distance(clean, x) for x in worse])
        assert (distances[0] > 0).all(), name
        assert (distances.diff(dim=0) > 0).all(), name
    assert edits.perceptual_distance(clean, clean).abs().max() < 1e-6
    torch.testing.assert_close(edits.perceptual_distance(clean, clean.roll(4, 3)), distances[-1])


def test_perceptual_distance_is_the_mean_square_of_unit_tokens():
    a, b = image(64, 128), image(64, 128, seed=1)
    u, v = edits.perceptual_features(a), edits.perceptual_features(b)
    assert u.shape == (3, 1, 64, 192)
    torch.testing.assert_close(u.norm(dim=-1), torch.ones(3, 1, 64))
    torch.testing.assert_close(
        edits.perceptual_distance(a, b), (2 - 2 * (u * v).sum(-1)).mean()[None], atol=1e-5, rtol=0
    )
    halves = [edits.perceptual_distance(a[..., x : x + 64], b[..., x : x + 64]) for x in (0, 64)]
    torch.testing.assert_close(edits.perceptual_distance(a, b, side=64), sum(halves) / 2)


def test_the_seam_of_a_step_on_a_ramp_is_its_height():
    plain = ramp()
    stepped = plain.clone()
    stepped[..., 5:] += 0.08  # a jump of .02 + .08 against .02 elsewhere
    assert edits.seam(stepped, columns=[5]).item() == pytest.approx(5.0, rel=1e-4)
    assert edits.seam(stepped, columns=[4]).item() == pytest.approx(0.02 / (0.28 / 10), rel=1e-4)
    assert edits.seam(plain, columns=[3, 7]).item() == pytest.approx(1.0, rel=1e-4)
    assert edits.seam(stepped.mT, rows=[5]).item() == pytest.approx(5.0, rel=1e-4)
    assert edits.seam(stepped, columns=[3, 5]).item() == pytest.approx((1 + 5) / 2, rel=1e-4)
    assert edits.seam(stepped, columns=[5], rows=[4]).item() == pytest.approx((5 + 1) / 2, rel=1e-4)  # rows are flat: 1


def test_a_seam_of_the_source_does_not_count():
    source, edited = ramp(), ramp()
    source[..., 5:] += 0.08
    edited[..., 5:] += 0.18
    assert edits.seam(source, columns=[5], source=source).item() == pytest.approx(1.0)
    assert edits.seam(edited, columns=[5], source=source).item() == pytest.approx(10 / 5, rel=1e-4)
    pair = torch.cat([source, edited])
    torch.testing.assert_close(edits.seam(pair, columns=[5]), torch.tensor([5.0, 10.0]))


def test_flat_images_have_no_seam_and_a_lone_step_has_an_infinite_one():
    flat = torch.full((1, 3, 6, 6), 0.5)
    step = flat.clone()
    step[..., 3:] = 0.7
    assert edits.seam(flat, columns=[3]).item() == 1.0
    assert edits.seam(step, columns=[3]).item() == math.inf


def test_the_seam_of_a_panorama_is_where_it_closes():
    closed = (0.5 + 0.4 * torch.sin(2 * math.pi * torch.arange(64) / 64)).expand(1, 3, 8, 64)
    # at the closing the sine is steepest: pi / 2 over the mean of |cos|
    assert edits.wrap_seam(closed).item() == pytest.approx(math.pi / 2, rel=0.02)
    assert edits.wrap_seam(closed.roll(16, 3)).item() < 0.1
    assert edits.wrap_seam(closed, source=closed).item() == pytest.approx(1.0)
    assert edits.wrap_seam(ramp(12)).item() == pytest.approx(11.0, rel=1e-4)


def test_crops_lie_evenly_and_do_not_overlap():
    place = torch.arange(7 * 11.0).view(1, 1, 7, 11).expand(1, 3, 7, 11)
    crops = edits.square_crops(place, 3)
    assert crops.shape == (1, 6, 3, 3, 3)
    assert crops[0, :, 0, 0, 0].tolist() == [11 * y + x for y in (0, 4) for x in (0, 4, 8)]
    assert len(set(crops[0, :, 0].flatten().tolist())) == 6 * 9
    assert edits.square_crops(place, 7)[0, 0, 0, 0].tolist() == [2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(ValueError, match="crops of 8 pixels do not fit into images of 7 x 11"):
        edits.square_crops(place, 8)


def test_the_distance_of_styles_has_the_units_of_color():
    crop = image(24, 24)
    style = edits.style_of(crop)[0]
    brighter, flatter = edits.style_of(crop + 0.07)[0], edits.style_of(0.6 * crop)[0]
    assert (brighter - style).norm().item() == pytest.approx(0.07 * 3**0.5, rel=1e-4)
    assert (flatter - style).norm().item() == pytest.approx(0.4 * style.norm().item(), rel=1e-4)
    torch.testing.assert_close(style[:3], crop[..., :-1, :-1].mean((0, 2, 3)))
    spread = crop[..., :-1, :-1].var((2, 3), correction=0).sum()
    root = style[9:].view(9, 9)
    torch.testing.assert_close((root @ root).diagonal()[:3].sum(), spread)


def test_style_sees_texture_and_correlation_where_mean_and_spread_are_equal():
    shade = noise(1, 1, 32, 32) - 0.5
    gray, opposed = 0.5 + shade.expand(1, 3, 32, 32), 0.5 + shade * torch.tensor([1, -1, 1])[:, None, None]
    assert (edits.style_of(gray) - edits.style_of(opposed)).norm() > 0.2
    fine, coarse = gray, 0.5 + blurred(shade, 2.0).expand(1, 3, 32, 32)
    coarse = 0.5 + (coarse - coarse.mean()) * fine.std() / coarse.std()
    assert (edits.style_of(fine) - edits.style_of(coarse)).norm() > 0.2


def test_intra_style_distance_sees_crops_that_are_tinted_differently():
    tile = image(16, 16)
    uniform = tile.repeat(1, 1, 2, 4)
    tints = torch.zeros(1, 3, 32, 64)
    tints[:, 0, :, 32:] = 0.09
    half = uniform + tints  # 4 x 4 of the 28 pairs of crops differ, by .09
    assert edits.intra_style_distance(uniform, 16).item() == pytest.approx(0.0, abs=1e-6)
    assert edits.intra_style_distance(half, 16).item() == pytest.approx(0.09 * 16 / 28, rel=1e-3)
    photo = image(32, 64, seed=4)
    own = edits.intra_style_distance(photo, 16)
    assert own > 0.02
    excess = edits.intra_style_distance(photo + 3 * tints, 16, source=photo)
    torch.testing.assert_close(excess, edits.intra_style_distance(photo + 3 * tints, 16) - own)
    assert excess > 0.02
    assert edits.intra_style_distance(photo, 16, source=photo).item() == 0.0


def clip_of(shift, frames=4, size=(48, 56)):
    """A video of a texture that moves right by `shift` pixels a frame."""
    wide = image(size[0], size[1] + shift * frames, seed=6)[0]
    starts = [shift * (frames - 1 - k) for k in range(frames)]
    return torch.stack([wide[:, :, x : x + size[1]] for x in starts])


def true_flows(video, shift):
    flow = torch.zeros(2, *video.shape[2:])
    flow[0] = shift
    seen = torch.ones(video.shape[2:], dtype=torch.bool)
    seen[:, video.shape[3] - shift :] = False
    return [(flow, seen)] * (len(video) - 1)


def test_the_warp_error_of_a_still_video_is_its_flicker():
    pytest.importorskip("skimage")
    still = image(32, 40).expand(4, -1, -1, -1)
    offsets = torch.tensor([0.0, 0.03, -0.01, 0.05])[:, None, None, None]
    assert edits.warp_error(still, still) == pytest.approx(0.0, abs=1e-4)
    assert edits.warp_error(still + offsets, still) == pytest.approx((0.03 + 0.04 + 0.06) / 3, abs=1e-4)


def test_the_warp_error_of_a_moved_video_is_none():
    video = clip_of(3)
    flows = true_flows(video, 3)
    assert edits.warp_error(video, video, flows) == pytest.approx(0.0, abs=1e-5)
    assert edits.warp_error(video[[0, 0, 0, 0]], video, flows) > 0.02  # an edit that stands still under a moving source
    flicker = video + torch.tensor([0.0, 0.1, 0.0, 0.1])[:, None, None, None]
    assert edits.warp_error(flicker, video, flows) == pytest.approx(0.1, abs=1e-5)


def test_flows_of_the_source_are_found_and_shared():
    pytest.importorskip("skimage")
    video = clip_of(3)
    flows = edits.source_flows(video)
    assert len(flows) == 3
    for flow, seen in flows:
        assert seen[:, :44].float().mean() > 0.9
        assert not seen[:, -1].any()
        assert (flow[0, 8:-8, 8:-12] - 3).abs().mean() < 0.1
    assert edits.warp_error(video, video, flows) == edits.warp_error(video, video) < 0.01


def test_pairs_across_a_cut_are_skipped():
    pytest.importorskip("skimage")
    first, second = image(32, 40).expand(2, -1, -1, -1), image(32, 40, seed=1).expand(2, -1, -1, -1)
    video = torch.cat([first, second])
    edited = video + torch.tensor([0.0, 0.02, 0.5, 0.56])[:, None, None, None]
    flows = edits.source_flows(video, cuts=[2])
    assert not flows[1][1].any()
    assert edits.warp_error(edited, video, flows) == pytest.approx((0.02 + 0.06) / 2, abs=1e-4)
    assert edits.warp_error(edited, video, cuts=[2]) == pytest.approx((0.02 + 0.06) / 2, abs=1e-4)
    everywhere = [(torch.zeros(2, 32, 40), torch.ones(32, 40, dtype=torch.bool))] * 3
    assert edits.warp_error(edited, video, everywhere) > 0.1
    assert edits.warp_error(edited, video, everywhere, cuts=[2]) == pytest.approx(0.04, abs=1e-4)
    with pytest.raises(ValueError, match="nothing to compare"):
        edits.warp_error(edited, video, cuts=[1, 2, 3])


@pytest.mark.parametrize(
    "number",
    [
        edits.psnr,
        lambda a, b: edits.directional_similarity(a, b, "a cat", "a dog"),
        edits.source_similarity,
        edits.perceptual_distance,
        lambda a, b: edits.seam(a, [3], source=b),
        edits.wrap_seam,
        lambda a, b: edits.intra_style_distance(a, 16, b),
        edits.warp_error,
    ],
)
def test_images_that_do_not_fit_are_refused(number):
    images = image(count=2)
    with pytest.raises(ValueError, match="expected images of one shape"):
        number(images, images[:, :, :32])
    broken = images.clone()
    broken[1, 0, 3, 4] = torch.nan
    for pair in ((images, broken), (broken, images)):
        with pytest.raises(ValueError, match="not finite"):
            number(*pair)


def test_undefined_metrics_are_refused():
    images = image(16, 16)
    with pytest.raises(ValueError, match="no border is given"):
        edits.seam(images)
    with pytest.raises(ValueError, match=r"borders \[0\] of 16 lines: borders must lie from 1 to 15"):
        edits.seam(images, columns=[0])
    with pytest.raises(ValueError, match="every line is a border"):
        edits.seam(images, columns=range(1, 16))
    with pytest.raises(ValueError, match="only one crop of 16 pixels fits"):
        edits.intra_style_distance(images, 16)
    with pytest.raises(ValueError, match="the same CLIP features"):
        edits.directional_similarity(images, images, "a cat", "a cat")
    with pytest.raises(ValueError, match="1 and 2 texts for 1 images"):
        edits.directional_similarity(images, images, "a cat", ["a cat", "a dog"])
    with pytest.raises(ValueError, match="1 flows for 3 frames"):
        edits.warp_error(
            images.expand(3, -1, -1, -1), images.expand(3, -1, -1, -1), true_flows(images.expand(2, -1, -1, -1), 1)
        )
