"""How requests for recordings become arguments of a pipeline: prompts, class labels, source images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scoredistill.priors.pipelines.argument_trees import leaves
from scoredistill.priors.pipelines.modular import arguments_of

SWITCHES = {
    "pag_scale": 0.0,
    "stg_scale": 0.0,
    "strength": 1.0,
    "enable_prompt_rewrite": False,
    "use_pe": False,
    "decode_chunk_size": 2**20,
}
"""Arguments that switch off what is not the prediction of the network for a prompt, or cut runs short."""
PER_PROMPT = ("lyrics",)
"""Arguments that belong to each prompt."""
GUIDANCE_OFF: tuple[Mapping[str, float], ...] = (
    {},
    {"guidance_scale": 1.0},
    {"guidance_scale": 0.0},
    {"true_cfg_scale": 1.0},
)
"""Arguments with which a pipeline may evaluate the conditional prediction alone, tried in this order."""
PROMPT, CLASS = "a photograph of a cat", "0"
"""The prompt, or the class, from which a pipeline is learned."""


@dataclass(frozen=True)
class Request:
    """What a recording is made of.

    Attributes:
        prompt: the text, or the name or number of a class.
        negative: whether it is of the pipeline's unconditional evaluation beside that prompt.
        source: number of the source image; None for none.
    """

    prompt: str
    negative: bool = False
    source: int | None = None


class Calls:
    """Makes the arguments of a pipeline for requests.

    Args:
        pipeline: the pipeline.
        call: arguments that all runs have.

    Attributes:
        names: of the arguments that the pipeline takes.
        fixed: arguments that all runs have, with `off`.
        off: those that guidance is switched off by.
        sources: source images, [1, 3, h, w] in [0, 1], by number.
        needed: whether the pipeline needs a source image.
        shared: whether it takes one source image for all prompts of a run.
        image: converts a source image to what the pipeline takes.
    """

    def __init__(self, pipeline: Any, call: Mapping[str, Any]):
        self.pipeline = pipeline
        self.names = arguments_of(pipeline)
        self.fixed = {name: value for name, value in {**SWITCHES, **call}.items() if name in self.names}
        self.sources: list[Tensor] = []
        self.off: Mapping[str, float] = {}
        self.needed = self.shared = False
        self.image: Callable[[Tensor], Any] = _as_is

    @property
    def trial(self) -> Request:
        """The request that is learned from, alone and twice in a run, so that the lengths of texts are equal."""
        return Request(CLASS if self.classes else PROMPT, source=0 if self.needed else None)

    @property
    def classes(self) -> bool:
        """Whether the pipeline takes class labels for prompts."""
        return "class_labels" in self.names and "prompt" not in self.names

    @property
    def empty(self) -> str:
        """The prompt of no text; for models of classes there is none, and it is the first class."""
        return CLASS if self.classes else ""

    def of(self, *requests: Request) -> dict[str, Any]:
        """The arguments for one run with a sample per request."""
        prompts = [request.prompt for request in requests]
        if self.classes:
            call: dict[str, Any] = {**self.fixed, "class_labels": [self._label(prompt) for prompt in prompts]}
        elif "prompt" in self.names:
            call = {**self.fixed, "prompt": prompts[0] if len(prompts) == 1 else prompts}
            for name in self.names.intersection(PER_PROMPT):
                call[name] = [call.get(name, "")] * len(prompts)
        elif "batch_size" in self.names:
            call = {**self.fixed, "batch_size": len(requests)}
        else:
            call = dict(self.fixed)
        numbers = [request.source for request in requests][: 1 if self.shared else None]
        if numbers[0] is not None:
            images = [self.sources[number or 0] for number in numbers]
            alone = len(images) == 1 or self.image is _as_is
            call["image"] = self.image(torch.cat(images)) if alone else [self.image(image) for image in images]
        return call

    def negative(self) -> dict[str, Any]:
        """Further arguments that ask for an unconditional evaluation."""
        asked = {"negative_prompt": "", "true_cfg_scale": 4.0}
        return {name: value for name, value in asked.items() if name in self.names}

    def _label(self, prompt: str) -> int:
        if prompt.isdigit():
            return int(prompt)
        labels = getattr(self.pipeline, "labels", None) or {}
        if prompt not in labels:
            raise ValueError(f"there is no class {prompt!r}: give the name or the number of a class of the model")
        return labels[prompt]

    def settle(self, elements: Callable[[Mapping[str, Any]], tuple[int, int]], stand_in: Tensor) -> None:
        """Find whether a source image is needed, in which form, and what switches guidance off.

        Args:
            elements: runs the pipeline; (number of elements, number) of the network's outputs.
            stand_in: a source image for pipelines that need one.

        Raises:
            Exception: that of the pipeline, if it does not run.
        """
        try:
            self._switch_guidance_off(elements)
        except Exception:
            if "image" not in self.names:
                raise
            self.needed = True  # an editor, for which a gray image stands in
            self.sources.append(stand_in)
            self.choose_form(lambda: self._switch_guidance_off(elements))

    def choose_form(self, run: Callable[[], Any]) -> None:
        """Take the form of source images with which something runs: a tensor, or else a PIL image.

        Raises:
            Exception: that of the pipeline, if it runs with neither.
        """
        try:
            run()
        except Exception:  # of any kind: it is the pipeline that runs
            self.image = _as_pil
            run()

    def _switch_guidance_off(self, elements: Callable[[Mapping[str, Any]], tuple[int, int]]) -> None:
        """Keep the arguments with which the pipeline evaluates the fewest rows: those of the conditional prediction."""
        costs: list[tuple[int, int, int, Mapping[str, float]]] = []
        failure = None
        for off in GUIDANCE_OFF:
            if set(off) <= self.names:
                try:
                    costs.append((*elements({**self.of(self.trial), **off}), len(costs), off))
                except Exception as error:  # of any kind: it is the pipeline that runs
                    failure = failure or error
        if failure is not None and not costs:
            raise failure
        self.off = min(costs, key=lambda each: each[:3])[3]
        self.fixed |= self.off


def elements(tree: Any) -> int:
    """Number of elements of all tensors."""
    return sum(leaf.numel() for leaf in leaves(tree).values() if isinstance(leaf, Tensor))


def _as_is(images: Tensor) -> Tensor:
    return images


def _as_pil(images: Tensor) -> Any:
    return Image.fromarray((255 * images[0]).round().byte().permute(1, 2, 0).cpu().numpy())
