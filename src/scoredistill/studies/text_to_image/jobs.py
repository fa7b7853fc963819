"""The jobs of the text-to-image study: draw the references, and make images of every prompt by every method.

Images and features are written as arrays, numbers are returned. All images of a prompt are the particles of one run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoredistill.files import atomic, slug
from scoredistill.loop import Step
from scoredistill.media.images import to_tensor
from scoredistill.metrics import Clip, bundled_clip, efficientnet, inception
from scoredistill.optional import MissingExtra
from scoredistill.priors.guidance import Guided
from scoredistill.sampling import ddim
from scoredistill.studies.harness.setting import LAST_SEED, loaded
from scoredistill.studies.text_to_image.blocks import BLOCKS
from scoredistill.studies.text_to_image.ideal import Ideal
from scoredistill.tasks.image_generation.request import DDIM_GUIDANCE, DDIM_STEPS
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.request import PriorOptions

SNAPSHOTS = 16  # at most, of a run
REFERENCE_SEED = LAST_SEED + 1  # and above; no run has such seeds


@dataclass(frozen=True)
class Setup:
    """What all jobs of a study share.

    Args:
        prior: name, hub name or directory for `load_prior`.
        clip: directory or hub name of the CLIP model that evaluates the images; the bundled one by default.
        prompts: all prompts.
        references: number of DDIM samples of each prompt.
        inception: compute FIDs in Inception's features too.
        load: how the prior is loaded.
    """

    prior: str
    clip: str | None
    prompts: tuple[str, ...]
    references: int
    inception: bool = False
    load: PriorOptions = PriorOptions()


def reference(setup: Setup, prompt: str, out: Path) -> dict[str, Any]:
    """Draw DDIM samples of a prompt: the ground truth that images are compared with."""
    prior = loaded(setup.prior, setup.load)
    rng = torch.Generator().manual_seed(REFERENCE_SEED + setup.prompts.index(prompt))
    noise = torch.randn(setup.references, *prior.latent_shape, generator=rng).to(prior.device)
    with torch.no_grad():
        guided, cond = Guided(prior, DDIM_GUIDANCE), prior.encode_text([prompt])
        latents = torch.cat([ddim(guided, part, DDIM_STEPS, cond) for part in noise.split(32)])
        images = torch.cat([prior.decode(part).clamp(0, 1) for part in latents.split(8)]).cpu()
    _save(out / f"reference-{slug(prompt)}.npz", images, setup, latents=latents.float().cpu().numpy())
    return {"images": len(images), "rows": 2 * DDIM_STEPS}


@cache
def ideal(setup: Setup, out: Path) -> Ideal:
    """The ideal denoiser of all references in a directory, loaded once per process."""
    files = [np.load(out / f"reference-{slug(prompt)}.npz") for prompt in setup.prompts]
    prior, latents = loaded(setup.prior, setup.load), [torch.from_numpy(file["latents"]) for file in files]
    shown = [prompt for prompt, part in zip(setup.prompts, latents, strict=True) for _ in part]
    return Ideal(prior, torch.cat(latents).to(prior.device), shown)


def drawn(setup: Setup, name: str, method: str, prompt: str, n: int, out: Path, seed: int = 0) -> dict[str, Any]:
    """Make n images of a prompt by a method of the named block; the first has the given seed.

    Returns:
        "nfe" (network evaluations for an image), "calls", "encoded", "decoded", "seconds", "steps", "at" (the network
        evaluations at each snapshot) and, in an ideal block, "distance" (of each image to the nearest sample).
    """
    block = BLOCKS[name]
    prior = ideal(setup, out) if block.ideal else loaded(setup.prior, setup.load)
    settings = {"particles": n, "recipe": block.recipe(method), **block.settings.get(method, {})}
    if settings["recipe"] is not None:
        settings["image"] = block.image
    if block.ideal:
        settings["guidance"] = 1.0
    if block.rows is not None:
        settings["steps"] = steps_for(prior, method, prompt, settings, block.rows)
    kept: dict[int, Tensor] = {}

    def keep(step: Step) -> None:
        if step.index + 1 in snapshots(step.steps):
            kept[step.index + 1] = step.images().cpu()

    result = text_to_image(prompt, prior, method, callback=keep, seed=seed, **settings)
    steps, nfe = result.request.steps or 1, result.counts["rows"] / n
    seen = {f"seen_{k}": evaluator(setup.clip).image_features(images).cpu().numpy() for k, images in kept.items()}
    _save(out / f"{block.stem(method, n, seed)}-{slug(prompt)}.npz", to_tensor(result.images), setup, **seen)
    found: dict[str, Any] = {"nfe": nfe, **{k: v / n for k, v in result.counts.items() if k != "rows"}, "steps": steps}
    found |= {"seconds": result.seconds / n, "at": {str(k): nfe * k / steps for k in kept}}
    found["guidance"], found["lr"] = result.request.guidance, result.request.lr
    if isinstance(prior, Ideal) and result.samples is not None:
        found["distance"] = prior.distance(result.samples, prompt).tolist()
    return found


def steps_for(prior: Any, method: str, prompt: str, settings: Mapping[str, Any], rows: int) -> int:
    """The number of steps at which a method spends about `rows` network evaluations on an image; at least 1."""
    fewest = {"steps": 1} if method == "ddim" else {"steps": 1, "follow": 1}
    one = text_to_image(prompt, prior, method, **{**settings, **fewest})
    return max(1, round(rows / (one.counts["rows"] / len(one.images))))


def snapshots(steps: int, most: int = SNAPSHOTS) -> list[int]:
    """Numbers of finished steps at which images are kept: denser at first, and the last one."""
    return sorted({max(1, round(steps ** (k / (most - 1)))) for k in range(most)} | {steps})


def _save(path: Path, images: Tensor, setup: Setup, **arrays: np.ndarray) -> None:
    """Write images as bytes, with their features by every evaluator."""
    features = {"clip": evaluator(setup.clip).image_features(images).cpu().numpy()}
    if (other := imagenet()) is not None:
        features["efficientnet"] = other.image_features(images).cpu().numpy()
    if setup.inception:
        features["inception"] = inception().image_features(images).cpu().numpy()
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    kept: Any = {"pixels": pixels, **features, **arrays}
    with atomic(path) as draft:
        np.savez_compressed(draft, **kept)


@cache
def evaluator(name: str | None) -> Clip:
    """The CLIP model that evaluates images, loaded once per process."""
    return bundled_clip() if name is None else Clip(name)


@cache
def imagenet() -> Any | None:
    """EfficientNet, or None where it is not installed."""
    try:
        return efficientnet()
    except MissingExtra:
        return None
