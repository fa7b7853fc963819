"""A prompt becomes a picture, by distillation or, to compare with, by sampling.

result = text_to_image("a hamburger", method="msd")
result.images[0].save("hamburger.png")
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scoredistill.estimators import Decoded
from scoredistill.generators import CoordinateMLP, Encoded, Generator, Latents, Pixels
from scoredistill.loop import Step, distill
from scoredistill.pictures import to_pil
from scoredistill.priors.base import Cond, Prior, TextPrior
from scoredistill.priors.counted import Counted
from scoredistill.priors.guidance import Guided
from scoredistill.priors.pipelines import load_prior, prior_folder
from scoredistill.sampling import ddim
from scoredistill.tasks.folder import Folder
from scoredistill.tasks.recipes import RECIPES, Recipe

IMAGES = ("mlp", "latents", "pixels")
METHODS = (*RECIPES, "ddim")
DDIM_STEPS, DDIM_GUIDANCE = 30, 5.0


@dataclass(frozen=True)
class Request:
    """What is wanted. None means the method's own setting (see `recipes`).

    Attributes:
        prompt: what the picture shows.
        method: a name of `RECIPES`, or "ddim" for ordinary sampling.
        prior: name, hub name or folder for `load_prior`.
        image: what is optimised: "mlp" (a coordinate network), "latents" or "pixels".
        steps: optimisation (or sampling) steps.
        particles: how many pictures at once.
        guidance: classifier-free guidance scale.
        through: "encoder" or "decoder": how gradients on latents come back to pictures (see `estimators.Decoded`).
        follow: optimiser steps per gradient (see `distill`).
        lr: learning rate of Adam; 0 for plain gradient steps of length 1 (with latents, x <- x - grad).
        negative_prompt: what the picture should not show.
        seed: of all randomness.
    """

    prompt: str
    method: str = "msd"
    prior: str = "emoji"
    image: str = "mlp"
    steps: int | None = None
    particles: int | None = None
    guidance: float | None = None
    lr: float | None = None
    through: str | None = None
    follow: int | None = None
    negative_prompt: str = ""
    seed: int = 0

    def complete(self, recipe: Recipe | None = None) -> "Request":
        """The same request with every setting filled in.

        Args:
            recipe: of a method of the caller's own; the usual one of `method` by default.

        Raises:
            ValueError: for impossible settings, in one sentence that says how to mend it.
        """
        if not isinstance(self.prompt, str):
            raise ValueError(f"the prompt must be one text, not a {type(self.prompt).__name__}")
        if not self.prompt.strip():
            raise ValueError('the prompt is empty: say what the picture shows, for example "a hamburger"')
        if recipe is None and self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}: use one of {', '.join(METHODS)}")
        if self.image not in IMAGES:
            raise ValueError(f"unknown image {self.image!r}: use one of {', '.join(IMAGES)}")
        if self.method == "ddim" and recipe is None:
            usual: dict[str, Any] = {
                "steps": DDIM_STEPS,
                "guidance": DDIM_GUIDANCE,
                "particles": 1,
                "lr": 0.0,
                "through": "decoder",
                "follow": 1,
            }
        else:
            recipe = recipe or RECIPES[self.method]
            usual = {"guidance": recipe.guidance, "particles": recipe.particles, "through": recipe.through}
            usual["follow"] = 1 if self.image == "latents" else recipe.follow
            usual |= {"steps": recipe.steps[self.image], "lr": recipe.lr[self.image]}
        full = replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})
        if full.through not in ("encoder", "decoder"):
            raise ValueError(f"unknown through {full.through!r}: use encoder or decoder")
        for name, least in (("steps", 1), ("particles", 1), ("follow", 1), ("lr", 0), ("guidance", 0), ("seed", 0)):
            if not getattr(full, name) >= least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(full, name)}")
        if full.seed >= 2**62:
            raise ValueError(f"seed must be below 2^62, not {full.seed}")
        return full


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes:
        images: the pictures, one per particle.
        request: what made them, every setting filled in.
        counts: network rows and calls, pictures encoded and decoded.
        seconds: wall time of the optimisation, without loading the model.
        history: one row per step: t, bandwidth or kernel mean where there is one, grad_norm.
        samples: what the pictures were decoded from, where that was optimised or sampled (latents); None otherwise.
    """

    images: list[Image.Image]
    request: Request
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    samples: Tensor | None = None


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
    """Make pictures of a prompt.

    Args:
        prompt: what they show.
        prior: for `load_prior`, or a loaded prior.
        method: a name of `METHODS`.
        recipe: how to run a method of your own, which `method` only names then.
        out: folder for pictures, film, settings, metrics and report; nothing is written without it.
        resume: go on with an interrupted run in `out`.
        progress: show a progress bar.
        callback: called with every finished step.
        dtype, device: of the networks, for `load_prior`.
        **settings: other fields of `Request`: image, steps, particles, guidance, lr, negative_prompt, seed.

    Raises:
        ValueError: for impossible settings, before the model is loaded.
        FloatingPointError: if the pictures or gradients stop being finite.
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
        raise ValueError(f"{name} edits pictures: to make them from text use a model such as emoji")
    recipe = recipe or RECIPES.get(request.method)
    if recipe is None:
        prior.times(request.steps or 1)  # refuses more steps than the scheduler has
    progressed = (None, [], 0.0) if folder is None else folder.open()
    if recipe is None:
        result = _sample(request, prior)
    else:
        result = _optimise(request, recipe, prior, folder, progressed, progress, callback)
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
    images = _pictures(counted.decode(samples))
    return Result(images, request, counted.counts(), time.perf_counter() - start, samples=samples)


def make_generator(request: Request, prior: TextPrior, codec: Prior | None = None) -> Generator:
    """The image that is optimised, initialised from the request's seed; `codec` encodes it (the prior by default).

    Pictures whose gradients come through the decoder are left as they are: their estimator is `Decoded`.
    """
    rng, n = torch.Generator().manual_seed(request.seed), request.particles or 1
    if request.image == "latents":
        return Latents(n, prior.latent_shape, rng=rng).to(prior.device)
    pictures = (CoordinateMLP if request.image == "mlp" else Pixels)(n, prior.picture_size, rng=rng)
    return (pictures if request.through == "decoder" else Encoded(pictures, codec or prior)).to(prior.device)


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
    clock = recipe.clock(prior.schedule, request.seed)
    assert request.steps is not None
    assert request.follow is not None
    return distill(
        generator, guided, estimator, cond,
        steps=request.steps, times=clock, optimizer=optimizer, follow=request.follow, rng=rng, state=state,
    )  # fmt: skip


def _optimise(
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
    images = _pictures(step.images())
    samples = step.generator(step.views).detach() if request.image == "latents" else None
    return Result(images, request, counted.counts(), time.perf_counter() - start, history, samples)


def _pictures(pictures: Tensor) -> list[Image.Image]:
    if not bool(pictures.isfinite().all()):
        raise FloatingPointError("the pictures are not finite: try a float32 prior or a smaller guidance scale")
    return to_pil(pictures)


def measure(step: Step) -> dict[str, float]:
    """The step's row of numbers; one wait for the device.

    Raises:
        FloatingPointError: if the gradient is not finite.
    """
    values: list[Tensor] = [step.grad_norm, *step.estimate.info.values()]
    numbers = torch.stack([v.detach().double().reshape(()) for v in values]).tolist()
    if not all(abs(v) < float("inf") for v in numbers):
        raise FloatingPointError(
            f"the gradient of step {step.index} is not finite: try a smaller learning rate or guidance scale, or "
            "float32 networks"
        )
    return {"t": step.t, "grad_norm": numbers[0], **dict(zip(step.estimate.info, numbers[1:], strict=True))}
