"""Text to vector graphics and editing of them: every method, files, resuming, the commands and every wrong input."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from scoredistill import Recipe, cli, load_prior
from scoredistill.estimators import SDS
from scoredistill.generators import VectorGraphics
from scoredistill.generators.vector.tracing import palette_of, traced
from scoredistill.media.svg import from_svg, read_svg
from scoredistill.tasks import edit_svg, text_to_svg
from scoredistill.tasks.vector_graphics import output, starts
from scoredistill.tasks.vector_graphics.request import METHODS, VECTOR_EDITS

FEW = {"paths": 3, "colors": 2, "candidates": 1}
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="#c22"/>'
    '<rect x="5" y="5" width="5" height="6" fill="#22c"/></svg>'
)


@pytest.fixture(scope="module")
def drawer(tmp_path_factory):
    """A random text-to-image pipeline of 16x16 images."""
    return load_prior(tiny.saved(tmp_path_factory.mktemp("drawer")))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small images, few steps: most of the time of short runs goes into large ones."""
    for name in ("PIXELS", "SHOWN"):
        monkeypatch.setattr(output, name, 24)
    monkeypatch.setattr(starts, "STEPS", 2)
    monkeypatch.setattr(starts, "FITTING", 2)


@pytest.fixture
def icon(tmp_path):
    path = tmp_path / "icon.svg"
    path.write_text(ICON)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_icons_of_paths(drawer, method):
    options = {} if method == "trace" else {"steps": 2, "follow": 2}
    result = text_to_svg(["an owl", "a cat"], drawer, method, **FEW, **options)
    assert len(result.drawings) == len(result.images) == 2
    rows = {"msd": 12, "trace": 0}.get(method, 1) * 2 * 2 * 2  # with guidance, icons, steps
    assert result.counts["rows"] == rows + 2 * 2 * 2  # and the samples
    for text in result.svgs:
        root = ET.fromstring(text)
        assert {child.tag.partition("}")[2] for child in root} <= {"title", "path"}  # no raster images
        assert 1 <= len(from_svg(text).paths) <= 3


@pytest.mark.parametrize("style", ["flat", "line", "sketch"])
@pytest.mark.parametrize("init", ["sample", "noise"])
def test_styles_decide_on_fill_and_stroke(drawer, style, init):
    few = FEW if init == "sample" else {"paths": 3, "colors": 2}
    result = text_to_svg("an owl", drawer, "sds", style=style, init=init, steps=1, follow=1, **few)
    paths = result.drawings[0].paths
    assert all((path.fill is None) == (style != "flat") for path in paths)
    assert all((path.stroke is None) == (style == "flat") for path in paths)
    if style == "sketch":
        assert {tuple(round(value, 3) for value in path.stroke) for path in paths} == {starts.INK}


def test_the_palette_limits_the_colors_of_a_set(drawer):
    fills = lambda result: {path.fill for drawing in result.drawings for path in drawing.paths}
    assert len(fills(text_to_svg(["an owl", "a cat"], drawer, "sds", steps=2, **FEW))) <= 3  # and white
    free = text_to_svg(["an owl", "a cat"], drawer, "sds", steps=2, init="noise", paths=9, colors=0)
    assert len(fills(free)) > 9


def test_a_file_is_where_a_run_starts(drawer, icon):
    result = text_to_svg("an owl", drawer, "sds", init=icon, steps=1, follow=1)
    assert result.drawings[0].size == (16, 16)
    before = read_svg(icon).paths[0].contours[0].points
    moved = np.abs(result.drawings[0].paths[0].contours[0].points - before).max()
    assert 0 < moved < 0.1


def test_the_output_directory_is_complete_and_the_svg_is_what_is_shown(drawer, tmp_path):
    out = tmp_path / "run"
    result = text_to_svg(["an owl", "a cat"], drawer, "sds", steps=3, out=out, **FEW)
    assert {path.name for path in out.iterdir()} == {
        "config.json", "video.gif", "icon_00.svg", "icon_00.png", "icon_01.svg", "icon_01.png", "metrics.jsonl",
        "preview.png", "report.html", "result.json",
    }  # fmt: skip
    summary = json.loads((out / "result.json").read_text())
    assert summary["bytes"] == [(out / f"icon_0{i}.svg").stat().st_size for i in range(2)]
    again = VectorGraphics([read_svg(out / "icon_00.svg")], (16, 16)).render((24, 24))[0]
    shown = torch.from_numpy(np.array(Image.open(out / "icon_00.png"))).permute(2, 0, 1) / 255
    assert (again - shown).abs().mean() < 0.01  # rounded coordinates
    assert result.images[0].size == (24, 24)


def test_a_killed_run_resumes_to_the_same_icons(drawer, tmp_path, every_step, killed):
    stopped, after = killed
    settings = {"steps": 3, "follow": 2, "seed": 3, **FEW}
    whole = text_to_svg("an owl", drawer, "sds", **settings)
    with pytest.raises(stopped):
        text_to_svg("an owl", drawer, "sds", out=tmp_path / "run", callback=after(1), **settings)
    with pytest.raises(ValueError, match="another prompts"):
        text_to_svg("a cat", drawer, "sds", out=tmp_path / "run", resume=True, **settings)
    resumed = text_to_svg("an owl", drawer, "sds", out=tmp_path / "run", resume=True, **settings)
    assert resumed.svgs == whole.svgs
    assert resumed.counts == whole.counts


def test_a_method_of_ones_own(drawer):
    mine = Recipe(lambda: SDS("uniform"), steps=2, follow=1, guidance=1.0, name="mine")
    result = text_to_svg("an owl", drawer, mine, **FEW)
    assert (result.request.method, result.request.steps, len(result.history)) == ("mine", 2, 2)


@pytest.mark.parametrize("method", VECTOR_EDITS)
def test_every_method_edits_the_paths_of_a_drawing(prior, icon, method):
    result = edit_svg(icon, "make it red", prior, method, sweeps=2, size=24)
    assert len(result.drawing.paths) == 2
    assert result.svg != to_text(result.source)
    assert len(result.history) == 2


def to_text(drawing):
    return output.to_svg(drawing, "make it red")


def test_an_edit_resumes_and_writes_its_files(prior, icon, tmp_path, every_step, killed):
    stopped, after = killed
    whole = edit_svg(icon, "make it red", prior, sweeps=3)
    out = tmp_path / "edit"
    with pytest.raises(stopped):
        edit_svg(icon, "make it red", prior, sweeps=3, out=out, callback=after(1))
    resumed = edit_svg(icon, "make it red", prior, sweeps=3, out=out, resume=True)
    assert resumed.svg == whole.svg == (out / "edited.svg").read_text()
    assert {path.name for path in out.iterdir()} == {
        "config.json", "video.gif", "edited.svg", "edited.png", "source.svg", "source.png", "metrics.jsonl",
        "preview.png", "report.html", "result.json",
    }  # fmt: skip


def test_the_bundled_editor_makes_a_drawing_red(bundled, icon):
    icon.write_text(ICON.replace("#c22", "#28c"))
    result = edit_svg(icon, "make it red", bundled, sweeps=3)
    red, _, blue = np.asarray(result.image.convert("RGB"), dtype=float).mean((0, 1))
    before, _, blue_before = np.asarray(result.source_image.convert("RGB"), dtype=float).mean((0, 1))
    assert red - blue > before - blue_before + 5


def test_the_commands(icon, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["svg", "an owl", "--method", "trace", "--candidates", "1", "--no-progress", "--out", "o"])
    assert "1 icon(s)" in capsys.readouterr().out
    assert (tmp_path / "o" / "icon_00.svg").is_file()
    cli.main(["edit", "icon.svg", "make it red", "--sweeps", "1", "--no-progress", "--out", "e"])
    assert "2 paths" in capsys.readouterr().out


WRONG = {
    ("svg",): "prompt",
    ("svg", " "): "the prompt is empty",
    ("svg", "an owl", "--style", "oil"): "unknown style 'oil'",
    ("svg", "an owl", "--init", "photo"): "unknown init 'photo'",
    ("svg", "an owl", "--init", "none.svg"): "there is no file none.svg",
    ("svg", "an owl", "--paths", "0"): "paths must be",
    ("svg", "an owl", "--paths", "5000"): "at most 1024",
    ("svg", "an owl", "--steps", "0"): "steps must be",
    ("svg", "an owl", "--lr", "0"): "lr must be positive",
    ("svg", "an owl", "--method", "ddim"): "unknown method 'ddim'",
    ("edit", "none.svg", "make it red"): "there is no file none.svg",
    ("edit", "ICON", ""): "the instruction is empty",
    ("edit", "ICON", "make it red", "--wrap"): "an SVG file has no --wrap",
    ("edit", "ICON", "make it red", "--method", "windows"): "unknown method 'windows' for SVG files",
    ("edit", "ICON", "make it red", "--kernel", "0"): "kernel must be positive",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_is_refused_before_the_model_is_loaded(no_model, refused, icon, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    if line == ("svg",):
        with pytest.raises(SystemExit):
            cli.main(["svg", "--out", "o"])
        return
    said = refused(*("icon.svg" if word == "ICON" else word for word in line), "--out", "o")
    assert WRONG[line] in said


def test_results_do_not_replace_the_drawing_they_come_from(prior, icon, tmp_path):
    out = tmp_path / "edit"
    edit_svg(icon, "make it red", prior, sweeps=1, out=out)
    with pytest.raises(ValueError, match="lies in the output directory"):
        edit_svg(out / "edited.svg", "make it red", prior, out=out, overwrite=True)
    with pytest.raises(ValueError, match="holds other files"):
        text_to_svg("an owl", init=icon, out=icon.parent)


def test_a_tracing_shows_its_image():
    """A disk with another in front, and a hole of white: two regions of two colors, and one of enclosed white."""
    drawing = from_svg(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><circle cx="30" cy="32" r="24" fill="#c22"/>'
        '<circle cx="24" cy="26" r="9" fill="#22c"/><circle cx="38" cy="42" r="6" fill="#fff"/></svg>'
    )
    image = VectorGraphics([drawing], (64, 64)).render((64, 64))
    palette = palette_of(image, 2)
    assert torch.cdist(palette, torch.tensor([[0.8, 0.133, 0.133], [0.133, 0.133, 0.8]])).amin(1).max() < 0.05
    again = traced(image[0], palette, 8)
    assert len(again.paths) == 3
    error = VectorGraphics([again], (64, 64)).render((64, 64)) - image
    assert error.abs().mean() < 0.02


def test_a_thin_band_of_mixed_colors_is_given_to_its_neighbors():
    disks = ('<circle cx="16" cy="16" r="11.2" fill="#e99"/>', '<circle cx="16" cy="16" r="10" fill="#c22"/>')
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{"".join(disks)}</svg>'
    image = VectorGraphics([from_svg(svg)], (32, 32)).render((32, 32))[0]
    (path,) = traced(image, torch.tensor([[0.8, 0.133, 0.133], [0.933, 0.6, 0.6]]), 8).paths
    assert path.fill == pytest.approx((0.8, 0.133, 0.133))


def test_a_blank_image_is_traced_as_one_region():
    blank = torch.ones(1, 3, 16, 16)
    assert len(traced(blank[0], palette_of(blank, 4), 5).paths) == 1
