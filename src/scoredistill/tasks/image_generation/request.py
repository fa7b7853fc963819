"""Carried here by the move."""

from dataclasses import dataclass, replace
from typing import Any

from scoredistill.tasks.image_generation.recipes import RECIPES, Recipe

IMAGES = ("mlp", "latents", "pixels")


METHODS = (*RECIPES, "ddim")


DDIM_STEPS, DDIM_GUIDANCE = 30, 5.0


@dataclass(frozen=True)
class Request:
    """What is wanted. None means the method's own setting (see `recipes`).

    Attributes:
        prompt: what the image shows.
        method: a name of `RECIPES`, or "ddim" for ordinary sampling.
        prior: name, hub name or folder for `load_prior`.
        image: what is optimized: "mlp" (a coordinate network), "latents" or "pixels".
        steps: optimization (or sampling) steps.
        particles: how many images at once.
        guidance: classifier-free guidance scale.
        through: "encoder" or "decoder": how gradients on latents come back to images (see `estimators.Decoded`).
        follow: optimizer steps per gradient (see `distill`).
        lr: learning rate of Adam; 0 for plain gradient steps of length 1 (with latents, x <- x - grad).
        negative_prompt: what the image should not show.
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
            raise ValueError('the prompt is empty: say what the image shows, for example "a hamburger"')
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
