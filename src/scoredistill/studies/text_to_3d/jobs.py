"""The jobs of the text-to-3D study: make an object and measure it, and draw ordinary samples of its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scoredistill.files import slug
from scoredistill.media.images import grid, to_tensor
from scoredistill.metrics import clip_similarity, neighbor_consistency, perceptual_distance
from scoredistill.studies.harness import jobs
from scoredistill.studies.harness.setting import loaded
from scoredistill.studies.harness.turntables import save_strip, save_turntable
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.object_generation.run import ELEVATION, FOV, RADIUS
from scoredistill.tasks.object_generation.text_to_3d import text_to_3d
from scoredistill.tasks.request import PriorOptions
from scoredistill.three_d.camera import Cameras, orbit
from scoredistill.three_d.scenes.base import SHADINGS, Look, Scene

SAMPLES, SAMPLES_SEED = 4, 10**6  # ordinary samples of a prompt


@dataclass(frozen=True)
class Case(jobs.Case):
    """One object.

    Args:
        method: a name of `OBJECT_RECIPES`.
        prior: name or directory.
        prompt: describes the object.
        load: how the prior is loaded.
        seed: seed of the run.
        settings: other fields of `ObjectRequest`, as pairs.
    """

    prior: str
    prompt: str
    load: PriorOptions = PriorOptions()

    @property
    def name(self) -> str:
        """The name of its images."""
        return "-".join([slug(self.method), slug(self.prompt), *self.changes, f"s{self.seed}"])

    @cached_property
    def request(self) -> ObjectRequest:
        """All settings, the method's own filled in."""
        return ObjectRequest(self.prompt, self.method, self.prior, seed=self.seed, **dict(self.settings)).complete()

    @cached_property
    def part(self) -> str:
        """The name of its job, which changes with the method's own settings."""
        return f"{self.name}-{jobs.fingerprint(self.request)}"


def made(case: Case, out: Path) -> dict[str, Any]:
    """Make an object and measure it; write a strip of its views and, without other settings, a turntable."""
    settings = dict(case.settings)
    result = text_to_3d(case.prompt, loaded(case.prior, case.load), case.method, seed=case.seed, **settings)
    save_strip(result.images, out / f"{case.name}.png")
    if not settings:
        save_turntable(result.scene, out / f"{case.name}.gif")
    found = {**evaluate(result.scene, result.images, case.prompt), **result.counts, "seconds": result.seconds}
    return {**found, "steps": len(result.history), "views": case.request.views}


def sampled(prior: str, prompt: str, out: Path, load: PriorOptions = PriorOptions()) -> dict[str, Any]:
    """Draw ordinary samples of a prompt, each an image without other views, and measure their quality and cost."""
    result = text_to_image(prompt, loaded(prior, load), "ddim", particles=SAMPLES, seed=SAMPLES_SEED)
    grid(result.images, columns=SAMPLES).save(out / f"ddim-{slug(prompt)}.png")
    similarity = float(clip_similarity(to_tensor(result.images), prompt).mean())
    return {"clip_sim": similarity, "rows": result.counts["rows"] / SAMPLES, "seconds": result.seconds / SAMPLES}


@torch.no_grad()
def evaluate(scene: Scene, images: Sequence[Image.Image], prompt: str) -> dict[str, float]:
    """Metrics of an object.

    Args:
        images: views at equal steps around the circle, the front first.
    """
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
    """Gray images of an object lit from the camera, and the fraction of each pixel that it covers."""
    device = next(scene.parameters()).device
    cameras: Cameras = orbit(n, ELEVATION, RADIUS, FOV, scene.size).to(device)
    shading = torch.full((n,), float(SHADINGS.index("textureless")), device=device)
    rendering = scene.render(cameras, Look(shading=shading))
    return rendering.rgb.clamp(0, 1).cpu(), rendering.opacity.cpu()
