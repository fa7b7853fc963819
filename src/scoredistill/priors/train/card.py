"""The model cards of the exported folders; every figure in them comes from `scoredistill.priors.evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HEADER = """---
license: apache-2.0
library_name: {library}
tags: [emoji, {tag}]
---
"""

DATA = """## Data and licences

Trained from random initial values by `python -m scoredistill.priors.train` on emoji drawings, rasterised at 64
pixels:

| set | by | licence |
| --- | --- | --- |
| Fluent Emoji, Fluent Emoji Flat | Microsoft Corporation | MIT |
| Noto Emoji, Noto Emoji v1 | Google Inc. | Apache-2.0 |
| Twemoji | Twitter, Inc. and other contributors | CC BY 4.0 |
| Firefox OS Emoji | Mozilla | Apache-2.0 |
| Emoji One 2.3 | Emoji One | CC BY 4.0 |

The names are those of emojibase-data (Miles Johnson, MIT). Faces, animals, food, travel, activities and objects are
used; people, flags and symbols are not. One style of about every fourth concept was kept from all networks, for
evaluation. Addresses and changes are in the `NOTICE` of the package. The weights are licensed like the package,
Apache-2.0.
"""

PRIOR = """# emoji: a small text-to-image diffusion model

64x64 pixels, latents 4x16x16, v-prediction on DDPM's linear schedule, a complete `StableDiffusionPipeline` in the
format of the large models, so that everything that works on those can be developed and tested on a processor.

    from diffusers import StableDiffusionPipeline
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline("a hamburger", num_inference_steps=30, guidance_scale=5).images[0]

Prompts: "a hamburger", "a glossy emoji of an owl", "a red apple on a light blue background". Styles: glossy, flat,
noto, classic, twitter, firefox, round. The concepts are those of `common_concepts.txt` ({concepts}).

{data}
The autoencoder also saw crops of photographs shipped with scikit-image and scikit-learn (public domain, CC0, and
one CC BY 2.0).

## Training

{training}

## Figures

{figures}

Held-out emoji are shown on white; samples are DDIM, 30 steps, guidance 5. Names are retrieved among all {names}
names by the CLIP that lies beside this folder, so these figures inherit its mistakes; the Fréchet distance is
between its features.

## Limits

It knows common emoji and little else: a prompt outside its concepts gives something that resembles one of them,
several objects in one prompt are not placed, and small parts (eyes, wheels, strings) are often soft or misplaced.
It is a test bed, not a tool for art.
"""

CLIP = """# clip: a small CLIP for emoji

A `CLIPModel` (vision 64x64 in patches of 8, text of 24 tokens, features of length 128) with tokenizer and image
processor. It says how well a 64x64 picture fits a caption such as "a picture of an owl"; use it as a metric beside
the emoji prior.

{data}
## Training

{training}

## Figures

{figures}

Both on pictures of styles that it never saw, on white: the own name among all {names} names, and the own picture
among the held-out ones.

## Limits

It knows emoji and their names only. Similar concepts (the many faces, the hours of clocks, arrows) are often
confused.
"""

MEANINGS = {
    "psnr_held_out_emoji": "autoencoder, held-out emoji, PSNR in dB",
    "psnr_held_out_photographs": "autoencoder, held-out photographs, PSNR in dB",
    "image_to_name_top_5": "held-out emoji: own name in the top 5",
    "name_to_image_top_5": "name: own held-out emoji in the top 5",
    "sample_name_in_top_5": "samples of ten common prompts: own name in the top 5",
    "sample_name_is_first": "samples of ten common prompts: own name first",
    "common_concepts_name_in_top_5": "samples of all its concepts: own name in the top 5",
    "red_apple_red_minus_green": "red minus green of coloured pixels, a red apple",
    "green_apple_red_minus_green": "red minus green of coloured pixels, a green apple",
    "frechet_samples_to_real": "Fréchet distance, samples to real emoji",
    "frechet_real_half_to_half": "the same, half of the real emoji to the other half",
}


def table(figures: Mapping[str, float], names: tuple[str, ...]) -> str:
    """A Markdown table of the named figures."""
    rows = [f"| {MEANINGS[name]} | {figures[name]:.3g} |" for name in names if name in figures]
    return "\n".join(["| figure | value |", "| --- | --- |", *rows])


def write_cards(
    out: Path, figures: Mapping[str, float], training: Mapping[str, str], concepts: int, names: int
) -> None:
    """Write ``README.md`` into ``emoji/`` and ``clip/``.

    Args:
        out: the folder of both.
        figures: what `scoredistill.priors.evaluate.evaluate` returned.
        training: one sentence on the training of "emoji" and of "clip".
        concepts: how many the text-to-image model learned.
        names: how many the CLIP learned.
    """
    judged = ("image_to_name_top_5", "name_to_image_top_5")
    other = tuple(name for name in MEANINGS if name not in judged)
    prior = PRIOR.format(
        data=DATA, training=training["emoji"], figures=table(figures, other), concepts=concepts, names=names
    )
    judge = CLIP.format(data=DATA, training=training["clip"], figures=table(figures, judged), names=names)
    (out / "emoji" / "README.md").write_text(HEADER.format(library="diffusers", tag="text-to-image") + prior)
    (out / "clip" / "README.md").write_text(HEADER.format(library="transformers", tag="clip") + judge)
