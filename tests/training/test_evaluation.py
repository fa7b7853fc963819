"""Evaluation of the bundled models: figures of editors with known results."""

import pytest
import torch

from scoredistill.cli import main
from scoredistill.datasets.emoji import Emoji
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.priors.pipelines.stable_diffusion import StableDiffusionPrior
from scoredistill.training.editor import INSTRUCTIONS
from scoredistill.training.evaluation import editor, evaluator

EDIT_BY_INSTRUCTION = {text: edit for edit in EDITS.values() for text in edit.instructions}
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


PRIOR, EMOJI = object.__new__(StableDiffusionPrior), object.__new__(Emoji)  # passed on, never used


class MeanColor(evaluator.Evaluator):
    """Its image features are mean colors; its text features are set by the test."""

    def features(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=-1)


EVALUATOR = object.__new__(MeanColor)


def perfect(prior, images, instructions, **options):
    """The reference edit of each image; the image itself for an empty instruction."""
    rows = [EDIT_BY_INSTRUCTION[text](image[None], rng=torch.Generator().manual_seed(0)) if text else image[None]
            for image, text in zip(images, instructions, strict=True)]  # fmt: skip
    return torch.cat(rows)


def lazy(prior, images, instructions, **options):
    """Every image unchanged."""
    return images


def test_psnr_is_its_formula():
    assert evaluator.psnr(IMAGES * 0 + 0.5, IMAGES * 0 + 0.6) == pytest.approx(20.0, abs=1e-4)
    assert evaluator.psnr(IMAGES, IMAGES) == pytest.approx(100.0)


def test_a_perfect_editor_gains_all_and_a_lazy_one_nothing(monkeypatch):
    monkeypatch.setattr(editor, "reconstruction", lambda prior, images: (images + 0.1).clamp(0, 1))
    monkeypatch.setattr(editor, "direction", lambda evaluator, before, after, caption: float((after != before).any()))
    monkeypatch.setattr(editor, "edited", perfect)
    found = editor.procedural(PRIOR, EVALUATOR, IMAGES, "photographs")
    exact = [edit for edit in EDITS.values() if edit.exact]
    source = sum(evaluator.psnr(IMAGES, edit(IMAGES)) for edit in exact) / len(exact)
    assert found["photographs_psnr_edited"] == pytest.approx(100.0)
    assert found["photographs_psnr_source"] == pytest.approx(source)
    assert found["photographs_gain"] == pytest.approx(100 - source)
    assert 19 < found["photographs_psnr_ceiling"] < 25
    assert len([name for name in found if name.startswith("photographs_gain_")]) == len(exact)
    assert found["photographs_direction"] == 1.0
    monkeypatch.setattr(editor, "edited", lazy)
    idle = editor.procedural(PRIOR, EVALUATOR, IMAGES, "photographs")
    assert idle["photographs_gain"] == pytest.approx(0.0)
    assert idle["photographs_direction"] == 0.0


def test_an_empty_instruction_is_measured_against_the_source_and_its_reconstruction(monkeypatch):
    monkeypatch.setattr(editor, "edited", lazy)
    monkeypatch.setattr(editor, "reconstruction", lambda prior, images: images + 0.1)
    found = editor.unchanged(PRIOR, IMAGES)
    assert found["empty_psnr_to_source"] == pytest.approx(100.0)
    assert found["empty_psnr_to_reconstruction"] == pytest.approx(20.0, abs=1e-4)


def test_directions_are_cosines_of_differences(monkeypatch):
    words = {"a picture": [1.0, 0.0, 0.0], "a picture, at night": [0.0, 0.0, 1.0]}
    monkeypatch.setattr(editor.towers, "tokens", lambda tokenizer, texts: texts)
    monkeypatch.setattr(editor.towers, "text_features", lambda model, texts: torch.tensor([words[t] for t in texts]))
    monkeypatch.setattr(MeanColor, "tokenizer", None, raising=False)
    monkeypatch.setattr(MeanColor, "model", None, raising=False)
    red, blue = torch.zeros(2, 2, 3, 4, 4)
    red[:, 0], blue[:, 2] = 1, 1
    assert editor.direction(EVALUATOR, red, blue, "at night") == pytest.approx(1.0)
    assert editor.direction(EVALUATOR, blue, red, "at night") == pytest.approx(-1.0)


def test_the_grid_shows_edits_beside_the_truth(monkeypatch, tmp_path):
    monkeypatch.setattr(editor, "held_out", lambda emoji, n: (IMAGES, IMAGES.flip(0)))
    monkeypatch.setattr(editor, "edited", lambda prior, images, texts, seed: images)
    grid = editor.edit_grid(PRIOR, EMOJI, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").exists()
    assert grid.width > 17 * 32
    assert all(text in EDIT_BY_INSTRUCTION for text in INSTRUCTIONS)


@pytest.mark.parametrize("option", ["--out", "--sheet"])
def test_figures_and_grids_need_a_file(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["prior", "evaluate", "emoji", option, str(tmp_path)])
    assert stop.value.code == 2
    assert f"is a directory: give a file for {option}" in capsys.readouterr().err
