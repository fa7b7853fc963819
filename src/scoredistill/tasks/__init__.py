"""Finished jobs, each one call: a prompt becomes a picture. The command line is a thin caller of these."""

from scoredistill.tasks.edit_image import EditResult, edit_image
from scoredistill.tasks.edit_scene import SceneResult, edit_scene
from scoredistill.tasks.edit_video import VideoResult, edit_video
from scoredistill.tasks.editing.recipes import EDIT_RECIPES
from scoredistill.tasks.objects.recipes import OBJECT_RECIPES
from scoredistill.tasks.text_to_3d import ObjectResult, text_to_3d
from scoredistill.tasks.text_to_image import METHODS, Request, Result, text_to_image

__all__ = [
    "EDIT_RECIPES",
    "METHODS",
    "OBJECT_RECIPES",
    "EditResult",
    "ObjectResult",
    "Request",
    "Result",
    "SceneResult",
    "VideoResult",
    "edit_image",
    "edit_scene",
    "edit_video",
    "text_to_3d",
    "text_to_image",
]
