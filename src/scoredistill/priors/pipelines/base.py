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
from scoredistill.priors.conditions import TOKENS, Cond, check_cond, expand_cond, replaced
from scoredistill.priors.pipelines.codec import Codec, PixelCodec
from scoredistill.priors.pipelines.noise_levels import Levels, levels_of


class NetworkPrior(JointPrior, TextPrior):
    """Abstract base of priors that call the network of a diffusers pipeline.

    The pipeline's networks are frozen and set to evaluation mode; LoRA adapters loaded in the pipeline keep working.

    Attributes:
        pipeline: the diffusers pipeline.
        name: name of the model in reports and messages.
        network: the UNet or the transformer.
        codec: encodes images as samples and decodes them.
        image_size: (height, width) in pixels of the model's own size. Other sizes work as far as the network allows.
        max_rows: maximum number of batch rows per network call; larger batches are split. None for no limit.
    """

    network: Any
    codec: Any
    max_rows: int | None

    def __init__(self, pipeline: Any, name: str | None = None):
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self.pipeline = pipeline
        self.name = name or pipeline.config.get("_name_or_path") or type(pipeline).__name__
        self.max_rows = None

    @property
    def parameterization(self) -> str:
        """What the network predicts: "eps", "v", "x0", "flow" or "edm"."""
        return getattr(getattr(self, "levels", None), "prediction", "edm")

    @property
    def conditions(self) -> tuple[str, ...]:
        """What a prediction is conditioned on."""
        return ("text", "image") if self.needs_source else ("text",)

    def facts(self) -> dict[str, object]:
        shape = {"name": self.name, "sample": tuple(self.latent_shape), "image": self.image_size}
        kind = {"predicts": self.parameterization, "conditions": self.conditions}
        return {**shape, **kind, "dtype": self.dtype, "device": self.device}

    @property
    def image_size(self) -> tuple[int, int]:
        *_, height, width = self.latent_shape
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
    def predict(
        self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict (x0, eps) with `network` or a replacement of it; differentiable, unlike `eps`.

        One batched call, or several of at most `max_rows` rows.
        """

    @torch.no_grad()
    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor]:
        return self.predict(self.network, x_t, t, cond)

    def encode_image(self, images: Float[Tensor, "b k *p"]) -> Float[Tensor, " b *d"]:
        """Encode images in [0, 1], [b, 3, h, w], or what else the codec takes, as samples; differentiable.

        Latents are the posterior's mode.
        """
        return self.codec.encode(images)

    @torch.no_grad()
    def decode(self, x: Float[Tensor, " b *d"]) -> Tensor:
        return self.codec.decode(x)

    def decode_differentiably(self, x: Float[Tensor, " b *d"]) -> Tensor:
        return self.codec.decode(x)


class PipelinePrior(NetworkPrior):
    """Abstract base of priors made from diffusers pipelines by an adapter.

    Attributes:
        latent_shape: (channels, height, width) of samples of the model's own image size.
        needs_source: whether its condition must hold a source image.
        encoders: the pipeline's text encoders, without which conditions are made of given embeddings.
        embeddings: names of the embeddings that every condition has.
    """

    needs_source = False
    encoders: tuple[str, ...] = ("text_encoder",)
    embeddings: tuple[str, ...] = ("text",)

    codec: Codec | PixelCodec
    latent_shape: tuple[int, int, int]

    def __init__(self, pipeline: Any, name: str | None = None):
        super().__init__(pipeline, name)
        self._text: dict[str, dict[str, Tensor]] = {}

    @abstractmethod
    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Call `network`; inputs are on its device, x_t and the floating-point entries of `cond` in its dtype."""

    def given(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network sees of x_t."""
        return x_t

    @abstractmethod
    def understood(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Convert the network's output, in the dtype of x_t, to (x0, eps)."""

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Encode prompts as the pipeline does, as a condition with one row each."""

    def predict(
        self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond | None = None
    ) -> tuple[Tensor, Tensor]:
        self._check_inputs(x_t, t, cond)
        cond = self.encode_text([""]) if cond is None else cond
        if absent := [name for name in self.embeddings if name not in cond]:
            raise ValueError(f"the condition lacks {' and '.join(absent)}: {self.name} needs {self._needs()}")
        rows, device, dtype = len(x_t), self.device, self.dtype

        def place(value: Tensor) -> Tensor:
            return value.to(device, dtype if value.is_floating_point() else None)

        each = expand_cond(cond, rows)
        tokens = {name: each.pop(name + TOKENS).tolist() for name in [*each] if name + TOKENS in each}
        given = {name: place(value) for name, value in each.items()}
        size, seen = self.max_rows or rows, self.given(x_t, t)
        if tokens:
            return self._predict_by_tokens(network, x_t, t, given, tokens)
        outs = [
            self.forward(
                network,
                place(seen[i : i + size]),
                t[i : i + size].to(device),
                {name: value[i : i + size] for name, value in given.items()},
            )
            for i in range(0, rows, size)
        ]
        out = outs[0] if len(outs) == 1 else torch.cat(outs)
        return self.understood(out.to(x_t), x_t, t)

    def _check_inputs(self, x_t: Tensor, t: object, cond: object) -> None:
        """Refuse images in the place of samples, a number in the place of times, and a prompt in that of a condition.

        Raises:
            ValueError: in one sentence.
        """
        check_cond(cond)
        channels = self.latent_shape[0]
        if x_t.ndim != 4 or x_t.shape[1] != channels:
            hint = ": encode images by prior.encode_image(images)" if x_t.ndim == 4 and x_t.shape[1] == 3 else ""
            raise ValueError(f"samples of {self.name} have the shape [b, {channels}, h, w], not {[*x_t.shape]}{hint}")
        if not isinstance(t, Tensor) or t.ndim != 1:
            raise ValueError(
                f"t must be a tensor of {len(x_t)} times in [0, 1], one per sample: use t.expand({len(x_t)})"
            )

    def _predict_by_tokens(
        self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond, tokens: dict[str, list[int]]
    ) -> tuple[Tensor, Tensor]:
        """Predict rows of equal numbers of tokens together, each without the padding of its texts."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, counts in enumerate(zip(*tokens.values(), strict=True)):
            alike.setdefault(counts, []).append(row)
        made = []
        for counts, rows in alike.items():
            which = torch.tensor(rows)
            part = {name: value[which.to(value.device)] for name, value in cond.items()}
            part |= {name: part[name][:, :count] for name, count in zip(tokens, counts, strict=True)}
            made.append(self.predict(network, x_t[which.to(x_t.device)], t[which.to(t.device)], part))
        order = torch.tensor([row for rows in alike.values() for row in rows]).argsort().to(x_t.device)
        x0, eps = (torch.cat(parts)[order] for parts in zip(*made, strict=True))
        return x0, eps

    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str]) -> dict[str, Tensor]:
        """Encode one prompt, or a list with one per sample, as a condition. Each distinct prompt is encoded once.

        Call `forget_text` when the text encoder changes, for example by a LoRA adapter.

        Raises:
            ValueError: for an empty list, or if the pipeline has no text encoder.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise ValueError('there are no prompts: give at least one, "" for no text')
        new = [p for p in dict.fromkeys(prompts) if p not in self._text]
        if new:
            self._check_encoders()
            rows = {name: value.split(1) for name, value in self.embed(new).items()}
            self._text.update({p: {name: row[i] for name, row in rows.items()} for i, p in enumerate(new)})
        names = self._text[prompts[0]]
        return {name: torch.cat([self._text[p][name] for p in prompts]).to(self.device) for name in names}

    def _check_encoders(self) -> None:
        parts = [*self.encoders, *(name.replace("text_encoder", "tokenizer") for name in self.encoders)]
        if absent := [part for part in parts if getattr(self.pipeline, part, None) is None]:
            raise ValueError(
                f"{self.name} has no {' and no '.join(absent)}: give embeddings as the condition, {self._needs()}, and "
                "for guidance those of no prompt as uncond= of Guided, or load the pipeline with its text encoder"
            )

    def _needs(self) -> str:
        return "{" + ", ".join(f'"{name}": ...' for name in self.embeddings) + "}"

    def forget_text(self) -> None:
        """Clear the cache of encoded prompts."""
        self._text.clear()

    def null(self, cond: Cond) -> Cond:
        return replaced(cond, self.encode_text([""]))

    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Encode source images in [0, 1] as the condition {"image": ...} of an instruction editor.

        cond = prior.encode_text("make it night") | prior.encode_source(photograph)

        Raises:
            ValueError: if the model is no instruction editor.
        """
        raise ValueError(f"{self.name} is no instruction editor: load one, such as 'emoji-edit'")


class ScheduledPrior(PipelinePrior):
    """Abstract base of pipelines with a UNet, whose noise levels are those of their scheduler (`noise_levels`).

    `sampling.ddim` uses the time steps of the pipeline's first-order scheduler for such levels (DDIM for a table), and
    therefore equals the pipeline.

    Attributes:
        levels: the noise levels.

    Raises:
        ValueError: for a scheduler or a prediction type that is not supported.
    """

    levels: Levels

    def __init__(self, pipeline: Any, name: str | None = None):
        super().__init__(pipeline, name)
        self.levels = levels_of(pipeline.scheduler)
        self.schedule = self.levels.schedule

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Convert times in [0, 1] to the scheduler's time steps."""
        return self.levels.step(t)

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the times of the pipeline's first-order scheduler."""
        return self.levels.times(steps)

    def given(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.levels.given(x_t, t)

    def understood(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.levels.understood(out, x_t, t)


def require(pipeline: Any, *parts: str) -> list[Any]:
    """Return the named components of a pipeline.

    Raises:
        ValueError: if one is missing.
    """
    found = {part: getattr(pipeline, part, None) for part in parts}
    if absent := [part for part, value in found.items() if value is None]:
        raise ValueError(f"the pipeline lacks its {' and '.join(absent)}: load it with {'/'.join(parts)}")
    return list(found.values())


def side_of(size: int | Sequence[int] | None, default: int) -> tuple[int, int]:
    """Convert a network's `sample_size` to (height, width)."""
    size = size or default
    return (size, size) if isinstance(size, int) else (size[0], size[1])
