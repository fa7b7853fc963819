"""What an edit of an image is asked for, and the complete settings of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from scoredistill.loop import Step
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.recipe import MethodSource, Recipe, check_method, recipe_of
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES, EditRecipe, own
from scoredistill.tasks.request import PriorSource, RunOptions, completed

BUNDLED_SCALES, USUAL_SCALES = (1.0, 1.0), (7.5, 1.5)  # the bundled editor's dropped text means "no change"
BUNDLED_SIDE = 64  # pixels of the bundled editor's own images
ADVICE = 'say what to change, for example "make it night"'


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """Options of an edit of any kind of source.

    Attributes:
        size: Shorter side in pixels at which the model works. By default four times the side of the model's own images,
            and once for videos and scenes. The result of an image or a video has the size of the source, and 0 works at
            that size; a scene keeps the size at which it was edited, which is printed.
        text_scale: Guidance by the instruction; for the bundled editor 1 is the edit and 1.5 a stronger one.
        image_scale: Guidance by the source.
        sweeps: Number of passes over the whole source; more is finer and slower. Steps of methods that sample.
        kernel: Bandwidth scale of the coupling between windows, frames or views. Above 1 they agree more where many
            answers are equally right and share a direction (any color); it changes nothing where one answer is right,
            and weakens the edit where the direction depends on the place.
        seed: Seed for all random number generators.
    """

    size: int | None = None
    text_scale: float | None = None
    image_scale: float | None = None
    sweeps: int | None = None
    kernel: float | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CanvasOptions:
    """Options of an edit of an image or a video, which is done in overlapping windows.

    Attributes:
        stride: Distance between windows in windows, above 0; 0.5 overlaps by half, 1 not at all.
        particles: Largest number of windows in a step, which are coupled; 0 for all.
        lr: Length of the gradient steps.
        scales: Sizes of windows in multiples of the model's own images; larger ones see more and edit more coarsely.
        wrap: Join the left and the right border: a 360-degree panorama.
        regions: Parts with instructions of their own: "0-0.5: make it night" (the left half), "0.1,0,0.9,0.4: make it
            red" (a box: left, top, right, bottom) or "mask.png: make it snowy".
        feather: Width of the blend between regions, as a fraction of the shorter side.
        detail: How much of the source's own detail is restored, from 0 to 1.
        negative_prompt: What the edit should not be; takes the place of no instruction in guidance.
    """

    stride: float | None = None
    particles: int | None = None
    lr: float | None = None
    scales: tuple[int, ...] = (1,)
    wrap: bool = False
    regions: tuple[str, ...] = ()
    feather: float = 0.1
    detail: float = 1.0
    negative_prompt: str = ""


@dataclass(frozen=True)
class EditRequest(EditOptions, CanvasOptions):
    """What an edit of an image is asked for; None stands for the default of the method, see `recipes`.

    Attributes:
        instruction: What to change, for example "make it night"; may be empty if there are regions.
        method: csd (collaborative score distillation), another name of `EDIT_RECIPES`, or a method of your own.
        prior: emoji-edit (bundled), or a directory or hub name of an instruction editor.
    """

    recipes: ClassVar[Mapping[str, EditRecipe]] = EDIT_RECIPES
    windows: ClassVar[int] = 4  # along the shorter side, at the default size

    instruction: str
    method: str = "csd"
    prior: str = "emoji-edit"

    @staticmethod
    def own(recipe: Recipe) -> EditRecipe:
        """How a method of the caller's own is run."""
        return own(recipe)

    @property
    def recipe(self) -> EditRecipe:
        """How the method is run."""
        return recipe_of(self.method, self.recipes, self.own)

    def complete(self, side: int = BUNDLED_SIDE) -> "EditSettings":
        """The settings of the request: every None replaced by the default of the method.

        Args:
            side: shorter side of the model's own images in pixels.

        Raises:
            ValueError: for impossible settings, in one sentence that says what is possible.
        """
        self.check_names()
        return completed(self, EditSettings, self.defaults(side))

    def check_names(self) -> None:
        """Refuse an empty instruction, an unknown method, and options that have no effect.

        Raises:
            ValueError: in one sentence.
        """
        if not self.regions or not isinstance(self.instruction, str):
            checks.text(self.instruction, "instruction", ADVICE)
        check_method(self.method, self.recipes)
        checks.unused(self, self.recipe.unused, self.method)
        if not self.regions:
            checks.unused(self, ("feather",), "an edit without regions", "regions")

    def defaults(self, side: int) -> dict[str, object]:
        """The defaults of the method for a model whose images have this shorter side."""
        recipe, scales = self.recipe, guidance_scales(self.prior)
        names = ("sweeps", "stride", "kernel", "lr", "particles")
        return {"size": self.windows * side, **scales, **{name: getattr(recipe, name) for name in names}}


@dataclass(frozen=True, kw_only=True)
class EditSettings(EditRequest):
    """A complete `EditRequest`: nothing is None."""

    size: int
    text_scale: float
    image_scale: float
    sweeps: int
    kernel: float
    stride: float
    particles: int
    lr: float

    def check_values(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        checks.whole(self, size=0, sweeps=1, particles=0)
        checks.real(self, text_scale=0, image_scale=0, lr=0, kernel=0, stride=0, feather=0, detail=0)
        checks.seed(self)
        if not isinstance(self.regions, tuple):
            raise ValueError("regions must be a tuple of texts, one per region")
        if not 0 < self.stride <= 1:
            raise ValueError(f"stride must be above 0 and at most 1 window, not {self.stride}")
        if not self.kernel > 0:
            raise ValueError(f"kernel must be positive, not {self.kernel}")
        if self.detail > 1 or self.feather > 1:
            raise ValueError("detail and feather must be at most 1")
        if self.negative_prompt and self.recipe.rows == 3 and self.text_scale == self.image_scale == 1:
            raise ValueError(
                f"{self.method} uses a negative prompt in guidance only: give a text_scale other than 1, or leave the "
                "negative prompt out"
            )
        if 1 not in self.scales or min(self.scales) < 1:
            raise ValueError(f"scales must be whole numbers from 1 up and contain 1, not {self.scales}")


@dataclass(frozen=True)
class EditArguments(EditOptions, CanvasOptions, RunOptions):
    """Parameters of `edit_image`, beside its options and those of any run.

    Attributes:
        image: A file or a PIL image.
        instruction: What to change; may be empty if there are regions.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: A name of `EDIT_RECIPES`, or a method of your own, see `scoredistill.recipe`.
        callback: Called with every finished step of methods that optimize.
    """

    image: str | Path | Image.Image
    instruction: str
    prior: PriorSource = "emoji-edit"
    method: MethodSource = "csd"
    callback: Callable[[Step], None] | None = None


def guidance_scales(prior: str) -> dict[str, object]:
    """The default guidance scales of an editor, by its name."""
    text, image = BUNDLED_SCALES if prior in BUNDLED else USUAL_SCALES
    return {"text_scale": text, "image_scale": image}
