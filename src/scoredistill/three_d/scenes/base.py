"""Base class of three-dimensional generators: views, shading, backgrounds and penalties; subclasses render cameras.

A view is a row of numbers that encodes a `Viewpoint` (camera, light, shading and background), so a step of `distill`
needs no knowledge of cameras.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.generators.base import Generator
from scoredistill.ranks import Share
from scoredistill.three_d.camera import PACKED, Cameras, RandomViews

SHADINGS = ("albedo", "lambertian", "textureless", "normal")
Color = tuple[float, float, float]
WHITE: Color = (1.0, 1.0, 1.0)
AMBIENT = 0.3  # fraction of ambient light in shaded views


@dataclass(frozen=True)
class Look:
    """Light, shading and background of n views, or of n rays; None stands for the default.

    Args:
        light: positions of the point lights of shaded views, [n, 3]; at the cameras, or where rays start, by default.
        shading: indices into `SHADINGS`, [n]; "albedo" by default.
        backdrop: background colors, [n, 3], negative for the background of the generator itself; by default as given by
            the `background` of the scene.
        shaded: whether any shading is other than "albedo"; read from the values if it is None, which waits for their
            device.
        own: whether any background is that of the generator; as above.
    """

    light: Float[Tensor, "n 3"] | None = None
    shading: Float[Tensor, " n"] | None = None
    backdrop: Float[Tensor, "n 3"] | None = None
    shaded: bool | None = None
    own: bool | None = None

    def __post_init__(self) -> None:
        if self.shaded is None and self.shading is not None:
            object.__setattr__(self, "shaded", bool((self.shading > 0).any()))
        if self.own is None and self.backdrop is not None:
            object.__setattr__(self, "own", bool((self.backdrop < 0).any()))


PLAIN = Look()


class Filled(NamedTuple):
    """A `Look` without None: what applies to n views or rays, and whether shading and own backgrounds occur at all."""

    light: Tensor
    shading: Tensor
    backdrop: Tensor
    shaded: bool
    own: bool


@dataclass(frozen=True)
class Viewpoint:
    """Camera, light, shading and background of n views.

    Args:
        cameras: n cameras.
        light: positions of the point lights, [n, 3].
        shading: indices into `SHADINGS`, [n].
        backdrop: background colors, [n, 3]; negative for the background of the generator itself.
    """

    cameras: Cameras
    light: Float[Tensor, "n 3"]
    shading: Float[Tensor, " n"]
    backdrop: Float[Tensor, "n 3"]

    def rows(self) -> Float[Tensor, "n 23"]:
        """The views as rows of 23 numbers."""
        return torch.cat([self.cameras.packed(), self.light, self.shading[:, None], self.backdrop], 1)

    @classmethod
    def of(cls, rows: Float[Tensor, "n 23"], size: tuple[int, int]) -> "Viewpoint":
        """The views encoded in rows, for images of the given (height, width)."""
        camera, light, shading, backdrop = rows.split([PACKED, 3, 1, 3], 1)
        return cls(Cameras.unpacked(camera, size), light, shading[:, 0], backdrop)


@dataclass(frozen=True)
class Rendering:
    """Images rendered for n cameras.

    Attributes:
        rgb: colors of the object composited over its background, [n, 3, h, w].
        opacity: in [0, 1], [n, 1, h, w].
        depth: mean depth along the optical axis, weighted by visibility, [n, 1, h, w]; 0 where the image is empty.
        normal: unit vectors in world coordinates, [n, 3, h, w], 0 where the image is empty; None unless requested.
        penalties: scalar penalties that can only be computed while rendering, by name.
    """

    rgb: Float[Tensor, "n 3 h w"]
    opacity: Float[Tensor, "n 1 h w"]
    depth: Float[Tensor, "n 1 h w"]
    normal: Float[Tensor, "n 3 h w"] | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Penalties:
    """Weights of regularizers that are added to the loss; each regularizer is a mean over the pixels of a step's views.

    Args:
        sparsity: weight of sqrt(o^2 + .01), with o the opacity, against fog (DreamFusion).
        entropy: weight of -o log o - (1 - o) log(1 - o), against partial opacity.
        orientation: weight of w max(0, n . d)^2 along rays of direction d, against visible surfaces that face away from
            the camera (Ref-NeRF, https://arxiv.org/abs/2112.03907). It needs normals: four more densities per point.
        smooth: weight of the squared differences between neighboring densities, for renderers that provide them.

    Raises:
        ValueError: if a weight is negative.
    """

    sparsity: float = 0.0
    entropy: float = 0.0
    orientation: float = 0.0
    smooth: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sparsity", "entropy", "orientation", "smooth"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"the weight of the penalty {name} must be at least 0, not {getattr(self, name)}")

    def __call__(self, rendering: Rendering) -> Tensor | None:
        """The weighted sum of the penalties, or None if all weights are 0."""
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
    """Abstract base of generators of an object in the unit ball, seen by cameras.

    Args:
        size: (height, width) at which images are rendered; may be changed between steps.
        image: (height, width) of the samples, to which renders are resized; `size` by default.
        cameras: distribution of random views, or fixed cameras from which each step takes a subset.
        background: a color, "random" for one color per view, or None for the background of the generator (`behind`).
        shading: probability of each of `SHADINGS`; only "albedo" by default.
        penalties: regularizers whose gradients are added to those of every step.

    Raises:
        ValueError: if the background or a shading is unknown, or the probabilities are negative or all 0.
    """

    split = True

    def __init__(
        self,
        size: tuple[int, int] = (64, 64),
        image: tuple[int, int] | None = None,
        cameras: RandomViews | Cameras | None = None,
        background: Color | str | None = WHITE,
        shading: Mapping[str, float] | None = None,
        penalties: Penalties | None = None,
    ):
        super().__init__()
        if isinstance(background, str) and background != "random":
            raise ValueError(f'background must be three numbers, "random" or None, not {background!r}')
        self.size, self.image = size, image or size
        self.cameras = RandomViews() if cameras is None else cameras
        self.background, self.penalties = background, penalties or Penalties()
        self.shading = dict(shading or {"albedo": 1.0})
        if unknown := set(self.shading) - set(SHADINGS):
            raise ValueError(f"unknown shading {', '.join(sorted(unknown))}: use any of {', '.join(SHADINGS)}")
        if not sum(self.shading.values()) > 0 or min(self.shading.values()) < 0:
            raise ValueError("shading needs probabilities of at least 0 that are not all 0")
        self._share: Share | None = None  # of what is rendered now, if other processes render the rest

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def facts(self) -> dict[str, object]:
        return {"size": self.size, **super().facts()}

    @abstractmethod
    def render(self, cameras: Cameras, look: Look = PLAIN, normals: bool = False) -> Rendering:
        """Render images at the size of the cameras.

        Args:
            cameras: n cameras.
            look: light, shading and background of each view.
            normals: also render normals.
        """

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Float[Tensor, "n 23"]:
        """Draw n views, by default four random ones or all of the fixed cameras.

        Raises:
            ValueError: if there are fewer fixed cameras than n.
        """
        if isinstance(self.cameras, Cameras):
            count = len(self.cameras) if n is None else n
            if not 1 <= count <= len(self.cameras):
                raise ValueError(f"cannot draw {count} views from {len(self.cameras)} cameras")
            some = (
                torch.arange(count) if n is None else torch.randperm(len(self.cameras), generator=rng)[:count].sort()[0]
            )
            cameras = self.cameras[some]
            light = cameras.eyes.clone()
        else:
            cameras = self.cameras(4 if n is None else n, rng, self.size)
            light = self.cameras.lights(cameras, rng)
        count = len(cameras)
        chances = torch.tensor([self.shading.get(name, 0.0) for name in SHADINGS])
        shading = torch.multinomial(chances, count, replacement=True, generator=rng).float()
        backdrop = torch.rand(count, 3, generator=rng) if self.background == "random" else self._backdrop(count)
        return Viewpoint(cameras, light, shading, backdrop).rows()

    def forward(self, views: Float[Tensor, "n 23"]) -> Float[Tensor, "n 3 h w"]:
        """Render views and resize them to `image`; penalties add their gradient in the backward pass."""
        where = Viewpoint.of(views, self.size)
        device = self.device
        known = Look(where.light, where.shading, where.backdrop)  # reads values where views were drawn: on the CPU
        light, shading, backdrop = (v.to(device) for v in (where.light, where.shading, where.backdrop))
        look = Look(light, shading, backdrop, known.shaded, known.own)
        wanted = torch.is_grad_enabled() and self.penalties.orientation > 0
        rendering = self.render(where.cameras.to(device), look, normals=wanted)
        x = rendering.rgb
        if self.size != self.image:
            x = functional.interpolate(x, self.image, mode="bilinear", align_corners=False, antialias=True)
        penalty = self.penalties(rendering) if torch.is_grad_enabled() else None
        if penalty is not None and self._share is not None:
            penalty = self._share.weight * penalty  # the sum over all shares is the mean over all views
        return x if penalty is None else _Attached.apply(x, penalty)

    def part(self, views: Float[Tensor, "n 23"], share: Share) -> Float[Tensor, "k 3 h w"]:
        with self.sharing(share):
            return self(share.of(views))

    @contextmanager
    def sharing(self, share: Share) -> Iterator[None]:
        """Render, in the body, the given share of the views or rays of a step as they are among all of them."""
        self._share = share
        try:
            yield
        finally:
            self._share = None

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self(views)

    def behind(self, directions: Float[Tensor, " *r 3"]) -> Float[Tensor, " *r 3"]:
        """Color of the generator's own background by ray direction; white unless a subclass says otherwise."""
        return torch.ones_like(directions)

    def shaded(
        self,
        rgb: Float[Tensor, "m 3"],
        normal: Float[Tensor, "m 3"],
        points: Float[Tensor, "m 3"],
        light: Float[Tensor, "m 3"],
        shading: Float[Tensor, " m"],
    ) -> Float[Tensor, "m 3"]:
        """Shaded colors of points, of brightness ambient + (1 - ambient) max(0, n . l); `shading` is per point."""
        towards = functional.normalize(light - points, dim=-1)
        bright = AMBIENT + (1 - AMBIENT) * (normal * towards).sum(-1, keepdim=True).clamp(min=0)
        kinds = [rgb, rgb * bright, bright.expand_as(rgb), (normal + 1) / 2]
        made = torch.zeros_like(rgb)
        for index, value in enumerate(kinds):
            made = torch.where((shading == index)[:, None], value, made)
        return made

    def _filled(self, look: Look, eyes: Float[Tensor, "n 3"]) -> Filled:
        """Appearance of n views or rays from the given points, with defaults in place of None."""
        n, own = len(eyes), self.background is None or isinstance(self.background, str)
        return Filled(
            eyes if look.light is None else look.light,
            eyes.new_zeros(n) if look.shading is None else look.shading,
            self._backdrop(n).to(eyes) if look.backdrop is None else look.backdrop,
            bool(look.shaded),
            own if look.own is None else look.own,
        )

    def _backdrop(self, n: int) -> Tensor:
        given = (-1.0, -1.0, -1.0) if self.background is None or isinstance(self.background, str) else self.background
        return torch.tensor(given).expand(n, 3).clone()


class _Attached(torch.autograd.Function):
    """Identity on images that adds the gradient of a penalty in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, penalty: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad.new_ones(())
