"""Things from text: a prior of images shapes a radiance field or Gaussians, view by view.

result = text_to_3d("a hamburger", out="runs/hamburger")        # GLB, videos, report
result.scene.render(orbit(8))
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scoredistill.loop import Step
from scoredistill.priors.base import Prior, TextPrior
from scoredistill.priors.counted import Counted
from scoredistill.priors.pipelines import load_prior, prior_folder
from scoredistill.tasks.object_generation.output import ObjectFolder, ObjectResult
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.object_generation.run import make_scene, shaped, size_of, views_of
from scoredistill.tasks.session import measure
from scoredistill.three_d.scenes.base import Scene


def text_to_3d(
    prompt: str,
    prior: str | Path | Prior = "emoji",
    method: str = "msd",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    callback: Callable[[Step, Scene], None] | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> ObjectResult:
    """Make a thing from a prompt.

    Args:
        prompt: what it is.
        prior: for `load_prior`, or a loaded prior.
        method: a name of `OBJECT_RECIPES`.
        out: folder for mesh, splats, videos, settings, metrics and report; nothing is written without it.
        resume: go on with an interrupted run in `out`.
        progress: show a progress bar.
        callback: called with every finished step and the scene.
        dtype, device: of the networks, for `load_prior`.
        **settings: other fields of `ObjectRequest`.

    Raises:
        ValueError: for impossible settings, before the model is loaded.
        FloatingPointError: if gradients stop being finite.
    """
    from tqdm.auto import tqdm

    name = str(prior) if isinstance(prior, (str, Path)) else getattr(prior, "name", type(prior).__name__)
    request = ObjectRequest(prompt, method, name, **settings).complete()
    if isinstance(prior, (str, Path)):
        prior_folder(prior)
    folder = None if out is None else ObjectFolder(Path(out), request, resume)
    if not isinstance(prior, Prior):
        prior = load_prior(prior, dtype=dtype, device=device)
    if not isinstance(prior, TextPrior) or prior.needs_source:
        raise ValueError(f"{name} cannot make images from text: use a text-to-image model such as emoji")
    size = size_of(request, prior)
    request = replace(request, size=size)
    scene = make_scene(request, size, prior.image_size).to(prior.device)
    state, history, spent = (None, [], 0.0) if folder is None else folder.open()
    counted = Counted(prior)
    counted.add(state["counts"] if state else {})
    start = time.perf_counter() - spent
    steps = shaped(request, scene, prior, counted, state)
    bar = tqdm(
        steps, request.method, request.steps, initial=len(history), disable=not progress, dynamic_ncols=True,
        unit="step",
    )  # fmt: skip
    for step in bar:
        history.append(measure(step))
        bar.set_postfix({k: f"{v:.3g}" for k, v in history[-1].items()}, refresh=False)
        if callback is not None:
            callback(step, scene)
        if folder is not None:
            folder.after(step, scene, history, counted.counts(), time.perf_counter() - start)
    seconds = time.perf_counter() - start
    result = ObjectResult(scene, views_of(scene), request, counted.counts(), seconds, history)
    if folder is not None:
        folder.finish(result)
    return result
