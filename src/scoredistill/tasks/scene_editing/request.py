"""What an edit of a scene is asked to be, and its usual settings."""

import math
from dataclasses import dataclass, replace
from typing import Any

from scoredistill.priors.pipelines import BUNDLED
from scoredistill.tasks.image_editing.recipes import VIDEO_RECIPES
from scoredistill.tasks.image_editing.request import BUNDLED_SCALES, USUAL_SCALES

ONE_VIEW = "one_view"
SCENE_METHODS = {
    **{name: VIDEO_RECIPES[name].says for name in ("csd", "uncoupled", "common_noise", "random_noise")},
    ONE_VIEW: "one view after the other is edited by DDIM from its noised render (Instruct-NeRF2NeRF)",
}


@dataclass(frozen=True)
class SceneRequest:
    """What is wanted. None means the usual setting.

    Attributes:
        instruction: what to do, for example "make it night".
        method: a name of `SCENE_METHODS`.
        prior: name, hub name or folder for `load_prior`; it must be an editor.
        size: shorter side of the photographs in pixels; the model's image by default, or the photographs' own if
            that is less.
        views: edited together in one update (one_view always takes one).
        use: how many of the training views are edited and fitted to, spread over them; all by default. The fewer, the
            less the edit costs, and the less is known of other sides.
        rounds: how often every view is edited; the first time from its photograph, then from its render.
        sweeps: gradients on each view in the first round, and a third of them in the later ones.
        fit_steps: of the first fit to the photographs.
        edit_steps: of fitting to the edited views, over all rounds.
        rays: per step of a fit.
        samples: along each ray.
        text_scale, image_scale: guidance by the instruction and by the photograph.
        kernel: bandwidth scale of the coupling; wider is more consistent.
        seed: of all randomness.
    """

    instruction: str
    method: str = "csd"
    prior: str = "emoji-edit"
    size: int | None = None
    views: int = 16
    use: int | None = None
    rounds: int = 3
    sweeps: int = 6
    fit_steps: int = 400
    edit_steps: int = 300
    rays: int = 1024
    samples: int = 64
    text_scale: float | None = None
    image_scale: float | None = None
    kernel: float = 1.0
    seed: int = 0

    def complete(self) -> "SceneRequest":
        """The same request with its scales filled in.

        Raises:
            ValueError: for impossible settings, in one sentence that says how to mend it.
        """
        if not isinstance(self.instruction, str) or not self.instruction.strip():
            raise ValueError('the instruction is empty: say what to change, for example "make it night"')
        if self.method not in SCENE_METHODS:
            raise ValueError(f"unknown method {self.method!r} for scenes: use one of {', '.join(SCENE_METHODS)}")
        text, image = BUNDLED_SCALES if self.prior in BUNDLED else USUAL_SCALES
        usual: dict[str, Any] = {"text_scale": text, "image_scale": image}
        full = replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})
        full._check()
        return full

    def _check(self) -> None:
        least = dict.fromkeys(("views", "rounds", "sweeps", "fit_steps", "edit_steps", "rays", "samples"), 1)
        for name, low in {**least, "seed": 0, "use": 2, "size": 8}.items():
            value = getattr(self, name)
            if value is None and name in ("use", "size"):
                continue
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{name} must be a whole number of at least {low}, not {value}")
        for name, bound in (("text_scale", 0), ("image_scale", 0), ("kernel", 1e-6)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= bound):
                raise ValueError(f"{name} must be at least {bound:g} and finite, not {value}")
        if self.seed >= 2**62:
            raise ValueError(f"seed must be below 2^62, not {self.seed}")
