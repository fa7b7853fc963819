"""A small CLIP: image and text encoders trained contrastively on images and captions.

The loss, with unit features u_i of images and v_j of captions and inverse temperature s, is

    - (1 / 2b) sum_i [ log softmax_j(s u_i . v_j)_i + log softmax_j(s u_j . v_i)_i ],

where pairs i != j of the same concept and edit are excluded from both sums. Since there are few names, an image is also
classified among all of them. Their features n_k are kept in a bank, which is updated periodically:

    - (1 / b) sum_i log softmax_k(s u_i . n_k)_(name of i).

The images are single emoji anywhere and the training examples of `training.compositions`. A quarter of the images are
edited (`datasets.procedural_edits`) and an eighth are photographs, with captions that say so, because edits are
evaluated by the direction from a caption to that of the edited image. All are seen at 64 pixels.

Reference: Learning transferable visual models from natural language supervision (Radford et al. 2021),
https://arxiv.org/abs/2103.00020.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji, plain_names
from scoredistill.datasets.procedural_edits import EDITS, unit_of
from scoredistill.training import captions, compose
from scoredistill.training.compositions import examples, texts
from scoredistill.training.loop import Plan, Run, train
from scoredistill.training.pairs import instructions
from scoredistill.training.tokenizer import MAX_LENGTH, copy_tokenizer, train_tokenizer

SIZE = 64
"""Side of the images that the image encoder sees; larger ones are averaged over areas."""
WIDTH, HEADS, PROJECTION = 192, 3, 128
KEEP, MASKED = 0.5, 0.5
"""Fraction of the patches that is kept, and fraction of the training during which the others are masked."""
EDITED, PHOTOGRAPHS = 0.25, 0.125
"""Fractions of edited images and of photographs."""
TAG = 0.15
"""Probability that a tag replaces the name of a single emoji."""
CAPTIONS = 20_000
"""Captions on which the tokenizer is trained, besides names, tags and instructions."""
CROPS = 2048
"""Number of photograph crops from which batches are drawn."""
BANK_STEPS = 25
"""Steps between updates of the bank."""
PLAIN = "a photo", "a photograph", "a photo of something"


def build(tokenizer: CLIPTokenizer, seed: int = 0) -> CLIPModel:
    """An untrained model; both encoders have the width 192."""
    torch.manual_seed(seed)
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    text = tower | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_LENGTH,
        "num_hidden_layers": 3,
        "projection_dim": PROJECTION,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = tower | {"image_size": SIZE, "patch_size": 8, "num_hidden_layers": 4, "projection_dim": PROJECTION}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION)
    return CLIPModel._from_config(config, attn_implementation="eager")  # faster than fused attention at these lengths


def tokens(tokenizer: CLIPTokenizer, texts: list[str], padding: str = "longest") -> Int[Tensor, "b l"]:
    """Token ids of texts, padded with the end token."""
    batch = tokenizer(texts, padding=padding, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    return batch.input_ids


def text_features(model: CLIPModel, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b p"]:
    """Unit features of tokenized texts."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return functional.normalize(model.text_projection(pooled).float(), dim=-1)


def shrunk(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 64 64"]:
    """Images at the size of the image encoder, each pixel the mean of an area; smaller images are enlarged."""
    if images.shape[-2:] == (SIZE, SIZE):
        return images
    if min(images.shape[-2:]) < SIZE:
        return functional.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return functional.adaptive_avg_pool2d(images, SIZE)


def image_features(model: CLIPModel, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b p"]:
    """Unit features of images in [0, 1], of any size."""
    pooled = model.vision_model(pixel_values=2 * shrunk(images) - 1).pooler_output
    return functional.normalize(model.visual_projection(pooled).float(), dim=-1)


def masked_image_features(
    model: CLIPModel, images: Float[Tensor, "b 3 h w"], keep: float, rng: torch.Generator
) -> Float[Tensor, "b p"]:
    """Unit features from a random fraction `keep` of the patches, at about that fraction of the cost.

    Reference: Scaling language-image pre-training via masking (Li et al. 2022), https://arxiv.org/abs/2212.00794.
    """
    vision = model.vision_model
    patches = vision.embeddings(2 * shrunk(images) - 1)
    n, count, width = len(patches), patches.shape[1] - 1, patches.shape[2]
    chosen = 1 + torch.rand(n, count, generator=rng).topk(round(keep * count)).indices.to(images.device)
    seen = patches.gather(1, chosen[..., None].expand(-1, -1, width))
    tokens_seen = torch.cat([patches[:, :1], seen], dim=1)
    last = vision.encoder(inputs_embeds=vision.pre_layrnorm(tokens_seen)).last_hidden_state
    pooled = vision.post_layernorm(last[:, 0])
    return functional.normalize(model.visual_projection(pooled).float(), dim=-1)


def contrastive_loss(
    images: Float[Tensor, "b p"], texts: Float[Tensor, "b p"], scale: Float[Tensor, ""], concept: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """The first loss of the module, where `concept` numbers the pairs of concept and edit."""
    same = concept[:, None] == concept[None, :]
    same.fill_diagonal_(False)
    logits = (scale * images @ texts.T).masked_fill(same, float("-inf"))
    target = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


class Towers(nn.Module):
    """The networks in training: the CLIP model, and the bank of the features of all names.

    Attributes:
        model: the CLIP model.
        bank: unit features of all names.
        step: number of times that the bank was used.
    """

    def __init__(self, model: CLIPModel, names: int) -> None:
        super().__init__()
        self.model = model
        self.bank: Tensor
        self.step: Tensor
        self.register_buffer("bank", torch.zeros(names, PROJECTION))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def names(self, tokenizer: CLIPTokenizer, names: tuple[str, ...]) -> Float[Tensor, "n p"]:
        """The bank, updated every `BANK_STEPS` steps."""
        if int(self.step) % BANK_STEPS == 0:
            self.bank.copy_(name_features(self.model, tokenizer, names))
        self.step += 1
        return self.bank


def batch(
    emoji: Emoji, photos: UInt8[NDArray, "k 64 64 3"], size: int, rng: torch.Generator
) -> tuple[Tensor, list[str], Tensor, Tensor]:
    """A batch of `size` images: single emoji anywhere, training examples, then photographs; some of all are edited.

    Returns:
        Images [b, 3, 64, 64] in [0, 1], captions, numbers of what they show (int64 [b]; images of equal numbers are no
        negatives), and concepts of the images without photographs, which come first; -1 for two concepts.
    """
    others = int(PHOTOGRAPHS * size) if len(photos) else 0
    alone = (size - others) // 2
    words = captions.python_rng(rng)
    images, written, concepts = anywhere(emoji, alone, rng)
    made = examples(emoji, size - others - alone, rng, size=SIZE, empty=0.0)
    images = compose.color_jittered(torch.cat([images, made.images]), 0.25, rng)
    written, concepts = written + made.captions, torch.cat([concepts, made.concepts])
    shown: list[object] = concepts[:alone].tolist()
    for concept, description in zip(made.concepts.tolist(), made.descriptions, strict=True):
        count = description.items[0].count
        shown.append(concept if concept >= 0 and count == 1 else (concept, count, written[len(shown)]))
    if others:
        seen = torch.randint(len(photos), (others,), generator=rng).numpy()
        images = torch.cat([images, photographs.as_images(photos[seen])])
        written += [words.choice(PLAIN) for _ in seen]
        shown += ["photograph"] * others
    numbers: dict[object, int] = {}
    for row in range(size):
        edit = words.choice(list(EDITS.values())) if words.random() < EDITED else None
        if edit is not None:
            images[row : row + 1] = edit(images[row : row + 1], unit=unit_of(SIZE), rng=rng)
            written[row] = f"{written[row]}, {edit.caption}"
        shown[row] = numbers.setdefault((shown[row], edit and edit.name), len(numbers))
    return compose.degraded(images, rng), written, torch.tensor(shown), concepts


def anywhere(emoji: Emoji, n: int, rng: torch.Generator) -> tuple[Tensor, list[str], Tensor]:
    """Single emoji of random size and place, some of them cut off: images [n, 3, 64, 64], captions and concepts."""
    words = captions.python_rng(rng)
    chosen = torch.from_numpy(np.flatnonzero(~emoji.held_out))[
        torch.randint(int((~emoji.held_out).sum()), (n,), generator=rng)
    ]
    colors = [words.choice(list(compose.BACKGROUNDS)) if words.random() < 0.5 else None for _ in chosen]
    rgba = shrunk(compose.premultiplied(emoji.rgba[chosen.numpy()]))
    placed = compose.place_at_random(rgba, (0.6, 1.1), 0.2, rng)
    written = []
    for index, color in zip(chosen.tolist(), colors, strict=True):
        mentioned = color if words.random() < 0.5 else None
        description = captions.Description((captions.item_of(emoji, index),), background=mentioned)
        written.append(captions.describe(description, words, tag=TAG))
    return (
        compose.over(placed, compose.named_backgrounds(colors)),
        written,
        torch.from_numpy(emoji.concept[chosen.numpy()]),
    )


def all_captions(emoji: Emoji, n: int) -> list[str]:
    """Training texts of the tokenizer: names and tags, n captions, and instructions, those of edits more often."""
    rng = torch.Generator().manual_seed(0)
    words = captions.python_rng(rng)
    plain = [name for names in plain_names().values() for name in names]
    written = [*emoji.names, *plain, *(tag for tags in emoji.tags for tag in tags), *texts(emoji, n, rng)]
    written += instructions(emoji)
    for edit in EDITS.values():  # repeated so that their words become tokens
        written += 20 * [*edit.instructions, f"{words.choice(PLAIN)}, {edit.caption}"]
    return written


@torch.no_grad()
def name_features(model: CLIPModel, tokenizer: CLIPTokenizer, names: tuple[str, ...]) -> Float[Tensor, "n p"]:
    """Unit features of "a picture of {name}" for every name."""
    texts = [f"a picture of {captions.with_article(name)}" for name in names]
    device = next(model.parameters()).device
    parts = [tokens(tokenizer, texts[start : start + 256]) for start in range(0, len(texts), 256)]
    return torch.cat([text_features(model, part.to(device)) for part in parts])


@torch.no_grad()
def features_of_images(model: CLIPModel, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p"]:
    """Unit features of any number of images in [0, 1], computed in batches."""
    device = next(model.parameters()).device
    return torch.cat([image_features(model, part.to(device)) for part in images.split(256)])


def retrieval(
    query: Float[Tensor, "q p"],
    keys: Float[Tensor, "k p"],
    relevant: Int[Tensor, " q"],
    labels: Int[Tensor, " k"],
    top: int = 5,
) -> float:
    """Fraction of queries with a key of the same label among their `top` nearest keys."""
    nearest = (query @ keys.T).topk(min(top, len(keys)), dim=1).indices
    return float((labels[nearest] == relevant[:, None]).any(dim=1).float().mean())


def sample_grid(emoji: Emoji, tokenizer: CLIPTokenizer) -> Callable[[Any, Path], None]:
    """A function that saves a grid of held-out images labeled with their nearest names, and the top-5 rate as JSON."""
    rgba = compose.premultiplied(emoji.rgba)
    images, concept = compose.over(rgba, torch.ones(1, 3, 1, 1)), torch.from_numpy(emoji.concept)

    def draw(towers: Any, path: Path) -> None:
        model = towers.model
        names = name_features(model, tokenizer, emoji.names).cpu()
        drawn = features_of_images(model, images).cpu()
        rate = retrieval(drawn, names, concept, torch.arange(len(emoji.names)))
        path.with_suffix(".json").write_text(json.dumps({"held_out_name_in_top_5": rate}))
        nearest = (drawn[:32] @ names.T).argmax(dim=1).tolist()
        compose.image_grid(images[:32], 8, labels=[emoji.names[best] for best in nearest]).save(path)

    return draw


def train_clip(
    emoji: Emoji, plan: Plan, folder: Path, device: str = "cpu", start: tuple[CLIPModel, Path] | None = None
) -> tuple[CLIPModel, CLIPTokenizer]:
    """Train the CLIP model, resuming from the checkpoint in `folder` if there is one.

    Args:
        emoji: the data set; held-out images are only shown in the sample grid.
        plan: duration and rates.
        folder: of the checkpoint, tokenizer, log and sample grid.
        device: to train on.
        start: initial model and the folder of its tokenizer; a random model and a new tokenizer by default.

    Returns:
        The moving average of the model, and its tokenizer.
    """
    tokenizer_folder = folder / "tokenizer"
    if not (tokenizer_folder / "vocab.json").exists():
        if start is None:
            train_tokenizer(all_captions(emoji, CAPTIONS), tokenizer_folder)
        else:
            copy_tokenizer(start[1], tokenizer_folder)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    towers = Towers(build(tokenizer) if start is None else start[0], len(emoji.names))
    run = Run(towers, plan, folder, device)
    if run.progress >= 1:
        return run.average.model, tokenizer
    photos = photographs.crops(photographs.TRAIN, CROPS, SIZE)

    def loss(towers: Any, rng: torch.Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # images are made on the CPU, in single precision
            images, written, kinds, concepts = batch(emoji, photos, plan.batch, rng)
        names, model = towers.names(tokenizer, emoji.names), towers.model
        ids = tokens(tokenizer, written).to(device)
        scale = model.logit_scale.exp().clamp(max=100)
        keep = KEEP if run.progress < MASKED else 1.0
        drawn = masked_image_features(model, images.to(device), keep, rng)
        classification = functional.cross_entropy(
            scale * drawn[: len(concepts)] @ names.T, concepts.to(device), ignore_index=-1
        )
        return contrastive_loss(drawn, text_features(model, ids), scale, kinds.to(device)) + classification

    return train(run, loss, sample_grid(emoji.select(emoji.held_out), tokenizer), "clip").model, tokenizer


def text_encoder_of(model: CLIPModel) -> CLIPTextModel:
    """A copy of the text encoder as a separate model."""
    encoder = CLIPTextModel(model.config.text_config)
    names = encoder.state_dict()
    weights = {name: value for name, value in model.state_dict().items() if name.startswith("text_model.")}
    if not any(name.startswith("text_model.") for name in names):
        weights = {name.removeprefix("text_model."): value for name, value in weights.items()}
    encoder.load_state_dict(weights, strict=False)
    if missing := [name for name in names if name not in weights and "position_ids" not in name]:
        raise RuntimeError(f"the text encoder has no weights {missing[0]}")
    return encoder
