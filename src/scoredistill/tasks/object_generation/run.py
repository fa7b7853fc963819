"""How a 3-D object is made: the scene, the texts of its views, and the steps that shape it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
from scoredistill.ranks import Ranks, Share
from scoredistill.rng import seed_of
from scoredistill.tasks.object_generation.recipes import ObjectRecipe
from scoredistill.tasks.object_generation.request import ObjectSettings
from scoredistill.three_d.camera import RandomViews, orbit
from scoredistill.three_d.encodings import DenseGrid, Encoding, HashGrid, TriPlane
from scoredistill.three_d.scenes.base import WHITE, Penalties, Scene, Viewpoint
from scoredistill.three_d.scenes.nerf import Field, NeRF
from scoredistill.three_d.scenes.splats import Splats
from scoredistill.three_d.view_prompts import OVERHEAD, view_prompts

RADIUS, FOV = 3.0, 40.0  # of the cameras: the unit ball just fills the image
RAYS = 48  # samples along a ray, at full size
MIXED = {"albedo": 0.5, "lambertian": 0.3, "textureless": 0.2}
COARSE = 0.8  # fraction of the steps that render at half the size, with two thirds of the samples
AWAY = -1.0  # weight of Perp-Neg's negative views
SIDES = (0.0, 90.0, 180.0)  # azimuths with different texts, in degrees
SPLATS = 1500  # number of Gaussians


@runtime_checkable
class SceneSettings(Protocol):
    """Complete settings of whatever optimizes a scene by a prompt: text-to-3D, and textures of meshes."""

    @property
    def prompt(self) -> str: ...
    @property
    def negative_prompt(self) -> str: ...
    @property
    def view_prompts(self) -> bool: ...
    @property
    def perp_neg(self) -> bool: ...
    @property
    def recipe(self) -> ObjectRecipe: ...
    @property
    def steps(self) -> int: ...
    @property
    def views(self) -> int: ...
    @property
    def guidance(self) -> float: ...
    @property
    def lr(self) -> float: ...
    @property
    def follow(self) -> int: ...
    @property
    def seed(self) -> int: ...


def make_scene(settings: ObjectSettings, image: tuple[int, int]) -> Scene:
    """The object before the first step.

    Args:
        settings: the settings, which contain the seed.
        image: (height, width) of the prior's own images, to which renders are scaled.
    """
    rng = torch.Generator().manual_seed(settings.seed)
    background = {"white": WHITE, "random": "random", "learned": None}[settings.background]
    common: dict[str, Any] = {
        "size": (settings.size, settings.size),
        "image": image,
        "cameras": RandomViews(settings.elevation, radius=(RADIUS - 0.1, RADIUS + 0.1), fov=(FOV, FOV)),
        "background": background,
        "shading": MIXED if settings.shading == "mixed" else None,
        "penalties": Penalties(settings.sparsity, settings.entropy, settings.orientation),
    }
    if settings.shape == "splats":
        return Splats(SPLATS, rng=rng, **common)
    return NeRF(Field(_encoding(settings.encoding, rng), 32, 1, rng=rng), RAYS, seed=settings.seed, **common)


def _encoding(name: str, rng: torch.Generator) -> Encoding:
    if name == "dense":
        return DenseGrid((8, 16, 32), 4, rng=rng)
    return TriPlane((16, 32), 8, rng=rng) if name == "triplane" else HashGrid(8, 2, 2**14, 8, 64, rng=rng)


@dataclass(frozen=True)
class ViewTexts:
    """The conditions of the views of a step: the prompt, or the prompt with the direction of each view.

    Attributes:
        plain: the condition of the prompt itself.
        sides: conditions of front, side, back and overhead views, one row each; None for the same text for all views.
        azimuth: name of the entry of a condition that holds the index of a view's text, for Perp-Neg.
    """

    plain: Cond
    sides: Cond | None = None
    azimuth: str = "side"

    @classmethod
    def of(cls, prior: TextPrior, settings: SceneSettings) -> "ViewTexts":
        """The conditions of the settings' prompt, each encoded once."""
        plain = prior.encode_text([settings.prompt])
        if not settings.view_prompts:
            return cls(plain)
        texts = view_prompts(settings.prompt, [*SIDES, 0.0], [0.0, 0.0, 0.0, 90.0])
        return cls(plain, prior.encode_text(texts))

    def __call__(self, views: Float[Tensor, "n 23"]) -> Cond:
        """The condition of views, one row per view."""
        if self.sides is None:
            return self.plain
        cameras = Viewpoint.of(views, (1, 1)).cameras
        away = ((cameras.azimuth + 180) % 360 - 180).abs()
        side = torch.where(away < 45, 0, torch.where(away <= 135, 1, 2))
        side = torch.where(cameras.elevation >= OVERHEAD, 3, side)
        return {**_chosen(self.sides, side), self.azimuth: side.float()}

    def elsewhere(self, cond: Cond) -> Cond:
        """The condition that each view should not show: the front view, or for front views the back view.

        Raises:
            ValueError: if all views have the same text.
        """
        if self.sides is None:
            raise ValueError("all views have the same text: use view prompts")
        side = cond[self.azimuth].long().cpu()
        return _chosen(self.sides, torch.where(side == 0, 2, 0))


def _chosen(sides: Cond, side: Tensor) -> dict[str, Tensor]:
    """The rows of the given sides."""
    return {name: value[side.to(value.device)] for name, value in sides.items()}


def guided(settings: SceneSettings, prior: TextPrior, counted: Prior, texts: ViewTexts) -> Prior:
    """The prior with the guidance of the settings.

    Args:
        settings: the settings.
        prior: encodes the negative prompt.
        counted: the prior whose network is evaluated.
        texts: conditions of the views.
    """
    uncond = prior.encode_text([settings.negative_prompt]) if settings.negative_prompt else None
    if not settings.perp_neg:
        return Guided(counted, settings.guidance, uncond=uncond)
    negatives: list[Any] = [(texts.elsewhere, AWAY)] + ([(uncond, AWAY)] if uncond else [])
    return PerpNeg(counted, settings.guidance, negatives)


class Watched(Generator):
    """A generator that keeps its last images, so that kernels on image features need no second rendering.

    Args:
        generator: generates images in [0, 1].
        seed: mixed into the choice of views if not 0; for runs with one noise for all particles, whose views `distill`
            chooses independently of the seed.
        ranks: the processes that render the views of a step together.
    """

    def __init__(self, generator: Generator, seed: int = 0, ranks: Ranks | None = None):
        super().__init__()
        self.generator, self.seed, self.ranks = generator, seed, ranks or Ranks()
        self.seen: Tensor | None = None
        self._share: Share | None = None

    @property
    def split(self) -> bool:  # type: ignore[override]
        """As of the generator."""
        return self.generator.split

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        if self.seed and rng is not None:
            rng = torch.Generator().manual_seed(seed_of(self.seed, rng.initial_seed()))
        return self.generator.views(n, rng)

    def forward(self, views: Tensor) -> Tensor:
        x = self.generator(views)
        self.seen, self._share = x.detach(), None
        return x

    def part(self, views: Tensor, share: Share) -> Tensor:
        x = self.generator.part(views, share)
        self.seen, self._share = x.detach(), share
        return x

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self.generator.images(views, decode)

    def features(self, x: Tensor) -> Tensor:
        """Normalized tokens of the bundled CLIP's image tower for the images of the samples x, [n, f].

        Raises:
            ValueError: if x is not as many samples as were rendered last.
        """
        seen, share = self.seen, self._share
        if seen is None or len(x) != (len(seen) if share is None else share.total):
            raise ValueError("features are those of the views rendered last: render as many first")
        features = perceptual_features(seen.clamp(0, 1)).transpose(0, 1).flatten(1).to(x)
        return features if share is None else self.ranks.gather(features, share)


def _coarsen(scene: Scene, size: tuple[int, int], coarse: bool) -> None:
    """Render at half the size with two thirds of the samples, or at full size."""
    scene.size = (max(8, size[0] // 2), max(8, size[1] // 2)) if coarse else size
    if isinstance(scene, NeRF):
        scene.samples = RAYS * 2 // 3 if coarse else RAYS


def shaped(
    settings: SceneSettings,
    scene: Scene,
    prior: TextPrior,
    counted: Counted,
    state: dict[str, Any] | None = None,
    on_nan: str = "stop",
    coarse: float = COARSE,
    conditions: Callable[[Tensor], Cond] | None = None,
) -> Iterator[Step]:
    """The steps of a run, which optimize the scene in place.

    Args:
        settings: the settings.
        scene: the object.
        prior: the prior that knows the text.
        counted: the same prior, counting network evaluations.
        state: state of an interrupted run to continue.
        on_nan: see `distill`.
        coarse: fraction of the steps, the first ones, that render at half the size.
        conditions: further conditions of views, for priors that also see their depth or normals, for example.
    """
    recipe, texts = settings.recipe, ViewTexts.of(prior, settings)
    watched = Watched(scene, settings.seed if recipe.same_noise else 0, Ranks.here())
    generator: Generator = watched
    estimator = recipe.estimator(settings.guidance, watched.features)
    if recipe.through == "decoder":
        estimator = Decoded(estimator)
    else:
        generator = Encoded(watched, counted)
    rng: torch.Generator | Sequence[torch.Generator] = torch.Generator().manual_seed(settings.seed + 1)
    if recipe.same_noise:
        rng = [torch.Generator().manual_seed(settings.seed + 1) for _ in range(settings.views)]
    size = scene.size
    cond = texts if conditions is None else lambda views: {**texts(views), **conditions(views)}
    optimizer = torch.optim.Adam(scene.parameters(), lr=settings.lr, betas=(0.9, 0.99))
    steps = distill(
        generator, guided(settings, prior, counted, texts), estimator, cond,
        steps=settings.steps, particles=settings.views, times=recipe.times(prior.schedule, settings.seed),
        optimizer=optimizer, follow=settings.follow, rng=rng, state=state, on_nan=on_nan, check=1,
    )  # fmt: skip
    index = 0 if state is None else state["next"]
    while True:
        _coarsen(scene, size, index < coarse * settings.steps)
        step = next(steps, None)
        _coarsen(scene, size, False)
        if step is None:
            return
        yield step
        index += 1


LOOKS, ELEVATION = 12, 10.0  # number of views that are evaluated, and their elevation in degrees


@torch.no_grad()
def views_of(scene: Scene, n: int = LOOKS, size: tuple[int, int] | None = None) -> list[Image.Image]:
    """Views of an object from n sides at equal distances, slightly from above.

    Args:
        scene: the object.
        n: number of views.
        size: (height, width) of the images; the scene's own by default.
    """
    cameras = orbit(n, ELEVATION, RADIUS, FOV, size or scene.size).to(scene.device)
    return to_pil(scene.render(cameras).rgb.clamp(0, 1))
