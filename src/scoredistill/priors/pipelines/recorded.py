r"""A prior made from any diffusers pipeline, by recording how the pipeline calls its network.

`recording` learns once, and again for samples of another shape or with a source image of another size, where the sample
and the time go in the network's arguments, and where the model output is in its output. All other arguments belong to
the condition: they are recorded by running the pipeline with a prompt up to its first call of the network, which is not
evaluated. So a prediction is one call of the network with all samples as rows, as in the pipeline, and no code belongs
to a single model.

Conditions are {"recording": int64 [b]}, numbers of recordings that the prior keeps, since arguments differ in number
and shape between models and prompts. They stay on the CPU. Rows whose arguments have different shapes, such as prompts
of different lengths, are evaluated apart.

On loading, the prior predicts a step of the pipeline that it has not seen, and refuses the pipeline if it is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Editor
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.priors.pipelines.argument_trees import Layout, join, leaves, replaced, split
from scoredistill.priors.pipelines.base import NetworkPrior
from scoredistill.priors.pipelines.codec import PixelCodec
from scoredistill.priors.pipelines.controlled import Controlled
from scoredistill.priors.pipelines.experts import Experts, boundary
from scoredistill.priors.pipelines.guided_loop import GuidedLoop, negatives
from scoredistill.priors.pipelines.modular import arguments_of, is_modular
from scoredistill.priors.pipelines.noise_levels import FlowLevels
from scoredistill.priors.pipelines.placements import Unsupported
from scoredistill.priors.pipelines.recorded_calls import Calls, Request, elements
from scoredistill.priors.pipelines.recorded_codec import RecordedCodec, arrangement
from scoredistill.priors.pipelines.recorded_schedule import Clock
from scoredistill.priors.pipelines.recorded_shapes import Shape, negative_of
from scoredistill.priors.pipelines.recorder import Recorder, Step, networks_of
from scoredistill.priors.pipelines.recording import learn
from scoredistill.priors.pipelines.stand_ins import guiders
from scoredistill.schedule import per_sample

STEPS = 4
"""Steps of the recorded runs, of which usually only the first is computed."""
SURVEY = 20
"""Steps of a run without evaluations, from which the time steps are learned."""
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest relative error of the prediction in the check on loading, by the type of the network."""


class RecordedPrior(NetworkPrior):
    """Prior of any pipeline that evaluates one network and its scheduler once a step.

    Args:
        pipeline: the diffusers pipeline.
        name: of the model.
        call: arguments of the pipeline that all recordings have, such as a size or a number of frames.

    Attributes:
        calls: makes arguments of the pipeline.
        clock: the noise levels, and the time steps that tell them.

    Raises:
        ValueError: if the pipeline is not understood; the message says what.
    """

    def __init__(self, pipeline: Any, name: str | None = None, call: Mapping[str, Any] | None = None):
        super().__init__(pipeline, name)
        networks = networks_of(pipeline)
        self.network = networks[0]
        self.clock = Clock(pipeline.scheduler)
        self.levels = self.clock.levels
        self.schedule = self.clock.schedule
        self.recorder = Recorder(pipeline, networks, self.clock.scheduler)
        fixed = {"num_inference_steps": STEPS, "output_type": "latent", "return_dict": False}
        self.calls = Calls(pipeline, {**fixed, **(call or {})})
        self._requests: list[Request] = []
        self._shapes: dict[Any, Shape] = {}
        self._guided: tuple[Any, dict[str, Any]] | None = None
        self.calls.settle(self._cost, torch.full((1, 3, *self._side()), 0.5))
        self.needs_source = self.calls.needed
        first = self._learn({}, self.calls.trial.source)
        self.codec = self._codec_of(first)
        self._remember(first, self.calls.trial.source)
        self.latent_shape = tuple(first.template.shape[1:])  # type: ignore[assignment]
        if len(networks) > 1:
            self.network = self._experts(networks, first)
        if self.recorder.links and self.recorder.control is not None:
            self.network = Controlled(self.network, self.recorder.control, self.recorder.links)
        self._check(first)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the model's own size.

        Raises:
            ValueError: for models of sound.
        """
        if len(self.latent_shape) < 3:
            raise ValueError(
                f"{self.name} makes sound, which has no image size: optimize samples of {self.latent_shape}"
            )
        return super().image_size

    # --- learning ---

    def _side(self) -> tuple[int, int]:
        """Sides of the stand-in for a source image, in pixels."""
        config: Any = self.network.config
        size = config.get("sample_size") or 64
        height, width = (size, size) if isinstance(size, int) else size[-2:]
        factor = getattr(self.pipeline, "vae_scale_factor", 8)
        fixed = self.calls.fixed
        return fixed.get("height") or height * factor, fixed.get("width") or width * factor

    def _cost(self, call: Mapping[str, Any]) -> tuple[int, int]:
        (step,) = self.recorder.run(call)
        return elements(step.outputs), len(step.outputs)

    def _learn(self, size: Mapping[str, Any], source: int | None) -> Shape:
        """Learn how the pipeline calls its network, for samples of one size and a source image."""
        request = replace(self.calls.trial, source=source)
        call = {**self.calls.of(request), **size}
        template, one, output = learn(self.recorder, call)
        shape = Shape(template, dict(size), call, *self._layouts(request, size, one, output, template), output)
        shape.shift = self._shift(shape)
        shape.add(request, one)
        return shape

    def _layouts(
        self, request: Request, size: Mapping[str, Any], one: Any, output: Any, template: Any
    ) -> tuple[Layout | None, Layout | None]:
        """The layouts of the arguments and the outputs of the network; None if it takes one sample at a time."""
        known = leaves(one)
        timed = {path: times.fill(known[path], torch.zeros(()), self.device) for path, times in template.times.items()}
        for shared in (False, True) if request.source is not None and not self.calls.shared else (False,):
            self.calls.shared |= shared
            try:
                (both,) = self.recorder.run({**self.calls.of(request, request), **size})
                layout, outputs = Layout(one, both.arguments[0]), Layout(output, both.outputs[0])
                rows = join([replaced(one, timed)] * 2, layout, frozenset(template.times))
                split(rows, layout, 2)
                return layout, outputs
            except Exception:  # of any kind: it is the pipeline that runs
                continue
        return None, None

    def _survey(self, shape: Shape) -> list[Step]:
        """The steps of a run without evaluations."""
        call = {**shape.call, "num_inference_steps": SURVEY}
        return self.recorder.run(call, SURVEY, follow=lambda index, sample: sample, output=shape.output)

    def _shift(self, shape: Shape) -> float:
        return self.clock.shift(self._survey(shape)) if isinstance(self.levels, FlowLevels) else 1.0

    def _experts(self, networks: list[Any], shape: Shape) -> Experts:
        plain = [path for path, times in shape.template.times.items() if (times.a, times.b) == (1.0, 0.0)]
        if not plain:
            raise Unsupported(f"{type(self.pipeline).__name__} has two networks, which are not told the time step")
        last = float(self.clock.told(torch.ones(1))[0])
        return Experts(networks, boundary(self.pipeline, self._survey(shape), last), plain[0])

    def _codec_of(self, shape: Shape) -> Any:
        """The codec, and, as a side effect, the template in the layout of its latents."""
        if getattr(self.pipeline, "vae", None) is None:
            return PixelCodec()
        return RecordedCodec(self.pipeline.vae, *self._arrange(shape))

    def _arrange(self, shape: Shape) -> tuple[Any, ...]:
        """Change a template to samples in the layout of the decoder; returns what the codec is made of."""
        template = shape.template
        sample = torch.zeros(template.shape, dtype=torch.float32, device=self.device)
        index, scale, shift, options, framewise = arrangement(self.recorder, shape.call, shape.output, sample)
        shape.template = template.arranged(index, scale.shape)
        return scale, shift, options, framewise

    def _remember(self, shape: Shape, source: int | None) -> None:
        self._shapes[self._key(shape.template.shape[1:], source)] = shape

    def _key(self, wanted: torch.Size, source: int | None) -> Any:
        """Samples of one shape, with source images of one size, are called alike."""
        return torch.Size(wanted), None if source is None else tuple(self.calls.sources[source].shape[2:])

    def _at(self, wanted: torch.Size, source: int | None = None) -> Shape:
        """What is known about samples of a shape, learned if necessary.

        Args:
            wanted: the shape of one sample.
            source: number of a source image; None for none, or for the one that stands in for it.

        Raises:
            ValueError: if the pipeline makes no samples of that shape.
        """
        if source is None and self.calls.needed:
            source = 0
        key = self._key(wanted, source)
        if key not in self._shapes and len(wanted) == len(self.latent_shape):
            own = torch.Size(wanted) == torch.Size(self.latent_shape)
            size = {} if own else {n: v for n, v in self._size(wanted).items() if n in self.calls.names}
            if size or source is not None:
                shape = self._learn(size, source)
                if not isinstance(self.codec, PixelCodec):
                    self._arrange(shape)
                self._remember(shape, source)
        if key not in self._shapes:
            raise ValueError(
                f"{self.name} makes no samples of shape {tuple(wanted)}: its own are {tuple(self.latent_shape)}"
            )
        return self._shapes[key]

    def _size(self, shape: torch.Size) -> dict[str, int]:
        """Arguments of the pipeline for samples of a shape."""
        size = {"height": shape[-2] * self.codec.factor, "width": shape[-1] * self.codec.factor}
        if len(shape) == 4:
            frames = (shape[1] - 1) * self.codec.frames + 1
            size |= {"num_frames": frames, "frames": frames, "video_length": frames}
        return size if len(shape) > 2 else {}

    def _check(self, shape: Shape) -> None:
        """Predict a step that nothing was learned from, and compare.

        Raises:
            Unsupported: if the prediction or the schedule is not that of the pipeline.
        """
        requests = [self.calls.trial] * (2 if shape.layout else 1)
        steps = self.recorder.run({**self.calls.of(*requests), **shape.size}, 3)
        t = [self.clock.level(step, index).expand(len(requests)) for index, step in enumerate(steps)]
        x = [
            self.clock.standard(shape.arranged(_given(step.sample), len(requests)), each)
            for step, each in zip(steps, t, strict=True)
        ]
        wanted = [shape.arranged(_given(step.model_output), len(requests)) for step in steps]
        with torch.no_grad():
            out = self._outputs(self.network, x[1], t[1], requests)
        error = float((out - wanted[1].to(out)).norm() / wanted[1].norm())
        if not error < TOLERANCE[self.dtype]:
            raise Unsupported(f"its prediction was reproduced with a relative error of {error:.2g} only")
        x0, eps = self.levels.understood(wanted[0].to(x[0]), x[0], t[0])
        alpha, sigma = (per_sample(each, x[0]) for each in self.schedule(t[1]))
        error = float((alpha * x0 + sigma * eps - x[1]).norm() / x[1].norm())
        if not error < max(1e-3, TOLERANCE[self.dtype]):
            raise Unsupported(f"a step of its scheduler was reproduced with a relative error of {error:.2g} only")

    # --- evaluating ---

    def guided_loop(self, guider: Any = None) -> GuidedLoop | None:
        """The loop of a modular pipeline with a guider, its own by default; None for pipelines without guiders."""
        guided = is_modular(self.pipeline) and bool(guiders(self.pipeline))
        return GuidedLoop(self.recorder, guider) if guided else None

    def predict_guided(
        self, loop: GuidedLoop, x_t: Tensor, t: Tensor, cond: Cond, uncond: Cond | None, step: int, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Predict (x0, eps) of rows of one time by a loop with a guider.

        Args:
            loop: of `guided_loop`.
            x_t, t, cond: as for `predict`.
            uncond: of negative prompts; None for those of the pipeline.
            step: number of the sampler's step, of `steps`.
        """
        requests = self._requested(cond, len(x_t))
        if any(request.negative for request in requests):
            raise ValueError("a guided prediction needs the condition of a prompt, not its unconditional counterpart")
        against = None if uncond is None else tuple(each.prompt for each in self._requested(uncond, len(x_t)))
        shape = self._at(x_t.shape[1:], requests[0].source)
        key = (tuple(requests), against, steps, id(shape))
        if self._guided is None or self._guided[0] != key:  # equal calls are the same object
            call = {**self.calls.of(*requests), **shape.size, "num_inference_steps": steps}
            self._guided = key, {**call, **negatives(self.calls.names, against)}
        told = self.clock.told(t[:1].to(self.device), shape.shift)
        out = loop.output(self._guided[1], shape.scheduled(self.levels.given(x_t, t)), told, step)
        return self.levels.understood(shape.arranged(out, len(x_t)).to(x_t), x_t, t)

    def predict(
        self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond | None = None
    ) -> tuple[Tensor, Tensor]:
        cond = self.encode_text([self.calls.empty]) if cond is None else cond
        out = self._outputs(network, x_t, t, self._requested(cond, len(x_t)))
        return self.levels.understood(out.to(x_t), x_t, t)

    def _outputs(self, network: Callable[..., Any], x: Tensor, t: Tensor, requests: Sequence[Request]) -> Tensor:
        """Model outputs of rows, [b, *d], with one call for all rows whose arguments have the same shapes."""
        groups: dict[Any, list[int]] = {}
        shapes, x = [self._at(x.shape[1:], request.source) for request in requests], self.levels.given(x, t)
        steps = [self.clock.told(t.to(self.device)[row : row + 1], shape.shift) for row, shape in enumerate(shapes)]
        for row, (shape, request) in enumerate(zip(shapes, requests, strict=True)):
            self._record(shape, request)
            side = self.network.side(steps[row]) if isinstance(self.network, Experts) else 0
            groups.setdefault((id(shape), side, shape.recordings[request].signature), []).append(row)
        parts = []
        for rows in groups.values():
            size = (self.max_rows or len(x)) if shapes[rows[0]].layout is not None else 1
            parts += [rows[start : start + size] for start in range(0, len(rows), size)]
        done = [self._call(network, shapes[rows[0]], x, steps, requests, rows) for rows in parts]
        order = [row for rows in parts for row in rows]
        out = done[0] if len(done) == 1 else torch.cat(done)
        return out if order == sorted(order) else out[torch.tensor(order).argsort().to(out.device)]

    def _call(
        self,
        network: Callable[..., Any],
        shape: Shape,
        x: Tensor,
        steps: Sequence[Tensor],
        requests: Sequence[Request],
        rows: Sequence[int],
    ) -> Tensor:
        template = shape.template
        trees = []
        for row in rows:
            arguments = shape.recordings[requests[row]].arguments
            known, flat = leaves(arguments), x[row].flatten()
            new = {path: place.fill(known[path], flat) for path, place in template.sample.items()}
            for path, times in template.times.items():
                new[path] = times.fill(known[path], steps[row], self.device)
            trees.append(replaced(arguments, new))
        if len(trees) == 1:
            outputs = [network(**trees[0])]
        else:
            assert shape.layout is not None
            assert shape.outputs is not None
            out = network(**join(trees, shape.layout, frozenset(template.times)))
            outputs = split(out, shape.outputs, len(rows))
        path, place = template.output
        constant = torch.zeros(template.shape, device=x.device)
        return torch.cat([place.fill(constant, leaves(out)[path].flatten()) for out in outputs])

    def _record(self, shape: Shape, request: Request) -> None:
        """Record the arguments of the network for a request, if that was not done before."""
        if request in shape.recordings:
            return
        call = {**self.calls.of(request), **shape.size}
        if not request.negative:
            (step,) = self.recorder.run(call, only_call=True)
            return shape.add(request, step.arguments[0])
        positive = replace(request, negative=False)
        self._record(shape, positive)
        shape.add(request, self._unconditional(shape, call, positive))

    def _unconditional(self, shape: Shape, call: Mapping[str, Any], request: Request) -> Any:
        """The arguments of the pipeline's unconditional evaluation beside a prompt; those of "" if it has none."""
        guided = {name: value for name, value in call.items() if name not in self.calls.off}
        (step,) = self.recorder.run(guided, guided=True)
        if elements(step.outputs) <= elements(shape.output):  # it guides only if asked to, or never
            (step,) = self.recorder.run(guided | self.calls.negative(), guided=True)
        found = negative_of(shape, step.arguments, shape.recordings[request].arguments)
        if found is None:
            empty = replace(request, prompt=self.calls.empty)
            self._record(shape, empty)
            found = shape.recordings[empty].arguments
        return found

    def _requested(self, cond: Cond, rows: int) -> list[Request]:
        """The requests of the rows of a condition.

        Raises:
            ValueError: if the condition is not that of this prior, or lacks the source image of an editor.
        """
        if "recording" not in cond:
            raise ValueError("the condition has no recording: make it with this prior's encode_text")
        given = expand_cond(cond, rows)
        numbers = given["recording"].tolist()
        sources = given["image"].tolist() if "image" in given else [None] * rows
        if self.calls.needed and None in sources:
            raise ValueError(
                "this editor needs a source image: give cond = prior.encode_text(instruction) | "
                "prior.encode_source(image)"
            )
        return [replace(self._requests[n], source=source) for n, source in zip(numbers, sources, strict=True)]

    def encode_text(self, prompts: str | Sequence[str]) -> dict[str, Tensor]:
        """Number the recordings of one prompt, or of a list with one per sample. They are made when first used.

        For models of classes a prompt is the name or the number of a class; models without text leave it out.

        Raises:
            ValueError: for an empty list.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise ValueError('there are no prompts: give at least one, "" for no text')
        return {"recording": torch.tensor([self._number(Request(prompt)) for prompt in prompts])}

    def null(self, cond: Cond) -> Cond:
        requests = [self._requests[number] for number in cond["recording"].tolist()]
        negative = [self._number(replace(request, negative=True)) for request in requests]
        return {**cond, "recording": torch.tensor(negative)}

    def _number(self, request: Request) -> int:
        if request not in self._requests:
            self._requests.append(request)
        return self._requests.index(request)

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the times of the pipeline's own sampler, with the shift for its own size."""
        if not isinstance(self.levels, FlowLevels):
            return self.levels.times(steps)
        self.recorder.run({**self.calls.of(self.calls.trial), "num_inference_steps": steps}, only_call=True)
        times = self.clock.time_of(self.clock.scheduler.sigmas.double().cpu())
        return torch.stack([times[:-1], times[1:]], 1)


class RecordedEditor(RecordedPrior, Editor):
    """Prior of a pipeline that follows an instruction about an image, its argument `image`."""

    takes_zeros = False

    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Number source images in [0, 1] as a condition: {"image": int64 [b]}."""
        sources = self.calls.sources
        first = len(sources)
        sources += [image[None].detach().float().clamp(0, 1) for image in images]
        if first == 0:  # of a pipeline that runs without one too, so that their form is not known yet
            request = replace(self.calls.trial, source=0)
            try:
                self.calls.choose_form(lambda: self.recorder.run(self.calls.of(request), only_call=True))
            except Exception:
                sources.clear()
                raise
        return {"image": torch.arange(first, len(sources))}


def recorded(pipeline: Any, name: str | None = None, call: Mapping[str, Any] | None = None) -> RecordedPrior:
    """The recorded prior of a pipeline: an editor if it takes an image; see `RecordedPrior`."""
    return (RecordedEditor if "image" in arguments_of(pipeline) else RecordedPrior)(pipeline, name, call)


def _given(value: Tensor | None) -> Tensor:
    assert value is not None
    return value
