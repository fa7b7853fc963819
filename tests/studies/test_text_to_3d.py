"""The text-to-3D study: paired differences, verdicts, the plan, and a whole run with made-up objects."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from scoredistill.studies.harness.claims import MISSING, WITHIN
from scoredistill.studies.harness.jobs import StudyDirectory
from scoredistill.studies.text_to_3d import jobs, study
from scoredistill.studies.text_to_3d.claims import claims
from scoredistill.studies.text_to_3d.jobs import Case
from scoredistill.studies.text_to_3d.study import Setting
from scoredistill.tasks.object_generation import request
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES
from scoredistill.three_d.scenes.base import PLAIN, Rendering, Scene


def test_claims_are_orders_of_methods():
    cell = lambda mean: {"clip_sim": {"mean": mean, "std": 1.0, "n": 15}}
    paired = {"msd - sdi": cell(5.0), "sdi - sds": cell(1.0), "csd - sds": cell(-3.0)}
    said = claims({"paired": paired})
    assert said[0]["claim"] == "CLIP-SIM: msd > sdi > sds"
    assert "msd - sdi +5.00 ± 1.00 (n = 15)" in said[0]["ours"]
    assert said[-1]["verdict"] == MISSING  # geometry


def test_the_plan_has_every_case_once():
    names = [job.name for job in study.plan(Setting().complete())]
    assert len(set(names)) == len(names)
    main_runs = 5 * 4 * 3
    own = sum(OBJECT_RECIPES[m].views in study.VIEWS for m in study.SWEPT)
    swept = 2 * sum(len({*study.VIEWS, OBJECT_RECIPES[m].views}) - 1 for m in study.SWEPT)
    assert len(names) == 5 + main_runs + swept
    assert own > 0  # a run of the main table is part of the sweep
    assert len(study.plan(Setting(quick=True).complete())) == 2 + 4
    assert len(study.plan(Setting(methods=("sds", "vsd"), seeds=2).complete())) == 5 + 5 * 2 * 2


def test_views_per_step_change_but_not_their_total():
    for method, line in study.swept(Setting().complete()).items():
        recipe = OBJECT_RECIPES[method]
        for views, cases in line.items():
            for case in cases:
                assert case.request.views == views
                assert case.request.steps * views == pytest.approx(recipe.steps * recipe.views, abs=views / 2)


def test_jobs_are_named_anew_when_a_recipe_changes(monkeypatch):
    before = Case("sds", "emoji", "a tulip").part
    assert Case("sds", "emoji", "a tulip").part == before
    changed = {**OBJECT_RECIPES, "sds": replace(OBJECT_RECIPES["sds"], lr=0.5)}
    monkeypatch.setattr(request, "OBJECT_RECIPES", changed)
    assert Case("sds", "emoji", "a tulip").part != before
    assert Case("sds", "emoji", "a tulip").name == "sds-a_tulip-s0"


class Ball(Scene):
    """A disc of one color, which looks the same from everywhere."""

    def __init__(self, color):
        super().__init__((16, 16))
        self.color = torch.nn.Parameter(torch.tensor(color))

    def render(self, cameras, look=PLAIN, normals=False):
        n, (h, w) = len(cameras), cameras.size
        y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        inside = ((x**2 + y**2) < 0.5).float().expand(n, 1, h, w)
        color = self.color if look.shading is None else torch.full((3,), float(look.shading[0]) / 4)
        rgb = inside * color[:, None, None] + 1 - inside
        return Rendering(rgb, inside, inside)


def fake_object(prompt, prior, method, *, seed=0, **settings):
    scene = Ball([1.0 if method == "msd" else 0.1 * seed, 0.2, 0.2])
    pixels = tuple(int(255 * v) for v in scene.color.tolist())
    images = [Image.new("RGB", (16, 16), pixels) for _ in range(12)]
    return SimpleNamespace(
        scene=scene,
        images=images,
        counts={"rows": 7, "calls": 1, "encoded": 2, "decoded": 3},
        seconds=0.5,
        history=[{}],
    )


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr(jobs, "text_to_3d", fake_object)
    image = SimpleNamespace(images=[Image.new("RGB", (16, 16), "red")] * 4, counts={"rows": 240}, seconds=4.0)
    monkeypatch.setattr(jobs, "text_to_image", lambda *_, **__: image)


def test_metrics_of_an_object_that_looks_the_same_from_everywhere():
    scene = Ball([1.0, 0.0, 0.0])
    views = [Image.new("RGB", (16, 16), "red")] * 12
    found = jobs.evaluate(scene, views, "a red apple")
    assert found["view_consistency"] == pytest.approx(100, abs=1e-3)
    assert found["view_distance"] == pytest.approx(0, abs=1e-5)
    assert found["clip_sim"] == pytest.approx(found["clip_sim_worst_view"], abs=1e-3)
    assert found["clip_geometry"] != pytest.approx(found["clip_sim"], abs=0.1)
    assert 0.3 < found["opacity"] < 0.5
    odd = [Image.new("RGB", (16, 16), "blue"), *views[1:]]
    found = jobs.evaluate(scene, odd, "a red apple")
    assert found["clip_sim_front"] != pytest.approx(found["clip_sim"], abs=0.1)
    assert found["view_distance"] > 1e-3


def test_the_circle_is_closed():
    scene, half = Ball([1.0, 0.0, 0.0]), ["red"] * 6 + ["blue"] * 6
    views = [Image.new("RGB", (16, 16), color) for color in half]
    once = jobs.evaluate(scene, [views[5], views[6]], "a")["view_distance"]  # there and back: two equal jumps
    assert jobs.evaluate(scene, views, "a")["view_distance"] == pytest.approx(2 * once / 12, rel=1e-3)


def test_the_whole_study_runs_and_goes_on(pretended, tmp_path):
    out = tmp_path / "study"
    setting = Setting(quick=True, seeds=2)
    report = study.study(setting, out, workers=1, progress=False)
    results = json.loads((out / "results.json").read_text())
    assert results["failed"] == {}
    assert results["ddim"]["rows"]["mean"] == 60
    assert (
        results["paired"]["msd - sds"]["clip_sim"]["n"],
        results["paired"]["msd - sds"]["clip_sim"]["clusters"],
    ) == (4, 2)
    assert set(results["by_prompt"]["a red apple"]) == {"ddim", "sds", "msd"}
    assert results["methods"]["sds"]["clip_sim"]["std"] > 0
    assert (out / "images" / "msd-a_hamburger-s0.gif").is_file()
    assert (out / "images" / "msd-a_hamburger-s1.gif").is_file()
    assert Image.open(out / "images" / "sds-a_red_apple-s1.png").size == (12 * 96, 96)
    assert (out / "preview.png").is_file()
    page, tables = report.read_text(), (out / "tables.md").read_text()
    assert page.count("data:image/gif") == 4
    assert "| CLIP-SIM: msd > sds |" in tables
    assert "| msd | ours |" in tables
    parts = {p: p.stat().st_mtime_ns for p in (out / "parts").glob("*.json")}
    study.study(setting, out, workers=1, progress=False)
    assert parts == {p: p.stat().st_mtime_ns for p in (out / "parts").glob("*.json")}


def test_objects_of_one_prompt_are_not_independent(tmp_path):
    """msd - sds is 1 for every seed of one prompt and 3 for the other: 2 ± 1 on two prompts, not on six pairs."""
    setting = Setting(prompts=("a tulip", "a castle"), seeds=3, methods=("sds", "msd")).complete()
    directory = StudyDirectory(tmp_path / "out", {})
    for method, cases in study.main_cases(setting).items():
        for (prompt, seed), case in cases.items():
            gain = {"a tulip": 1.0, "a castle": 3.0}[prompt] * (method == "msd")
            (directory.folder / f"{case.part}.json").write_text(json.dumps({"clip_sim": 50 + seed + gain}))
    results = study.gather(setting, directory)
    cell = results["paired"]["msd - sds"]["clip_sim"]
    assert cell == {"mean": pytest.approx(2), "std": pytest.approx(1), "n": 6, "clusters": 2}
    assert claims(results)[2] == {
        "claim": "CLIP-SIM: msd > sds", "ours": "msd - sds +2.00 ± 1.00 (n = 6 in 2 clusters)", "verdict": WITHIN,
    }  # fmt: skip


def test_a_sweep_is_gathered_and_drawn(pretended, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "METHODS", ("msd", "csd"))
    setting = Setting(prompts=("a tulip", "a castle"), seeds=1)
    report = study.study(setting, tmp_path / "study", workers=1, progress=False)
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert [point["views"] for point in results["sweep"]["msd"]] == [2, 4, 12]
    assert "CLIP-SIM against views per step" in report.read_text()


def test_a_failed_job_is_reported(pretended, tmp_path, monkeypatch):
    def broken(prompt, prior, method, **settings):
        if method == "msd":
            raise FloatingPointError("nan")
        return fake_object(prompt, prior, method, **settings)

    monkeypatch.setattr(jobs, "text_to_3d", broken)
    study.study(Setting(quick=True), tmp_path / "study", workers=1, progress=False)
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert len(results["failed"]) == 2
    assert set(results["methods"]) == {"sds"}
    assert "FloatingPointError" in (tmp_path / "study" / "report.html").read_text()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"methods": ("sds", "sds")}, "named twice"),
        ({"prompts": ("a cat", "A cat")}, "two prompts are the same"),
        ({"prior": "emoji-edit"}, "edits images"),
    ],
)
def test_impossible_studies_are_refused(asked, says, refused_study):
    refused_study(study.study, Setting(**asked), says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["objects", "--blocks", "mlp"], "belong to bench images"),
        (["scenes", "--prompts", "list.txt"], "belongs to bench images and bench objects"),
        (["objects", "--methods", "magic"], "unknown method magic"),
    ],
)
def test_the_command_refuses_what_belongs_to_other_studies(arguments, says, tmp_path, refused):
    assert says in refused("bench", *arguments, "--out", tmp_path / "out")


def test_a_method_of_ones_own_is_an_object_study_row(tmp_path):
    (tmp_path / "mine.py").write_text("from scoredistill.estimators import SDS\nmine = lambda: SDS()\n")
    asked = Setting(methods=("sds", f"{tmp_path}/mine.py:mine"), seeds=1).complete()
    (first, *_) = study.main_cases(asked)["mine"].values()
    assert first.request.steps == OBJECT_RECIPES["sds"].steps
    before = first.part
    (tmp_path / "mine.py").write_text("from scoredistill.estimators import SDS as S\nmine = lambda: S()\n")
    again = Setting(methods=("sds", f"{tmp_path}/mine.py:mine"), seeds=1).complete()
    assert next(iter(study.main_cases(again)["mine"].values())).part != before
    assert study.gather(again, StudyDirectory(tmp_path / "out", {}))["recipes"]["mine"]["guidance"] == 7.5
