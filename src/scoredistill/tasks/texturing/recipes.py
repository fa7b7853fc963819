"""Settings that work for textures: the methods of text-to-3D with rates and lengths of their own.

A texture answers at once, while a radiance field must first move matter, so rates are lower and steps fewer.
"""

from collections.abc import Mapping
from dataclasses import replace

from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES, ObjectRecipe

TEXTURE_RECIPES: Mapping[str, ObjectRecipe] = {
    "msd": replace(OBJECT_RECIPES["msd"], lr=2e-2),
    "csd": replace(OBJECT_RECIPES["csd"], lr=1e-2),
    "sds": replace(OBJECT_RECIPES["sds"], lr=1e-2),
    "sdi": replace(OBJECT_RECIPES["sdi"], lr=2e-2),
}
