"""Embeddings in place of prompts: pipelines without text encoders, and embeddings of several lengths."""

import pytest
import torch

import tiny
import tiny_flow
import tiny_unets
from scoredistill import load_prior
from scoredistill.priors import Guided

T = torch.tensor([0.3])
MAKES = {
    "Stable Diffusion": tiny.stable_diffusion,
    "Stable Diffusion XL": tiny_unets.stable_diffusion_xl,
    "XL refiner": tiny_unets.refiner,
    "DeepFloyd": tiny_unets.deepfloyd,
    "Stable Diffusion 3": tiny_flow.stable_diffusion_3,
    "Flux": tiny_flow.flux,
}


@pytest.mark.parametrize("name", MAKES)
def test_pipelines_without_text_encoders_take_embeddings(name, tmp_path):
    whole, bare = load_prior(MAKES[name](tmp_path / "a")), MAKES[name](tmp_path / "b")
    for part in [part for part in bare.components if part.startswith(("text_encoder", "tokenizer"))]:
        setattr(bare, part, None)
    prior, x = load_prior(bare), torch.ones(1, *whole.latent_shape)
    text, nothing = whole.encode_text("an owl"), whole.encode_text("")
    guided = Guided(whole, 4.0, uncond=nothing).eps(x, T, text)
    assert torch.equal(Guided(prior, 4.0, uncond=nothing).eps(x, T, text), guided)
    with pytest.raises(
        ValueError, match=r"has no text_encoder\w* and no .*: give embeddings as the condition, {\"text\""
    ):
        prior.encode_text("an owl")
    if name != "Stable Diffusion XL":  # whose empty prompt is zeros
        with pytest.raises(ValueError, match="uncond= of Guided"):
            Guided(prior, 4.0).eps(x, T, {key: value + 0 for key, value in text.items()})
    with pytest.raises(ValueError, match="the condition lacks text"):
        prior.eps(x, T, {"txt": text["text"]})


def test_a_directory_may_lack_its_text_encoder(tmp_path):
    whole = tiny.stable_diffusion(tmp_path / "tokens")
    text = load_prior(whole).encode_text("an owl")
    whole.text_encoder = whole.tokenizer = None
    whole.save_pretrained(tmp_path / "bare")
    prior, x = load_prior(tmp_path / "bare"), torch.ones(1, 4, 8, 8)
    assert torch.equal(prior.eps(x, T, text), load_prior(whole).eps(x, T, text))
