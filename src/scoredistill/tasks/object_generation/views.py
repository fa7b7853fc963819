"""Options of runs whose images are views of a 3-D scene: objects from text, and textures of meshes."""

from dataclasses import dataclass
from typing import Any

from scoredistill.priors.pipelines import BUNDLED
from scoredistill.tasks import checks
from scoredistill.tasks.object_generation.recipes import ObjectRecipe

BUNDLED_ELEVATION, USUAL_ELEVATION = (-5.0, 25.0), (-10.0, 60.0)  # the bundled prior has seen front views only
BUNDLED_SIDE, LARGEST = 64, 64  # pixels of the bundled prior's images, and of renders by default


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How views are rendered and optimized; None stands for the default of the method or the prior.

    Attributes:
        steps: Number of gradients.
        views: Number of views rendered per step; methods that couple particles couple them.
        guidance: Classifier-free guidance scale; 1 for none.
        lr: Learning rate of Adam.
        follow: Inner optimizer steps per gradient.
        size: Height and width of renders in pixels; most steps of an object use half of it. The prior's own by default,
            at most 64.
        elevation: Lowest and highest elevation of the cameras in degrees.
        view_prompts: Add the direction of the view to the prompt ("front view"); by default for all priors but the
            bundled one, which has seen front views only.
        perp_neg: Guide views away from the front by Perp-Neg, against several faces; needs view prompts.
        seed: Seed for all random number generators.
    """

    steps: int | None = None
    views: int | None = None
    guidance: float | None = None
    lr: float | None = None
    follow: int | None = None
    size: int | None = None
    elevation: tuple[float, float] | None = None
    view_prompts: bool | None = None
    perp_neg: bool = False
    seed: int = 0

    def view_defaults(self, recipe: ObjectRecipe, prior: str, side: int) -> dict[str, Any]:
        """What the options that are None stand for.

        Args:
            recipe: how the method is run.
            prior: name of the prior.
            side: shorter side of the prior's own images in pixels.
        """
        bundled = prior in BUNDLED
        return {
            "size": min(LARGEST, side),
            "elevation": BUNDLED_ELEVATION if bundled else USUAL_ELEVATION,
            "view_prompts": self.perp_neg or not bundled,
            **{name: getattr(recipe, name) for name in ("steps", "views", "guidance", "lr", "follow")},
        }


@dataclass(frozen=True, kw_only=True)
class ViewSettings(ViewOptions):
    """Complete `ViewOptions`: nothing is None."""

    steps: int
    views: int
    guidance: float
    lr: float
    follow: int
    size: int
    elevation: tuple[float, float]
    view_prompts: bool

    def check_views(self) -> None:
        """Refuse impossible values, and combinations that have no effect.

        Raises:
            ValueError: in one sentence.
        """
        checks.whole(self, steps=1, views=1, follow=1, size=8)
        checks.real(self, lr=0, guidance=0)
        checks.seed(self)
        checks.elevation(self)
        checks.perp_neg(self)
        checks.own_guidance(self)
