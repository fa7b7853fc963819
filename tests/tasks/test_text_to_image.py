"""Text to image: every method, the output directory, resuming, the command, and every wrong input."""

import hashlib
import inspect
import json
import re
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from scoredistill import Recipe, cli, load_prior
from scoredistill.estimators import MSD, SDS
from scoredistill.estimators.base import EstimatorWrapper
from scoredistill.media.provenance import read_chunk
from scoredistill.optional import MissingExtra
from scoredistill.priors import GaussianMixture
from scoredistill.tasks import METHODS, Request, session, text_to_3d, text_to_image
from scoredistill.tasks.image_generation import output
from scoredistill.tasks.image_generation.recipes import RECIPES
from scoredistill.times import Linear, Uniform


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Directory of a saved random text-to-image pipeline."""
    return tiny.saved(tmp_path_factory.mktemp("prior"))


@pytest.fixture(scope="module")
def prior(model):
    return load_prior(model)


@pytest.fixture(autouse=True)
def small_previews(monkeypatch):
    """Previews and frames as small as the images: most of the time of short runs goes into large ones."""
    monkeypatch.setattr(output, "SHOWN", 16)


CALLS = {
    "sdi": 11, "sdi_published": 11, "msd_draws": 12, "msd_ancestral": 12, "msd_paper": 12, "msd_paper_interval": 12,
    "msd_paper_anchor": 24, "msd_paper_both": 24,
}  # fmt: skip
"""Network calls of one gradient, where they are more than one."""


KINDS = [(method, image) for method in METHODS if method != "ddim" for image in ("mlp", "latents", "pixels")]


@pytest.mark.parametrize(("method", "image"), [*KINDS, ("ddim", None)])
def test_every_method_makes_images_of_every_kind(prior, method, image):
    options = {} if image is None else {"image": image, "follow": 1}
    options |= {"through": "encoder"} if image in ("mlp", "pixels") else {}
    result = text_to_image("an owl", prior, method, steps=2, particles=2, **options)
    assert [im.size for im in result.images] == [(16, 16)] * 2
    calls = 2 * CALLS.get(method, 1)
    assert result.counts["rows"] == calls * 2 * 2
    assert result.counts["calls"] == calls
    if method == "ddim":
        assert result.history == []
        assert result.samples is not None
        return
    assert (result.samples is None) == (image != "latents")
    assert result.counts["encoded"] == (0 if image == "latents" else 4)
    assert result.counts["decoded"] == (2 if image == "latents" else 0)
    assert len(result.history) == 2
    assert all(row["grad_norm"] > 0 for row in result.history)


def test_through_the_decoder_costs_a_decoding_and_no_backward_pass(prior):
    result = text_to_image("an owl", prior, "msd_mean", steps=3, particles=2)
    assert result.counts == {"rows": 12, "calls": 3, "encoded": 6, "decoded": 6}


def test_the_seed_decides(prior):
    make = lambda seed: text_to_image("an owl", prior, "sds", steps=4, seed=seed).images[0].tobytes()
    assert make(1) == make(1) != make(2)


def test_the_output_directory_is_complete(prior, tmp_path):
    result = text_to_image("an owl", prior, "msd", steps=5, follow=2, particles=2, out=tmp_path / "run")
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json", "video.gif", "image_00.png", "image_01.png", "enlarged_00.png", "enlarged_01.png",
        "metrics.jsonl", "preview.png", "report.html", "result.json",
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.history
    assert [r["bandwidth"] for r in rows] == sorted((r["bandwidth"] for r in rows), reverse=True)
    assert Image.open(tmp_path / "run" / "video.gif").n_frames > 3
    report = (tmp_path / "run" / "report.html").read_text()
    assert "an owl" in report
    assert "which is where the run ends" in report
    assert report.count("<svg") >= 3
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["request"]["steps"] == 5
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert summary["rows"] == 5 * 2 * 2
    assert summary["clip_sim"] == []  # the bundled CLIP knows only what the bundled model draws


@pytest.mark.parametrize(("method", "image"), [("sds", "latents"), ("csd", "mlp"), ("msd", "latents")])
def test_a_killed_run_resumes_to_the_same_images(prior, tmp_path, every_step, killed, method, image):
    """At the same cost, which does not depend on frames and previews that the output directory decodes."""
    stopped, after = killed
    settings = {"steps": 5, "particles": 2, "seed": 3, "image": image}
    whole = text_to_image("an owl", prior, method, **settings)

    with pytest.raises(stopped):
        text_to_image("an owl", prior, method, out=tmp_path, callback=after(2), **settings)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    with pytest.raises(ValueError, match="another seed"):
        text_to_image("an owl", prior, method, out=tmp_path, resume=True, **{**settings, "seed": 4})
    resumed = text_to_image("an owl", prior, method, out=tmp_path, resume=True, **settings)
    assert [im.tobytes() for im in resumed.images] == [im.tobytes() for im in whole.images]
    assert resumed.counts == whole.counts
    assert resumed.history == whole.history
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5
    with pytest.raises(ValueError, match="already finished"):
        text_to_image("an owl", prior, method, out=tmp_path, resume=True, **settings)


def test_resuming_before_the_first_checkpoint_starts_anew(prior, tmp_path, killed):
    stopped, after = killed
    with pytest.raises(stopped):
        text_to_image("an owl", prior, "sds", steps=4, out=tmp_path, callback=after(0))
    text_to_image("an owl", prior, "sds", steps=4, out=tmp_path, resume=True)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_directories_of_others_are_not_touched(prior, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0001.png").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        text_to_image("an owl", prior, "msd", steps=2, out=tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["frames", "0001.png"]


def test_a_prior_that_does_not_load_leaves_the_earlier_run_alone(prior, tmp_path):
    text_to_image("an owl", prior, "sds", steps=2, out=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match="cannot load"):
        text_to_image("an owl", "nobody/nothing", "msd", steps=2, out=tmp_path / "run", overwrite=True)
    with pytest.raises(ValueError, match="larger than"):
        text_to_image("an owl", prior, "ddim", steps=5000, out=tmp_path / "run", overwrite=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize("content", ["[]", '{"request": []}', '{"request": null}', "no json"])
def test_a_damaged_config_is_no_run_to_resume(prior, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json is damaged|has another"):
        text_to_image("an owl", prior, "msd", steps=2, out=tmp_path, resume=True)


def test_a_new_run_replaces_the_old_one(prior, tmp_path):
    text_to_image("an owl", prior, "sds", steps=2, particles=3, out=tmp_path)
    with pytest.raises(ValueError, match="finished run: add --overwrite"):
        text_to_image("a cat", prior, "sds", steps=2, out=tmp_path)
    assert (tmp_path / "image_02.png").is_file()
    text_to_image("a cat", prior, "sds", steps=2, out=tmp_path, overwrite=True)
    assert sorted(p.name for p in tmp_path.glob("*_0?.png")) == ["enlarged_00.png", "image_00.png"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_small_images_are_enlarged_in_previews(monkeypatch):
    """To about 192 pixels, four in a row; the images of a result keep their size."""
    monkeypatch.undo()
    made = output.image_grid([Image.new("RGB", (16, 16))] * 5)
    assert made.size == (4 * (192 + 4) + 4, 2 * (192 + 4) + 4)
    assert output.image_grid([Image.new("RGB", (512, 256))]).size == (512 + 8, 256 + 8)


def test_nan_stops_with_advice(prior):
    with pytest.raises(FloatingPointError, match="step 0 is not finite"):
        text_to_image("an owl", prior, "sds", steps=2, guidance=1e38)


class Breaks(EstimatorWrapper):
    """SDS whose gradient on the second image is not finite in the fourth call."""

    def __init__(self):
        self.base, self.calls = SDS(), 0

    def __call__(self, prior, batch, t, rng=None):
        made = self.base(prior, batch, t, rng)
        self.calls += 1
        if self.calls == 4:
            made.grad[1, 0] = torch.nan
        return made


def test_the_state_before_a_bad_step_is_kept_and_continues_without_it(prior, tmp_path):
    recipe = replace(RECIPES["sds"], estimator=lambda guidance: Breaks())
    settings = {"steps": 7, "particles": 2, "image": "pixels", "out": tmp_path}
    with pytest.raises(FloatingPointError, match=r"step 3 is not finite \(particle 1, t = .* kept in .* --on-nan skip"):
        text_to_image("an owl", prior, recipe=recipe, **settings)
    seen = []
    see = lambda step: seen.append(step.index)
    with pytest.warns(UserWarning, match=r"step 6 is not finite .* is skipped"):
        text_to_image("an owl", prior, recipe=recipe, callback=see, resume=True, on_nan="skip", **settings)
    assert seen == [3, 4, 5, 6]
    with pytest.raises(ValueError, match="unknown on_nan 'go on': use one of stop, skip"):
        text_to_image("an owl", prior, on_nan="go on")


def test_a_prior_without_text_is_refused():
    mixture = GaussianMixture(torch.zeros(1, 2), torch.ones(1))
    with pytest.raises(ValueError, match="no text encoder"):
        text_to_image("an owl", mixture)


BAD = [
    ({"prompt": "  "}, "prompt is empty"),
    ({"method": "sdi", "negative_prompt": "a dog"}, "sdi guides by itself: leave out the negative prompt"),
    ({"method": "ssd"}, "unknown method 'ssd': use one of sds, annealed_sds, sdi, sdi_published, vsd, csd, msd, "),
    ({"image": "voxels"}, "unknown image"),
    ({"through": "voxels"}, "unknown through"),
    ({"steps": 0}, "steps must be a whole number of at least 1"),
    ({"particles": 0}, "particles must be a whole number of at least 1"),
    ({"follow": 0}, "follow must be a whole number of at least 1"),
    ({"guidance": -1.0}, "guidance must be a finite number of at least 0, not -1.0"),
    ({"guidance": float("nan")}, "guidance must be a finite number of at least 0, not nan"),
    ({"seed": -1}, "seed must be a whole number of at least 0"),
    ({"seed": 2**64}, "seed must be below"),
    ({"prior": "nope"}, "no prior 'nope'"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[str(w) for w, _ in BAD])
def test_bad_input_is_one_sentence_before_any_work(wrong, message, tmp_path, refused):
    options = {"prompt": "an owl", **wrong}
    line = ["image", options.pop("prompt"), "--out", tmp_path / "out"]
    line += [part for name, value in options.items() for part in (f"--{name}", value)]
    assert message in refused(*line)
    assert not (tmp_path / "out").exists()


def test_bad_paths_are_one_sentence(tmp_path, refused, model):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for line, message in (
        (["--out", str(tmp_path / "file"), "--prior", str(model)], "is a file"),
        (["--prior", str(tmp_path / "empty")], r"no model_index\.json"),
        (["--out", str(tmp_path / "new"), "--resume"], "no run to resume"),
        (["--prior", str(model), "--dtype", "int8", "--out", str(tmp_path / "new")], "unknown dtype 'int8'"),
        (["--prior", str(model), "--device", "gpu", "--out", str(tmp_path / "new")], "unknown device"),
        (["--prior", str(model), "--max-rows", "0", "--out", str(tmp_path / "new")], "max_rows must be at least 1"),
        (["--prior", str(model), "--variant", "fp16", "--out", str(tmp_path / "new")], "no weights of the variant"),
        (["--prior", str(model), "--device", "cpu", "--offload", "model", "--out", str(tmp_path / "new")], "leave it"),
        (["--prior", str(tmp_path / "a.ckpt"), "--out", str(tmp_path / "new")], "is a pickle"),
    ):
        assert re.search(message, refused("image", "an owl", *line))


def test_a_missing_package_is_said_before_the_prior_is_loaded(monkeypatch, no_model):
    monkeypatch.setitem(sys.modules, "peft", None)
    for make in (text_to_image, text_to_3d):
        with pytest.raises(MissingExtra, match=r"the method vsd needs peft, .*scoredistill\[lora\]"):
            make("an owl", "emoji", "vsd")


def test_the_command_generates_images(model, tmp_path, capsys):
    cli.main(
        ["image", "an owl", "--prior", str(model), "--steps", "3", "--out", str(tmp_path / "run"), "--method", "csd"]
    )
    assert "4 image(s), 24 network evaluations (NFE)" in capsys.readouterr().out
    assert (tmp_path / "run" / "image_03.png").is_file()


def test_options_of_loading_reach_the_prior_and_are_kept(tmp_path, monkeypatch):
    half, seen = tiny.stable_diffusion(tmp_path / "tokens", "v", "trailing").to(torch.float16), []
    half.save_pretrained(tmp_path / "half", variant="fp16")
    monkeypatch.setattr(session, "load_prior", lambda source, **options: seen.append(options) or load_prior(source))
    given = ["--variant", "fp16", "--max-rows", "2", "--revision", "main"]
    line = ["image", "an owl", "--prior", str(tmp_path / "half"), "--method", "ddim", "--steps", "1"]
    cli.main([*line, "--out", str(tmp_path / "run"), *given])
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["prior_options"]
    assert seen == [kept]
    assert kept == {"variant": "fp16", "revision": "main", "max_rows": 2}


def test_a_run_is_continued_with_the_same_weights(model, tmp_path):
    options = {"prior": model, "steps": 1, "method": "ddim", "out": tmp_path}
    text_to_image("an owl", **options)
    (tmp_path / "result.json").unlink()
    with pytest.raises(ValueError, match="has another revision: give the same to resume"):
        text_to_image("an owl", **options, revision="old", resume=True)


def test_a_loaded_prior_takes_no_options_of_loading(prior):
    with pytest.raises(ValueError, match="the prior is already loaded: give variant, max_rows to load_prior"):
        text_to_image("an owl", prior, steps=1, max_rows=3, variant="fp16")


def test_request_is_completed_from_the_recipe():
    full = Request("an owl", "csd").complete()
    assert full.particles == 4
    assert full.steps is not None
    assert Request("an owl", "csd", particles=7).complete().particles == 7


def test_the_signature_is_that_of_the_options(prior):
    parameters = inspect.signature(text_to_image).parameters
    assert list(parameters)[:5] == ["prompt", "prior", "method", "recipe", "callback"]
    assert {"image", "steps", "seed", "out", "resume", "progress", "dtype", "max_rows", "window"} < set(parameters)
    assert "Seed for all random number generators." in text_to_image.__doc__
    with pytest.raises(
        TypeError, match=r"text_to_image\(\) got an unexpected keyword argument 'stepz'; its parameters"
    ):
        text_to_image("an owl", prior, stepz=3)


def test_settings_are_complete():
    settings = Request("an owl", "sds").complete()
    assert None not in asdict(settings).values()
    assert settings.complete() == settings


def test_importing_is_light():
    """The package loads no torch; its metrics load neither diffusers nor transformers, its loop no diffusers."""
    code = (
        "import sys, scoredistill; print({'torch', 'diffusers', 'transformers'} & {*sys.modules});"
        "from scoredistill import metrics; from scoredistill.metrics import Clip, bundled_clip, clip_similarity;"
        "print({'diffusers', 'transformers'} & {*sys.modules});"
        "from scoredistill import distill, estimators; print('diffusers' in sys.modules, callable(distill))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\nset()\nFalse True\n", "")


MINE = """
from scoredistill import Recipe
from scoredistill.estimators import SDS

mine = Recipe(SDS, steps=3, guidance=2.0, lr=0.5)
"""


def test_a_method_of_ones_own_is_run_like_the_others(prior):
    """SDS under another name; what the recipe leaves open is that of SDS."""
    like = text_to_image("an owl", prior, "sds", image="latents", steps=3, guidance=2.0, lr=0.5, seed=4)
    for method in (Recipe(SDS, steps=3, guidance=2.0, lr=0.5), Recipe(SDS, times=Uniform(), steps=3)):
        made = text_to_image("an owl", prior, method, image="latents", guidance=2.0, lr=0.5, seed=4)
        assert torch.equal(made.samples, like.samples)
        assert made.request.method == "SDS"
    assert text_to_image("an owl", prior, SDS, image="latents", steps=1).request.guidance == 7.5
    falling = text_to_image("an owl", prior, Recipe(SDS, times=Linear(0.9, 0.1), steps=3), image="latents")
    assert [row["t"] for row in falling.history] == pytest.approx([0.9, 0.5, 0.1])
    wide = text_to_image("an owl", prior, Recipe(MSD, bandwidth=(3.0, 0.5), steps=2, particles=2), image="latents")
    assert [row["bandwidth"] for row in wide.history] == pytest.approx([3.0, 0.5], rel=1e-4)
    assert len(wide.images) == 2


def test_a_run_with_a_method_of_a_file_is_continued_with_the_same_content(
    model, tmp_path, refused, monkeypatch, capsys
):
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(MINE)
    line = ["image", "an owl", "--prior", str(model), "--image", "latents", "--method", f"{file}:mine"]
    line += ["--out", str(out), "--seed", "0"]
    with monkeypatch.context() as patch:
        patch.setattr("scoredistill.tasks.image_generation.output.ImageDirectory.finish", stopped)
        with pytest.raises(SystemExit):
            cli.main(line)
    capsys.readouterr()
    config = json.loads((out / "config.json").read_text())
    assert (config["request"]["method"], config["method_file"]) == ("mine", f"{file}:mine")
    assert config["method_sha256"] == hashlib.sha256(MINE.encode()).hexdigest()
    file.write_text(MINE.replace("2.0", "3.0"))
    assert "has changed: restore it to resume, or start anew with --overwrite" in refused(*line, "--resume")
    file.write_text(MINE)
    cli.main([*line, "--resume"])
    assert json.loads((out / "result.json").read_text())["rows"] == 6
    capsys.readouterr()
    for wrong, sentence in (("nine", "mine.py has no nine: its methods are mine"), ("SDS.x", "has no SDS.x")):
        assert sentence in refused("image", "an owl", "--method", f"{file}:{wrong}", "--out", str(tmp_path / "new"))


def stopped(*_):
    raise OSError("the disk is gone")


@pytest.mark.parametrize("through", ["encoder", "decoder"])
def test_coordinate_networks_are_rendered_larger(prior, tmp_path, through):
    """The larger image, reduced, is the image: both are samples of one smooth function."""
    made = text_to_image("an owl", prior, "sds", steps=2, particles=2, through=through, seed=3, out=tmp_path)
    for i, (image, large) in enumerate(zip(made.images, made.large, strict=True)):
        assert large.size == (64, 64)
        reduced = np.asarray(large.resize(image.size, Image.Resampling.BOX), int)
        assert np.abs(reduced - np.asarray(image, int)).mean() < 6
        with Image.open(tmp_path / f"enlarged_{i:02d}.png") as file:
            assert file.tobytes() == large.tobytes()
    assert read_chunk(tmp_path / "image_01.png")["prompt"] == "an owl"
    assert text_to_image("an owl", prior, "sds", steps=1, image="pixels", out=tmp_path, overwrite=True).large == []
    assert sorted(path.name for path in tmp_path.glob("*_0?.png")) == ["enlarged_00.png", "image_00.png"]
