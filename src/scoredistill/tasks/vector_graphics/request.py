"""What vector graphics are asked for, and the complete settings of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoredistill.loop import Step
from scoredistill.media.svg import Drawing
from scoredistill.recipe import MethodSource, check_method, recipe_of
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES, EditRecipe
from scoredistill.tasks.image_editing.request import ADVICE, EditOptions, guidance_scales
from scoredistill.tasks.request import PriorSource, RunOptions, completed
from scoredistill.tasks.vector_graphics.recipes import VECTOR_RECIPES, VectorRecipe, own

STYLES = ("flat", "line", "sketch")
INITS = ("sample", "noise")
METHODS = (*VECTOR_RECIPES, "trace")
MOST = 1024  # paths of an icon
VECTOR_EDITS = {
    name: recipe for name, recipe in EDIT_RECIPES.items() if recipe.estimator is not None and not recipe.random_times
}
"""The methods of editing that take plain gradients on a canvas of windows."""
EDIT_FOLLOW, EDIT_LR = 12, (3e-4, 1e-2)  # inner optimizer steps per gradient; learning rates of positions, colors
EDIT_SWEEPS = 12


@dataclass(frozen=True, kw_only=True)
class VectorOptions:
    """Options of text to vector graphics.

    Attributes:
        paths: Largest number of paths of an icon.
        style: flat (filled shapes), line (outlines in the palette's colors) or sketch (many thin dark strokes).
        init: Where to start: sample (an image sampled by DDIM and traced), noise (random paths) or an SVG file.
        colors: Number of colors of the palette, beside white, of one icon or of a set together; 0 gives every path a
            color of its own, as all have in a set that is not made together.
        together: Icons of several prompts share one palette and what their gradients have in common.
        candidates: Images sampled per icon, of which the one nearest to its prompt is traced (by the bundled CLIP,
            with bundled priors; the first one with others).
        steps: Number of gradients.
        guidance: Classifier-free guidance scale; 1 for none.
        follow: Inner optimizer steps per gradient.
        lr: Learning rate of positions in fractions of the canvas; that of colors is three times as large.
        negative_prompt: What icons should not show.
        seed: Seed for all random number generators.
    """

    paths: int = 32
    style: str = "flat"
    init: str | Path = "sample"
    colors: int = 8
    together: bool = True
    candidates: int = 4
    steps: int | None = None
    guidance: float | None = None
    follow: int | None = None
    lr: float | None = None
    negative_prompt: str = ""
    seed: int = 0


@dataclass(frozen=True)
class VectorRequest(VectorOptions):
    """What text to vector graphics is asked for; None stands for the default of the method, see `recipes`.

    Attributes:
        prompts: What the icons show, one each.
        method: msd (mean-shift distillation), sds (score distillation sampling), csd (collaborative score
            distillation), trace (the start alone), or a method of your own as FILE.py:NAME.
        prior: emoji (bundled), a directory with a diffusers pipeline, a .safetensors file, or a hub name.
    """

    prompts: tuple[str, ...]
    method: str = "msd"
    prior: str = "emoji"

    @property
    def recipe(self) -> VectorRecipe | None:
        """How the method is run; None for tracing alone."""
        return None if self.method == "trace" else recipe_of(self.method, VECTOR_RECIPES, own)

    @property
    def file(self) -> Path | None:
        """The SVG file to start from, if there is one."""
        return Path(self.init) if str(self.init).lower().endswith(".svg") else None

    def complete(self) -> "VectorSettings":
        """The settings of the request: every None replaced by the default of the method.

        Raises:
            ValueError: for impossible settings, in one sentence that says what is possible.
        """
        if not self.prompts:
            raise ValueError('there is no prompt: say what the icon shows, for example "a rocket"')
        for prompt in self.prompts:
            checks.text(prompt, "prompt", 'say what the icon shows, for example "a rocket"')
        check_method(self.method, METHODS)
        recipe = self.recipe
        if self.file is not None:
            checks.unused(self, ("candidates", "paths"), "a start from a file", "another init")
        elif self.init == "noise":
            checks.unused(self, ("candidates",), "a start from noise", "init sample")
        if recipe is None:
            checks.unused(self, ("steps", "follow", "lr", "negative_prompt"), self.method)
            return completed(self, VectorSettings, {"steps": 0, "guidance": 5.0, "follow": 1, "lr": 0.0})
        defaults = {name: getattr(recipe, name) for name in ("guidance", "follow", "lr")}
        steps = recipe.steps if self.init == "noise" else recipe.few
        return completed(self, VectorSettings, {**defaults, "steps": steps})


@dataclass(frozen=True, kw_only=True)
class VectorSettings(VectorRequest):
    """A complete `VectorRequest`: nothing is None."""

    steps: int
    guidance: float
    follow: int
    lr: float

    def check_values(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        checks.choice(self, "style", STYLES)
        if self.file is None:
            checks.choice(self, "init", INITS, ", or give an SVG file")
        checks.whole(self, paths=1, colors=0, candidates=1, steps=0 if self.method == "trace" else 1, follow=1)
        checks.real(self, guidance=0, lr=0)
        checks.seed(self)
        checks.own_guidance(self)
        if self.paths > MOST:
            raise ValueError(f"paths must be at most {MOST}, not {self.paths}")
        if self.method != "trace" and not self.lr:
            raise ValueError("lr must be positive: paths do not move without it")


@dataclass(frozen=True)
class VectorArguments(VectorOptions, RunOptions):
    """Parameters of `text_to_svg`, beside its options and those of any run.

    Attributes:
        prompts: What the icon shows; several for a set of icons.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior.
        method: A name of the recipes, or a method of your own, see `scoredistill.recipe`.
        callback: Called with every finished step.
    """

    prompts: str | Sequence[str]
    prior: PriorSource = "emoji"
    method: MethodSource = "msd"
    callback: Callable[[Step], None] | None = None


@dataclass(frozen=True)
class VectorEditRequest(EditOptions):
    """What an edit of vector graphics is asked for; None stands for the default of the method.

    Attributes:
        instruction: What to change, for example "make it red".
        method: csd (collaborative score distillation) or another name of `VECTOR_EDITS`.
        prior: emoji-edit (bundled), or a directory or hub name of an instruction editor.
    """

    instruction: str
    method: str = "csd"
    prior: str = "emoji-edit"

    @property
    def recipe(self) -> EditRecipe:
        """How the method is run."""
        return VECTOR_EDITS[self.method]

    def complete(self, side: int = 64) -> "VectorEditSettings":
        """The settings of the request.

        Args:
            side: shorter side of the model's own images in pixels.

        Raises:
            ValueError: for impossible settings.
        """
        checks.text(self.instruction, "instruction", ADVICE)
        if self.method not in VECTOR_EDITS:
            raise ValueError(f"unknown method {self.method!r} for SVG files: use one of {', '.join(VECTOR_EDITS)}")
        checks.unused(self, self.recipe.unused, self.method)
        defaults = {
            "size": side, "sweeps": EDIT_SWEEPS, "kernel": self.recipe.kernel, **guidance_scales(self.prior),
        }  # fmt: skip
        made = completed(self, VectorEditSettings, defaults)
        if made.size < side:
            raise ValueError(f"size must be at least that of the model's own images, {side} pixels, not {made.size}")
        return made


@dataclass(frozen=True, kw_only=True)
class VectorEditSettings(VectorEditRequest):
    """A complete `VectorEditRequest`: nothing is None."""

    size: int
    text_scale: float
    image_scale: float
    sweeps: int
    kernel: float

    def check_values(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        checks.whole(self, size=1, sweeps=1)
        checks.real(self, text_scale=0, image_scale=0, kernel=0)
        checks.seed(self)
        if not self.kernel > 0:
            raise ValueError(f"kernel must be positive, not {self.kernel}")


@dataclass(frozen=True)
class VectorEditArguments(EditOptions, RunOptions):
    """Parameters of `edit_svg`, beside its options and those of any run.

    Attributes:
        source: An SVG file, or a drawing.
        instruction: What to change.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: A name of `VECTOR_EDITS`.
        callback: Called with every finished step.
    """

    source: str | Path | Drawing
    instruction: str
    prior: PriorSource = "emoji-edit"
    method: str = "csd"
    callback: Callable[[Step], None] | None = None
