"""The ablation on a few synthetic emoji: what is skipped, what the report says."""

import json

import numpy as np
import pytest
import torch

from scoredistill.training.ablation import __main__ as command
from scoredistill.training.ablation import report, run
from scoredistill.training.ablation.variants import AUTOENCODERS, BASE, VARIANTS
from scoredistill.training.captions import Description, Item

FIGURES = {
    "change": "none", "images": 1000, "step": 50, "cpu_seconds": 2.0, "flops_per_step": 4e9, "held_out": 0.5,
    "clip_score": 0.3, "name_in_top_5": 0.25, "frechet_to_real": 0.1, "frechet_half_to_half": 0.02, "levels": 16,
    "concepts": 3, **{f"held_out_{length:g}": 0.5 for length in run.LENGTHS},
}  # fmt: skip


def test_names_are_distinct_and_variants_differ_from_the_base():
    for variants in (AUTOENCODERS, VARIANTS):
        assert len({variant.name for variant in variants}) == len(variants)
    known = {variant.name for variant in AUTOENCODERS}
    assert {variant.autoencoder for variant in VARIANTS} <= known
    for variant in VARIANTS[1:]:
        fields = ("recipe", "plan", "text", "mixture", "autoencoder")
        assert [field for field in fields if getattr(variant, field) != getattr(BASE, field)]


def test_descriptions_survive_the_file():
    description = Description((Item("owl", ("bird",), ("night",), "flat", 2), Item("cup")), "on", "blue")
    state = json.loads(json.dumps(run.asdict(description)))
    assert run.description_of(state) == description


def test_edges_are_those_of_the_image_and_blur_lowers_them():
    sharp = (torch.arange(64) > 31).float().expand(2, 3, 64, 64)
    blurry = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2, count_include_pad=False)
    assert run.edges(sharp) == pytest.approx((1 / 63) ** 0.5)
    assert run.edges(blurry) == pytest.approx(run.edges(sharp) / 5**0.5, rel=1e-3)


def test_the_report_keeps_what_is_written_above_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "peak", lambda dtype: 1e12)
    for variant in VARIANTS[:2]:
        folder = tmp_path / "runs" / "unet" / variant.name
        folder.mkdir(parents=True)
        (folder / "figures.json").write_text(json.dumps(FIGURES))
    path = tmp_path / "report.md"
    path.write_text(f"# Findings\n\nMuon wins.\n\n{report.MARKER}\nold tables")
    report.write_report(tmp_path / "runs", tmp_path / "report", "python -m ablation", 7)
    text = path.read_text()
    assert text.startswith("# Findings\n\nMuon wins.\n")
    assert "old tables" not in text
    assert "| base | none | 1,000 | 50 | 100 | 0.5000 | 0.300 | 25.0% | 0.1000 |" in text
    made = json.loads((tmp_path / "report.json").read_text())
    assert (made["seed"], made["command"], list(made["unet"])) == (7, "python -m ablation", ["base", "muon"])
    assert made["machine"]["peak_gflops_bfloat16"] == 1000


def test_complete_variants_are_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(run.Ablation, "autoencoder_of", lambda self, variant: pytest.fail("trained again"))
    folder = tmp_path / "unet" / BASE.name
    folder.mkdir(parents=True)
    (folder / "figures.json").write_text("{}")
    run.Ablation(tmp_path, tmp_path, 1.0).text_to_image(BASE)


def test_each_variant_runs_in_a_process_of_its_own_and_unknown_names_are_refused(tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(command.subprocess, "run", lambda arguments, check: started.append(arguments))
    folders = [
        "--data",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--kind",
        "unet",
        "--workers",
        "2",
        "--no-report",
    ]
    command.main([*folders, "--only", "base", "muon"])
    assert sorted(arguments[arguments.index("--only") + 1] for arguments in started) == ["base", "muon"]
    with pytest.raises(SystemExit):
        command.main([*folders, "--only", "bass"])
    assert "there is no variant bass" in capsys.readouterr().err


def test_the_time_of_a_call_is_its_least():
    assert 0 <= run.milliseconds(lambda: np.ones(10).sum(), 5) < 50
