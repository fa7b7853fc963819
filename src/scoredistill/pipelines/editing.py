"""Edits of images, panoramas and videos with the interface of diffusers' InstructPix2Pix pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from scoredistill.pipelines.base import TaskPipeline, images_of, seeds_from, texts
from scoredistill.pipelines.output import ImagePipelineOutput, VideoPipelineOutput, check_sizes, check_type, converted
from scoredistill.priors.base import TextPrior
from scoredistill.tasks.image_editing.edit_image import edit_image
from scoredistill.tasks.image_editing.request import CanvasOptions, EditOptions
from scoredistill.tasks.image_editing.run import canvas_of
from scoredistill.tasks.session import editor
from scoredistill.tasks.video_editing.edit_video import edit_video
from scoredistill.tasks.video_editing.request import VideoOptions

OWN = ("sweeps", "text_scale", "image_scale", "negative_prompt", "seed")  # options with other names here
KNOWN = tuple(f.name for kind in (EditOptions, CanvasOptions) for f in fields(kind) if f.name not in OWN)
KNOWN_OF_VIDEOS = (*KNOWN, *(field.name for field in fields(VideoOptions)))


class EditPipeline(TaskPipeline):
    """Abstract base of pipelines that edit by instruction."""

    usual: ClassVar[str] = "csd"

    def accepted(self, prior: TextPrior) -> TextPrior:
        return editor(prior)

    def _scales(self, steps: int | None, text: float | int | None, image: float | int | None) -> dict[str, Any]:
        """Number of sweeps and guidance scales, as options of the task."""
        given = {"text_scale": text, "image_scale": image}
        return {"sweeps": steps, **{name: None if value is None else float(value) for name, value in given.items()}}


class CSDEditPipeline(EditPipeline):
    """Edits of images and panoramas of any size by collaborative score distillation, or by the method that is given."""

    def __call__(
        self,
        prompt: Any,
        image: Any = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | int | None = None,
        image_guidance_scale: float | int | None = None,
        negative_prompt: Any = None,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        **options: Any,
    ) -> ImagePipelineOutput | tuple[Any, ...]:
        """Edit images.

        Args:
            prompt: what to change, or a list with one instruction per image.
            image: a PIL image, a path, an array [h, w, 3], a tensor [3, h, w], or several of them. One image with
                several prompts is edited by each.
            num_inference_steps: passes over the whole image; the method's own by default.
            guidance_scale: guidance by the instruction; the model's by default.
            image_guidance_scale: guidance by the source; the model's by default.
            negative_prompt: what the edit should not be, or a list.
            num_images_per_prompt: edits of each image, with different seeds.
            generator: for reproducible edits, or a list with one per edit.
            output_type: "pil", "np", "pt", or "latent" for the canvas of the edit at its working size.
            return_dict: return a tuple if False.
            callback_on_step_end: called as (pipe, index, t, tensors) after every step, with t in [0, 1]; it may return
                {"latents": ...}, the whole canvas.
            callback_on_step_end_tensor_inputs: names of the tensors it takes: "latents".
            **options: further ones of `scoredistill.tasks.edit_image`: size, wrap (a 360-degree panorama), regions,
                detail, stride, scales and others.

        Returns:
            The edits, in the sizes of their images.

        Raises:
            ValueError: for impossible arguments, before any work.
            FloatingPointError: if an edit is not finite.
        """
        settings = self._settings(options, KNOWN)
        check_type(output_type)
        if image is None:
            raise ValueError("there is no image to edit: give image=")
        blank = bool(settings.get("regions"))
        sources, prompts = images_of(image), texts(prompt, "prompt", blank=blank)
        check_sizes(sources, output_type)
        if num_images_per_prompt < 1:
            raise ValueError(f"num_images_per_prompt must be at least 1, not {num_images_per_prompt}")
        if len(sources) == 1:
            sources *= len(prompts)
        prompts = texts(prompts, "prompt", len(sources), blank)
        negatives = texts(negative_prompt or "", "negative prompt", len(sources), blank=True)
        todo = [each for each in zip(sources, prompts, negatives, strict=True) for _ in range(num_images_per_prompt)]
        settings |= self._scales(num_inference_steps, guidance_scale, image_guidance_scale)
        callback = self._callback(
            callback_on_step_end, callback_on_step_end_tensor_inputs, lambda step: {"latents": lambda: canvas_of(step)}
        )
        results = [
            edit_image(
                source, text, self.prior, self.method, negative_prompt=negative, seed=seed, progress=self._progress,
                callback=callback, **settings,
            )
            for (source, text, negative), seed in zip(todo, seeds_from(generator, len(todo)), strict=True)
        ]  # fmt: skip
        if output_type == "latent":
            images: Any = torch.cat([result.latents for result in results])
        else:
            images = converted([result.image for result in results], output_type)
        output = ImagePipelineOutput(results, images)
        return output if return_dict else output.to_tuple()


class CSDEditVideoPipeline(EditPipeline):
    """Edits of videos of any length by collaborative score distillation, or by the method that is given."""

    def __call__(
        self,
        prompt: Any,
        video: Any = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | int | None = None,
        image_guidance_scale: float | int | None = None,
        negative_prompt: Any = None,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        **options: Any,
    ) -> VideoPipelineOutput | tuple[Any, ...]:
        """Edit a video.

        Args:
            prompt: what to change, or a list; each gives an edit of the video.
            video: a file, a directory of frames, PIL images, an array [f, h, w, 3], or a tensor [f, 3, h, w].
            num_inference_steps: passes over the whole video; the method's own by default.
            guidance_scale: guidance by the instruction; the model's by default.
            image_guidance_scale: guidance by the source; the model's by default.
            negative_prompt: what the edit should not be, or a list.
            generator: for a reproducible edit, or a list with one per prompt.
            output_type: "pil", "np" or "pt".
            return_dict: return a tuple if False.
            callback_on_step_end, callback_on_step_end_tensor_inputs: not for videos, which are edited in groups.
            **options: further ones of `scoredistill.tasks.edit_video`: size, group, overlap, flow, regions and others.

        Returns:
            The frames, in the size of the video.

        Raises:
            ValueError: for impossible arguments, before any work.
            FloatingPointError: if the edit is not finite.
        """
        settings = self._settings(options, KNOWN_OF_VIDEOS)
        check_type(output_type, ("pil", "np", "pt"))
        if callback_on_step_end is not None or callback_on_step_end_tensor_inputs is not None:
            raise ValueError("a video is edited in groups of frames and has no callback: leave it out")
        if video is None:
            raise ValueError("there is no video to edit: give video=")
        path = isinstance(video, (str, Path))
        kinds = isinstance(video, (np.ndarray, Tensor, list, tuple))
        source = video if path or not kinds else images_of(video)
        prompts = texts(prompt, "prompt")
        negatives = texts(negative_prompt or "", "negative prompt", len(prompts), blank=True)
        settings |= self._scales(num_inference_steps, guidance_scale, image_guidance_scale)
        results = [
            edit_video(
                source, text, self.prior, self.method, negative_prompt=negative, seed=seed, progress=self._progress,
                **settings,
            )
            for text, negative, seed in zip(prompts, negatives, seeds_from(generator, len(prompts)), strict=True)
        ]  # fmt: skip
        videos = [converted(result.frames, output_type) for result in results]
        if output_type == "np":
            frames: Any = np.stack(videos)
        else:
            frames = torch.stack(videos) if output_type == "pt" else videos
        output = VideoPipelineOutput(results, frames)
        return output if return_dict else output.to_tuple()
