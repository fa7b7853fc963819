"""Commands in three dimensions: `object` and `scene`."""

import re
from pathlib import Path
from typing import Any

from tyro.conf import Positional


def object_(
    prompt: Positional[str],
    out: Path | None = None,
    method: str = "msd",
    prior: str = "emoji",
    shape: str = "nerf",
    encoding: str = "dense",
    steps: int | None = None,
    views: int | None = None,
    guidance: float | None = None,
    lr: float | None = None,
    follow: int | None = None,
    size: int | None = None,
    elevation: tuple[float, float] | None = None,
    view_prompts: bool | None = None,
    perp_neg: bool = False,
    shading: str = "albedo",
    background: str = "white",
    negative_prompt: str = "",
    sparsity: float = 0.0,
    entropy: float = 0.0,
    orientation: float = 0.0,
    view: bool = False,
    port: int = 8080,
    seed: int = 0,
    resume: bool = False,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Make a thing of a prompt, in three dimensions: mesh or splats, videos that turn, depths, normals and a report.

    Args:
        prompt: What it is, for example "a hamburger".
        out: Folder for all that is written, runs/PROMPT-3d-METHOD by default; preview.png in it shows the thing.
        method: msd (mean shift), sds, annealed_sds, sdi, vsd, csd (views share scores), msd_same_noise, msd_mean or
            collaborative.
        prior: "emoji" (bundled), a folder with a diffusers pipeline, or a hub name.
        shape: nerf (a radiance field) or splats (Gaussians).
        encoding: Of the radiance field: dense, triplane or hash.
        steps: Gradients; the method's own number by default.
        views: Rendered per step, coupled by methods that couple.
        guidance: Classifier-free guidance scale, 1 is none.
        lr: Learning rate of Adam.
        follow: Optimizer steps per gradient.
        size: Height and width of renders in pixels; the prior's own, but at most 64, by default.
        elevation: Lowest and highest elevation of the cameras, degrees.
        view_prompts: Say in the prompt from where a view is seen; by default for all but the bundled prior.
        perp_neg: Lead views away from the front, against things with several faces.
        shading: albedo (colors alone) or mixed (also lit and without colors).
        background: white, random or learned.
        negative_prompt: What it should not be.
        sparsity: Penalty of fog.
        entropy: Penalty of what is neither there nor not there.
        orientation: Penalty of surfaces that face away.
        view: Watch and turn it in a browser while it is made, and afterwards until Ctrl-C.
        port: Of that page.
        seed: Of all randomness.
        resume: Go on with the interrupted run in --out.
        dtype: Of the networks: float32 (default), float16 or bfloat16.
        device: For example cpu, cuda or cuda:1; a GPU if there is one by default.
    """
    from scoredistill.cli.live_view import Watch
    from scoredistill.tasks import text_to_3d

    out = out or Path("runs") / f"{re.sub(r'[^a-z0-9]+', '_', prompt.lower())[:60].strip('_') or 'object'}-3d-{method}"
    settings: dict[str, Any] = {
        "shape": shape, "encoding": encoding, "steps": steps, "views": views, "guidance": guidance, "lr": lr,
        "follow": follow, "size": size, "elevation": elevation, "view_prompts": view_prompts, "perp_neg": perp_neg,
        "shading": shading, "background": background, "negative_prompt": negative_prompt, "sparsity": sparsity,
        "entropy": entropy, "orientation": orientation, "seed": seed, "dtype": dtype, "device": device,
    }  # fmt: skip
    with Watch(port if view else None, prompt) as watch:
        made = text_to_3d(prompt, prior, method, out=out, resume=resume, progress=True, callback=watch, **settings)
        print(f"{made.counts['rows']} network rows, {made.seconds:.1f} s: {out / 'report.html'}")
        watch.stay(made.scene)
