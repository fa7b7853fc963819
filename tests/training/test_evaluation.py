"""Evaluation of the bundled models: figures of editors with known results."""

import numpy as np
import pytest
import torch

from scoredistill.cli import main
from scoredistill.datasets.emoji import Emoji
from scoredistill.datasets.procedural_edits import EDITS, unit_of
from scoredistill.media.images import resized
from scoredistill.priors.pipelines.stable_diffusion import StableDiffusionPrior
from scoredistill.training import compose
from scoredistill.training.editor import INSTRUCTIONS
from scoredistill.training.evaluation import editor, evaluator, text_to_image

EDIT_BY_INSTRUCTION = {text: edit for edit in EDITS.values() for text in (*edit.instructions, *edit.held_out)}
SIDE = 48
IMAGES = resized(torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)), (SIDE, SIDE))
FEW = {name: EDITS[name] for name in ("night", "tinted green", "other colors", "time of day", "frame", "texture")}
MANY = [edit for edit in FEW.values() if not edit.exact]


class Sized(StableDiffusionPrior):
    """An editor of 48 pixels that is passed on and never used."""

    image_size = (SIDE, SIDE)


PRIOR, EMOJI = object.__new__(Sized), object.__new__(Emoji)


class MeanColor(evaluator.Evaluator):
    """Its image features are mean colors; its text features are set by the test."""

    def features(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=-1)


EVALUATOR = object.__new__(MeanColor)


def perfect(prior, images, instructions, seed=0, **options):
    """A right answer for each image, the same for all of them; the image itself for an empty instruction."""
    rows = [image[None] if not text else
            EDIT_BY_INSTRUCTION[text](image[None], unit_of(SIDE), torch.Generator().manual_seed(seed))
            for image, text in zip(images, instructions, strict=True)]  # fmt: skip
    return torch.cat(rows)


def fickle(prior, images, instructions, **options):
    """Right answers of their own for each image."""
    return torch.cat([perfect(prior, images[i : i + 1], [text], seed=i) for i, text in enumerate(instructions)])


def attentive(prior, images, instructions, **options):
    """Right answers to trained wordings; every image unchanged for others."""
    trained = {text for edit in EDITS.values() for text in edit.instructions}
    return perfect(prior, images, [text if text in trained else "" for text in instructions])


def lazy(prior, images, instructions, **options):
    """Every image unchanged."""
    return images


@pytest.fixture
def emoji():
    """Four concepts in three styles, all held out."""
    y, x = np.mgrid[:64, :64] - 31.5
    alpha = 255 * (x**2 + y**2 < 400).astype(np.uint8)
    rgba = np.stack([np.dstack([np.full((64, 64, 3), 60 * i, np.uint8), alpha]) for i in range(4) for _ in range(3)])
    concept, style = np.divmod(np.arange(12), 3)
    data = Emoji(rgba, concept, style, ("a", "b", "c", "d"), ((),) * 4, ("x", "y", "z"))
    data.__dict__["held_out"] = np.ones(12, dtype=bool)
    return data


@pytest.fixture
def few(monkeypatch):
    """Six of the edits, to be quick."""
    monkeypatch.setattr(editor, "EDITS", FEW)


def test_psnr_is_its_formula():
    assert evaluator.psnr(IMAGES * 0 + 0.5, IMAGES * 0 + 0.6) == pytest.approx(20.0, abs=1e-4)
    assert evaluator.psnr(IMAGES, IMAGES) == pytest.approx(100.0)


def test_a_perfect_editor_gains_all_and_a_lazy_one_nothing(few, monkeypatch):
    monkeypatch.setattr(editor, "reconstruction", lambda prior, images: (images + 0.1).clamp(0, 1))
    monkeypatch.setattr(editor, "direction", lambda evaluator, before, after, caption: float((after != before).any()))
    monkeypatch.setattr(editor, "edited", perfect)
    found = editor.procedural(PRIOR, EVALUATOR, IMAGES, "photographs")
    exact = [edit for edit in FEW.values() if edit.exact]
    source = sum(evaluator.psnr(IMAGES, edit(IMAGES, unit_of(SIDE))) for edit in exact) / len(exact)
    assert found["photographs_psnr_edited"] == pytest.approx(100.0)
    assert found["photographs_psnr_source"] == pytest.approx(source, abs=1e-3)
    assert found["photographs_gain"] == pytest.approx(100 - source, abs=1e-3)
    assert 19 < found["photographs_psnr_ceiling"] < 25
    assert len([name for name in found if name.startswith("photographs_gain_")]) == len(FEW)
    assert found["photographs_direction"] == found["photographs_many_direction"] == 1.0
    assert found["photographs_many_psnr_edited"] > 60
    assert 10 < found["photographs_many_psnr_source"] < 25
    monkeypatch.setattr(editor, "edited", lazy)
    idle = editor.procedural(PRIOR, EVALUATOR, IMAGES, "photographs")
    assert idle["photographs_gain"] == idle["photographs_many_gain"] == pytest.approx(0.0)
    assert idle["photographs_direction"] == 0.0


def test_paraphrases_are_compared_on_the_same_images(few, monkeypatch):
    monkeypatch.setattr(editor, "edited", perfect)
    both = editor.paraphrases(PRIOR, IMAGES[:2])
    assert both["wordings_gain_trained"] == both["wordings_gain_held_out"] > 70
    assert all(both[f"held_out_loss_{edit.name.replace(' ', '_')}"] == pytest.approx(0, abs=1e-3)
               for edit in FEW.values())  # fmt: skip
    monkeypatch.setattr(editor, "edited", attentive)
    narrow = editor.paraphrases(PRIOR, IMAGES[:2])
    assert narrow["wordings_gain_trained"] == both["wordings_gain_trained"]
    assert narrow["wordings_many_gain_trained"] > 40
    assert narrow["wordings_gain_held_out"] == narrow["wordings_many_gain_held_out"] == pytest.approx(0)
    assert narrow["held_out_loss_night"] > 70
    assert editor.in_turn(("a", "b", "c"), 5) == ["a", "b", "c", "a", "b"]


def test_separate_crops_agree_if_they_get_one_answer_and_else_do_not(few, monkeypatch):
    canvases = resized(torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)), (2 * SIDE, 2 * SIDE))
    monkeypatch.setattr(editor, "edited", perfect)
    same = editor.separate_crops(PRIOR, canvases)
    for edit in MANY:
        same_answer = edit.name != "texture"  # whose phase counts from the center of each crop
        assert (same[f"crops_agreement_{edit.name.replace(' ', '_')}"] == 1) == same_answer
    assert same["crops_whole_psnr_time_of_day"] > 60  # while each crop is framed
    assert same["crops_whole_psnr_frame"] < 25
    monkeypatch.setattr(editor, "edited", fickle)
    apart = editor.separate_crops(PRIOR, canvases)
    assert apart["crops_agreement"] < 0.4
    assert 0.05 < apart["crops_chance"] < 0.5
    assert apart["crops_whole_psnr"] < 25
    assert apart["crops_window_psnr"] > apart["crops_whole_psnr"] + 20


def test_backgrounds_are_compared_with_the_named_color(monkeypatch, emoji):
    def colored(prior, images, texts, **options):
        colors = [next(c for c in editor.BACKGROUNDS if c in text) for text in texts]
        white = (images > 0.999).all(1, keepdim=True)
        return torch.where(white, editor.compose.named_backgrounds(colors), images)

    monkeypatch.setattr(editor, "edited", colored)
    found = editor.backgrounds(PRIOR, emoji, 4)
    assert found["background_psnr_edited"] > 20  # up to the smooth edges of resized emoji
    assert found["background_gain"] == found["background_gain_held_out"] > 10
    monkeypatch.setattr(editor, "edited", lazy)
    assert editor.backgrounds(PRIOR, emoji, 4)["background_gain"] == pytest.approx(0.0)


def test_objects_are_named_and_guided(monkeypatch, emoji):
    seen = []

    def recorded(prior, images, texts, text_scale=1.0, **options):
        seen.append((texts, text_scale))
        return images + text_scale

    monkeypatch.setattr(editor, "edited", recorded)
    monkeypatch.setattr(MeanColor, "names_in_top", lambda self, images, names: float(images.mean() > 2), raising=False)
    found = editor.objects(PRIOR, EVALUATOR, emoji, 2)
    assert found == {"object_name_in_top_5": 0.0, "object_name_in_top_5_guided": 1.0, "object_kept_name": 1.0}
    assert {scale for _, scale in seen} == {1.0, editor.OBJECT_SCALE}
    assert all(text.startswith("turn it into ") for texts, _ in seen for text in texts)


def test_held_out_images_have_the_size_of_the_editor(emoji):
    alone, photos = editor.held_out(PRIOR, emoji, 3)
    assert alone.shape == photos.shape == (3, 3, SIDE, SIDE)
    assert editor.canvases(PRIOR, 2).shape == (2, 3, 2 * SIDE, 2 * SIDE)


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


def test_the_grid_shows_edits_beside_the_truth(few, monkeypatch, tmp_path):
    monkeypatch.setattr(editor, "held_out", lambda prior, emoji, n: (IMAGES, IMAGES.flip(0)))
    monkeypatch.setattr(editor, "edited", lambda prior, images, texts, seed: images)
    grid = editor.edit_grid(PRIOR, EMOJI, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").exists()
    assert grid.width > 16 * 2 * SIDE  # eight images with their right answers
    assert grid.height > (1 + len(FEW)) * 2 * SIDE
    one = editor.edit_grid(PRIOR, EMOJI, tmp_path / "grid.png", edits=["night"])
    assert one.height < grid.height / 2
    assert all(text in EDIT_BY_INSTRUCTION for text in INSTRUCTIONS)


@pytest.mark.parametrize("option", ["--out", "--sheet"])
def test_figures_and_grids_need_a_file(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["prior", "evaluate", "emoji", option, str(tmp_path)])
    assert stop.value.code == 2
    assert f"is a directory: give a file for {option}" in capsys.readouterr().err


# --- text to image ---


def painted(prior, prompts, seed=0):
    names = sorted(compose.BACKGROUNDS, key=len, reverse=True)
    found = [next((name for name in names if f"{name} background" in prompt), None) for prompt in prompts]
    return compose.named_backgrounds(found).expand(-1, -1, 16, 16) + 0.02


def test_backgrounds_are_obeyed_if_the_border_has_the_color(monkeypatch):
    monkeypatch.setattr(text_to_image, "samples", painted)
    assert text_to_image.backgrounds(PRIOR) == 1.0
    monkeypatch.setattr(text_to_image, "samples", lambda prior, prompts, seed: torch.ones(len(prompts), 3, 16, 16))
    assert text_to_image.backgrounds(PRIOR) == 0.0


def test_the_color_of_the_border_ignores_what_stands_inside():
    images = torch.zeros(2, 3, 16, 16)
    images[:, 1, 3:-3, 2:] = 1
    assert torch.equal(text_to_image.border_color(images), torch.zeros(2, 3))
    assert torch.equal(text_to_image.border_color(images + 0.5), torch.full((2, 3), 0.5))


def test_variety_tells_seeds_from_prompts():
    red, blue = torch.zeros(2, 3, 8, 8)
    red[0], blue[2] = 1, 1
    same_seeds = text_to_image.variety(EVALUATOR, torch.stack([red, blue, red, blue]), 2)
    assert same_seeds["diversity_of_seeds"] == pytest.approx(0)
    assert same_seeds["diversity_of_prompts"] == pytest.approx(2**0.5)
    assert "diversity_of_seeds" not in text_to_image.variety(EVALUATOR, torch.stack([red, blue]), 2)


def test_plain_names_are_retrieved_by_their_concepts(monkeypatch):
    asked = []
    monkeypatch.setattr(text_to_image, "samples", lambda prior, prompts, seed: asked.extend(prompts))
    monkeypatch.setattr(MeanColor, "names_in_top", lambda self, images, names: float(names == ["automobile"]))
    assert text_to_image.plain_retrieval(PRIOR, EVALUATOR, ["owl", "automobile"]) == 1
    assert asked == ["a car"]


def test_the_grid_has_every_prompt_in_every_style_and_the_further_prompts(monkeypatch, tmp_path):
    asked = []

    def grey(prior, prompts, seed):
        asked.extend(prompts)
        return torch.full((len(prompts), 3, 8, 8), 0.5)

    monkeypatch.setattr(text_to_image, "samples", grey)
    text_to_image.sample_grid(PRIOR, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 1000
    assert len(asked) == 10 * (1 + len(text_to_image.GRID_STYLES)) + len(text_to_image.FURTHER)
    assert {"an owl", "a glossy emoji of an owl", "a noto emoji of a hamburger", "two cats"} <= set(asked)
