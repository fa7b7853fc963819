"""Three-dimensional generators: what all things have in common that cameras can look at.

A view is a row of numbers, a `Viewpoint`: camera, light, shading and background, so that a step of `distill` needs to
know nothing of cameras. A subclass renders cameras; shading, backgrounds and penalties are done here.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.generators.base import Generator
from scoredistill.three_d.camera import PACKED, Cameras, RandomViews

SHADINGS = ("albedo", "lambertian", "textureless", "normal")
Color = tuple[float, float, float]
WHITE: Color = (1.0, 1.0, 1.0)
AMBIENT = 0.3  # light that comes from everywhere, as a part of all, where there is shading


@dataclass(frozen=True)
class Viewpoint:
    """From where, in which light and in front of what n images are taken.

    Args:
        cameras: n of them.
        light: positions of the point lights, [n, 3].
        shading: index into `SHADINGS`, [n].
        backdrop: colors behind the thing, [n, 3]; negative for the generator's own background.
    """

    cameras: Cameras
    light: Float[Tensor, "n 3"]
    shading: Float[Tensor, " n"]
    backdrop: Float[Tensor, "n 3"]

    def rows(self) -> Float[Tensor, "n 23"]:
        """One row of numbers per view."""
        return torch.cat([self.cameras.packed(), self.light, self.shading[:, None], self.backdrop], 1)

    @classmethod
    def of(cls, rows: Float[Tensor, "n 23"], size: tuple[int, int]) -> "Viewpoint":
        """The views that rows describe, for images of the given size."""
        camera, light, shading, backdrop = rows.split([PACKED, 3, 1, 3], 1)
        return cls(Cameras.unpacked(camera, size), light, shading[:, 0], backdrop)


@dataclass(frozen=True)
class Rendering:
    """Images of n cameras.

    Attributes:
        rgb: colors of the thing in front of its background, [n, 3, h, w].
        opacity: [n, 1, h, w] in [0, 1].
        depth: along the cameras' axes, the mean over what is seen, [n, 1, h, w]; 0 where nothing is.
        normal: unit vectors in world coordinates, [n, 3, h, w], zeros where nothing is; None where not asked for.
        penalties: what the renderer knows only while it renders, by name, scalars.
    """

    rgb: Float[Tensor, "n 3 h w"]
    opacity: Float[Tensor, "n 1 h w"]
    depth: Float[Tensor, "n 1 h w"]
    normal: Float[Tensor, "n 3 h w"] | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Penalties:
    """What a thing is made to avoid, besides what the prior says; all are means over pixels of a step's views.

    Args:
        sparsity: of sqrt(o^2 + .01), o the opacity: no fog, little matter (DreamFusion).
        entropy: of -o log o - (1 - o) log(1 - o): there or not there, nothing between.
        orientation: of w max(0, n . d)^2 along rays of direction d: surfaces that are seen face the viewer
            (Ref-NeRF, https://arxiv.org/abs/2112.03907). Needs normals, which cost four more densities a point.
        smooth: of squared differences between neighbors of the density, where the renderer has them.
    """

    sparsity: float = 0.0
    entropy: float = 0.0
    orientation: float = 0.0
    smooth: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sparsity", "entropy", "orientation", "smooth"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"the penalty {name} must be at least 0, not {getattr(self, name)}")

    def __call__(self, rendering: Rendering) -> Tensor | None:
        """Their sum, or None if there are none."""
        total: Any = 0.0
        if self.sparsity:
            total = total + self.sparsity * (rendering.opacity.square() + 0.01).sqrt().mean()
        if self.entropy:
            o = rendering.opacity.clamp(1e-4, 1 - 1e-4)
            total = total - self.entropy * (o * o.log() + (1 - o) * (1 - o).log()).mean()
        for name in ("orientation", "smooth"):
            if getattr(self, name) and name in rendering.penalties:
                total = total + getattr(self, name) * rendering.penalties[name]
        return total if isinstance(total, Tensor) else None


class Scene(Generator):
    """Abstract base of generators that cameras look at; the thing lies in the unit ball.

    Args:
        size: (height, width) that images are rendered at; may be changed between steps.
        image: (height, width) of the samples, to which renders are scaled; `size` by default.
        law: how views are chosen: a law of random views, or cameras of which a step takes some.
        background: a color, "random" for one per view, or None for the generator's own (`behind`).
        shading: how likely each of `SHADINGS` is; only albedo by default.
        penalties: added to what comes back with the gradient of a step, as if the loss were theirs.
    """

    def __init__(
        self,
        size: tuple[int, int] = (64, 64),
        image: tuple[int, int] | None = None,
        law: RandomViews | Cameras | None = None,
        background: Color | str | None = WHITE,
        shading: Mapping[str, float] | None = None,
        penalties: Penalties | None = None,
    ):
        super().__init__()
        if isinstance(background, str) and background != "random":
            raise ValueError(f'background must be three numbers, "random" or None, not {background!r}')
        self.size, self.image = size, image or size
        self.law = RandomViews() if law is None else law
        self.background, self.penalties = background, penalties or Penalties()
        self.shading = dict(shading or {"albedo": 1.0})
        if unknown := set(self.shading) - set(SHADINGS):
            raise ValueError(f"unknown shading {', '.join(sorted(unknown))}: use any of {', '.join(SHADINGS)}")
        if not sum(self.shading.values()) > 0 or min(self.shading.values()) < 0:
            raise ValueError("shading needs probabilities of at least 0 that are not all 0")

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @abstractmethod
    def render(
        self,
        cameras: Cameras,
        light: Float[Tensor, "n 3"] | None = None,
        shading: Float[Tensor, " n"] | None = None,
        backdrop: Float[Tensor, "n 3"] | None = None,
        normals: bool = False,
    ) -> Rendering:
        """Images of the cameras, at the cameras' own size.

        Args:
            light: of views that are shaded; the cameras' own position by default.
            shading: index into `SHADINGS` of each view; albedo by default.
            backdrop: color behind each view, negative for the generator's own; what `background` says by default.
            normals: whether normals are wanted.
        """

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Float[Tensor, "n 23"]:
        """Choose n views by the law; of given cameras all by default, of random ones four."""
        if isinstance(self.law, Cameras):
            count = len(self.law) if n is None else n
            if not 1 <= count <= len(self.law):
                raise ValueError(f"asked for {count} views of {len(self.law)} cameras")
            some = torch.arange(count) if n is None else torch.randperm(len(self.law), generator=rng)[:count].sort()[0]
            cameras = self.law[some]
            light = cameras.eyes.clone()
        else:
            cameras = self.law(4 if n is None else n, rng, self.size)
            light = self.law.lights(cameras, rng)
        count = len(cameras)
        chances = torch.tensor([self.shading.get(name, 0.0) for name in SHADINGS])
        shading = torch.multinomial(chances, count, replacement=True, generator=rng).float()
        backdrop = torch.rand(count, 3, generator=rng) if self.background == "random" else self._backdrop(count)
        return Viewpoint(cameras, light, shading, backdrop).rows()

    def forward(self, views: Float[Tensor, "n 23"]) -> Float[Tensor, "n 3 h w"]:
        """Render views, scaled to `image`; penalties come back with their gradient."""
        where = Viewpoint.of(views, self.size)
        device = self.device
        light, shading, backdrop = (v.to(device) for v in (where.light, where.shading, where.backdrop))
        wanted = torch.is_grad_enabled() and self.penalties.orientation > 0
        rendering = self.render(where.cameras.to(device), light, shading, backdrop, normals=wanted)
        x = rendering.rgb
        if self.size != self.image:
            x = functional.interpolate(x, self.image, mode="bilinear", align_corners=False, antialias=True)
        penalty = self.penalties(rendering) if torch.is_grad_enabled() else None
        return x if penalty is None else _Attached.apply(x, penalty)

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self(views)

    def behind(self, directions: Float[Tensor, " *r 3"]) -> Float[Tensor, " *r 3"]:
        """The generator's own background, by the direction of the ray; white unless it has one."""
        return torch.ones_like(directions)

    def shaded(
        self,
        rgb: Float[Tensor, "m 3"],
        normal: Float[Tensor, "m 3"],
        points: Float[Tensor, "m 3"],
        light: Float[Tensor, "m 3"],
        shading: Float[Tensor, " m"],
    ) -> Float[Tensor, "m 3"]:
        """Colors of points in their light: ambient + (1 - ambient) max(0, n . l), by the shading of each."""
        towards = functional.normalize(light - points, dim=-1)
        bright = AMBIENT + (1 - AMBIENT) * (normal * towards).sum(-1, keepdim=True).clamp(min=0)
        kinds = [rgb, rgb * bright, bright.expand_as(rgb), (normal + 1) / 2]
        made = torch.zeros_like(rgb)
        for index, value in enumerate(kinds):
            made = torch.where((shading == index)[:, None], value, made)
        return made

    def _backdrop(self, n: int) -> Tensor:
        given = (-1.0, -1.0, -1.0) if self.background is None or isinstance(self.background, str) else self.background
        return torch.tensor(given).expand(n, 3).clone()


class _Attached(torch.autograd.Function):
    """Images with a penalty: whatever gradient comes back to the images, the penalty's comes with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, penalty: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad.new_ones(())
