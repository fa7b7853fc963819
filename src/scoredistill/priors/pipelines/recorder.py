"""Runs of a pipeline with stand-ins for its network and its scheduler, which record what these are given."""

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scoredistill.priors.pipelines.argument_trees import leaves, replaced
from scoredistill.priors.pipelines.controlled import CONTROL, linked
from scoredistill.priors.pipelines.modular import arguments_of, is_modular, loops_of
from scoredistill.priors.pipelines.placements import Unsupported
from scoredistill.priors.pipelines.stand_ins import changed, guiders, tolerant, without_guidance, without_noise

NETWORKS = ("transformer", "unet", "prior", "dit", "decoder")
"""Names that pipelines give their network."""
LOGGERS = ("diffusers.modular_pipelines.modular_pipeline", "diffusers.guiders.guider_utils")
"""Loggers of errors within the blocks of modular pipelines."""


class Stopped(BaseException):
    """Ends a recorded run; no error, so that the blocks of modular pipelines do not report it."""


@dataclass
class Step:
    """One step of a recorded run: the calls of the network, and what the scheduler was given.

    Attributes:
        networks: of each call, the number of the network that was called.
        arguments: of each call, by name.
        outputs: of each call.
        model_output, timestep, sample: arguments of the scheduler.
    """

    networks: list[int] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    model_output: Tensor | None = None
    timestep: Any = None
    sample: Tensor | None = None


Answer = Callable[[int, Any], Any]  # (step, output of the first call) -> output
Follow = Callable[[int, Tensor], Tensor]  # (step, sample) -> next sample


class Recorder:
    """Runs a pipeline and records the arguments of its network and its scheduler.

    The pipeline is as before after each run. Its autoencoder encodes as the mode of the posterior, so that recordings
    do not depend on random numbers, and guidance that is a component, a guider, is switched off.

    Args:
        pipeline: the diffusers pipeline.
        networks: its UNet or transformer, or several that divide the times among them.
        scheduler: the scheduler of recorded runs.

    Attributes:
        control: the pipeline's ControlNet, whose arguments are recorded with those of the network (see `controlled`).
        links: of the arguments of the network that are outputs of the ControlNet, the number of that output.
    """

    def __init__(self, pipeline: Any, networks: Sequence[nn.Module], scheduler: Any):
        self.pipeline, self.networks, self.scheduler = pipeline, networks, scheduler
        control = getattr(pipeline, "controlnet", None)
        self.control = control if isinstance(control, nn.Module) else None
        self.links: dict[str, int] = {}
        self._controlled: Any = None
        self.names = arguments_of(pipeline)

    @torch.no_grad()
    def run(
        self,
        call: Mapping[str, Any],
        steps: int = 1,
        answer: Answer | None = None,
        follow: Follow | None = None,
        only_call: bool = False,
        output: Any = None,
        guided: bool = False,
    ) -> list[Step]:
        """Run the pipeline for some steps.

        Args:
            call: arguments of the pipeline; those that it does not take are left out.
            steps: number of recorded steps, after which the run ends.
            answer: replaces the network from the second step on.
            follow: replaces the scheduler's step.
            only_call: end at the first call of the network, without evaluating it.
            output: an output of the network that stands in for it in all steps.
            guided: leave a guider of the pipeline on.

        Raises:
            Unsupported: if the pipeline does not step its scheduler so often, or more often than it has a network.
        """
        seen: list[Step] = [Step()]
        control: dict[str, Any] = {}

        def controlled(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            control.update(named_arguments(original, args, kwargs))
            evaluated = not only_call and output is None and (answer is None or len(seen) == 1)
            if evaluated or self._controlled is None:
                self._controlled = original(*args, **kwargs)
            return self._controlled

        def forward(number: int, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            arguments = named_arguments(original, args, kwargs)
            if control:
                self.links = linked(arguments, self._controlled)
                arguments = {name: value for name, value in arguments.items() if name not in self.links}
                arguments[CONTROL] = dict(control)
            seen[-1].arguments.append(kept(arguments))
            seen[-1].networks.append(number)
            if only_call:
                raise Stopped
            index = len(seen) - 1
            if output is not None:
                given = kept(output)
            elif answer is not None and index > 0:
                given = answer(index, seen[0].outputs[len(seen[-1].arguments) - 1])
            else:
                given = original(*args, **kwargs)
            seen[-1].outputs.append(kept(given))
            return given

        def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            given = inspect.signature(original).bind(*args, **kwargs).arguments
            last = seen[-1]
            if not last.arguments:
                raise Unsupported("the scheduler steps several samples per evaluation, such as a video and its sound")
            last.timestep, last.sample = kept(given["timestep"]), kept(given["sample"])
            last.model_output = model_output_of(original, args, kwargs)
            if len(seen) == steps:
                raise Stopped
            seen.append(Step())
            if follow is None:
                return original(*args, **kwargs)
            after = follow(len(seen) - 1, given["sample"])
            return _step_output(after, kwargs.get("return_dict", True))

        if "generator" in self.names:
            call = {"generator": torch.Generator().manual_seed(0), **call}
        with self.patched(forward, step, follow is not None, guided), self._with_control(controlled):
            try:
                self.pipeline(**{name: value for name, value in call.items() if name in self.names})
            except Stopped:
                return seen
        raise Unsupported(f"{type(self.pipeline).__name__} ends without {steps} steps of its scheduler")

    @torch.no_grad()
    def decoded(self, call: Mapping[str, Any], output: Any, sample: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Run the pipeline to its end, as if `sample` were its result, up to the decoder of its autoencoder.

        Args:
            call: arguments of the pipeline.
            output: an output of the network, which stands in for it.
            sample: the last sample.

        Returns:
            What the decoder is given, and its further arguments.
        """
        vae, given = self.pipeline.vae, []
        decode = vae.decode

        def capture(z: Tensor, *args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(decode).bind(z, *args, **kwargs).arguments
            given.append((kept(z), {name: kept(value) for name, value in list(bound.items())[1:]}))
            raise Stopped

        vae.decode = capture
        try:
            self.run(call, sys.maxsize, follow=lambda step, before: like(sample, before), output=output)
        except Unsupported:
            pass
        finally:
            del vae.__dict__["decode"]
        if not given:
            raise Unsupported(f"{type(self.pipeline).__name__} does not decode its result with its vae")
        return given[0]

    @contextmanager
    def _with_control(self, forward: Callable[..., Any]) -> Iterator[None]:
        """The pipeline with a stand-in for its ControlNet, if it has one, within a block."""
        if self.control is None:
            yield
            return
        stand_in = functools.partial(forward, self.control.forward)
        with changed(self.control, "forward", functools.update_wrapper(stand_in, self.control.forward)):
            yield

    @contextmanager
    def patched(
        self, forward: Callable[..., Any], step: Callable[..., Any], unscaled: bool, guided: bool
    ) -> Iterator[None]:
        """The pipeline with the scheduler of recorded runs and stand-ins, within a block.

        Args:
            forward: of the networks: called with the network's number, what it stands for, and its arguments.
            step: of the scheduler: called with what it stands for and its arguments.
            unscaled: whether the network is given samples as they are, where the scheduler would scale them.
            guided: leave guiders of the pipeline on.
        """
        pipeline, scheduler = self.pipeline, self.scheduler
        with ExitStack() as stack:

            def set_(owner: Any, name: str, value: Any) -> None:
                stack.enter_context(changed(owner, name, value))

            for part in [pipeline, *loops_of(pipeline)]:
                set_(part, "_progress_bar_config", {"disable": True})
            for name in LOGGERS if is_modular(pipeline) else ():
                set_(logging.getLogger(name), "disabled", True)  # they report what a trial run is meant to find out
            set_(pipeline, "scheduler", scheduler)
            for number, network in enumerate(self.networks):
                stand_in = functools.partial(forward, number, network.forward)
                set_(network, "forward", functools.update_wrapper(stand_in, network.forward))  # blocks read its names
            set_(scheduler, "step", functools.partial(step, scheduler.step))
            set_(scheduler, "set_timesteps", tolerant(scheduler.set_timesteps))
            if unscaled and hasattr(scheduler, "scale_model_input"):
                set_(scheduler, "scale_model_input", lambda sample, *args, **kwargs: sample)
            if hasattr(getattr(pipeline, "vae", None), "encode"):
                set_(pipeline.vae, "encode", without_noise(pipeline.vae.encode))
            for name in () if guided else guiders(pipeline):
                set_(pipeline, name, without_guidance(getattr(pipeline, name)))
            yield


def named_arguments(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call, by name."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    arguments = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(name, {}))
    return arguments


def model_output_of(step: Callable[..., Any], args: Any, kwargs: Any) -> Tensor:
    """The model output that a scheduler's step is given."""
    given = inspect.signature(step).bind(*args, **kwargs).arguments
    output = kept(given["model_output"])
    # for times per token diffusers' flows take the negative velocity
    return output if given.get("per_token_timesteps") is None else -output


def networks_of(pipeline: Any) -> list[nn.Module]:
    """The network that a pipeline calls in its loop, or both that divide the times among them.

    Raises:
        Unsupported: if there is none under the usual names.
    """
    found = [name for name in NETWORKS if isinstance(getattr(pipeline, name, None), nn.Module)]
    if not found:
        raise Unsupported(
            f"{type(pipeline).__name__} has no network named {', '.join(NETWORKS[:-1])} or {NETWORKS[-1]}"
        )
    both = (getattr(pipeline, name, None) for name in (found[0], f"{found[0]}_2"))
    return [network for network in both if isinstance(network, nn.Module)]


def kept(tree: Any) -> Any:
    """Copies of all tensors of a tree, which pipelines may change in place later."""
    return replaced(tree, {p: leaf.detach().clone() for p, leaf in leaves(tree).items() if isinstance(leaf, Tensor)})


def like(values: Tensor, tensor: Tensor) -> Tensor:
    """Flat values in the shape, dtype and device of a tensor."""
    return values.reshape(tensor.shape).to(tensor)


def _step_output(sample: Tensor, return_dict: bool) -> Any:
    """A sample as a scheduler returns it."""
    if not return_dict:
        return sample, sample
    from diffusers.schedulers.scheduling_utils import SchedulerOutput  # takes seconds to import

    return SchedulerOutput(prev_sample=sample)
