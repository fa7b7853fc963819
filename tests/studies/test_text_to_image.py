"""The study of text to image: its plan, its figures against sets whose figures are known, and a small run of it all."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import tiny
from scoredistill import Recipe, load_prior
from scoredistill.estimators import SDS, Inverted
from scoredistill.files import slug
from scoredistill.priors import Guided
from scoredistill.recipe import named
from scoredistill.sampling import ddim
from scoredistill.studies.text_to_image import gather, jobs, probes, setting, study
from scoredistill.studies.text_to_image.blocks import BLOCKS, METHODS, Block
from scoredistill.studies.text_to_image.ideal import Ideal
from scoredistill.studies.text_to_image.study import Setting
from scoredistill.tasks.image_generation import request
from scoredistill.tasks.image_generation.recipes import RECIPES, every
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES

PROMPTS = ("an owl", "a red apple")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved tiny random pipeline."""
    return str(tiny.saved(tmp_path_factory.mktemp("prior")))


@pytest.fixture(scope="module")
def prior(folder):
    return load_prior(folder)


@pytest.fixture
def small(monkeypatch):
    """Short runs, few references, no ImageNet features, and images so alike that rounding to bytes weighs more."""
    for module in (jobs, request):
        monkeypatch.setattr(module, "DDIM_STEPS", 6)
    for name in ("sds", "msd", "msd_mean"):
        monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], steps=every(2), follow=2))
    monkeypatch.setattr(setting, "QUICK_REFERENCES", 5)
    monkeypatch.setattr(study, "ROUNDING", 1e-2)
    monkeypatch.setattr(jobs, "imagenet", lambda: None)
    few = {name: METHODS[name] for name in ("ddim",)} | {name: RECIPES[name] for name in ("sds", "msd", "msd_mean")}
    made = (
        Block("mlp", "networks", "mlp", methods=few),
        Block("same", "equal rows", "mlp", 24, methods=few, base="mlp", shared=("msd_mean",)),
        Block("ideal", "ideal", "latents", images=4, ideal=True, methods=few),
    )
    for block in made:
        monkeypatch.setitem(BLOCKS, block.name, block)


def small_setting(folder, **more):
    methods, blocks = ("ddim", "sds", "msd", "msd_mean"), ("mlp", "same", "ideal")
    return Setting(folder, PROMPTS, seeds=2, blocks=blocks, methods=methods, quick=True, **more)


def test_a_study_writes_its_schema_and_goes_on_where_it_stopped(folder, small, tmp_path, monkeypatch):
    page = study.study(small_setting(folder), tmp_path / "out", workers=1, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["failed"] == {}
    assert set(results["blocks"]) == {"mlp", "same", "ideal"}
    assert results["methods"] == results["blocks"]["mlp"]["methods"]
    for block in results["blocks"].values():
        assert set(block["methods"]) == {"ddim", "sds", "msd", "msd_mean"}
        for found in block["methods"].values():
            for name in ("fid", "mmd", "clip_sim", "recall", "precision", "coverage", "diversity"):
                assert set(found[name]) == {"mean", "std"}, name
    mlp, same, ideal = (results["blocks"][name] for name in ("mlp", "same", "ideal"))
    assert (mlp["methods"]["sds"]["nfe"], mlp["methods"]["msd"]["nfe"], mlp["methods"]["ddim"]["nfe"]) == (4, 4, 12)
    assert same["methods"]["sds"]["nfe"] == 24
    assert same["methods"]["msd_mean"] == mlp["methods"]["msd_mean"]
    assert mlp["curves"]["sds"]["nfe"] == [2, 4]
    assert mlp["curves"]["sds"]["fid"][-1] == pytest.approx(mlp["methods"]["sds"]["fid"]["mean"], rel=1e-2)
    assert mlp["rows_to_sds"]["sds"] <= 4
    assert ideal["methods"]["msd"]["distance"]["mean"] < ideal["methods"]["sds"]["distance"]["mean"]
    assert ideal["methods"]["msd"]["images"] == 4
    html = page.read_text()
    assert "networks" in html
    assert "equal rows" in html
    assert (tmp_path / "out" / "image_grid.png").is_file()
    assert (tmp_path / "out" / "preview.png").is_file()
    assert "| sds |" in (tmp_path / "out" / "tables.md").read_text()

    monkeypatch.setattr(jobs, "drawn", lambda *a, **k: pytest.fail("measured twice"))
    monkeypatch.setattr(jobs, "reference", lambda *a, **k: pytest.fail("measured twice"))
    study.study(small_setting(folder), tmp_path / "out", workers=1, progress=False)
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert again["blocks"] == results["blocks"]


def test_a_method_that_breaks_down_is_reported_and_tried_again(folder, small, tmp_path, monkeypatch):
    whole = jobs.drawn

    def broken(setup, name, method, prompt, n, out, seed):
        if method == "msd" and prompt == "an owl":
            raise FloatingPointError("not finite")
        return whole(setup, name, method, prompt, n, out, seed)

    one = replace(small_setting(folder), blocks=("mlp",), methods=("ddim", "msd"))
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "drawn", broken)
        study.study(one, tmp_path / "out", workers=1, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["failed"] == {"mlp-msd-2-an_owl": "FloatingPointError: not finite"}
    assert set(results["methods"]) == {"ddim"}
    study.study(one, tmp_path / "out", workers=1, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["failed"] == {}
    assert set(results["methods"]) == {"ddim", "msd"}


def test_other_prompts_are_another_study(folder, small, tmp_path):
    one = replace(small_setting(folder), blocks=("mlp",), methods=("ddim",))
    study.study(one, tmp_path / "out", workers=1, progress=False)
    with pytest.raises(ValueError, match="holds a study with another prompts: give another directory"):
        study.study(replace(one, prompts=("a tulip", "an owl")), tmp_path / "out", workers=1, progress=False)
    names = {path.stem for path in (tmp_path / "out" / "parts").glob("*.json")}
    assert names == {f"{kind}-{slug(p)}" for kind in ("reference", "mlp-ddim-2") for p in one.prompts}


def test_the_ideal_denoiser_knows_its_samples(prior):
    with torch.no_grad():
        noise = torch.randn(6, *prior.latent_shape, generator=torch.Generator().manual_seed(1))
        latents = ddim(Guided(prior, 2.0), noise, 10, prior.encode_text(["an owl"]))
    ideal = Ideal(prior, latents, ["an owl"] * 3 + ["a red apple"] * 3)
    for prompt, own in zip(PROMPTS, latents.split(3), strict=True):
        assert (ideal.distance(own, prompt) < 1e-5).all()
        assert (ideal.distance(own + 0.1, prompt) - 0.1).abs().max() < 1e-5
        result = text_to_image(prompt, ideal, "msd", image="latents", guidance=1.0, particles=2)
        assert (ideal.distance(result.samples, prompt) < 0.03).all()  # the draw keeps .05 x .45 of noise
    assert (ideal.distance(latents[:3], "a red apple") > 0.05).all()


def test_metrics_of_known_sets(tmp_path):
    """One method draws the truth itself, one only its first image, one something else."""
    rng = np.random.default_rng(0)
    truth = {prompt: rng.normal(size=(12, 4)) + 10 * i for i, prompt in enumerate(PROMPTS)}
    pixels = np.zeros((12, 8, 8, 3), np.uint8)
    for prompt, features in truth.items():
        kinds = {"reference": features, "same": features, "one": features[:1].repeat(12, 0), "far": features + 100}
        for stem, seen in kinds.items():
            np.savez(tmp_path / f"{stem}-{slug(prompt)}.npz", clip=seen, pixels=pixels)
    seen = gather.Features.__new__(gather.Features)
    seen.prompts, seen.folder = PROMPTS, tmp_path
    seen.truth = {"clip": seen.of("reference"), "efficientnet": [], "inception": []}
    seen.texts = {prompt: torch.tensor([1.0, 0.0, 0.0, 0.0]) for prompt in PROMPTS}
    part = dict.fromkeys(("nfe", "calls", "encoded", "decoded", "seconds", "steps", "guidance", "lr"), 2.0)
    found = {stem: gather.evaluate(seen, stem, [part, part]) for stem in ("same", "one", "far")}
    assert found["same"]["fid_pooled"] < 1e-6
    assert found["same"]["clip_sim"]["mean"] == pytest.approx(
        100 * np.mean([features[:, 0].mean() for features in truth.values()])
    )
    fractions = {s: [found[s][name]["mean"] for name in ("precision", "recall", "coverage")] for s in found}
    assert fractions["same"] == [1, 1, 1]
    assert fractions["far"] == [0, 0, 0]
    assert fractions["one"][0] == 1
    assert fractions["one"][1] == pytest.approx(1 / 12)
    assert 1 / 12 <= fractions["one"][2] < 1
    assert found["one"]["diversity"]["mean"] == 0
    assert found["far"]["fid_pooled"] == pytest.approx(4 * 100**2, rel=0.01)
    assert found["far"]["nfe"] == 2.0


def known(prompts, own, real):
    """The mean over prompts of the MMD that the study finds between features drawn by `own` and by `real`."""
    seen = gather.Features.__new__(gather.Features)
    seen.prompts, seen.truth = prompts, {"clip": [real(i) for i in range(len(prompts))], "efficientnet": []}
    seen.truth |= {"inception": []}
    seen.texts = {prompt: torch.ones(4, dtype=torch.float64) for prompt in prompts}
    features = [own(i) for i in range(len(prompts))]
    seen.of = lambda stem, kind="clip": features if kind == "clip" else []
    part = dict.fromkeys(gather.COST, 2.0)
    return gather.evaluate(seen, "method", [part] * len(prompts))["mmd"]["mean"]


@pytest.mark.parametrize(("shift", "spread"), [(0.0, 0.3), (0.4, 0.3), (0.0, 0.1)])
def test_the_mmd_of_a_prompt_is_that_of_its_gaussians_and_zero_for_equal_ones(shift, spread):
    """Three images of each of 150 prompts that are far apart, in 4 dimensions: the zero must not depend on prompts.

    E k(x, y) = (h^2 / s)^2 exp(-|m|^2 / 2 s) with s = h^2 + both variances; the last case has equal means.
    """
    rng, prompts = torch.Generator().manual_seed(0), [f"prompt {i}" for i in range(150)]
    draw = lambda n, i, m, u: 10 * i + m / 2 + u * torch.randn(n, 4, generator=rng, dtype=torch.float64)
    found = known(prompts, lambda i: draw(3, i, shift, spread), lambda i: draw(32, i, 0.0, 0.3))
    h2 = gather.BANDWIDTH**2
    expected = lambda u, v, m: (h2 / (h2 + u**2 + v**2)) ** 2 * math.exp(-(m**2) / 2 / (h2 + u**2 + v**2))
    truth = 1000 * (expected(0.3, 0.3, 0) + expected(spread, spread, 0) - 2 * expected(0.3, spread, shift))
    assert found == pytest.approx(truth, abs=30)  # three standard errors
    assert (shift, spread) == (0.0, 0.3) or found > 100


def test_a_single_image_of_a_prompt_has_no_mmd():
    assert "mmd" not in gather._fractions(torch.zeros(1, 4).double(), torch.randn(8, 4).double())


def test_images_of_another_first_seed_are_others_in_other_files(folder, small, tmp_path):
    """With first seed 1, the first image is the second of a run with first seed 0; on latents they are independent."""
    setup = jobs.Setup(folder, None, PROMPTS, 4)
    for seed in (0, 1):
        jobs.drawn(setup, "mlp", "ddim", "an owl", 2, tmp_path, seed=seed)
    pixels = [np.load(tmp_path / f"{stem}-an_owl.npz")["pixels"] for stem in ("mlp-ddim-2", "mlp-ddim-2-s1")]
    assert np.abs(pixels[1][0].astype(int) - pixels[0][1]).max() <= 1
    assert np.abs(pixels[1][1].astype(int) - pixels[0][1]).max() > 1


def test_sdi_with_its_published_guidance_runs_on_request():
    assert "sdi_published" not in Setting().complete().methods
    assert set(Setting().complete().methods) | {"sdi_published"} == set(METHODS)
    asked = Setting(methods=("sdi", "sdi_published")).complete()
    assert {method for block, method in asked.table() if block.name == "mlp"} == {"sdi", "sdi_published"}
    for recipes, more in ((RECIPES, ()), (OBJECT_RECIPES, (None,))):
        published, ours = recipes["sdi_published"], recipes["sdi"]
        assert (published.guidance, published.steps) == (8.5, ours.steps)
        assert published.estimator(8.5, *more).noise == Inverted(10, -6.5, 0.3)
        assert ours.estimator(8.5, *more).noise == Inverted(10, -8.5, 0.3)


def test_budgets_are_met(prior):
    costs = (("sds", 48, 24), ("msd", 48, 24), ("msd_draws", 48, 2), ("sdi", 48, 2), ("ddim", 48, 24))
    for method, rows, steps in (*costs, ("msd_draws", 1, 1)):
        image = {} if method == "ddim" else {"image": "latents"}
        assert jobs.steps_for(prior, method, "an owl", {"particles": 2, **image}, rows) == steps


def test_equal_blocks_spend_equal_rows(prior, monkeypatch):
    """Every method of the equal blocks comes within a fifth of the budget; shared runs spend it by their own recipe."""
    block, made = BLOCKS["latents_equal"], []
    monkeypatch.setattr(jobs, "text_to_image", lambda *a, **k: made.append(text_to_image(*a, **k)) or made[-1])
    for method, recipe in block.methods.items():
        given = {"particles": 1, "recipe": recipe, **({} if recipe is None else {"image": "latents"})}
        steps = jobs.steps_for(prior, method, "an owl", given, block.rows)
        one = made[-1].counts["rows"]
        assert made[-1].request.steps == 1
        assert abs(steps * one - block.rows) <= block.rows / 5, (method, steps, one)
        if method in BLOCKS["mlp_equal"].shared:
            assert steps == recipe.steps["mlp"], method


def test_snapshots_are_few_and_end_at_the_last_step():
    assert jobs.snapshots(1) == [1]
    assert jobs.snapshots(2) == [1, 2]
    shots = jobs.snapshots(400)
    assert shots[0] == 1
    assert shots[-1] == 400
    assert 10 < len(shots) <= jobs.SNAPSHOTS
    assert all(b / a < 2.1 for a, b in pairwise(shots))


def test_where_a_curve_reaches_a_level():
    made = {"nfe": [2.0, 4.0, 8.0], "fid": [9.0, 5.0, 1.0], "clip_sim": [0.0] * 3}
    assert [gather.crossing(made, level) for level in (10.0, 5.0, 2.0, 0.5)] == [2, 4, 8, None]


def test_the_probes_see_what_the_paper_describes(folder, tmp_path, monkeypatch):
    """With a large bandwidth y varies and is far from x, with a small one it is x; one call has no spread."""
    monkeypatch.setattr(jobs, "imagenet", lambda: None)
    monkeypatch.setitem(RECIPES, "msd_mean", replace(RECIPES["msd_mean"], steps=every(4), follow=1))
    monkeypatch.setattr(probes, "BANDWIDTHS", (0.05, 100.0))
    monkeypatch.setattr(probes, "LEVELS", (0.5, 8.0))
    monkeypatch.setattr(jobs, "DDIM_STEPS", 10)
    setup = jobs.Setup(folder, None, PROMPTS, 4)
    jobs.reference(setup, "an owl", tmp_path)
    found = probes.bandwidths(setup, "an owl", tmp_path)
    cells = {width: found["cells"][f"{width:g}"][0] for width in found["bandwidths"]}
    small, large = cells[min(cells)], cells[max(cells)]
    assert small["apart"] < 0.2 < large["apart"]
    assert small["away"] < 0.2 < large["away"]
    assert found["follows"]["0.05"] == pytest.approx(1, abs=0.1)
    assert found["follows"]["100"] < 0.2
    assert (tmp_path / found["image"]).is_file()
    seen = probes.gradients(setup, "an owl", tmp_path)
    assert all(cell["spread"] < 1e-5 and cell["cosine"] > 0.9999 for cell in seen["methods"]["msd_mean"])
    assert all(cell["spread"] > 0.01 for cell in seen["methods"]["sds"])
    assert sum(seen["methods"]["msd_mean"][0]["histogram"]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "magic"], "unknown method magic"),
        (["--blocks", "oil"], "unknown block oil"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--workers", "0"], "workers must be at least 1"),
        (["--prior", "no-such-model-here"], "no-such-model-here"),
        (["--prior", "emoji-edit"], "edits images"),
        (["--prompts", "no-such-file.txt"], "give a text file with one prompt a line"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, sentence, tmp_path, refused):
    assert sentence in refused("bench", "images", *arguments, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_missing_package_is_one_sentence(tmp_path, refused):
    said = refused("bench", "images", "--inception", "--out", tmp_path / "new", code=1)
    assert "pip install torch-fidelity" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [("\n \n", "holds no prompt"), ("an owl\n", "one prompt makes no set"), ("an owl\nAn owl\n", "the same")],
)
def test_prompts_that_make_no_study(lines, sentence, tmp_path, refused):
    (tmp_path / "prompts.txt").write_text(lines)
    assert sentence in refused("bench", "images", "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_chosen_methods_leave_the_ablations_out():
    assert Setting(methods=("ddim", "msd")).complete().blocks == (
        "mlp",
        "latents",
        "mlp_equal",
        "latents_equal",
        "ideal",
    )
    assert set(Setting().complete().blocks) == set(BLOCKS)
    table = Setting(methods=("ddim", "msd")).complete().table()
    assert {method for _, method in table} == {"ddim", "msd"}


def test_files_of_different_runs_have_different_names():
    for block in BLOCKS.values():
        stems = {block.stem(method, 3) for method in block.methods}
        assert len(stems) == len(block.methods), block.name


def test_prompts_come_from_a_file(tmp_path):
    (tmp_path / "prompts.txt").write_text("an owl\n\n  a red apple \n")
    assert setting.read_prompts(tmp_path / "prompts.txt") == PROMPTS


def test_a_method_of_ones_own_is_compared_in_every_block_that_compares_methods(folder, small, tmp_path):
    own = Recipe(SDS, name="mine", steps=1)
    asked = replace(small_setting(folder), methods=("sds", named(own)), blocks=("mlp", "ideal", "mlp_ablation"))
    found = [(block.name, method) for block, method in asked.complete().table() if method == "mine"]
    assert found == [("mlp", "mine"), ("ideal", "mine")]
    block = BLOCKS["mlp"]
    assert block.recipe(named(own)).steps == every(1)
    assert block.recipe("ddim") is None
    assert block.cost(named(own)) < block.cost("sds")
    (tmp_path / "mine.py").write_text("from scoredistill.estimators import SDS as mine\n")
    stem = block.stem(named(f"{tmp_path}/mine.py:mine"), 3)
    (tmp_path / "mine.py").write_text("from scoredistill.estimators import MSD as mine\n")
    assert stem != block.stem(named(f"{tmp_path}/mine.py:mine"), 3)
    assert "mine" in stem
