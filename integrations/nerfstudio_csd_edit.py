"""Editing of nerfstudio scenes by CSD-Edit, in the place of Instruct-NeRF2NeRF's update of one view after the other.

Some training views are rendered, edited together, so that they agree, and put in the place of the dataset's images;
training goes on meanwhile. Add this file to PYTHONPATH and name its method, which starts from a trained splatfacto:

    export NERFSTUDIO_METHOD_CONFIGS="csd-edit=nerfstudio_csd_edit:csd_edit"
    ns-train csd-edit --data DATA --load-dir CHECKPOINTS --pipeline.instruction "make it autumn"

It edits datasets whose images are cached: those of `FullImageDatamanager` (splatfacto) and of Instruct-NeRF2NeRF.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch.nn import functional

from scoredistill import distill, load_prior
from scoredistill.generators import Latents
from scoredistill.priors import ImageGuided
from scoredistill.priors.base import Editor
from scoredistill.recipe import check_method, named, recipe_of
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES, own
from scoredistill.times import Linear


@dataclass
class CSDEditPipelineConfig(VanillaPipelineConfig):
    """Configuration.

    Attributes:
        instruction: what to change.
        prior: an instruction editor, what `load_prior` loads.
        method: how views are edited together: a method of `scoredistill edit` that optimizes, or FILE.py:NAME.
        guidance_scale, image_guidance_scale: of the instruction and of the image.
        edit_rate: training steps between two edits.
        edit_count: views that are edited together.
        sweeps: gradients of an edit.
        first_time, last_time: t of the first and of the last gradient; a smaller first one keeps more of the render.
        seed: of the noise and of the order of views.
    """

    _target: type = field(default_factory=lambda: CSDEditPipeline)
    instruction: str = ""
    prior: str = "timbrooks/instruct-pix2pix"
    method: str = "csd"
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    edit_rate: int = 500
    edit_count: int = 8
    sweeps: int = 6
    first_time: float = 0.95
    last_time: float = 0.3
    seed: int = 0


class CSDEditPipeline(VanillaPipeline):
    """A pipeline whose training images are edited together, again and again, by an instruction."""

    config: CSDEditPipelineConfig

    def __init__(self, config: CSDEditPipelineConfig, device: Any, *args: Any, **kwargs: Any):
        if not config.instruction.strip():
            raise ValueError("the instruction is empty: say what to change, with --pipeline.instruction")
        super().__init__(config, device, *args, **kwargs)
        name = named(config.method)
        check_method(name, VIDEO_RECIPES)
        self.recipe = recipe_of(name, VIDEO_RECIPES, own)
        if self.recipe.estimator is None:
            raise ValueError(f"{name} samples instead of optimizing: use csd, uncoupled or common_noise")
        prior = load_prior(config.prior, device=device)
        if not isinstance(prior, Editor):
            raise ValueError(f"{config.prior} follows no instructions: use timbrooks/instruct-pix2pix or emoji-edit")
        self.editor: list[Any] = [prior]  # in a list, so that its weights are not saved with the scene
        self.order = torch.Generator().manual_seed(config.seed)
        self.originals: dict[int, torch.Tensor] = {}

    def get_train_loss_dict(self, step: int) -> Any:
        """Edit views if it is time, and then train as before.

        Args:
            step: number of the training step.
        """
        if step % self.config.edit_rate == 0:
            self.update(step)
        return super().get_train_loss_dict(step)

    @torch.no_grad()
    def update(self, step: int) -> list[int]:
        """Edit some views together and put them in the dataset.

        Returns:
            The numbers of the views.
        """
        count = len(self._images())
        views = torch.randperm(count, generator=self.order)[: self.config.edit_count].tolist()
        sources = [self.originals.setdefault(view, self._images()[view].clone()) for view in views]
        cameras = self.datamanager.train_dataset.cameras
        indices = [self._camera(view) for view in views]
        was_training = self.model.training
        self.model.eval()
        renders = [self.model.get_outputs_for_camera(cameras[i : i + 1].to(self.device))["rgb"] for i in indices]
        self.model.train(was_training)
        for view, image in zip(views, self.edited(renders, sources, step), strict=True):
            known = self._images()[view]
            new = (255 * image).round() if known.dtype == torch.uint8 else image
            self._put(view, torch.cat([new.to(known), known[..., 3:]], -1))  # an alpha channel stays
        return views

    def edited(self, renders: list[torch.Tensor], sources: list[torch.Tensor], step: int) -> list[torch.Tensor]:
        """Views edited together.

        Args:
            renders: of the scene as it is now, [h, w, 3] in [0, 1], where the edit starts.
            sources: the images before any edit, [h, w, 3], in [0, 1] or as bytes.
            step: number of the training step, which seeds the noise.

        Returns:
            The edited views, of the sizes of the sources.
        """
        prior, config = self.editor[0], self.config
        size = fitted(sources[0].shape[:2], prior.image_size, prior.factor)
        start, source = (
            torch.cat([_batch(each, size) for each in part]).to(prior.device) for part in (renders, sources)
        )
        cond = {**prior.encode_text(config.instruction), **prior.encode_source(source)}
        guided = ImageGuided(prior, config.guidance_scale, config.image_guidance_scale)
        latents = Latents.of(prior.encode_image(start).float())
        recipe = self.recipe
        times = recipe.schedule or Linear(config.first_time, config.last_time)
        with torch.enable_grad():
            for _ in distill(
                latents, guided, recipe.estimator(recipe.kernel), cond, steps=config.sweeps, times=times,
                optimizer=torch.optim.SGD(latents.parameters(), lr=recipe.lr),
                source=prior.encode_image(source).float(), rng=torch.Generator().manual_seed(config.seed + step),
            ):  # fmt: skip
                pass
        images = prior.decode(latents.values.detach()).clamp(0, 1)
        sizes = [each.shape[:2] for each in sources]
        fit = [
            functional.interpolate(image[None], size, mode="bilinear")
            for image, size in zip(images, sizes, strict=True)
        ]
        return [image[0].permute(1, 2, 0) for image in fit]

    # --- the images of the dataset, cached in one of two ways ---

    def _images(self) -> Any:
        """The training images by number, [h, w, c] each."""
        manager = self.datamanager
        if hasattr(manager, "cached_train"):
            return [each["image"] for each in manager.cached_train]
        if hasattr(manager, "image_batch"):
            return manager.image_batch["image"]
        raise ValueError(
            f"{type(manager).__name__} does not cache its images: use FullImageDatamanager (splatfacto), or the data "
            "manager of Instruct-NeRF2NeRF"
        )

    def _camera(self, view: int) -> int:
        """The number of the camera of a view."""
        manager = self.datamanager
        known = manager.cached_train[view] if hasattr(manager, "cached_train") else None
        return int(known["image_idx"] if known is not None else manager.image_batch["image_idx"][view])

    def _put(self, view: int, image: torch.Tensor) -> None:
        if hasattr(self.datamanager, "cached_train"):
            self.datamanager.cached_train[view]["image"] = image
        else:
            self.datamanager.image_batch["image"][view] = image


def fitted(size: Any, own_size: tuple[int, int], factor: int) -> tuple[int, int]:
    """(height, width) of about the pixels of a model's own size, in the proportions of a view.

    Both are multiples of 8 latents.
    """
    height, width = size
    scale = (own_size[0] * own_size[1] / (height * width)) ** 0.5
    unit = 8 * factor
    return max(unit, round(height * scale / unit) * unit), max(unit, round(width * scale / unit) * unit)


def _batch(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """An image [h, w, c], in [0, 1] or as bytes, as a batch of another size."""
    values = image[..., :3].float() / (255 if image.dtype == torch.uint8 else 1)
    return functional.interpolate(values.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True).clamp(0, 1)


def _method() -> Any:
    """The method of nerfstudio: splatfacto with edits of its images."""
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.plugins.types import MethodSpecification

    config = copy.deepcopy(method_configs["splatfacto"])
    config.method_name = "csd-edit"
    config.pipeline = CSDEditPipelineConfig(datamanager=config.pipeline.datamanager, model=config.pipeline.model)
    return MethodSpecification(config=config, description="Edits a scene by an instruction, views together (CSD-Edit)")


def __getattr__(name: str) -> Any:
    if name == "csd_edit":
        return _method()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
