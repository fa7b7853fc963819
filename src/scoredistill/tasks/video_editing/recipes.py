"""Methods of editing as they are run on videos."""

from dataclasses import replace

from scoredistill.recipe import Recipe
from scoredistill.tasks.image_editing import recipes
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES, EditRecipe


def _for_frames(recipe: EditRecipe) -> EditRecipe:
    """The recipe with fewer, disjoint windows, as all frames of a group are coupled."""
    return replace(recipe, stride=1.0, sweeps=6) if recipe.estimator and recipe.jitter else recipe


VIDEO_RECIPES: dict[str, EditRecipe] = {
    **{name: _for_frames(recipe) for name, recipe in EDIT_RECIPES.items()},
    "csd": replace(_for_frames(EDIT_RECIPES["csd_full"]), says="CSD-Edit, frames share their whole scores"),
}
"""The methods of `EDIT_RECIPES` on videos. Frames show comparable content at one place, so csd shares whole scores."""


def own(recipe: Recipe) -> EditRecipe:
    """A recipe of the caller's own, with the windows of csd on videos."""
    return _for_frames(recipes.own(recipe))
