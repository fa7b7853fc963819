"""What an edit of a scene is asked for, and the complete settings of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scoredistill.recipe import MethodSource, check_method
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing.request import ADVICE, BUNDLED_SIDE, EditOptions, guidance_scales
from scoredistill.tasks.request import PriorSource, RunOptions, completed
from scoredistill.tasks.scene_editing.recipes import KERNEL, SCENE_METHODS, SWEEPS, unused
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.fitting import FitStep
from scoredistill.three_d.scenes.base import Scene

VIEWS = 40  # training views of a capture, where it is not known


@dataclass(frozen=True, kw_only=True)
class RoundOptions:
    """Options of an edit that goes through views of a scene, of scenes and of meshes.

    Attributes:
        views: Number of views edited together in one update; one_view always takes one.
        use: Number of views that are edited and fitted to, spread over all sides: all training views of a scene by
            default, and 24 views of a mesh. Fewer views cost less and leave more sides unedited.
        rounds: How often every view is edited; first from its photograph, later from its render, then with a third of
            the sweeps.
        edit_steps: Number of steps of fitting to edited views, over all rounds.
        rays: Number of rays per step of a fit; of a mesh, of pixels of whole views.
    """

    views: int = 16
    use: int | None = None
    rounds: int = 3
    edit_steps: int = 300
    rays: int = 1024


@dataclass(frozen=True, kw_only=True)
class SceneOptions(RoundOptions):
    """Options of an edit of a scene.

    Attributes:
        fit_steps: Number of steps of the first fit, to the photographs.
        samples: Number of samples along each ray.
        outside: Read also images outside the directory of the scene, to which links, ".." or absolute paths lead.
    """

    fit_steps: int = 400
    samples: int = 64
    outside: bool = False


@dataclass(frozen=True)
class SceneRequest(EditOptions, SceneOptions):
    """What an edit of a scene is asked for; None stands for the default of the method, the prior or the capture.

    Attributes:
        instruction: What to change, for example "make it night".
        method: csd (collaborative score distillation), another name of `SCENE_METHODS`, or a method of your own.
        prior: emoji-edit (bundled), or a directory or hub name of an instruction editor.
    """

    instruction: str
    method: str = "csd"
    prior: str = "emoji-edit"

    def complete(self, side: int = BUNDLED_SIDE, training: int = VIEWS) -> "SceneSettings":
        """The settings of the request: every None replaced by its default.

        Args:
            side: shorter side in pixels of the model's own images or of the photographs, whichever is smaller.
            training: number of training views of the capture.

        Raises:
            ValueError: for impossible settings, in one sentence that says what is possible.
        """
        return completed(self, SceneSettings, self.defaults(side, training))

    def defaults(self, side: int, training: int) -> dict[str, object]:
        """The value of each field that may be None; see `complete`.

        Raises:
            ValueError: for a blank instruction, an unknown method, or numbers that are too small.
        """
        checks.text(self.instruction, "instruction", ADVICE)
        check_method(self.method, SCENE_METHODS, of=" for scenes")
        checks.unused(self, unused(self.method), self.method)
        given = {name: least for name, least in (("use", 2), ("size", 8)) if getattr(self, name) is not None}
        checks.whole(self, **given)
        return {"size": side, "use": training, "sweeps": SWEEPS, "kernel": KERNEL, **guidance_scales(self.prior)}


@dataclass(frozen=True, kw_only=True)
class SceneSettings(SceneRequest):
    """A complete `SceneRequest`: nothing is None."""

    size: int
    text_scale: float
    image_scale: float
    sweeps: int
    kernel: float
    use: int

    def check_values(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        checks.whole(self, views=1, rounds=1, sweeps=1, fit_steps=1, edit_steps=1, rays=1, samples=1, use=1, size=1)
        checks.real(self, text_scale=0, image_scale=0, kernel=1e-6)
        checks.seed(self)


@dataclass(frozen=True)
class SceneArguments(EditOptions, SceneOptions, RunOptions):
    """Parameters of `edit_scene`, beside its options and those of any run.

    Attributes:
        capture: A directory with transforms.json or a COLMAP model, or a capture of `read_capture`.
        instruction: What to change.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: A name of `SCENE_METHODS`, or a method of your own, see `scoredistill.recipe`.
        fitted: A scene that was fitted to the photographs before (`fit_scene`), in the coordinates of
            `normalized(capture)`; it is not changed, and fit_steps and samples have no effect.
        callback: Called with every finished step of fitting to edited views, and the scene.
    """

    capture: str | Path | Capture
    instruction: str
    prior: PriorSource = "emoji-edit"
    method: MethodSource = "csd"
    fitted: Scene | None = None
    callback: Callable[[FitStep, Scene], None] | None = None
