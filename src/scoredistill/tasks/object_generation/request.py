"""What text-to-3D is asked for, and the complete settings of a run."""

from collections.abc import Callable
from dataclasses import dataclass

from scoredistill.loop import Step
from scoredistill.recipe import MethodSource, check_method, recipe_of
from scoredistill.tasks import checks
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES, ObjectRecipe, own
from scoredistill.tasks.object_generation.views import BUNDLED_SIDE, ViewOptions, ViewSettings
from scoredistill.tasks.request import PriorSource, RunOptions, completed
from scoredistill.three_d.scenes.base import Scene

SHAPES = ("nerf", "splats")
ENCODINGS = ("dense", "triplane", "hash")
SHADING = ("albedo", "mixed")
BACKGROUNDS = ("white", "random", "learned")


@dataclass(frozen=True, kw_only=True)
class ObjectOptions(ViewOptions):
    """Options of text-to-3D.

    Attributes:
        shape: Representation: nerf (a radiance field) or splats (Gaussians).
        encoding: Encoding of positions in the radiance field: dense, triplane or hash.
        shading: albedo (colors only), or mixed with DreamFusion's textureless and lambertian views.
        background: White, random (a random color per view), or learned (radiance fields only).
        negative_prompt: What the object should not be; not for sdi and sdi_published, which guide by themselves.
        sparsity: Weight of a penalty on fog.
        entropy: Weight of a penalty on semi-transparency.
        orientation: Weight of a penalty on surfaces that face away from the camera (radiance fields only).
    """

    shape: str = "nerf"
    encoding: str = "dense"
    shading: str = "albedo"
    background: str = "white"
    negative_prompt: str = ""
    sparsity: float = 0.0
    entropy: float = 0.0
    orientation: float = 0.0


@dataclass(frozen=True)
class ObjectRequest(ObjectOptions):
    """What text-to-3D is asked for; None stands for the default of the method or the prior, see `recipes`.

    Attributes:
        prompt: What the object is, for example "a hamburger".
        method: msd (mean-shift distillation), sds (score distillation sampling), annealed_sds, sdi, sdi_published (its
            published guidance), vsd, csd (views share scores), msd_same_noise, msd_mean, collaborative, or a method of
            your own as FILE.py:NAME.
        prior: emoji (bundled), a directory with a diffusers pipeline, a .safetensors file, or a hub name.
    """

    prompt: str
    method: str = "msd"
    prior: str = "emoji"

    @property
    def recipe(self) -> ObjectRecipe:
        """How the method is run."""
        return recipe_of(self.method, OBJECT_RECIPES, own)

    def complete(self, side: int = BUNDLED_SIDE) -> "ObjectSettings":
        """The settings of the request: every None replaced by the default of the method or the prior.

        Args:
            side: shorter side of the prior's own images in pixels.

        Raises:
            ValueError: for impossible settings, in one sentence that says what is possible.
        """
        checks.text(self.prompt, "prompt", 'say what the object is, for example "a hamburger"')
        check_method(self.method, OBJECT_RECIPES)
        return completed(self, ObjectSettings, self.view_defaults(self.recipe, self.prior, side))


@dataclass(frozen=True, kw_only=True)
class ObjectSettings(ViewSettings, ObjectRequest):
    """A complete `ObjectRequest`: nothing is None."""

    def check_values(self) -> None:
        """Refuse impossible values, and combinations that have no effect.

        Raises:
            ValueError: in one sentence.
        """
        checks.choice(self, "shape", SHAPES)
        checks.choice(self, "encoding", ENCODINGS)
        checks.choice(self, "shading", SHADING)
        checks.choice(self, "background", BACKGROUNDS)
        checks.real(self, sparsity=0, entropy=0, orientation=0)
        self.check_views()
        if self.shape == "splats" and self.background == "learned":
            raise ValueError("splats learn no background: use white or random, or the shape nerf")
        if self.shape == "splats" and self.encoding != ObjectOptions.encoding:
            raise ValueError(f"splats have no encoding: leave out {self.encoding}, or use the shape nerf")
        if self.shape == "splats" and self.orientation:
            raise ValueError("splats have no orientation: leave out the penalty orientation, or use the shape nerf")


@dataclass(frozen=True)
class ObjectArguments(ObjectOptions, RunOptions):
    """Parameters of `text_to_3d`, beside its options and those of any run.

    Attributes:
        prompt: What the object is.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior.
        method: A name of `OBJECT_RECIPES`, or a method of your own, see `scoredistill.recipe`.
        callback: Called with every finished step and the scene.
    """

    prompt: str
    prior: PriorSource = "emoji"
    method: MethodSource = "msd"
    callback: Callable[[Step, Scene], None] | None = None
