"""Distillation as a block of Modular Diffusers, in the place of a pipeline's denoising loop.

    from diffusers import ModularPipeline
    from scoredistill.pipelines.blocks import distilled

    pipe = ModularPipeline.from_pretrained("OWNER/MODEL")
    pipe.load_components()
    mine = distilled(pipe.blocks, "sds").init_pipeline()
    mine.update_components(**pipe.components)
    image = mine(prompt="a hamburger", distillation_steps=200, output="images")[0]

All other blocks stay: text encoders, sizes, latents from a generator, decoders. The prior is recorded from the
pipeline's own blocks, and guided by its guider.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
from torch import Tensor

from scoredistill.generators import Latents
from scoredistill.loop import distill
from scoredistill.media.images import resized, to_tensor
from scoredistill.pipelines.base import images_of, seed_from, texts
from scoredistill.priors import Guided, GuidedBy, Prior
from scoredistill.priors.pipelines.recorded import RecordedPrior, recorded
from scoredistill.priors.pipelines.stand_ins import guiders
from scoredistill.recipe import MethodSource, check_method, named, recipe_of
from scoredistill.tasks.image_generation.recipes import RECIPES, own

RECORDED = ("height", "width", "num_frames", "guidance_scale")  # the last is told to the network
INPUTS = {
    "prompt": "The text, or a list.",
    "negative_prompt": "What not to make, or a list.",
    "image": "The image that is optimized, and that an instruction is about.",
    "num_images_per_prompt": "Number of samples of a prompt, which methods that couple particles couple.",
    "generator": "Draws the seed of the noise.",
    "num_inference_steps": "Steps of the sampler, of which the guider's interval is a fraction.",
    "height": "Height in pixels.",
    "width": "Width in pixels.",
    "num_frames": "Number of frames.",
    "guidance_scale": "What the network is told, as in the pipeline.",
    "distillation_steps": "Number of gradients; by default that of the method.",
}


def distilled(blocks: Any, method: MethodSource = "sds", lr: float | None = None, guidance: float | None = None) -> Any:
    """Blocks of Modular Diffusers whose denoising loops are replaced by distillation.

    Args:
        blocks: the blocks of a pipeline; they stay as they are.
        method: name of a method of `text_to_image`, or one of your own (see `scoredistill.recipe`).
        lr: learning rate of Adam on latents; 0 for plain steps of length 1. By default that of the method.
        guidance: scale of classifier-free guidance in place of the pipeline's guider, at least 0.

    Returns:
        A copy of the blocks, which takes `distillation_steps` too.

    Raises:
        ValueError: if there is no such method, or no loop in the blocks.
    """
    if not isinstance(blocks, ModularPipelineBlocks):
        raise ValueError(f"blocks must be those of a modular pipeline, pipe.blocks, not {type(blocks).__name__}")
    before, made = copy.deepcopy(blocks), copy.deepcopy(blocks)
    waiting, count = [made], 0
    while waiting:
        each = waiting.pop()
        for name, block in each.sub_blocks.items():
            if hasattr(block, "loop_step"):
                each.sub_blocks[name] = DistillStep(before, block, method, lr, guidance)
                count += 1
            else:
                waiting.append(block)
    if not count:
        raise ValueError(f"{type(blocks).__name__} have no denoising loop: give the blocks of a whole pipeline")
    return made


class DistillStep(ModularPipelineBlocks):
    """Block that optimizes latents by score distillation, in the place of a denoising loop.

    Args:
        blocks: those of the pipeline with its denoising loop, from which the prior is recorded.
        loop: the loop that this block stands for.
        method, lr, guidance: see `distilled`.

    Raises:
        ValueError: if there is no such method.
    """

    def __init__(
        self,
        blocks: Any,
        loop: Any,
        method: MethodSource = "sds",
        lr: float | None = None,
        guidance: float | None = None,
    ):
        super().__init__()
        check_method(named(method), RECIPES)
        for name, value in {"lr": lr, "guidance": guidance}.items():
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        self.blocks, self.loop, self.method, self.lr, self.guidance = blocks, loop, method, lr, guidance
        self.model_name = loop.model_name
        self._known = _Known()

    @property
    def description(self) -> str:
        """What the block does."""
        return f"Optimizes the latents by score distillation with the method {named(self.method)}."

    @property
    def expected_components(self) -> list[Any]:
        """Those of the loop."""
        return self.loop.expected_components

    @property
    def inputs(self) -> list[Any]:
        """The latents, and those of `INPUTS` that the pipeline has, with the number of steps."""
        has = {each.name for each in self.blocks.inputs} | {"distillation_steps"}
        start = InputParam("latents", required=True, type_hint=Tensor, description="The start.")
        return [start, *(InputParam(name, description=says) for name, says in INPUTS.items() if name in has)]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """The latents."""
        return [OutputParam("latents", type_hint=Tensor, description="The distilled latents.")]

    def set_progress_bar_config(self, **options: Any) -> None:
        """Options of the progress bar, as for the loop."""
        self.loop.set_progress_bar_config(**options)

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Distill.

        Raises:
            ValueError: for impossible inputs, or if the pipeline cannot be recorded.
            FloatingPointError: if gradients are not finite.
        """
        given = self.get_block_state(state)
        inputs: Mapping[str, Any] = vars(given)
        call = {name: inputs[name] for name in RECORDED if isinstance(inputs.get(name), (int, float))}
        prior = self._known.of(components, self.blocks, call)
        shape = prior._at(torch.Size(prior.latent_shape))
        count = given.latents.numel() // shape.template.shape.numel()
        if given.latents.numel() != count * shape.template.shape.numel():
            raise ValueError(f"latents have the shape {list(given.latents.shape)}, which is not that of the pipeline")
        prompts = texts(inputs.get("prompt"), "prompt")
        each = [prompt for prompt in prompts for _ in range(count // len(prompts))]
        x = shape.arranged(given.latents / float(getattr(components.scheduler, "init_noise_sigma", 1.0)), count)
        cond = prior.encode_text(each)
        if inputs.get("image") is not None:
            images = _images(inputs["image"], prior.image_size, count).to(prior.device)
            x = prior.encode_image(images).float()
            cond = {**cond, **prior.encode_source(images)} if prior.needs_source else cond  # type: ignore[attr-defined]
        result = self._distill(prior, x, cond, inputs, len(prompts))
        given.latents = shape.scheduled(result).reshape(given.latents.shape).to(given.latents)
        self.set_block_state(state, given)
        return components, state

    def _distill(self, prior: RecordedPrior, x: Tensor, cond: Any, inputs: Mapping[str, Any], prompts: int) -> Tensor:
        """The distilled samples."""
        recipe = recipe_of(named(self.method), RECIPES, own)
        steps = inputs.get("distillation_steps") or recipe.steps["latents"]
        guided, scale = self._guided(prior, inputs, len(x), prompts, recipe.guidance)
        generator = inputs.get("generator")
        seed = seed_from(generator[0] if isinstance(generator, Sequence) else generator)
        latents = Latents.of(x)
        lr = recipe.lr["latents"] if self.lr is None else self.lr
        kind: Any = torch.optim.Adam if lr else torch.optim.SGD
        group = torch.arange(len(x), device=x.device) // max(1, len(x) // prompts)
        with torch.enable_grad(), self.loop.progress_bar(total=steps) as bar:
            run = distill(
                latents, guided, recipe.estimator(scale), cond, steps=steps, times=recipe.times(prior.schedule, seed),
                optimizer=kind(latents.parameters(), lr=lr or 1.0), groups=lambda views: group[views.to(group.device)],
                rng=torch.Generator().manual_seed(seed),
            )  # fmt: skip
            for _ in run:
                bar.update()
        return latents.values.detach()

    def _guided(
        self, prior: RecordedPrior, inputs: Mapping[str, Any], count: int, prompts: int, usual: float
    ) -> tuple[Prior, float]:
        """The prior with the guidance that was asked for, and the scale of methods that guide by themselves."""
        uncond = None
        if inputs.get("negative_prompt"):
            several = texts(inputs["negative_prompt"], "negative prompt", prompts, blank=True)
            uncond = prior.encode_text([text for text in several for _ in range(count // prompts)])
        if self.guidance is not None:
            return Guided(prior, self.guidance, uncond=uncond), self.guidance
        if not guiders(prior.pipeline):
            return prior, 1.0
        return GuidedBy(prior, steps=inputs.get("num_inference_steps") or 50, uncond=uncond), usual


class _Known:
    """The recorded prior of the components that were used last; copies of blocks begin without it."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.prior: RecordedPrior | None = None

    def __deepcopy__(self, memo: object) -> "_Known":
        return _Known()

    def of(self, components: Any, blocks: Any, call: Mapping[str, Any]) -> RecordedPrior:
        """The prior of a pipeline with other blocks, recorded if its components or the call are other than before.

        Raises:
            ValueError: if it cannot be recorded.
        """
        parts: list[Any] = [*components.components.values(), dict(call)]
        same = len(parts) == len(self.parts) and all(
            a is b or (isinstance(a, dict) and a == b) for a, b in zip(parts, self.parts, strict=True)
        )
        if self.prior is None or not same:
            pipeline = copy.copy(components)
            pipeline._blocks = blocks
            self.prior, self.parts = recorded(pipeline, call=call), parts
        return self.prior


def _images(image: Any, size: tuple[int, int], count: int) -> Tensor:
    """Images of any of diffusers' forms as [count, 3, h, w] in [0, 1]."""
    images = torch.cat([resized(to_tensor(each), size) for each in images_of(image)])
    if count % len(images):
        raise ValueError(f"there are {len(images)} images for {count} samples: give one, or one for each prompt")
    return images.repeat_interleave(count // len(images), 0)
