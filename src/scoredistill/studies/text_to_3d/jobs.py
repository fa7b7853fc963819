"""What the study measures, one function a job: a thing made by a method, and ordinary samples of its prompt."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scoredistill.media.images import grid, to_tensor
from scoredistill.metrics import clip_similarity, neighbor_consistency, perceptual_distance
from scoredistill.studies.harness.setting import loaded, slug
from scoredistill.studies.harness.turntables import strip, video
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.object_generation.run import ELEVATION, FOV, RADIUS
from scoredistill.tasks.object_generation.text_to_3d import text_to_3d
from scoredistill.three_d.camera import Cameras, orbit
from scoredistill.three_d.scenes.base import SHADINGS, Scene

SAMPLES, SAMPLES_SEED = 4, 10**6  # ordinary samples of a prompt
SHOWN_SEED = 0  # whose thing is videoed


@dataclass(frozen=True)
class Case:
    """One thing.

    Args:
        prior: name or folder.
        method: a name of `OBJECT_RECIPES`.
        prompt: what it is.
        seed: of the run.
        settings: other fields of `ObjectRequest`, as pairs.
    """

    prior: str
    method: str
    prompt: str
    seed: int = 0
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Of its images."""
        extra = [f"{k}{v}" for k, v in self.settings]
        return "-".join([slug(self.method), slug(self.prompt), *extra, f"s{self.seed}"])

    @cached_property
    def request(self) -> ObjectRequest:
        """All settings, the method's own filled in."""
        return ObjectRequest(self.prompt, self.method, self.prior, seed=self.seed, **dict(self.settings)).complete()

    @cached_property
    def part(self) -> str:
        """Of its part: another one as soon as the method's own settings change."""
        return f"{self.name}-{zlib.crc32(repr(self.request).encode()):08x}"


def made(case: Case, out: Path) -> dict[str, Any]:
    """Make a thing and measure it; a strip of its views, and of the first seed a turntable, are left in `out`."""
    settings = dict(case.settings)
    result = text_to_3d(case.prompt, loaded(case.prior), case.method, seed=case.seed, **settings)
    strip(result.images).save(draft := out / f".{case.name}.{os.getpid()}.png")
    draft.replace(out / f"{case.name}.png")
    if case.seed == SHOWN_SEED and not settings:
        video(result.scene, out / f"{case.name}.gif")
    found = {**judged(result.scene, result.images, case.prompt), **result.counts, "seconds": result.seconds}
    return {**found, "steps": len(result.history), "views": case.request.views}


def sampled(prior: str, prompt: str, out: Path) -> dict[str, Any]:
    """What ordinary samples of a prompt, which no view has to agree with, come to, and what one costs."""
    result = text_to_image(prompt, loaded(prior), "ddim", particles=SAMPLES, seed=SAMPLES_SEED)
    grid(result.images, columns=SAMPLES).save(out / f"ddim-{slug(prompt)}.png")
    similarity = float(clip_similarity(to_tensor(result.images), prompt).mean())
    return {"clip_sim": similarity, "rows": result.counts["rows"] / SAMPLES, "seconds": result.seconds / SAMPLES}


@torch.no_grad()
def judged(scene: Scene, images: Sequence[Image.Image], prompt: str) -> dict[str, float]:
    """Figures of a thing seen from as many sides as there are images of it, at equal steps around the circle."""
    views = to_tensor(images)
    around = torch.cat([views, views[:1]])
    geometry, opacity = _textureless(scene, len(views))
    similarity = clip_similarity(views, prompt)
    return {
        "clip_sim": float(similarity.mean()),
        "clip_sim_worst_view": float(similarity.min()),
        "clip_sim_front": float(similarity[0]),
        "clip_geometry": float(clip_similarity(geometry, prompt).mean()),
        "view_consistency": 100 * neighbor_consistency(around),
        "view_distance": float(perceptual_distance(around[:-1], around[1:]).mean()),
        "opacity": float(opacity.mean()),
    }


def _textureless(scene: Scene, n: int) -> tuple[Tensor, Tensor]:
    """Gray images of a thing lit from the camera, and how much of each pixel it covers."""
    device = next(scene.parameters()).device
    cameras: Cameras = orbit(n, ELEVATION, RADIUS, FOV, scene.size).to(device)
    shading = torch.full((n,), float(SHADINGS.index("textureless")), device=device)
    rendering = scene.render(cameras, shading=shading)
    return rendering.rgb.clamp(0, 1).cpu(), rendering.opacity.cpu()
