"""A prompt becomes an image, by distillation or, to compare with, by sampling.

result = text_to_image("a hamburger", method="msd")
result.images[0].save("hamburger.png")
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scoredistill.estimators import Decoded
from scoredistill.generators import CoordinateMLP, Encoded, Generator, Latents, Pixels
from scoredistill.loop import Step, distill
from scoredistill.media.images import to_pil
from scoredistill.priors.base import Prior, TextPrior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.counted import Counted
from scoredistill.priors.guidance import Guided
from scoredistill.priors.pipelines import load_prior, prior_folder
from scoredistill.sampling import ddim
from scoredistill.tasks.image_generation.output import Folder, Result
from scoredistill.tasks.image_generation.recipes import RECIPES, Recipe
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.session import measure


def text_to_image(
    prompt: str,
    prior: str | Path | Prior = "emoji",
    method: str = "msd",
    *,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> Result:
    """Make images of a prompt.

    Args:
        prompt: what they show.
        prior: for `load_prior`, or a loaded prior.
        method: a name of `METHODS`.
        recipe: how to run a method of your own, which `method` only names then.
        out: folder for images, video, settings, metrics and report; nothing is written without it.
        resume: go on with an interrupted run in `out`.
        progress: show a progress bar.
        callback: called with every finished step.
        dtype, device: of the networks, for `load_prior`.
        **settings: other fields of `Request`: image, steps, particles, guidance, lr, negative_prompt, seed.

    Raises:
        ValueError: for impossible settings, before the model is loaded.
        FloatingPointError: if the images or gradients stop being finite.
    """
    name = str(prior) if isinstance(prior, (str, Path)) else getattr(prior, "name", type(prior).__name__)
    request = Request(prompt, method, name, **settings).complete(recipe)
    if isinstance(prior, (str, Path)):
        prior_folder(prior)
    folder = None if out is None else Folder(Path(out), request, resume)
    if not isinstance(prior, Prior):
        prior = load_prior(prior, dtype=dtype, device=device)
    if not isinstance(prior, TextPrior):
        raise ValueError(f"{name} has no text encoder: text-to-image needs a prior of load_prior")
    if prior.needs_source:
        raise ValueError(f"{name} edits images: to make them from text use a model such as emoji")
    recipe = recipe or RECIPES.get(request.method)
    if recipe is None:
        prior.times(request.steps or 1)  # refuses more steps than the scheduler has
    progressed = (None, [], 0.0) if folder is None else folder.open()
    if recipe is None:
        result = _sample(request, prior)
    else:
        result = _optimize(request, recipe, prior, folder, progressed, progress, callback)
    if folder is not None:
        folder.finish(result)
    return result


def _guided(
    request: Request, prior: TextPrior, interval: tuple[float, float] | None = None
) -> tuple[Counted, Prior, Cond]:
    counted = Counted(prior)
    uncond = prior.encode_text([request.negative_prompt]) if request.negative_prompt else None
    assert request.guidance is not None
    return counted, Guided(counted, request.guidance, interval, uncond=uncond), prior.encode_text([request.prompt])


def _sample(request: Request, prior: TextPrior) -> Result:
    counted, guided, cond = _guided(request, prior)
    assert request.steps is not None
    assert request.particles is not None
    start = time.perf_counter()
    generators = [torch.Generator().manual_seed(request.seed + i) for i in range(request.particles)]
    noise = torch.stack([torch.randn(prior.latent_shape, generator=g) for g in generators]).to(prior.device)
    samples = ddim(guided, noise, request.steps, cond)
    images = _images(counted.decode(samples))
    return Result(images, request, counted.counts(), time.perf_counter() - start, samples=samples)


def make_generator(request: Request, prior: TextPrior, codec: Prior | None = None) -> Generator:
    """The image that is optimized, initialized from the request's seed; `codec` encodes it (the prior by default).

    Images whose gradients come through the decoder are left as they are: their estimator is `Decoded`.
    """
    rng, n = torch.Generator().manual_seed(request.seed), request.particles or 1
    if request.image == "latents":
        return Latents(n, prior.latent_shape, rng=rng).to(prior.device)
    images = (CoordinateMLP if request.image == "mlp" else Pixels)(n, prior.image_size, rng=rng)
    return (images if request.through == "decoder" else Encoded(images, codec or prior)).to(prior.device)


def _steps(request: Request, recipe: Recipe, prior: TextPrior, guided: Prior, cond: Cond, state: Any) -> Iterator[Step]:
    generator = make_generator(request, prior, guided)
    if request.lr:
        optimizer: torch.optim.Optimizer = torch.optim.Adam(generator.parameters(), lr=request.lr)
    else:
        optimizer = torch.optim.SGD(generator.parameters(), lr=1.0)
    assert request.guidance is not None
    estimator = recipe.estimator(request.guidance)
    if request.through == "decoder" and request.image != "latents":
        estimator = Decoded(estimator)
    rng = torch.Generator().manual_seed(request.seed + 1)
    times = recipe.times(prior.schedule, request.seed)
    assert request.steps is not None
    assert request.follow is not None
    return distill(
        generator, guided, estimator, cond,
        steps=request.steps, times=times, optimizer=optimizer, follow=request.follow, rng=rng, state=state,
    )  # fmt: skip


def _optimize(
    request: Request,
    recipe: Recipe,
    prior: TextPrior,
    folder: Folder | None,
    progressed: tuple[dict[str, Any] | None, list[dict[str, float]], float],
    progress: bool,
    callback: Callable[[Step], None] | None,
) -> Result:
    from tqdm.auto import tqdm

    counted, guided, cond = _guided(request, prior, recipe.interval)
    state, history, spent = progressed
    counted.add(state["counts"] if state else {})
    start = time.perf_counter() - spent
    bar = tqdm(
        _steps(request, recipe, prior, guided, cond, state), request.method, request.steps, initial=len(history),
        disable=not progress, dynamic_ncols=True, unit="step",
    )  # fmt: skip
    for step in bar:
        history.append(measure(step))
        bar.set_postfix({name: f"{value:.3g}" for name, value in history[-1].items()}, refresh=False)
        if callback is not None:
            callback(step)
        if folder is not None:
            folder.after(step, history, counted.counts(), time.perf_counter() - start)
    images = _images(step.images())
    samples = step.generator(step.views).detach() if request.image == "latents" else None
    return Result(images, request, counted.counts(), time.perf_counter() - start, history, samples)


def _images(images: Tensor) -> list[Image.Image]:
    if not bool(images.isfinite().all()):
        raise FloatingPointError("the images are not finite: try a float32 prior or a smaller guidance scale")
    return to_pil(images)
