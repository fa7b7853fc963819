"""Text to image with the interface of diffusers' text-to-image pipelines; one class for each of the main methods."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch

from scoredistill.loop import Step
from scoredistill.pipelines.base import TaskPipeline, seeds_from, texts
from scoredistill.pipelines.output import ImagePipelineOutput, check_type, converted
from scoredistill.priors.base import TextPrior
from scoredistill.tasks.image_generation.request import ImageOptions
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.request import RunOptions
from scoredistill.tasks.session import text_prior

OWN = ("steps", "particles", "guidance", "negative_prompt", "seed")  # options with other names here
KNOWN = tuple(field.name for field in fields(ImageOptions) if field.name not in OWN)


class TextToImagePipeline(TaskPipeline):
    """Images of a prompt, by score distillation with the method that is given."""

    usual: ClassVar[str] = "msd"

    def accepted(self, prior: TextPrior) -> TextPrior:
        return text_prior(prior, RunOptions())

    def __call__(
        self,
        prompt: Any,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | int | None = None,
        negative_prompt: Any = None,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        **options: Any,
    ) -> ImagePipelineOutput | tuple[Any, ...]:
        """Generate images.

        Args:
            prompt: what they show, or a list.
            height, width: the model's own, which can be left out.
            num_inference_steps: number of gradients; the method's own by default.
            guidance_scale: classifier-free guidance scale; none up to 1, as in diffusers. The method's by default.
            negative_prompt: what they should not show, or a list.
            num_images_per_prompt: images of a prompt, which methods that couple particles couple.
            generator: for reproducible images, or a list with one per prompt.
            output_type: "pil", "np", "pt", or "latent" with `image="latents"`.
            return_dict: return a tuple if False.
            callback_on_step_end: called as (pipe, index, t, tensors) after every step, with t in [0, 1]; it may return
                {"latents": ...} where latents are optimized.
            callback_on_step_end_tensor_inputs: names of the tensors it takes: "images", and "latents" where they are
                optimized, which are the default there.
            **options: further ones of `scoredistill.tasks.text_to_image`: image (what is optimized: "mlp", "latents" or
                "pixels"), lr, through, follow.

        Returns:
            The images, those of one prompt after the other.

        Raises:
            ValueError: for impossible arguments, before any work.
            FloatingPointError: if images or gradients are not finite.
        """
        settings = self._settings(options, KNOWN)
        check_type(output_type)
        latents = settings.get("image") == "latents" or self.method == "ddim"
        if output_type == "latent" and not latents:
            raise ValueError("output_type 'latent' needs optimized latents: add image='latents'")
        self._check_size(height, width)
        prompts = texts(prompt, "prompt")
        negatives = texts(negative_prompt or "", "negative prompt", len(prompts), blank=True)
        if guidance_scale is not None:
            settings["guidance"] = max(1.0, float(guidance_scale))
        callback = self._callback(
            callback_on_step_end,
            callback_on_step_end_tensor_inputs or (("latents",) if latents else ("images",)),
            _latents if latents else _images,
        )
        results = [
            text_to_image(
                text, self.prior, self.method, steps=num_inference_steps, particles=num_images_per_prompt,
                negative_prompt=negative, seed=seed, progress=self._progress, callback=callback, **settings,
            )
            for text, negative, seed in zip(prompts, negatives, seeds_from(generator, len(prompts)), strict=True)
        ]  # fmt: skip
        if output_type == "latent":
            images: Any = torch.cat([result.samples for result in results if result.samples is not None])
        else:
            images = converted([image for result in results for image in result.images], output_type)
        output = ImagePipelineOutput(results, images)
        return output if return_dict else output.to_tuple()

    def _check_size(self, height: int | None, width: int | None) -> None:
        """Refuse another size than the model's own.

        Raises:
            ValueError: naming the model's own.
        """
        own = self.prior.image_size
        if (height or own[0], width or own[1]) != own:
            raise ValueError(f"{self.prior.name} makes images of {own[1]}x{own[0]} pixels: leave out height and width")


def _latents(step: Step) -> dict[str, Any]:
    return {"latents": lambda: step.generator(step.views).detach(), "images": step.images}


def _images(step: Step) -> dict[str, Any]:
    return {"images": step.images}


class MSDPipeline(TextToImagePipeline):
    """Images by mean-shift distillation."""

    usual = "msd"


class SDSPipeline(TextToImagePipeline):
    """Images by score distillation sampling."""

    usual = "sds"


class SDIPipeline(TextToImagePipeline):
    """Images by score distillation via inversion."""

    usual = "sdi"


class VSDPipeline(TextToImagePipeline):
    """Images by variational score distillation."""

    usual = "vsd"


class CSDPipeline(TextToImagePipeline):
    """Images by collaborative score distillation."""

    usual = "csd"
