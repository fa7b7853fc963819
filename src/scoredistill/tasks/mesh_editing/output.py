"""The output directory and the result of an edit of a mesh.

config.json      the complete settings and the exact command    preview.png    the mesh so far, from four sides
before.mp4, after.mp4                                            videos of one turn around the mesh
mesh.glb         the mesh with the edited texture, in its own place and size
texture.png      the edited texture alone                        viewer.html    the mesh in a browser, without a network
views/           the edited views and transforms.json
before.safetensors, scene.safetensors                            all parameters, before and after
result.json      cost, seams, coverage                           report.html    all of it
checkpoint.safetensors exists from the end of the edit until its results are written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from scoredistill.tasks.scene_editing.output import SceneDirectory, SceneResult
from scoredistill.tasks.texturing.output import quality, with_filled, write_files, write_mesh
from scoredistill.three_d.mesh import MeshFile, TexturedMesh
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.textured import Textured


@dataclass(frozen=True, kw_only=True)
class MeshEditResult(SceneResult):
    """A mesh with an edited texture, and how it was made; the photographs of the capture are renders of the mesh.

    Attributes:
        source: the mesh as it was read.
    """

    source: MeshFile

    @property
    def model(self) -> TexturedMesh:
        """The mesh with its edited texture, in the place and size of its file."""
        return self.source.placed(textured(self.scene).textured())

    def write(self, path: str | Path) -> Path:
        """Write the mesh with its edited texture as a .glb file."""
        return write_mesh(textured(self.scene), self.source, Path(path))


class MeshEditDirectory(SceneDirectory):
    """Output directory of an edit of a mesh."""

    leftovers: ClassVar[tuple[str, ...]] = (*SceneDirectory.leftovers, "texture.png", "viewer.html")
    other = "another mesh"
    photographs = "renders"

    def _shown(self, scene: Scene) -> Scene:
        return with_filled(textured(scene))

    def _export(self, result: SceneResult) -> tuple[dict[str, Any], bool]:
        assert isinstance(result, MeshEditResult)
        scene = textured(result.scene)
        write_files(scene, result.source, self.path, result.request.instruction)
        return {**quality(scene), "uv": "kept" if result.source.kept else "new"}, False


def textured(scene: Scene) -> Textured:
    """The scene itself, which is a mesh."""
    assert isinstance(scene, Textured)
    return scene
