r"""CLIP score: how well an image matches a text.

    clip_similarity    100 cos(CLIP(image), CLIP(text)), higher is better

Values of different CLIP models are not comparable.

Reference: Learning transferable visual models from natural language supervision (Radford et al. 2021),
https://arxiv.org/abs/2103.00020.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.pretrained import bundled_folder, quietly


class Clip:
    """A CLIP model that returns unit features of images and of texts.

    Args:
        folder: of a transformers `CLIPModel` with its tokenizer and image processor, or its name on the Hub.
    """

    def __init__(self, folder: str | Path):
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

        options = {"local_files_only": Path(folder).is_dir()}
        with quietly():
            self.model = CLIPModel.from_pretrained(folder, use_safetensors=True, **options).float().eval()
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, **options)
            processor = CLIPImageProcessor.from_pretrained(folder, **options)
        self.side = self.model.config.vision_config.image_size
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))

    @torch.no_grad()
    def image_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Unit features of images in [0, 1], which are resized to the input size of the model."""
        size = (self.side, self.side)
        resized = torch.nn.functional.interpolate(images.float(), size, mode="bicubic", antialias=True).clamp(0, 1)
        pixels = ((resized - self.mean.to(resized)) / self.std.to(resized)).to(self.model.device)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return torch.nn.functional.normalize(self.model.visual_projection(pooled), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Float[Tensor, "b f"]:
        """Unit features of texts, truncated to the length of the model."""
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._length(), return_tensors="pt"
        )
        tokens = tokens.to(self.model.device)
        pooled = self.model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return torch.nn.functional.normalize(self.model.text_projection(pooled), dim=-1)

    def _length(self) -> int:
        return self.model.config.text_config.max_position_embeddings


@cache
def bundled_clip() -> Clip:
    """The small CLIP model bundled with the package, loaded once."""
    return Clip(bundled_folder("clip"))


def clip_similarity(
    images: Float[Tensor, "b 3 h w"], texts: str | Sequence[str], clip: Clip | None = None
) -> Float[Tensor, " b"]:
    """CLIP score of each image: 100 times the cosine of image and text features.

    Args:
        images: in [0, 1].
        texts: one for all images, or one per image.
        clip: the CLIP model; the bundled one by default.

    Raises:
        ValueError: if the number of texts is neither 1 nor that of the images.
    """
    clip = bundled_clip() if clip is None else clip
    texts = [texts] if isinstance(texts, str) else list(texts)
    if len(texts) not in (1, len(images)):
        raise ValueError(f"{len(texts)} texts for {len(images)} images: give 1 or {len(images)}")
    return 100 * (clip.image_features(images) * clip.text_features(texts)).sum(-1)
