"""What a texture is asked for, and the complete settings of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scoredistill.loop import Step
from scoredistill.priors import Cond
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.recipe import MethodSource, check_method, recipe_of
from scoredistill.tasks import checks
from scoredistill.tasks.object_generation.recipes import ObjectRecipe, own
from scoredistill.tasks.object_generation.request import BUNDLED_ELEVATION, BUNDLED_SIDE, USUAL_ELEVATION
from scoredistill.tasks.request import PriorSource, RunOptions, completed
from scoredistill.tasks.texturing.recipes import TEXTURE_RECIPES
from scoredistill.three_d.mesh import MeshFile
from scoredistill.three_d.mesh.reading import LAYOUTS, UPS
from scoredistill.three_d.scenes.base import Rendering
from scoredistill.three_d.scenes.textured import Textured

LARGEST = 64  # pixels of renders by default
TEXTURE, LEAST_TEXTURE, MOST_TEXTURE = 256, 16, 4096  # side of the texture in texels


@dataclass(frozen=True, kw_only=True)
class MeshOptions:
    """How a mesh is read.

    Attributes:
        texture: Side of the texture in texels.
        layout: UV layout: keep (that of the file), new (made by xatlas), or auto (that of the file if it can hold a
            texture: coordinates in [0, 1], no texels shared).
        up: The axis that points upwards in the file: y, z, or auto (y in GLB, glTF and OBJ files, else z).
    """

    texture: int = TEXTURE
    layout: str = "auto"
    up: str = "auto"

    def check_mesh(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        checks.whole(self, texture=LEAST_TEXTURE)
        if self.texture > MOST_TEXTURE:
            raise ValueError(f"texture must be at most {MOST_TEXTURE}, not {self.texture}")
        checks.choice(self, "layout", LAYOUTS)
        checks.choice(self, "up", UPS)


@dataclass(frozen=True, kw_only=True)
class TextureOptions(MeshOptions):
    """Options of texturing.

    Attributes:
        steps: Number of gradients.
        views: Number of views rendered per step; methods that couple particles couple them.
        guidance: Classifier-free guidance scale; 1 for none.
        lr: Learning rate of Adam.
        follow: Inner optimizer steps per gradient.
        size: Height and width of renders in pixels. The prior's own by default, at most 64.
        elevation: Lowest and highest elevation of the cameras in degrees.
        view_prompts: Add the direction of the view to the prompt ("front view"); by default for all priors but the
            bundled one, which has seen front views only.
        perp_neg: Guide views away from the front by Perp-Neg, against several faces; needs view prompts.
        start: Start at the colors of the mesh instead of gray.
        finish: Also optimize roughness and metallic, which half of the views show under a light.
        negative_prompt: What the texture should not be; not for sdi, which guides by itself.
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
    start: bool = False
    finish: bool = False
    negative_prompt: str = ""
    seed: int = 0


@dataclass(frozen=True)
class TextureRequest(TextureOptions):
    """What a texture is asked for; None stands for the default of the method or the prior, see `recipes`.

    Attributes:
        prompt: What the mesh should look like, for example "a basketball".
        method: sds (score distillation sampling), csd (views share scores), msd (mean-shift distillation), sdi, or a
            method of your own as FILE.py:NAME.
        prior: emoji (bundled), a directory with a diffusers pipeline, a .safetensors file, or a hub name.
    """

    prompt: str
    method: str = "sds"
    prior: str = "emoji"

    @property
    def recipe(self) -> ObjectRecipe:
        """How the method is run."""
        return recipe_of(self.method, TEXTURE_RECIPES, own)

    def complete(self, side: int = BUNDLED_SIDE) -> "TextureSettings":
        """The settings of the request: every None replaced by the default of the method or the prior.

        Args:
            side: shorter side of the prior's own images in pixels.

        Raises:
            ValueError: for impossible settings, in one sentence that says what is possible.
        """
        checks.text(self.prompt, "prompt", 'say what the mesh should look like, for example "a basketball"')
        check_method(self.method, TEXTURE_RECIPES)
        bundled = self.prior in BUNDLED
        defaults: dict[str, object] = {
            "size": min(LARGEST, side),
            "elevation": BUNDLED_ELEVATION if bundled else USUAL_ELEVATION,
            "view_prompts": self.perp_neg or not bundled,
            **{name: getattr(self.recipe, name) for name in ("steps", "views", "guidance", "lr", "follow")},
        }
        return completed(self, TextureSettings, defaults)


@dataclass(frozen=True, kw_only=True)
class TextureSettings(TextureRequest):
    """A complete `TextureRequest`: nothing is None."""

    steps: int
    views: int
    guidance: float
    lr: float
    follow: int
    size: int
    elevation: tuple[float, float]
    view_prompts: bool

    def check_values(self) -> None:
        """Refuse impossible values, and combinations that have no effect.

        Raises:
            ValueError: in one sentence.
        """
        self.check_mesh()
        checks.whole(self, steps=1, views=1, follow=1, size=8)
        checks.real(self, lr=0, guidance=0)
        checks.seed(self)
        checks.elevation(self)
        checks.perp_neg(self)
        checks.own_guidance(self)


@dataclass(frozen=True)
class TextureArguments(TextureOptions, RunOptions):
    """Parameters of `texture_mesh`, beside its options and those of any run.

    Attributes:
        mesh: A .glb, .gltf, .obj, .ply, .stl or .off file, or a mesh of `read_mesh`.
        prompt: What it should look like.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior.
        method: A name of `TEXTURE_RECIPES`, or a method of your own, see `scoredistill.recipe`.
        conditions: Further conditions for priors that also see the shape: called with the rendering of the views of a
            step (rgb, opacity, depth and normal, without gradients), returns entries of their condition, one row per
            view.
        callback: Called with every finished step and the scene.
    """

    mesh: str | Path | MeshFile
    prompt: str
    prior: PriorSource = "emoji"
    method: MethodSource = "sds"
    conditions: Callable[[Rendering], Cond] | None = None
    callback: Callable[[Step, Textured], None] | None = None
