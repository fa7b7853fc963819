r"""Fit a scene to posed images.

    views = PosedImages.of(capture)
    scene = scene_of(views)
    for step in fit(scene, views):
        if step.index % 50 == 0:
            print(float(step.loss))

Each step draws random pixels of all images, traces their rays and minimizes

    loss = mean over pixels of |C(ray) - pixel|^2

with Adam, whose learning rates decay by a factor `decay` over the run. If an alpha channel a is given, the opacity o is
fitted to it as well, by (o - a)^2. With a mask, both are means over its pixels alone. `fit` is a Python generator, like
`loop.distill`, and the images may be changed between steps.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.metrics import psnr
from scoredistill.ranks import Ranks, Share
from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.encodings import DenseGrid, Encoding
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import Field, NeRF

RATES = (0.2, 0.02)  # learning rates: of the encoding, of everything else
Optimizer = torch.optim.Optimizer | Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass
class PosedImages:
    """Posed images to which a scene is fitted; the images may be modified or replaced at any time.

    Args:
        images: RGB in [0, 1], [n, 3, h, w].
        cameras: one per image.
        alpha: opacity of each pixel, [n, 1, h, w], or None if it is not known.
        mask: weight of each pixel in the loss, [n, 1, h, w], or None for equal weights.

    Raises:
        ValueError: if shapes do not match.
    """

    images: Float[Tensor, "n 3 h w"]
    cameras: Cameras
    alpha: Float[Tensor, "_ 1 _ _"] | None = None  # its shape is checked below, with a message
    mask: Float[Tensor, "_ 1 _ _"] | None = None

    def __post_init__(self) -> None:
        n, _, *size = self.images.shape
        if n != len(self.cameras) or tuple(size) != tuple(self.cameras.size):
            raise ValueError(f"{n} images of {size[1]}x{size[0]} pixels need as many cameras of that size")
        for name, values in (("alpha", self.alpha), ("mask", self.mask)):
            if values is not None and values.shape != (n, 1, *size):
                raise ValueError(f"{name} must be [{n}, 1, {size[0]}, {size[1]}], not {list(values.shape)}")

    @classmethod
    def of(cls, capture: Capture, alpha: bool = False) -> "PosedImages":
        """Copies of the training images of a capture.

        Args:
            capture: posed images, some of them held out.
            alpha: also take the alpha channel, if the capture has one. Off by default, because it lowered the PSNR of
                held-out views by 0.4 dB (scene "table" of `datasets.synthetic_scenes`).
        """
        some = list(capture.training)
        known = capture.alpha[some] if alpha and capture.alpha is not None else None
        mask = None if capture.mask is None else capture.mask[some]
        return cls(capture.images[some], capture.cameras[some], known, mask)

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "PosedImages":
        """The same images on another device."""
        alpha = None if self.alpha is None else self.alpha.to(device)
        mask = None if self.mask is None else self.mask.to(device)
        return PosedImages(self.images.to(device), self.cameras.to(device), alpha, mask)

    def rays(
        self, which: Int[Tensor, " r"], row: Int[Tensor, " r"], column: Int[Tensor, " r"]
    ) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 3"]]:
        """Origins and unit directions of the rays through given pixels, equal to those of `Cameras.rays`.

        Args:
            which: index of the image.
            row, column: index of the pixel.
        """
        place = torch.stack([column, row], 1) + 0.5
        across = (place - self.cameras.center[which]) / self.cameras.focal[which]
        poses = self.cameras.poses[which]
        seen = torch.stack([across[:, 0], -across[:, 1], -torch.ones_like(across[:, 0])], 1)
        directions = torch.einsum("rij,rj->ri", poses[:, :3, :3], seen)
        return poses[:, :3, 3], directions / directions.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class FitStep:
    """A completed step of `fit`.

    Attributes:
        index: 0 for the first step.
        steps: total number of steps.
        loss: before the update, a scalar tensor; reading its value synchronizes with the device.
        scene: the scene after the update.
        optimizer: the optimizer in use.
        rng: the generator that draws pixels.
    """

    index: int
    steps: int
    loss: Tensor
    scene: Scene
    optimizer: torch.optim.Optimizer
    rng: torch.Generator

    def state_dict(self) -> dict[str, Any]:
        """The state from which `fit(..., state=)` resumes after this step exactly as if it had not stopped."""
        return {
            "next": self.index + 1,
            "scene": copy.deepcopy(self.scene.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "rng": self.rng.get_state(),
        }


def fit(
    scene: Scene,
    views: PosedImages,
    *,
    steps: int = 400,
    rays: int = 1024,
    optimizer: Optimizer | None = None,
    decay: float = 0.1,
    rng: torch.Generator | None = None,
    state: Mapping[str, Any] | None = None,
    ranks: Ranks | None = None,
) -> Iterator[FitStep]:
    """Fit a scene to posed images.

    Inside a process group of `torch.distributed` all processes call it alike; each traces a part of the rays of a
    `NeRF`, see `scoredistill.ranks`.

    Args:
        scene: the scene to fit; its background must be that of the images. A `NeRF` renders single rays, other scenes
            render whole images.
        views: the images; changes made between steps take effect at the next step.
        steps: number of steps.
        rays: rays per step, drawn from all images; scenes without rays render about as many pixels in whole images.
        optimizer: an optimizer, or a function that makes one from parameters; `adam(scene)` by default.
        decay: factor, in (0, 1], by which the learning rates decay over the run; 1 keeps them constant.
        rng: draws pixels; a generator with seed 0 by default.
        state: `FitStep.state_dict()` of the step to resume from.
        ranks: the processes that divide the rays; by default those of the default process group, if there is one.

    Yields:
        A `FitStep` after each update.

    Raises:
        ValueError: if an argument is out of range, before the first step.
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
    ranks = Ranks.here() if ranks is None else ranks
    share = ranks.share(rays)

    def run() -> Iterator[FitStep]:
        ranks.copy_first([*scene.parameters(), *scene.buffers()])
        for index in range(0 if state is None else state["next"], steps):
            for group in made.param_groups:
                group["lr"] = group["initial_lr"] * decay ** (index / steps)
            made.zero_grad(set_to_none=True)
            if isinstance(scene, NeRF):
                loss = _loss_of_rays(scene, views, share, rng)
                loss.backward()
                ranks.add_gradients(scene.parameters())
                loss = ranks.add(loss)
            else:
                loss = _loss_of_images(scene, views, rays, rng)
                loss.backward()
            made.step()
            yield FitStep(index, steps, loss.detach(), scene, made, rng)

    return run()


def adam(scene: Scene, rates: tuple[float, float] = RATES) -> torch.optim.Adam:
    """Adam with two learning rates: of the parameters of encodings, and of all others."""
    groups: list[list[Tensor]] = [[], []]
    for name, parameter in scene.named_parameters():
        groups["encoding." not in name].append(parameter)
    return torch.optim.Adam(
        [{"params": p, "lr": r} for p, r in zip(groups, rates, strict=True) if p], eps=1e-15, betas=(0.9, 0.99)
    )


def scene_of(
    views: PosedImages, encoding: Encoding | None = None, samples: int = 64, seed: int = 0, **given: Any
) -> NeRF:
    """An untrained radiance field for posed images, without an initial blob: the images show where the object is.

    Args:
        views: the scene takes its views and its render size from their cameras.
        encoding: of positions; `DenseGrid` by default.
        samples: per ray.
        seed: of the initial weights and of the sample positions along rays.
        **given: further arguments of `NeRF`; the background must be that of the images.
    """
    rng = torch.Generator().manual_seed(seed)
    field = Field(DenseGrid(rng=rng) if encoding is None else encoding, layers=0, blob=(0.0, 1.0), density=1.0, rng=rng)
    return NeRF(field, samples, size=views.cameras.size, cameras=views.cameras, seed=seed, **given)


@torch.no_grad()
def held_out_psnr(scene: Scene, capture: Capture) -> float:
    """PSNR in dB of renders of the held-out views, clamped to [0, 1], averaged over views; masked pixels do not count.

    Raises:
        ValueError: if no image is held out, or their masks leave no pixel.
    """
    if not capture.held_out:
        raise ValueError("the capture has no held-out images: read it with held_out=8, for example")
    device = next(scene.parameters()).device
    found = []
    for i in capture.held_out:
        render = scene.render(capture.cameras[i].to(device)).rgb.clamp(0, 1)
        image = capture.images[i : i + 1].to(device)
        if capture.mask is None:
            found.append(psnr(render, image))
        elif bool((mask := capture.mask[i : i + 1].to(device)).any()):
            found.append(-10 * _mean((render - image).square(), mask).clamp(min=1e-12).log10()[None])
    if not found:
        raise ValueError("the masks leave no pixel of the held-out images: hold out others")
    return float(torch.cat(found).mean())


def _made(optimizer: Optimizer | None, scene: Scene) -> torch.optim.Optimizer:
    if optimizer is None:
        return adam(scene)
    return optimizer if isinstance(optimizer, torch.optim.Optimizer) else optimizer(scene.parameters())


def _loss_of_rays(scene: NeRF, views: PosedImages, share: Share, rng: torch.Generator) -> Tensor:
    """The part of the mean over all rays that a share of them contributes."""
    height, width = views.cameras.size
    pick = torch.randint(len(views) * height * width, (share.total,), generator=rng)
    pick = pick.to(views.images.device)
    every = (pick // (height * width), pick // width % height, pick % width)
    which, row, column = (share.of(index) for index in every)
    with scene.sharing(share):
        traced = scene.trace(*views.rays(which, row, column))
    weight: Tensor | None = None
    part: float | Tensor = share.weight
    if views.mask is not None:
        weight = views.mask[which, :, row, column]
        whole = views.mask[every[0], :, every[1], every[2]].sum()
        part = 0.0 if share.spare else weight.sum() / whole.clamp(min=1e-12)
    loss = part * _mean((traced["rgb"] - views.images[which, :, row, column]).square(), weight)
    if views.alpha is None:
        return loss
    return loss + part * _mean((traced["opacity"] - views.alpha[which, :, row, column]).square(), weight)


def _loss_of_images(scene: Scene, views: PosedImages, rays: int, rng: torch.Generator) -> Tensor:
    height, width = views.cameras.size
    count = min(max(1, round(rays / (height * width))), len(views))
    some = torch.randperm(len(views), generator=rng)[:count].to(views.images.device)
    rendering = scene.render(views.cameras[some])
    weight = None if views.mask is None else views.mask[some]
    loss = _mean((rendering.rgb - views.images[some]).square(), weight)
    if views.alpha is None:
        return loss
    return loss + _mean((rendering.opacity - views.alpha[some]).square(), weight)


def _mean(values: Float[Tensor, "n c *s"], weight: Float[Tensor, "n 1 *s"] | None) -> Tensor:
    """Weighted mean, 0 without weight; the mean without weights."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / (values.shape[1] * weight.sum()).clamp(min=1e-12)
