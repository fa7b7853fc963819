"""Methods of editing scenes."""

from collections.abc import Mapping

from scoredistill.recipe import recipe_of
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES, own

ONE_VIEW = "one_view"
SCENE_METHODS: Mapping[str, str] = {
    **{name: VIDEO_RECIPES[name].says for name in ("csd", "uncoupled", "common_noise", "random_noise")},
    ONE_VIEW: "one view after the other is edited by DDIM from its noised render (Instruct-NeRF2NeRF)",
}
"""What each method does. All but one_view edit views as `VIDEO_RECIPES` edits the frames of a video."""

SWEEPS, KERNEL = 6, 1.0  # sweeps of the first round and bandwidth scale, unless others are asked for
RATES, LAST = (0.1, 0.01), 0.1  # learning rates of encoding and network while views change, and their factor at the end
LATER = (0.6, 0.2)  # t of the first and the last sweep of later rounds, which start at renders
DDIM_STEPS = 20  # of one_view
NOISED = (0.02, 0.98)  # interval of the t that one_view noises renders to


def description(method: str) -> str:
    """What a method does; one of the caller's own edits views as the frames of a video."""
    return recipe_of(method, SCENE_METHODS, lambda recipe: own(recipe).says)


def unused(method: str) -> tuple[str, ...]:
    """The options of an edit of a scene that have no effect on a method.

    Raises:
        ValueError: for a recipe of the caller's own that edits cannot use.
    """
    return ("views", "kernel") if method == ONE_VIEW else recipe_of(method, VIDEO_RECIPES, own).unused
