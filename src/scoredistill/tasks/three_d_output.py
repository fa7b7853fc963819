"""3-D results as files: a mesh or splats, videos of a turn, and views side by side."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from scoredistill.media.images import grid
from scoredistill.optional import MissingExtra
from scoredistill.three_d.mesh import extract, write_glb
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import NeRF
from scoredistill.three_d.scenes.splats import Splats
from scoredistill.three_d.splatting import write_ply
from scoredistill.three_d.turntable import write_turntables

VIDEO_SIZE, VIDEO_FPS, VIDEO_SECONDS = 128, 16, 3
VIEW_SIDE = 128  # views side by side are enlarged to about as many pixels
LEVELS = (0.5, 0.2, 0.05)  # opacities of the surface of a mesh that are tried, in this order
MESH_CELLS, TEXTURE_SIDE = 64, 512


def side_by_side(views: Sequence[Image.Image]) -> Image.Image:
    """Views in one row, small ones enlarged."""
    factors = (max(1, round(VIEW_SIDE / max(view.size))) for view in views)
    large = [
        view.resize((view.width * factor, view.height * factor), Image.Resampling.LANCZOS)
        for view, factor in zip(views, factors, strict=True)
    ]
    return grid(large, columns=len(large), pad=2)


def write_videos(scene: Scene, path: Path, elevation: float = 15.0) -> list[Path]:
    """Write videos of one turn around a scene; every frame is rendered once.

    Args:
        scene: the scene.
        path: path of the videos without their suffixes.
        elevation: elevation of the camera in degrees.

    Returns:
        The files: an mp4 if PyAV is installed, and a GIF.
    """
    kinds = ("mp4", "gif") if find_spec("av") else ("gif",)
    return write_turntables(
        scene.render, [path.with_suffix(f".{kind}") for kind in kinds], VIDEO_SECONDS, VIDEO_FPS, VIDEO_SIZE,
        elevation, device=scene.device,
    )  # fmt: skip


def export_scene(scene: Scene, path: Path, levels: Sequence[float] = LEVELS) -> str:
    """Write a scene for other programs: mesh.glb (y up) of a radiance field, splats.ply (y
    down) of Gaussians, as their viewers expect.

    Args:
        scene: the scene.
        path: directory of the files.
        levels: opacities of the surface that are tried, in this order.

    Returns:
        What could not be written and why, or "".
    """
    if isinstance(scene, Splats):
        try:
            write_ply(path / "splats.ply", scene.gaussians(), y_down=True)
        except ValueError as error:
            return f"no splats: {error}"
        return ""
    if not isinstance(scene, NeRF):
        return "only radiance fields have meshes"
    reason = ""
    for level in levels:
        try:
            mesh = extract(scene.field, MESH_CELLS, level, device=scene.device)
        except ValueError as error:
            reason = str(error)
            continue
        except MissingExtra as error:  # at the end of a run, whose other results are to be kept
            return f"no mesh: {error}"
        lacking = ""
        for side in (TEXTURE_SIDE, None):  # vertex colors need fewer packages than a texture
            try:
                write_glb(mesh, path / "mesh.glb", scene.field, side, unlit=True, device=scene.device)
            except MissingExtra as error:
                lacking = lacking or str(error)
                continue
            return lacking and f"mesh.glb has colors of vertices instead of a texture: {lacking}"
        return f"no mesh: {lacking}"
    return f"no mesh: {reason}"
