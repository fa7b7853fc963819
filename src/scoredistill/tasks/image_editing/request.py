"""What an edit is asked to be, and its usual settings."""

import math
from dataclasses import dataclass, replace
from typing import Any

from scoredistill.priors.pipelines import BUNDLED
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES, VIDEO_RECIPES, EditRecipe

BUNDLED_SCALES, USUAL_SCALES = (1.0, 1.0), (7.5, 1.5)  # the bundled editor's dropped text means "no change"


@dataclass(frozen=True)
class EditRequest:
    """What is wanted. None means the method's own setting (`recipes`).

    Attributes:
        instruction: what to do, for example "make it night"; may be empty if there are regions.
        method: a name of `EDIT_RECIPES`.
        prior: name, hub name or folder for `load_prior`; it must be an editor.
        size: shorter side, in pixels, at which the model works; 0 for the source's own. By default four windows for
            images and one for videos, or the source's own if that is less.
        sweeps: over the whole canvas; steps of DDIM for methods that sample.
        stride: between windows, in windows, above 0 and at most 1.
        text_scale: guidance by the instruction.
        image_scale: guidance by the source.
        kernel: bandwidth scale of the coupling; wider is more consistent.
        lr: length of the gradient steps.
        particles: windows in a step at most, which are coupled; 0 for all.
        wrap: the left border meets the right one (a 360-degree panorama).
        scales: sizes of windows in multiples of the model's image.
        regions: instructions for parts, "0-0.5: make it night" (from left to right), "x0,y0,x1,y1: ..." (a box) or
            "mask.png: ..."; numbers are parts of the width and height.
        feather: width of the blend between regions, as a part of the shorter side.
        detail: how much of the source's own detail comes back, which autoencoder and working size lose: 0 to 1.
        group: frames of a video that are edited together.
        overlap: frames that successive groups share, less than the group.
        flow: rounds of sharing gradients with neighboring frames of a video along the optical flow; 0 for none.
        seed: of all randomness.
        video: whether frames of a video are edited, which has settings of its own.
    """

    instruction: str
    method: str = "csd"
    prior: str = "emoji-edit"
    size: int | None = None
    sweeps: int | None = None
    stride: float | None = None
    text_scale: float | None = None
    image_scale: float | None = None
    kernel: float | None = None
    lr: float | None = None
    particles: int | None = None
    wrap: bool = False
    scales: tuple[int, ...] = (1,)
    regions: tuple[str, ...] = ()
    feather: float = 0.1
    detail: float = 1.0
    group: int = 24
    overlap: int | None = None
    flow: int | None = None
    seed: int = 0
    video: bool = False

    @property
    def recipe(self) -> EditRecipe:
        """How the method is run."""
        return (VIDEO_RECIPES if self.video else EDIT_RECIPES)[self.method]

    def complete(self) -> "EditRequest":
        """The same request with every setting filled in but the size, which depends on the source.

        Raises:
            ValueError: for impossible settings, in one sentence that says how to mend it.
        """
        if not isinstance(self.instruction, str):
            raise ValueError(f"the instruction must be one text, not a {type(self.instruction).__name__}")
        if not self.instruction.strip() and not self.regions:
            raise ValueError('the instruction is empty: say what to change, for example "make it night"')
        if self.method not in EDIT_RECIPES:
            raise ValueError(f"unknown method {self.method!r}: use one of {', '.join(EDIT_RECIPES)}")
        recipe = self.recipe
        text, image = BUNDLED_SCALES if self.prior in BUNDLED else USUAL_SCALES
        usual: dict[str, Any] = {
            "sweeps": recipe.sweeps,
            "stride": recipe.stride,
            "text_scale": text,
            "image_scale": image,
            "kernel": recipe.kernel,
            "lr": recipe.lr,
            "particles": recipe.particles,
            "flow": recipe.flow,
            "overlap": min(4, self.group - 1),
        }
        full = replace(self, **{name: value for name, value in usual.items() if getattr(self, name) is None})
        full._check()
        return full

    def _check(self) -> None:
        for name in ("text_scale", "image_scale", "lr", "kernel", "feather", "detail", "stride"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, not {getattr(self, name)}")
        for name in ("sweeps", "particles", "group", "overlap", "flow", "seed"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number, not {getattr(self, name)}")
        if not isinstance(self.regions, tuple):
            raise ValueError("regions must be a tuple of texts, one per region")
        least = {"sweeps": 1, "text_scale": 0, "image_scale": 0, "lr": 0, "particles": 0, "group": 2, "overlap": 0}
        least |= {"flow": 0, "seed": 0, "feather": 0, "detail": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        assert self.stride is not None
        assert self.kernel is not None
        if not 0 < self.stride <= 1:
            raise ValueError(f"stride must be above 0 and at most 1 window, not {self.stride}")
        if not self.kernel > 0:
            raise ValueError(f"kernel must be positive, not {self.kernel}")
        if self.detail > 1 or self.feather > 1:
            raise ValueError("detail and feather must be at most 1")
        if self.size is not None and not (isinstance(self.size, int) and self.size >= 0):
            raise ValueError(f"size must be a whole number of pixels, or 0 for the source's own, not {self.size}")
        if (self.overlap or 0) >= self.group:
            raise ValueError(f"overlap must be less than the group of {self.group} frames, not {self.overlap}")
        if 1 not in self.scales or min(self.scales) < 1:
            raise ValueError(f"scales must be whole numbers from 1 up and hold 1, not {self.scales}")
        if self.seed >= 2**62:
            raise ValueError(f"seed must be below 2^62, not {self.seed}")


def with_size(request: EditRequest, prior: Any, windows: int) -> EditRequest:
    """The request with the working size filled in: so many of the model's images along the shorter side."""
    return replace(request, size=windows * min(prior.image_size) if request.size is None else request.size)
