r"""A prior made from any diffusers pipeline, by recording how the pipeline calls its network.

`recording` learns once, and again for samples of another shape, where the sample and the time go in the network's
arguments, and where the model output is in its output. All other arguments belong to the condition: they are recorded
by running the pipeline with a prompt up to its first call of the network, which is not evaluated. So a prediction is
one call of the network with all samples as rows, as in the pipeline, and no code belongs to a single model.

Conditions are {"recording": int64 [b]}, numbers of recordings that the prior keeps, since arguments differ in number
and shape between models and prompts. They stay on the CPU. Rows whose arguments have different shapes, such as prompts
of different lengths, are evaluated apart.

On loading, the prior predicts a step of the pipeline that it has not seen, and refuses the pipeline if it is wrong.
"""

import copy
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Editor
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.priors.pipelines.argument_trees import Layout, join, leaves, replaced, split
from scoredistill.priors.pipelines.base import NetworkPrior
from scoredistill.priors.pipelines.codec import PixelCodec
from scoredistill.priors.pipelines.noise_levels import FlowLevels, Levels, TableLevels, levels_of
from scoredistill.priors.pipelines.recorded_codec import RecordedCodec, arrangement, by_channel
from scoredistill.priors.pipelines.recording import Recorder, Step, Template, Unsupported, learn, network_of
from scoredistill.schedule import per_sample

GUIDANCE_OFF: tuple[Mapping[str, float], ...] = (
    {},
    {"guidance_scale": 1.0},
    {"guidance_scale": 0.0},
    {"true_cfg_scale": 1.0},
)
"""Arguments with which a pipeline may evaluate the conditional prediction alone, tried in this order."""
TRIALS = "a photograph of a cat", "an old house by the sea"
"""Prompts of the recordings from which a pipeline is learned."""
GUIDANCES = frozenset({"guidance_scale", "true_cfg_scale"})
"""Arguments that set the guidance."""
STEPS = 4
"""Steps of the recorded runs, of which usually only the first is computed."""
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest relative error of the prediction in the check on loading, by the type of the network."""


@dataclass(frozen=True)
class Request:
    """What a recording is made of.

    Attributes:
        prompt: the text.
        negative: whether it is of the pipeline's unconditional evaluation beside that prompt.
        source: number of the source image; None for none.
    """

    prompt: str
    negative: bool = False
    source: int | None = None


@dataclass
class Shape:
    """What is known about samples of one shape.

    Attributes:
        template: how the pipeline calls its network.
        call: arguments of the pipeline that give the shape.
        layout: of the arguments of the network; None if it takes one sample at a time.
        outputs: of its outputs, likewise.
        output: one output, for one sample.
        recordings: arguments of the network, by request.
    """

    template: Template
    call: dict[str, Any]
    layout: Layout | None
    outputs: Layout | None
    output: Any
    recordings: dict[Request, "Recording"] = field(default_factory=dict)

    def add(self, request: Request, arguments: Any) -> None:
        """Keep the arguments of a request."""
        self.recordings[request] = Recording(arguments, self.signature(arguments))

    def signature(self, arguments: Any) -> Any:
        """Arguments with equal signatures can be joined to those of one call."""
        if self.layout is None:
            return object()
        one, two = (leaves(each) for each in self.layout)
        parts = []
        for path, leaf in leaves(arguments).items():
            if isinstance(leaf, Tensor):
                shared = path in two and path in one and one[path].shape == two[path].shape
                known = path in self.template.times or path in self.template.sample
                parts.append((path, tuple(leaf.shape), fingerprint(leaf) if shared and not known else None))
        return tuple(parts)


class Recording(NamedTuple):
    """Arguments of the network for one sample, and their signature (see `Shape.signature`)."""

    arguments: Any
    signature: Any


class RecordedPrior(NetworkPrior):
    """Prior of any pipeline that evaluates one network and its scheduler once a step.

    Args:
        pipeline: the diffusers pipeline.
        name: of the model.
        call: arguments of the pipeline that all recordings have, such as a size or a number of frames.

    Attributes:
        call: those arguments, with what the recordings add.

    Raises:
        ValueError: if the pipeline is not understood; the message says what.
    """

    def __init__(self, pipeline: Any, name: str | None = None, call: Mapping[str, Any] | None = None):
        super().__init__(pipeline, name)
        self.network = network_of(pipeline)
        self.levels, scheduler = understood(pipeline.scheduler)
        self.schedule = self.levels.schedule
        self.recorder = Recorder(pipeline, self.network, scheduler)
        fixed = {"num_inference_steps": STEPS, "output_type": "latent", "return_dict": False, **(call or {})}
        self.call = {name: value for name, value in fixed.items() if name in self.recorder.names}
        self._requests: list[Request] = []
        self._sources: list[Tensor] = []
        self._shapes: dict[torch.Size, Shape] = {}
        self.needs_source = False
        try:
            self.call |= self._without_guidance()
        except Exception:
            if "image" not in self.recorder.names:
                raise
            self.needs_source = True  # an editor, for which a gray image stands in
            self._sources.append(torch.full((1, 3, *self._side()), 0.5))
            self.call |= self._without_guidance()
        first = self._learn({})
        self.codec = self._codec_of(first)
        self._remember(first)
        self.latent_shape = tuple(first.template.shape[1:])  # type: ignore[assignment]
        self._check(first)

    # --- learning ---

    def _side(self) -> tuple[int, int]:
        """Sides of the stand-in for a source image, in pixels."""
        config: Any = self.network.config
        size = config.get("sample_size") or 64
        height, width = (size, size) if isinstance(size, int) else size[-2:]
        factor = getattr(self.pipeline, "vae_scale_factor", 8)
        return height * factor, width * factor

    def _without_guidance(self) -> dict[str, float]:
        """Arguments with which the pipeline evaluates the fewest rows: those of the conditional prediction."""
        costs: list[tuple[int, int, int, Mapping[str, float]]] = []
        for off in GUIDANCE_OFF:
            if set(off) <= self.recorder.names:
                request = Request(TRIALS[0], source=0 if self.needs_source else None)
                (step,) = self.recorder.run({**self.call, **off, **self._of(request)})
                costs.append((elements(step.outputs), len(step.outputs), len(costs), off))
        return dict(min(costs, key=lambda each: each[:3])[3])

    def _of(self, *requests: Request) -> dict[str, Any]:
        """Arguments of the pipeline for requests."""
        call: dict[str, Any] = {"prompt": [request.prompt for request in requests]}
        if self._sources and requests[0].source is not None:
            call["image"] = torch.cat([self._sources[request.source or 0] for request in requests])
        return call

    def _learn(self, size: Mapping[str, Any]) -> Shape:
        """Learn how the pipeline calls its network, for samples of one size."""
        call = {**self.call, **size}
        first, second = (Request(text, source=0 if self.needs_source else None) for text in TRIALS)
        template, one, output = learn(self.recorder, {**call, **self._of(first)})
        layout = outputs = None
        try:
            (both,) = self.recorder.run({**call, **self._of(first, second)})
            layout, outputs = Layout(one, both.arguments[0]), Layout(output, both.outputs[0])
            known = leaves(one)
            timed = {path: as_time(known[path], torch.zeros(()), self.device) for path in template.times}
            join([replaced(one, timed)] * 2, layout, frozenset(template.times))
        except (Unsupported, ValueError, RuntimeError, TypeError):
            layout = outputs = None
        shape = Shape(template, call, layout, outputs, output)
        shape.add(first, one)
        return shape

    def _codec_of(self, shape: Shape) -> Any:
        """The codec, and, as a side effect, the template in the layout of its latents."""
        if getattr(self.pipeline, "vae", None) is None:
            return PixelCodec()
        z, options = self._arrange(shape)
        return RecordedCodec(self.pipeline.vae, *self._affine, options, z)

    def _arrange(self, shape: Shape) -> tuple[Tensor, Mapping[str, Any]]:
        """Change a template to samples in the layout of the decoder; returns latents and options of the decoder."""
        template = shape.template
        sample = torch.zeros(template.shape, dtype=torch.float32, device=self.device)
        request = next(iter(shape.recordings))
        found, z, options = arrangement(self.recorder, {**shape.call, **self._of(request)}, shape.output, sample)
        self._affine = by_channel(found.scale.reshape(z.shape)), by_channel(z)
        shape.template = template.arranged(found.index, z.shape)
        return z, options

    def _remember(self, shape: Shape) -> None:
        self._shapes[torch.Size(shape.template.shape[1:])] = shape

    def _at(self, wanted: torch.Size) -> Shape:
        """What is known about samples of a shape, learned if necessary.

        Raises:
            ValueError: if the pipeline makes no samples of that shape.
        """
        if wanted not in self._shapes:
            size = self._size(wanted)
            if size.keys() <= self.recorder.names and len(wanted) == len(self.latent_shape):
                shape = self._learn(size)
                if not isinstance(self.codec, PixelCodec):
                    self._arrange(shape)
                self._remember(shape)
        if wanted not in self._shapes:
            raise ValueError(
                f"{self.name} makes no samples of shape {tuple(wanted)}: its own are {tuple(self.latent_shape)}"
            )
        return self._shapes[wanted]

    def _size(self, shape: torch.Size) -> dict[str, int]:
        """Arguments of the pipeline for samples of a shape."""
        size = {"height": shape[-2] * self.codec.factor, "width": shape[-1] * self.codec.factor}
        if len(shape) == 4:
            size["num_frames"] = (shape[1] - 1) * self.codec.frames + 1
        return size

    def _check(self, shape: Shape) -> None:
        """Predict a step that nothing was learned from, and compare.

        Raises:
            Unsupported: if the prediction or the schedule is not that of the pipeline.
        """
        source = 0 if self.needs_source else None
        requests = [Request(text, source=source) for text in (TRIALS if shape.layout else TRIALS[:1])]
        *_, seen, after = self.recorder.run({**shape.call, **self._of(*requests)}, 3)
        assert isinstance(seen.sample, Tensor)
        assert isinstance(after.sample, Tensor)
        x, wanted, following = (
            self._arranged(shape, value) for value in (seen.sample, seen.model_output, after.sample)
        )
        t, later = (self._time_of(step).expand(len(x)) for step in (seen, after))
        with torch.no_grad():
            out = self._outputs(self.network, x, t, requests)
        error = float((out - wanted.to(out)).norm() / wanted.norm())
        if not error < TOLERANCE[self.dtype]:
            raise Unsupported(f"its prediction was reproduced with a relative error of {error:.2g} only")
        x0, eps = self.levels.understood(wanted.to(x), x, t)
        alpha, sigma = (per_sample(each, x) for each in self.schedule(later))
        error = float((alpha * x0 + sigma * eps - following).norm() / following.norm())
        if not error < max(1e-3, TOLERANCE[self.dtype]):
            raise Unsupported(f"a step of its scheduler was reproduced with a relative error of {error:.2g} only")

    def _arranged(self, shape: Shape, value: Any) -> Tensor:
        """Samples of the scheduler in the layout of the prior, float32."""
        index = shape.template.arrangement
        value = value.float()
        if index is None:
            return value
        return value.flatten(1)[:, index.to(value.device)].reshape(len(value), *shape.template.shape[1:])

    # --- evaluating ---

    def predict(
        self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond | None = None
    ) -> tuple[Tensor, Tensor]:
        cond = self.encode_text([""]) if cond is None else cond
        out = self._outputs(network, x_t, t, self._requested(cond, len(x_t)))
        return self.levels.understood(out.to(x_t), x_t, t)

    def _outputs(self, network: Callable[..., Any], x: Tensor, t: Tensor, requests: Sequence[Request]) -> Tensor:
        """Model outputs of rows, [b, *d], with one call for all rows whose arguments have the same shapes."""
        shape = self._at(x.shape[1:])
        groups: dict[Any, list[int]] = {}
        for row, request in enumerate(requests):
            self._record(shape, request)
            groups.setdefault(shape.recordings[request].signature, []).append(row)
        size = self.max_rows or len(x)
        parts = [rows[start : start + size] for rows in groups.values() for start in range(0, len(rows), size)]
        done = [self._call(network, shape, x, t, requests, rows) for rows in parts]
        order = [row for rows in parts for row in rows]
        out = done[0] if len(done) == 1 else torch.cat(done)
        return out if order == sorted(order) else out[torch.tensor(order).argsort().to(out.device)]

    def _call(
        self,
        network: Callable[..., Any],
        shape: Shape,
        x: Tensor,
        t: Tensor,
        requests: Sequence[Request],
        rows: Sequence[int],
    ) -> Tensor:
        template, steps = shape.template, self.levels.step(t.to(self.device))
        trees = []
        for row in rows:
            arguments = shape.recordings[requests[row]].arguments
            known, flat = leaves(arguments), x[row].flatten()
            new = {path: place.fill(known[path], flat) for path, place in template.sample.items()}
            for path, (a, b) in template.times.items():
                new[path] = as_time(known[path], a * steps[row] + b, self.device)
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
        call = {**shape.call, **self._of(request)}
        if not request.negative:
            (step,) = self.recorder.run(call, only_call=True)
            return shape.add(request, step.arguments[0])
        positive = Request(request.prompt, source=request.source)
        self._record(shape, positive)
        shape.add(request, self._unconditional(shape, call, shape.recordings[positive].arguments))

    def _unconditional(self, shape: Shape, call: Mapping[str, Any], positive: Any) -> Any:
        """The arguments of the pipeline's unconditional evaluation beside a prompt; those of "" if it has none."""
        guided = {name: value for name, value in call.items() if name not in GUIDANCES}
        asked = {"negative_prompt": [""], "true_cfg_scale": 4.0}
        (step,) = self.recorder.run(guided)
        if elements(step.outputs) <= elements(shape.output):  # it guides only if asked to, or never
            (step,) = self.recorder.run(guided | {n: v for n, v in asked.items() if n in self.recorder.names})
        rows = [row for arguments in step.arguments for row in self._separated(shape, arguments)]
        skipped = set(shape.template.sample) | set(shape.template.times)

        def differences(row: Any) -> int:
            known = leaves(positive)
            return sum(
                path not in skipped and isinstance(leaf, Tensor) and not same(leaf, known.get(path))
                for path, leaf in leaves(row).items()
            )

        others = [row for row in rows if differences(row)]
        if others:
            return min(others, key=differences)
        empty = Request("", source=0 if self.needs_source else None)
        self._record(shape, empty)
        return shape.recordings[empty].arguments

    def _separated(self, shape: Shape, arguments: Any) -> list[Any]:
        """The rows of a call."""
        if shape.layout is None:
            return [arguments]
        path = next(iter(shape.template.sample))
        one, _two = (leaves(each) for each in shape.layout)
        rows = 1
        if path in leaves(arguments) and path in one and isinstance(one[path], Tensor):
            rows = max(1, len(leaves(arguments)[path]) // max(1, len(one[path])))
        return split(arguments, shape.layout, rows)

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
        if self.needs_source and None in sources:
            raise ValueError(
                "this editor needs a source image: give cond = prior.encode_text(instruction) | "
                "prior.encode_source(image)"
            )
        return [replace(self._requests[n], source=source) for n, source in zip(numbers, sources, strict=True)]

    def encode_text(self, prompts: str | Sequence[str]) -> dict[str, Tensor]:
        """Number the recordings of one prompt, or of a list with one per sample. They are made when first used.

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

    # --- times ---

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the times of the pipeline's own sampler, with the shift for its own size."""
        if isinstance(self.levels, TableLevels):
            return self.levels.times(steps)
        request = Request(TRIALS[0], source=0 if self.needs_source else None)
        self.recorder.run({**self.call, **self._of(request), "num_inference_steps": steps}, only_call=True)
        sigmas = self.recorder.scheduler.sigmas.double().cpu()
        return torch.stack([sigmas[:-1], sigmas[1:]], 1)

    def _time_of(self, step: Step) -> Tensor:
        """The time of a recorded step, [1]."""
        last = float(self.levels.step(torch.ones(1))[0])
        return torch.as_tensor(step.timestep).flatten()[:1].double().cpu() / last


class RecordedEditor(RecordedPrior, Editor):
    """Prior of a pipeline that follows an instruction about an image, its argument `image`."""

    takes_zeros = False

    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Number source images in [0, 1] as a condition: {"image": int64 [b]}."""
        first = len(self._sources)
        self._sources += [image[None].detach().float().clamp(0, 1) for image in images]
        return {"image": torch.arange(first, len(self._sources))}


def recorded(pipeline: Any, name: str | None = None, call: Mapping[str, Any] | None = None) -> RecordedPrior:
    """The recorded prior of a pipeline: an editor if it takes an image; see `RecordedPrior`."""
    takes_image = "image" in inspect.signature(pipeline.__call__).parameters
    return (RecordedEditor if takes_image else RecordedPrior)(pipeline, name, call)


def understood(scheduler: Any) -> tuple[Levels, Any]:
    """The noise levels that a scheduler stands for, and a first-order scheduler of them for recorded runs.

    Raises:
        ValueError: if it is neither a table of noise levels nor flow matching.
    """
    from diffusers import DDIMScheduler  # takes seconds to import

    levels = levels_of(scheduler)
    if isinstance(levels, FlowLevels):
        return levels, copy.deepcopy(scheduler)
    if not isinstance(levels, TableLevels):
        raise Unsupported(
            f"{type(scheduler).__name__} is neither a table of noise levels nor flow matching: load the pipeline with "
            "a DDIMScheduler or a FlowMatchEulerDiscreteScheduler"
        )
    plain = {"beta_schedule": "linear", "trained_betas": None, "rescale_betas_zero_snr": False}
    made = DDIMScheduler.from_config(scheduler.config, **plain)
    made.alphas_cumprod = scheduler.alphas_cumprod.clone()
    if not made.config.set_alpha_to_one:
        made.final_alpha_cumprod = made.alphas_cumprod[0]
    return levels, made


def as_time(recorded: Any, value: Tensor, device: torch.device) -> Tensor:
    """A time in the shape and type of a recorded argument, with one row; whole numbers become float32."""
    if not isinstance(recorded, Tensor):
        return value.reshape(1).to(device)
    kind = recorded.dtype if recorded.is_floating_point() else torch.float32
    return value.to(recorded.device, kind).expand(recorded.shape if recorded.ndim else (1,))


def elements(tree: Any) -> int:
    """Number of elements of all tensors."""
    return sum(leaf.numel() for leaf in leaves(tree).values() if isinstance(leaf, Tensor))


def same(first: Tensor, second: Any) -> bool:
    """Whether two arguments are equal."""
    return isinstance(second, Tensor) and first.shape == second.shape and torch.equal(first, second)


def fingerprint(value: Tensor) -> bytes:
    """A hash of the values of a tensor."""
    return hashlib.sha256(value.detach().cpu().double().numpy().tobytes()).digest()
