"""Parts of edits of images and videos: canvas, detail, regions, groups, exchange along the flow, request."""

import dataclasses
import math
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from scoredistill.media.images import resized
from scoredistill.media.video.reading import is_video
from scoredistill.metrics.edits import psnr
from scoredistill.tasks.image_editing import canvas as canvases
from scoredistill.tasks.image_editing import detail, regions
from scoredistill.tasks.image_editing.canvas import Canvas, work_size
from scoredistill.tasks.image_editing.detail import local_gain, with_detail
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_editing.run import averaging
from scoredistill.tasks.video_editing.flow import FlowExchange
from scoredistill.tasks.video_editing.groups import Group, faded, groups_of
from scoredistill.tasks.video_editing.request import VideoRequest


def photograph(height, width):
    """Smooth colors, a ramp and some texture, [1, 3, height, width]."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    fine = 0.03 * torch.sin(40 * x) * torch.sin(30 * y)
    channels = 0.5 + 0.3 * torch.sin(5 * x + 3 * y), 0.45 + 0.3 * torch.cos(4 * y - 2 * x), 0.3 + 0.4 * x
    return torch.stack([c + fine for c in channels])[None].clamp(0, 1)


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# Canvas


@pytest.mark.parametrize("size", [(37, 91), (16, 16), (5, 7), (1, 1), (2, 40), (33, 1)])
def test_the_canvas_is_padded_to_whole_windows_and_cropped_again(prior, size):
    canvas = Canvas(prior, noise(1, 3, *size))
    height, width = canvas.source.shape[-2:]
    assert height >= 8
    assert width >= 8
    for latents, side in zip((height, width), size, strict=True):
        assert latents == max(8, math.ceil(side / 2))
    made = canvas.decode(canvas.source)
    assert made.shape == (1, 3, *size)
    assert bool(made.isfinite().all())


def test_padding_reflects_and_does_not_stretch():
    ramp = torch.arange(5.0).expand(1, 3, 4, 5) / 10
    padded = canvases._reflected(ramp, 3, 9)
    assert padded.shape == (1, 3, 7, 14)
    assert torch.equal(padded[..., :4, :5], ramp)
    lines = (padded[0, 0, 0] * 10).round().int().tolist()
    assert lines[:9] == [0, 1, 2, 3, 4, 3, 2, 1, 0]
    assert all(abs(a - b) == 1 for a, b in pairwise(lines))
    one = canvases._reflected(torch.full((1, 3, 1, 1), 0.7), 6, 9)
    assert torch.equal(one, torch.full((1, 3, 7, 10), 0.7))


def test_the_crop_is_the_upper_left_part(prior):
    image = noise(1, 3, 21, 30)
    canvas = Canvas(prior, image)
    latents = prior.encode_image(functional.pad(image, (0, 0, 0, 1), mode="reflect"))
    assert torch.allclose(canvas.source, latents, atol=1e-5)
    whole = prior.decode(latents).clamp(0, 1)
    assert torch.allclose(canvas.decode(canvas.source), whole[..., :21, :30], atol=1e-5)


def test_the_bundled_autoencoder_keeps_a_photograph(bundled):
    image = photograph(75, 100)
    canvas = Canvas(bundled, image)
    assert float(psnr(canvas.decode(canvas.source), image)) > 24
    constant = torch.full((1, 3, 10, 7), 0.6)  # padded to a window: still one color
    canvas = Canvas(bundled, constant)
    assert float(psnr(canvas.decode(canvas.source), constant)) > 20


def test_tiles_are_close_to_the_whole(bundled, monkeypatch):
    """The decoded image from tiles of one or two windows is that without tiles, within 32 dB."""
    image = photograph(150, 200)
    whole = Canvas(bundled, image)
    reference = whole.decode(whole.source)
    assert (whole.encoded, whole.decoded) == (2, 1)
    for tile in (1, 2):
        monkeypatch.setattr(canvases, "TILE", tile)
        tiled = Canvas(bundled, image)
        assert tiled.encoded > 2
        made = tiled.decode(tiled.source)
        assert float(psnr(made, reference)) > 32
        assert float(psnr(made, image)) > 24


def test_many_images_are_as_one_by_one(prior, monkeypatch):
    images = noise(5, 3, 19, 23)
    monkeypatch.setattr(canvases, "FRAMES", 2)
    together = Canvas(prior, images)
    for k in range(5):
        alone = Canvas(prior, images[k : k + 1])
        assert torch.allclose(alone.source[0], together.source[k], atol=1e-4)
        assert torch.allclose(alone.decode(alone.source)[0], together.decode(together.source)[k], atol=1e-4)


def test_a_wrapped_canvas_does_not_know_where_it_begins(bundled):
    """Rolled by whole tile strides, the canvas and its decoding are rolled as well."""
    image = photograph(64, 256)
    turned = image.roll(64, 3)  # half a tile of width // 2 pixels
    a, b = Canvas(bundled, image, wrap=True), Canvas(bundled, turned, wrap=True)
    assert torch.allclose(a.source.roll(16, 3), b.source, atol=1e-4)
    assert torch.allclose(a.decode(a.source).roll(64, 3), b.decode(b.source), atol=1e-4)
    plain = Canvas(bundled, image)
    assert not torch.allclose(plain.source, a.source, atol=1e-2)


def test_a_wrapped_canvas_must_hold_a_window_and_divide(prior):
    with pytest.raises(ValueError, match="at least 16 and a multiple of 2"):
        Canvas(prior, noise(1, 3, 16, 14), wrap=True)
    with pytest.raises(ValueError, match="at least 16 and a multiple of 2"):
        Canvas(prior, noise(1, 3, 16, 33), wrap=True)


@given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.integers(0, 500), st.booleans())
def test_working_sizes_keep_proportions(size, shorter, wrap):
    height, width = work_size(size, shorter, 8, wrap)
    share = min(1.0, shorter / min(size)) if shorter else 1.0
    assert height == max(1, round(size[0] * share))
    assert abs(width - size[1] * share) <= (8 if wrap else 1)
    assert not wrap or width % 8 == 0


def test_the_same_size_is_not_resampled_and_reduction_has_no_aliases():
    image = noise(1, 3, 12, 20)
    assert resized(image, (12, 20)) is image
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert (resized(stripes, (16, 16))[..., 2:-2] - 0.5).abs().max() < 0.02


# Detail


@pytest.mark.parametrize(("full", "small"), [((40, 60), (40, 60)), ((83, 121), (20, 30)), ((300, 17), (75, 4))])
def test_no_edit_gives_the_source(full, small):
    source, before = noise(1, 3, *full), noise(1, 3, *small, seed=1)
    assert (with_detail(source, before, before) - source).abs().max() < 1e-5


def test_no_edit_of_a_flat_image_gives_the_source():
    source, flat = noise(1, 3, 40, 50), torch.full((1, 3, 10, 12), 0.4)
    assert (with_detail(source, flat, flat) - source).abs().max() < 1e-4


@pytest.mark.parametrize("strip", [1, 7, 50])
def test_strips_do_not_show(monkeypatch, strip):
    source, before, after = noise(2, 3, 61, 43), noise(2, 3, 16, 11, seed=1), noise(2, 3, 16, 11, seed=2)
    whole = with_detail(source, before, after, 0.7)
    monkeypatch.setattr(detail, "STRIP", strip)
    assert (with_detail(source, before, after, 0.7) - whole).abs().max() < 1e-5


def test_an_affine_edit_is_found_where_there_is_contrast():
    before = noise(1, 3, 30, 40)
    a = torch.tensor([[0.5, 0.2, -0.1], [0.1, -0.6, 0.0], [0.0, 0.3, 0.9]])
    after = torch.einsum("oi,bihw->bohw", a, before) + torch.tensor([0.1, 0.7, -0.05])[:, None, None]
    found = local_gain(before, after)
    assert (found - a[None, :, :, None, None]).abs().max() < 1e-3
    before[..., 25:] = 0.5  # no contrast: the whole image's own A
    after = torch.einsum("oi,bihw->bohw", a, before) + 0.1
    assert (local_gain(before, after) - a[None, :, :, None, None]).abs().max() < 5e-3


def test_the_gain_is_local():
    before = noise(1, 3, 30, 60)
    after = before.clone()
    after[..., 30:] = 1 - before[..., 30:]
    gain = local_gain(before, after)
    eye = torch.eye(3)[None, :, :, None, None]
    far = 2 * detail.RADIUS + 1
    assert (gain[..., : 30 - far] - eye).abs().max() < 0.05
    assert (gain[..., 30 + far :] + eye).abs().max() < 0.05


def test_inverting_inverts_the_detail():
    source = photograph(80, 100)
    fine = source + 0.1 * (noise(1, 3, 80, 100) - 0.5)
    before = resized(source, (40, 50))
    made = with_detail(fine.clamp(0, 1), before, 1 - before)
    assert float(psnr(made, (1 - fine).clamp(0, 1))) > 35


def test_strength_weighs_the_detail_and_0_enlarges_the_edit():
    source, before, after = noise(1, 3, 50, 70), noise(1, 3, 25, 35, seed=1), 0.3 + 0.2 * noise(1, 3, 25, 35, seed=2)
    none, half, all_ = (with_detail(source, before, after, s) for s in (0.0, 0.5, 1.0))
    enlarged = functional.interpolate(after, (50, 70), mode="bilinear", align_corners=False)
    assert (none - enlarged).abs().max() < 1e-5
    inside = (all_ > 0) & (all_ < 1)
    assert bool(inside.any())
    assert (half - (none + all_) / 2)[inside].abs().max() < 1e-5


# Regions


def test_a_span_a_box_and_a_mask_lie_where_they_say(tmp_path):
    size = (20, 40)
    made = regions.make("", ("0.25-0.5: a",), size, 0.0)
    assert made.shown.sum() == 20 * 10
    assert bool((made.shown[:, 10:20] == 1).all())
    made = regions.make("", ("0.25,0.5,0.75,1: b",), size, 0.0)
    assert made.shown.sum() == 20 * 10
    assert bool((made.shown[10:, 10:30] == 1).all())
    mask = np.zeros((20, 40), np.uint8)
    mask[5:, :7] = 255
    Image.fromarray(mask).save(tmp_path / "sky.png")
    made = regions.make("", (f"{tmp_path / 'sky.png'}: c: d",), size, 0.0)
    assert torch.equal(made.shown, torch.from_numpy(mask / 255).float())
    assert made.instructions == ("c: d",)


def test_masks_of_another_size_or_kind_are_brought_to_the_images(tmp_path):
    mask = np.zeros((200, 100), np.uint8)
    mask[:, 50:] = 255
    for name, image in (("l.png", Image.fromarray(mask)), ("rgb.png", Image.fromarray(mask).convert("RGB"))):
        image.save(tmp_path / name)
        shown = regions.make("", (f"{tmp_path / name}: x",), (30, 61), 0.0).shown
        assert shown.shape == (30, 61)
        assert shown.mean() == pytest.approx(0.5, abs=0.02)
        assert shown[:, :28].max() == 0
        assert shown[:, 33:].min() == 1


def test_maps_sum_to_one_wherever_anything_shows():
    made = regions.make("", ("0-0.4: a", "0.3,0.2,0.8,0.7: b"), (50, 80), 0.2)
    inside = made.shown > 1e-5
    assert torch.allclose(made.maps.sum(0)[inside], torch.ones(()))
    assert made.maps.sum(0)[~inside].max() <= 1
    assert made.shown[:, 75:].max() == 0  # exactly: there the source stays
    with_rest = regions.make("rest", ("0-0.4: a", "0.3,0.2,0.8,0.7: b"), (50, 80), 0.2)
    assert with_rest.instructions == ("a", "b", "rest")
    assert torch.allclose(with_rest.maps.sum(0), torch.ones(()))
    assert torch.allclose(with_rest.shown, torch.ones(()))
    assert torch.allclose(with_rest.maps[2], 1 - made.shown, atol=1e-5)


def test_borders_are_as_wide_as_the_feather():
    line = regions.make("", ("0.5-1: a",), (100, 200), 0.2).shown[50]
    assert (line.diff() >= -1e-6).all()
    assert float(line[99] + line[100]) / 2 == pytest.approx(0.5, abs=0.01)
    width = int(((line > 0.02) & (line < 0.98)).sum())
    assert width == pytest.approx(20, abs=2)  # 20 pixels are a fifth of the shorter side


def test_a_span_over_the_seam_needs_wrap_and_closes_there():
    size = (20, 40)
    with pytest.raises(ValueError, match="runs backwards"):
        regions.make("", ("0.75-0.25: a",), size)
    seam = regions.make("", ("0.75-0.25: a",), size, 0.4, wrap=True)
    middle = regions.make("", ("0.25-0.75: a",), size, 0.4, wrap=True)
    assert torch.allclose(seam.shown, middle.shown.roll(20, 1), atol=1e-6)
    assert seam.shown[:, 0].min() > 0.99
    edge = regions.make("", ("0-0.5: a",), size, 0.4, wrap=True).shown[10]
    assert float(edge[0] + edge[-1]) / 2 == pytest.approx(0.5, abs=0.02)  # fades over the seam as well


def test_one_instruction_for_all_is_everywhere():
    assert regions.make("x", (), (5, 6)).everywhere
    assert regions.make("", ("0-1: x",), (5, 6), 0.0).everywhere
    assert not regions.make("", ("0-0.5: x",), (5, 6)).everywhere
    assert not regions.make("x", ("0-0.5: y",), (5, 6)).everywhere


BAD_REGIONS = [
    ("make it night", "cannot read the region"),
    ("0-0.5:", "cannot read the region"),
    ("0-0.5:   ", "cannot read the region"),
    (": make it night", "cannot read the region"),
    ("0-1.5: x", "must be start-end in fractions"),
    ("0.5-0.5: x", "must be start-end in fractions"),
    ("0.5,0,0.2,1: x", "must be left,top,right,bottom"),
    ("0,0,2,1: x", "must be left,top,right,bottom"),
    ("0,0,1: x", "no span"),
    ("nan-0.5: x", "no span"),
    ("nowhere.png: x", "no file"),
]


@pytest.mark.parametrize(("text", "message"), BAD_REGIONS)
def test_bad_regions_are_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as error:
        regions.parse(text)
    assert "\n" not in str(error.value)


def test_regions_without_weight_and_broken_masks_are_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="something white"):
        regions.make("", (f"{tmp_path / 'black.png'}: x",), (8, 8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"broken\.png"):
        regions.make("", (f"{tmp_path / 'broken.png'}: x",), (8, 8))


# Groups


@st.composite
def videos(draw):
    frames = draw(st.integers(1, 120))
    size = draw(st.integers(2, 30))
    overlap = draw(st.integers(0, size - 1))
    cuts = draw(st.lists(st.integers(1, max(1, frames - 1)), unique=True, max_size=5)) if frames > 1 else []
    return frames, size, overlap, sorted(cuts)


@given(videos())
@settings(deadline=None)
def test_groups_cover_every_frame_once_and_stay_within_scenes(video):
    frames, size, overlap, cuts = video
    groups = groups_of(frames, size, overlap, cuts)
    fresh = [k for g in groups for k in range(g.fresh, g.stop)]
    assert fresh == list(range(frames))
    for g in groups:
        assert g.start <= g.fresh < g.stop
        assert g.stop - g.start <= size
        assert not any(g.start < cut < g.stop for cut in cuts)
    for before, after in pairwise(groups):
        shared = before.stop - after.start
        assert shared == (0 if after.start in cuts else overlap)
        assert after.fresh - after.start == shared


def test_a_short_scene_is_one_group():
    assert groups_of(5, 8, 3) == [Group(0, 5, 0)]
    assert groups_of(10, 8, 3, [4]) == [Group(0, 4, 0), Group(4, 10, 4)]
    assert groups_of(12, 8, 3) == [Group(0, 8, 0), Group(5, 12, 8)]


def test_groups_fade_linearly():
    before, after = torch.zeros(3, 2, 1), torch.ones(5, 2, 1)
    assert faded(before, after)[:, 0, 0].tolist() == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert torch.equal(faded(after[:0], after), after)
    same = noise(5, 4)
    assert torch.allclose(faded(same[:3], same), same)


# Exchange along the flow


def still(n=4, height=16, width=24):
    return photograph(height, width).expand(n, 3, height, width)


def test_what_all_frames_have_stays():
    moving = torch.stack([photograph(16, 40)[0, :, :, k : k + 24] for k in (0, 2, 4, 6)])
    exchange = FlowExchange(moving, (8, 12), 2, rounds=3)
    grad = torch.randn(1, 4, 1, 1).expand(4, 4, 8, 12)
    assert torch.allclose(exchange(grad), grad, atol=1e-5)


def test_a_still_video_is_averaged_over_time():
    exchange = FlowExchange(still(), (8, 12), 2)
    g = torch.randn(4, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    ends = (g[0] + g[1] / 2) / 1.5, (g[3] + g[2] / 2) / 1.5
    middle = (g[1] + g[0] / 2 + g[2] / 2) / 2, (g[2] + g[1] / 2 + g[3] / 2) / 2
    expected = torch.stack([ends[0], *middle, ends[1]])
    kept = g.clone()
    assert torch.allclose(exchange(g), expected, atol=1e-4)
    assert torch.equal(g, kept)  # what was given is not changed
    twice = FlowExchange(still(), (8, 12), 2, rounds=2)
    assert torch.allclose(twice(g), exchange(exchange(g)), atol=1e-5)


def test_padding_is_left_out_of_the_exchange():
    exchange = FlowExchange(still(2), (10, 16), 2)  # 8 x 12 latents of image
    g = torch.randn(2, 4, 10, 16)
    made = exchange(g)
    assert torch.equal(made[:, :, 8:], g[:, :, 8:])
    assert torch.equal(made[:, :, :, 12:], g[:, :, :, 12:])
    assert not torch.allclose(made[:, :, :8, :12], g[:, :, :8, :12], atol=1e-2)


def test_gradients_move_with_the_video():
    """The video moves right by two latents (8 pixels) from frame to frame; a spot of gradient goes along."""
    wide = photograph(64, 160)[0] + 0.1 * torch.sin(torch.arange(160) / 4)
    video = torch.stack([wide[:, :, 16:112], wide[:, :, 8:104]]).clamp(0, 1)
    exchange = FlowExchange(video, (16, 24), 4)
    g = torch.zeros(2, 1, 16, 24)
    g[0, 0, 7:10, 9:12] = 1.0
    made = exchange(g)[1, 0]
    columns = (made.sum(0) * torch.arange(24)).sum() / made.sum()
    rows = (made.sum(1) * torch.arange(16)).sum() / made.sum()
    assert float(columns) == pytest.approx(12, abs=0.5)
    assert float(rows) == pytest.approx(8, abs=0.5)
    assert made[8, 12] == pytest.approx(1 / 3, abs=0.05)  # .5 of it, over a weight of 1.5


def test_gradients_may_live_on_a_device():
    """On the meta device, which refuses to mix as a GPU does."""
    exchange = FlowExchange(still(2), (8, 12), 2)
    assert exchange(torch.zeros(2, 4, 8, 12, device="meta")).shape == (2, 4, 8, 12)


# Request and kinds of files


def test_the_recipe_fills_in_what_is_not_given():
    full = EditRequest("make it night").complete()
    recipe = EDIT_RECIPES["csd"]
    assert (full.sweeps, full.stride, full.kernel, full.lr) == (recipe.sweeps, recipe.stride, recipe.kernel, recipe.lr)
    assert EditRequest("x", sweeps=3, stride=0.25).complete().stride == 0.25
    bundled, other = EditRequest("x").complete(), EditRequest("x", prior="somebody/editor").complete()
    assert (bundled.text_scale, bundled.image_scale) == (1.0, 1.0)
    assert (other.text_scale, other.image_scale) == (7.5, 1.5)
    assert full.complete() == full
    assert (full.size, EditRequest("x").complete(128).size) == (4 * 64, 4 * 128)
    for one in (full, VideoRequest("x").complete()):
        assert None not in dataclasses.asdict(one).values()


NAN = float("nan")
BAD_SETTINGS = [
    {"instruction": ""},
    {"instruction": " \n"},
    {"method": "ssd"},
    {"sweeps": 0},
    {"text_scale": -1.0},
    {"text_scale": NAN},
    {"image_scale": -0.5},
    {"image_scale": NAN},
    {"lr": -1.0},
    {"lr": NAN},
    {"particles": -1},
    {"seed": -1},
    {"seed": 2**64},
    {"feather": -0.1},
    {"feather": 1.5},
    {"feather": NAN},
    {"detail": -0.1},
    {"detail": 2.0},
    {"detail": NAN},
    {"stride": 0.0},
    {"stride": 1.5},
    {"stride": NAN},
    {"kernel": 0.0},
    {"kernel": NAN},
    {"size": -1},
    {"scales": (2,)},
    {"scales": ()},
    {"scales": (0, 1)},
]


BAD_VIDEO_SETTINGS = [{"group": 1}, {"overlap": -1}, {"overlap": 24}, {"flow": -1}]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [*((EditRequest, w) for w in BAD_SETTINGS), *((VideoRequest, w) for w in [*BAD_SETTINGS, *BAD_VIDEO_SETTINGS])],
    ids=str,
)
def test_impossible_settings_are_one_sentence(kind, wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=name) as error:
        kind(**{"instruction": "x", **wrong}).complete()
    assert "\n" not in str(error.value)


def test_regions_stand_in_for_the_instruction():
    assert EditRequest("", regions=("0-0.5: x",)).complete().instruction == ""


def test_what_is_a_video_and_what_an_image(tmp_path):
    image = Image.new("RGB", (8, 8))
    for name in ("a.png", "a.jpg", "a.gif", "a.webp", "a.tif"):
        image.save(tmp_path / name)
        assert not is_video(tmp_path / name)
    image.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    assert is_video(tmp_path / "moving.gif")
    assert is_video(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    assert not is_video(tmp_path / "broken.jpg")
    (tmp_path / "video.mp4").write_bytes(b"nothing")
    assert is_video(tmp_path / "video.mp4")
    with pytest.raises(ValueError, match="there is no file"):
        is_video(tmp_path / "none.png")


def test_a_photograph_with_a_second_image_inside_is_an_image(tmp_path):
    first, second = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red")
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    pages = [
        Image.new("RGB", (8, 8), name) for name in ("black", "red")
    ]  # Pillow keeps the settings of an MPO in its images
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    assert [is_video(tmp_path / name) for name in ("phone.jpg", "scan.tif")] == [False, False]


def test_the_last_sweeps_are_averaged():
    """Steps of these lengths towards targets leave the mean of the last half of them."""
    targets, x = [3.0, -1.0, 5.0, 2.0, 9.0, 4.0], 0.0
    for sweep, target in enumerate(targets):
        x -= averaging(sweep, 6, 0.5) * (x - target)
    assert x == pytest.approx(5.0)  # of 2, 9 and 4
    assert [averaging(k, 3, 0.0) for k in range(3)] == [1.0, 1.0, 1.0]
    assert averaging(0, 1, 0.5) == 1.0


def test_overlapping_regions_share_a_pixel():
    """Where two boxes lie the update is half of each; where none lies there is none."""
    made = regions.make("", ("0,0,0.75,1: make it night", "0.25,0,1,0.5: make it red"), (8, 8), feather=0.0)
    assert torch.allclose(made.maps[:, 0, 4], torch.tensor([0.5, 0.5]))
    assert torch.allclose(made.maps[:, 7, 0], torch.tensor([1.0, 0.0]))
    assert torch.equal(made.maps[:, 7, 7], torch.zeros(2))
    assert float(made.shown[0, 4]) == 1.0
    assert float(made.shown[7, 7]) == 0.0


@pytest.mark.parametrize("digits", [10, 100_000])
@pytest.mark.parametrize(
    "form", ["{n}", "{n}-", "{n},{n},{n},{n}x", ".{n},.{n},.{n},.{n}.", "0-{n}x", "{n}.{n},{n},1,1"]
)
def test_long_numbers_are_refused_at_once(form, digits):
    """The patterns of places have one reading of a number each: two would make the time a power of its digits."""
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"is no span|must be") as caught:
        regions.parse(form.format(n="1" * digits) + ": x")
    assert time.perf_counter() - start < 1
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("number", ["0.5", ".5", "00.50", " 0.5 "])
def test_numbers_of_places(number):
    assert regions.parse(f"0-{number}: x") == (f"0-{number}".strip(), "x")
    assert regions.parse(f"0,{number},1,1: x")[1] == "x"


@pytest.mark.parametrize("size", [(1, 3, 16, 16), (3, 3, 16, 400)])
def test_an_editor_whose_sources_are_no_latents_is_refused_in_one_sentence(bundled, monkeypatch, size):
    monkeypatch.setattr(bundled, "encode_source", lambda images: {"image": torch.arange(len(images))})
    with pytest.raises(ValueError, match="conditioned on the latents of the source"):
        Canvas(bundled, torch.rand(size))
