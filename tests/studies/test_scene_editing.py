"""The scene-editing study: how many views are sufficient, the plan, and a whole run with made-up edits."""

import json
from types import SimpleNamespace

import pytest
import torch

from scoredistill.datasets import synthetic_scenes
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.studies.harness.claims import FAILS, HOLDS, MISSING, WITHIN
from scoredistill.studies.scene_editing import jobs, study
from scoredistill.studies.scene_editing.claims import claims, sufficient_views
from scoredistill.studies.scene_editing.jobs import Case, Setup
from scoredistill.studies.scene_editing.study import Setting
from scoredistill.three_d.camera import orbit
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.scenes.base import PLAIN, Rendering, Scene

NIGHT = "make it night"


def line(**numbers):
    """views -> scene -> figures, from "v4" = (PSNR in each scene)."""
    return {int(n[1:]): {s: {"truth_psnr": v} for s, v in enumerate(values)} for n, values in numbers.items()}


def test_sufficient_views_are_within_one_standard_error_of_the_best():
    found = line(v1=(10.0, 12.0), v4=(19.5, 23.0), v8=(20.0, 23.0), v16=(19.0, 22.0))
    # best is 8; 4 is behind by 0.5 and 0, mean .25 and standard error .25; 1 by 10 and 11, 10.5 and .5
    assert sufficient_views(found, "truth_psnr") == 4
    assert sufficient_views(line(v1=(10.0, 12.0), v4=(19.0, 22.0), v8=(20.0, 23.0)), "truth_psnr") == 8
    assert sufficient_views(line(v1=(20.0,), v4=(21.0,)), "truth_psnr") is None  # one case has no standard error
    assert sufficient_views({}, "truth_psnr") is None
    lower = {n: {s: {"view_distance": f["truth_psnr"]} for s, f in cases.items()} for n, cases in found.items()}
    assert sufficient_views(lower, "view_distance") == 1  # less is better


def test_claims_say_what_the_gain_costs_in_direction():
    cell = lambda mean, std: {"mean": mean, "std": std, "n": 9}
    paired = {
        "csd - one_view": {
            "consistency": cell(1.0, 0.1),
            "view_distance": cell(0.1, 0.01),
            "direction": cell(-2.0, 3.0),
        }
    }
    found = {claim["claim"]: claim for claim in claims({"paired": paired})}
    gain = found["view consistency: csd > one_view"]
    assert gain["verdict"] == HOLDS
    assert gain["ours"].endswith("direction -2.00 ± 3.00")
    assert found["view distance: csd < one_view"]["verdict"] == FAILS
    assert found["direction: csd > one_view"]["verdict"] == WITHIN
    assert found["view consistency: csd > uncoupled"]["verdict"] == MISSING


def test_the_plan_has_every_case_once():
    setting = Setting().complete()
    names = [job.name for job in study.plan(setting)]
    assert len(set(names)) == len(names) == 3 * 3 * (2 + 3) + 2 * len(study.VIEWS)
    assert [job.name for job in study.fits(setting)] == ["fit-duck", "fit-toys", "fit-table"]
    quick = Setting(quick=True).complete()
    assert len(study.plan(quick)) == 2 + 2
    assert len(study.plan(Setting(methods=("csd",), seeds=2).complete())) == 9 * (2 + 2)


def test_names_tell_runs_apart():
    cases = [
        Case("csd", "duck", NIGHT),
        Case("csd", "duck", NIGHT, seed=1),
        Case("csd", "duck", NIGHT, settings=(("views", 2),)),
    ]
    assert len({case.name for case in cases}) == len({case.part for case in cases}) == 3


class Sphere(Scene):
    """A gray disc before white; edited, it is what the function makes of that."""

    def __init__(self, change=lambda x: x):
        super().__init__()
        self.level, self.change = torch.nn.Parameter(torch.tensor(0.5)), change

    def render(self, cameras, look=PLAIN, normals=False):
        rgb = self.change(disc(cameras, self.level.detach()))
        return Rendering(rgb, rgb[:, :1], rgb[:, :1])


def disc(cameras, level=0.5):
    n, (h, w) = len(cameras), cameras.size
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    inside = ((x**2 + y**2) < 0.5).float()
    turned = (cameras.azimuth / 360)[:, None, None, None] * torch.tensor([0.4, 0.0, -0.4])[:, None, None]
    return (inside * (level + turned) + 1 - inside).expand(n, 3, h, w)


def photographed(scene, out, views, held_out, size):
    out.mkdir(parents=True)
    cameras = orbit(views + held_out, 10.0, size=(size, size))
    CAPTURES[scene] = Capture(
        disc(cameras), cameras, tuple(f"{i}.png" for i in range(len(cameras))), tuple(range(0, len(cameras), 5))
    )


CAPTURES: dict[str, Capture] = {}


def fake_edit(capture, instruction, prior, method, *, fitted, seed, **settings):
    edit = next(e for e in EDITS.values() if e.instructions[0] == instruction)
    change = edit if method == "csd" else lambda x: 0.5 * x + 0.5 * edit(x)
    counts = {"rows": 480, "calls": 9, "encoded": 16, "decoded": 16}
    return SimpleNamespace(scene=Sphere(change), counts=counts, seconds=1.0)


@pytest.fixture
def pretended(monkeypatch):
    jobs._truth.cache_clear()
    monkeypatch.setattr(study, "find_spec", lambda name: True)
    monkeypatch.setattr(synthetic_scenes, "make", photographed)
    monkeypatch.setattr(synthetic_scenes, "render", lambda name, cameras: SimpleNamespace(rgb=disc(cameras)))
    monkeypatch.setattr(jobs, "_capture", lambda folder: CAPTURES[folder.name])
    monkeypatch.setattr(jobs, "fit_scene", lambda capture, state=None: Sphere())
    monkeypatch.setattr(jobs, "edit_scene", fake_edit)
    yield
    jobs._truth.cache_clear()


def test_the_whole_study_runs_and_goes_on(pretended, tmp_path):
    out = tmp_path / "study"
    report = study.study(Setting(quick=True), out, workers=1, progress=False)
    results = json.loads((out / "results.json").read_text())
    assert results["failed"] == {}
    assert results["methods"]["csd"]["truth_psnr"]["mean"] == 99  # exactly true
    assert results["methods"]["csd"]["held_psnr"]["mean"] > results["methods"]["one_view"]["held_psnr"]["mean"]
    assert results["methods"]["source"]["truth_psnr"]["mean"] < results["methods"]["one_view"]["truth_psnr"]["mean"]
    assert results["methods"]["source"]["source"]["mean"] == pytest.approx(100, abs=1e-3)
    assert results["methods"]["truth"]["truth_psnr"]["mean"] > 20
    assert "held_psnr" not in results["methods"]["truth"]
    assert results["paired"]["csd - one_view"]["truth_psnr"]["n"] == 1
    assert results["paired"]["csd - one_view"]["truth_psnr"]["clusters"] == 1
    assert "std" not in results["paired"]["csd - one_view"]["truth_psnr"]  # one scene says nothing about others
    assert results["fits"]["duck"]["novel_psnr"] > 60
    assert {p.name for p in (out / "images").glob("*.gif")} == {
        "source-duck.gif", "csd-duck-make_it_night.gif", "one_view-duck-make_it_night.gif",
    }  # fmt: skip
    assert report.read_text().count("data:image/gif") == 3
    assert "| Instruct-NeRF2NeRF | publication | 0.230 |" in (out / "tables.md").read_text()
    parts = {p: p.stat().st_mtime_ns for p in (out / "parts").glob("*.json")}
    study.study(Setting(quick=True), out, workers=1, progress=False)
    assert parts == {p: p.stat().st_mtime_ns for p in (out / "parts").glob("*.json")}


def test_a_sweep_over_views_says_how_many_are_sufficient(pretended, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "METHODS", ("csd",))
    monkeypatch.setattr(study, "VIEWS", (3, 6))
    setting = Setting(scenes=("duck", "toys"), instructions=(NIGHT,))
    report = study.study(setting, tmp_path / "study", workers=1, progress=False)
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert [point["views"] for point in results["sweep"]] == [3, 6, 40]
    assert results["sufficient_views"] == {"truth_psnr": 3, "consistency": 3}  # the made-up edits are all alike
    assert "against edited views" in report.read_text()


def test_a_scene_without_a_fit_is_said_to_have_none(pretended, tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="duck was not fitted"):
        jobs.edited(Setup("emoji-edit"), Case("csd", "duck", NIGHT), tmp_path / "images")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"scenes": ("moon",)}, "unknown scene moon"),
        ({"instructions": ("change the colors",)}, "unknown instruction"),
        ({"scenes": ("duck", "duck")}, "named twice"),
        ({"prior": "emoji"}, "follows no instructions"),
    ],
)
def test_impossible_studies_are_refused(asked, says, pretended, refused_study):
    refused_study(study.study, Setting(**asked), says)


def test_a_missing_renderer_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'scoredistill\[scenes\]'"):
        study.study(Setting(quick=True), tmp_path / "out", workers=1)


def test_the_command_refuses_options_of_other_studies(tmp_path, refused):
    assert "belong to bench images" in refused("bench", "scenes", "--clip", "other", "--out", tmp_path / "out")
