"""Unknown prompts and instructions: a warning before the work, and a verdict at the end, in every task."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from scoredistill import cli, load_prior
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.media.images import to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.priors import Guided
from scoredistill.priors.counted import Counted
from scoredistill.priors.vocabulary import Concept, Instruction, Vocabulary
from scoredistill.tasks import edit_image, edit_video, text_to_3d, text_to_image
from scoredistill.tasks.known_words import UnknownWords, verdict_on_edit

DRAWS = Vocabulary(
    concepts=(Concept("owl", "an owl"), Concept("cactus", "a cactus")), typical={"clip_similarity": 60.0}
)
EDITS_KNOWN = Vocabulary(
    instructions=tuple(Instruction(name, EDITS[name].instructions) for name in ("night", "sepia", "tinted red"))
)
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8))
SAID = "was not trained on 'a red car' \\(the words 'red', 'car'\\).*it knows 'a cactus', 'an owl'"


@pytest.fixture
def draws(tmp_path_factory):
    made = load_prior(tiny.stable_diffusion(tmp_path_factory.mktemp("tiny")))
    made.vocabulary = DRAWS
    return made


@pytest.fixture
def edits(prior, monkeypatch):
    monkeypatch.setattr(prior, "vocabulary", EDITS_KNOWN)
    return prior


def test_models_without_a_vocabulary_cannot_say(prior):
    assert prior.knows("anything") is None
    assert Guided(prior, 2.0).knows("anything") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert edit_image(PHOTO, "give her a hat", prior, size=16, sweeps=1).verdict == ""


def test_wrappers_know_what_their_prior_knows(draws):
    for wrapped in (Guided(draws, 2.0), Counted(draws)):
        assert wrapped.knows("an owl")
        assert not wrapped.knows("a red car")


def test_an_unknown_prompt_is_said_before_the_work_and_judged_after_it(draws, tmp_path):
    begun = []
    with pytest.warns(UnknownWords, match=SAID) as said:
        made = text_to_image(
            "a red car", draws, "sds", image="latents", steps=2, particles=2, out=tmp_path / "run",
            callback=lambda step: begun.append(len(said)),
        )  # fmt: skip
    assert begun == [1, 1]
    similarity = clip_similarity(to_tensor(made.images), "a red car").mean()
    assert made.verdict == f"CLIP similarity {similarity:.0f}; samples of prompts that it knows score about 60"
    assert json.loads((tmp_path / "run" / "result.json").read_text())["verdict"] == made.verdict
    assert made.verdict in (tmp_path / "run" / "report.html").read_text()


def test_a_known_prompt_is_not(draws, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownWords)
        made = text_to_image("an owl", draws, "ddim", steps=1, out=tmp_path / "run")
    assert made.verdict == ""
    assert "verdict" not in json.loads((tmp_path / "run" / "result.json").read_text())


def test_unknown_objects_are_said_and_judged(draws):
    with pytest.warns(UnknownWords, match=SAID):
        made = text_to_3d("a red car", draws, "sds", steps=1, views=1, size=16, follow=1)
    assert made.verdict.startswith("CLIP similarity ")


def test_unknown_edits_are_said_and_judged(edits, tmp_path):
    with pytest.warns(UnknownWords, match="'give her a hat' .*it knows 'make it"):
        made = edit_image(PHOTO, "give her a hat", edits, size=16, sweeps=1, out=tmp_path / "run")
    assert "'give her a hat'" in made.verdict
    assert json.loads((tmp_path / "run" / "result.json").read_text())["verdict"] == made.verdict
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownWords)
        assert edit_image(PHOTO, "Make the photo NIGHT", edits, size=16, sweeps=1).verdict == ""


def test_instructions_of_regions_are_looked_at_too(edits):
    regions = ("0-0.5: make it sepia", "0.5-1: add a rainbow")
    with pytest.warns(UnknownWords, match="'add a rainbow'") as said:
        edit_image(PHOTO, "", edits, size=16, sweeps=1, regions=regions)
    assert len([each for each in said if each.category is UnknownWords]) == 1


def test_unknown_edits_of_videos_are_said_and_judged(edits, tmp_path):
    pytest.importorskip("av")
    for out in (None, tmp_path / "run"):
        with pytest.warns(UnknownWords, match="'give her a hat'"):
            made = edit_video([PHOTO] * 2, "give her a hat", edits, size=16, sweeps=1, flow=0, out=out)
        assert "'give her a hat'" in made.verdict
    assert json.loads((tmp_path / "run" / "result.json").read_text())["verdict"] == made.verdict


@pytest.mark.parametrize("name", ["night", "sepia", "tinted red"])
def test_the_verdict_names_the_edit_that_was_made(edits, name):
    source = to_tensor(PHOTO)
    noisy = EDITS[name](source) + 0.02 * torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
    verdict = verdict_on_edit(edits, ("add a moon",), source, noisy.clamp(0, 1))
    assert verdict.startswith(f"'add a moon' came out nearest to {EDITS[name].instructions[0]!r}: PSNR 3")
    assert verdict_on_edit(edits, ("add a moon",), source, source).startswith("'add a moon' changed little")
    assert verdict_on_edit(edits, (), source, noisy) == ""


def test_the_command_warns_goes_on_and_ends_with_a_verdict(draws, tmp_path, capsys):
    draws.pipeline.save_pretrained(tmp_path / "model")
    DRAWS.write(tmp_path / "model")
    capsys.readouterr()
    cli.main(["image", "a red car", "--prior", str(tmp_path / "model"), "--method", "ddim", "--steps", "1", "--out",
              str(tmp_path / "run"), "--no-progress", "--device", "cpu"])  # fmt: skip
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "was not trained on 'a red car'" in captured.err
    assert captured.out.splitlines()[-1].startswith("CLIP similarity ")
    cli.main(["prior", "show", str(tmp_path / "model"), "--concepts"])
    assert capsys.readouterr().out == "concepts (2): owl, cactus\nOne of them in an image.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--concepts"], "--concepts belongs to show"),
        (["show", "MODEL", "--concepts"], "comes without a vocabulary"),
        (["show", "nothing", "--concepts"], "no prior 'nothing'"),
    ],
)
def test_what_cannot_be_listed_is_said(model, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        cli.main(["prior", *(str(model) if each == "MODEL" else each for each in arguments)])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_damaged_vocabulary_is_refused_on_loading(draws, tmp_path):
    draws.pipeline.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "vocabulary.json").write_text('{"format": "scoredistill vocabulary 1", "concepts": 5}')
    with pytest.raises(ValueError, match=r"vocabulary.json is damaged"):
        load_prior(tmp_path / "model", device="cpu")


def test_a_pipeline_object_from_a_folder_brings_its_vocabulary(draws, tmp_path):
    from diffusers import StableDiffusionPipeline

    draws.pipeline.save_pretrained(tmp_path / "model")
    DRAWS.write(tmp_path / "model")
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "model", local_files_only=True, safety_checker=None)
    assert load_prior(loaded).knows("an owl")
