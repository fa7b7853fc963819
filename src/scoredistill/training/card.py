"""Model cards of the exported folders, whose figures come from `scoredistill.training.evaluation`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.training.editor import IMAGE_SCALE, TEXT_SCALE

HEADER = """---
license: apache-2.0
library_name: {library}
tags: [emoji, {tag}]
---
"""

DATA = """## Data and licenses

Trained from random initial values by `python -m scoredistill.training` on emoji drawings, rasterized at {size}
pixels:

| set | by | license |
| --- | --- | --- |
| Fluent Emoji, Fluent Emoji Flat | Microsoft Corporation | MIT |
| Noto Emoji, Noto Emoji v1 | Google Inc. | Apache-2.0 |
| Twemoji | Twitter, Inc. and other contributors | CC BY 4.0 |
| Firefox OS Emoji | Mozilla | Apache-2.0 |
| Emoji One 2.3 | Emoji One | CC BY 4.0 |

The names are those of emojibase-data (Miles Johnson, MIT). Faces, animals, food, travel, activities and objects are
used; people, flags and symbols are not. One style of about every fourth concept was held out from all networks, for
evaluation. Addresses and changes are in the `NOTICE` of the package. The weights are licensed like the package,
Apache-2.0.
"""

PRIOR = """# emoji: a small text-to-image diffusion model

{size}x{size} pixels, latents {channels}x16x16, v-prediction on DDPM's linear schedule, a complete
`StableDiffusionPipeline` in the format of the large models, so that everything that works on those can be developed and
tested on a CPU.

    from diffusers import StableDiffusionPipeline
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline("a hamburger", num_inference_steps=30, guidance_scale=5).images[0]

Prompts: "a hamburger", "a glossy emoji of an owl", "a red apple on a light blue background", "three cats", "a cat next
to a dog". Styles: glossy, flat, noto, classic, twitter, firefox, round. The concepts are those of
`common_concepts.txt` ({concepts}), by their names or the plain ones of `plain_names.txt` ("a car").

{data}
The autoencoder also saw crops of photographs shipped with scikit-image and scikit-learn (public domain, CC0, and
one CC BY 2.0).

## Training

{training}

## Figures

{figures}

Held-out emoji are on white; samples are DDIM, 30 steps, guidance 5. Names are retrieved among all {names} names by the
CLIP beside this folder, so these figures inherit its errors; the Fréchet distance is between its features.

## Limitations

It knows common emoji and little else: a prompt outside its concepts gives something that resembles one of them, and
small parts (eyes, wheels, strings) are often misplaced. It is a test bed, not a tool for art.
"""

TAUGHT = (
    "It was trained on {edits}; on edits with many right answers, of which it chooses one ({many}); and for emoji on "
    '"on a blue background", "turn it into flat style" and "turn it into a pizza". Each has at least eight wordings. '
    "An empty instruction means no change. It works on photographs too. Since no text means no change, a text guidance "
    "scale of 1 gives the edit it was trained on, 1.5 a stronger one; 7.5 is far too much."
)
EDITOR = """# emoji-edit: a small instruction editor

Images of {size}x{size} pixels and an instruction: a complete `StableDiffusionInstructPix2PixPipeline` in the format
of the large ones, continued from `emoji`, with the latents of the source as further input channels.

    from diffusers import StableDiffusionInstructPix2PixPipeline
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder)
    pipeline("make it night", image, num_inference_steps=20, guidance_scale=1, image_guidance_scale=1).images[0]

{taught}

{data}
Sources are emoji, scenes of several, and crops of photographs shipped with scikit-image and scikit-learn (public
domain, CC0, and one CC BY 2.0). The autoencoder is that of `emoji`.

## Training

{training}

## Figures

{figures}

Measured on held-out images: emoji of held-out styles on white, and crops of two photographs (chelsea, flower). PSNR is
relative to the reference edit, computed by the rule that made the training pairs. The ceiling is the reconstruction of
the reference edit by the autoencoder, which no editor of these latents can exceed by much. Samples are DDIM, 20 steps,
text guidance {text_scale:g}, image guidance {image_scale:g}. Directions and names are evaluated by the CLIP beside this
folder.

## Limitations

It knows the instructions above and {size}x{size} pixels. Edges and small parts move slightly, and flat colors become
uneven. It is a test bed, not a tool for art.
"""

CLIP = """# clip: a small CLIP for emoji

A `CLIPModel` (vision 64x64 in patches of 8, text of 24 tokens, features of length 128) with tokenizer and image
processor; larger images are reduced to 64x64. It measures how well an image matches a caption such as "a picture of
an owl" or "a photo, at night"; use it as a metric for the emoji priors. A quarter of its training images were edited
(night, sepia, and so on) and an eighth were photographs, so that it knows the direction of an edit.

{data}
## Training

{training}

## Figures

{figures}

Both are measured on images of held-out styles, on white: the own name among all {names} names, and the own image among
the held-out ones.

## Limitations

It knows emoji and their names only. Similar concepts (the many faces, the hours of clocks, arrows) are often
confused.
"""

OF_CLIP = ("image_to_name_top_5", "name_to_image_top_5")
KINDS = ("emoji", "photographs")

EDITOR_MEANINGS = {
    "emoji_psnr_edited": "procedural edits of emoji: PSNR to the ground truth, in dB",
    "emoji_psnr_source": "the same, unchanged source",
    "emoji_psnr_ceiling": "the same, ground truth through the autoencoder (ceiling)",
    "emoji_gain": "gain over the unchanged source, emoji, in dB",
    "photographs_psnr_edited": "procedural edits of photographs: PSNR to the ground truth, in dB",
    "photographs_psnr_source": "the same, unchanged source",
    "photographs_psnr_ceiling": "the same, ground truth through the autoencoder (ceiling)",
    "photographs_gain": "gain over the unchanged source, photographs, in dB",
    "empty_psnr_to_reconstruction": "empty instruction: PSNR to the source through the autoencoder, in dB",
    "empty_psnr_to_source": "empty instruction: PSNR to the source itself, in dB",
    "background_gain": "another background, emoji: gain in dB",
    "object_name_in_top_5": '"turn it into a pizza" and others: name in the top 5',
    "emoji_many_gain": "edits with many answers, emoji: gain of the nearest right answer over the source, in dB",
    "photographs_many_gain": "the same, photographs",
    "wordings_gain_trained": "gain by all trained wordings in turn, in dB",
    "wordings_gain_held_out": "the same, wordings not seen in training",
    "wordings_many_gain_trained": "edits with many answers: gain by trained wordings in turn, in dB",
    "wordings_many_gain_held_out": "the same, wordings not seen in training",
    "crops_agreement": "edits with many answers: pairs of crops, edited apart, that agree",
    "crops_chance": "the same, by chance",
    "background_gain_held_out": "another background, wordings not seen in training: gain in dB",
    "object_name_in_top_5_guided": '"turn it into a pizza" and others, text guidance 3: name in the top 5',
    "emoji_direction": "CLIP direction, emoji",
    "photographs_direction": "CLIP direction, photographs",
}

MEANINGS = {
    "psnr_held_out_emoji": "autoencoder, held-out emoji, PSNR in dB",
    "psnr_held_out_photographs": "autoencoder, held-out photographs, PSNR in dB",
    "image_to_name_top_5": "held-out emoji: own name in the top 5",
    "name_to_image_top_5": "name: own held-out emoji in the top 5",
    "sample_name_in_top_5": "samples of ten common prompts: own name in the top 5",
    "sample_name_is_first": "samples of ten common prompts: own name first",
    "common_concepts_name_in_top_5": "samples of all its concepts: own name in the top 5",
    "plain_names_name_in_top_5": 'samples of plain names ("a car"): name of the concept in the top 5',
    "backgrounds_obeyed": "samples on named backgrounds: the border has that color",
    "diversity_of_seeds": "CLIP distance between seeds of a prompt",
    "diversity_of_prompts": "CLIP distance between prompts",
    "red_apple_red_minus_green": "red minus green of colored pixels, a red apple",
    "green_apple_red_minus_green": "red minus green of colored pixels, a green apple",
    "frechet_samples_to_real": "Fréchet distance, samples to real emoji",
    "frechet_real_half_to_half": "the same, half of the real emoji to the other half",
}


def table(figures: Mapping[str, float], meanings: Mapping[str, str]) -> str:
    """A Markdown table of the figures that have a meaning."""
    rows = [f"| {meaning} | {figures[name]:.3g} |" for name, meaning in meanings.items() if name in figures]
    return "\n".join(["| figure | value |", "| --- | --- |", *rows])


def prior_card(
    figures: Mapping[str, float], training: str, concepts: int, names: int, size: int = 128, channels: int = 8
) -> str:
    """The card of the text-to-image model.

    Args:
        figures: as returned by `scoredistill.training.evaluation.evaluate`.
        training: description of the training.
        concepts: number of concepts that it was trained on.
        names: number of names among which the CLIP chooses.
        size: side of the images.
        channels: of the latents.
    """
    meanings = {name: meaning for name, meaning in MEANINGS.items() if name not in OF_CLIP}
    text = PRIOR.format(
        data=DATA.format(size=size),
        training=training,
        figures=table(figures, meanings),
        concepts=concepts,
        names=names,
        size=size,
        channels=channels,
    )
    return HEADER.format(library="diffusers", tag="text-to-image") + text


def clip_card(figures: Mapping[str, float], training: str, names: int, size: int = 128) -> str:
    """The card of the CLIP, from the same figures."""
    meanings = {name: MEANINGS[name] for name in OF_CLIP}
    shown = table(figures, meanings)
    text = CLIP.format(data=DATA.format(size=size), training=training, figures=shown, names=names)
    return HEADER.format(library="transformers", tag="clip") + text


def editor_card(figures: Mapping[str, float], training: str, size: int = 128) -> str:
    """The card of the instruction editor."""
    gains = {f"{kind}_gain_{n.replace(' ', '_')}": f"gain, {kind}, {n}" for kind in KINDS for n in EDITS}
    exact, many = (
        ", ".join(f'"{edit.instructions[0]}"' for edit in EDITS.values() if edit.exact == one) for one in (True, False)
    )
    text = EDITOR.format(
        data=DATA.format(size=size),
        training=training,
        figures=table(figures, EDITOR_MEANINGS | gains),
        taught=textwrap.fill(TAUGHT.format(edits=exact, many=many), 120),
        text_scale=TEXT_SCALE,
        image_scale=IMAGE_SCALE,
        size=size,
    )
    return HEADER.format(library="diffusers", tag="image-editing") + text
