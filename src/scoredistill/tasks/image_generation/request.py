"""What text-to-image is asked for, and the complete settings of a run."""

from collections.abc import Callable
from dataclasses import dataclass

from scoredistill.loop import Step
from scoredistill.recipe import MethodSource, check_method, recipe_of
from scoredistill.tasks import checks
from scoredistill.tasks.image_generation.recipes import RECIPES, ImageRecipe, own
from scoredistill.tasks.request import PriorSource, RunOptions, completed

IMAGES = ("mlp", "latents", "pixels")
THROUGH = ("encoder", "decoder")
METHODS = (*RECIPES, "ddim")
DDIM_STEPS, DDIM_GUIDANCE = 30, 5.0
OPTIMIZING = ("image", "lr", "through", "follow")  # options of methods that optimize


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Options of text-to-image.

    Attributes:
        image: What is optimized: mlp (a coordinate network), latents or pixels.
        steps: Number of optimization steps, or of sampling steps for ddim.
        particles: Number of images, generated together.
        guidance: Classifier-free guidance scale; 1 for none.
        lr: Learning rate of Adam; 0 for plain gradient steps of length 1 (with latents, x <- x - grad).
        through: How gradients on latents reach the image: encoder (chain rule) or decoder (decoded targets).
        follow: Inner optimizer steps per gradient; more steps need fewer network evaluations.
        negative_prompt: What the image should not show; not for sdi and sdi_published, which guide by themselves.
        seed: Seed for all random number generators.
    """

    image: str = "mlp"
    steps: int | None = None
    particles: int | None = None
    guidance: float | None = None
    lr: float | None = None
    through: str | None = None
    follow: int | None = None
    negative_prompt: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Request(ImageOptions):
    """What text-to-image is asked for; None stands for the default of the method, see `recipes`.

    Attributes:
        prompt: What the image shows, for example "a hamburger".
        method: msd (mean-shift distillation), sds (score distillation sampling), annealed_sds, sdi (inversion),
            sdi_published (its published guidance), vsd (variational), csd (collaborative), collaborative (mean shift of
            particles that keep apart), msd_draws (two fresh draws), msd_mean, msd_ancestral, msd_paper,
            msd_paper_anchor, msd_paper_interval, msd_paper_both, ddim (sampling), or a method of your own as
            FILE.py:NAME.
        prior: emoji (bundled), a directory with a diffusers pipeline, a .safetensors file, or a hub name.
    """

    prompt: str
    method: str = "msd"
    prior: str = "emoji"

    @property
    def recipe(self) -> ImageRecipe | None:
        """How the method is run; None for DDIM sampling."""
        return None if self.method == "ddim" else recipe_of(self.method, RECIPES, own)

    def complete(self, recipe: ImageRecipe | None = None) -> "Settings":
        """The settings of the request: every None replaced by the default of the method.

        Args:
            recipe: how to run a method of the caller's own; the recipe of `method` by default.

        Raises:
            ValueError: for impossible settings, in one sentence that says what is possible.
        """
        checks.text(self.prompt, "prompt", 'say what the image shows, for example "a hamburger"')
        checks.choice(self, "image", IMAGES)
        if recipe is None:
            check_method(self.method, METHODS)
            recipe = self.recipe
        if recipe is None:
            checks.unused(self, OPTIMIZING, self.method)
        elif self.image == "latents":
            checks.unused(self, ("through",), "a run on latents", "image mlp or pixels")
        return completed(self, Settings, _defaults(recipe, self.image))


@dataclass(frozen=True, kw_only=True)
class Settings(Request):
    """A complete `Request`: nothing is None."""

    steps: int
    particles: int
    guidance: float
    lr: float
    through: str
    follow: int

    def check_values(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        checks.choice(self, "through", THROUGH)
        checks.whole(self, steps=1, particles=1, follow=1)
        checks.real(self, lr=0, guidance=0)
        checks.seed(self)
        checks.own_guidance(self)


@dataclass(frozen=True)
class ImageArguments(ImageOptions, RunOptions):
    """Parameters of `text_to_image`, beside its options and those of any run.

    Attributes:
        prompt: What the images show.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior.
        method: A name of `METHODS`, or a method of your own, see `scoredistill.recipe`.
        recipe: How to run the method, in place of its own recipe; `method` then only names it.
        callback: Called with every finished step of methods that optimize.
    """

    prompt: str
    prior: PriorSource = "emoji"
    method: MethodSource = "msd"
    recipe: ImageRecipe | None = None
    callback: Callable[[Step], None] | None = None


def _defaults(recipe: ImageRecipe | None, image: str) -> dict[str, object]:
    """Defaults of a recipe for a kind of image; without a recipe, those of DDIM sampling."""
    if recipe is None:
        return {
            "steps": DDIM_STEPS, "guidance": DDIM_GUIDANCE, "particles": 1, "lr": 0.0, "through": "decoder",
            "follow": 1,
        }  # fmt: skip
    return {
        "steps": recipe.steps[image],
        "guidance": recipe.guidance,
        "particles": recipe.particles,
        "lr": recipe.lr[image],
        "through": recipe.through,
        "follow": 1 if image == "latents" else recipe.follow,
    }
