"""Scoredistill image."""

import re
from pathlib import Path
from typing import Any

from tyro.conf import Positional


def image(
    prompt: Positional[str],
    out: Path | None = None,
    method: str = "msd",
    prior: str = "emoji",
    image: str = "mlp",
    steps: int | None = None,
    particles: int | None = None,
    guidance: float | None = None,
    lr: float | None = None,
    through: str | None = None,
    follow: int | None = None,
    negative_prompt: str = "",
    seed: int = 0,
    resume: bool = False,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Make images of a prompt by distillation: PNGs, a video of it, metrics and a report.

    Args:
        prompt: What the image shows, for example "a hamburger".
        out: Folder for all that is written, runs/PROMPT-METHOD by default; preview.png in it shows the run as it goes.
        method: msd (mean shift), sds (score distillation sampling), csd (collaborative), or ddim (ordinary sampling).
        prior: "emoji" (bundled), a folder with a diffusers pipeline, or a hub name.
        image: What is optimized: mlp (a coordinate network), latents or pixels.
        steps: Optimization steps; the method's own number by default.
        particles: Images at once; 1 by default, 4 for csd.
        guidance: Classifier-free guidance scale, 1 is none.
        lr: Learning rate of Adam; 0 for plain gradient steps of length 1.
        through: How gradients on latents come back to images: encoder (chain rule) or decoder.
        follow: Optimizer steps per gradient; more lets slow images keep up with few network calls.
        negative_prompt: What the image should not show.
        seed: Of all randomness; the same seed gives the same image.
        resume: Go on with the interrupted run in --out.
        dtype: Of the networks: float32 (default), float16 or bfloat16.
        device: For example cpu, cuda or cuda:1; a GPU if there is one by default.
    """
    from scoredistill.tasks import text_to_image

    out = out or Path("runs") / f"{re.sub(r'[^a-z0-9]+', '_', prompt.lower())[:60].strip('_') or 'image'}-{method}"
    settings: dict[str, Any] = {"image": image, "steps": steps, "particles": particles, "guidance": guidance, "lr": lr}
    settings |= {
        "negative_prompt": negative_prompt,
        "seed": seed,
        "through": through,
        "follow": follow,
        "dtype": dtype,
        "device": device,
    }
    result = text_to_image(prompt, prior, method, out=out, resume=resume, progress=True, **settings)
    rows, seconds = result.counts["rows"], result.seconds
    print(f"{len(result.images)} image(s), {rows} network rows, {seconds:.1f} s: {out / 'report.html'}")
