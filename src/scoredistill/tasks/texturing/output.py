"""The output directory and the result of texturing.

config.json      the complete settings and the exact command    metrics.jsonl    one line per step
preview.png      the mesh so far, from four sides               video.gif        the optimization
turntable.mp4, turntable.gif                                    sheet.png        colors, depths and normals
mesh.glb         the mesh with its texture, in its own place and size
texture.png      the texture alone                              finish.png       roughness (green) and metallic (blue)
viewer.html      the mesh in a browser, without a network       scene.safetensors    all parameters
result.json      similarity, consistency, seams, coverage, cost     report.html      all of it
checkpoint.safetensors and .frames/ exist while the run is unfinished.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scoredistill.checkpoint import save_state
from scoredistill.media.images import save_image, to_pil
from scoredistill.reports.page import Page
from scoredistill.tasks.known_words import add_verdict
from scoredistill.tasks.object_generation.output import evaluated
from scoredistill.tasks.run_report import add_curves, add_settings
from scoredistill.tasks.step_directory import StepDirectory
from scoredistill.tasks.texturing.request import TextureSettings
from scoredistill.tasks.three_d_output import write_videos
from scoredistill.three_d.mesh import MeshFile, TexturedMesh, seam_error, write_textured, write_viewer
from scoredistill.three_d.scenes.textured import Textured
from scoredistill.three_d.turntable import contact_sheet


@dataclass(frozen=True)
class TextureResult:
    """A textured mesh, and how it was made.

    Attributes:
        scene: the mesh with its texture; `scene.render(cameras)` renders it, in the unit ball.
        source: the mesh as it was read.
        images: views from all sides.
        request: the complete settings.
        counts: network evaluations ("rows"), network calls, images encoded and decoded.
        seconds: wall time of the optimization, without loading the prior.
        history: metrics of each step: t, grad_norm, and what the estimator reports.
        verdict: what the result is worth of a prompt that the prior was not trained on; else empty.
    """

    scene: Textured
    source: MeshFile
    images: list[Image.Image]
    request: TextureSettings
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    verdict: str = ""

    @property
    def model(self) -> TexturedMesh:
        """The mesh with its texture, in the place and size of its file."""
        return self.source.placed(self.scene.textured())

    def write(self, path: str | Path) -> Path:
        """Write the textured mesh as a .glb file."""
        return write_mesh(self.scene, self.source, Path(path))


class TextureDirectory(StepDirectory[TextureResult]):
    """Output directory of texturing."""

    leftovers = (
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png",
        "turntable.mp4", "turntable.gif", "sheet.png", "mesh.glb", "texture.png", "finish.png", "viewer.html",
        "scene.safetensors", ".frames/[0-9]*.png",
    )  # fmt: skip
    frames = 40
    source = "another mesh"
    space = 1e7  # the scene, its checkpoint, a mesh with a texture, videos

    def finish(self, result: TextureResult) -> None:
        scene, settings = result.scene, result.request
        finished = with_filled(scene)
        save_state(scene.state_dict(), self.path / "scene.safetensors")
        self._write_video()
        sheet = contact_sheet(finished.render, 8, 128, device=scene.device)
        save_image(sheet, self.path / "sheet.png")
        videos = write_videos(finished, self.path / "turntable")
        write_files(scene, result.source, self.path, settings.prompt)
        summary = {
            **evaluated(result.images, settings.prompt, settings.prior), **quality(scene), **result.counts,
            "seconds": round(result.seconds, 2), "uv": "kept" if result.source.kept else "new",
        }  # fmt: skip
        self._write_summary(summary, self._report(result, sheet, videos[0], summary))
        self._clear()

    def _report(self, result: TextureResult, sheet: Image.Image, video: Path, summary: dict[str, Any]) -> Page:
        settings = result.request
        page = Page(settings.prompt, f"{settings.method} on {settings.prior}, texture of {settings.texture} texels")
        page.command(self.command)
        add_verdict(page, summary, result.verdict)
        if video.suffix == ".gif":
            page.figure(video, "All sides.")
        else:
            page.videos({"all sides": video})
        page.figure(sheet, "Colors, depths (near is bright) and normals (right, away and up are red, green and blue).")
        page.figure(self.path / "texture.png", "The texture.")
        page.figure(self.path / "video.gif", "The optimization, from four sides.")
        add_curves(page, result.history, "views")
        page.heading("Result").key_values(summary)
        return add_settings(page, settings)


def with_filled(scene: Textured) -> Textured:
    """A scene for showing, in which unseen texels have the colors that files get."""
    made = Textured(
        scene.textured(), scene.atlas.size, start=True, grids=(), samples=scene.samples, size=scene.size,
        image=scene.image, cameras=scene.cameras,
    )  # fmt: skip
    return made.to(scene.device)


def quality(scene: Textured) -> dict[str, float]:
    """Coverage in percent, and the mean color difference across seams and across other edges, in [0, 1]."""
    error = seam_error(scene.textured())
    return {
        "coverage": round(100 * scene.coverage, 2), "seam_difference": error.seam, "edge_difference": error.interior,
    }  # fmt: skip


def write_mesh(scene: Textured, source: MeshFile, path: Path) -> Path:
    """Write the textured mesh as a .glb file, in the place and size of its file."""
    maps = scene.filled()
    placed = source.placed(replace(scene.model, texture=maps[:3]))
    return write_textured(placed, path, finish=maps[3:] if scene.finish else None)


def write_files(scene: Textured, source: MeshFile, path: Path, title: str) -> None:
    """Write mesh.glb, viewer.html and the images of the texture into a directory."""
    maps = scene.filled()
    write_mesh(scene, source, path / "mesh.glb")
    write_viewer(replace(scene.model, texture=maps[:3]), path / "viewer.html", title)
    save_image(to_pil(maps[None, :3])[0], path / "texture.png")
    if scene.finish:
        packed = torch.cat([torch.ones_like(maps[:1]), maps[3:]])
        save_image(to_pil(packed[None])[0], path / "finish.png")
