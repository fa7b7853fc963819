r"""Priors made from diffusers pipelines: text encoding, micro-batches, autoencoders, conversion of predictions.

A network is called with the arguments that its own pipeline passes, and its prediction (the noise, v, the clean sample,
or the velocity of a flow) is converted to the noise and the clean sample (`priors.predictions.from_prediction`).
Particles stay in their own dtype and on their own device; the networks run in theirs.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoredistill.priors.base import JointPrior, TextPrior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.priors.pipelines.codec import Codec, PixelCodec
from scoredistill.priors.predictions import from_prediction
from scoredistill.schedule import Tabulated, per_sample

TABLED = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
SNAP = 1e-3  # time steps this close to an integer are rounded to it


class PipelinePrior(JointPrior, TextPrior):
    """Abstract base of priors made from diffusers pipelines.

    The pipeline's networks are frozen and set to evaluation mode; LoRA adapters loaded in the pipeline keep working.

    Attributes:
        pipeline: the diffusers pipeline.
        name: name of the model in reports and messages.
        network: the UNet or the transformer.
        prediction: the kind of its prediction, see `priors.predictions.from_prediction`.
        codec: encodes images as samples and decodes them.
        latent_shape: (channels, height, width) of samples of the model's own image size.
        image_size: (height, width) in pixels of the model's own size. Other sizes work as far as the network allows.
        max_rows: maximum number of batch rows per network call; larger batches are split. None for no limit.
        needs_source: whether its condition must hold a source image.
    """

    needs_source = False

    network: Any
    prediction: str
    codec: Codec | PixelCodec
    latent_shape: tuple[int, int, int]

    def __init__(self, pipeline: Any, name: str | None = None):
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self.pipeline = pipeline
        self.name = name or pipeline.config.get("_name_or_path") or type(pipeline).__name__
        self.max_rows: int | None = None
        self._text: dict[str, dict[str, Tensor]] = {}

    @property
    def image_size(self) -> tuple[int, int]:
        _, height, width = self.latent_shape
        return height * self.codec.factor, width * self.codec.factor

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent."""
        return self.codec.factor

    @property
    def device(self) -> torch.device:
        """Device that the networks run on (for offloaded pipelines, not the one that stores their weights)."""
        hook = getattr(self.network, "_hf_hook", None)
        return torch.device(getattr(hook, "execution_device", None) or self.network.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the network."""
        return self.network.dtype

    @abstractmethod
    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Call `network`; inputs are on its device, x_t and the floating-point entries of `cond` in its dtype."""

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Encode prompts as the pipeline does, as a condition with one row each."""

    @torch.no_grad()
    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor]:
        return self.predict(self.network, x_t, t, cond)

    def predict(
        self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict (x0, eps) with `network` or a replacement of it; differentiable, unlike `eps`.

        One batched call, or several of at most `max_rows` rows.
        """
        cond = self.encode_text([""]) if cond is None else cond
        rows, device, dtype = len(x_t), self.device, self.dtype

        def place(value: Tensor) -> Tensor:
            return value.to(device, dtype if value.is_floating_point() else None)

        given = {name: place(value) for name, value in expand_cond(cond, rows).items()}
        size = self.max_rows or rows
        outs = [
            self.forward(
                network,
                place(x_t[i : i + size]),
                t[i : i + size].to(device),
                {name: value[i : i + size] for name, value in given.items()},
            )
            for i in range(0, rows, size)
        ]
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        out = outs[0] if len(outs) == 1 else torch.cat(outs)
        return from_prediction(self.prediction, out.to(x_t), x_t, alpha, sigma)

    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str]) -> dict[str, Tensor]:
        """Encode one prompt, or a list with one per sample, as a condition. Each distinct prompt is encoded once.

        Call `forget_text` when the text encoder changes, for example by a LoRA adapter.

        Raises:
            ValueError: for an empty list.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise ValueError('there are no prompts: give at least one, "" for no text')
        new = [p for p in dict.fromkeys(prompts) if p not in self._text]
        if new:
            rows = {name: value.split(1) for name, value in self.embed(new).items()}
            self._text.update({p: {name: row[i] for name, row in rows.items()} for i, p in enumerate(new)})
        names = self._text[prompts[0]]
        return {name: torch.cat([self._text[p][name] for p in prompts]).to(self.device) for name in names}

    def forget_text(self) -> None:
        """Clear the cache of encoded prompts."""
        self._text.clear()

    def null(self, cond: Cond) -> Cond:
        return {**cond, **self.encode_text([""])}

    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Encode source images in [0, 1] as the condition {"image": ...} of an instruction editor.

        cond = prior.encode_text("make it night") | prior.encode_source(photograph)

        Raises:
            ValueError: if the model is no instruction editor.
        """
        raise ValueError(f"{self.name} is no instruction editor: load one, such as 'emoji-edit'")

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Encode images in [0, 1] as samples, differentiably; for latents, the posterior's mode."""
        return self.codec.encode(images)

    @torch.no_grad()
    def decode(self, x: Float[Tensor, "b c p q"]) -> Float[Tensor, "b 3 h w"]:
        return self.codec.decode(x)


class TabledPrior(PipelinePrior):
    """Abstract base of pipelines whose schedule is a table of noise levels, `alphas_cumprod`.

    Time t in [0, 1] is the scheduler's time step t (T - 1). `sampling.ddim` uses the time steps of the pipeline's DDIM
    scheduler, and therefore equals the pipeline.

    Raises:
        ValueError: for an unsupported prediction type, or a scheduler without `alphas_cumprod`.
    """

    schedule: Tabulated

    def __init__(self, pipeline: Any, name: str | None = None):
        super().__init__(pipeline, name)
        scheduler = pipeline.scheduler
        kind = scheduler.config.get("prediction_type", "epsilon")
        if kind not in TABLED:
            raise ValueError(f"prediction type {kind!r} is not supported: use one of {', '.join(TABLED)}")
        if getattr(scheduler, "alphas_cumprod", None) is None:
            raise ValueError(
                f"{type(scheduler).__name__} has no alphas_cumprod: load the pipeline with a DDIMScheduler"
            )
        self.prediction = TABLED[kind]
        self.schedule = Tabulated(scheduler.alphas_cumprod)

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Convert times in [0, 1] to the scheduler's time steps."""
        step = t.to(torch.float32) * (len(self.schedule) - 1)
        whole = step.round()
        return torch.where((step - whole).abs() < SNAP, whole, step).clamp(min=0)

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the times of the pipeline's DDIM scheduler, which steps from `from` to `from` - T // steps.

        They end at the table's first entry, or before it, at clean data (`set_alpha_to_one`, see `Tabulated`).
        """
        return ddim_times(self.pipeline.scheduler.config, len(self.schedule), steps)


def ddim_times(config: Any, entries: int, steps: int) -> Float[Tensor, "{steps} 2"]:
    """The (from, to) times of a DDIM scheduler with the given configuration and number of noise levels."""
    from diffusers import DDIMScheduler  # takes seconds to import

    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    start, last = scheduler.timesteps.double(), entries - 1
    to = start - entries // steps
    end = -1.0 if scheduler.config.set_alpha_to_one else 0.0
    return torch.stack([start, torch.where(to < 0, end, to)], 1) / last


def require(pipeline: Any, *parts: str) -> list[Any]:
    """Return the named components of a pipeline.

    Raises:
        ValueError: if one is missing.
    """
    found = [getattr(pipeline, part, None) for part in parts]
    if None in found:
        listed = f"{', '.join(parts[:-1])} or {parts[-1]}"
        raise ValueError(f"the pipeline lacks a {listed}: load it with all of them")
    return found


def side_of(size: int | Sequence[int] | None, default: int) -> tuple[int, int]:
    """Convert a network's `sample_size` to (height, width)."""
    size = size or default
    return (size, size) if isinstance(size, int) else (size[0], size[1])
