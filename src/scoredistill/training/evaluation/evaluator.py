"""The evaluator of images: a CLIP with the names among which it chooses, and the PSNR to a ground truth.

PSNR = -10 log10 mean (x' - x)^2, averaged over images in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from scoredistill.datasets.emoji import Emoji
from scoredistill.priors.pipelines import PipelinePrior
from scoredistill.training import clip as towers
from scoredistill.training import compose


@dataclass(frozen=True)
class Evaluator:
    """A CLIP and the names among which it chooses."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    names: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, names: tuple[str, ...]) -> Evaluator:
        """Load a `CLIPModel` folder."""
        model = CLIPModel.from_pretrained(folder, local_files_only=True).float().eval()
        return cls(model, CLIPTokenizer.from_pretrained(folder, local_files_only=True), names)

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p"]:
        """Unit features of images in [0, 1]."""
        return towers.features_of_images(self.model, images)

    @cached_property
    def vocabulary(self) -> Float[Tensor, "k p"]:
        """Unit features of all names."""
        return towers.name_features(self.model, self.tokenizer, self.names)

    def names_in_top(self, images: Float[Tensor, "n 3 h w"], names: Sequence[str], top: int = 5) -> float:
        """Fraction of images whose own name is among the `top` nearest of the vocabulary."""
        own = torch.tensor([self.names.index(name) for name in names])
        return towers.retrieval(self.features(images), self.vocabulary, own, torch.arange(len(self.names)), top)


def on_white(emoji: Emoji) -> Float[Tensor, "n 3 64 64"]:
    """The emoji on white, as images in [0, 1]."""
    return compose.over(compose.premultiplied(emoji.rgba), torch.ones(1, 3, 1, 1))


def psnr(images: Float[Tensor, "n 3 h w"], truth: Float[Tensor, "n 3 h w"]) -> float:
    """PSNR in dB, averaged over images."""
    return float((-10 * (images - truth).square().mean(dim=(1, 2, 3)).clamp(min=1e-10).log10()).mean())


@torch.no_grad()
def reconstruction(prior: PipelinePrior, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Encode and decode images in [0, 1] with the autoencoder of a prior."""
    return torch.cat([prior.decode(prior.encode_image(part)) for part in images.split(64)])
