"""Prompts, methods and blocks of the text-to-image study; a block is a setting in which methods are compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scoredistill.estimators import MSD, TrackedMSD
from scoredistill.files import slug
from scoredistill.recipe import recipe_of, versioned
from scoredistill.studies.harness.setting import seeded
from scoredistill.tasks.image_generation.recipes import KERNEL_TERM, RECIPES, ImageRecipe, every, own, shrinking

PROMPTS = (
    "a hamburger",
    "a tulip",
    "a bird",
    "a lizard",
    "a chipmunk",
    "an automobile",
    "a crown",
    "a jack-o-lantern",
    "a moai",
    "a doughnut",
)
"""The prompts of Score Distillation via Mean Shift, appendix B, or the nearest objects that the bundled prior knows."""

QUICK_PROMPTS, QUICK_METHODS = PROMPTS[:3] + PROMPTS[5:6], ("ddim", "sds", "msd")
METHODS: Mapping[str, ImageRecipe | None] = {"ddim": None, **RECIPES}
ON_REQUEST = ("sdi_published",)  # methods that a study runs only if it is asked for them
ROWS = 48  # network evaluations for an image where they are equal


@dataclass(frozen=True)
class Block:
    """A setting in which methods are compared.

    Args:
        name: the name of its files.
        description: what it compares, for readers.
        image: what is optimized, see `Request`.
        rows: network evaluations for an image, equal for all methods; each method's own steps by default.
        images: images of each prompt; the study's number of seeds by default.
        ideal: evaluate the ideal denoiser of the references instead of the network, without guidance.
        methods: name -> recipe; `METHODS` by default. The study runs those of them that it is asked for.
        without: methods that are left out.
        settings: method -> fields of `Request` that differ from the recipe's.
        base, shared: another block, and the methods whose runs are the same there and are taken from it.
    """

    name: str
    description: str
    image: str
    rows: int | None = None
    images: int | None = None
    ideal: bool = False
    methods: Mapping[str, ImageRecipe | None] = field(default_factory=lambda: METHODS)
    without: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    base: str | None = None
    shared: tuple[str, ...] = ()

    def stem(self, method: str, n: int, seed: int = 0) -> str:
        """The beginning of the file names of a method's runs with n images of each prompt, from a first seed."""
        return seeded(f"{self.base if method in self.shared else self.name}-{slug(versioned(method))}-{n}", seed)

    @property
    def compares_methods(self) -> bool:
        """Whether the block compares methods, in which those of the user's own run too, and not variants of one."""
        return bool(set(self.methods) & set(METHODS) - {"msd"})

    def recipe(self, method: str) -> ImageRecipe | None:
        """How a method is run; None for DDIM sampling."""
        return recipe_of(method, self.methods, own)

    def cost(self, method: str) -> float:
        """Expected time for an image in network evaluations, including encoders and coordinate networks."""
        recipe = self.recipe(method)
        if recipe is None:
            return 60.0
        steps = recipe.steps[self.image]
        gradients = {"sdi": 22, "sdi_published": 22, "vsd": 6}.get(method, 2 if recipe.follow < 100 else 24)
        rows = float(self.rows or gradients * steps)
        if self.image == "latents":
            return 0.05 * rows if self.ideal else rows
        return rows + 2.5 * min(steps, rows) * recipe.follow


def _short(**settings: Any) -> dict[str, dict[str, Any]]:
    """Settings of the residual methods, for example the learning rate at which they converge in so few steps."""
    return dict.fromkeys(("sds", "annealed_sds", "vsd", "csd"), settings)


def _draws(calls: int, gradients: int, start: float = 12.0, end: float = 0.45, **mean_shift: Any) -> ImageRecipe:
    """Mean shift to fresh draws, with other draws and bandwidths."""
    estimator = lambda scale: MSD(**{"sampler": "product", "steps": calls, **mean_shift})
    times = shrinking(start, end)
    says = f"{calls} calls x {gradients}"
    return replace(RECIPES["msd_draws"], says=says, estimator=estimator, steps=every(gradients), times=times)


def _tracked(spread: float) -> ImageRecipe:
    """The default method with another spread."""
    return replace(RECIPES["msd"], says=f"spread {spread:g}", estimator=lambda scale: TrackedMSD(spread))


def _anchored(interval: tuple[float, float] | None = None) -> ImageRecipe:
    """The published recipe at the usual number of calls, half of which its anchor takes."""
    estimator = lambda scale: MSD(sampler="paper", steps=6, anchor="inverted", interval=interval)
    return replace(RECIPES["msd_paper_anchor"], estimator=estimator)


MSD_48 = ("msd", "msd_draws", "msd_mean", "msd_ancestral", "msd_paper", "msd_paper_interval", "collaborative")
EQUAL = {**METHODS, "msd_paper_anchor": _anchored(), "msd_paper_both": _anchored(KERNEL_TERM)}
_MSD, _DRAWS, _MEAN = RECIPES["msd"], RECIPES["msd_draws"], RECIPES["msd_mean"]
ABLATIONS: Mapping[str, ImageRecipe | None] = {
    "msd": _MSD,
    "spread 0.25": _tracked(0.25),
    "spread 1": _tracked(1.0),
    "spread 2": _tracked(2.0),
    "12 gradients": replace(_MSD, steps=every(12), follow=30),
    "two draws": _DRAWS,
    "start 19": _draws(12, 2, 19.0),
    "start 6": _draws(12, 2, 6.0),
    "start 2": _draws(12, 2, 2.0),
    "end 1": _draws(12, 2, end=1.0),
    "end 0.2": _draws(12, 2, end=0.2),
    "prior's levels, 40 to .3": _draws(12, 2, 40.0, 0.3, levels="prior"),
    "prior's levels, 40, one draw": _draws(24, 1, 40.0, 40.0, levels="prior"),
    "8 calls x 3": _draws(8, 3),
    "6 calls x 4": _draws(6, 4),
    "3 calls x 8": _draws(3, 8),
    "2 samples": _draws(6, 2, samples=2),
    "2 antithetic samples": _draws(6, 2, samples=2, antithetic=True),
    "guidance 3": replace(_DRAWS, guidance=3.0),
    "guidance 7.5": replace(_DRAWS, guidance=7.5),
    "guidance 7.5, t in [.2, .9]": replace(_DRAWS, guidance=7.5, interval=(0.2, 0.9)),
    "guidance 5, t in [.2, .9]": replace(_DRAWS, interval=(0.2, 0.9)),
    "mean, guidance 5": replace(_MEAN, guidance=5.0),
    "mean, end 0.2": replace(_MEAN, times=shrinking(12.0, 0.2)),
    "mean, end 2": replace(_MEAN, times=shrinking(12.0, 2.0)),
    "mean, 10 calls": replace(_MEAN, steps=every(10)),
    "mean, 96 calls": replace(_MEAN, steps=every(96)),
}
MLP_ABLATIONS: Mapping[str, ImageRecipe | None] = {
    "follow 45": replace(_DRAWS, follow=45),
    "through the encoder": replace(_DRAWS, through="encoder", follow=90),
    "sds through the decoder": replace(RECIPES["sds"], through="decoder"),
    "sdi as published": replace(
        RECIPES["sdi_published"], steps=every(50), lr=RECIPES["sds"].lr, through="encoder", follow=1
    ),
}
BLOCKS: Mapping[str, Block] = {
    block.name: block
    for block in (
        Block("mlp", "Coordinate networks, each method at its own number of steps", "mlp"),
        Block("latents", "Latents, each method at its own number of steps", "latents"),
        Block(
            "mlp_equal", f"Coordinate networks, {ROWS} network evaluations per image", "mlp", ROWS,
            methods=EQUAL, settings=_short(lr=2e-2), base="mlp", shared=MSD_48,
        ),
        Block(
            "latents_equal", f"Latents, {ROWS} network evaluations per image", "latents", ROWS, 8,
            methods=EQUAL, settings=_short(lr=0.3),
        ),
        Block(
            "ideal", "Latents, the ideal denoiser of the DDIM samples, without guidance", "latents", images=8,
            ideal=True, without=("vsd",),
        ),
        Block("ablation", "Ablations of the default method, latents", "latents", images=4, methods=ABLATIONS),
        Block("mlp_ablation", "Ablations of the default method, coordinate networks", "mlp", methods=MLP_ABLATIONS),
    )
}  # fmt: skip
