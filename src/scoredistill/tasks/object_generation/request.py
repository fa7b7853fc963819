"""What a thing is asked to be, and the usual settings."""

import math
from dataclasses import dataclass, replace
from typing import Any

from scoredistill.priors.pipelines import BUNDLED
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES, ObjectRecipe

SHAPES = ("nerf", "splats")
ENCODINGS = ("dense", "triplane", "hash")
SHADING = ("albedo", "mixed")
BACKGROUNDS = ("white", "random", "learned")
BUNDLED_ELEVATION, USUAL_ELEVATION = (-5.0, 25.0), (-10.0, 60.0)  # the bundled prior knows fronts alone


@dataclass(frozen=True)
class ObjectRequest:
    """What is wanted. None means the method's own setting (`recipes`), or the prior's.

    Attributes:
        prompt: what it is.
        method: a name of `OBJECT_RECIPES`.
        prior: name, hub name or folder for `load_prior`.
        shape: "nerf" (a radiance field) or "splats" (Gaussians).
        encoding: of the radiance field's positions, "dense", "triplane" or "hash".
        steps: gradients.
        views: rendered per step.
        guidance: classifier-free guidance scale.
        lr: learning rate of Adam.
        follow: optimizer steps per gradient.
        size: height and width of the renders in pixels; most of the steps see half of it. The
            prior's own, but at most 64, by default.
        elevation: (lowest, highest) of the cameras, degrees.
        view_prompts: say from where a view is seen ("front view"); not by default for the bundled prior, which has
            seen fronts alone.
        perp_neg: guide views away from the front (or, fronts, from the back) by Perp-Neg. Needs view_prompts.
        shading: "albedo", or "mixed" with DreamFusion's textureless and lambertian views.
        background: "white", "random" colors, or "learned" with the thing (radiance fields only).
        negative_prompt: what it should not be; not for sdi, which guides by itself.
        sparsity, entropy, orientation: weights of penalties, see `Penalties`; orientation is for radiance fields only.
        seed: of all randomness.
    """

    prompt: str
    method: str = "msd"
    prior: str = "emoji"
    shape: str = "nerf"
    encoding: str = "dense"
    steps: int | None = None
    views: int | None = None
    guidance: float | None = None
    lr: float | None = None
    follow: int | None = None
    size: int | None = None
    elevation: tuple[float, float] | None = None
    view_prompts: bool | None = None
    perp_neg: bool = False
    shading: str = "albedo"
    background: str = "white"
    negative_prompt: str = ""
    sparsity: float = 0.0
    entropy: float = 0.0
    orientation: float = 0.0
    seed: int = 0

    @property
    def recipe(self) -> ObjectRecipe:
        """How the method is run."""
        return OBJECT_RECIPES[self.method]

    def complete(self) -> "ObjectRequest":
        """The same request with every setting filled in but the size, which depends on the prior.

        Raises:
            ValueError: for impossible settings, in one sentence that says how to mend it.
        """
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise ValueError('the prompt is empty: say what to make, for example "a hamburger"')
        for name, known in (
            ("method", tuple(OBJECT_RECIPES)),
            ("shape", SHAPES),
            ("encoding", ENCODINGS),
            ("shading", SHADING),
            ("background", BACKGROUNDS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: use one of {', '.join(known)}")
        bundled = self.prior in BUNDLED
        usual: dict[str, Any] = {k: getattr(self.recipe, k) for k in ("steps", "views", "guidance", "lr", "follow")}
        usual |= {"elevation": BUNDLED_ELEVATION if bundled else USUAL_ELEVATION}
        usual |= {"view_prompts": self.perp_neg or not bundled}
        full = replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})
        full._check()
        return full

    def _check(self) -> None:
        least = {"steps": 1, "views": 1, "follow": 1, "lr": 0, "guidance": 0, "seed": 0, "sparsity": 0, "entropy": 0}
        for name, low in {**least, "orientation": 0}.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise ValueError(f"{name} must be at least {low} and finite, not {value}")
        for name in ("steps", "views", "follow", "seed"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number, not {getattr(self, name)}")
        if self.size is not None and not (isinstance(self.size, int) and self.size >= 8):
            raise ValueError(f"size must be a whole number of at least 8 pixels, not {self.size}")
        assert self.elevation is not None
        if len(self.elevation) != 2 or not -90 <= self.elevation[0] <= self.elevation[1] <= 90:
            raise ValueError(f"elevation must be two rising numbers in [-90, 90], not {self.elevation}")
        if self.perp_neg and not self.view_prompts:
            raise ValueError("Perp-Neg leads views away from other views: it needs view prompts, leave them on")
        if self.perp_neg and self.method == "sdi":
            raise ValueError("sdi guides by itself: leave out Perp-Neg, or use another method")
        if self.negative_prompt and self.method == "sdi":
            raise ValueError("sdi guides by itself: leave out the negative prompt, or use another method")
        if self.shape == "splats" and self.background == "learned":
            raise ValueError("splats learn no background: use white or random, or the shape nerf")
        if self.shape == "splats" and self.orientation:
            raise ValueError("no splat faces away: leave out the penalty orientation, or use the shape nerf")
        if self.seed >= 2**62:
            raise ValueError(f"seed must be below 2^62, not {self.seed}")
