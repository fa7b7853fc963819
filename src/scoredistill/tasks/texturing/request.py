"""What a texture is asked for, and the complete settings of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scoredistill.loop import Step
from scoredistill.priors import Cond
from scoredistill.recipe import MethodSource, check_method, recipe_of
from scoredistill.tasks import checks
from scoredistill.tasks.object_generation.recipes import ObjectRecipe, own
from scoredistill.tasks.object_generation.views import BUNDLED_SIDE, ViewOptions, ViewSettings
from scoredistill.tasks.request import PriorSource, RunOptions, completed
from scoredistill.tasks.texturing.recipes import TEXTURE_RECIPES
from scoredistill.three_d.mesh import MeshFile
from scoredistill.three_d.mesh.reading import LAYOUTS, UPS
from scoredistill.three_d.scenes.base import Rendering
from scoredistill.three_d.scenes.textured import Textured

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
class TextureOptions(MeshOptions, ViewOptions):
    """Options of texturing.

    Attributes:
        start: Start at the colors of the mesh instead of gray.
        finish: Also optimize roughness and metallic, which half of the views show under a light.
        negative_prompt: What the texture should not be; not for sdi, which guides by itself.
    """

    start: bool = False
    finish: bool = False
    negative_prompt: str = ""


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
        return completed(self, TextureSettings, self.view_defaults(self.recipe, self.prior, side))


@dataclass(frozen=True, kw_only=True)
class TextureSettings(ViewSettings, TextureRequest):
    """A complete `TextureRequest`: nothing is None."""

    def check_values(self) -> None:
        """Refuse impossible values, and combinations that have no effect.

        Raises:
            ValueError: in one sentence.
        """
        self.check_mesh()
        self.check_views()


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
