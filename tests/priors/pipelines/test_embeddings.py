"""Embeddings in place of prompts: pipelines without text encoders, and embeddings of several lengths."""

import pytest
import torch

import tiny
import tiny_flow
import tiny_unets
from scoredistill import load_prior
from scoredistill.estimators import SDS, Batch
from scoredistill.priors import Guided
from scoredistill.priors.conditions import cat_conds

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


@pytest.mark.parametrize("name", ["Stable Diffusion", "Stable Diffusion XL", "Stable Diffusion 3", "Flux"])
def test_embeddings_of_several_lengths_are_as_each_alone(name, tmp_path):
    """Long prompts have more tokens than no prompt: each row is as without the others, and no padding is seen."""
    prior = load_prior(MAKES[name](tmp_path))
    x = torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.3, 0.6])
    short, nothing = prior.encode_text("an owl"), prior.encode_text("")
    long = {**short, "text": torch.cat([short["text"], prior.encode_text("a red hat")["text"]], 1)}
    alone = {key: prior.eps(x, t, value) for key, value in (("short", short), ("long", long), ("no", nothing))}
    assert (alone["long"] - alone["short"]).abs().max() > 1e-4
    guided = Guided(prior, 3.0, uncond=nothing).eps(x, t, long)
    assert (guided - (alone["no"] + 3 * (alone["long"] - alone["no"]))).abs().max() < 1e-4
    batch = cat_conds(long, short)
    assert batch["text_tokens"].tolist() == [long["text"].shape[1], short["text"].shape[1]]
    mixed = prior.eps(x, t, batch)
    assert (mixed - torch.stack([alone["long"][0], alone["short"][1]])).abs().max() < 1e-5
    again = Guided(prior, 3.0, uncond=nothing).eps(x, t, batch)
    assert (again - (alone["no"] + 3 * (mixed - alone["no"]))).abs().max() < 1e-4
    prior.max_rows = 1
    assert (prior.eps(x, t, batch) - mixed).abs().max() < 1e-5


def test_rows_of_several_lengths_keep_their_order(tmp_path):
    """Lengths 1, 2, 3, 1: evaluated by length, the rows come in the order 0, 3, 1, 2, whose inverse is another."""
    prior = load_prior(tiny.stable_diffusion(tmp_path))
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = [prior.encode_text(prompt)["text"] for prompt in ("an owl", "a red hat", "a boat")]
    conds = [{"text": torch.cat(text[:count], 1)} for count in (1, 2, 3, 1)]
    together = prior.eps(x, T.expand(4), cat_conds(*conds))
    alone = [prior.eps(x[i : i + 1], T, cond) for i, cond in enumerate(conds)]
    assert (together - torch.cat(alone)).abs().max() < 1e-5


def test_estimators_take_a_negative_prompt_of_another_length(tmp_path):
    prior = load_prior(tiny.stable_diffusion(tmp_path))
    x, text, nothing = torch.ones(2, 4, 8, 8), prior.encode_text("an owl"), prior.encode_text("")
    long = {"text": torch.cat([text["text"], nothing["text"]], 1)}
    grads = [
        SDS()(
            Guided(prior, 5.0, uncond=nothing), Batch(x, cond), torch.full((2,), 0.5), torch.Generator().manual_seed(0)
        )
        for cond in (long, {**long, "text": long["text"].expand(2, -1, -1)})
    ]
    assert (grads[0].grad - grads[1].grad).abs().max() < 1e-5


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"entries 'image' of conditions have different shapes: \[1, 4, 8, 8\], "):
        cat_conds({"image": torch.ones(1, 4, 8, 8)}, {"image": torch.ones(1, 4, 8, 9)})
    with pytest.raises(ValueError, match="entries 'text' of conditions have different shapes"):
        cat_conds({"text": torch.ones(1, 4, 8)}, {"text": torch.ones(1, 4, 9)})
