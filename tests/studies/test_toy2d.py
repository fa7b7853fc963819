"""The two-dimensional study: every method runs at its stated cost, studies resume, and results follow their schema."""

import json
import math
from dataclasses import replace

import pytest
import torch

from scoredistill import Recipe
from scoredistill.datasets.toy2d import toy_set
from scoredistill.estimators import SDS
from scoredistill.recipe import named
from scoredistill.studies.toy2d import jobs, study
from scoredistill.studies.toy2d.claims import verdict
from scoredistill.studies.toy2d.denoisers import denoiser, exact
from scoredistill.studies.toy2d.methods import TABLE, VARIANCE_PRESERVING, ZOO
from scoredistill.studies.toy2d.run import run, seen_through, steps_for
from scoredistill.studies.toy2d.study import Setting, plan

F64 = torch.float64
TINY = jobs.Scale(particles=64, draws=4, points=9, side=16, rows=24, image=96)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(jobs, "QUICK", TINY)
    monkeypatch.setattr(jobs, "TRUTH", 256)


@pytest.mark.parametrize("method", ZOO)
def test_every_method_runs_at_equal_rows(method):
    """Guided, on two classes: finite particles, about the rows asked for, the same from the same seed."""
    mixture = exact("fractal", 2)
    done = run(ZOO[method], mixture, 16, 3, jobs.CLASS, jobs.SCALE, rows=48, decay=True)
    again = run(ZOO[method], mixture, 16, 3, jobs.CLASS, jobs.SCALE, rows=48, decay=True)
    assert done.points.shape == (16, 2)
    assert done.points.isfinite().all()
    assert torch.equal(done.points, again.points)
    assert 32 <= done.rows <= 64 + 32 / 16  # collaborative mean shift measures the prior first, with 32 rows for all
    assert len(done.frames) == 1 or torch.equal(done.frames[-1], done.points)


def test_mean_shift_beats_ddim_and_collaboration_keeps_coverage():
    """The claims of Table 2 in small: pinwheel, exact score."""
    found = {m: jobs.quality(run(TABLE[m], exact("pinwheel"), 400, 0), "pinwheel", 0) for m in TABLE if m in CLAIMED}
    assert found["sds"]["nll"] > found["ddim"]["nll"] + 2
    assert found["msd"]["nll"] < found["ddim"]["nll"] - 0.5
    assert found["msd"]["precision"] > 0.95
    assert found["msd"]["recall"] < 0.6 < 0.95 < found["collaborative"]["recall"]
    assert found["collaborative"]["nll"] < found["ddim"]["nll"]
    assert found["collaborative"]["nfe"] < 20.1 < found["ddim"]["nfe"] == 32  # 16 rows for all look for the spread


CLAIMED = ("ddim", "sds", "msd", "collaborative")


def test_a_schedule_is_only_a_way_to_look():
    """The same distribution through another schedule: the same denoiser at the same noise-to-signal ratio."""
    mixture, z, ratio = exact("spiral"), torch.randn(8, 2, dtype=F64), torch.full((8,), 0.3, dtype=F64)
    other = seen_through(mixture, VARIANCE_PRESERVING)
    assert (other.denoise_at(z, ratio) - mixture.denoise_at(z, ratio)).abs().max() < 1e-9
    assert mixture.schedule is not VARIANCE_PRESERVING


@pytest.mark.parametrize(
    ("method", "rows", "steps"), [("sds", 100, 50), ("msd", 40, 20), ("sdi", 48, 2), ("nfsd", 30, 15)]
)
def test_steps_for_a_budget(method, rows, steps):
    """Guided SDS costs 2 rows a step, SDI 10 inversion steps of 2 rows and 2 more."""
    cost = steps_for(ZOO[method], exact("fractal", 2), jobs.CLASS, jobs.SCALE, rows)
    assert cost == steps


def test_gradients_know_the_true_mean_shift(tiny, tmp_path):
    found = jobs.gradients("pinwheel", "exact", 0.316, TINY, True, tmp_path)
    assert found["msd"]["bias"] < 1e-9
    assert found["msd"]["efficiency_true"] == math.inf
    assert found["paper_sigma2"]["bias"] > 0.03
    assert found["paper_sigma2"]["efficiency_paper"] == math.inf > found["paper_sigma2"]["efficiency_true"]
    assert found["ancestral_4"]["efficiency_true"] > found["sds"]["efficiency_true"]
    assert {m: f["rows"] for m, f in found.items() if m in ("sds", "msd", "ancestral_4", "ancestral_4_pair")} == {
        "sds": 1,
        "msd": 1,
        "ancestral_4": 4,
        "ancestral_4_pair": 8,
    }


def test_mean_sds_is_what_sds_averages_to():
    """Stratified, antithetic and shared noise have the mean of independent draws."""
    prior = seen_through(exact("pinwheel"), VARIANCE_PRESERVING)
    x = torch.tensor([[0.9, 0.2], [-0.4, 0.8]], dtype=F64)
    smooth = jobs.mean_sds(prior, x, 400)
    rng = torch.Generator().manual_seed(0)
    n = 6000
    t = 0.02 + 0.96 * torch.rand(n, generator=rng, dtype=F64)
    for i in range(2):
        noise = torch.randn(n, 2, generator=rng, dtype=F64)
        draws = jobs.residual(prior, x[i : i + 1].expand(n, 2), t, noise)
        error = 4 * draws.std(0) / n**0.5
        assert ((draws.mean(0) - smooth[i]).abs() < error + 0.03).all()


def test_a_study_writes_its_schema_and_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch):
    setting = Setting(("pinwheel",), ("exact",), seeds=2, methods=("ddim", "msd"), quick=True)
    assert [job.name for job in plan(setting)] == [
        f"table2-pinwheel-exact-{m}-{s}" for m in ("ddim", "msd") for s in (0, 1)
    ]
    report = study.study(setting, tmp_path / "out", workers=1, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    cell = results["table2"]["pinwheel"]["exact"]["msd"]
    assert {"nll", "precision", "recall", "mmd", "nfe", "std", "seeds"} <= set(cell)
    assert cell["seeds"] == 2
    assert cell["nfe"] == 20
    assert results["failed"] == {}
    html = report.read_text()
    assert "pinwheel, exact denoiser" in html
    assert html.count("<img") == 2

    def table2(*arguments, **settings):
        pytest.fail("measured twice")

    monkeypatch.setattr(jobs, "table2", table2)
    study.study(setting, tmp_path / "out", workers=1, progress=False)


def test_a_study_with_another_first_seed_takes_nothing_from_the_first(tiny, tmp_path):
    """In the same directory: seeds 3 and 4 alone, with images of the first of them; a run of both has each once."""
    cell = lambda: json.loads((tmp_path / "out" / "results.json").read_text())["table2"]["pinwheel"]["exact"]["ddim"]
    asked = lambda **how: Setting(("pinwheel",), ("exact",), methods=("ddim",), quick=True, **how)
    found = {}
    for first, seeds in ((0, 3), (3, 2), (0, 5)):
        study.study(asked(seeds=seeds, seed=first), tmp_path / "out", workers=1, progress=False)
        found[first, seeds] = cell()
    assert [found[key]["seeds"] for key in found] == [3, 2, 5]
    assert 3 * found[0, 3]["nll"] + 2 * found[3, 2]["nll"] == pytest.approx(5 * found[0, 5]["nll"])
    assert found[0, 3]["nll"] != found[3, 2]["nll"]
    names = {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert names == {"pinwheel-exact-ddim.png", "pinwheel-exact-ddim-s3.png"}
    setting = json.loads((tmp_path / "out" / "results.json").read_text())["setting"]
    assert setting["seed"] == 0


def test_figures_have_the_first_seed(tiny, tmp_path):
    """Numbers of random figures change with the seed, and the image has it in its name."""
    found = [jobs.product_density("pinwheel", 0.316, TINY, True, tmp_path, seed=s) for s in (0, 0, 5)]
    assert found[0] == found[1] != found[2]
    assert {path.name for path in tmp_path.iterdir()} == {"product-pinwheel-0.316.png", "product-pinwheel-0.316-s5.png"}
    x = torch.zeros(1, 2, dtype=F64)
    fields = [jobs.mean_sds(exact("pinwheel"), x, 4, seed) for seed in (0, 5)]
    assert not torch.equal(*fields)


def test_a_whole_study_has_every_block(tiny, tmp_path, monkeypatch):
    few = {m: TABLE[m] for m in ("ddim", "sds", "msd")}
    monkeypatch.setattr(study, "ZOO", few)
    monkeypatch.setattr(study, "TABLE", few)
    monkeypatch.setattr(study, "GUIDED", ("msd",))
    setting = Setting(("spiral",), ("exact",), seeds=1, methods=tuple(few), quick=True)
    study.study(setting, tmp_path / "out", workers=1, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for block in ("table2", "table1", "bias", "landscape", "ranking", "guided", "product"):
        assert results[block], block
    assert set(results["landscape"]["spiral"]) == {"sds", "msd_0.316", "msd_0.1", "msd"}
    assert {"peaks", "off_distribution"} <= set(results["landscape"]["spiral"]["sds"])
    assert results["bias"]["spiral"]["exact"]["0.316"]["msd"] < 1e-9
    assert set(results["ranking"]["sds"]["gradient"]) == {"bias", "std"}
    tables = (tmp_path / "out" / "tables.md").read_text()
    for line in (
        "## Table 2: spiral, exact denoiser",
        "| spiral | msd_0.1 |",
        "| ddim |",
        "| msd | 1 | 0.000 | 0.000 | ∞ | ∞ | 6.32 |",
    ):
        assert line in tables
    assert (tmp_path / "out" / "images" / "zoo-msd.gif").is_file()


def test_a_method_that_breaks_down_is_reported(tiny, tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise FloatingPointError("particles are not finite after step 3 of 20")

    monkeypatch.setattr(jobs, "run", broken)
    setting = Setting(("pinwheel",), ("exact",), seeds=1, methods=("msd",), quick=True)
    report = study.study(setting, tmp_path / "out", workers=1, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["failed"] == {"table2-pinwheel-exact-msd-0": "FloatingPointError: " + BROKEN}
    assert BROKEN in report.read_text()


BROKEN = "particles are not finite after step 3 of 20"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "circle"], "unknown set circle"),
        (["--method", "magic"], "unknown method magic"),
        (["--denoiser", "oracle"], "unknown denoiser oracle"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--workers", "0"], "workers must be at least 1"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, sentence, tmp_path, refused):
    assert sentence in refused("toy", *arguments, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_someone_else_s_folder_is_left_alone(tmp_path, refused):
    (tmp_path / "letter.txt").write_text("mine")
    assert "holds other files" in refused("toy", "--quick", "--out", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("method", "ours", "said"),
    [
        ("sds", (30.0, 0.1, 0.0), "collapses, as published"),
        ("sds", (0.0, 0.9, 0.8), "does not collapse"),
        ("msd", (-2.0, 0.97, 0.42), "as published"),
        ("msd", (-2.6, 0.90, 0.60), "NLL better, precision worse, recall better"),
    ],
)
def test_verdicts(method, ours, said):
    assert verdict(method, (-2.02, 0.97, 0.42), dict(zip(("nll", "precision", "recall"), ours, strict=True))) == said


def test_denoisers_are_of_the_set(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOREDISTILL_CACHE", str(tmp_path))
    x, r = toy_set("pinwheel").sample(50, torch.Generator().manual_seed(0)), torch.full((50,), 0.3, dtype=F64)
    true = denoiser("exact", "pinwheel").denoise_at(x, r)
    assert (denoiser("ideal", "pinwheel").denoise_at(x, r) - true).abs().max() < 0.05
    with pytest.raises(ValueError, match="unknown denoiser"):
        denoiser("guess", "pinwheel")


MINE = """
from scoredistill import Recipe
from scoredistill.estimators import MSD, SDS

mine = Recipe(SDS, steps=7)
shift = Recipe(MSD, bandwidth=(1.0, 0.1), says="mean shift of a file")
"""


def test_a_method_of_a_file_is_a_row_that_is_measured_again_when_the_file_changes(tiny, tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text(MINE)
    asked = Setting(("spiral",), ("exact",), seeds=1, methods=("sds", f"{file}:mine", f"{file}:shift"), quick=True)
    study.study(asked, out, workers=1, progress=False)
    results = json.loads((out / "results.json").read_text())
    found = results["table2"]["spiral"]["exact"]
    assert {m: cell["nfe"] for m, cell in found.items()} == {"sds": 150, "mine": 7, "shift": 150}
    assert results["method_files"] == {"mine": f"{file}:mine", "shift": f"{file}:shift"}
    assert results["setting"]["methods"] == ["sds", "mine", "shift"]
    assert "| mine |" in (out / "tables.md").read_text()
    assert "mean shift of a file" in (out / "report.html").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.json")}
    file.write_text(MINE.replace("7", "9"))
    study.study(asked, out, workers=1, progress=False)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.json")}
    assert [name for name in before if before[name] != after[name]] == []
    assert len(after) == 3 + 2  # the two methods of the file again
    results = json.loads((out / "results.json").read_text())
    assert results["table2"]["spiral"]["exact"]["mine"]["nfe"] == 9
    assert "mine" in results["descriptions"]
    with pytest.raises(
        ValueError, match=r"plain is in no file, from which other processes could read it: name it as FILE"
    ):
        study.study(
            replace(asked, methods=(named(Recipe(SDS, name="plain")),)), tmp_path / "new", workers=2, progress=False
        )
    with pytest.raises(ValueError, match="a method is named twice"):
        replace(asked, methods=(f"{file}:mine", f"{file}:mine")).complete()


def test_methods_of_files_are_ranked_beside_others(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    mine = f"{tmp_path}/mine.py:mine"
    names = lambda *methods: [job.name for job in plan(Setting(methods=methods, seeds=1, quick=True).complete())]
    assert not any(name.startswith("ranked") for name in names("sds", mine))
    assert [name.split("-")[1] for name in names("sjc", mine) if name.startswith("ranked")] == ["sjc", "mine"]
    assert [name.split("-")[1] for name in names(*TABLE, mine) if name.startswith("ranked")] == [*ZOO, "mine"]
