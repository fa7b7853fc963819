"""Settings that work for textures: the methods of text-to-3D with rates and lengths of their own.

A texture answers at once, while a radiance field must first move matter, so rates are lower. Score distillation
sampling is the default: its many small steps keep to the silhouette of the mesh, while mean shift aims at whole images,
in which the prior may draw another silhouette and paint its background on the mesh (docs/results/textures.md).
"""

from collections.abc import Mapping
from dataclasses import replace

from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES, ObjectRecipe

TEXTURE_RECIPES: Mapping[str, ObjectRecipe] = {
    "sds": replace(OBJECT_RECIPES["sds"], lr=1e-2),
    "csd": replace(OBJECT_RECIPES["csd"], lr=1e-2),
    "msd": replace(OBJECT_RECIPES["msd"], lr=2e-2),
    "sdi": replace(OBJECT_RECIPES["sdi"], lr=2e-2),
}
