"""Editing of images: sizes, regions, panoramas, methods, output directory, command, and every wrong input.

Most tests use a random editor with 8x8 latents and 16x16 images; tests of what an edit looks like use the bundled one
at small sizes.
"""

import importlib
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill import Recipe, cli, load_prior
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.estimators import MSD
from scoredistill.media.images import to_tensor
from scoredistill.media.provenance import read_chunk
from scoredistill.metrics.edits import psnr, wrap_seam
from scoredistill.priors import GaussianMixture
from scoredistill.tasks import edit_image
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.image_editing.run import canvas_of

METHODS = list(EDIT_RECIPES)
edit_image_module = importlib.import_module("scoredistill.tasks.image_editing.edit_image")
SAMPLED = [name for name, recipe in EDIT_RECIPES.items() if recipe.estimator is None]


def photo(height, width, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def panorama(height, width):
    """An image whose right border goes on at the left one."""
    y, x = np.mgrid[:height, :width]
    a, y = 2 * np.pi * x / width, y / height
    fine = 0.08 * np.sin(23 * a) * np.sin(25 * y)
    red = 0.5 + 0.25 * np.sin(3 * a) + 0.2 * np.cos(5 * a + 4 * y)
    channels = np.stack([red, 0.45 + 0.3 * np.cos(2 * a) + 0.2 * y, 0.6 - 0.4 * y + 0.1 * np.sin(7 * a)], -1)
    return Image.fromarray(((channels + fine[..., None]).clip(0, 1) * 255).round().astype(np.uint8))


def pixels(image):
    return np.asarray(image).astype(int)


def small(image, prior, method="csd", instruction="make it night", **settings):
    return edit_image(image, instruction, prior, method, **{"size": 16, "sweeps": 2, **settings})


# Sizes and kinds of images


@pytest.mark.parametrize(("height", "width"), [(37, 91), (16, 16), (5, 7), (1, 1), (640, 33), (3, 200)])
def test_images_of_any_size_come_back_in_their_size(prior, height, width):
    result = small(photo(height, width), prior, sweeps=1)
    assert result.image.size == (width, height)
    assert result.image.mode == "RGB"
    assert bool(result.latents.isfinite().all())
    assert bool(result.work.isfinite().all())
    assert result.update > 0
    assert min(result.work.shape[2:]) == min(height, width, 16)
    shown, long = sorted(result.work.shape[2:]), max(height, width)
    assert shown[1] == round(long * min(1, 16 / min(height, width)))  # not stretched


def test_one_color_stays_one_color(bundled):
    """Padded by its own color and never stretched, a small flat image becomes a nearly flat, darker one."""
    result = edit_image(Image.new("RGB", (9, 5), (200, 180, 90)), "make it night", bundled, sweeps=2)
    made = pixels(result.image)
    assert made.shape == (5, 9, 3)
    assert made.mean() < 120
    assert made.std((0, 1)).max() < 25


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_transparency_is_kept(prior, tmp_path, suffix):
    """Alpha comes back as it was; outside of a region so do the colors, without white at soft edges."""
    layer = photo(24, 40).convert("RGBA")
    soft = (np.mgrid[:24, :40][1] * 8 - 30).clip(0, 255)
    alpha = (255 * (soft > 100) if suffix == "gif" else soft).astype(np.uint8)
    layer.putalpha(Image.fromarray(alpha))
    layer.save(tmp_path / f"a.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    made = small(tmp_path / f"a.{suffix}", prior, sweeps=1, out=tmp_path / "out")
    assert (made.image.mode, made.source.mode, made.image.size) == ("RGBA", "RGBA", (40, 24))
    assert (pixels(made.image.getchannel("A")) == alpha).all()
    assert (np.asarray(Image.open(tmp_path / "out" / "edited.png")) == np.asarray(made.image)).all()
    part = small(
        tmp_path / f"a.{suffix}", prior, instruction="", regions=("0-0.1: make it night",), feather=0.0, sweeps=1
    )
    assert (pixels(part.image)[:, 8:] == pixels(made.source)[:, 8:]).all()
    assert (pixels(made.source)[alpha == 0][:, :3] == 255).all()
    if suffix != "gif":
        assert (pixels(made.source)[alpha > 0] == pixels(layer)[alpha > 0]).all()


def test_an_edit_applies_to_the_colors_without_the_white(bundled):
    """Half-transparent blue and the same blue, opaque, are edited alike: white does not show through the first."""
    layer = Image.new("RGBA", (64, 64), (60, 90, 200, 255))
    layer.paste((60, 90, 200, 160), (32, 0, 64, 64))
    made = pixels(edit_image(layer, "make it night", bundled, sweeps=2).image)
    assert set(np.unique(made[..., 3])) == {160, 255}
    assert np.abs(made[:, 4:28, :3].mean((0, 1)) - made[:, 36:60, :3].mean((0, 1))).max() < 5


def test_an_opaque_image_with_alpha_stays_rgb(prior):
    assert small(photo(16, 16).convert("RGBA"), prior, sweeps=1).image.mode == "RGB"


def kinds(directory):
    """Files of many kinds that all show red left and blue right, 24 wide and 16 high; gray ones dark and bright."""
    color = Image.new("RGB", (24, 16), (0, 0, 255))
    color.paste((255, 0, 0), (0, 0, 12, 16))
    gray = color.convert("L").point(lambda v: 255 if v < 50 else 60)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by a quarter clockwise
    saved = {
        "l.png": (gray, {}),
        "i16.png": (deep, {}),
        "rgba.png": (color.convert("RGBA"), {}),
        "cmyk.jpg": (color.convert("CMYK"), {"quality": 95}),
        "palette.png": (color.quantize(4), {}),
        "exif.jpg": (color.transpose(Image.Transpose.ROTATE_90), {"exif": turned, "quality": 95}),
    }
    for name, (image, options) in saved.items():
        image.save(directory / name, **options)
    return list(saved)


def test_files_of_every_kind_are_edited_upright(prior, tmp_path):
    names = kinds(tmp_path)
    assert Image.open(tmp_path / "i16.png").mode == "I;16"
    assert Image.open(tmp_path / "cmyk.jpg").mode == "CMYK"
    assert Image.open(tmp_path / "exif.jpg").size == (16, 24)
    for name in names:
        result = small(tmp_path / name, prior, sweeps=1)
        assert (name, result.image.mode, result.image.size) == (name, "RGB", (24, 16))
        source = pixels(result.source)
        if name in ("l.png", "i16.png"):
            assert abs(source[:, :12] - 60).max() <= 1
            assert source[:, 12:].min() == 255
        else:
            assert source[:, :10, 0].min() > 180
            assert source[:, 14:, 2].min() > 180
            assert source[:, 14:, 0].max() < 90


def test_transparency_is_edited_over_white(prior):
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert pixels(small(image, prior, sweeps=1).source.convert("RGB")).min() == 255


# Methods and cost


@pytest.mark.parametrize("method", METHODS)
def test_every_method_edits_and_costs_what_its_recipe_says(prior, method):
    """One window: rows of the recipe per step in one call; without guidance one per prediction."""
    guided = small(photo(16, 16), prior, method, text_scale=7.5, image_scale=1.5)
    assert guided.image.size == (16, 16)
    assert guided.counts["rows"] == 2 * EDIT_RECIPES[method].rows
    assert guided.counts["calls"] == 2
    assert guided.update > 0
    plain = small(photo(16, 16), prior, method, text_scale=1.0, image_scale=1.0)
    assert plain.counts["rows"] == 2 * (2 if EDIT_RECIPES[method].rows == 5 else 1)
    assert plain.counts["calls"] == 2
    assert len(guided.history) == (0 if method in SAMPLED else 2)
    assert all(row["grad_norm"] > 0 for row in guided.history)


@pytest.mark.parametrize("method", ["csd", "windows", "crops"])
def test_more_windows_are_more_rows_in_the_same_calls(prior, method):
    result = small(photo(16, 64), prior, method, text_scale=7.5, image_scale=1.5)
    assert result.counts["calls"] == 2
    windows = result.counts["rows"] / (2 * EDIT_RECIPES[method].rows)
    assert windows == {"csd": 8, "windows": 7, "crops": 4}[method]  # a grid that is moved has one more


def test_fewer_windows_at_once_are_more_calls(prior):
    result = small(photo(16, 64), prior, "csd", particles=3, text_scale=7.5, image_scale=1.5)
    assert result.counts == {**result.counts, "rows": 2 * 8 * 5, "calls": 2 * 3}


@pytest.mark.parametrize("method", ["csd", "windows"])
def test_rows_of_a_call_do_not_change_the_edit(model, monkeypatch, method):
    """In double precision: in single precision, processors sum batches of other sizes in other orders."""
    prior, image = load_prior(model, dtype=torch.float64), photo(20, 40)
    made = {}
    for rows in (None, 3, 7):
        monkeypatch.setattr(prior, "max_rows", 10**6 if rows is None else rows)
        made[rows] = small(image, prior, method)
    for rows in (3, 7):
        assert (made[rows].latents - made[None].latents).abs().max() < 1e-6
        assert made[rows].counts == made[None].counts  # which count what is asked for


def test_sweeps_go_from_the_first_time_to_the_last(prior):
    first, last = EDIT_RECIPES["csd"].times
    rows = small(photo(16, 64), prior, "csd", sweeps=3, particles=4).history
    middle = (first + last) / 2
    assert [row["t"] for row in rows] == pytest.approx([first, first, middle, middle, last, last])
    times = [row["t"] for row in small(photo(16, 16), prior, "csd_paper", sweeps=6).history]
    low, high = EDIT_RECIPES["csd_paper"].times
    assert low <= min(times) < max(times) <= high
    assert times != sorted(times)


def test_the_number_of_rows_at_once_is_bounded(model):
    prior = load_prior(model)
    assert prior.max_rows is None
    seen = []
    hook = prior.pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    small(photo(40, 80), prior, size=32, sweeps=1)
    hook.remove()
    assert max(seen) <= 64 < sum(seen)


def test_the_seed_decides(prior):
    image = photo(20, 30)
    for method in ("csd", "windows"):
        first, again, other = (small(image, prior, method, seed=seed).image.tobytes() for seed in (1, 1, 2))
        assert first == again != other


def test_larger_windows_cost_more_rows_and_change_the_edit(prior):
    image = photo(40, 40)
    one, two = (small(image, prior, size=32, scales=scales) for scales in ((1,), (1, 2)))
    assert two.counts["rows"] > one.counts["rows"]
    assert not torch.equal(one.latents, two.latents)


def test_nothing_is_changed_without_step_length(prior):
    """lr 0 moves nothing: with the source's detail the result is the source itself."""
    image = photo(37, 53)
    result = small(image, prior, lr=0.0)
    assert result.update == 0
    assert abs(pixels(result.image) - pixels(image)).max() <= 1


def test_an_affine_edit_shows_the_sources_detail(bundled):
    """Edited at 64 pixels, an image of 256 keeps what is finer than the working size."""
    smooth = photo(256, 256, seed=3).resize((24, 24)).resize((256, 256), Image.Resampling.BICUBIC)
    fine = pixels(smooth).clip(40, 215) + 40 * (np.indices((256, 256)).sum(0) // 2 % 2)[..., None] - 20
    image = Image.fromarray(fine.astype(np.uint8))
    made = {
        d: pixels(edit_image(image, "make it night", bundled, size=64, sweeps=2, detail=d).image) for d in (0.0, 1.0)
    }
    checks = lambda p: (p * np.where(np.indices((256, 256)).sum(0) // 2 % 2, 1, -1)[..., None]).mean()
    assert abs(checks(made[0.0])) < 0.5
    assert 2 < checks(made[1.0]) < 20  # night dims the detail, too, and does not turn it


# Regions


def test_where_no_region_lies_is_the_source(prior):
    image = photo(45, 130)
    result = small(image, prior, instruction="", regions=("0-0.3: make it night",), size=32, feather=0.2)
    before, after = pixels(image), pixels(result.image)
    assert np.array_equal(before[:, 55:], after[:, 55:])
    assert not np.array_equal(before[:, :30], after[:, :30])
    box = small(image, prior, instruction="", regions=("0.5,0.5,0.8,1: make it night",), size=32, feather=0.0)
    after = pixels(box.image)
    inside = np.zeros((45, 130), bool)
    inside[22:, 65:104] = True
    assert np.array_equal(before[~inside], after[~inside])
    assert not np.array_equal(before[inside], after[inside])


@pytest.mark.parametrize("method", ["csd", "windows", "crops"])
def test_only_windows_of_a_region_are_asked(prior, method):
    image = photo(16, 256)
    whole = small(image, prior, method)
    quarter = small(image, prior, method, instruction="", regions=("0-0.25: make it night",), feather=0.0)
    assert quarter.counts["calls"] == whole.counts["calls"]
    assert 0.2 * whole.counts["rows"] <= quarter.counts["rows"] <= 0.4 * whole.counts["rows"]
    soft = small(image, prior, method, instruction="", regions=("0-0.25: make it night",), feather=1.0)
    assert quarter.counts["rows"] <= soft.counts["rows"] <= 0.5 * whole.counts["rows"]
    full = small(image, prior, method, instruction="", regions=("0-1: make it night",), feather=0.0)
    assert full.counts["rows"] == whole.counts["rows"]
    assert full.image.tobytes() == whole.image.tobytes()


def test_a_region_of_everything_is_an_instruction_for_everything(prior):
    image = photo(33, 70)
    whole = small(image, prior)
    full = small(image, prior, instruction="", regions=("0-1: make it night",))
    assert full.image.tobytes() == whole.image.tobytes()


def test_a_mask_from_a_file_of_another_size(prior, tmp_path):
    mask = np.zeros((30, 60), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    image = photo(24, 90)
    result = small(image, prior, instruction="", regions=(f"{tmp_path / 'mask.png'}: make it night",), feather=0.0)
    before, after = pixels(image), pixels(result.image)
    assert np.array_equal(before[:, :58], after[:, :58])
    assert not np.array_equal(before[:, 62:], after[:, 62:])


def test_two_instructions_each_in_its_place_and_one_for_the_rest(bundled):
    """Left night, right inverted, each as when it is asked for alone; the middle by the instruction for the rest."""
    image = panorama(64, 256)
    settings = {"prior": bundled, "size": 64, "sweeps": 2}
    result = edit_image(
        image, "make it sepia", regions=("0-0.3: make it night", "0.7-1: invert the colors"), feather=0.1, **settings
    )
    alone = {
        k: pixels(edit_image(image, k, **settings).image)
        for k in ("make it night", "invert the colors", "make it sepia")
    }
    made = pixels(result.image)
    for place, text in ((slice(0, 60), "make it night"), (slice(196, 256), "invert the colors")):
        distances = {k: abs(made[:, place] - v[:, place]).mean() for k, v in alone.items()}
        assert min(distances, key=distances.get) == text
        assert distances[text] < 25
    rest = {k: abs(made[:, 100:156] - v[:, 100:156]).mean() for k, v in alone.items()}
    assert min(rest, key=rest.get) == "make it sepia"


def test_a_region_over_the_seam(prior):
    image = panorama(32, 128)
    options = {"instruction": "", "wrap": True, "feather": 0.1, "size": 32}
    result = small(image, prior, regions=("0.9-0.1: make it night",), **options)
    before, after = pixels(image), pixels(result.image)
    assert np.array_equal(before[:, 20:108], after[:, 20:108])
    assert not np.array_equal(before[:, :8], after[:, :8])
    assert not np.array_equal(before[:, -8:], after[:, -8:])


# Panoramas


def seam_of(image):
    return float(wrap_seam(to_tensor(image)))


def test_a_panorama_closes(bundled):
    """Across the seam an edit with wrap jumps as elsewhere, and one without it jumps more."""
    source = panorama(64, 256)
    usual = seam_of(source)
    for method in ("csd", "crops"):
        closed, open_ = (
            edit_image(source, "make it night", bundled, method, size=64, sweeps=3, wrap=wrap) for wrap in (True, False)
        )
        assert seam_of(closed.image) < 1.5 * usual
        assert seam_of(open_.image) > 1.5 * seam_of(closed.image)
        assert float(wrap_seam(open_.work)) > 3 * float(wrap_seam(closed.work))


def test_a_panorama_closes_at_full_size(bundled):
    source = panorama(256, 1024)
    for detail in (0.0, 1.0):
        run = edit_image(source, "make it night", bundled, size=64, sweeps=2, wrap=True, detail=detail)
        assert seam_of(run.image) < 1.5 * seam_of(source)


def test_a_panorama_may_begin_anywhere(prior):
    """Turned by whole tiles, with windows where they were, the edited canvas is turned as well but for its noise.

    lr 0 leaves the noise out: what remains is the way to latents and back.
    """
    source = panorama(32, 128)
    turned = Image.fromarray(np.roll(np.asarray(source), 32, 1))
    one, other = (small(image, prior, size=32, wrap=True, lr=0.0) for image in (source, turned))
    assert torch.allclose(one.work.roll(32, 3), other.work, atol=1e-4)


def test_a_panorama_of_an_odd_width_keeps_its_size(prior):
    result = small(panorama(40, 101), prior, wrap=True)
    assert result.image.size == (101, 40)
    assert result.work.shape[3] % 2 == 0
    with pytest.raises(ValueError, match="a panorama that wraps must be at least 16"):
        small(panorama(40, 9), prior, wrap=True)


# Output directory, resuming


def test_the_output_directory_is_complete(prior, tmp_path):
    result = small(photo(20, 30), prior, sweeps=4, out=tmp_path / "run")
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json", "edited.png", "metrics.jsonl", "preview.png", "report.html", "result.json", "source.png",
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.history
    assert Image.open(tmp_path / "run" / "edited.png").tobytes() == result.image.tobytes()
    report = (tmp_path / "run" / "report.html").read_text()
    assert "make it night" in report
    assert 'class="slider"' in report
    assert 'type="range"' in report
    assert "<svg" in report
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert summary["rows"] == result.counts["rows"]
    assert summary["update"] == pytest.approx(result.update)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["request"]["instruction"] == "make it night"


@pytest.mark.parametrize(
    ("method", "settings"),
    [("csd", {}), ("csd", {"particles": 3}), ("csd_paper", {"stride": 0.5}), ("random_noise", {})],
)
def test_a_killed_run_resumes_to_the_same_image(prior, tmp_path, every_step, killed, method, settings):
    stopped, after = killed
    image, settings = photo(20, 40), {"sweeps": 4, "seed": 3, **settings}
    whole = small(image, prior, method, **settings)
    with pytest.raises(stopped):
        small(image, prior, method, out=tmp_path, callback=after(2), **settings)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    assert (tmp_path / "preview.png").is_file()
    with pytest.raises(ValueError, match="another seed"):
        small(image, prior, method, out=tmp_path, resume=True, **{**settings, "seed": 4})
    with pytest.raises(ValueError, match="another instruction"):
        small(image, prior, method, "make it day", out=tmp_path, resume=True, **settings)
    with pytest.raises(ValueError, match="another image"):
        small(photo(40, 20), prior, method, out=tmp_path, resume=True, **settings)
    seen = []
    resumed = small(
        image, prior, method, out=tmp_path, resume=True, callback=lambda step: seen.append(step.index), **settings
    )
    assert min(seen) == 2
    assert torch.equal(resumed.latents, whole.latents)
    assert resumed.image.tobytes() == whole.image.tobytes()
    assert resumed.history == whole.history
    assert {k: resumed.counts[k] for k in ("rows", "calls")} == {k: whole.counts[k] for k in ("rows", "calls")}
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(whole.history)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    with pytest.raises(ValueError, match="already finished"):
        small(image, prior, method, out=tmp_path, resume=True, **settings)


def test_a_resumed_region_over_the_seam(prior, tmp_path, every_step, killed):
    stopped, after = killed
    options = {"wrap": True, "regions": ("0.8-0.2: make it night", "0.3-0.5: x"), "sweeps": 3, "particles": 2}
    whole = small(panorama(20, 60), prior, instruction="", **options)
    with pytest.raises(stopped):
        small(panorama(20, 60), prior, instruction="", out=tmp_path, callback=after(3), **options)
    resumed = small(panorama(20, 60), prior, instruction="", out=tmp_path, resume=True, **options)
    assert resumed.image.tobytes() == whole.image.tobytes()


def test_resuming_with_another_image_is_refused(prior, tmp_path, every_step, killed):
    stopped, after = killed
    with pytest.raises(stopped):
        small(photo(20, 20), prior, sweeps=3, out=tmp_path, callback=after(1))
    with pytest.raises(ValueError, match="another image"):
        small(photo(20, 20, seed=1), prior, sweeps=3, out=tmp_path, resume=True)


def test_previews_are_no_cost(prior, tmp_path, monkeypatch):
    quiet = small(photo(20, 20), prior, sweeps=3)
    monkeypatch.setattr("scoredistill.tasks.run_directory.CHECKPOINT_SECONDS", -1.0)
    assert small(photo(20, 20), prior, sweeps=3, out=tmp_path).counts == quiet.counts


def test_directories_of_others_are_not_touched(prior, tmp_path):
    (tmp_path / "holiday.jpg").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        small(photo(8, 8), prior, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(ValueError, match="is a file"):
        small(photo(8, 8), prior, out=tmp_path / "holiday.jpg")
    with pytest.raises(ValueError, match="no run to resume"):
        small(photo(8, 8), prior, out=tmp_path / "new", resume=True)


def test_the_directory_of_a_model_is_not_touched(prior, tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["CLIPModel"]}')
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(ValueError, match="holds other files"):
        small(photo(8, 8), prior, out=tmp_path)
    assert "architectures" in (tmp_path / "config.json").read_text()


def test_a_new_run_replaces_the_old_one(prior, tmp_path):
    small(photo(20, 20), prior, sweeps=3, out=tmp_path)
    result = small(photo(12, 20), prior, "windows", out=tmp_path, overwrite=True)
    assert Image.open(tmp_path / "edited.png").size == (20, 12)
    assert Image.open(tmp_path / "source.png").size == (20, 12)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert result.history == []


def test_the_callback_sees_every_step(prior):
    canvases = []
    result = small(photo(20, 20), prior, sweeps=3, callback=lambda step: canvases.append(canvas_of(step).clone()))
    assert len(canvases) == 3
    assert torch.equal(canvases[-1], result.latents)
    assert not torch.equal(canvases[0], canvases[1])


# Wrong input


BAD = [
    ({"instruction": "  "}, "instruction is empty"),
    ({"method": "ssd"}, "unknown method 'ssd': use one of csd, "),
    ({"sweeps": 0}, "sweeps must be a whole number of at least 1"),
    ({"stride": 0.0}, "stride must be above 0"),
    ({"stride": 2.0}, "stride must be above 0 and at most 1"),
    ({"text-scale": -1.0}, "text_scale must be a finite number of at least 0, not -1.0"),
    ({"text-scale": float("nan")}, "text_scale must be a finite number"),
    ({"image-scale": float("nan")}, "image_scale must be a finite number"),
    ({"kernel": 0.0}, "kernel must be positive"),
    ({"lr": -1.0}, "lr must be a finite number of at least 0"),
    ({"particles": -1}, "particles must be a whole number of at least 0"),
    ({"size": -5}, "size must be a whole number"),
    ({"feather": 2.0, "region": "0-0.5: x"}, "detail and feather must be at most 1"),
    ({"detail": -1.0}, "detail must be a finite number of at least 0"),
    ({"seed": -1}, "seed must be a whole number of at least 0"),
    ({"scales": 2}, "scales must be whole numbers"),
    ({"region": "night"}, "cannot read the region 'night'"),
    ({"region": "0-2: x"}, "the span 0-2 must be"),
    ({"region": "gone.png: x"}, "gone.png is no span"),
    ({"prior": "nope"}, "no prior 'nope'"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[str(w) for w, _ in BAD])
def test_bad_input_is_one_sentence_before_any_work(wrong, message, tmp_path, refused, no_model):
    photo(8, 8).save(tmp_path / "a.png")
    options = {"instruction": "make it night", **wrong}
    line = ["edit", tmp_path / "a.png", options.pop("instruction"), "--out", tmp_path / "out"]
    line += [part for name, value in options.items() for part in (f"--{name}", value)]
    assert message in refused(*line)
    assert not (tmp_path / "out").exists()


def test_a_backward_span_is_refused_before_any_work(tmp_path, no_model):
    with pytest.raises(ValueError, match="runs backwards"):
        edit_image(photo(8, 8), "", regions=("0.8-0.2: x",), out=tmp_path / "out")


def test_bad_images_and_paths_are_one_sentence(tmp_path, refused, no_model):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (tmp_path / "empty.jpg").write_bytes(b"")
    photo(8, 8).save(tmp_path / "a.png")
    for line, message in (
        (["none.png", "x"], "there is no file none.png"),
        ([str(tmp_path / "cut.png"), "x"], r"cut\.png cannot be read as an image"),
        ([str(tmp_path / "empty.jpg"), "x"], r"empty\.jpg is an empty file"),
        ([str(tmp_path / "a.png"), "x", "--out", str(tmp_path / "a.png")], "is a file"),
        ([str(tmp_path / "a.png"), "x", "--out", str(tmp_path / "new"), "--resume"], "no run to resume"),
        ([str(tmp_path / "a.png"), "x", "--out", str(tmp_path)], "holds other files"),
        (
            [str(tmp_path / "a.png"), "x", "--prior", str(tmp_path), "--out", str(tmp_path / "n")],
            r"no model_index\.json",
        ),
    ):
        assert re.search(message, refused("edit", *line))
        assert not (tmp_path / "new").exists()


def test_priors_that_edit_nothing_are_refused(tmp_path):
    mixture = GaussianMixture(torch.zeros(1, 2), torch.ones(1))
    for prior in ("emoji", mixture):
        with pytest.raises(ValueError, match="follows no instructions about an image: use an editor"):
            edit_image(photo(8, 8), "make it night", prior, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_nan_stops_with_advice(prior):
    with pytest.raises(FloatingPointError, match="not finite"):
        small(photo(8, 8), prior, text_scale=1e38)
    with pytest.raises(FloatingPointError, match="the edit is not finite"):
        small(photo(8, 8), prior, "windows", text_scale=1e38)


def test_the_command_edits_an_image(model, tmp_path, capsys):
    photo(18, 30).save(tmp_path / "a.png")
    line = ["edit", str(tmp_path / "a.png"), "make it night", "--prior", str(model), "--out", str(tmp_path / "run")]
    cli.main([*line, "--size", "16", "--sweeps", "2", "--region", "0-0.5: x", "0.6,0,1,1: y", "--scales", "1", "2"])
    assert re.search(r"30x18 pixels, \d+ network evaluations \(NFE\)", capsys.readouterr().out)
    assert Image.open(tmp_path / "run" / "edited.png").size == (30, 18)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["request"]["regions"] == ["0-0.5: x", "0.6,0,1,1: y"]


@pytest.mark.parametrize(
    ("options", "flags"), [(["--flow", "2"], "--flow"), (["--use", "3", "--view"], "--view, --use")]
)
def test_options_of_videos_and_scenes_are_refused_for_images(options, flags, tmp_path, refused, no_model):
    photo(8, 8).save(tmp_path / "a.png")
    assert f"an image has no {flags}: leave out" in refused("edit", tmp_path / "a.png", "make it night", *options)


@pytest.mark.parametrize("method", ["csd", "windows"])
def test_the_bundled_editor_makes_it_night(bundled, method):
    """The colors are those of the procedural edit, with a PSNR above 20 dB."""
    image = panorama(64, 96)
    made = to_tensor(edit_image(image, "make it night", bundled, method, size=64, sweeps=4).image)
    truth = EDITS["night"](to_tensor(image))
    assert float(psnr(made, truth)) > 20


def test_a_method_of_ones_own_edits_like_the_others(prior, tmp_path):
    """The estimator of csd under another name, in a file; then with a time schedule of its own."""
    (tmp_path / "mine.py").write_text(MINE)
    like = small(photo(20, 24), prior, "uncoupled", seed=2)
    made = small(photo(20, 24), prior, f"{tmp_path}/mine.py:same", seed=2)
    assert torch.equal(made.latents, like.latents)
    assert made.request.method == "same"
    timed = small(photo(20, 24), prior, f"{tmp_path}/mine.py:timed", sweeps=3)
    assert sorted({row["t"] for row in timed.history}, reverse=True) == pytest.approx([0.8, 0.5, 0.2])
    with pytest.raises(ValueError, match=r"an edit has no bandwidths: give the recipe a time schedule"):
        small(photo(20, 24), prior, Recipe(MSD, bandwidth=(2.0, 1.0)))


MINE = """
from scoredistill import Recipe
from scoredistill.estimators import CSDEdit
from scoredistill.times import Linear

same = lambda: CSDEdit(weight=lambda alpha, sigma: sigma / alpha, coupled=False)
timed = Recipe(same, times=Linear(0.8, 0.2))
"""


def test_a_negative_prompt_takes_the_place_of_no_text(prior, monkeypatch):
    """The model's own "no text" is the empty one, and nothing changes if that is the negative prompt."""
    settings = {"text_scale": 7.5, "image_scale": 1.5, "sweeps": 1}
    for method in ("csd", "windows"):
        plain = small(photo(16, 24), prior, method, **settings).latents
        away = small(photo(16, 24), prior, method, negative_prompt="snow", **settings).latents
        assert not torch.equal(away, plain)
        with monkeypatch.context() as patch:
            patch.setattr(edit_image_module, "negative_of", lambda prior, _: prior.encode_text([""]))
            assert torch.equal(small(photo(16, 24), prior, method, **settings).latents, plain)


def test_a_jpeg_comes_back_as_a_jpeg_and_says_how_it_was_made(prior, tmp_path):
    photo(24, 16).save(tmp_path / "a.jpg", dpi=(300, 300))
    small(tmp_path / "a.jpg", prior, "windows", out=tmp_path / "run")
    with Image.open(tmp_path / "run" / "edited.jpg") as image:
        assert (image.format, image.size, image.info["dpi"]) == ("JPEG", (16, 24), (300, 300))
    made = read_chunk(tmp_path / "run" / "edited.png")
    assert (made["instruction"], made["method"], made["seed"]) == ("make it night", "windows", 0)
    photo(24, 16).save(tmp_path / "a.png")
    small(tmp_path / "a.png", prior, "windows", out=tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "edited.jpg").exists()
