"""What an edit of a mesh is asked for, and the complete settings of a run."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from scoredistill.recipe import MethodSource, named
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing.request import BUNDLED_SIDE, EditOptions
from scoredistill.tasks.request import PriorSource, RunOptions, completed, prior_name
from scoredistill.tasks.scene_editing.request import RoundOptions, SceneRequest, SceneSettings
from scoredistill.tasks.texturing.request import MeshOptions
from scoredistill.three_d.fitting import FitStep
from scoredistill.three_d.mesh import MeshFile
from scoredistill.three_d.scenes.base import Scene

VIEWS = 24  # around the mesh, unless `use` says otherwise
LARGEST = 256  # pixels of views by default


@dataclass(frozen=True)
class MeshEditRequest(SceneRequest, MeshOptions):
    """What an edit of a mesh is asked for: that of a scene whose photographs are renders of the mesh.

    Attributes:
        instruction: What to change, for example "make it snowy".
        method: csd (collaborative score distillation), another name of `SCENE_METHODS`, or a method of your own.
        prior: emoji-edit (bundled), or a directory or hub name of an instruction editor.
    """

    @classmethod
    def of(cls, asked: "MeshEditArguments") -> "MeshEditRequest":
        """The request that the arguments of `edit_mesh` contain."""
        names = {field.name for field in fields(asked)} & {field.name for field in fields(cls)}
        values = {name: getattr(asked, name) for name in names}
        return cls(**{**values, "prior": prior_name(asked.prior), "method": named(asked.method)})

    def complete(self, side: int = BUNDLED_SIDE, training: int = VIEWS) -> "MeshEditSettings":
        """The settings of the request: every None replaced by its default.

        Args:
            side: shorter side in pixels of the model's own images.
            training: number of views around the mesh.

        Raises:
            ValueError: for impossible settings, in one sentence that says what is possible.
        """
        return completed(self, MeshEditSettings, self.defaults(min(side, LARGEST), training))


@dataclass(frozen=True, kw_only=True)
class MeshEditSettings(SceneSettings, MeshEditRequest):
    """A complete `MeshEditRequest`: nothing is None."""

    def check_values(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        super().check_values()
        checks.whole(self, use=2)
        self.check_mesh()


@dataclass(frozen=True)
class MeshEditArguments(EditOptions, RoundOptions, MeshOptions, RunOptions):
    """Parameters of `edit_mesh`, beside its options and those of any run.

    Attributes:
        mesh: A .glb, .gltf, .obj, .ply, .stl or .off file, or a mesh of `read_mesh`.
        instruction: What to change.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: A name of `SCENE_METHODS`, or a method of your own, see `scoredistill.recipe`.
        callback: Called with every finished step of fitting to edited views, and the scene.
    """

    mesh: str | Path | MeshFile
    instruction: str
    prior: PriorSource = "emoji-edit"
    method: MethodSource = "csd"
    callback: Callable[[FitStep, Scene], None] | None = None
