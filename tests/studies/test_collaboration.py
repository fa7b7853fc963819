"""The study of collaboration: its editors, what it measures, and a whole run."""

import json

import pytest
import torch

from scoredistill import Recipe
from scoredistill.datasets import packaged_media
from scoredistill.estimators import SDS
from scoredistill.priors.counted import Counted
from scoredistill.recipe import named
from scoredistill.studies.collaboration import jobs, study
from scoredistill.studies.collaboration.claims import claims
from scoredistill.studies.collaboration.editors import CHANGE, STYLES, WINDOW, source, windows_of
from scoredistill.studies.collaboration.jobs import ARRANGEMENTS, Case
from scoredistill.studies.collaboration.methods import METHODS, SWEEPS
from scoredistill.studies.collaboration.study import Setting


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("style", STYLES)
def test_answers_change_every_window_by_about_the_same(style):
    y = windows_of(source(1, 8 * WINDOW, seeded()))
    assert y.shape == (8, 3, WINDOW, WINDOW)
    change = (STYLES[style].editor.edits(y) - y).square().mean((1, 2, 3, 4)).sqrt()
    assert (change / CHANGE - 1).abs().max() < 0.5


@pytest.mark.parametrize("style", ["tint", "pattern", "contrast", "recolor"])
def test_exact_answers_measure_as_such(style):
    prior, before = STYLES[style].editor, source(1, 4 * WINDOW, seeded())
    answers = [torch.cat(list(answer), -1)[None] for answer in prior.edits(windows_of(before))]
    one = jobs.metrics(prior, before, answers[1])
    assert (one["agreement"], one["one"]) == (1, 1)
    assert one["strength"] == pytest.approx(1, abs=1e-5)
    assert max(one["error"], one["together"]) < 1e-5
    half = torch.cat([answers[0][..., : 2 * WINDOW], answers[1][..., 2 * WINDOW :]], -1)
    two = jobs.metrics(prior, before, half)
    assert (two["agreement"], two["one"]) == (0.5, 0)
    assert two["error"] < 1e-5
    assert two["together"] > 0.5
    nothing = jobs.metrics(prior, before, before)
    assert abs(nothing["strength"]) < 1e-6
    assert nothing["error"] == pytest.approx(1, abs=0.2)


def test_frames_move_over_one_canvas():
    frames = source(8, WINDOW, seeded())
    assert frames.shape == (8, 3, WINDOW, WINDOW)
    assert torch.equal(frames[1, ..., :-2], frames[0, ..., 2:])


@pytest.mark.parametrize("name", ["overlapping", "frames"])
def test_all_methods_cost_about_the_same(name):
    arrangement = ARRANGEMENTS[name]
    prior = STYLES["tint"].editor
    before = source(arrangement.frames, 2 * WINDOW if arrangement.frames == 1 else WINDOW, seeded())
    rows = {}
    for method in ("crops", "windows", "uncoupled", "target_affine_8"):
        counted = Counted(prior)
        jobs.edited(prior, counted, before, method, arrangement, 0)
        rows[method] = counted.rows
    assert rows["uncoupled"] == 2 * SWEEPS * (3 if arrangement.frames == 1 else 8)
    assert set(rows.values()) <= {rows["uncoupled"]}


def test_sharing_targets_of_an_affine_map_gives_one_whole_edit(tmp_path):
    """The claim of the study in small: alone, windows end in different answers; coupled, in one, at full strength."""
    runs = {m: jobs.measured(Case(m, "contrast", "disjoint", 2), tmp_path)["runs"] for m in ("uncoupled", "csd_tone_8")}
    assert max(run["one"] for run in runs["uncoupled"]) == 0
    assert min(run["one"] for run in runs["csd_tone_8"]) == 1
    assert min(run["strength"] for run in runs["csd_tone_8"]) > 0.9


def test_the_plan_has_every_case_once():
    full = [job.name for job in study.plan(Setting().complete())]
    assert len(set(full)) == len(full)
    assert len(full) == 6 + len(STYLES) * len(ARRANGEMENTS) * len(METHODS)
    for wrong in ({"methods": ("none",)}, {"styles": ("none",)}, {"arrangements": ("none",)}, {"runs": -1}):
        with pytest.raises(ValueError, match=r"unknown|at least 1"):
            Setting(**wrong).complete()


def test_a_run(tmp_path, monkeypatch):
    photograph = packaged_media.image
    monkeypatch.setattr(packaged_media, "image", lambda name, height: photograph(name, height // 2))
    setting = Setting(("tint",), ("disjoint",), 2, methods=("crops", "uncoupled", "csd_means_8"))
    page = study.study(setting, tmp_path / "out", workers=1, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    part = results["parts"]["tint, disjoint"]
    assert part["methods"]["csd_means_8"]["one"]["mean"] == 1
    assert part["paired"]["csd_means_8 - uncoupled"]["one"]["mean"] == 1
    assert set(part["rows"].values()) == {128}
    assert results["panorama"]["crops"] > 1
    text = page.read_text()
    assert "One color" in text
    assert "ends in one answer more often" in text
    assert (tmp_path / "out" / "preview.png").is_file()
    assert "CSD, means, scale 8" in (tmp_path / "out" / "tables.md").read_text()


def test_claims_without_the_uncoupled_method_and_impossible_settings(tmp_path):
    cell = {"one": {"mean": 1.0, "std": 0.1, "n": 4}}
    methods = {name: {"strength": {"mean": 1.0}} for name in ("csd_whole_8", "target_affine_8")}
    said = claims(
        {"parts": {"contrast, disjoint": {"methods": methods, "paired": {"target_affine_8 - csd_whole_8": cell}}}}
    )
    assert [each["verdict"] for each in said] == ["holds"]
    with pytest.raises(ValueError, match="at least 1"):
        Setting(runs=0).complete()
    with pytest.raises(ValueError, match="compares couplings of one editor"):
        Setting(methods=(named(Recipe(SDS, name="windows")),)).complete()


def test_crops_do_not_overlap():
    prior, before = STYLES["tint"].editor, source(1, 2 * WINDOW, seeded())
    made = {
        m: jobs.edited(prior, Counted(prior), before, m, ARRANGEMENTS["overlapping"], 0) for m in ("crops", "windows")
    }
    assert jobs.metrics(prior, before, made["crops"])["strength"] > 0.95
    assert not torch.equal(made["crops"], made["windows"])
