r"""Fit a scene to posed images.

    photographs = Photographs.of(capture)
    scene = scene_of(photographs)
    for step in fit(scene, photographs):
        if step.index % 50 == 0:
            print(float(step.loss))

A step takes random pixels of all images and traces their rays,

    loss = mean over pixels of |C(ray) - pixel|^2,

with Adam, whose learning rates fall by a factor `decay` over the run. Where the covered part a of each pixel is given,
the opacity o is fitted too, by (o - a)^2. It is a Python generator, like `loop.distill`, and images may be changed
between its steps.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.metrics import psnr
from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import Field, NeRF

RATES = (0.2, 0.02)  # of the encoding, of everything else
Optimizer = torch.optim.Optimizer | Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass
class Photographs:
    """Posed images that a scene is fitted to; images may be written to at any time, in place or as a whole.

    Args:
        images: RGB in [0, 1], [n, 3, h, w].
        cameras: one for each.
        alpha: covered part of each pixel, or None if it is not known.

    Raises:
        ValueError: the parts do not fit together.
    """

    images: Float[Tensor, "n 3 h w"]
    cameras: Cameras
    alpha: Float[Tensor, "_ 1 _ _"] | None = None  # shapes are compared in a sentence

    def __post_init__(self) -> None:
        n, _, *size = self.images.shape
        if n != len(self.cameras) or tuple(size) != tuple(self.cameras.size):
            raise ValueError(f"{n} images of {size[1]}x{size[0]} pixels need as many cameras of that size")
        if self.alpha is not None and self.alpha.shape != (n, 1, *size):
            raise ValueError(f"alpha must be [{n}, 1, {size[0]}, {size[1]}], not {list(self.alpha.shape)}")

    @classmethod
    def of(cls, capture: Capture, alpha: bool = False) -> "Photographs":
        """The training images of a capture, as copies; with their alpha if it is known and wanted.

        It is off by default because held-out views came out 0.4 dB worse with it (scene `table` of `studio`).
        """
        some = list(capture.training)
        known = capture.alpha[some] if alpha and capture.alpha is not None else None
        return cls(capture.images[some], capture.cameras[some], known)

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Photographs":
        """The same on another device."""
        alpha = None if self.alpha is None else self.alpha.to(device)
        return Photographs(self.images.to(device), self.cameras.to(device), alpha)

    def rays(
        self, which: Int[Tensor, " r"], row: Int[Tensor, " r"], column: Int[Tensor, " r"]
    ) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 3"]]:
        """Origins and unit directions of the rays through single pixels; those of `Cameras.rays`."""
        place = torch.stack([column, row], 1) + 0.5
        across = (place - self.cameras.center[which]) / self.cameras.focal[which]
        poses = self.cameras.poses[which]
        seen = torch.stack([across[:, 0], -across[:, 1], -torch.ones_like(across[:, 0])], 1)
        directions = torch.einsum("rij,rj->ri", poses[:, :3, :3], seen)
        return poses[:, :3, 3], directions / directions.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class FitStep:
    """One finished step.

    Attributes:
        index: 0 for the first step.
        steps: how many there will be.
        loss: before the update; a tensor, so reading it is what waits for the device.
    """

    index: int
    steps: int
    loss: Tensor
    scene: Scene
    optimizer: torch.optim.Optimizer
    rng: torch.Generator

    def state_dict(self) -> dict[str, Any]:
        """All that `fit(..., state=)` needs to go on after this step exactly as if it had not stopped."""
        return {
            "next": self.index + 1,
            "scene": copy.deepcopy(self.scene.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "rng": self.rng.get_state(),
        }


def fit(
    scene: Scene,
    photographs: Photographs,
    *,
    steps: int = 400,
    rays: int = 1024,
    optimizer: Optimizer | None = None,
    decay: float = 0.1,
    rng: torch.Generator | None = None,
    state: Mapping[str, Any] | None = None,
) -> Iterator[FitStep]:
    """Fit a scene to images.

    Args:
        scene: to be fitted; its background must be that of the images. A `NeRF` is asked for single rays, other
            scenes for whole images.
        photographs: the images; what is written to them between steps counts from the next step on.
        steps: how many.
        rays: per step, drawn from all images; scenes that know no rays render the nearest number of images to it.
        optimizer: made, or a function that makes one of parameters; `adam(scene)` by default.
        decay: what learning rates are multiplied by over the run; 1 leaves them alone.
        rng: draws pixels; one seeded with 0 by default.
        state: `FitStep.state_dict()` of the step to go on from.

    Yields:
        A `FitStep` after each update.

    Raises:
        ValueError: for impossible arguments, before any work.
    """
    if steps < 1 or rays < 1:
        raise ValueError(f"steps and rays must be at least 1, not {steps} and {rays}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay must lie in (0, 1], not {decay}")
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    made = _made(optimizer, scene)
    if state is not None:
        scene.load_state_dict(state["scene"])
        made.load_state_dict(state["optimizer"])
        rng.set_state(state["rng"])
    for group in made.param_groups:
        group.setdefault("initial_lr", group["lr"])

    def run() -> Iterator[FitStep]:
        for index in range(0 if state is None else state["next"], steps):
            for group in made.param_groups:
                group["lr"] = group["initial_lr"] * decay ** (index / steps)
            loss = _loss(scene, photographs, rays, rng)
            made.zero_grad(set_to_none=True)
            loss.backward()
            made.step()
            yield FitStep(index, steps, loss.detach(), scene, made, rng)

    return run()


def adam(scene: Scene, rates: tuple[float, float] = RATES) -> torch.optim.Adam:
    """Adam with one learning rate for tables of features (what belongs to an encoding), another for the rest."""
    groups: list[list[Tensor]] = [[], []]
    for name, parameter in scene.named_parameters():
        groups["encoding." not in name].append(parameter)
    return torch.optim.Adam(
        [{"params": p, "lr": r} for p, r in zip(groups, rates, strict=True) if p], eps=1e-15, betas=(0.9, 0.99)
    )


def scene_of(photographs: Photographs, encoding: Any = None, samples: int = 64, seed: int = 0, **given: Any) -> NeRF:
    """A field for posed images, with nothing in it yet: no blob, for the images say where matter is.

    Args:
        photographs: their cameras become the law of views, and their size that of images.
        encoding: of positions; dense grids by default.
        samples: along each ray.
        seed: of the initial weights and of the places along rays.
        **given: further arguments of `NeRF`; the background must be that of the images.
    """
    rng = torch.Generator().manual_seed(seed)
    field = Field(DenseGrid(rng=rng) if encoding is None else encoding, layers=0, blob=(0.0, 1.0), density=1.0, rng=rng)
    return NeRF(field, samples, size=photographs.cameras.size, law=photographs.cameras, seed=seed, **given)


@torch.no_grad()
def held_out_psnr(scene: Scene, capture: Capture) -> float:
    """Mean over the held-out images of the PSNR of their renders, clamped to [0, 1], in dB.

    Raises:
        ValueError: no image is held out.
    """
    if not capture.held_out:
        raise ValueError("no image is held out: read the capture with held_out=8, say")
    device = next(scene.parameters()).device
    found = []
    for i in capture.held_out:
        render = scene.render(capture.cameras[i].to(device)).rgb.clamp(0, 1)
        found.append(psnr(render, capture.images[i : i + 1].to(device)))
    return float(torch.cat(found).mean())


def _made(optimizer: Optimizer | None, scene: Scene) -> torch.optim.Optimizer:
    if optimizer is None:
        return adam(scene)
    return optimizer if isinstance(optimizer, torch.optim.Optimizer) else optimizer(scene.parameters())


def _loss(scene: Scene, photographs: Photographs, rays: int, rng: torch.Generator) -> Tensor:
    if isinstance(scene, NeRF):
        return _loss_of_rays(scene, photographs, rays, rng)
    return _loss_of_images(scene, photographs, rays, rng)


def _loss_of_rays(scene: NeRF, photographs: Photographs, rays: int, rng: torch.Generator) -> Tensor:
    height, width = photographs.cameras.size
    pick = torch.randint(len(photographs) * height * width, (rays,), generator=rng)
    pick = pick.to(photographs.images.device)
    which, row, column = pick // (height * width), pick // width % height, pick % width
    traced = scene.trace(*photographs.rays(which, row, column))
    loss = (traced["rgb"] - photographs.images[which, :, row, column]).square().mean()
    if photographs.alpha is None:
        return loss
    return loss + (traced["opacity"] - photographs.alpha[which, :, row, column]).square().mean()


def _loss_of_images(scene: Scene, photographs: Photographs, rays: int, rng: torch.Generator) -> Tensor:
    height, width = photographs.cameras.size
    count = min(max(1, round(rays / (height * width))), len(photographs))
    some = torch.randperm(len(photographs), generator=rng)[:count].to(photographs.images.device)
    rendering = scene.render(photographs.cameras[some])
    loss = (rendering.rgb - photographs.images[some]).square().mean()
    return loss if photographs.alpha is None else loss + (rendering.opacity - photographs.alpha[some]).square().mean()
