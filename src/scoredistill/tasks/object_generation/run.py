"""A run in three dimensions: the thing, the texts of its views, and the steps that shape it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.estimators import Decoded
from scoredistill.generators import Encoded, Generator
from scoredistill.loop import Step, distill
from scoredistill.media.images import to_pil
from scoredistill.metrics.edits import perceptual_features
from scoredistill.priors import Cond, Guided, PerpNeg
from scoredistill.priors.base import Prior, TextPrior
from scoredistill.priors.counted import Counted
from scoredistill.rng import seed_of
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.three_d.camera import RandomViews, orbit
from scoredistill.three_d.encodings import DenseGrid, Encoding, HashGrid, TriPlane
from scoredistill.three_d.scenes.base import WHITE, Penalties, Scene, Viewpoint
from scoredistill.three_d.scenes.nerf import Field, NeRF
from scoredistill.three_d.scenes.splats import Splats
from scoredistill.three_d.view_prompts import OVERHEAD, view_prompts

RADIUS, FOV = 3.0, 40.0  # of the cameras: the unit ball just fills the image
RAYS = 48  # samples along each, at full size
MIXED = {"albedo": 0.5, "lambertian": 0.3, "textureless": 0.2}
COARSE = 0.8  # part of a run at half the size, with two thirds of the samples
AWAY = -1.0  # weight of Perp-Neg's negative views
SIDES = (0.0, 90.0, 180.0)  # azimuths whose texts differ
SPLATS = 1500


def size_of(request: ObjectRequest, prior: TextPrior) -> int:
    """Height and width of renders, in pixels."""
    return min(64, *prior.image_size) if request.size is None else request.size


def make_scene(request: ObjectRequest, size: int, image: tuple[int, int]) -> Scene:
    """The thing before the first step, from the request's seed."""
    assert request.elevation is not None
    rng = torch.Generator().manual_seed(request.seed)
    background = {"white": WHITE, "random": "random", "learned": None}[request.background]
    common: dict[str, Any] = {
        "size": (size, size),
        "image": image,
        "cameras": RandomViews(request.elevation, radius=(RADIUS - 0.1, RADIUS + 0.1), fov=(FOV, FOV)),
        "background": background,
        "shading": MIXED if request.shading == "mixed" else None,
        "penalties": Penalties(request.sparsity, request.entropy, request.orientation),
    }
    if request.shape == "splats":
        return Splats(SPLATS, rng=rng, **common)
    return NeRF(Field(_encoding(request.encoding, rng), 32, 1, rng=rng), RAYS, seed=request.seed, **common)


def _encoding(name: str, rng: torch.Generator) -> Encoding:
    if name == "dense":
        return DenseGrid((8, 16, 32), 4, rng=rng)
    return TriPlane((16, 32), 8, rng=rng) if name == "triplane" else HashGrid(8, 2, 2**14, 8, 64, rng=rng)


@dataclass(frozen=True)
class ViewTexts:
    """The condition of the views of a step: the prompt, or the prompt with where each is seen from.

    Attributes:
        sides: conditions of front, side, back and overhead views, one row each; None for one text.
        plain: the condition of the prompt itself.
        azimuth: name of the entry that says which text is a view's, for Perp-Neg.
    """

    plain: Cond
    sides: Cond | None = None
    azimuth: str = "side"

    @classmethod
    def of(cls, prior: TextPrior, request: ObjectRequest) -> "ViewTexts":
        """The texts of a request, encoded once."""
        plain = prior.encode_text([request.prompt])
        if not request.view_prompts:
            return cls(plain)
        texts = view_prompts(request.prompt, [*SIDES, 0.0], [0.0, 0.0, 0.0, 90.0])
        return cls(plain, prior.encode_text(texts))

    def __call__(self, views: Float[Tensor, "n 23"]) -> Cond:
        """One row per view."""
        if self.sides is None:
            return self.plain
        cameras = Viewpoint.of(views, (1, 1)).cameras
        away = ((cameras.azimuth + 180) % 360 - 180).abs()
        side = torch.where(away < 45, 0, torch.where(away <= 135, 1, 2))
        side = torch.where(cameras.elevation >= OVERHEAD, 3, side)
        return {**self._rows(side), self.azimuth: side.float()}

    def elsewhere(self, cond: Cond) -> Cond:
        """Of each view the text it should not show: the front, or for fronts the back."""
        side = cond[self.azimuth].long().cpu()
        return self._rows(torch.where(side == 0, 2, 0))

    def _rows(self, side: Tensor) -> dict[str, Tensor]:
        assert self.sides is not None
        return {name: value[side.to(value.device)] for name, value in self.sides.items()}


def guided(request: ObjectRequest, prior: TextPrior, counted: Counted, texts: ViewTexts) -> Prior:
    """The prior with the request's guidance."""
    assert request.guidance is not None
    uncond = prior.encode_text([request.negative_prompt]) if request.negative_prompt else None
    if not request.perp_neg:
        return Guided(counted, request.guidance, uncond=uncond)
    negatives: list[Any] = [(texts.elsewhere, AWAY)] + ([(uncond, AWAY)] if uncond else [])
    return PerpNeg(counted, request.guidance, negatives)


class Watched(Generator):
    """A generator whose last images are remembered, for kernels that look at them: nothing is rendered twice.

    Args:
        generator: makes images in [0, 1].
        seed: views depend on it too, for runs with one noise per particle, whose views `distill` chooses from none.
    """

    def __init__(self, generator: Generator, seed: int = 0):
        super().__init__()
        self.generator, self.seed = generator, seed
        self.seen: Tensor | None = None

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        if self.seed and rng is not None:
            rng = torch.Generator().manual_seed(seed_of(self.seed, rng.initial_seed()))
        return self.generator.views(n, rng)

    def forward(self, views: Tensor) -> Tensor:
        x = self.generator(views)
        self.seen = x.detach()
        return x

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self.generator.images(views, decode)

    def features(self, x: Tensor) -> Tensor:
        """Unit tokens of the bundled CLIP's image tower for the images behind the samples x, [n, f]."""
        if self.seen is None or len(self.seen) != len(x):
            raise ValueError("features are those of the views rendered last: render as many first")
        return perceptual_features(self.seen.clamp(0, 1)).transpose(0, 1).flatten(1).to(x)


def _coarsen(scene: Scene, size: tuple[int, int], coarse: bool) -> None:
    """Half of the size and two thirds of the samples, or all of them."""
    scene.size = (max(8, size[0] // 2), max(8, size[1] // 2)) if coarse else size
    if isinstance(scene, NeRF):
        scene.samples = RAYS * 2 // 3 if coarse else RAYS


def shaped(
    request: ObjectRequest, scene: Scene, prior: TextPrior, counted: Counted, state: Any = None
) -> Iterator[Step]:
    """The steps of a run; the scene is the generator behind `step.generator`."""
    recipe, texts = request.recipe, ViewTexts.of(prior, request)
    assert request.steps is not None
    assert request.guidance is not None
    assert request.follow is not None
    assert request.lr is not None
    watched = Watched(scene, request.seed if recipe.same_noise else 0)
    generator: Generator = watched
    estimator = recipe.estimator(request.guidance, watched.features)
    if recipe.through == "decoder":
        estimator = Decoded(estimator)
    else:
        generator = Encoded(watched, counted)
    rng: torch.Generator | Sequence[torch.Generator] = torch.Generator().manual_seed(request.seed + 1)
    if recipe.same_noise:
        rng = [torch.Generator().manual_seed(request.seed + 1) for _ in range(request.views or 1)]
    size = scene.size
    optimizer = torch.optim.Adam(scene.parameters(), lr=request.lr, betas=(0.9, 0.99))
    steps = distill(
        generator, guided(request, prior, counted, texts), estimator, texts,
        steps=request.steps, particles=request.views, times=recipe.times(prior.schedule, request.seed),
        optimizer=optimizer, follow=request.follow, rng=rng, state=state,
    )  # fmt: skip
    index = 0 if state is None else state["next"]
    while True:
        _coarsen(scene, size, index < COARSE * request.steps)
        step = next(steps, None)
        _coarsen(scene, size, False)
        if step is None:
            return
        yield step
        index += 1


LOOKS, ELEVATION = 12, 10.0  # views that are judged


@torch.no_grad()
def views_of(scene: Scene, n: int = LOOKS, size: tuple[int, int] | None = None) -> list[Image.Image]:
    """Images of a thing from n sides, a little from above."""
    cameras = orbit(n, ELEVATION, RADIUS, FOV, size or scene.size).to(next(scene.parameters()).device)
    return to_pil(scene.render(cameras).rgb.clamp(0, 1))
