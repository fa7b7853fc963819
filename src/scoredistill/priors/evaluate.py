r"""Figures of the bundled prior on pictures that no network was trained on, and sheets of its samples.

Reconstruction:  PSNR = -10 log10 mean (x' - x)^2, averaged over pictures.
Retrieval:       the share of queries whose own match is among the 5 nearest by the cosine of CLIP features.
Sample quality:  Fréchet distance of CLIP features,  |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))
                 (Heusel et al. 2017, https://arxiv.org/abs/1706.08500, with this CLIP in place of Inception; comparable
                 among priors judged by the same CLIP only).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from scoredistill.priors.guidance import Guided
from scoredistill.priors.pipelines import PipelinePrior, load_prior
from scoredistill.priors.train import clip as towers
from scoredistill.priors.train import compose, photographs
from scoredistill.priors.train.captions import with_article
from scoredistill.priors.train.data import Emoji, common_names, load_emoji
from scoredistill.priors.train.unet import PROMPTS
from scoredistill.sampling import ddim

STEPS, SCALE = 30, 5.0
"""DDIM steps and guidance of all samples."""


@dataclass(frozen=True)
class Judge:
    """A CLIP and the names it chooses from."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    names: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, names: tuple[str, ...]) -> Judge:
        """Read a `CLIPModel` folder."""
        model = CLIPModel.from_pretrained(folder, local_files_only=True).float().eval()
        return cls(model, CLIPTokenizer.from_pretrained(folder, local_files_only=True), names)

    def see(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p"]:
        """Unit features of pictures in [0, 1]."""
        return towers.picture_features(self.model, images)

    @cached_property
    def vocabulary(self) -> Float[Tensor, "k p"]:
        """Unit features of all names."""
        return towers.name_features(self.model, self.tokenizer, self.names)

    def names_in_top(self, images: Float[Tensor, "n 3 h w"], names: Sequence[str], top: int = 5) -> float:
        """Share of pictures whose own name is among the `top` nearest of the vocabulary."""
        own = torch.tensor([self.names.index(name) for name in names])
        return towers.retrieval(self.see(images), self.vocabulary, own, torch.arange(len(self.names)), top)


def evaluate(
    prior_folder: Path | str, data_dir: Path | str, clip_folder: Path | str | None = None, seeds: int = 8
) -> dict:
    """Measure a prior of `scoredistill.priors.train`; a few minutes on two cores.

    Args:
        prior_folder: a `StableDiffusionPipeline` folder.
        data_dir: the folder that training used as ``--data`` (fetched if it is empty).
        clip_folder: the judge; by default ``clip`` beside the prior.
        seeds: samples of each of the ten common prompts.

    Returns:
        Figures by name; shares are in [0, 1], PSNR is in dB.
    """
    emoji = load_emoji(Path(data_dir))
    prior = load_prior(prior_folder)
    judge = Judge.load(Path(clip_folder or Path(prior_folder).parent / "clip"), emoji.names)
    return reconstruction(prior, emoji) | matching(judge, emoji) | sampling(prior, judge, emoji, seeds)


def on_white(emoji: Emoji) -> Float[Tensor, "n 3 64 64"]:
    """The emoji as pictures in [0, 1]."""
    return compose.over(compose.premultiplied(emoji.rgba), torch.ones(1, 3, 1, 1))


def psnr(images: Float[Tensor, "n 3 h w"], truth: Float[Tensor, "n 3 h w"]) -> float:
    """Mean over pictures, in dB."""
    return float((-10 * (images - truth).square().mean(dim=(1, 2, 3)).clamp(min=1e-10).log10()).mean())


@torch.no_grad()
def reconstruction(prior: PipelinePrior, emoji: Emoji) -> dict[str, float]:
    """PSNR of decode(encode(x)) on held-out emoji (on white) and on crops of held-out photographs."""
    unseen = photographs.as_images(photographs.crops(photographs.HELD_OUT, 256))

    def quality(images: Tensor) -> float:
        again = torch.cat([prior.decode(prior.encode_image(part)) for part in images.split(64)])
        return psnr(again, images)

    held = on_white(emoji.select(emoji.held_out))
    return {"psnr_held_out_emoji": quality(held), "psnr_held_out_photographs": quality(unseen)}


def matching(judge: Judge, emoji: Emoji) -> dict[str, float]:
    """Top-5 retrieval on held-out pictures: their name among all names, and the picture of a name among them all."""
    held = emoji.select(emoji.held_out)
    images, concept = on_white(held), torch.from_numpy(held.concept)
    names = [emoji.names[index] for index in held.concept]
    found = towers.retrieval(judge.vocabulary[concept], judge.see(images), concept, concept)
    return {"image_to_name_top_5": judge.names_in_top(images, names), "name_to_image_top_5": found}


def samples(prior: PipelinePrior, prompts: Sequence[str], seed: int = 0) -> Float[Tensor, "n 3 h w"]:
    """One picture in [0, 1] for each prompt: DDIM with classifier-free guidance."""
    rng = torch.Generator().manual_seed(seed)
    guided, images = Guided(prior, SCALE), []
    for start in range(0, len(prompts), 32):
        part = list(prompts[start : start + 32])
        noise = torch.randn(len(part), *prior.latent_shape, generator=rng).to(prior.device)
        images.append(prior.decode(ddim(guided, noise, STEPS, prior.encode_text(part))).cpu())
    return torch.cat(images)


def sampling(prior: PipelinePrior, judge: Judge, emoji: Emoji, seeds: int) -> dict[str, float]:
    """Retrieval of the common prompts, obedience to a named colour, Fréchet distance to the real pictures."""
    names = [prompt.split(" ", 1)[1] for prompt in PROMPTS] * seeds
    drawn = samples(prior, list(PROMPTS) * seeds)
    known = [name for name in common_names() if name in emoji.names]
    many = samples(prior, [f"a picture of {with_article(name)}" for name in known] * 2, seed=1)
    real = on_white(emoji.only(known))
    shuffled = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    one, other = (judge.see(real[part]) for part in shuffled.chunk(2))
    return {
        "sample_name_in_top_5": judge.names_in_top(drawn, names),
        "sample_name_is_first": judge.names_in_top(drawn, names, top=1),
        "common_concepts_name_in_top_5": judge.names_in_top(many, known * 2),
        **colours(prior, seeds),
        "frechet_samples_to_real": frechet_distance(judge.see(many), judge.see(real)),
        "frechet_real_half_to_half": frechet_distance(one, other),
    }


def colours(prior: PipelinePrior, seeds: int) -> dict[str, float]:
    """Mean of red minus green over the coloured pixels of red and green apples, in [-1, 1]."""
    figures = {}
    for colour in ("red", "green"):
        images = samples(prior, [f"a {colour} apple"] * seeds, seed=2)
        coloured = images.amax(dim=1) - images.amin(dim=1) > 0.15
        difference = (images[:, 0] - images[:, 1])[coloured]
        figures[f"{colour}_apple_red_minus_green"] = float(difference.mean()) if len(difference) else 0.0
    return figures


def frechet_distance(features: Float[Tensor, "n p"], others: Float[Tensor, "m p"]) -> float:
    """The module's formula; tr (C C')^(1/2) is the sum of the roots of the eigenvalues of C C'."""
    a, b = features.double(), others.double()
    product = torch.cov(a.T) @ torch.cov(b.T)
    root = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    spread = torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * root
    return float((a.mean(dim=0) - b.mean(dim=0)).square().sum() + spread)


def sample_sheet(
    prior_folder: Path | str, path: Path | str, prompts: Sequence[str] = PROMPTS, rows: int = 4, seed: int = 0
) -> Image.Image:
    """Draw `rows` samples of every prompt below each other, save the sheet as a PNG and return it."""
    images = samples(load_prior(prior_folder), list(prompts) * rows, seed)
    picture = compose.sheet(images, len(prompts), labels=list(prompts) * rows)
    picture.save(path)
    return picture
