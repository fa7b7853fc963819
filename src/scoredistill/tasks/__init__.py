"""Complete tasks as single functions: text to image, SVG and 3-D, textures of meshes, and editing.

The command line calls these functions.
"""

from scoredistill.tasks.image_editing.edit_image import edit_image
from scoredistill.tasks.image_editing.output import EditResult
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.image_generation.output import Result
from scoredistill.tasks.image_generation.request import METHODS, Request
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.mesh_editing.edit_mesh import edit_mesh
from scoredistill.tasks.mesh_editing.output import MeshEditResult
from scoredistill.tasks.object_generation.output import ObjectResult
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES
from scoredistill.tasks.object_generation.text_to_3d import text_to_3d
from scoredistill.tasks.scene_editing.edit_scene import edit_scene
from scoredistill.tasks.scene_editing.output import SceneResult
from scoredistill.tasks.texturing.output import TextureResult
from scoredistill.tasks.texturing.recipes import TEXTURE_RECIPES
from scoredistill.tasks.texturing.texture_mesh import texture_mesh
from scoredistill.tasks.vector_graphics.edit_svg import edit_svg
from scoredistill.tasks.vector_graphics.output import VectorEditResult, VectorResult
from scoredistill.tasks.vector_graphics.text_to_svg import text_to_svg
from scoredistill.tasks.video_editing.edit_video import edit_video
from scoredistill.tasks.video_editing.output import VideoResult

__all__ = [
    "EDIT_RECIPES",
    "METHODS",
    "OBJECT_RECIPES",
    "TEXTURE_RECIPES",
    "EditResult",
    "MeshEditResult",
    "ObjectResult",
    "Request",
    "Result",
    "SceneResult",
    "TextureResult",
    "VectorEditResult",
    "VectorResult",
    "VideoResult",
    "edit_image",
    "edit_mesh",
    "edit_scene",
    "edit_svg",
    "edit_video",
    "text_to_3d",
    "text_to_image",
    "text_to_svg",
    "texture_mesh",
]
