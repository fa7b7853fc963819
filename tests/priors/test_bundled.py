"""The bundled models load offline, are small, and do what their names say (thresholds far below their figures)."""

import pytest
import torch

from scoredistill import load_prior, metrics, tasks
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.estimators import MSD, SDS, Batch
from scoredistill.media.images import to_pil
from scoredistill.priors import Counted, Guided, ImageGuided
from scoredistill.priors.pipelines import bundled_folder
from scoredistill.sampling import ddim


@pytest.fixture(scope="module")
def prior():
    return load_prior("emoji")


def test_sizes_and_format(prior):
    folder = bundled_folder("emoji").parent
    weights = list(folder.rglob("*.safetensors"))
    assert len(weights) == 7  # CLIP, and autoencoder, text encoder, UNet of the two pipelines
    assert sum(p.stat().st_size for p in weights) < 62e6
    assert not [p for p in folder.rglob("*") if p.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    assert prior.latent_shape == (4, 16, 16)
    assert prior.image_size == (64, 64)
    for name in ("emoji", "emoji-edit", "clip"):
        assert "data and licenses" in (folder / name / "README.md").read_text().lower()


def test_samples_show_what_was_asked_for(prior):
    """CLIP tells two prompts' samples apart."""
    prompts = ["a tulip", "a hamburger"]
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    images = prior.decode(ddim(Guided(prior, 5.0), noise, 20, prior.encode_text(prompts)))
    right, wrong = (metrics.clip_similarity(images, texts) for texts in (prompts, prompts[::-1]))
    assert (right > wrong + 5).all()


def test_codec_reconstructs_an_image(prior):
    """An image the model made survives another round through the autoencoder."""
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    image = prior.decode(ddim(Guided(prior, 5.0), noise, 10, prior.encode_text("a tulip")))
    again = prior.decode(prior.encode_image(image))
    assert -10 * (again - image).square().mean().log10() > 20
    assert to_pil(again)[0].size == (64, 64)


def test_one_sds_step_with_guidance_is_two_rows_in_one_call(prior):
    counted, rows = Counted(prior), []
    hook = prior.network.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    cond = prior.encode_text("a tulip")
    for estimator in (SDS(), MSD()):
        estimator(Guided(counted, 7.5), Batch(torch.zeros(1, 4, 16, 16), cond), torch.tensor([0.5]))
    hook.remove()
    assert rows == [2, 2]
    assert counted.counts() == {"rows": 4, "calls": 2, "encoded": 0, "decoded": 0}


def test_clip_similarity_checks_its_arguments():
    with pytest.raises(ValueError, match="2 texts for 3 images"):
        metrics.clip_similarity(torch.zeros(3, 3, 64, 64), ["a", "b"])
    images = torch.rand(2, 3, 100, 80)
    assert metrics.clip_similarity(images, "a tulip").shape == (2,)
    assert metrics.clip_similarity(images, "a tulip").abs().max() <= 100


def test_the_editor_does_what_it_is_told_and_nothing_if_told_nothing(prior):
    """The truth is nearer to the result than to the source, by far; an empty instruction changes little."""
    editor = load_prior("emoji-edit")
    assert editor.latent_shape == prior.latent_shape
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    source = prior.decode(ddim(Guided(prior, 5.0), noise, 10, prior.encode_text(["a red apple", "a castle"])))
    psnr = lambda a, b: -10 * (a - b).square().mean().log10()

    def edited(instruction):
        cond = editor.encode_text(instruction) | editor.encode_source(source)
        return editor.decode(ddim(ImageGuided(editor, 1.0, 1.0), noise.flip(0), 12, cond))

    for name in ("black and white", "night", "tinted green"):
        truth = EDITS[name](source)
        assert psnr(edited(EDITS[name].instructions[0]), truth) > psnr(source, truth) + 4
    assert psnr(edited(""), editor.decode(editor.encode_image(source))) > 20


def test_text_priors_take_no_source(prior):
    with pytest.raises(ValueError, match="emoji is no instruction editor: load one, such as 'emoji-edit'"):
        prior.encode_source(torch.rand(1, 3, 64, 64))
    with pytest.raises(
        ValueError, match="emoji-edit edits images and cannot generate them from text: use a text-to-image model"
    ):
        tasks.text_to_image("an owl", "emoji-edit")
    editor = load_prior("emoji-edit")
    with pytest.raises(ValueError, match="needs a source image"):
        editor.eps(torch.zeros(1, 4, 16, 16), torch.tensor([0.5]), editor.encode_text("make it night"))
    cond = editor.encode_text("make it night") | editor.encode_source(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="the latents have 16x16 pixels and the source image's have 8x8"):
        editor.eps(torch.zeros(1, 4, 16, 16), torch.tensor([0.5]), cond)
