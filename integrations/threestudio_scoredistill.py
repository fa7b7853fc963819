"""Guidance of threestudio with the estimators of scoredistill, as `scoredistill-guidance`.

Copy this file to `custom/threestudio-scoredistill/__init__.py` of threestudio, and ask for it in a configuration:

    system:
      guidance_type: "scoredistill-guidance"
      guidance:
        pretrained_model_name_or_path: "stable-diffusion-v1-5/stable-diffusion-v1-5"
        method: "msd"        # a method of `scoredistill object`, or FILE.py:NAME
        guidance_scale: 100. # as threestudio counts: e_c + s (e_c - e_0)

It takes any model of `load_prior`. Prompts come from the prompt processor, as embeddings for Stable Diffusion and as
texts for other models.
"""

from dataclasses import dataclass
from typing import Any

import threestudio
import torch
from threestudio.utils.base import BaseObject
from threestudio.utils.misc import C
from torch.nn import functional

from scoredistill import load_prior
from scoredistill.estimators import Batch
from scoredistill.priors import Guided
from scoredistill.priors.pipelines import PipelinePrior
from scoredistill.recipe import check_method, named, recipe_of
from scoredistill.tasks.image_generation.recipes import RECIPES, own
from scoredistill.times import Uniform


@threestudio.register("scoredistill-guidance")
class ScoreDistillGuidance(BaseObject):
    """Score distillation by an estimator of scoredistill."""

    @dataclass
    class Config(BaseObject.Config):
        """Configuration.

        Attributes:
            pretrained_model_name_or_path: what `load_prior` loads.
            method: name of a method, or FILE.py:NAME.
            guidance_scale: s of e_c + s (e_c - e_0); scoredistill's own scale is s + 1.
            half_precision_weights: whether networks are float16.
            min_step_percent, max_step_percent: interval of t in [0, 1], numbers or threestudio's schedules, for the
                method sds; other methods have a time schedule of their own. None for that of the method.
            trainer_max_steps: number of steps that a time schedule spans.
            view_dependent_prompting: whether prompts name the view.
            width, height: of the images that the model is given; by default the model's own.
            seed: of noise and times.
        """

        pretrained_model_name_or_path: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
        method: str = "sds"
        guidance_scale: float = 100.0
        half_precision_weights: bool = True
        min_step_percent: Any = None
        max_step_percent: Any = None
        trainer_max_steps: int = 25000
        view_dependent_prompting: bool = True
        width: int | None = None
        height: int | None = None
        seed: int = 0

    cfg: Config

    def configure(self) -> None:
        """Load the model.

        Raises:
            ValueError: if there is no such model or method.
        """
        cfg, name = self.cfg, named(self.cfg.method)
        check_method(name, RECIPES)
        dtype = torch.float16 if cfg.half_precision_weights and torch.device(self.device).type == "cuda" else None
        self.prior = load_prior(cfg.pretrained_model_name_or_path, device=self.device, dtype=dtype)
        recipe = recipe_of(name, RECIPES, own)
        self.scale = cfg.guidance_scale + 1
        self.estimator = recipe.estimator(self.scale)
        self.times = recipe.times(self.prior.schedule, cfg.seed)
        self.size = (cfg.height or self.prior.image_size[0], cfg.width or self.prior.image_size[1])
        self.rng = torch.Generator().manual_seed(cfg.seed)
        self.step, self.low, self.high = 0, 0.02, 0.98
        self.update_step(0, 0)

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Advance the time schedule; called by threestudio before every step."""
        self.step = min(global_step, self.cfg.trainer_max_steps - 1)
        given = self.cfg.min_step_percent, self.cfg.max_step_percent
        if any(value is not None for value in given):
            values = (0.02 if given[0] is None else given[0], 0.98 if given[1] is None else given[1])
            self.low, self.high = (float(C(value, epoch, global_step)) for value in values)
            self.times = Uniform(self.low, self.high, self.cfg.seed)

    def __call__(
        self,
        rgb: torch.Tensor,
        prompt_utils: Any,
        elevation: torch.Tensor,
        azimuth: torch.Tensor,
        camera_distances: torch.Tensor,
        rgb_as_latents: bool = False,
        guidance_eval: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The loss of rendered images.

        Args:
            rgb: rendered images in [0, 1], [b, h, w, 3], or latents [b, h, w, c].
            prompt_utils: output of the prompt processor.
            elevation, azimuth: of the cameras, in degrees, [b].
            camera_distances: [b].
            rgb_as_latents: whether `rgb` are latents.

        Returns:
            loss_sds, whose gradient with respect to the latents is the estimator's, divided by b; grad_norm; min_step
            and max_step, the interval of time steps.
        """
        images = rgb.permute(0, 3, 1, 2)
        size = self.prior.latent_shape[-2:] if rgb_as_latents else self.size
        images = functional.interpolate(images, size, mode="bilinear", align_corners=False).float()
        x = images if rgb_as_latents else self.prior.encode_image(images)
        cond, uncond = self._conditions(prompt_utils, elevation, azimuth, camera_distances)
        t = torch.full((len(x),), float(self.times(self.step, self.cfg.trainer_max_steps)), device=x.device)
        guided = Guided(self.prior, self.scale, uncond=uncond)
        grad = self.estimator(guided, Batch(x.detach(), cond), t, self.rng).grad.nan_to_num()
        loss = 0.5 * functional.mse_loss(x, (x - grad).detach(), reduction="sum") / len(x)
        steps = {"min_step": round(1000 * self.low), "max_step": round(1000 * self.high)}
        return {"loss_sds": loss, "grad_norm": grad.norm(), **steps}

    def _conditions(
        self, prompts: Any, elevation: torch.Tensor, azimuth: torch.Tensor, distances: torch.Tensor
    ) -> tuple[Any, Any]:
        """The conditions of the prompt and of the negative prompt for each camera."""
        names = self.prior.embeddings if isinstance(self.prior, PipelinePrior) else ()
        if names == ("text",):
            both = prompts.get_text_embeddings(elevation, azimuth, distances, self.cfg.view_dependent_prompting)
            cond, uncond = both.chunk(2)
            return {"text": cond}, {"text": uncond}
        if not self.cfg.view_dependent_prompting:
            return self.prior.encode_text(prompts.prompt), None
        chosen = torch.zeros_like(elevation, dtype=torch.long)
        for direction in prompts.directions:
            inside = direction.condition(elevation, azimuth, distances)
            chosen[inside] = prompts.direction2idx[direction.name]
        return self.prior.encode_text([prompts.prompts_vd[index] for index in chosen.tolist()]), None
