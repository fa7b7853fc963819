"""The loop of a modular pipeline at any sample and time, with its guider.

The blocks before the loop run once for each list of prompts. A prediction then sets the sample and the time, runs the
blocks of the loop, and ends where they step the scheduler: what the scheduler is given is the guided model output, with
all that the pipeline's blocks do to it.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from scoredistill.priors.pipelines.modular import loops_of
from scoredistill.priors.pipelines.placements import Unsupported
from scoredistill.priors.pipelines.recorder import Recorder, Stopped, model_output_of
from scoredistill.priors.pipelines.stand_ins import changed, guiders


class GuidedLoop:
    """The loop of a modular pipeline, with a guider.

    Args:
        recorder: of the pipeline.
        guider: in place of the pipeline's own guiders; None for these.

    Raises:
        Unsupported: if the pipeline has no loop of blocks.
    """

    def __init__(self, recorder: Recorder, guider: Any = None):
        self.recorder, self.pipeline = recorder, recorder.pipeline
        if not loops_of(self.pipeline):
            raise Unsupported(f"{type(self.pipeline).__name__} has no loop of blocks: guide it with Guided")
        self.guiders = {
            name: copy.copy(getattr(self.pipeline, name)) if guider is None else guider
            for name in guiders(self.pipeline)
        }
        self._begun: tuple[Any, Any, Any] = None, None, None

    @torch.no_grad()
    def output(self, call: Mapping[str, Any], latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        """The guided model output, as the scheduler is given it.

        Args:
            call: arguments of the pipeline, with all prompts; equal ones must be the same object.
            latents: samples of the scheduler, in any shape of as many elements.
            timestep: of the scheduler, [1].
            step: number of the step, which decides whether a guider acts.
        """
        loop, state = self._before_loop(call)
        state = copy.copy(state)
        state.latents = latents.reshape(state.latents.shape).to(state.latents)
        given: list[Tensor] = []

        def end(original: Any, *args: Any, **kwargs: Any) -> Any:
            given.append(model_output_of(original, args, kwargs))
            raise Stopped

        with self._patched(end):
            try:
                loop.loop_step(self.pipeline, state, i=step, t=timestep[0])
            except Stopped:
                return given[0]
        raise Unsupported(f"{type(loop).__name__} does not step its scheduler")

    def _before_loop(self, call: Mapping[str, Any]) -> tuple[Any, Any]:
        """The loop, and its state when it begins."""
        if self._begun[0] is not call:
            begun: list[tuple[Any, Any]] = []

            def begin(loop: Any) -> Any:
                def loop_step(components: Any, state: Any, **_: Any) -> Any:
                    begun.append((loop, state))
                    raise Stopped

                return loop_step

            with self._patched(lambda original, *args, **kwargs: None) as stack:
                for loop in loops_of(self.pipeline):
                    stack.enter_context(changed(loop, "loop_step", begin(loop)))
                try:
                    self.pipeline(**{name: value for name, value in call.items() if name in self.recorder.names})
                except Stopped:
                    self._begun = call, *begun[0]
                else:
                    raise Unsupported(f"{type(self.pipeline).__name__} does not run a loop of blocks")
        return self._begun[1:]

    def _patched(self, step: Any) -> ExitStack:
        """The pipeline with a scheduler that takes any sample, and with the guiders."""
        with ExitStack() as stack:
            stack.enter_context(self.recorder.patched(_evaluated, step, unscaled=True, guided=True))
            for name, guider in self.guiders.items():
                stack.enter_context(changed(self.pipeline, name, guider))
            return stack.pop_all()


def _evaluated(number: int, original: Any, *args: Any, **kwargs: Any) -> Any:
    """A network as it is."""
    return original(*args, **kwargs)


def negatives(names: Collection[str], prompts: Sequence[str] | None) -> dict[str, Any]:
    """Arguments for negative prompts, one per sample; none for those of the pipeline.

    Raises:
        ValueError: if the pipeline takes none.
    """
    if prompts is None:
        return {}
    if "negative_prompt" not in names:
        raise ValueError("the pipeline takes no negative prompt: leave out uncond")
    return {"negative_prompt": prompts[0] if len(prompts) == 1 else list(prompts)}
